"""Manifests: OUT/NAME.manifest lists the patch files of a dataset, such as train/00001.npz, one per line.

Patch files of earlier calls, with another --test-share or --limit, may lie beside them. Needs no TensorFlow.
"""

import collections
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from depthfield import files
from depthfield.tool import Failure, say, some

SUFFIX = ".manifest"
PATTERN = f"[!.]*{SUFFIX}"  # a hidden file is being written


class Chosen(NamedTuple):
    """The patch files to pack."""

    patches: dict[Path, set[Path]]  # the existing patch files of each OUT
    whole: set[Path]  # each OUT that is packed as a whole
    refused: int  # number of files that are missing, or given but in no manifest


def write(out: Path, name: str, places: Iterable[str]) -> None:
    """Write OUT/NAME.manifest, whole or not at all; `places` are paths of patch files relative to `out`.

    Raises Failure if a patch file is in another manifest of `out`.
    """
    own, places = out / f"{name}{SUFFIX}", list(places)
    _join([*((own, place) for place in places), *(pair for pair in _named(out) if pair[0] != own)])
    files.write_text(own, "".join(f"{place}\n" for place in places))


def read(out: Path) -> set[Path]:
    """Return the patch files in the manifests of `out`; raises Failure if there is none, or two list the same file."""
    if not any(out.glob(PATTERN)):
        raise Failure(f"{out}: no manifest lists its patch files; run make-patches")
    return {out / place for place in _join(_named(out))}


def choose(paths: Iterable[Path]) -> Chosen:
    """Return the patch files to pack from `paths`: patch files, and folders, which stand for all in their manifests.

    Missing files and files in no manifest are left out, with a line per folder on stderr. Raises Failure if a file does
    not exist or has no manifest.
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
        _say_some(others, "left out, because no manifest of make-patches lists it")
    return Chosen(chosen, whole, refused)


def _named(out: Path) -> list[tuple[Path, str]]:
    """Return each patch file in a manifest of `out`, after the manifest."""
    manifests = sorted(out.glob(PATTERN))
    return [(path, place) for path in manifests for place in path.read_text(encoding="utf-8").splitlines()]


def _join(named: Iterable[tuple[Path, str]]) -> set[str]:
    """Return all listed patch files; raises Failure if one is listed twice."""
    owners: dict[str, Path] = {}
    for path, place in named:
        if owners.setdefault(place, path) != path:
            raise Failure(f"{owners[place]} and {path} both list {place}; give each dataset its own --out")
    return set(owners)


def _say_some(paths: set[Path], what: str) -> None:
    if paths:
        say(f"{some(sorted(paths), 1)}: {what}")
