"""Commands with their manual pages and completion, put below a prefix such as ~/.local, and removed from there.

A command is a link; a page or a completion says in its first lines which project it is of. So this project's files are
told from those of others, which are never touched.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from depthfield import files, home
from depthfield.home import COMMANDS, HOME
from depthfield.manual import completion, helptext, page
from depthfield.tool import Failure, say, some

BIN, MAN = "bin", "share/man"
BASH, ZSH = "share/bash-completion/completions", "share/zsh/site-functions"
MARK = "Made from the help texts of"
MARKED = re.compile(rf"{MARK} (.+)")
HEAD = 1000  # bytes of a file that may hold the mark
SHELL_SECONDS = 5


def pages() -> dict[str, str]:
    """All manual pages, by their path in a folder `man`: man1/make-patches.1."""
    helps = helptext.of_commands()
    related = page.related(helps, {name: helptext.docstring(COMMANDS / name) for name in helps})
    made = {f"man1/{name}.1": page.of_command(help, related[name], COMMANDS / name) for name, help in helps.items()}
    return made | {"man7/depthfield.7": page.overview(helps, COMMANDS)}


def write_pages(folder: Path) -> None:
    """Make `folder` hold all manual pages, and no page of a command that is gone."""
    made = pages()
    for path in folder.glob("man?/*"):
        if str(path.relative_to(folder)) not in made:
            path.unlink()
    for name, text in made.items():
        files.write_text(folder / name, text)


def install(prefix: Path) -> None:
    """Put everything below `prefix`. Raises Failure, before anything is changed, if others' files are in the way."""
    wanted = _wanted()
    foreign = [path for path in (prefix / name for name in wanted) if os.path.lexists(path) and not _replaceable(path)]
    if foreign:
        owners = sorted({str(owner) for owner in map(_owner, foreign) if owner})
        way_out = f'"make uninstall-user" in {" and in ".join(owners)} removes them' if owners else "move them away"
        raise Failure(f"not of this project, so nothing is installed: {some(foreign, 3)}; {way_out}")
    for path in _ours(prefix):
        if str(path.relative_to(prefix)) not in wanted:
            path.unlink()
    for name, content in wanted.items():
        if isinstance(content, Path):
            _link(prefix / name, content)
        else:
            files.write_text(prefix / name, content)
    say(f"{len(helptext.of_commands())} commands, their manual pages and completion are in {prefix}")
    for hint in hints(prefix):
        say(hint)


def uninstall(prefix: Path) -> None:
    """Remove what `install` put below `prefix`, and nothing else."""
    found = list(_ours(prefix))
    for path in found:
        path.unlink()
    say(f"removed {len(found)} files from {prefix}" if found else f"nothing of this project is in {prefix}")


def hints(prefix: Path, environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """What to change so that the shells and man find what is below `prefix`."""
    in_path = str(prefix / BIN) in environment.get("PATH", "").split(":")
    if not in_path:
        yield f'to find the commands, put this into ~/.profile: export PATH="{prefix / BIN}:$PATH"'
    path = f"{prefix / BIN}:{environment.get('PATH', '')}"  # man looks beside the folders in PATH, too
    manpath = _output("manpath", "-q", environment={**environment, "PATH": path}).split(":")
    if manpath != [""] and str(prefix / MAN) not in manpath:
        yield f'to find the manual pages, put this into ~/.profile: export MANPATH="{prefix / MAN}:$MANPATH"'
    if not _bash_looks_into(prefix / BASH, environment):
        each = f"{shlex.quote(str(prefix / BASH))}/*"
        yield f'to complete in bash, put this into ~/.bashrc: for f in {each}; do source "$f"; done'
    if shutil.which("zsh", path=environment.get("PATH")):
        fpath = _output("zsh", "-ic", "print -rl -- $fpath", environment=environment)
        if str(prefix / ZSH) not in fpath.splitlines():
            yield f"to complete in zsh, put this into ~/.zshrc, before compinit: fpath=({prefix / ZSH} $fpath)"


def _wanted() -> dict[str, str | Path]:
    """What belongs below a prefix, by its path there: the text of a file, or where a link points."""
    wanted: dict[str, str | Path] = {f"{MAN}/{name}": f'.\\" {MARK} {HOME}\n{text}' for name, text in pages().items()}
    for name, help in helptext.of_commands().items():
        wanted[f"{BIN}/{name}"] = home.launchers() / name
        wanted[f"{BASH}/{name}"] = f"# {MARK} {HOME}\n{completion.for_bash(help)}"
        wanted[f"{ZSH}/_{name}"] = f"#compdef {name}\n# {MARK} {HOME}\n{completion.for_zsh(help)}"
    return wanted


def _owner(path: Path) -> Path | None:
    """The project that put a link or file here, or the folder that a link points into; None for anything else."""
    if path.is_symlink():
        folder = path.readlink().parent
        return folder.parent if folder.name == "bin" else folder
    if not path.is_file():
        return None
    with path.open("rb") as file:
        found = MARKED.search(file.read(HEAD).decode(errors="replace"))
    return Path(found[1]) if found else None


def _ours(prefix: Path) -> Iterator[Path]:
    for folder in (BIN, f"{MAN}/man1", f"{MAN}/man7", BASH, ZSH):
        if (prefix / folder).is_dir():
            yield from (path for path in sorted((prefix / folder).iterdir()) if _is_ours(path))


def _is_ours(path: Path) -> bool:
    return _owner(path) in ((home.launchers().parent, COMMANDS.parent) if path.is_symlink() else (HOME,))


def _replaceable(path: Path) -> bool:
    """Ours, or left by a project that is no longer there."""
    owner = _owner(path)
    return _is_ours(path) or (owner is not None and not owner.exists())


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.symlink_to(target)
    temporary.replace(path)


def _bash_looks_into(folder: Path, environment: Mapping[str, str]) -> bool:
    """Whether the package bash-completion is there, and finds completions in this folder."""
    share = environment.get("XDG_DATA_HOME") or f"{environment.get('HOME', '')}/.local/share"
    own = environment.get("BASH_COMPLETION_USER_DIR") or f"{share}/bash-completion"
    shares = (environment.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":")
    known = [own, *(f"{share}/bash-completion" for share in shares)]
    package = any(Path(share, "bash-completion/bash_completion").exists() for share in shares)
    return package and str(folder.parent) in known


def _output(*command: str, environment: Mapping[str, str]) -> str:
    """What a program prints; nothing if it is not there, or waits for something."""
    try:
        done = subprocess.run(
            command, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=SHELL_SECONDS, start_new_session=True,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
