"""Every message that the code can print, and lib/messages.md, which explains them.

python tests/messages.py brings messages that were reworded up to date there, and names those that are new or gone.
"""

import ast
import difflib
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from shell import PROJECT

PAGE = PROJECT / "lib/messages.md"
SPEAKING = {"Failure", "UsageError", "Refused", "Unreachable", "say", "_say", "inform"}  # what takes a message
WHOLE = (ast.Constant, ast.JoinedStr, ast.BinOp)
ROW = re.compile(r"^\| (`.*?`) \| .* \|$", re.MULTILINE)
ANY = "…"  # what stands for a part that differs each time and has no name of its own
LETTERS = 8  # of its own that a message has at least; with fewer it only passes on what another one says
ALIKE = 0.6  # of 1: how similar two messages are that may be one, reworded


def rendered(node: ast.expr) -> str:
    """A message as the page shows it: a variable by its name in capitals, marked as one, a constant by its value."""

    def named(name: str) -> str:
        return constants().get(name, f"\x02{name.upper()}\x03")

    match node:
        case ast.Constant(value=str(text)):
            return re.sub(r"\{\d*\}", ANY, text)  # a field of str.format
        case ast.JoinedStr(values=parts):
            return "".join(rendered(part) for part in parts)
        case ast.FormattedValue(value=ast.Name(id=name)) | ast.FormattedValue(value=ast.Attribute(attr=name)):
            return named(name)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return rendered(left) + rendered(right)
    return ANY


def tidy(text: str) -> str:
    """One line, fit for a table between backticks. A name in capitals stays where it stands by itself."""
    text = re.sub(r"(?<![\w…\x03])\x02(\w+)\x03(?![\w…\x02])", r"\1", " ".join(text.split()))
    return re.sub(rf"({ANY}|\x02\w+\x03)+", ANY, text).replace("`", "'").replace("|", r"\|")


@functools.cache
def constants() -> dict[str, str]:
    """The texts and whole numbers that modules give names to; not such names as several modules give."""
    given: dict[str, set[str]] = {}
    for path in sources():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                for target in node.targets:
                    given.setdefault(ast.unparse(target), set()).add(str(node.value.value))
    return {name: values.pop() for name, values in given.items() if len(values) == 1}


def sources() -> list[Path]:
    return [*sorted((PROJECT / "lib/depthfield").rglob("*.py")), *sorted((PROJECT / "bin").iterdir())]


def own(text: str) -> int:
    """How many letters of a message are its own."""
    return len(re.findall(r"[a-z]", text))


def spoken(path: Path) -> Iterator[str]:
    """The messages that a file passes to what speaks to people, in its order."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call) and node.args]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        name = getattr(call.func, "attr", None) or getattr(call.func, "id", None)
        text = tidy(rendered(call.args[0]))
        if name in SPEAKING and own(text) >= LETTERS:
            yield text


def written(path: Path) -> Iterator[str]:
    """Every text in a file, whole: messages that are put together elsewhere are among them."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, WHOLE)]
    parts = {id(part) for node in nodes for part in ast.iter_child_nodes(node)}
    for node in nodes:
        if id(node) not in parts and own(text := tidy(rendered(node))) >= LETTERS:
            yield text


def explained() -> list[str]:
    """The messages that the page explains."""
    return [message for row in ROW.findall(PAGE.read_text()) for message in re.findall(r"`(.*?)`", row)]


def reworded(gone: set[str], new: set[str]) -> dict[str, str]:
    """Which of the messages that are gone are which of the new ones, the most alike first."""
    pairs = [(difflib.SequenceMatcher(None, old, text).ratio(), old, text) for old in gone for text in new]
    found: dict[str, str] = {}
    for ratio, old, text in sorted(pairs, reverse=True):
        if ratio >= ALIKE and old not in found and text not in found.values():
            found[old] = text
    return found


def main() -> None:
    """Bring the page up to date."""
    said = {text for path in sources() for text in spoken(path)}
    known = said | {text for path in sources() for text in written(path)}
    page, listed = PAGE.read_text(), set(explained())
    new, gone = said - listed, listed - known
    found = reworded(gone, new)
    found |= reworded(gone - found.keys(), known - listed - new)
    for old, text in sorted(found.items()):
        page = page.replace(f"`{old}`", f"`{text}`")
        print(f"reworded: {old}\n      to: {text}")
    PAGE.write_text(page)
    for word, texts in (("gone", gone - found.keys()), ("new", new - set(found.values()))):
        print("".join(f"{word:>8}: {text}\n" for text in sorted(texts)), end="")


if __name__ == "__main__":
    main()
