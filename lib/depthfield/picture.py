"""Depth, uncertainty, superpixels and pairs as pictures, for people."""

import itertools
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colours = tuple[tuple[int, int, int], ...]  # at even distances from one end of a scale to the other

# Near is light, far is dark; seven anchors of viridis, which is even to the eye and safe for the colour-blind
# (van der Walt and Smith 2015, CC0).
DEPTHS: Colours = (
    (253, 231, 37), (144, 215, 67), (53, 183, 121), (33, 145, 140), (49, 104, 142), (68, 57, 131), (68, 1, 84),
)  # fmt: skip
# Small is light, large is dark, in another hue than depths; seven anchors of amp, which is even to the eye (cmocean,
# Thyng and others 2016, MIT licence), without its darkest 15 %: black is for what was not measured.
ERRORS: Colours = (
    (241, 237, 236), (225, 194, 185), (212, 153, 133), (199, 112, 83), (184, 67, 43), (156, 24, 39), (110, 14, 38),
)  # fmt: skip
UNMEASURED = (0, 0, 0)
BOUNDARY = (255, 225, 0)
INK, PAPER = "#222222", "white"
DARKENED = 0.25  # of a photo's brightness, behind lines


def coloured(values: np.ndarray, low: float, high: float, colours: Colours = DEPTHS) -> np.ndarray:
    """A map, float H×W, as uint8 H×W×3, in `colours` from `low` to `high`; NaN is black.

    `low` may be the greater of the two.
    """
    position = np.clip((np.nan_to_num(values) - low) / ((high - low) or 1e-9), 0, 1) * (len(colours) - 1)
    channels = [np.interp(position, np.arange(len(colours)), channel) for channel in zip(*colours, strict=True)]
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
    """photo | truth | prediction | uncertainty side by side with their scale bars, uint8 H×W'×3.

    photo uint8 H×W×3; the others float H×W metres, NaN where there is none. Truth and prediction share their colours
    and a bar in metres; the uncertainty is relative, sigma / depth, with a bar in percent, and marked where it is not
    `calibrated`.
    """
    low, high = span(truth, depth)
    height = photo.shape[0]
    gap = np.full((height, 4, 3), 255, np.uint8)
    percent = 100 * sigma / depth
    ends = span(percent)
    uncertainty = Image.fromarray(coloured(percent, *ends, ERRORS))
    if not calibrated:
        ImageDraw.Draw(uncertainty).text((4, 4), "not calibrated", "white", stroke_width=1, stroke_fill="black")
    parts = [photo, gap, coloured(truth, low, high), gap, with_scale_bar(depth, low, high)]
    return np.concatenate([*parts, np.asarray(uncertainty), scale_bar(height, *ends, "%", ERRORS)], axis=1)


# ---- a scale bar


def with_scale_bar(depth: np.ndarray, low: float, high: float) -> np.ndarray:
    """A depth map, float H×W metres, coloured from `low` to `high`, and its scale bar on the right; uint8 H×(W+w)×3."""
    return np.concatenate([coloured(depth, low, high), scale_bar(depth.shape[0], low, high)], axis=1)


def scale_bar(height: int, low: float, high: float, unit: str = "m", colours: Colours = DEPTHS) -> np.ndarray:
    """The `colours` from `low` to `high`, with round numbers of `unit` beside them, the largest on top.

    uint8 height×w×3. `low` may be the greater of the two.
    """
    least, most = sorted((low, high))
    size = text_size(height)
    font, edge = ImageFont.load_default(size), size // 2 + 1  # above the bar, and on each side of it
    length = max(height - 2 * edge, 1)
    marks = ticks(least, most, most=max(2, int(length / (2.8 * size))))
    labels = [f"{mark:.{decimals(marks)}f} {unit}".rstrip() for mark in marks]
    left, right = edge, edge + size
    text = right + size // 2 + 2
    strip = Image.new("RGB", (math.ceil(text + max(map(font.getlength, labels)) + edge), height), PAPER)
    bar = coloured(np.linspace(most, least, length)[:, None].repeat(right - left, axis=1), low, high, colours)
    strip.paste(Image.fromarray(bar), (left, edge))
    draw = ImageDraw.Draw(strip)
    for mark, label in zip(marks, labels, strict=True):
        row = edge + (length - 1) * ((most - mark) / (most - least) if most != least else 1)
        draw.line([(right, row), (right + size // 3, row)], INK, width=max(1, size // 12))
        draw.text((text, row), label, INK, font=font, anchor="lm")
    return np.asarray(strip)


def text_size(height: int) -> int:
    """How high letters are, in pixels, beside a picture of this height."""
    return min(max(height // 24, 11), 48)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from `low` to `high`: at most `most`, a step of 1, 2 or 5 times a power of ten apart.

    Where no two fit in between, the ends themselves.
    """
    if high - low < 1e-6:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power, 2 * power, 5 * power, 10 * power, 20 * power):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [number * step for number in range(first, last + 1)] if last > first else [low, high]


def decimals(marks: list[float]) -> int:
    """How many decimals tell ticks apart."""
    apart = min((b - a for a, b in itertools.pairwise(marks)), default=0.01)
    return max(0, math.ceil(-math.log10(apart) - 1e-9))


# ---- superpixels and pairs


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture, uint8 H×W×3, brought to `size`, width and height."""
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def resized_map(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map of labels or depths, H×W, brought to `size`, width and height, by the nearest neighbour."""
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.NEAREST))


def outlined(photo: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A photo, uint8 H×W×3, with the boundaries of its superpixels, int32 H×W, in yellow."""
    picture = photo.copy()
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    picture[edge] = BOUNDARY
    return picture


def averaged(photo: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A photo, uint8 H×W×3, each superpixel of it, int32 H×W, in its mean colour."""
    flat = labels.ravel()
    number = np.maximum(np.bincount(flat), 1)
    means = [np.bincount(flat, photo[..., channel].ravel()) / number for channel in range(3)]
    return np.stack(means, axis=-1).round().astype(np.uint8)[labels]


def linked(photo: np.ndarray, centres: np.ndarray, pairs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A darkened photo, uint8 H×W×3, with a line for each pair of superpixels, the heavier the lighter and wider.

    centres float n×2, row and column in the photo's pixels; pairs int m×2; weights float m, 0 or more.
    """
    picture, greatest = Image.fromarray((photo * DARKENED).astype(np.uint8)), weights.max(initial=1e-9)
    draw, hues = ImageDraw.Draw(picture), coloured(weights[None], greatest, 0)[0]
    widest = max(1.0, typical_spacing(centres, pairs) / 6)
    for index in np.argsort(weights):  # heavy ones on top
        ends = [tuple(centres[end][::-1].tolist()) for end in pairs[index]]
        draw.line(ends, tuple(hues[index].tolist()), width=max(1, round(widest * float(weights[index] / greatest))))
    return np.asarray(picture)


def typical_spacing(centres: np.ndarray, pairs: np.ndarray) -> float:
    """The median distance between the centres of a pair, in pixels; 0 where there is no pair."""
    if not len(pairs):
        return 0.0
    return float(np.median(np.linalg.norm(centres[pairs[:, 0]] - centres[pairs[:, 1]], axis=1)))
