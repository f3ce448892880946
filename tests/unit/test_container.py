"""The recipe of the container: what Apptainer reads of it, and its run script. `make lint` checks its shell."""

import re
import subprocess

import pytest
from shell import PROJECT

RECIPE = (PROJECT / "sge/depthfield.def").read_text()
SECTIONS = dict(re.findall(r"^%(\w+)\n(.*?)(?=^%|\Z)", RECIPE, re.MULTILINE | re.DOTALL))


def test_the_recipe_has_a_header_and_known_sections():
    header = dict(line.split(": ") for line in RECIPE.partition("%")[0].splitlines() if line and line[0] != "#")
    assert header.keys() == {"Bootstrap", "From"}
    assert list(SECTIONS) == ["labels", "help", "files", "post", "environment", "runscript", "test"]


def test_the_files_of_the_recipe_are_there_and_all_that_commands_need():
    copied = dict(line.split() for line in SECTIONS["files"].splitlines() if line)
    assert all(target == f"/opt/depthfield/{source}" for source, target in copied.items())
    assert all((PROJECT / source).exists() for source in copied)
    # What the commands start with, pip installs from, and the catalogue is read from.
    project = {"pyproject.toml", "setup.py", "constraints.txt", "README.md"}
    assert {"bin", "lib", "sge", "data/datasets.toml"} | project == set(copied)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["make-patches", "--version"], 0, "make-patches (depthfield)"),
        (["make-patches", "--no such option"], 2, "see --help"),
        (["no-such-command"], 2, "where COMMAND is one of\ncluster-status\n"),
        ([], 2, "usage: apptainer run depthfield.sif COMMAND"),
    ],
)
def test_the_container_runs_a_command_by_its_name(words, status, said):
    script = SECTIONS["runscript"].replace("/opt/depthfield", str(PROJECT))
    done = subprocess.run(["sh", "-c", script, "runscript", *words], capture_output=True, text=True)
    assert done.returncode == status and said in done.stdout + done.stderr
