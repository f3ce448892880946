"""The page of runs and their tables, from folders as trainings leave them; the page in a browser is in tests/tools."""

import csv
import io
import json
import math
import re

import numpy as np
import pytest
from PIL import Image
from test_history import command, line, write

from depthfield import calibration, history, picture, protocols, scoring
from depthfield.cluster import attempts
from depthfield.network import registry
from depthfield.report import colours, commands, data, figures, overview, page, photos, tables, view
from depthfield.report.figures import Mark, Series
from depthfield.report.view import Shown, View
from depthfield.tool import Failure, UsageError

NASTY = "<script>alert(1)</script>&\"'"
SCORES = {name: 0.1 * at for at, name in enumerate(tables.METRICS, start=1)}


def summary(**more) -> dict:
    averages = dict.fromkeys(scoring.AVERAGES, SCORES)
    return averages | {"images": 4, "pixels": 8, "measured": 8, "coverage": 1.0} | more


def made(folder, **files) -> history.Run:
    """A run with some metrics and what `files` has in place of them."""
    metrics = [line(10 * n, n, loss=1 / n, photos_per_second=5.0, learning_rate=1e-3) for n in range(1, 9)]
    metrics.append(line(90, 9, "validation", unary_rel=0.3, tau=2.0, scale=1.1, **SCORES))
    write(folder, {
        "recipe.toml": 'steps = 9\nloss = "answer"\n', "commands.jsonl": [command(0, None)], "metrics.jsonl": metrics,
        "survey.json": {"photos": 12, "held_out": 2, "smallest": [96, 72], "largest": [96, 72]},
    } | {name.replace("__", "."): content for name, content in files.items()})  # fmt: skip
    return history.read(folder)


def shown(*runs) -> str:
    return page.render(runs, [None] * len(runs), "No test photos.")


def payload(html: str) -> dict:
    """The data of a page, read as JSON.parse does: NaN is none of it."""
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1]
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


# ---- tables


def test_what_needs_no_numpy_agrees_with_what_does():
    assert tables.METRICS == scoring.METRICS and tables.POOLED == scoring.POOLED
    assert (tables.TEST, *protocols.PROTOCOLS) == tables.SCORES


def test_every_format_has_every_run_and_says_what_is_missing(tmp_path):
    full = made(tmp_path / "full_1", scores__json={"field": summary()})
    empty = made(tmp_path / "empty", commands__jsonl="", metrics__jsonl="", **{"recipe__toml": ""})
    rows = [tables.row(run, name) for run, name in zip((full, empty), ("full_1", "empty"), strict=True)]
    text = tables.text(rows).splitlines()
    assert len({line.rindex(cell) + len(cell) for line, cell in zip(text, ("δ3", "0.600", "-"), strict=True)}) == 1
    assert text[1].split()[:9] == ["full_1", "small", "anna", "1", "0", "9", "100", "90", "5.0"]
    assert text[2].split() == ["empty", *["-"] * 15]
    first, second = csv.DictReader(io.StringIO(tables.comma_separated(rows)))
    assert first["rel"] == "0.1" and first["held_out_rel"] == "0.1" and set(second.values()) == {"empty", ""}
    marked = tables.markdown(rows).splitlines()
    assert marked[2].startswith(r"| full\_1 | small | anna | 1 | 0 |") and marked[3].count("–") == 15
    assert {line.count(" | ") for line in marked} == {15}
    latex = tables.latex(rows).splitlines()
    assert latex[0] == r"\begin{tabular}{lllrrrrrrrrrrrrr}" and latex[1] == r"\toprule"
    assert latex[4].startswith(r"full\_1 & small & anna & 1 & 0 & 9") and latex[5].endswith(r"& -- \\")
    assert latex[-2:] == [r"\bottomrule", r"\end{tabular}"] and {line.count("&") for line in latex[4:6]} == {15}


def seeded(folder, name: str, seed: int, rel: float, loss: str = "answer", **more) -> history.Run:
    settings = f'steps = 9\nloss = "{loss}"\nseed = {seed}\n'
    scores = {"field": summary() | {"pooled over pixels": SCORES | {"rel": rel}}} if rel else {}
    return made(folder / name, recipe__toml=settings, scores__json=scores, **more)


