"""The pages, README.md and those beside what they describe: their code blocks, commands, links and anchors.

tests/README.md says which modes a block may have.
"""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import docopt
from shell import PROJECT

MARKED = re.compile(
    r"^(?P<indent> *)<!-- (?P<mode>[^\n]+?) -->\n(?P=indent)```(?P<language>\w+)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
RUN = ("run", "run: long", "run: grid", "run: grid as root", "run: grid alone")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]*|(?<=[\[(])--[a-z][a-z-]*")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
SEPARATORS = {"|", "||", "&&", ";", "&"}
FAMILIAR = {"cat", "column", "echo", "export", "pip", "printf", "python3", "qconf", "qsub"}  # not ours
ELSEWHERE = {"PARTS", "REAL", "GRID_DIR", "GRID_REQUIRED", "ATTEMPT", "RUN", "PATH"}  # in no list


class Block(NamedTuple):
    page: Path
    line: int  # of its mode
    mode: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(PROJECT)}:{self.line}"


def pages() -> list[Path]:
    """All of them, those too that are not in git yet."""
    words = ["git", "-C", str(PROJECT), "ls-files", "-co", "--exclude-standard", "*.md"]
    return [PROJECT / name for name in subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()]


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, in its order."""
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match["mode"], match["language"],
              re.sub(f"^{match['indent']}", "", match["text"], flags=re.MULTILINE))
        for match in MARKED.finditer(text)
    ]  # fmt: skip


def unmarked(page: Path) -> list[str]:
    """Code of a page that no mode stands before: blocks between fences, and such as are indented by four."""
    rest = MARKED.sub("", page.read_text())
    return re.findall(r"^ *```.*$|(?<=\n\n) {4,}.*$", rest, re.MULTILINE)


def broken_code(page: Path) -> list[str]:
    """The lines of a page on which code between backticks begins or ends, and does not do both."""
    return [line for line in prose(page).splitlines() if line.count("`") % 2]


def prose(page: Path) -> str:
    """A page without its code blocks and comments."""
    return COMMENT.sub("", MARKED.sub("", page.read_text()))


# ---- commands


def commands(script: str) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Each simple command of a shell script: the variables set before it, and its words; redirections are left out.

    A line that says `export NAME=VALUE` is a command without words.
    """
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        tokens = list(lexer)
        while tokens:
            token = tokens.pop(0)
            if token in SEPARATORS:
                yield from simple(words)
                words = []
            elif set(token) <= set("<>&"):
                del tokens[0]
            else:
                words.append(token)
        yield from simple(words)


def simple(words: list[str]) -> Iterator[tuple[dict[str, str], list[str]]]:
    words = words[1:] if words[:1] == ["export"] else words
    settings = {}
    while words and (match := re.fullmatch(r"([A-Z_]+)=(.*)", words[0])):
        settings[match[1]] = match[2]
        words = words[1:]
    if settings or words:
        yield settings, words


def wrong(script: str, scratch: Path) -> list[str]:
    """What is wrong with the commands of a script, each in a line; it runs none, but `make -n` in `scratch`."""
    found = []
    for settings, words in commands(script):
        unknown = [f"no setting {name}" for name in settings if name not in known_settings()]
        found += [f"{shlex.join(words)}: {why}" for why in (*unknown, *filter(None, [amiss(words, scratch)]))]
    return found


def amiss(words: list[str], scratch: Path) -> str | None:
    """What is wrong with a command, None where it could be run."""
    if not words:
        return None
    program, arguments = words[0], words[1:]
    if program == "make":
        return amiss_make(arguments, scratch)
    scripts = [at for at, word in enumerate(arguments) if word.startswith("sge/")]
    if program == "qsub" and scripts:
        return amiss(arguments[scripts[0] :], scratch)
    if program in FAMILIAR:
        return None
    name = program.removeprefix("bin/")
    if (PROJECT / "bin" / name).is_file() and program in (name, f"bin/{name}"):
        return amiss_options(PROJECT / "bin" / name, arguments)
    if program == "tests/grid/sandbox":
        return amiss_options(PROJECT / program, arguments)
    if program.startswith("sge/"):
        names = [word.partition("=")[0] for word in arguments if re.match(r"[A-Z_]+=", word)]
        strange = [name for name in names if name not in known_settings()]
        return f"no setting {', '.join(strange)}" if strange else missing(program)
    if program in ("python", ".venv/bin/python"):
        if len(arguments) > 1 and arguments[1].startswith("depthfield."):
            module = f"lib/{arguments[1].replace('.', '/')}"
            return None if (PROJECT / f"{module}.py").exists() else missing(f"{module}/__main__.py")
        paths = [word for word in arguments if "/" in word]
        return next(filter(None, map(missing, paths)), None)
    return f"{program} is no program that pages name"


def missing(path: str) -> str | None:
    return None if (PROJECT / path).exists() else f"{path} is not there"


def amiss_options(command: Path, arguments: list[str]) -> str | None:
    """What a command's own help text says against these arguments."""
    text = command.read_text()
    if {"-h", "--help", "--version"} & set(arguments):
        return None
    try:
        usage = ast.get_docstring(ast.parse(text), clean=False)
        docopt.docopt(usage, arguments, default_help=False, options_first="options_first=" in text)
    except docopt.DocoptExit as error:
        return str(error).splitlines()[0]
    return None


def amiss_make(arguments: list[str], scratch: Path) -> str | None:
    names = [word.partition("=")[0] for word in arguments if "=" in word]
    if strange := [name for name in names if name not in known_settings()]:
        return f"no setting {', '.join(strange)}"
    done = subprocess.run(["make", "-n", *arguments], cwd=scratch, capture_output=True, text=True, timeout=60)
    return done.stderr.strip().splitlines()[-1] if done.returncode else None


def known_settings() -> set[str]:
    """The settings that the Makefile and cluster.sh name."""
    makefile, script = (PROJECT / name for name in ("Makefile", "sge/cluster.sh"))
    return ELSEWHERE | {
        *re.findall(r"^([A-Z_]+) +\?=", makefile.read_text(), re.MULTILINE),
        *re.findall(r"([A-Z_]+)=\$\{\1:-", script.read_text()),
    }


def options() -> set[str]:
    """Every option that a command of ours has."""
    texts = (path.read_text() for path in [*(PROJECT / "bin").iterdir(), PROJECT / "tests/grid/sandbox"])
    return {option for text in texts for option in OPTION.findall(text)}


def wrong_inline(page: Path, scratch: Path) -> list[str]:
    """What is wrong with the commands, options, settings and files that a page names between backticks."""
    found = [(code, why) for code in INLINE.findall(prose(page)) if (why := amiss_inline(code, scratch))]
    return [f"{page.relative_to(PROJECT)}: `{code}`: {why}" for code, why in found]


def amiss_inline(code: str, scratch: Path) -> str | None:
    """What is wrong with a piece of a page between backticks, None where it is right, or no command of ours."""
    program = code.partition(" ")[0].removeprefix("bin/")
    named = OPTION.findall(code)
    if (PROJECT / "bin" / program).is_file() and not re.match(r"bin/\S+ .*[^.]$", code):  # part of a command
        known = OPTION.findall((PROJECT / "bin" / program).read_text())
        return next((f"{program} has no {option}" for option in named if option not in known), None)
    if code.startswith("--") and named:
        return None if named[0] in options() else "no command has this option"
    if re.match(r"([A-Z_]+=\S+ )*(make|qsub|python|bin/\S+|sge/\S+|tests/grid/sandbox) \S", code):
        return None if code.endswith("...") else "; ".join(wrong(code, scratch))
    if re.fullmatch(r"(bin|lib|sge|tests)/[\w./-]*", code):
        return missing(code)
    if setting := re.fullmatch(r"([A-Z_]+)=\S*", code):
        return None if setting[1] in known_settings() else f"no setting {setting[1]}"
    return None


# ---- links


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    found: dict[str, int] = {}
    names = set()
    for heading in HEADING.findall(prose(page)):
        plain = LINK.sub(lambda match: match[0].partition("]")[0][1:], heading).replace("`", "").replace("\\", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        names.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] = found.get(slug, 0) + 1
    return names


def broken_links(page: Path) -> list[str]:
    """The relative links of a page that lead to no file, or to no heading of one."""
    found = []
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and (target.suffix != ".md" or anchor not in anchors(target))):
            found.append(f"{page.relative_to(PROJECT)}: {link}")
    return found


