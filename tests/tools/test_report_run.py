"""report-run and compare-runs from the shell, on real trainings; and their page in Chromium."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import run
from PIL import Image, ImageStat
from shell import SMALL, options, shards

pytestmark = pytest.mark.xdist_group("browser")  # one Chromium, and fixtures that are made once
PICTURE = re.compile(r'src="data:image/jpeg;base64,[^"]*"')


class Pages(NamedTuple):
    one: Path
    several: Path


@pytest.fixture(scope="module")
def runs(prepared, trained, tmp_path_factory) -> list[Path]:
    """A run of 16 steps, and one that went on from there to 20."""
    folder = tmp_path_factory.mktemp("runs")
    first, again = (Path(shutil.copytree(trained, folder / name)) for name in ("first", "again & again"))
    often = options([*SMALL, "summary_seconds=0", "validation_steps=1"])  # so that there are curves
    words = ["--recipe", "small", "--run", again, "--steps", 20, *often]
    done = run("train-depth", *words, *shards(prepared, "train"), cwd=folder)
    assert done.returncode == 0, done.stderr
    return [first, again]


@pytest.fixture(scope="module")
def pages(runs, prepared) -> Pages:
    """The page of the second run, and that of both, each with test photos."""
    first, again = runs
    tested = shards(prepared, "test")
    done = run("report-run", again, cwd=first.parent)  # it finds the shards of test photos by itself
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{again}/report.html\n"
    both = run("report-run", *runs, *tested, cwd=first.parent)
    assert both.returncode == 0, both.stderr
    assert both.stdout == f"{first.parent}/comparison.html\n"
    return Pages(again / "report.html", first.parent / "comparison.html")


def overflowing(page) -> list[str]:
    """What is wider than the window, but for what scrolls by itself."""
    return page.evaluate("""[...document.body.querySelectorAll("*")]
        .filter((each) => each.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
        .filter((each) => !each.closest(".scroll")).map((each) => each.outerHTML.slice(0, 200))""")


@pytest.mark.parametrize("which", Pages._fields)
@pytest.mark.parametrize("width", [390, 1100, 1280])
def test_a_page_is_whole_in_a_browser_on_a_phone_and_on_a_desk(pages, browser, tmp_path, which, width):
    path = getattr(pages, which)
    with browser.open(path, width) as page:
        assert page.errors == [] and page.requests == [path.as_uri()]
        assert overflowing(page) == [] and page.evaluate("document.documentElement.scrollWidth") == width
        pictures = page.evaluate("[...document.images].map((image) => [image.naturalWidth, image.alt])")
        assert len(pictures) == 3 * (5 if which == "one" else 6)  # four test photos: a best, a median and a worst one
        assert all(
            size == 96 and re.match(r"(Photo|Measured|Predicted|Error|Uncertainty) ", alt) for size, alt in pictures
        )
        lines = """[...document.querySelectorAll("%s")]
            .map((each) => new Set([...each.children].map((tile) => tile.%s)).size)"""
        if which == "one":  # its five pictures
            assert page.evaluate(lines % (".tiles", "offsetTop")) == [1 if width > 640 else 2] * 3
        else:  # a column for each of two runs, of prediction and error
            columns = (".tiles.runs:not(.own)", "offsetLeft"), (".tiles.runs:not(.own)", "offsetTop")
            assert [page.evaluate(lines % each) for each in columns] == [[2] * 3, [2] * 3]
        figures = page.evaluate("[...document.querySelectorAll('svg')].map((each) => each.getAttribute('aria-label'))")
        assert len(figures) >= 9 and all(figures)
        assert page.evaluate("document.querySelectorAll('h1').length") == 1
        assert page.evaluate("JSON.parse(document.getElementById('data').textContent).runs.length") == 1 + (
            which == "several"
        )
        grey = []
        for scheme in ("light", "dark"):
            page.colours(scheme)
            with Image.open(page.screenshot(tmp_path / f"{scheme}.png")) as picture:
                assert picture.width == width and picture.height > 3000
                grey.append(ImageStat.Stat(picture.convert("L")).median[0])
        assert grey[0] > 230 and grey[1] < 40
        assert page.errors == []


def test_sorting_sorts_numbers_words_and_what_is_missing(pages, browser):
    with browser.open(pages.several) as page:
        column = (
            "[...document.querySelector('#trained table.sortable').tBodies[0].rows].map((r) => r.cells[%d].textContent)"
        )
        click = (
            "document.querySelector('#trained table.sortable').tHead.rows[0].cells[%d].querySelector('button').click()"
        )
        of_order = "document.querySelector('#trained table.sortable').tHead.rows[0].cells[%d].ariaSort"
        assert page.evaluate(column % 0) == ["first", "again & again"]
        for at, upwards in ((0, ["again & again", "first"]), (8, ["16", "20"])):
            page.evaluate(click % at)
            assert (page.evaluate(column % at), page.evaluate(of_order % at)) == (upwards, "ascending")
            page.evaluate(click % at)
            assert (page.evaluate(column % at), page.evaluate(of_order % at)) == (upwards[::-1], "descending")
        assert page.evaluate(of_order % 0) is None
        # Numbers are no words, and what is not known comes last either way.
        page.evaluate("""document.querySelector('#trained tbody').append(...["9", "–", "1,000"].map((text) => {
            const row = document.querySelector('#trained tbody').rows[0].cloneNode(true);
            row.cells[8].textContent = text;
            row.cells[8].dataset.key = text === "–" ? "" : text.replace(",", "");
            return row; }))""")
        page.evaluate(click % 8)
        assert page.evaluate(column % 8) == ["9", "16", "20", "1,000", "–"]
        page.evaluate(click % 8)
        assert page.evaluate(column % 8) == ["1,000", "20", "16", "9", "–"]


def test_a_page_says_what_was_trained_where_and_how(pages, runs, prepared):
    text = pages.one.read_text()
    assert len(PICTURE.sub("", text).encode()) < 300_000
    assert "<h1>again &amp; again</h1>" in text
    assert re.search(r"20 steps on \d+ photos?, \d+ held out, by one process", text)
    assert "Starts of train-depth" in text and ": start 2, " in text and "from step 16" in text
    assert "train-{00000..00002}-of-00003.tfrecord" in text and "None of the paper" in text
    found = json.loads((runs[1] / "commands.jsonl").read_text().splitlines()[-1])
    assert f"tensorflow {found['tensorflow']}, python {found['python']}" in text and found["host"] in text
    both = pages.several.read_text()
    assert "2 runs compared" in both and "first, rel " in both and "again &amp; again, rel " in both


def test_the_scores_of_a_page_are_those_of_score_depth(pages, runs, prepared):
    done = run("score-depth", "--json", "--run", runs[1], *shards(prepared, "test"), cwd=runs[1])
    scores = json.loads(done.stdout)
    kept = json.loads((runs[1] / "scores.json").read_text())
    assert kept["field"].keys() == scores["field"].keys() and kept["mean depth"] == scores["mean depth"]
    assert kept["field"]["pooled over pixels"] == pytest.approx(scores["field"]["pooled over pixels"], rel=1e-4)
    assert kept["field"]["photos"] == scores["field"]["photos"] and kept["field"]["steps"] == scores["field"]["steps"]
    cells = f"{scores['field']['pooled over pixels']['rel']:.3f}</td>"
    assert cells in pages.one.read_text() and cells in pages.several.read_text()


def test_without_photos_a_page_is_soon_made_and_says_what_it_lacks(trained, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(trained / "recipe.toml", bare)
    # No TensorFlow: the import would fail.
    done = run(
        "report-run", "--no-photos", trained, bare, "--out", "page.html", cwd=tmp_path, seconds=20,
        PYTHONPATH=(path := blocked(tmp_path)),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "page.html\n", "")
    text = (tmp_path / "page.html").read_text()
    assert "No test photos were predicted: --no-photos was given." in text and "no step taken yet" in text
    done = run("report-run", bare, cwd=tmp_path, seconds=20, PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (0, f"{bare}/report.html\n")
    assert done.stderr == f"report-run: {bare}: no checkpoint yet, so the page has no photos\n"


def blocked(folder: Path) -> str:
    """A PYTHONPATH on which TensorFlow cannot be imported."""
    (folder / "blocked").mkdir()
    (folder / "blocked/tensorflow.py").write_text("raise ImportError('this needs no TensorFlow')\n")
    return f"{folder}/blocked:{Path(__file__).resolve().parents[2]}/lib"


def test_what_cannot_be_shown_is_refused_by_name_and_the_rest_is_shown(trained, prepared, tmp_path):
    begun = tmp_path / "begun"
    shutil.copytree(trained, begun, ignore=shutil.ignore_patterns("checkpoints"))
    done = run("report-run", begun, tmp_path / "nowhere", shards(prepared, "test")[0], cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == f"{begun}/report.html\n"
    assert f"report-run: {tmp_path}/nowhere: no such folder\n" in done.stderr
    assert f"{begun}: no checkpoint yet" in done.stderr and "Traceback" not in done.stderr
    assert "No test photos were predicted: the notes above say why." in (begun / "report.html").read_text()

    page = begun / "report.html"
    for kept in (False, True):  # a page with photos is not replaced because of a name that is wrong
        page.write_text('<img src="data:image/jpeg;base64,...">' if kept else "")
        done = run("report-run", begun, "no/test-*.tfrecord", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "" if kept else f"{page}\n")
        assert done.stderr.startswith("report-run: no/test-*.tfrecord: no such shard\n")
        assert (f"{page}: kept as it was" in done.stderr) == kept == ("base64,..." in page.read_text())

    for arguments, status, said in (
        ([tmp_path / "nowhere"], 1, "no run to report on"),
        ([], 2, "name the folder of a run"),
        ([shards(prepared, "test")[0]], 2, "name the folder of a run"),
        ([trained] * 9, 2, "8 runs at most"),
        (["--no-photos", trained, shards(prepared, "test")[0]], 2, "--no-photos and shards do not go together"),
        ([trained, "--out", tmp_path], 1, "a folder; name a file to write"),
    ):
        done = run("report-run", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (status, "") and said in done.stderr, done.stderr
    assert not (trained / "report.html").exists()


def test_compare_runs_prints_a_row_for_each_run(pages, runs, tmp_path):
    names = "".join(f"{path}\n" for path in (*runs, tmp_path / "nowhere"))
    done = run("compare-runs", "--format", "csv", cwd=tmp_path, stdin=names)
    assert done.returncode == 1 and done.stderr == f"compare-runs: {tmp_path}/nowhere: no such folder\n"
    first, again = csv.DictReader(done.stdout.splitlines())
    assert (first["run"], first["recipe"], first["step"], again["step"]) == ("first", "small", "16", "20")
    scores = json.loads((runs[1] / "scores.json").read_text())["field"]["pooled over pixels"]
    assert {name: float(again[name]) for name in scores} == scores
    assert float(again["photos_per_second"]) > 0 and first["workers"] == "1" and first["ps"] == "0"

    page = tmp_path / "comparison.html"
    page.touch()
    done = run("compare-runs", *runs, page, cwd=tmp_path, PYTHONPATH=blocked(tmp_path))
    assert done.returncode == 0 and [line.split()[0] for line in done.stdout.splitlines()] == ["run", "first", "again"]
    assert "comparison" not in done.stderr
    words = ["--scores", "nyu", "--published", "--columns", "run,rms", "--over-seeds", "--format", "latex", runs[0]]
    done = run("compare-runs", *words, cwd=tmp_path)
    assert done.returncode == 0 and r"published DCNF-FCSP, fine-tuned [2] & 0.759 \\" in done.stdout, done.stderr
    assert "[1] Table 1 of the authors' poster" in done.stderr
    for arguments, status, said in (
        (["--format", "html", runs[0]], 2, "--format is one of text, csv, markdown, latex, not 'html'"),
        (["--scores", "kitti", runs[0]], 2, "--scores is one of test, nyu"),
        (["--published", runs[0]], 2, "--published needs --scores with a protocol: nyu, "),
        (["--columns", "rel,los", runs[0]], 2, "--columns: no column 'los'"),
        ([tmp_path], 1, "no run to compare"),
    ):
        done = run("compare-runs", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (status, "") and said in done.stderr
