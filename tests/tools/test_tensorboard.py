"""One short training, watched: its line on a terminal, and what TensorBoard is given of it, and shows."""

import json
import os
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request

import pytest
import tensorflow as tf
from conftest import run
from screen import Screen
from shell import PROJECT, QUICK, TINY, options, shards, wait_for
from shell import events as event_files
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from depthfield.training import events, survey
from depthfield.training import recipe as recipes

pytestmark = pytest.mark.xdist_group("tensorboard")  # its fixtures are made once
OWN = [*TINY, "validation_steps=16", "summary_seconds=0"]


def words(folder, data, steps: int, *more: object) -> list:
    return ["--recipe", QUICK, "--run", folder, "--steps", steps, *more, *options(OWN), *shards(data, "train")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("tb") / "runs"


@pytest.fixture(scope="module")
def screen(runs, prepared) -> Screen:
    """The terminal of a training of 160 steps."""
    screen = Screen(columns=200)
    assert screen.run(PROJECT / "bin/train-depth", *words(runs / "first", prepared, 160, "-v"), cwd=runs.parent) == 0
    return screen


@pytest.fixture(scope="module")
def trained(screen, runs, prepared) -> subprocess.CompletedProcess:
    """The same training gone on to step 176, quietly; and what TensorBoard would get of another one beside it."""
    first, second = runs / "first", runs / "second"
    done = run("train-depth", *words(first, prepared, 176, "--quiet"), cwd=runs.parent)
    assert done.returncode == 0, done.stderr
    written, recipe = events.Events(second), recipes.load(str(first / "recipe.toml"), ["learning_rate=0.5"])
    written.settings(0, recipe, survey.read(first), [])
    for step, rel in ((16, 0.75), (32, 0.25)):
        written.scalars(step, "validation", {"rel": rel})
    return done


def values(events: EventAccumulator, tag: str) -> list:
    return [(event.step, event.tensor_proto) for event in events.Tensors(tag)]


def test_training_is_one_line_on_a_terminal(screen, runs):
    shown = "\n".join(screen.shown)
    for text in (
        "loading TensorFlow",
        r"\d+ of 12 photos read",
        "step 0 of 160, making the graph",
        "measuring, 0 of 1",
    ):
        assert re.search(f"^train-depth: {text}", shown, re.MULTILINE), text
    line = (
        r"train-depth: step \d+ of 160, \d+ s left, loss \d\.\d{4}, rel \d\.\d{3}, [\d.]+ photos/s, "
        r"\d+% waiting for data, \d+% moving parameters, \d+ steps a round"
    )
    assert re.search(f"^{line}$", shown, re.MULTILINE), shown
    told = "\n".join(screen.left)
    assert "photos/s" not in told and "step 16: held-out photos rel " in told
    assert f"saved as {runs}/first/checkpoints/000000160.npz" in told and "the best so far, kept as " in told
    assert screen.left[-1] == str(runs / "first/checkpoints/000000160.npz")


def test_a_quiet_training_says_nothing(trained):
    assert trained.stderr == "" and trained.stdout.endswith("000000176.npz\n")


def test_event_files_hold_scalars_pictures_histograms_and_settings_of_both_calls(trained, runs):
    run = runs / "first"
    training, validation = event_files(run / "events"), event_files(run / "events/validation")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if line["kind"] == "validation"]
    assert [step for step, _ in values(validation, "validation/rel")] == steps == list(range(16, 177, 16))
    assert {"training/loss", "training/photos_per_second", "training/waiting"} <= set(training.Tags()["tensors"])
    for name in ("beta", "z"):
        (step, last) = values(validation, name)[-1]
        counts = tf.make_ndarray(last)[:, 2]
        assert step == 176 and counts.sum() == (3 if name == "beta" else 48)  # similarities; 6×8 superpixels of a photo
    step, picture = values(validation, "pictures/1")[-1]
    width, height, png = picture.string_val
    assert step == 176 and int(width) > 4 * 96 + 8 and int(height) == 72 and png.startswith(b"\x89PNG")
    pages = [page.string_val[0].decode() for _, page in values(training, "run")]
    assert [page.count(f"    train-depth --recipe {QUICK} --run {run}") for page in pages] == [1, 2]
    assert "| network.patch | 16 |" in pages[1] and "12 photos, 1 of them held out" in pages[1]


@pytest.fixture(scope="module")
def board(trained, runs):
    """The address of `make tb` over both runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["make", "--old-file=.venv/installed", "tb", f"RUN_DIR={runs}", f"TB_PORT={port}"]
    with (runs.parent / "tb.log").open("w") as log:
        process = subprocess.Popen(command, cwd=PROJECT, stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://localhost:{port}/"

        def ready() -> bool:
            assert process.poll() is None, (runs.parent / "tb.log").read_text()
            try:
                return len(json.load(urllib.request.urlopen(f"{address}data/runs", timeout=5))) == 4
            except (urllib.error.URLError, OSError):
                return False

        wait_for(ready, 60)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def test_the_hparams_tab_compares_the_runs_by_their_last_scores(board, runs):
    def asked(what: str, **question) -> dict:
        body = json.dumps(question).encode()
        address = f"{board}data/plugin/hparams/{what}"
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request, timeout=30))

    experiment = asked("experiment", experimentName="", includeMetrics=True)
    metrics = [info["name"]["tag"] for info in experiment["metricInfos"]]
    assert metrics[:5] == [f"validation/{name}" for name in ("delta1", "log10", "nll", "rel", "rms")]
    question = {"experimentName": "", "allowedStatuses": ["STATUS_UNKNOWN"], "startIndex": 0, "sliceSize": 10}
    question["colParams"] = [{"metric": info["name"]} for info in experiment["metricInfos"]]
    groups = asked("session_groups", **question)["sessionGroups"]
    assert experiment["hparamInfos"][0]["name"] == "learning_rate"  # the only one that differs comes first
    found = {group["name"]: group for group in groups}
    assert set(found) == {"first in runs", "second in runs"} and [len(group["sessions"]) for group in groups] == [1, 1]
    rel = {
        name: next(v for v in group["metricValues"] if v["name"]["tag"] == "validation/rel")
        for name, group in found.items()
    }
    assert (rel["second in runs"]["value"], rel["second in runs"]["trainingStep"]) == (0.25, 32)
    assert rel["first in runs"]["trainingStep"] == 176
    settings = found["first in runs"]["hparams"]
    assert settings["learning_rate"] == 1e-3 and settings["mirror"] is True and settings["steps"] == 160
    assert settings["network.kind"] == "patchwise" and settings["network.convolutions"] == "8 3x3 /2"


# All text of a page, in shadow roots too.
TEXT = """(function text(root) {
    const inside = [...root.querySelectorAll("*")].filter(e => e.shadowRoot).map(e => text(e.shadowRoot));
    return [root.textContent ?? root.body.textContent, ...inside].join(" ");
})(document)"""


@pytest.mark.parametrize(
    ("tab", "seen"),
    [
        ("scalars", "training/loss"),
        ("images", "pictures/1"),
        ("histograms", "beta"),
        ("text", "network.convolutions"),
        ("hparams", "second in runs"),
    ],
)
def test_tensorboard_shows_all_of_it(board, browser, tmp_path, tab, seen):
    with browser.open(f"{board}#{tab}") as page:
        wait_for(lambda: seen in page.evaluate(TEXT), 60)
        page.screenshot(tmp_path / f"{tab}.png")
        assert page.errors == []
