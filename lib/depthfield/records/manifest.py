"""Which patch files belong to a dataset: OUT/NAME.manifest names each, as train/00001.npz, one a line.

Patch files of earlier calls, made with another --test-share or --limit, may lie beside them. Needs no TensorFlow.
"""

import collections
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from depthfield import files
from depthfield.tool import Failure, say, some

SUFFIX = ".manifest"
PATTERN = f"[!.]*{SUFFIX}"  # a hidden one is being written


class Chosen(NamedTuple):
    """What is to be packed."""

    patches: dict[Path, set[Path]]  # the patch files of each OUT, all of them there
    whole: set[Path]  # each OUT of which all patch files are asked for
    refused: int  # how many files are missing, or were named and belong to no dataset


def write(out: Path, name: str, places: Iterable[str]) -> None:
    """Write OUT/NAME.manifest, whole or not at all; `places` are paths of patch files relative to `out`.

    Raises Failure where a patch file belongs to another manifest of `out`.
    """
    own, places = out / f"{name}{SUFFIX}", list(places)
    _join([*((own, place) for place in places), *(pair for pair in _named(out) if pair[0] != own)])
    files.write_text(own, "".join(f"{place}\n" for place in places))


def read(out: Path) -> set[Path]:
    """The patch files that the manifests of `out` name; Failure where there is no manifest, or two name the same."""
    if not any(out.glob(PATTERN)):
        raise Failure(f"{out}: no manifest says which patch files belong here; run make-patches")
    return {out / place for place in _join(_named(out))}


def choose(paths: Iterable[Path]) -> Chosen:
    """The patch files to pack of `paths`: patch files, and folders, which stand for all that their manifests name.

    What is missing, and what no manifest names, is told in a line for each folder and left out. Raises Failure for a
    file that is not there, and for one without a manifest.
    """
    chosen, whole, given, refused = {}, set(), collections.defaultdict(set), 0
    for path in paths:
        if path.is_dir():
            whole.add(path.resolve())
        elif path.is_file():
            given[path.resolve().parent.parent].add(path.resolve())
        else:
            raise Failure(f"{path}: no such file")
    for out in sorted(whole | given.keys()):
        belonging = read(out)
        others = given[out] - belonging
        refused += len(others)
        chosen[out] = given[out] & belonging
        if out in whole:
            chosen[out] = {path for path in belonging if path.is_file()}
            others |= set(out.glob("*/[!.]*.npz")) - belonging
            refused += len(belonging - chosen[out])
            _say_some(belonging - chosen[out], "missing; run make-patches")
        _say_some(others, "left out, in no manifest of make-patches")
    return Chosen(chosen, whole, refused)


def _named(out: Path) -> list[tuple[Path, str]]:
    """Each patch file that a manifest of `out` names, after the manifest."""
    manifests = sorted(out.glob(PATTERN))
    return [(path, place) for path in manifests for place in path.read_text(encoding="utf-8").splitlines()]


def _join(named: Iterable[tuple[Path, str]]) -> set[str]:
    """All patch files named; Failure where one is named twice."""
    owners: dict[str, Path] = {}
    for path, place in named:
        if owners.setdefault(place, path) != path:
            raise Failure(f"{owners[place]} and {path} both name {place}; give each data set an --out of its own")
    return set(owners)


def _say_some(paths: set[Path], what: str) -> None:
    if paths:
        say(f"{some(sorted(paths), 1)}: {what}")