def test_settings_that_differ_between_runs_of_one_recipe_have_columns_and_columns_can_be_chosen(tmp_path):
    other = [command(0, None, line="train-depth --recipe modern")]
    runs = [seeded(tmp_path, "a", 0, 0.2), seeded(tmp_path, "b", 1, 0.3, loss="unary")]
    runs.append(seeded(tmp_path, "c", 7, 0.3, loss="absolute", commands__jsonl=other))
    rows = [run.settings | tables.row(run, run.path.name) for run in runs]
    shown = [line.split()[:4] for line in tables.text(rows, tables.columns(None, runs)).splitlines()]
    assert shown == [["run", "recipe", *shown[0][2:]], *([*line[:2], *line[2:]] for line in shown[1:])]
    assert set(shown[0][2:]) == {"loss", "seed"} and set(shown[2][2:]) == {"unary", "1"}
    assert tables.columns(None, [runs[0], runs[2]]) == list(tables.COLUMNS)
    chosen = tables.columns("rel, loss,run", runs)
    assert tables.comma_separated(rows, chosen).splitlines()[:2] == ["rel,loss,run", "0.2,answer,a"]
    with pytest.raises(UsageError, match="no column 'los'; there are run, recipe, hosts, .*, loss, seed"):
        tables.columns("rel,los", runs)


def test_runs_that_differ_only_in_seed_are_joined_and_what_one_lacks_is_missing(tmp_path):
    runs = [seeded(tmp_path, name, *more) for name, more in (("a", (0, 0.2)), ("b", (1, 0.3)), ("u", (2, 0, "unary")))]
    runs.append(seeded(tmp_path, "v", 3, 0.4, "unary"))
    runs.append(seeded(tmp_path, "other", 0, 0.5, survey__json={"digest": "of other photos"}))
    rows = tables.over_seeds(runs, [run.settings | tables.row(run, run.path.name) for run in runs])
    columns = tables.columns("run,loss,n,rel,rms", runs)
    lines = [" ".join(line.split()) for line in tables.text(rows, columns).splitlines()]
    assert lines[1:3] == ["a and 1 more answer 2 0.250 ± 0.071 0.300", "u and 1 more unary 2 - -"]
    assert lines[3:] == ["other answer 1 0.500 0.300"]
    assert r"0.250 $\pm$ 0.071" in tables.latex(rows, columns)
    first, *_ = csv.DictReader(io.StringIO(tables.comma_separated(rows, columns)))
    assert float(first["rel"]) == 0.25 and float(first["rel_sd"]) == pytest.approx(0.0707, abs=1e-4)


def test_the_paper_s_rows_stand_below_in_every_format():
    rows, sources = tables.of_paper("nyu")
    assert [row["rel"] for row in rows] == [0.257, 0.230, 0.234, 0.213] and len(sources) == 2
    assert rows[3]["run"] == "published DCNF-FCSP, fine-tuned [2]" and sources[1].startswith("[2] Table 1 of the auth")
    for form in tables.FORMATS.values():
        assert "0.759" in form(rows, tables.COLUMNS)
    assert tables.of_paper("nyu-eigen") == ([], [])


def test_latex_and_markdown_show_names_as_they_are():
    assert tables.escaped(r"a_b&c%d$e#f{g}h~i^j\k<l") == (
        r"a\_b\&c\%d\$e\#f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k\textless{}l"
    )
    assert tables.marked("a|b*c_d<e>") == r"a\|b\*c\_d\<e\>"


def test_scores_by_a_protocol_are_in_its_average(tmp_path):
    field = summary(protocol="nyu-eigen", headline="mean of images", images=654)
    field["pooled over pixels"] = {}
    run = made(tmp_path, **{"nyu-eigen__json": {"field": field}})
    assert tables.row(run, "a", "nyu-eigen")["rel"] == SCORES["rel"]
    assert tables.row(run, "a")["rel"] is None and tables.row(run, "a", "nyu")["rel"] is None


