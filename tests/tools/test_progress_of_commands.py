"""How far commands are, on a terminal and in a log; --quiet and --verbose."""

import ast
import re
import shutil

import pytest
from conftest import run
from screen import Screen
from shell import PROJECT

QUICK = {"cluster-status", "compare-runs", "split-resources"}  # what takes no two seconds
LOGS = {"follow-logs", "keep-node", "ps-node", "worker-node"}  # what shows logs, or writes one
BOTH = [("-q, --quiet", "show errors and warnings only"),
        ("-v, --verbose", "show details too, such as each file written or kept")]  # fmt: skip


@pytest.mark.parametrize("path", sorted((PROJECT / "bin").iterdir()), ids=lambda path: path.name)
def test_commands_that_take_a_while_have_the_same_two_options(path):
    options = [
        re.split(r"  +", line.strip(), maxsplit=1)
        for line in ast.get_docstring(ast.parse(path.read_text())).splitlines()
    ]
    at = next(number for number, option in enumerate(options) if "--help" in option[0])
    assert (list(map(tuple, options[at - 2 : at])) == BOTH) == (path.name not in QUICK | LOGS)


@pytest.fixture
def rooms(prepared, tmp_path):
    """Rooms with patches and records, to be made anew."""
    return shutil.copytree(prepared / "rooms", tmp_path / "rooms")


def test_patches_are_counted_on_a_terminal_and_their_paths_stay(rooms, tmp_path):
    screen = Screen()
    words = ["make-patches", "--superpixels", "grid:12", "-j", 1, rooms / "raw"]
    assert screen.run(PROJECT / "bin" / words[0], *words[1:], cwd=tmp_path) == 0
    assert screen.left == sorted(map(str, rooms.glob("patches/*/*.npz")), key=lambda path: path.split("/")[-1])
    assert any(line.startswith(f"make-patches: looking for photos in {rooms}/raw") for line in screen.shown)
    assert any(re.match(r"make-patches: \d+ of 16 photos \(\d+%\)", line) for line in screen.shown)

    quiet = Screen()
    assert quiet.run(PROJECT / "bin" / words[0], "-q", "--force", *words[1:], cwd=tmp_path) == 0
    assert quiet.shown == quiet.left == screen.left
    told = run(*words, "-v", cwd=tmp_path).stderr.splitlines()
    assert len(told) == 16 and all(re.fullmatch(r"make-patches: .*#\d+: kept", line) for line in told)
    both = run(*words, "-v", "-q", cwd=tmp_path)
    assert both.returncode == 2 and both.stderr == "make-patches: --quiet and --verbose do not go together\n"


def test_in_the_background_of_a_terminal_nothing_is_rewritten(tmp_path):
    render = f"{PROJECT}/bin/fetch-dataset rooms --count 3,0 --size 48x64 -j 1 --data"
    for script, rewrites in ((f"set -m; {render} front", True), (f"set -m; {render} back & wait", False)):
        screen = Screen()
        assert screen.run("bash", "-c", script, cwd=tmp_path) == 0
        assert any("of 3 rooms" in line for line in screen.shown) == rewrites
        assert any(line.endswith("/rooms/raw") for line in screen.left)


def test_what_is_kept_is_named_and_a_long_import_is_shown(prepared, tmp_path):
    screen, words = Screen(), ["--shards", 3, "--verbose", prepared / "rooms/patches"]
    assert screen.run(PROJECT / "bin/to-tfrecord", *words, cwd=tmp_path) == 0
    assert "to-tfrecord: loading TensorFlow" in screen.shown
    records = prepared / "rooms/records"
    assert screen.left[:2] == [f"to-tfrecord: {records}: shards of {split} kept" for split in ("train", "test")]
    assert sorted(screen.left[2:]) == sorted(map(str, records.glob("t*")))
