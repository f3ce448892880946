"""Manual pages in roff's man macros, made from help texts. They pass mandoc -Tlint and groff -ww without a warning."""

import importlib.metadata
import re
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from depthfield.manual.helptext import Help, Items, Literal, Paragraph

COLUMNS = 76
LAST = ("Environment", "Exit status", "Files", "Examples")  # in this order
ESCAPES = str.maketrans({"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"})
MARKUP = re.compile(r"`(?P<code>[^`]+)`|(?<![\w/.-])(?P<flag>--?[a-z][a-z-]*)|(?P<word>\b[A-Za-z][\w-]*\b)")


def of_command(help: Help, related: list[str], path: Path) -> str:
    """The page of a command whose file is `path`; `related` are the commands to see also."""
    mark = _Markup(help, related)
    sections = {section.title: section.blocks for section in help.sections}
    parts = [_head(help.name, 1, path), _section("NAME"), _wrap(f"{help.name} \\- {_text(help.purpose)}")]
    parts += [_section("SYNOPSIS"), *(_form(form) for form in help.usage)]
    if help.description:
        parts += [_section("DESCRIPTION"), *mark.blocks(help.description)]
    parts.append(_section("OPTIONS"))
    for name in [name for name in sections if "ptions" in name]:
        parts += [f".SS {name}\n"] * (name != "Options")
        parts += mark.blocks(sections[name])
    own = [name for name in sections if name not in LAST and "ptions" not in name]
    for name in (*own, *LAST):
        if name in sections:
            parts += [_section(name.upper()), *mark.blocks(sections[name])]
    return "".join([*parts, _see_also([*((name, 1) for name in related), ("depthfield", 7)])])


def overview(helps: Mapping[str, Help], path: Path) -> str:
    """The page of the project, depthfield(7): its commands."""
    about = importlib.metadata.metadata("depthfield")["Summary"]
    name = f"depthfield \\- {_text(about[0].lower() + about[1:])}"
    parts = [_head("depthfield", 7, path), _section("NAME"), _wrap(name), _section("DESCRIPTION")]
    for help in helps.values():
        parts.append(f".TP\n.BR {help.name.translate(ESCAPES)} (1)\n{_wrap(_text(help.purpose))}")
    parts.append(_see_also([(name, 1) for name in helps]))
    return "".join(parts)


def related(helps: Mapping[str, Help], texts: Mapping[str, str]) -> dict[str, list[str]]:
    """For each command, those that its help text names, and those whose help text names it."""
    names = {
        name: {other for other in helps if re.search(rf"(?<![\w-]){other}(?![\w-])", text)}
        for name, text in texts.items()
    }
    return {name: sorted({*names[name], *(o for o in helps if name in names[o])} - {name}) for name in helps}


def _head(name: str, section: int, path: Path) -> str:
    """The title line. The day is that of the file the page is made from, so that the same file gives the same page."""
    day = time.strftime("%Y-%m-%d", time.gmtime(path.stat().st_mtime))
    version = importlib.metadata.version("depthfield")
    return f'.TH {name.upper()} {section} {day} "depthfield {version}"\n'


def _section(name: str) -> str:
    return f".SH {name}\n"


def _see_also(pages: list[tuple[str, int]]) -> str:
    references = [f".BR {name.translate(ESCAPES)} ({section})" for name, section in pages]
    return _section("SEE ALSO") + " ,\n".join(references) + "\n"


def _form(form: str) -> str:
    """One form of the usage. An option stays on one line with its value."""
    name, _, rest = form.partition(" ")
    text = re.sub(r"(--?[\w-]+) (?=[A-Z])", "\\1\0", rest)
    text = re.sub(r"--?[a-z][\w-]*|-|[a-z]+|[A-Z][A-Z_=]*", _word_of_form, text).replace("\0", r"\~")
    return f".SY {name.translate(ESCAPES)}\n{_wrap(text)}.YS\n"


def _word_of_form(match: re.Match) -> str:
    if match[0] == "options":
        return r"\fIoptions\fR"
    return f"\\f{'I' if match[0].isupper() else 'B'}{match[0].translate(ESCAPES)}\\fR"


class _Markup:
    """Sets off what a help text names: options and commands bold, names of values italic."""

    def __init__(self, help: Help, related: list[str]):
        self.bold = {help.name, *related}
        self.italic = {word for option in help.options if option.value for word in re.findall("[A-Z_]+", option.value)}
        self.italic |= set(help.arguments)

    def blocks(self, blocks: tuple[Paragraph | Items | Literal, ...]) -> Iterator[str]:
        for number, block in enumerate(blocks):
            match block:
                case Paragraph(text):
                    yield ".PP\n" * (number > 0) + _wrap(self.text(text))
                case Items(rows):
                    for term, text in rows:
                        yield f".TP\n{_safe(self.term(term))}\n{_wrap(self.text(text))}"
                case Literal(lines):
                    yield ".PP\n" * (number > 0) + ".EX\n" + "".join(f"{_safe(_plain(s))}\n" for s in lines) + ".EE\n"

    def text(self, text: str) -> str:
        """Prose with what it names set off."""
        done, parts = 0, []
        for match in MARKUP.finditer(text):
            parts += [_text(text[done : match.start()]), self.marked(match)]
            done = match.end()
        return "".join([*parts, _text(text[done:])])

    def marked(self, match: re.Match) -> str:
        if match["code"] or match["flag"] or match["word"] in self.bold:
            return rf"\fB{_plain(match['code'] or match[0])}\fR"
        return rf"\fI{match[0]}\fR" if match["word"] in self.italic else _text(match[0])

    def term(self, term: str) -> str:
        """What is explained: an option with its value, a status, a file."""
        if not term.startswith("-"):
            return rf"\fB{_plain(term)}\fR"
        return re.sub(r"--?[\w-]+|[^\s,]+", lambda m: f"\\f{'B' if m[0][0] == '-' else 'I'}{_plain(m[0])}\\fR", term)


def _plain(text: str) -> str:
    """Text as it is, every character meant: in ASCII, for roff's input has no agreed encoding."""
    return "".join(c if ord(c) < 127 else f"\\[u{ord(c):04X}]" for c in text.translate(ESCAPES))


def _text(text: str) -> str:
    """The same for prose, where a hyphen between words is one."""
    return _plain(text).replace(r"\-", "-")


def _wrap(text: str) -> str:
    lines = textwrap.wrap(text, COLUMNS, break_long_words=False, break_on_hyphens=False)
    return "".join(f"{_safe(line)}\n" for line in lines)


def _safe(line: str) -> str:
    """A line that begins with a dot or a quote would be taken for a macro."""
    return rf"\&{line}" if line[:1] in (".", "'") else line
