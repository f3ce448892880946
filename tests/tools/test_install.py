"""The project away from its checkout: below a prefix, as a wheel, and on other systems than Linux."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import made_once
from shell import PROJECT, QUICK, TINY, options

from depthfield import home
from depthfield.manual import install
from depthfield.tool import Failure

PYTHON = PROJECT / ".venv/bin/python"
COMMANDS = sorted(path.name for path in (PROJECT / "bin").iterdir())

# ---- make install-user


def make(*words: object, **environment: str) -> subprocess.CompletedProcess:
    words = ["make", "-s", "-C", PROJECT, "-o", "install", *words]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, env=os.environ | environment)


def tree(folder: Path) -> dict[str, str]:
    """What is below a folder, by its path: where a link points, or what a file holds."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in folder.rglob("*") if path.is_symlink() or path.is_file()
    }  # fmt: skip


def test_commands_pages_and_completion_come_below_a_prefix_and_go_again(tmp_path):
    prefix = tmp_path / "a prefix"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin/other").write_text("not ours")
    (prefix / "bin/link").symlink_to("other")
    before = tree(prefix)
    done = make("install-user", f"PREFIX={prefix}", PATH=f"{prefix}/bin:{os.environ['PATH']}")
    assert done.returncode == 0 and done.stdout == "", done.stderr
    assert f"install-user: {len(COMMANDS)} commands, their manual pages and completion are in {prefix}" in done.stderr
    assert ".profile" not in done.stderr  # man looks beside the folders in PATH
    there = tree(prefix)
    for name in COMMANDS:
        assert there[f"bin/{name}"] == str(PROJECT / "bin" / name)
        assert f"share/man/man1/{name}.1" in there and f"share/bash-completion/completions/{name}" in there
        assert there[f"share/zsh/site-functions/_{name}"].startswith(f"#compdef {name}\n")
    assert len(there) == len(before) + 4 * len(COMMANDS) + 1
    helped = subprocess.run([prefix / "bin/make-patches", "--help"], capture_output=True, text=True)
    assert helped.stdout.startswith("make-patches: ")
    if shutil.which("man"):
        page = subprocess.run(["man", "-M", prefix / "share/man", "-w", "make-patches"], capture_output=True, text=True)
        assert page.stdout == f"{prefix}/share/man/man1/make-patches.1\n"

    again = make("install-user", f"PREFIX={prefix}", PATH="/usr/bin:/bin")
    assert again.returncode == 0 and tree(prefix) == there
    assert f'put this into ~/.profile: export PATH="{prefix}/bin:$PATH"' in again.stderr
    line = re.search(r"to complete in bash, put this into ~/.bashrc: (.*)", again.stderr)[1]
    known = subprocess.run(["bash", "-euc", f"{line}; complete -p"], capture_output=True, text=True)
    assert known.stdout.count("\n") == len(COMMANDS) and known.stderr == ""

    gone = make("uninstall-user", f"PREFIX={prefix}")
    assert gone.returncode == 0 and f"uninstall-user: removed {4 * len(COMMANDS) + 1} files" in gone.stderr
    assert tree(prefix) == before
    assert "nothing of this project" in make("uninstall-user", f"PREFIX={prefix}").stderr


def test_what_belongs_to_others_stays_and_nothing_is_installed_beside_it(tmp_path):
    page = tmp_path / "share/man/man1/train-depth.1"
    page.parent.mkdir(parents=True)
    page.write_text(".TH TRAIN-DEPTH 1\n")
    with pytest.raises(Failure, match=f"{page}; move them away"):
        install.install(tmp_path)
    install.uninstall(tmp_path)
    assert list(tree(tmp_path)) == ["share/man/man1/train-depth.1"]