# ---- running


def scratch(folder: Path) -> Path:
    """A folder like the project's, with nothing in data/ and runs/: what is written there touches no other."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("Makefile", "bin", "lib", "sge", "tests", "pyproject.toml", "constraints.txt"):
        (folder / name).symlink_to(PROJECT / name)
    (folder / ".venv").mkdir()
    for path in (PROJECT / ".venv").iterdir():
        if path.name != "installed":
            (folder / ".venv" / path.name).symlink_to(path)
    (folder / ".venv/installed").touch()  # whatever the ages of the files are that it was made of
    (folder / "data").mkdir()
    (folder / "data/datasets.toml").symlink_to(PROJECT / "data/datasets.toml")
    return folder


def comes_in(expected: str, printed: str) -> str | None:
    """The first line of `expected` that does not come in `printed`, in its order; None where all come.

    Numbers and blanks may differ; `...` stands for anything.
    """
    left = iter(printed.splitlines())
    for line in filter(str.strip, expected.splitlines()):
        pattern = re.compile(".*".join(map(re.escape, like(line).split("..."))))
        if line.strip() != "..." and not any(pattern.fullmatch(like(other)) for other in left):
            return line
    return None


def like(line: str) -> str:
    """A line, its numbers and blanks all alike."""
    return re.sub(r"\d[\d.]*\d|\d", "0", " ".join(line.split()))