def test_scores_that_cannot_be_compared_are_told(tmp_path):
    first, second, third = (
        made(tmp_path / name, scores__json={"field": summary(**more)})
        for name, more in (("a", {"photos": "x"}), ("b", {}), ("c", {"photos": "y"}))
    )
    none = made(tmp_path / "none")
    assert tables.warnings([first, second], "test") == []
    assert tables.warnings([first, third], "test") == ["these runs were scored on different test photos"]
    (said,) = tables.warnings([first, none], "test")
    assert said.startswith(f"no scores.json with scores: {tmp_path}/none")


# ---- figures


def test_curves_are_thinned_to_means_between_their_ends():
    points = [(float(x), float(x % 2)) for x in range(1001)]
    thin = figures.thinned(points, 100)
    assert len(thin) == 100 and (thin[0], thin[-1]) == (points[0], points[-1])
    assert all(y == pytest.approx(0.5, abs=0.06) for _, y in thin[1:-1]) and thin == sorted(thin)
    assert figures.thinned(points, 2) == [points[0], points[-1]] and figures.thinned(points[:3], 3) == points[:3]
    parts = figures.shared([points, [], points[:10]], 100)
    assert [len(part) for part in parts] == [99, 2]
    (joined,) = figures.shared([points[:3]] * 50, 100)
    assert len(joined) == 100


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 3600, ["0", "1,000", "2,000", "3,000"]),
        (0.21, 0.29, ["0.22", "0.24", "0.26", "0.28"]),
        (-1, 1, ["-1", "-0.5", "0", "0.5", "1"]),
    ],
)
def test_ticks_are_round_numbers(low, high, expected):
    assert [figures.short(value) for value in figures.steps(low, high, 5)] == expected


def test_an_axis_is_logarithmic_where_values_span_much_and_holds_one_value():
    wide, wider = figures.upwards([0.01, 1.0]), figures.upwards([0.001, 1.0])
    assert wide.logarithmic and [tick.label for tick in wide.ticks(5)][:3] == ["0.01", "0.02", "0.05"]
    assert [tick.label for tick in wider.ticks(5)] == ["0.001", "0.01", "0.1", "1"]
    assert not figures.upwards([0.5, 1.0]).logarithmic and not figures.upwards([-1, 1]).logarithmic
    for values in ([0.0], [3.0], [-2.0, -2.0]):
        assert all(math.isfinite(figures.upwards(values)(value)) for value in values)
    one = figures.plot("one", [Series("a", 0, [[(5, 2.0)] * 3])])
    assert len(one.dots) == 3 and "goes from 2 at step 5 to 2 at 5" in one.alt and not one.logarithmic
    assert figures.plot("wide", [Series("a", 0, [[(1, 0.01), (2, 0.5), (3, 1.0)]])]).logarithmic
    for points in ([], [(5, 2.0)], [(5, 2.0), (6, 1.0)]):  # no course
        assert figures.plot("none", [Series("a", 0, [points])]) is None
    shares = [(1, 0.5), (2, 0.5)]
    assert figures.stacked("none", ["a", "b"], [shares, shares], [], 9) is None


def test_many_marks_bear_no_labels():
    series = [Series("a", 0, [[(0, 0), (50, 1), (100, 1)]])]
    few, many = (figures.plot("t", series, marks=[Mark(n, str(n), "")] * n).marks for n in (3, 30))
    assert [mark.label for mark in few] == ["3"] and [mark.label for mark in many] == [""]


def test_labels_of_marks_that_are_close_are_joined():
    series = [Series("a", 0, [[(0, 0), (50, 1), (100, 1)]])]
    starts = {2: 10, 3: 50, 4: 50, 5: 50, 7: 52, 8: 90, 9: 90}
    marks = [Mark(step, str(start), f"start {start}") for start, step in starts.items()]
    found = figures.plot("t", series, marks=marks).marks
    assert [mark.label for mark in found] == ["2", "3-5, 7", "", "8-9"]
    assert found[1].title == "start 3; start 4; start 5; start 7" and found[1].x < found[2].x