def test_two_checkouts_do_not_take_each_others_place(tmp_path, monkeypatch):
    other, prefix = tmp_path / "other", tmp_path / "prefix"
    (other / "bin").mkdir(parents=True)
    for name in COMMANDS:
        (other / "bin" / name).symlink_to(PROJECT / "bin" / name)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(install, "HOME", other)
        elsewhere.setattr(install, "COMMANDS", other / "bin")
        elsewhere.setattr(home, "COMMANDS", other / "bin")
        install.install(prefix)
    before = tree(prefix)
    assert before[f"bin/{COMMANDS[0]}"] == str(other / "bin" / COMMANDS[0])
    with pytest.raises(Failure, match=f'"make uninstall-user" in {other} removes them'):
        install.install(prefix)
    install.uninstall(prefix)
    assert tree(prefix) == before

    other.rename(tmp_path / "moved")  # what is left of it belongs to nobody
    install.install(prefix)
    assert tree(prefix)[f"bin/{COMMANDS[0]}"] == str(PROJECT / "bin" / COMMANDS[0])


def test_commands_that_are_gone_go_with_the_next_install(tmp_path):
    install.install(tmp_path)
    before = tree(tmp_path)
    (tmp_path / "bin/gone-by").symlink_to(PROJECT / "bin/gone-by")
    old = tmp_path / "share/man/man1/gone-by.1"
    old.write_text((tmp_path / "share/man/man1/make-patches.1").read_text())
    install.install(tmp_path)
    assert tree(tmp_path) == before


