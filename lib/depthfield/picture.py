"""Depth and uncertainty as coloured pictures, for people."""

import numpy as np
from PIL import Image, ImageDraw

# Near is light, far is dark; seven anchors of viridis, which is even to the eye and safe for the colour-blind
# (van der Walt and Smith 2015, CC0).
ANCHORS = np.array(
    [[253, 231, 37], [144, 215, 67], [53, 183, 121], [33, 145, 140], [49, 104, 142], [68, 57, 131], [68, 1, 84]]
)
UNMEASURED = (0, 0, 0)


def coloured(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """A map, float H×W, as uint8 H×W×3, from `low` (yellow) to `high` (violet); NaN is black."""
    position = np.clip((np.nan_to_num(values) - low) / max(high - low, 1e-9), 0, 1) * (len(ANCHORS) - 1)
    channels = [np.interp(position, np.arange(len(ANCHORS)), ANCHORS[:, channel]) for channel in range(3)]
    picture = np.stack(channels, axis=-1).round().astype(np.uint8)
    picture[np.isnan(values)] = UNMEASURED
    return picture


def span(*maps: np.ndarray) -> tuple[float, float]:
    """The 2nd and 98th percentile of the values of several maps, to colour them alike."""
    values = np.concatenate([np.ravel(values) for values in maps])
    values = values[~np.isnan(values)]
    return tuple(np.percentile(values, (2, 98))) if len(values) else (0.0, 1.0)


def panel(
    photo: np.ndarray, truth: np.ndarray, depth: np.ndarray, sigma: np.ndarray, calibrated: bool
) -> np.ndarray:
    """photo | truth | prediction | uncertainty side by side, uint8 H×(4W + gaps)×3.

    photo uint8 H×W×3; the others float H×W metres, NaN where there is none. Truth and prediction share their colours;
    the uncertainty is relative, sigma / depth, from yellow at 0 to violet at 0.5, and marked where it is not
    `calibrated`.
    """
    low, high = span(truth, depth)
    gap = np.full((photo.shape[0], 4, 3), 255, np.uint8)
    parts = [photo, gap, coloured(truth, low, high), gap, coloured(depth, low, high), gap]
    uncertainty = Image.fromarray(coloured(sigma / depth, 0, 0.5))
    if not calibrated:
        ImageDraw.Draw(uncertainty).text((4, 4), "not calibrated", "white", stroke_width=1, stroke_fill="black")
    return np.concatenate([*parts, np.asarray(uncertainty)], axis=1)
