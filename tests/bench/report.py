"""What a benchmark prints and writes: a row each, measured beside its bar."""

import json
from pathlib import Path
from typing import NamedTuple

from shell import PROJECT


class Row(NamedTuple):
    row: str
    measured: float
    bar: float | None  # None: it is shown beside the others
    least: bool = False  # the bar is the least that is good, not the greatest

    @property
    def ok(self) -> bool:
        if self.bar is None:
            return True
        return self.measured >= self.bar if self.least else self.measured <= self.bar


def tell(name: str, rows: list[Row], more: dict) -> int:
    """Print the rows and write them, with what else was measured, to build/bench/NAME.json; 1 where one is short."""
    print("row, measured, bar, ok|short")
    for row in rows:
        bar = "-" if row.bar is None else f"{row.bar:.4g}"
        print(f"{row.row}: {row.measured:.4g}, {bar}, {'ok' if row.ok else 'short'}")
    told = [row._asdict() | {"ok": row.ok} for row in rows]
    path = PROJECT / f"build/bench/{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rows": told} | more, indent=1) + "\n")
    return 0 if all(row.ok for row in rows) else 1


def results(name: str) -> Path:
    """Where a benchmark keeps what took long, so that it can go on where it was."""
    folder = PROJECT / "build/bench" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