def test_steps_taken_again_are_lost_and_restarts_marked(tmp_path):
    again = command(50, "x/checkpoints/000000002.npz")
    run = made(tmp_path, commands__jsonl=[command(0, None), again], metrics__jsonl=[
        *(line(10 * n, n, loss=1.0 * n) for n in (1, 2, 3, 4)), *(line(50 + n, n, loss=9.0) for n in (3, 4, 5)),
    ])  # fmt: skip
    html = shown(run)
    assert 'class="line lost"' in html and "start 2, 2027-01-15 08:00 UTC, from step 2" in html
    from depthfield.report import curves

    series = curves.curve(View(run, "run", 0, None), "training", "loss", "loss", 0)
    assert series.parts == [[(1, 1.0), (2, 2.0)], [(3, 9.0), (4, 9.0), (5, 9.0)]]
    assert series.lost == [[(2, 2.0), (3, 3.0), (4, 4.0)], []]
    by_minute = curves.curve(View(run, "run", 0, None), "training", "loss", "loss", 0, curves.by_minute)
    assert by_minute.parts[1][0][0] == pytest.approx((40 + 3) / 60)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_colour_stands_out_from_the_page(scheme):
    """By three to one, which WCAG 2 asks of graphics."""

    def luminance(colour: str) -> float:
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    background = luminance(colours.BACKGROUNDS[scheme])
    assert len(set(colours.CURVES[scheme])) == page.MOST_RUNS == 8
    for colour in colours.CURVES[scheme]:
        low, high = sorted((luminance(colour), background))
        assert (high + 0.05) / (low + 0.05) >= 3, colour


# ---- pages


def test_a_page_has_the_paper_s_rows_beside_scores_by_their_protocol(tmp_path):
    nyu = {"field": summary(protocol="nyu", headline="pooled over pixels", images=4), "mean depth": summary()}
    html = shown(made(tmp_path, nyu__json=nyu))
    assert "DCNF-FCSP, fine-tuned" in html and "published [2]" in html and "None of the paper" not in html
    assert "4 of 654 photos, so these are not benchmark scores" in html
    html = shown(made(tmp_path / "other"))
    assert "None of the paper&#39;s rows applies" in html.replace("'", "&#39;") and "No scores on test photos" in html


def test_what_was_measured_once_or_twice_is_a_row_and_no_figure(tmp_path):
    metrics = [line(10 * n, n, loss=1 / n) for n in (1, 2)] + [line(30, 3, "validation", **SCORES)]
    runs = [made(tmp_path / name, metrics__jsonl=metrics) for name in ("a", "b")]
    html = shown(runs[0])
    assert "<svg" not in html and "Measured once or twice" in html
    assert "<td>Training loss</td><td>1 at step 1, 0.5 at step 2</td>" in html
    assert "<td>Deltas, held-out photos: delta2</td><td>0.5 at step 3</td>" in html
    html = shown(*runs)
    assert "<svg" not in html and "<td>rms in metres, held-out photos</td><td>0.3 at step 3</td><td>0.3 at" in html
    assert "by time" not in html and "β weighs" not in html and "are over superpixels" in html
    html = shown(made(tmp_path / "more"))  # eight lines of training, of which the loss spans much
    assert "Measured once or twice" in html and html.count("<svg") == 3
    long = [line(n, n, loss=10.0**-n) for n in range(4)]
    html = shown(made(tmp_path / "wide", metrics__jsonl=long))
    assert html.count(">logarithmic axis<") == 1 and "are over superpixels" not in html


