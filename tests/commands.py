"""Update tables of pages from the code: python tests/commands.py.

The commands in README.md come from their help texts, and the paper's scores in lib/recipes/README.md from
depthfield.published.
"""

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def commands() -> str:
    lines = ["| command | what it does |\n|---|---|\n"]
    for path in sorted((PROJECT / "bin").iterdir()):
        name, _, purpose = ast.get_docstring(ast.parse(path.read_text())).splitlines()[0].partition(": ")
        lines.append(f"| `{name}` | {purpose.rstrip('.')} |\n")
    return "".join(lines)


def published() -> str:
    from depthfield import published, scoring

    lines = [f"| protocol | method | {' | '.join(scoring.METRICS)} | source |\n|---|---|{'---|' * 7}\n"]
    for protocol, rows in published.ROWS.items():
        for row in rows:
            values = [f"{value:.2f}" if value > 5 else f"{value:.3f}".lstrip("0") for value in row.values]
            cells = [f"`{protocol}`", row.method, *values, *["–"] * (len(scoring.METRICS) - len(values)), row.source]
            lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


TABLES = {"README.md": commands, "lib/recipes/README.md": published}


def updated(name: str) -> str:
    """The text of a page with its table as the code has it."""
    what = TABLES[name].__name__
    table = re.compile(rf"(<!-- {what} -->\n).*(<!-- end of {what} -->)", re.DOTALL)
    text, count = table.subn(lambda match: match[1] + TABLES[name]() + match[2], (PROJECT / name).read_text())
    assert count == 1, name
    return text


def main() -> None:
    for name in TABLES:
        (PROJECT / name).write_text(updated(name))


if __name__ == "__main__":
    main()
