"""Find values in depth maps that may mean no measurement, so that a person can decide."""

import math
from pathlib import Path

import numpy as np

from depthfield.samples import Doubts, images

# In 304 real maps of five cameras, with views through doors, far depths started at most 1.97 times as far as all others
# ended. Marks such as 65.535 m are five times as far as the objects in a room.
APART = 2.5
FEWEST, MOST = 0.0001, 0.05  # shares of the measured pixels; more may be a real background, unless all are equal


def of_depth(
    path: Path,
    scale: float | None,
    missing: float | None,
    depth_range: tuple[float, float] | None,
    usual: tuple[float, float] | None = None,
) -> Doubts:
    """Return the doubts about a depth map that images.read_depth reads with these options; raises like it.

    `usual` is the usual range of the median depth of such photos, in metres, if it is known.
    """
    found = images.stored(path, scale)
    depth = images.in_metres(found, path, missing, depth_range)
    greatest = np.count_nonzero(found.values == found.greatest) if found.greatest and missing is None else 0
    median = float(np.nanmedian(depth))
    return Doubts(depth.size, greatest, far_apart(depth), median, usual)


def far_apart(depth: np.ndarray) -> tuple[float, float] | None:
    """Return where all other depths end and the far ones start, in metres, if they are APART times as far; else None.

    depth is H×W metres, NaN for none. Far depths are a share of FEWEST to MOST of the measured pixels, or any number of
    pixels with the same value.
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
