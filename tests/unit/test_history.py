"""What the folder of a run says: whole, just begun, of an older version, in several starts and attempts, damaged."""

import datetime
import json

import pytest

from depthfield import history
from depthfield.tool import Failure

T0 = 1_800_000_000


def write(run, files: dict) -> None:
    """Text, an object of JSON, or a list of lines of JSON for each name."""
    for name, content in files.items():
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(json.dumps(line) + "\n" for line in content)
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def command(at: float, begins: str | None, steps: int = 100, line: str = "train-depth --recipe small --run r") -> dict:
    time = datetime.datetime.fromtimestamp(T0 + at, datetime.UTC).isoformat(timespec="seconds")
    return {"time": time, "host": "anna", "command": line, "begins": begins, "steps": steps}


def line(at: float, step: int, kind: str = "training", **numbers: float) -> dict:
    return {"step": step, "kind": kind, "time": T0 + at} | numbers


@pytest.fixture
def run(tmp_path):
    """A run that was lost at step 60 and goes on from step 40, in two attempts."""
    shares = {"computing": 0.8, "waiting": 0.2, "moving": 0.0, "round_steps": 4}
    write(tmp_path / "run", {
        "recipe.toml": 'steps = 90\n[network]\nkind = "plain"\n',
        "survey.json": {"photos": 12, "held_out": 2},
        "commands.jsonl": [
            command(0, None, line="train-depth --recipe demo --cluster - --run r"),
            command(100, "/far/000000040.npz", 200, "train-depth --recipe=mine/own.toml --cluster - --run r"),
            {"time": "?", "command": "export-model --run r"},
        ],
        "metrics.jsonl": [
            line(10, 20, photos_per_second=10.0, **shares), line(20, 40, "validation", rel=0.5),
            line(30, 60, photos_per_second=20.0, **shares | {"computing": 0.5, "waiting": 0.5}),
            line(120, 60, photos_per_second=20.0, **shares), line(130, 80, "validation", rel=0.4),
            line(140, 100, "validation", rel=0.6),
        ],
        "checkpoints/000000100.npz": "", "checkpoints/best.npz": "", "checkpoints/.0.npz": "",
        "nodes/1/from": "none\n", "nodes/1/lost": "carl\n", "nodes/1/state": "ended with status 75 after 9 s\n",
        "nodes/1/plan.tsv": "chief\t0\tanna\t0\t-\nps\t0\tbert\t0\t-\nworker\t0\tcarl\t0\t3\n",
        "nodes/2/from": "000000040\n", "nodes/2/job": "7\n", "nodes/2/state": "ended with status 0 after 50 s\n",
        "nodes/2/plan.tsv": "chief\t0\t127.0.0.1\t0\t-\nps\t0\t*\t0\t-\nworker\t0\t127.0.0.1\t0\t-\n",
        "nodes/2/state.json": {"nodes": [{"role": "worker", "index": 0, "state": "serving", "memory": 5}, "?", {}]},
        "logs/ps-0.log": "keep-node: ---- attempt 1, 2026-11-25 15:44:11, bert\nnoise ---- attempt 2, now, x\n",
        "logs/worker-0.log": "".join(
            f"keep-node: ---- attempt {attempt}, 2026-11-25 15:44:11, {host}, job 8\n"
            for attempt, host in ((1, "carl"), (2, "dora"), (2, "dora"))
        ),
    })  # fmt: skip
    return tmp_path / "run"


def test_starts_have_their_lines_of_metrics_and_add_up(run):
    found = history.read(run)
    assert [(start.step, len(start.training), len(start.validation)) for start in found.starts] == [
        (0, 2, 1),
        (40, 1, 2),
    ]
    assert [start.seconds() for start in found.starts] == [30, 40] and found.seconds == 70
    assert (found.recipe, found.step, found.steps) == ("own", 100, 200)
    assert found.settings == {"steps": 90, "network.kind": "plain"} and found.best["step"] == 80
    assert found.photos_per_second == 20 and found.notes == []
    # 20 steps at 10 photos a second took as long as 40 at 20, and 20 at 20 half as long.
    assert found.spent == pytest.approx({"computing": 0.68, "waiting": 0.32, "moving": 0})


def test_attempts_have_their_nodes_hosts_and_restarts(run):
    found = history.read(run)
    first, second = found.attempts
    assert (first.step, first.lost, first.job) == (None, ["carl"], None)
    assert (second.step, second.job, second.state) == (40, "7", "ended with status 0 after 50 s")
    chief, ps, worker = second.nodes
    assert (chief["host"], ps["host"], worker["host"]) == ("anna", "*", "dora")
    assert worker["restarts"] == 1 and worker["state"] == "ended" and worker["memory"] == 5
    assert first.nodes[2]["gpus"] == "3" and first.nodes[2]["restarts"] == 0
    assert found.hosts == ["anna", "bert", "carl", "dora"]
    assert (found.count("worker"), found.count("ps")) == (1, 1)
    assert (found.counts("worker"), found.counts("ps")) == ([1, 1], [1, 1])


