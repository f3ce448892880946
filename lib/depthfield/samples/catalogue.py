"""The catalogue of datasets, `data/datasets.toml`: their files, sources and readers."""

import os
import re
import tomllib
import typing
from pathlib import Path
from typing import NamedTuple

from depthfield import tool

ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # of a file or folder: no slash, no leading dot
OURS = Path(__file__).resolve().parents[3] / "data" / "datasets.toml"


class File(NamedTuple):
    """One file to download."""

    name: str
    address: str
    size: int | None = None  # bytes
    sha256: str | None = None
    unpack: bool = False
    optional: bool = False  # the dataset is complete without it

    @property
    def folder(self) -> str:
        """The name of the folder for an archive: its own name without the suffix."""
        return self.name.removesuffix(next((suffix for suffix in ARCHIVES if self.name.endswith(suffix)), ""))


class Dataset(NamedTuple):
    """One dataset: either files to download, or `rendered` on this machine."""

    name: str
    title: str
    holds: str
    licence: str
    reader: str  # the module of depthfield.samples that reads its raw/ folder
    citation: str = ""
    page: str = ""
    bytes_about: int | None = None
    rendered: bool = False
    files: tuple[File, ...] = ()

    @property
    def size(self) -> int | None:
        """The total bytes of its files: exact if all are known, else approximate, else None."""
        sizes = [file.size for file in self.files]
        return self.bytes_about if None in sizes else sum(sizes)


def read(path: Path | None = None) -> dict[str, Dataset]:
    """Read the datasets by name from `path`, or else from the file $DATASETS, or else from the project's catalogue.

    Raises tool.Failure, naming the entry, if the file is missing, not TOML, or not a valid catalogue.
    """
    path = Path(path or os.environ.get("DATASETS") or OURS)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise tool.Failure(f"no catalogue: {tool.reason(error)}") from None
    except ValueError as error:  # invalid TOML or UTF-8
        raise tool.Failure(f"{path}: {error}") from None
    return {name: _dataset(name, table, path) for name, table in tables.items()}


def as_table(datasets: list[Dataset]) -> str:
    """Format datasets as text: one line per dataset, then the details of each."""
    rows = [("NAME", "SIZE", "WHAT", "LICENCE")]
    details = []
    for dataset in datasets:
        about = "about " * (None in [file.size for file in dataset.files])
        size = "rendered" if dataset.rendered else f"{about}{in_words(dataset.size)}" if dataset.size else "unknown"
        rows.append((dataset.name, size, dataset.title, dataset.licence))
        lines = [("holds", dataset.holds), ("cite", dataset.citation), ("see", dataset.page)]
        lines += [("file", file.address + f" ({in_words(file.size or 0)})" * bool(file.size)) for file in dataset.files]
        details += ["", dataset.name, *(f"  {label:<7}{value}" for label, value in lines if value)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(table + details) + "\n"


def in_words(size: float) -> str:
    """Format bytes in powers of 1000: `2.97 GB`."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} PB"


def _dataset(name: str, table: object, path: Path) -> Dataset:
    where = f"{path}: [{name}]"
    if not isinstance(table, dict) or not PLAIN_NAME.fullmatch(name):
        raise tool.Failure(f"{where}: a catalogue has one table per dataset, with a plain name")
    listed = table.pop("files", [])
    if not isinstance(listed, list) or not all(isinstance(file, dict) for file in listed):
        raise tool.Failure(f"{where}: files must be a list of tables, [[{name}.files]]")
    files = tuple(_entry(File, file, f"{where}, file {number}") for number, file in enumerate(listed, start=1))
    dataset = _entry(Dataset, {"name": name, **table, "files": files}, where)
    if bool(files) == dataset.rendered:
        raise tool.Failure(f"{where}: needs either files or rendered = true")
    taken = set()
    for file in files:
        if not PLAIN_NAME.fullmatch(file.name):
            raise tool.Failure(f"{where}: {file.name!r} is not a plain file name")
        if file.unpack and file.folder == file.name:
            raise tool.Failure(f"{where}: {file.name} cannot be unpacked: its suffix is none of {', '.join(ARCHIVES)}")
        lands = file.folder if file.unpack else file.name
        if lands in taken:
            raise tool.Failure(f"{where}: two files would become raw/{lands}")
        taken.add(lands)
        if file.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", file.sha256):
            raise tool.Failure(f"{where}: {file.name}: sha256 takes 64 hexadecimal digits in lower case")
    return dataset


def _entry(kind: type, values: dict, where: str) -> NamedTuple:
    """Convert `values` to a `File` or `Dataset`; each key must be known, each value of its type, and none missing."""
    hints = typing.get_type_hints(kind)
    for key, value in values.items():
        if key not in hints:
            raise tool.Failure(f"{where}: unknown key {key!r}; there are {', '.join(hints)}")
        if isinstance(value, bool) != (hints[key] is bool) or (key != "files" and not isinstance(value, hints[key])):
            raise tool.Failure(f"{where}: {key} = {value!r} has the wrong type")
    missing = [key for key in hints if key not in values and key not in kind._field_defaults]
    if missing:
        raise tool.Failure(f"{where}: {', '.join(missing)} missing")
    return kind(**values)
