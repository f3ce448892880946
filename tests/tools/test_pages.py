"""The pages: every command in them is run, or could be; every link leads somewhere; what they print is what comes."""

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import commands
import pages
import pytest
from PIL import Image
from shell import PROJECT, QUICK, SMALL, TINY, options

from depthfield.samples import images, nyu

PAGES = {str(page.relative_to(PROJECT)): page for page in pages.pages()}
SECONDS = 400  # for one block
# What makes the commands of the pages quick: each of these is replaced wherever a page says it.
SMALLER = {
    "fetch-dataset rooms": "fetch-dataset --count 12,4 --size 72x96 rooms",
    "--as rooms-1 --seed 1 --count 1,100": "--as rooms-1 --seed 1 --count 1,2 --size 72x96",
    "--recipe demo": f"--recipe {QUICK} --steps 8 {shlex.join(options(TINY))}",
    "--recipe dcnf-small": f"--recipe {QUICK} --steps 8 {shlex.join(options(TINY))}",
    "--recipe small": f"--recipe small --steps 8 {shlex.join(options(SMALL))}",
    "COUNT=40,10": "COUNT=2,1",
    'train("demo"': f'train("{QUICK}"',
    '["steps=2000': f'[*{TINY}, "steps=8',
}
# Settings of make and cluster.sh, for the same.
SETTINGS = {
    "COUNT": "12,4", "SIZE": "72x96", "STEPS": "8", "RECIPE": QUICK, "GRID": "no", "WORKERS": "2", "PREFIX": "user",
}  # fmt: skip


def quick(script: str) -> str:
    """A block's script on tiny data."""
    return re.sub("|".join(rf"{re.escape(words)}(?!\w)" for words in SMALLER), lambda match: SMALLER[match[0]], script)


