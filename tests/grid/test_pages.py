"""The commands of the pages that need a grid, as the pages say them, on a grid of their own."""

import os
import subprocess

import pages
import pytest
from shell import PROJECT, QUICK, wait_for

from .conftest import SANDBOX, held, unavailable
from .runs import NO_END, Run

SETTINGS = {"COUNT": "12,4", "SIZE": "72x96", "STEPS": str(NO_END), "RECIPE": QUICK, "SUM_FREQ": "1"}
SETTINGS["RUNID"] = "rooms-small"  # as it is called without these
SECONDS = 400  # for one block

pytestmark = pytest.mark.long


@pytest.fixture
def own(tmp_path):
    """A grid that pages may change."""
    if why := unavailable():
        (pytest.fail if os.environ.get("GRID_REQUIRED") == "1" else pytest.skip)(f"no grid: {why}")
    with held(tmp_path / "grid") as grid:
        yield grid


def test_the_first_run_on_a_grid(own):
    folder, ada = pages.scratch(own.home("ada") / "depthfield"), own.home("ada").stat()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, ada.st_uid, ada.st_gid, follow_symlinks=False)
    run = Run(own, "rooms-small")
    run.path = folder / "runs/rooms-small"
    printed = None
    for block in pages.blocks(PROJECT / "sge/README.md"):
        if block.mode == "output" and printed is not None:
            assert pages.comes_in(block.text, printed) is None, f"{block}:\n{printed}"
        printed = None
        if block.mode in ("run: grid", "run: grid as root"):
            user = "root" if block.mode.endswith("root") else "ada"
            command = ["bash", "-euo", "pipefail", "-c", f"cd {folder}; {block.text}"]
            done = own.run(user, *command, seconds=SECONDS, **SETTINGS)
            printed = done.stdout + done.stderr
            assert done.returncode == 0, f"{block}:\n{printed}"
            if "make distributed" in block.text:
                run.trains()
    own.run("ada", "qdel", "-u", "ada")
    wait_for(lambda: not own.run("ada", "qstat").stdout, 120, "an empty grid")
    run.leaves_nothing()


def test_a_sandbox_by_hand(tmp_path):
    if why := unavailable():
        pytest.skip(f"no grid: {why}")
    folder = pages.scratch(tmp_path / "project")
    [block] = [block for block in pages.blocks(PROJECT / "tests/README.md") if block.mode == "run: grid alone"]
    try:
        words = ["bash", "-euo", "pipefail", "-c", block.text]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0 and "node2" in done.stdout, done.stderr
    finally:
        subprocess.run([SANDBOX, "down"], env=os.environ | {"GRID_DIR": str(folder / "grid")}, capture_output=True)