def test_a_host_is_counted_once_by_its_short_name(run):
    plan = "chief\t0\tanna.grid.test\t0\t-\nps\t0\t10.0.0.7\t0\t-\nworker\t0\tbert.grid.test\t0\t-\n"
    (run / "nodes/2/plan.tsv").write_text(plan)
    assert history.read(run).hosts == ["anna", "bert", "carl", "10.0.0.7"]


def test_the_chief_of_an_all_reduce_is_a_worker_and_one_process_is_one(run):
    (run / "nodes/2/plan.tsv").write_text("chief\t0\tanna\t0\t-\nworker\t0\tanna\t0\t-\n")
    assert (history.read(run).count("worker"), history.read(run).count("ps")) == (2, 0)
    write(run, {"commands.jsonl": [command(0, None)]})
    assert (history.read(run).count("worker"), history.read(run).count("ps")) == (1, 0)


def test_what_is_no_run_is_refused_by_name(tmp_path, run):
    (tmp_path / "empty").mkdir()
    runs, refused = history.read_all([tmp_path / "nowhere", run, tmp_path / "empty"])
    assert [found.path for found in runs] == [run]
    assert [str(failure) for failure in refused] == [
        f"{tmp_path}/nowhere: no such folder",
        f"{tmp_path}/empty: not a run: it has neither recipe.toml nor nodes/",
    ]
    with pytest.raises(Failure, match=r"recipe.toml: not a folder"):
        history.read(run / "recipe.toml")


@pytest.mark.parametrize("files", [{"recipe.toml": ""}, {"nodes/1/job": "3"}])
def test_a_run_that_has_just_begun_is_one(tmp_path, files):
    write(tmp_path, files)
    found = history.read(tmp_path)
    assert (found.step, found.seconds, found.photos_per_second) == (None, None, None)
    assert found.best == {} and found.spent == {} and found.hosts == [] and found.notes == []


def test_a_line_that_is_being_written_is_left_out_and_damage_is_named(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 120, "kind": "trai')
    (run / "survey.json").write_text("{")
    (run / "recipe.toml").write_text("=")
    (run / "nodes/2/plan.tsv").write_text("what\n")
    with (run / "commands.jsonl").open("a") as file:
        file.write("half\n[]\n")
    found = history.read(run)
    assert found.step == 100 and found.survey == {} and len(found.commands) == 3
    assert sorted(found.notes) == [
        "commands.jsonl: 2 damaged lines were left out, the first is line 4",
        "metrics.jsonl: its last line is not complete and was left out",
        "nodes/2/plan.tsv: line 1 is 'what'; expected `role index host slot gpus`",
        "recipe.toml: damaged",
        "survey.json: damaged",
    ]


def test_runs_of_older_versions_have_what_they_have(tmp_path):
    write(tmp_path, {
        "recipe.toml": "steps = 5\n",
        "metrics.jsonl": [{"step": 1, "loss": 2.0}, {"loss": 1}, {"step": 5, "loss": float("nan"), "time": None}],
    })  # fmt: skip
    found = history.read(tmp_path)
    (start,) = found.starts
    assert [line["step"] for line in start.training] == [1, 5] and found.seconds is None
    assert history.number(start.training[1], "loss") is None and history.number(start.training[0], "loss") == 2
    assert (found.step, found.steps, found.recipe) == (5, 5, None)


def test_scores_are_those_of_score_depth(run):
    field = {"pooled over pixels": {"rel": 0.1}}
    nyu = {"field": field | {"protocol": "nyu", "headline": "pooled over pixels"}}
    write(run, {"scores.json": {"field": field}, "nyu.json": nyu, "other.json": nyu, "init.json": {"from": "imagenet"}})
    found = history.read(run)
    assert found.scores == {"field": field} and list(found.protocols) == ["nyu"] and found.begun_with == "imagenet"
    write(run, {"scores.json": {"prediction": field}})
    found = history.read(run)
    assert found.scores == {} and "scores.json: not the scores of a run" in found.notes[0]


def test_photos_trained_on_bring_no_held_out_score(run):
    write(run, {"survey.json": {"photos": 12, "held_out": 0}})
    assert history.read(run).best == {}


def test_runs_are_called_by_their_folders_or_by_their_paths(tmp_path):
    for name in ("a/one", "b/one", "b/two"):
        write(tmp_path / name, {"recipe.toml": ""})
    runs, _ = history.read_all([tmp_path / name for name in ("a/one", "b/one", "b/two")])
    assert history.names(runs) == [f"{tmp_path}/a/one", f"{tmp_path}/b/one", "two"]