def test_a_page_has_the_commands_of_run_cluster_with_their_settings(tmp_path):
    settings = {"RUNID": "trial", "WORKERS": "4", "PE": "orte", "REQUEST": "-q long.q"}
    for at in (1, 2, 3, 4):
        folder = tmp_path / f"nodes/{at}"
        folder.mkdir(parents=True)
        steps = {"STEPS": "90"} if at == 3 else {}
        words = ["run-cluster", "sge/cluster.sh", "--set", "seed=1"]
        attempts.tell_command(folder / "command.json", settings | steps, words)
    submitted = settings | {"MEMORY": "8G"}  # wins over what reached the job
    attempts.tell_command(tmp_path / "nodes/command-7.json", submitted, ["run-cluster", "x"])
    write(tmp_path, {"nodes/5/origin": "7\n", "nodes/5/command.json": {"settings": {}, "command": "y"}})
    run = made(tmp_path, **{"nodes/4/command__json": {"settings": 3}})
    assert run.attempts[3].command is None
    words = "RUNID=trial WORKERS=4 PE=orte REQUEST='-q long.q'{} run-cluster sge/cluster.sh --set seed=1"
    assert [(each.text, each.when) for each in commands.of_attempts(run)] == [
        (words.format(""), "attempts 1-2"),
        (words.format(" STEPS=90"), "attempt 3"),
        ("RUNID=trial WORKERS=4 PE=orte REQUEST='-q long.q' MEMORY=8G run-cluster x", "attempt 5"),
    ]
    assert "RUNID=trial WORKERS=4 PE=orte" in shown(run)


def test_the_chief_is_no_node(tmp_path):
    write(tmp_path, {"nodes/1/plan.tsv": "chief\t0\tb\t0\t-\nps\t0\tb\t0\t-\n"})
    html = shown(made(tmp_path))
    assert ">ps 0</td>" in html and ">chief 0</td>" not in html and "more nodes" not in html


def test_scores_come_first_in_the_table_of_runs_by_the_names_of_score_depth(tmp_path):
    runs = [made(tmp_path / name, scores__json={"field": summary()}) for name in ("a", "b")]
    heads = re.findall(r"<th scope=\"col\"[^>]*>(.*?)</th>", shown(*runs).partition('aria-label="Facts"')[0])
    assert heads == ["run", *scoring.METRICS, "held-out rel", "step", "seconds", "photos/s", "recipe"]
    html = shown(runs[0])
    assert "δ" not in html and "<th scope=\"col\" class=\"number\" title=\"higher is better\">delta1 ↑</th>" in html


def test_a_page_says_how_many_photos_and_workers_there_were(tmp_path):
    plans = {
        f"nodes/{at}/plan.tsv": "ps\t0\tb\t0\t-\n" + "".join(f"worker\t{n}\tb\t0\t-\n" for n in range(workers))
        for at, workers in enumerate((2, 4, 9, 3), start=1)
    }
    gathered = {f"nodes/{at}/cluster.json": "" if at == 3 else "{}" for at in range(1, 5)}  # nodes of one never came
    write(tmp_path, plans | gathered)
    run = made(tmp_path, commands__jsonl=[command(0, None, line="train-depth --recipe small --cluster - --run r")])
    html = shown(run)
    assert "9 of 100 steps on 10 photos, 2 held out, by 2 to 4 workers and 1 parameter server" in html
    assert "<td>by 2 to 4 workers and 1 parameter server</td>" in html


def test_a_page_says_what_uncertainty_claims_and_what_a_recipe_is_made_of(tmp_path):
    scores = {"field": summary(calibrated=True, **{"within 1 σ": 0.552, "within 2 σ": 0.8})}
    settings = 'loss = "answer"\n[network]\nkind = "plain"\n'
    html = shown(made(tmp_path, scores__json=scores, recipe__toml=settings))
    assert ">on held-out photos</td>" in html and "68.3 % are within 1 σ" in html and "σ is too small" in html
    assert "not that σ holds for these photos" in html
    assert (
        "<td>small: network <code>plain</code> (small, trained from scratch), loss <code>answer</code> "
        "(squared error of the field&#39;s answer)</td>" in html
    )
    assert set(overview.WORDS) == {*registry.NETWORKS, *registry.LOSSES}


def test_a_page_names_the_dataset_explains_its_words_and_says_once_what_it_lacks(tmp_path):
    called = command(0, None, line="train-depth --run r data/rooms/records/train-00000-of-00001.tfrecord")
    survey = {"photos": 12, "held_out": 2, "superpixels": "700", "smallest": [96, 72], "largest": [96, 72]}
    run = made(tmp_path, commands__jsonl=[called], survey__json=survey)
    html = shown(run)
    assert "<td>data/rooms</td>" in html and "<td>700 at 640×480 pixels, in smaller photos fewer</td>" in html
    assert html.count("No test photos.") == 1
    words = ("rel: mean error", "delta1, delta2, delta3: share", "σ is the standard deviation", "τ and", "β weighs")
    assert all(word in html for word in words)
    assert html.count("other places and cameras") == 2
    with pytest.raises(Failure, match="no checkpoint yet"):
        page.test_shards(run)
    run.checkpoints.append("best.npz")
    with pytest.raises(Failure, match="no shard of test photos in data/rooms/records$"):
        page.test_shards(run)
    with pytest.raises(Failure, match="its commands name no shards"):
        page.test_shards(made(tmp_path, **{"checkpoints/best__npz": ""}))


