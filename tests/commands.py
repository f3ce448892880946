"""Update the README's table of commands from their help texts: python tests/commands.py."""

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def rows() -> str:
    lines = ["| command | what it does |\n|---|---|\n"]
    for path in sorted((PROJECT / "bin").iterdir()):
        name, _, purpose = ast.get_docstring(ast.parse(path.read_text())).splitlines()[0].partition(": ")
        lines.append(f"| `{name}` | {purpose.rstrip('.')} |\n")
    return "".join(lines)


def main() -> None:
    readme = PROJECT / "README.md"
    table = re.compile(r"(<!-- commands -->\n).*(<!-- end of commands -->)", re.DOTALL)
    readme.write_text(table.sub(lambda match: match[1] + rows() + match[2], readme.read_text()))


if __name__ == "__main__":
    main()
