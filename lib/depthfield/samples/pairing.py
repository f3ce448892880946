"""Photos and depth maps found by patterns of paths, and which of them belong together."""

import bisect
import math
import re
from collections.abc import Hashable, Set
from pathlib import Path
from typing import TypeVar

from depthfield import tool

PHOTO_SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))
DEPTH_SUFFIXES = frozenset((".npy", ".png"))
FIELD = re.compile(r"\{([A-Za-z]\w*)\}")

Key = TypeVar("Key", bound=Hashable)
Fields = tuple[str, ...]  # the text in each field of a pattern


def fields_of(pattern: str) -> Fields:
    """The names of the fields of a pattern, in order, each once."""
    return tuple(dict.fromkeys(FIELD.findall(pattern)))


def find(
    top: Path, pattern: str, fields: Fields, suffixes: frozenset[str], but: Set[Path] = frozenset()
) -> dict[Fields, Path]:
    """The files under `top` that match `pattern`, except those in `but`, by the text in the pattern's `fields`.

    A field `{name}` stands for a whole or part of a file or folder name; `*`, `?`, `[...]` and `**/` mean what they
    mean in the shell. Where the pattern ends in `.*`, only files with one of the `suffixes` count.

    Raises tool.UsageError for a pattern that is not valid, tool.Failure where two files have the same fields.
    """
    try:
        expression = re.compile(_expression(pattern))
        paths = sorted(top.glob(FIELD.sub("*", pattern)))
    except (re.error, ValueError, NotImplementedError) as error:
        raise tool.UsageError(f"{pattern!r} is no pattern: {error}") from error
    found: dict[Fields, Path] = {}
    for path in paths:
        match = expression.fullmatch(path.relative_to(top).as_posix())
        if not match or path in but or path.name.startswith(".") or not path.is_file():
            continue
        if pattern.endswith(".*") and path.suffix.lower() not in suffixes:
            continue
        key = tuple(match[field] for field in fields)
        if key in found:
            name = "-".join(key)
            raise tool.Failure(f"{path}: there is another {name!r}, {found[key]}: say which with --photos, --depths")
        found[key] = path
    return found


def _expression(pattern: str) -> str:
    """The regular expression of a pattern, each field a named group (a second time: the same text again)."""
    expression, seen = "", set()
    for part in re.split(r"(\{[A-Za-z]\w*\}|\*\*/|[*?]|\[!?[^]]+\])", pattern):
        if field := FIELD.fullmatch(part):
            name = field[1]
            expression += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)"
            seen.add(name)
        elif part.startswith("[") and part.endswith("]"):
            expression += part.replace("[!", "[^", 1)
        else:
            expression += {"**/": "(?:[^/]+/)*", "*": "[^/]*", "?": "[^/]"}.get(part) or re.escape(part)
    return expression


def by_name(photos: dict[Key, Path], depths: dict[Key, Path]) -> list[tuple[Key, Path, Path]]:
    """What has the same key in both, in the order of the keys: key, photo, depth map."""
    return [(name, photos[name], depths[name]) for name in sorted(photos.keys() & depths.keys())]


def nearest(photos: dict[str, Path], depths: dict[str, Path], tolerance: float) -> list[tuple[str, Path, Path]]:
    """Photo and depth map whose names are numbers at most `tolerance` apart, the closest first, each used once.

    In the order of the photos' names. Raises tool.Failure for a name that is not a number.
    """
    times = sorted((_number(name, path), name) for name, path in depths.items())
    candidates = []
    for name, path in photos.items():
        time = _number(name, path)
        for other, depth in times[bisect.bisect_left(times, (time - tolerance, "")) :]:
            if other > time + tolerance:
                break
            candidates.append((abs(other - time), name, depth))
    taken: dict[str, str] = {}
    used = set()
    for _, name, depth in sorted(candidates):
        if name not in taken and depth not in used:
            taken[name] = depth
            used.add(depth)
    return [(name, photos[name], depths[taken[name]]) for name in sorted(taken)]


def _number(name: str, path: Path) -> float:
    try:
        number = float(name)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise tool.Failure(f"{path}: {name!r} is no number, as pairing by the nearest needs")
    return number


def say_unpaired(photos: dict[Key, Path], depths: dict[Key, Path], pairs: list[tuple[Key, Path, Path]]) -> None:
    """Name on stderr the photos and depth maps that are in no pair."""
    paired = {path for _, *both in pairs for path in both}
    for found, missing in ((photos, "depth map"), (depths, "photo")):
        left = [str(path) for path in found.values() if path not in paired]
        if left:
            tool.say(f"left out, having no {missing}: {tool.some(left, 10)}")
