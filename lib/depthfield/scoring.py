"""Scores of predicted against measured depth: rel, log10, rms and three deltas, pooled and by image.

The formulas are those of Liu et al. and Eigen et al., as in FCRN's error_metrics.m. Scores pooled over all pixels and
means of images differ; each score here says which it is.
"""

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

METRICS = ("rel", "log10", "rms", "delta1", "delta2", "delta3")
AVERAGES = POOLED, MEAN = "pooled over pixels", "mean of images"
# Rounding to float32 changes each of two depths by up to 2^-24 of itself, so a ratio of 1.25 may become 2^-23 smaller.
TIE = 1 - 2.0**-23
FAR = 10.0  # ratio of depths; no method that works is so wrong


class Tally(NamedTuple):
    """Sums over the pixels of an image that have both a prediction and a measurement."""

    sums: np.ndarray  # float64, terms of METRICS in order; squared errors for rms
    pixels: int  # compared pixels
    measured: int  # measured pixels of the truth
    ratio: float  # median of predicted to measured depth, NaN without a pixel


def known(depth: np.ndarray) -> np.ndarray:
    """Return where a float array of metres has a depth, bool: not at NaN, infinity, 0 and negative values."""
    return np.isfinite(depth) & (depth > 0)


def tally(predicted: np.ndarray, truth: np.ndarray) -> Tally:
    """Compare two arrays of metres, of the same shape, where both are `known`.

    A delta counts ratios below its threshold; a ratio that equals it up to float32 rounding is not below.
    """
    measured = known(truth)
    both = measured & known(predicted)
    p, g = predicted[both].astype(np.float64), truth[both].astype(np.float64)
    ratio = np.maximum(p / g, g / p)
    terms = [
        np.abs(p - g) / g,
        np.abs(np.log10(p / g)),
        (p - g) ** 2,
        *(ratio < 1.25**power * TIE for power in (1, 2, 3)),
    ]
    middle = float(np.median(p / g)) if p.size else math.nan
    return Tally(np.array([term.sum() for term in terms], np.float64), int(both.sum()), int(measured.sum()), middle)


def doubt(tallies: list[Tally]) -> str | None:
    """Return a warning if predictions are FAR from their truth, as where one of the two is in another unit."""
    ratio = float(np.median([image.ratio for image in tallies if image.pixels]))
    if 1 / FAR <= ratio <= FAR:
        return None
    return f"predicted depth is {ratio:.3g} times the measured, in the median: is a scale wrong?"


def scores(sums: np.ndarray, pixels: float) -> dict[str, float]:
    """Return the metrics of summed terms, by name."""
    means = dict(zip(METRICS, sums / pixels, strict=True))
    return means | {"rms": float(np.sqrt(means["rms"]))}


def in_words(image: Tally) -> str:
    """The scores of one image, for people."""
    found = scores(image.sums, image.pixels)
    return f"rel {found['rel']:.3f}, rms {found['rms']:.3f}, delta1 {found['delta1']:.3f}"


def summary(tallies: list[Tally]) -> dict:
    """Return the scores of a set of images, pooled over all pixels and as mean of images, and their numbers.

    Images without a pixel to compare are left out. Raises ValueError if none is left.
    """
    compared = [image for image in tallies if image.pixels]
    if not compared:
        raise ValueError("no pixel has both a prediction and a measurement")
    pixels, measured = sum(image.pixels for image in compared), sum(image.measured for image in tallies)
    pooled = scores(sum(image.sums for image in compared), pixels)
    each = [scores(image.sums, image.pixels) for image in compared]
    return {
        POOLED: {name: float(pooled[name]) for name in METRICS},
        MEAN: {name: float(np.mean([values[name] for values in each])) for name in METRICS},
        "images": len(compared),
        "pixels": pixels,
        "measured": measured,
        "coverage": pixels / measured,
    }


def table(summaries: dict[str, dict]) -> str:
    """Format summaries by name as a table. The share of scored pixels is rounded down: 100.0% means all."""
    averages = itertools.product(summaries, AVERAGES)
    lines = columns((f"{called(name, summaries)}, {av}", summaries[name][av]) for name, av in averages)
    for method, scored in summaries.items():
        name = called(method, summaries)
        pixels, measured = scored["pixels"], scored["measured"]
        share = f"{1000 * pixels // measured / 10:.1f}%"
        lines.append(f"{name}, scored: {share} of the measured pixels, {pixels} of {measured}")
        if "within 1 σ" in scored:
            shares = (f"{scored[f'within {number} σ']:.1%} within {number} σ" for number in (1, 2))
            mark = "" if scored["calibrated"] else ", not calibrated"
            lines.append(f"{name}, errors: {', '.join(shares)} (a Gaussian's: 68.3%, 95.4%){mark}")
    return "\n".join(lines)


def called(method: str, summaries: dict[str, dict]) -> str:
    """Return what to call a method in a table: the "field" of a run that was trained without one is its `unary`."""
    return "unary" if summaries[method].get("loss") == "unary" else method


def columns(rows: Iterable[tuple[str, Mapping[str, float]]]) -> list[str]:
    """Format rows of METRICS under their names, each with a label; missing values are dashes."""
    rows = list(rows)
    width = max(42, *(len(label) + 1 for label, _ in rows))
    lines = [" " * width + "".join(f"{metric:>8}" for metric in METRICS)]
    for label, values in rows:
        cells = (f"{values[metric]:.3f}" if metric in values else "-" for metric in METRICS)
        lines.append(f"{label:{width}}" + "".join(f"{cell:>8}" for cell in cells))
    return lines