@pytest.mark.parametrize("files", [{"recipe.toml": ""}, {"nodes/1/job": "3\n", "nodes/1/plan.tsv": "ps\t0\tb\t0\t-\n"}])
def test_a_run_that_has_just_begun_has_a_page(tmp_path, files):
    write(tmp_path / "run", files)
    html = shown(history.read(tmp_path / "run"))
    assert "no step taken yet" in html and "There are no lines of metrics.</p>" in html and "No test photos." in html


def test_what_people_named_cannot_become_part_of_the_page(tmp_path):
    folder = tmp_path / NASTY.replace("/", "|")
    nasty = command(0, None, line=f"train-depth --recipe '{NASTY}.toml' --set {NASTY}") | {"host": NASTY}
    nodes = f"chief\t0\t{NASTY}\t0\t{NASTY}\n"
    files = {"nodes/1/plan.tsv": nodes, "nodes/1/state": NASTY, "nodes/1/job": NASTY, "nodes/1/lost": NASTY}
    write(folder, files | {"init.json": {"from": NASTY}})
    survey = {"photos": 3, "superpixels": NASTY, "similarities": [NASTY], "smallest": [NASTY], "largest": []}
    run = made(folder, commands__jsonl=[nasty], survey__json=survey, recipe__toml=f"loss = '''{NASTY}'''\n")
    for runs in ([run], [run, run]):
        html = shown(*runs)
        assert "<script>alert" not in html and "&lt;script&gt;alert" in html
        assert payload(html)["runs"][0]["settings"]["loss"] == NASTY


def test_a_page_stays_small_however_long_the_run_is(tmp_path):
    """A day of metrics, a restart every quarter of an hour, and a thousand nodes; as many such runs as fit, too."""
    folder = tmp_path / "long"
    shards = " ".join(f"/some/where/records/train-{n:05d}-of-00128.tfrecord" for n in range(0, 128, 2))
    numbers = dict.fromkeys(
        ("loss", "photos_per_second", "learning_rate", "beta_a", "computing", "waiting", "moving"), 1 / 3
    )
    metrics = [line(10 * n, n, **numbers | {"loss": 1 / (n + 1)}) for n in range(8640)]
    metrics += [line(10 * n, n, "validation", unary_rel=0.5, **SCORES) for n in range(0, 8640, 60)]
    metrics.sort(key=lambda each: each["time"])
    again = [command(900 * n, f"{90 * n:09d}.npz", line=f"train-depth --set seed={n} {shards}") for n in range(96)]
    nodes = "".join(f"worker\t{n}\thost-{n}.example.org\t0\t{n % 8}\n" for n in range(1000))
    write(folder, {f"nodes/{n}/state": "ended with status 75 after 900 s" for n in range(1, 97)})
    write(folder, {"nodes/96/plan.tsv": nodes, "nodes/96/lost": "host-7.example.org"})
    scores = {"field": summary(), "mean depth": summary()}
    run = made(folder, metrics__jsonl=metrics, commands__jsonl=again, scores__json=scores)
    for runs in ([run], [run] * page.MOST_RUNS):
        html = shown(*runs)
        assert len(html.encode()) < 300_000
        assert len(payload(html)["runs"]) == len(runs)
    assert "995 more nodes are in nodes/96/plan.tsv" in html and "91 earlier attempts are in nodes/" in html


