"""Depth maps that may hold values which mean no measurement: what a person is told, to say so or not."""

import math
from pathlib import Path

import numpy as np

from depthfield.samples import Doubts, images

# In 304 real maps of five cameras, where there was something through a door, the farthest began at most 1.97 times as
# far as all others ended. Marks such as 65.535 m lie five times as far as what is in a room.
APART = 2.5
FEWEST, MOST = 0.0001, 0.05  # shares of the measured pixels; more may be a true background, unless they are all equal


def of_depth(
    path: Path,
    scale: float | None,
    missing: float | None,
    depth_range: tuple[float, float] | None,
    usual: tuple[float, float] | None = None,
) -> Doubts:
    """What is doubtful about the depth map that images.read_depth reads by these options; raises tool.Failure as it.

    `usual` is where the median depth of such photos lies, metres, where that is known.
    """
    found = images.stored(path, scale)
    depth = images.in_metres(found, path, missing, depth_range)
    greatest = np.count_nonzero(found.values == found.greatest) if found.greatest and missing is None else 0
    median = float(np.nanmedian(depth)) if usual else None
    return Doubts(depth.size, greatest, far_apart(depth), median, usual)


def far_apart(depth: np.ndarray) -> tuple[float, float] | None:
    """Where all other depths end and the farthest begin, metres, if these are APART times as far; else None.

    depth is H×W metres, NaN for none. The farthest are at least the share FEWEST of what is measured, and at most MOST,
    or any number of one and the same value.
    """
    values = np.sort(depth[~np.isnan(depth)])
    fewest, most = math.ceil(values.size * FEWEST), math.floor(values.size * MOST)
    begins = np.arange(values.size - most, values.size - fewest + 1)
    same = np.searchsorted(values, values[-1])
    if values.size - same >= fewest:
        begins = np.append(begins, same)
    begins = begins[begins > 0]
    if not begins.size:
        return None
    begin = begins[np.argmax(values[begins] / values[begins - 1])]
    near, far = float(values[begin - 1]), float(values[begin])
    return (near, far) if far > APART * near else None
