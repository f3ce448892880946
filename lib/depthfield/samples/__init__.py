"""Photos with measured depth, from datasets in any layout.

A dataset is a module with one function, `samples(raw, ...)`, which yields a `Sample` for each photo of a folder
without reading its pixels yet.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Doubts(NamedTuple):
    """Possible problems of a depth map, for a person to judge."""

    pixels: int = 0  # pixels of the depth map
    greatest: int = 0  # pixels with the largest value of the format, which count as no measurement
    apart: tuple[float, float] | None = None  # metres: the end of all other depths, and the start of the far ones
    median: float | None = None  # metres, of a folder's depth maps
    usual: tuple[float, float] | None = None  # metres: the usual range of the median depth of such photos


class Sample(NamedTuple):
    """One photo with its depth, not read yet; can be sent to another process."""

    name: str  # a file name without suffix, unique in its split
    split: str  # "train" or "test"
    source: str  # where it comes from, for people: "nyu_depth_v2_labeled.mat#17"
    group: str  # photos of a group show the same place and are held out together
    inputs: tuple[str, ...]  # the files that it is read from
    read: Callable[[], tuple[np.ndarray, np.ndarray]]
    """Returns the photo, uint8 H×W×3 RGB, and its depth, float32 H×W metres along the optical axis, NaN without
    measurement. Raises tool.Failure naming the file if either cannot be used."""
    reading: str = ""  # the options that its depth is read with; with others it is another sample
    doubts: Callable[[], Doubts] = Doubts  # checks its depth, which is read again
