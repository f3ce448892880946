"""Pictures in a terminal: two pixels a character cell, one above the other, in blocks of colour."""

import os
import shutil
import sys
from collections.abc import Iterator

import numpy as np

from depthfield.tool import Failure

BLOCK = "▀"  # its ink is the upper pixel, its paper the lower one
RESET = "\x1b[0m"
# The 256 colours: 16 that users choose themselves, a cube of 6×6×6 of these levels, then 24 greys, 10 apart.
LEVELS = np.array([0, 95, 135, 175, 215, 255])
CUBE, GREYS = 16, 232  # the numbers that they begin with


def size() -> tuple[int, int]:
    """The terminal's width and height in character cells: of COLUMNS and LINES, or else of stdout."""
    return tuple(shutil.get_terminal_size())


def check() -> None:
    """Raise Failure where the terminal of stdout cannot show a picture, with the reason."""
    instead = "write a PNG with --out FILE"
    if os.environ.get("NO_COLOR"):
        raise Failure(f"NO_COLOR is set, and without colours a terminal shows no picture: unset it, or {instead}")
    if os.environ.get("TERM", "") in ("", "dumb"):
        raise Failure(f"this terminal (TERM={os.environ.get('TERM', '')}) has no colours: {instead}")
    try:
        BLOCK.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        raise Failure(f"{BLOCK!a} is not in this terminal's encoding, {sys.stdout.encoding}: {instead}") from None


def true_colour() -> bool:
    """Whether the terminal has 24 bits of colour, as COLORTERM says; else it has 256 colours."""
    return os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit")


def lines(picture: np.ndarray, true: bool) -> Iterator[str]:
    """A picture, uint8 H×W×3 with H even, as H/2 lines of W cells, in 24 bits of colour or in 256 colours."""
    codes = [[";".join(map(str, code)) for code in row] for row in (exact if true else nearest)(picture).tolist()]
    for upper, lower in zip(codes[::2], codes[1::2], strict=True):
        line, before = [], None
        for cell in zip(upper, lower, strict=True):
            if cell != before:
                line.append(f"\x1b[38;{cell[0]};48;{cell[1]}m")
            line.append(BLOCK)
            before = cell
        yield "".join(line) + RESET


def exact(picture: np.ndarray) -> np.ndarray:
    """The codes of 24-bit colours, int H×W×4: 2, red, green, blue."""
    return np.concatenate([np.full((*picture.shape[:2], 1), 2), picture], axis=2)


def nearest(picture: np.ndarray) -> np.ndarray:
    """The codes of the nearest of the 256 colours, int H×W×2: 5 and the colour's number."""
    pixels = picture.astype(np.int64)
    level = np.abs(pixels[..., None] - LEVELS).argmin(axis=-1)
    shade = np.clip(np.rint((pixels.mean(axis=2) - 8) / 10), 0, 23).astype(np.int64)
    to_cube = ((LEVELS[level] - pixels) ** 2).sum(axis=2)
    to_grey = (((8 + 10 * shade)[..., None] - pixels) ** 2).sum(axis=2)
    number = np.where(to_cube <= to_grey, CUBE + level @ [36, 6, 1], GREYS + shade)
    return np.stack([np.full_like(number, 5), number], axis=2)