# ---- the wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The bin folder of an environment with the wheel; what it depends on is that of the project's own."""

    def build(folder: Path) -> None:
        source = folder / "source"
        source.mkdir(parents=True)
        tracked = subprocess.run(["git", "-C", PROJECT, "ls-files", "-z"], capture_output=True, text=True, check=True)
        needed = ("bin/", "lib/", "sge/", "data/", "pyproject.toml", "setup.py", "README.md")
        for name in tracked.stdout.split("\0"):
            if name.startswith(needed):
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                (source / name).write_bytes((PROJECT / name).read_bytes())
                (source / name).chmod((PROJECT / name).stat().st_mode)
        environment = os.environ | {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        pip = [PYTHON, "-m", "pip", "--quiet"]
        for words in (
            [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source],
            [PYTHON, "-m", "venv", "--without-pip", folder / "env"],
        ):
            subprocess.run(words, check=True, env=environment)
        (wheel,) = folder.glob("*.whl")
        python = folder / "env/bin/python"
        subprocess.run([*pip, "--python", python, "install", "--no-deps", wheel], check=True, env=environment)
        (site,) = (folder / "env/lib").glob("python*/site-packages")
        (ours,) = (PROJECT / ".venv/lib").glob("python*/site-packages")
        (site / "dependencies.pth").write_text(f"{ours}\n")

    return made_once(tmp_path_factory, "wheel", build) / "env/bin"


def shell(line: str, cwd: Path, path: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run a line of bash where nothing but an environment's commands and the system's are to be found."""
    clean = {"PATH": f"{path}:/usr/bin:/bin", "HOME": str(cwd), "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        cwd=cwd, env=clean | environment, capture_output=True, text=True, timeout=180,
    )  # fmt: skip


def test_the_wheel_has_all_that_belongs_to_the_project_and_nothing_else(installed):
    (site,) = installed.parent.glob("lib/python*/site-packages")
    tracked = subprocess.run(["git", "-C", PROJECT, "ls-files"], capture_output=True, text=True, check=True).stdout
    wanted = {name.removeprefix("lib/") for name in tracked.split() if name.startswith("lib/depthfield/")}
    for folder in ("bin/", "sge/", "lib/recipes/", "lib/launch.sh", "data/datasets.toml"):
        wanted |= {f"depthfield/share/{name}" for name in tracked.split() if name.startswith(folder)}
    found = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    found = {name for name in found if not name.startswith("depthfield-")} - {"dependencies.pth"}
    assert found == wanted
    assert sorted(set(COMMANDS) & {path.name for path in installed.iterdir()}) == COMMANDS


def test_from_an_empty_folder_the_wheel_brings_rooms_to_records(installed, tmp_path):
    pipe = "fetch-dataset rooms --count 4,2 --size 48x64 | make-patches --superpixels grid:16 | to-tfrecord --shards 1"
    done = shell(f"make-patches --help; fetch-dataset --list; describe-network dcnf-small; {pipe}", tmp_path, installed)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("make-patches: ") and "rendered" in done.stdout and "\t91012\n" in done.stdout
    assert done.stdout.splitlines()[-2:] == [
        f"{tmp_path}/data/rooms/records/{split}-00000-of-00001.tfrecord" for split in ("train", "test")
    ]
    # the same command by its own file, and by a link of another name
    (tmp_path / "a link").symlink_to(installed / "make-patches")
    share = shell("python -m depthfield.home", tmp_path, installed).stdout.strip()
    for command in (f"{share}/bin/make-patches", "'./a link'"):
        assert shell(f"{command} --help", tmp_path, installed).stdout.startswith("make-patches: ")


@pytest.mark.long
def test_the_wheel_trains_on_a_cluster_of_this_machine(installed, prepared, tmp_path):
    (tmp_path / "data").symlink_to(prepared)
    settings = {"GRID": "no", "RECIPE": QUICK, "RUNID": "run", "STEPS": "4", "WORKERS": "1", "PS_NODES": "1"}
    words = " ".join(f"'{word}'" for word in options([*TINY, "validation_share=0"]))
    done = shell(f"run-cluster cluster.sh {words}", tmp_path, installed, **settings)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("runs/run/checkpoints/*.npz"))
    assert f"to watch it: {installed}/cluster-status --run runs/run; " in done.stderr


def test_install_user_of_the_wheel_links_to_its_launchers(installed, tmp_path):
    done = shell("python -m depthfield.manual install local", tmp_path, installed)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "local/bin/make-patches").readlink() == installed / "make-patches"
    assert shell("local/bin/make-patches --version", tmp_path, installed).stdout.startswith("make-patches (depthfield)")
    assert "removed" in shell("python -m depthfield.manual uninstall local", tmp_path, installed).stderr


# ---- other systems

# A Python that lacks what only Linux has.
ELSEWHERE = """
import os, runpy, signal, sys, sysconfig, urllib.request
import psutil
sysconfig.get_config_vars()
sys.platform = "darwin"
for module, names in ((os, ("sched_getaffinity", "pidfd_open")), (signal, ("pidfd_send_signal",))):
    for name in names:
        delattr(module, name)
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def elsewhere(name: str, *words: object, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", ELSEWHERE, PROJECT / "bin" / name, *words]
    return subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "words"),
    {
        "train-depth": ("--recipe", QUICK, "--run", "r", "none.tfrecord"),
        "run-cluster": (PROJECT / "sge/cluster.sh",),
        "start-nodes": ("--run", "r", "plan.tsv"),
        "watch-nodes": ("--run", "r", "--plan", "plan.tsv", "true"),
        "keep-node": ("ps", "--run", "r", "--index", "0", "--watcher", "127.0.0.1:1"),
        "ps-node": ("--run", "r", "--index", "0"),
        "gather-spec": ("--run", "r", "plan.tsv"),
    }.items(),
)
def test_what_needs_linux_says_so_elsewhere_in_one_line(tmp_path, name, words):
    done = elsewhere(name, *words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{name}: this needs Linux: ")


def test_photos_are_prepared_elsewhere_too(tmp_path):
    done = elsewhere("fetch-dataset", "rooms", "--count", "2,0", "--size", "48x64", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = elsewhere("make-patches", "--superpixels", "grid:16", done.stdout.strip(), cwd=tmp_path)
    assert done.returncode == 0 and len(done.stdout.split()) == 2, done.stderr
