"""depthfield as a library: the lines that its own documentation shows are run, and a training leaves signals alone."""

import doctest
import os
import re
import subprocess
import sys

import numpy as np
from PIL import Image
from shell import PROJECT, QUICK, TINY

import depthfield

CHANGES = re.escape('"demo", "runs/first", shards, settings=["steps=2000"]')
QUICKLY = f'"{QUICK}", "runs/first", shards, settings={["steps=16", *TINY]}'
AROUND = """
import os, signal, sys
import depthfield
assert "tensorflow" not in sys.modules and "Predictor" in dir(depthfield)
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
{lines}
assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
assert str(checkpoint) == "runs/first/checkpoints/000000016.npz" and checkpoint.exists()
try:
    train("huge", "runs/other", [])
except depthfield.Failure as failure:
    print(failure)
"""


def python(script: str, cwd) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "lib")}
    words = [sys.executable, "-c", script]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=120, env=environment)


def test_the_lines_of_the_documentation_train_and_predict(prepared, tmp_path):
    (tmp_path / "data").symlink_to(prepared)
    (tmp_path / "frames").mkdir()
    room = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8))
    for name, size in (("holiday", (1280, 960)), ("frames/1", (96, 72)), ("frames/2", (72, 96))):
        room.resize(size).save(tmp_path / f"{name}.jpg")
    examples = doctest.DocTestParser().get_examples(depthfield.__doc__)
    shown = "".join(example.source for example in examples)
    assert shown.count("\n") <= 12
    lines, changed = re.subn(rf"^train\({CHANGES}\)", f"checkpoint = train({QUICKLY})", shown, flags=re.MULTILINE)
    assert changed == 1
    lines = lines.replace("depth.shape, depth.dtype", "print(depth.shape, depth.dtype)")
    done = python(AROUND.format(lines=lines), tmp_path)
    assert done.returncode == 0, done.stderr
    shape, *means, refused = done.stdout.splitlines()
    assert shape == "(960, 1280) float32" and refused.startswith("no recipe 'huge'; there are ")
    assert len(means) == 2 and all(re.fullmatch(r"\d+\.\d\d m, give or take \d+\.\d\d", line) for line in means)
    assert all(line.startswith("depthfield: ") for line in done.stderr.splitlines()), done.stderr


def test_importing_depthfield_takes_no_time_and_unknown_names_are_errors(tmp_path):
    script = (
        "import sys, depthfield; print([name for name in ('numpy', 'docopt', 'tensorflow') if name in sys.modules])"
    )
    done = python(script, tmp_path)
    assert done.stdout == "[]\n", done.stderr
    done = python("from depthfield import Predicter", tmp_path)
    assert done.returncode == 1 and "cannot import name 'Predicter' from 'depthfield'" in done.stderr
