"""What every command shares, from the shell: how it is started, its version, and the signals of a terminal."""

import os
import shlex
import shutil
import signal
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
from conftest import run
from shell import PROJECT, QUICK, TINY, options, wait_for

COMMANDS = sorted(path.name for path in (PROJECT / "bin").iterdir())
RENDERS = [PROJECT / "bin/fetch-dataset", "rooms", "--count", "100000,0", "--size", "48x64", "-j", "2", "--data"]


@pytest.fixture
def terminal():
    """Start a command as a terminal does, leader of its processes, with its signals; all are killed in the end."""
    started = []

    def start(*command, ignore=(), **more):
        def signals():  # pytest in the background has some ignored
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN if number in ignore else signal.SIG_DFL)

        more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
        process = subprocess.Popen(command, text=True, start_new_session=True, preexec_fn=signals, **more)
        started.append(process)
        return process

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        process.communicate()


def sh(*words: object) -> str:
    return shlex.join(map(str, words))


def shards(data: Path) -> list[Path]:
    return sorted((data / "rooms/records").glob("train-*"))


# ---- the start


def test_without_its_python_a_command_says_what_to_do(tmp_path):
    project = tmp_path / "a b $&('"
    (project / "lib").mkdir(parents=True)
    shutil.copytree(PROJECT / "bin", project / "bin")
    shutil.copy(PROJECT / "lib/launch.sh", project / "lib")
    link = tmp_path / "a link"
    link.symlink_to(project / "bin/fetch-dataset")
    for command, name in ((project / "bin/fetch-dataset", "fetch-dataset"), (link, "a link")):
        done = subprocess.run([command, "--help"], capture_output=True, text=True)
        assert done.stderr == f'{name}: not installed; run "make install" in {project} first\n'
        assert done.returncode == 1 and done.stdout == ""
    (project / ".venv").symlink_to(PROJECT / ".venv")
    environment = os.environ | {"PATH": f"{project / 'bin'}:{os.environ['PATH']}"}
    for command in (project / "bin/fetch-dataset", link, "fetch-dataset"):
        done = subprocess.run([command, "an 'odd' $name"], capture_output=True, text=True, env=environment)
        assert done.returncode == 1 and """ no dataset "an 'odd' $name"; """ in done.stderr