def test_numbers_that_json_lacks_are_null(tmp_path):
    run = made(
        tmp_path, metrics__jsonl=[line(1, 1, loss=math.nan), line(2, 2, loss=math.inf), line(3, 3, loss=0.123456789)]
    )
    found = payload(shown(run))["runs"][0]["starts"][0]["training"]
    assert found["loss"] == [None, None, 0.12346] and found["time"][0] == pytest.approx(1_800_000_001)
    assert data.columns([{"a": n} for n in range(10)], 3) == {"a": [0, 3, 9]}


def test_best_median_and_worst_photos_are_chosen_once_each():
    rels = [0.5, 0.1, 0.4, 0.2, 0.3, 0.9, 0.8, 0.7, 0.6, 1.0]
    assert photos.choose(rels, 3) == {"Best": [1, 3, 4], "Median": [2, 0, 8], "Worst": [9, 5, 6]}
    for count in range(10):
        chosen = [at for each in photos.choose(rels[:count], 3).values() for at in each]
        assert len(chosen) == len(set(chosen)) and bool(chosen) == bool(count)
    assert photos.choose(rels[:2], 3) == {"Best": [1], "Median": [], "Worst": [0]}


def seen(name: str, rel: float, error: float) -> Shown:
    """A test photo whose errors go from 0 to `error`."""
    errors = np.tile(np.linspace(0, error, 40), (30, 1))
    errors[0] = np.nan
    pictures = (photos.jpeg(np.zeros((30, 40, 3), np.uint8)),) * 3
    return Shown(name, name, rel, 1.0, 5.0, error, 0.21, 0.254, 40, 30, *pictures, photos.grey(errors), pictures[0])


def test_photos_of_several_runs_have_a_column_for_each_and_one_scale_of_errors(tmp_path):
    runs = [made(tmp_path / name) for name in ("a", "b")]
    counted, both = [1] * (len(calibration.EDGES) - 1), ((0.1, 0.2), (0.3, 0.8))
    tested = [view.Tested({}, counted, True, 0, [seen("p", rel, error)]) for rel, error in both]
    views = [View(run, run.path.name, at, each) for at, (run, each) in enumerate(zip(runs, tested, strict=True))]
    (row,) = photos.of_runs(views)["Best"]
    assert [tile.caption for tile in row.own] == ["photo", "truth"]
    assert [[tile.caption for tile in column] for column in row.columns] == [
        ["a, rel 0.100", "error"],
        ["b, rel 0.300", "error"],
    ]
    assert [scale[:3] for scale in row.scales] == [("truth and prediction", "1.00 m", "5.00 m"), ("error", "0", "80 %")]
    ends = []
    for column in row.columns:
        pixels = np.asarray(Image.open(io.BytesIO(column[1].picture))).astype(int)
        assert (pixels[0] < 60).all() and np.abs(pixels[20, 0] - picture.ERRORS[0]).max() < 30  # NaN, and no error
        ends.append(pixels[20, -1].sum())
    assert ends[0] > ends[1] + 150  # its largest error is a quarter of the other's
    html = page.render(runs, tested, "")
    assert html.count('class="tiles runs"') == 1 and 'class="bar errors"' in html and "the mean over the runs" in html

    (row,) = photos.of_runs(views[:1])["Best"]
    assert [tile.caption for tile in row.columns[0]] == ["prediction, rel 0.100", "error", "uncertainty"]
    assert [scale[:3] for scale in row.scales][1:] == [("error", "0", "20 %"), ("uncertainty", "21 %", "25.4 %")]


def test_shards_in_a_row_are_one_word_that_bash_expands():
    names = [f"data/train-{n:05d}-of-00012.tfrecord" for n in range(12)]
    assert commands.braced(f"a {' '.join(names)} b") == "a data/train-{00000..00011}-of-00012.tfrecord b"
    assert commands.braced(" ".join(names[:2])) == " ".join(names[:2])
    assert commands.braced(" ".join([*names[:3], *names[4:6], "'x y'"])) == (
        f"data/train-{{00000..00002}}-of-00012.tfrecord {names[4]} {names[5]} 'x y'"
    )
    quoted = [f"'it''s/train-{n:05d}-of-00003.tfrecord'" for n in range(3)]
    assert commands.braced(" ".join(quoted)) == " ".join(quoted)
