"""Photos with measured depth, whatever they were stored as.

A dataset is a module with one function, `samples(raw, ...)`, that yields a `Sample` for each photo of a folder
without reading its pixels yet.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Doubts(NamedTuple):
    """What may be wrong with a depth map, for a person to decide."""

    pixels: int = 0  # of the depth map
    greatest: int = 0  # of these, taken for no measurement because they hold the greatest value of the format
    apart: tuple[float, float] | None = None  # metres: where all others end and the farthest, far from them, begin
    median: float | None = None  # metres, where the next is known
    usual: tuple[float, float] | None = None  # metres: where the median depth of such photos lies


class Sample(NamedTuple):
    """One photo with its depth, not read yet; can be sent to another process."""

    name: str  # a file name without suffix, unique in its split
    split: str  # "train" or "test"
    source: str  # where it came from, for people: "nyu_depth_v2_labeled.mat#17"
    group: str  # photos of one group show the same place: they are held out for validation together
    inputs: tuple[str, ...]  # the files it is read from
    read: Callable[[], tuple[np.ndarray, np.ndarray]]
    """Gives the photo, uint8 H×W×3 RGB, and its depth, float32 H×W metres along the optical axis, NaN where there is
    no measurement. Raises tool.Failure naming the file where either cannot be used."""
    reading: str = ""  # by what options its depth is read: by others it is another sample
    doubts: Callable[[], Doubts] = Doubts  # about its depth; reads it again