def test_in_an_installed_package_a_command_takes_the_python_that_it_was_installed_with(tmp_path):
    prefix = tmp_path / "a b"
    share, link = prefix / "lib/python3.99/site-packages/depthfield/share", tmp_path / "a link"
    (share / "lib").mkdir(parents=True)
    shutil.copytree(PROJECT / "bin", share / "bin")
    shutil.copy(PROJECT / "lib/launch.sh", share / "lib")
    link.symlink_to(share / "bin/fetch-dataset")
    done = subprocess.run([link, "--help"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"a link: cannot find python3.99, which {share} is installed for; add it to PATH\n"
    # of a system, or of a user's own packages; then of an environment, which comes first
    for folder in (tmp_path / "path", prefix / "bin"):
        folder.mkdir(parents=True)
        python = folder / "python3.99"
        python.write_text(f'#!/bin/sh\nprintf "%s;" {shlex.quote(str(folder))} "$@"\n')
        python.chmod(0o755)
        environment = os.environ | {"PATH": f"{tmp_path}/path:{os.environ['PATH']}"}
        done = subprocess.run([link, "an 'odd' $name"], capture_output=True, text=True, env=environment)
        assert done.stdout == f"{folder};{link};an 'odd' $name;"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_started_by_one_line_that_old_kernels_read_whole(name):
    first = (PROJECT / "bin" / name).read_bytes().partition(b"\n")[0]
    assert len(first) < 127 and first == (PROJECT / "bin/fetch-dataset").read_bytes().partition(b"\n")[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_its_version(tmp_path, name):
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    done = run(name, "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{name} (depthfield) {version}\n", "")
    lines = run(name, "--help", cwd=tmp_path).stdout.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("  --version "))
    assert "--help" in lines[at - 1]
    starts = {len(line) - len(line[2:].partition("  ")[2].lstrip()) for line in lines[at - 1 : at + 1]}
    assert len(starts) == 1  # their texts stand below each other


def test_the_version_of_another_commands_command_line_is_its_own(tmp_path):
    (tmp_path / "plan.tsv").write_text("")
    done = run("watch-nodes", "--run", "r", "--plan", "plan.tsv", "python3", "--version", cwd=tmp_path)
    assert "depthfield" not in done.stdout


# ---- signals


def test_a_shells_loop_ends_at_ctrl_c(tmp_path, terminal):
    shell = terminal("bash", "-c", f"while :; do {sh(*RENDERS, tmp_path)}; echo went on; done")
    wait_for(lambda: list(tmp_path.rglob(".*.mat")))
    os.killpg(shell.pid, signal.SIGINT)
    out, told = shell.communicate(timeout=60)
    assert shell.returncode == -signal.SIGINT and out == ""
    assert told.splitlines()[-1] == "fetch-dataset: interrupted" and "Traceback" not in told
    assert not list(tmp_path.rglob(".*.mat"))


@pytest.mark.parametrize(("ignored", "status"), [((), 129), ((signal.SIGHUP,), 143)], ids=["terminal", "nohup"])
def test_a_closed_terminal_ends_a_command_unless_nohup_began_it(tmp_path, terminal, ignored, status):
    process = terminal(*RENDERS, tmp_path, ignore=ignored)
    wait_for(lambda: list(tmp_path.rglob(".*.mat")))
    os.killpg(process.pid, signal.SIGHUP)
    if ignored:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.terminate()
    _, told = process.communicate(timeout=60)
    assert process.returncode == status and "Traceback" not in told
    assert not list(tmp_path.rglob(".*.mat"))


# ---- the signals of train-depth


def training(run: Path, data: Path, *more: object) -> list[object]:
    words = ["--recipe", QUICK, *options([*TINY, "summary_seconds=0"]), "--steps", 100000, "--run", run, *more]
    return [str(word) for word in (PROJECT / "bin/train-depth", *words, *shards(data))]


def test_a_loop_around_train_depth_ends_at_ctrl_c_with_everything_saved(prepared, tmp_path, terminal):
    folder = tmp_path / "run"
    shell = terminal("bash", "-c", f"until {sh(*training(folder, prepared))}; do echo went on; done")
    wait_for((folder / "metrics.jsonl").exists)
    os.killpg(shell.pid, signal.SIGINT)
    out, told = shell.communicate(timeout=60)
    assert shell.returncode == -signal.SIGINT, told
    assert "(SIGINT), saved as" in told and told.splitlines()[-1] == "train-depth: interrupted"
    with np.load(out.strip()) as checkpoint:
        assert checkpoint["step"] > 0
    assert not (folder / "lease").exists()


def test_ctrl_c_while_train_depth_begins_ends_it_in_one_line(prepared, tmp_path, terminal):
    for library in ("_multiarray_umath", "libtensorflow_framework", "_pywrap"):  # somewhere in TensorFlow's import
        process = terminal(*training(tmp_path / "run", prepared))
        maps = Path(f"/proc/{process.pid}/maps")
        wait_for(lambda library=library, maps=maps: library in maps.read_text())
        os.killpg(process.pid, signal.SIGINT)
        out, told = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGINT and out == "" and told == "train-depth: interrupted\n"


def test_training_goes_to_disk_when_its_terminal_is_closed(prepared, tmp_path, terminal):
    folder, (ours, theirs) = tmp_path / "run", os.openpty()
    process = terminal(*training(folder, prepared), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    wait_for((folder / "metrics.jsonl").exists)
    os.close(ours)  # what is written from now on fails
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(60) == 99
    (checkpoint,) = (folder / "checkpoints").iterdir()
    assert np.load(checkpoint)["step"] > 0


def test_under_nohup_train_depth_continues_when_its_terminal_is_closed(prepared, tmp_path, terminal):
    process = terminal(*training(tmp_path / "run", prepared), ignore=(signal.SIGHUP,))
    metrics = tmp_path / "run/metrics.jsonl"
    wait_for(metrics.exists)
    process.send_signal(signal.SIGHUP)
    size = metrics.stat().st_size
    wait_for(lambda: metrics.stat().st_size > size + 2000)
    process.terminate()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 99 and "(SIGTERM)" in told


# ---- two train-depth


# train-depth as a process of another host: its lease says so.
ELSEWHERE = """
import runpy, sys
from depthfield import lease
lease._machine, lease.socket.gethostname = lambda: "elsewhere", lambda: "far.example"
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.long
def test_a_second_train_depth_waits_for_nobody_and_a_suspended_one_that_lost_the_run_writes_nothing(
    prepared, tmp_path, terminal
):
    folder = tmp_path / "run"
    python = PROJECT / ".venv/bin/python"
    # Without lines of metrics: suspended in the middle of one, it would write the rest of it when it is continued.
    quiet = options(["checkpoint_seconds=1", "summary_seconds=1000"])
    far = terminal(python, "-c", ELSEWHERE, *training(folder, prepared, *quiet))
    wait_for(lambda: list(folder.glob("checkpoints/[0-9]*")))
    second = run(*training(folder, prepared), cwd=tmp_path)
    assert second.returncode == 1, second.stderr
    (line,) = second.stderr.splitlines()
    assert f"{folder}: another train-depth is already training this run: process {far.pid} on far.example" in line

    far.send_signal(signal.SIGSTOP)
    os.utime(folder / "lease", (1, 1))
    here = terminal(*training(folder, prepared, *quiet))
    wait_for(lambda: "taken over from" in here.stderr.readline())
    wait_for(lambda: "continuing from" in here.stderr.readline())
    here.terminate()
    here.communicate(timeout=60)
    assert here.returncode == 99
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    far.send_signal(signal.SIGCONT)
    _, told = far.communicate(timeout=60)
    assert far.returncode == 1 and "Traceback" not in told
    assert f"{folder}: another train-depth took over this run while this process was suspended" in told.splitlines()[-1]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