def walk(page: Path, modes: tuple[str, ...], folder: Path) -> None:
    """Run the blocks of a page that have one of these modes, in the project-like `folder`, and read what they print."""
    environment = {name: value for name, value in os.environ.items() if name not in pages.known_settings()} | SETTINGS
    printed = None
    for block in pages.blocks(page):
        if block.mode == "output" and printed is not None:
            assert pages.comes_in(block.text, printed) is None, f"{block}:\n{printed}"
        printed = None
        if block.mode not in modes:
            continue
        shell = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [".venv/bin/python", "-c"]}[block.language]
        done = subprocess.run(
            [*shell, quick(block.text)], cwd=folder, env=environment, timeout=SECONDS,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        printed = done.stdout
        assert done.returncode == 0, f"{block}:\n{printed}"


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """A scratch project in which nothing is run."""
    return pages.scratch(tmp_path_factory.mktemp("pages") / "project")


@pytest.fixture
def project(prepared, tmp_path) -> Path:
    """A scratch project with what the pages take for granted: a photo, and a folder of the user's own from a Kinect."""
    folder = pages.scratch(tmp_path / "project")
    photo, depth = next(iter(nyu.samples(prepared / "rooms/raw"))).read()
    Image.fromarray(photo).save(folder / "holiday.jpg")
    for kind in ("rgb", "depth"):
        (folder / "desk" / kind).mkdir(parents=True)
    for number in range(10):
        Image.fromarray(photo).rotate(3 * number).save(folder / f"desk/rgb/{number}.png")
        images.write_depth_png(folder / f"desk/depth/{number}.png", depth, 0.0002)
    return folder


@pytest.fixture
def begun(project, prepared, trained) -> Path:
    """The same where the reader has been through README.md: with the records of rooms, and the run runs/first."""
    shutil.copytree(prepared / "rooms", project / "data/rooms")
    shutil.copytree(trained, project / "runs/first")
    return project


def pages_with(*modes: str) -> list[str]:
    return [name for name, page in PAGES.items() if any(block.mode in modes for block in pages.blocks(page))]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_what_there_is(name, bare):
    page, known = PAGES[name], (*pages.RUN, "output", "text")
    blocks = pages.blocks(page)
    assert pages.unmarked(page) == [] and pages.broken_code(page) == []
    assert [str(block) for block in blocks if block.mode not in known and not block.mode.startswith("check: ")] == []
    scripts = [block for block in blocks if block.language == "sh"]
    assert [f"{block}: {why}" for block in scripts for why in pages.wrong(block.text, bare)] == []
    assert pages.wrong_inline(page, bare) == []
    assert pages.broken_links(page) == []


@pytest.mark.parametrize("name", commands.TABLES)
def test_a_table_made_from_the_code_is_up_to_date(name):
    assert PAGES[name].read_text() == commands.updated(name), "python tests/commands.py"


def test_the_readme_takes_two_screens():
    assert len(PAGES["README.md"].read_text().splitlines()) <= 125


def test_the_architecture_names_every_module_on_its_floor():
    block = next(block for block in pages.blocks(PAGES["lib/README.md"]) if "lib/depthfield/ " in block.text)
    found = re.search(r"^lib/depthfield/ .*?\n(.*?)^\S", block.text, re.MULTILINE | re.DOTALL)[1]
    rows = re.findall(r"^  (\S.*(?:\n {4}.*)*)", found, re.MULTILINE)
    contract = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    floors = [set(floor.split(" | ")) for floor in contract["layers"]]
    named = [re.split("  +", row)[0].replace("/", "").split(", ") for row in rows]
    assert {name for names in named for name in names} == set().union(*floors)
    order = [next(at for at, floor in enumerate(floors) if names[0] in floor) for names in named]
    assert order == sorted(order)
    for names, row in zip(named, rows, strict=True):
        package = PROJECT / "lib/depthfield" / names[0]
        modules = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/*.py")}
        assert {name for name in modules if name[0] != "_" and not re.search(rf"\b{name}\b", row)} == set(), names


def test_every_page_is_reached_from_the_readme():
    links = pages.LINK.findall(PAGES["README.md"].read_text())
    assert PAGES.keys() - {"README.md"} <= {link.partition("#")[0] for link in links}


@pytest.mark.parametrize("words", SMALLER)
def test_what_is_replaced_is_there(words):
    assert any(words in block.text for page in PAGES.values() for block in pages.blocks(page))


@pytest.mark.parametrize("name", pages_with("run"))
def test_the_commands_of_a_page_run(name, request):
    walk(PAGES[name], ("run",), request.getfixturevalue("project" if name == "README.md" else "begun"))


@pytest.mark.long
@pytest.mark.parametrize("name", pages_with("run: long"))
def test_all_commands_of_a_page_run(name, request):
    walk(PAGES[name], ("run", "run: long"), request.getfixturevalue("project" if name == "README.md" else "begun"))


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("bin/train-depth --recipe small --rum runs/first x", "--rum"),
        ("bin/no-such --help", "no program"),
        ("make everything", "No rule"),
        ("make train WORKRES=2", "no setting WORKRES"),
        ("WORKRES=2 make distributed", "no setting WORKRES"),
        ("qsub -pe orte 4 sge/cluster.sh WORKRES=2", "no setting WORKRES"),
        ("sge/claster.sh", "not there"),
        ("python -m depthfield.manuel install ~/.local", "not there"),
        ("python -m depthfield.manual install ~/.local", None),
        ("bin/fetch-dataset rooms | bin/make-patches --force |\\\n  bin/to-tfrecord --shard", "--shards requires"),
        ("bin/fetch-dataset rooms | bin/make-patches && make help > list", None),
    ],
)
def test_a_command_that_cannot_be_run_is_found(script, why, bare):
    found = pages.wrong(script, bare)
    assert (len(found) == 1 and why in found[0]) if why else found == []


def test_what_is_printed_is_compared_but_for_its_numbers():
    printed = "rel  0.213 of 100\nwarning\ndepths/holiday.png\n"
    assert pages.comes_in("rel 0.5 of 4\ndepths/holiday.png\n", printed) is None
    assert pages.comes_in("rel ...\n...\n", printed) is None
    assert pages.comes_in("depths/holiday.png\nrel 0.213 of 100\n", printed) == "rel 0.213 of 100"
    assert pages.comes_in("rms 0.213 of 100\n", printed) == "rms 0.213 of 100"
