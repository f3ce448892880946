"""The help text of a command, in its parts.

A help text is a line `NAME: PURPOSE.`, then paragraphs and sections. A section begins with one or two words and a colon
at the left margin, such as `Options:`; what belongs to it is indented.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from depthfield.home import COMMANDS

HEADING = re.compile(
    r"(?P<title>Exit status(?=: )|[A-Z][a-z-]+|[A-Z][a-z-]+ [a-z-]+|Options for [^:(]+)"
    r"(?P<note> \([^)]+\))?:(?P<rest>(?<=status:) .+)?"
)
PROSE = 80  # columns that indented lines fill only if they are text
FLAG_OR_VALUE = re.compile(r"--?[\w-]+|[^\s,=]\S*")  # of an option's term: -j, --jobs N
LITERAL = ("Usage", "Examples")


class Paragraph(NamedTuple):
    text: str


class Items(NamedTuple):
    """Terms with what each means, such as options."""

    rows: tuple[tuple[str, str], ...]


class Literal(NamedTuple):
    """Lines to show as they are."""

    lines: tuple[str, ...]


class Section(NamedTuple):
    title: str
    blocks: tuple[Paragraph | Items | Literal, ...]


class Option(NamedTuple):
    """`flags` are its spellings, `value` the name of its value, None if it takes none."""

    flags: tuple[str, ...]
    value: str | None
    text: str
    repeats: bool


class Help(NamedTuple):
    name: str
    purpose: str
    usage: tuple[str, ...]  # each form in one line
    description: tuple[Paragraph | Items | Literal, ...]
    sections: tuple[Section, ...]  # all but Usage
    options: tuple[Option, ...]
    arguments: tuple[str, ...]  # names of positional arguments, such as PHOTO
    words: tuple[str, ...]  # that are written as they are: the ps and worker of keep-node


def of_commands() -> dict[str, Help]:
    """The help texts of all commands by name."""
    return {path.name: parse(docstring(path)) for path in sorted(COMMANDS.iterdir()) if path.is_file()}


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def parse(text: str) -> Help:
    """The parts of a help text. Raises ValueError if it has no first line or no usage."""
    first, *lines = inspect.cleandoc(text).splitlines()
    name, colon, purpose = first.partition(": ")
    description: list[Paragraph | Items | Literal] = []
    sections: list[Section] = []
    inside = False  # a section
    for group in _groups(lines):
        heading = HEADING.fullmatch(group[0])
        if heading:
            body = ([heading["rest"].strip()] if heading["rest"] else []) + group[1:]
            title = {"Example": "Examples"}.get(heading["title"], heading["title"])
            note = [Paragraph(heading["note"].strip(" ()"))] if heading["note"] else []
            sections.append(Section(title, (*note, *_blocks(body, title in LITERAL))))
            inside = True
        elif inside and group[0].startswith(" "):
            title, blocks = sections[-1]
            sections[-1] = Section(title, (*blocks, *_blocks(group, title in LITERAL)))
        else:
            description += _blocks(group, literal=False)
            inside = False
    usage = tuple(
        form for title, blocks in sections if title == "Usage" for block in blocks for form in _forms(name, block)
    )
    if not colon or not usage:
        raise ValueError(f"{first!r} does not begin a help text: it needs NAME: PURPOSE, and Usage:")
    options = tuple(_options(sections, " ".join(usage)))
    arguments, words = _operands(usage, options)
    sections = tuple(section for section in sections if section.title != "Usage")
    return Help(name, purpose.rstrip("."), usage, tuple(description), sections, options, arguments, words)


def _groups(lines: list[str]) -> Iterator[list[str]]:
    """Runs of lines without a blank one."""
    group: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            group.append(line)
        elif group:
            yield group
            group = []


def _blocks(lines: list[str], literal: bool) -> Iterator[Paragraph | Items | Literal]:
    """Lines at the margin are a paragraph; indented ones are items in two columns, long text, or else literal."""
    starts = [0] + [at for at, (one, two) in enumerate(pairwise(lines), 1) if one[:1].isspace() != two[:1].isspace()]
    for start, end in pairwise([*starts, len(lines)]):
        part = lines[start:end]
        if not part:
            continue
        if not part[0][:1].isspace():
            yield Paragraph(" ".join(line.strip() for line in part))
            continue
        part = inspect.cleandoc("\n" + "\n".join(part)).splitlines()
        if literal:
            yield Literal(tuple(part))
            continue
        if part[0].endswith(":") and len(part) > 1 and not part[1].startswith(" "):
            yield Paragraph(part.pop(0))
        if rows := _rows(part):
            yield Items(tuple(rows))
        elif len(part) > 1 and min(map(len, part[:-1])) >= PROSE:
            yield Paragraph(" ".join(part))
        else:
            yield Literal(tuple(part))


def _rows(lines: list[str]) -> list[tuple[str, str]] | None:
    """Lines in two columns as pairs; a long term has its text below it. None if they are not in columns."""
    rows: list[tuple[str, str]] = []
    for line in lines:
        if line.startswith(" "):
            term, text = rows[-1]
            rows[-1] = (term, f"{text} {line.strip()}".strip())
            continue
        term, _, text = line.partition("  ")
        if re.match(r"\d+ ", term):  # a status that is as wide as its column
            term, _, text = line.partition(" ")
        rows.append((term, text.strip()))
    return rows if all(text for _, text in rows) else None


def _forms(name: str, block: Paragraph | Items | Literal) -> Iterator[str]:
    """Each form of the usage in one line."""
    if isinstance(block, Literal):
        for form in re.split(rf"(?m)^{re.escape(name)}(?=\s|$)", "\n".join(block.lines))[1:]:
            yield f"{name} {' '.join(form.split())}".strip()


def _options(sections: list[Section], usage: str) -> Iterator[Option]:
    for section in sections:
        if "ptions" not in section.title:
            continue
        for term, text in (row for block in section.blocks if isinstance(block, Items) for row in block.rows):
            words = FLAG_OR_VALUE.findall(term)
            flags = tuple(word for word in words if word.startswith("-"))
            value = next((word for word in words if not word.startswith("-")), None)
            repeats = re.search(rf"{re.escape(flags[-1])}(?: \S+?)?[\])]\.\.\.", usage) is not None
            yield Option(flags, value, text, repeats)


def _operands(usage: tuple[str, ...], options: tuple[Option, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The positional arguments, and the words, of all forms, in the order in which they come."""
    with_value = {flag for option in options for flag in option.flags if option.value}
    arguments: dict[str, None] = {}
    words: dict[str, None] = {}
    for form in usage:
        previous = ""
        for word in re.findall(r"[^\s\[\]()|.]+", form)[1:]:
            if previous in with_value:
                previous = ""
                continue
            previous = word
            if not word.startswith("-") and word != "options":
                (arguments if word.isupper() else words)[word] = None
    return tuple(arguments), tuple(words)
