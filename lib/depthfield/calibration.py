"""Calibration of the uncertainty: the share of pixels whose error is within a number of standard deviations.

A Gaussian has 68.3 % of its errors within one standard deviation and 95.4 % within two.
"""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

STEP, LAST = 0.05, 5.0  # bins of standard deviations: their width, and the end of the last
EDGES = np.append(np.arange(0, LAST + STEP / 2, STEP), np.inf)
SIDE, MARGIN, LETTERS = 640, 72, 17  # pixels of the figure, its margin and its letters


def counts(predicted: np.ndarray, deviation: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Count pixels by |log predicted - log truth| / deviation; returns int64 counts between EDGES.

    All arguments are float arrays of one shape: predicted and truth in metres, NaN or ≤ 0 for no value, and deviation,
    the standard deviation of log depth.
    """
    both = (truth > 0) & (predicted > 0)
    error = np.abs(np.log(predicted[both] / truth[both])) / np.maximum(deviation[both], 1e-9)
    return np.histogram(error, EDGES)[0]


def within(counted: np.ndarray, deviations: float) -> float:
    """Return the share of pixels within `deviations` standard deviations, a multiple of STEP."""
    return float(counted[: round(deviations / STEP)].sum() / counted.sum())


def figure(counted: np.ndarray, calibrated: bool) -> Image.Image:
    """Draw the share of pixels within each number of deviations (y) against a Gaussian's (x); the diagonal is ideal."""
    ends = EDGES[1:-1]
    expected = [0.0, *(math.erf(k / math.sqrt(2)) for k in ends)]
    observed = [0.0, *(np.cumsum(counted)[:-1] / counted.sum())]
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    draw, size = ImageDraw.Draw(picture), SIDE - 2 * MARGIN
    draw.font = ImageFont.load_default(LETTERS)

    def to_pixels(right: float, up: float) -> tuple[float, float]:
        return MARGIN + right * size, SIDE - MARGIN - up * size

    for tick in (0, 0.25, 0.5, 0.75, 1):
        draw.line([to_pixels(tick, 0), to_pixels(tick, 1)], "#dddddd")
        draw.line([to_pixels(0, tick), to_pixels(1, tick)], "#dddddd")
        draw.text(to_pixels(tick, -0.02), f"{tick:.0%}", "black", anchor="mt")
        draw.text(to_pixels(-0.02, tick), f"{tick:.0%}", "black", anchor="rm")
    draw.line([to_pixels(0, 0), to_pixels(1, 1)], "#888888")
    draw.line([to_pixels(*point) for point in zip(expected, observed, strict=True)], "#31688e", width=3)
    for deviations in (1, 2):
        right, up = to_pixels(math.erf(deviations / math.sqrt(2)), within(counted, deviations))
        draw.ellipse([right - 6, up - 6, right + 6, up + 6], "#31688e")
        draw.text((right - 12, up), f"within {deviations}: {within(counted, deviations):.0%}", "black", anchor="rm")
    draw.text(to_pixels(0.98, 0.03), "below the line: deviations are too small", "#666666", anchor="rb")
    draw.text((SIDE / 2, SIDE - 12), "share expected of a Gaussian", "black", anchor="mb")
    title = "share of pixels within as many standard deviations" + ("" if calibrated else ", not calibrated")
    draw.text((SIDE / 2, 16), title, "black", anchor="mt")
    return picture
