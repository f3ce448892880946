"""How far predicted depth is from measured depth: rel, log10, rms and the three deltas, pooled and by image.

The formulas are those of Liu et al. and Eigen et al., as in FCRN's error_metrics.m. Pooled over all pixels and averaged
over images are two different numbers; every score here says which it is.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

METRICS = ("rel", "log10", "rms", "delta1", "delta2", "delta3")
AVERAGES = POOLED, MEAN = "pooled over pixels", "mean of images"


class Tally(NamedTuple):
    """Sums over the pixels of an image that have both a prediction and a measurement."""

    sums: np.ndarray  # float64, of the terms of METRICS in their order; of squared errors for rms
    pixels: int  # compared
    measured: int  # in the truth


def tally(predicted: np.ndarray, truth: np.ndarray) -> Tally:
    """Compare two maps of metres of one shape; NaN or ≤ 0 is no measurement in truth, no prediction in predicted."""
    measured = truth > 0
    both = measured & (predicted > 0)
    p, g = predicted[both].astype(np.float64), truth[both].astype(np.float64)
    ratio = np.maximum(p / g, g / p)
    terms = [
        np.abs(p - g) / g,
        np.abs(np.log10(p / g)),
        (p - g) ** 2,
        ratio < 1.25,
        ratio < 1.25**2,
        ratio < 1.25**3,
    ]
    return Tally(np.array([term.sum() for term in terms], np.float64), int(both.sum()), int(measured.sum()))


def scores(sums: np.ndarray, pixels: float) -> dict[str, float]:
    """The metrics of summed terms, by name."""
    means = dict(zip(METRICS, sums / pixels, strict=True))
    return means | {"rms": float(np.sqrt(means["rms"]))}


def summary(tallies: list[Tally]) -> dict:
    """The scores of a set of images, pooled over all pixels and as the mean of the images' own, and their extent.

    Images without a pixel to compare are left out. Raises ValueError where none is left.
    """
    compared = [one for one in tallies if one.pixels]
    if not compared:
        raise ValueError("no pixel has both a prediction and a measurement")
    pixels = sum(one.pixels for one in compared)
    pooled = scores(sum(one.sums for one in compared), pixels)
    each = [scores(one.sums, one.pixels) for one in compared]
    return {
        POOLED: {name: float(pooled[name]) for name in METRICS},
        MEAN: {name: float(np.mean([image[name] for image in each])) for name in METRICS},
        "images": len(compared),
        "pixels": pixels,
        "coverage": pixels / sum(one.measured for one in tallies),
    }


def table(summaries: dict[str, dict]) -> str:
    """Summaries by name, as lines for a person."""
    rows = columns((f"{name}, {kind}", one[kind]) for name, one in summaries.items() for kind in AVERAGES)
    for name, one in summaries.items():
        if "within 1 σ" in one:
            shares = (f"{one[f'within {number} σ']:.1%} within {number} σ" for number in (1, 2))
            mark = "" if one["calibrated"] else ", not calibrated"
            rows.append(f"{name}, errors: {', '.join(shares)} (a Gaussian's: 68.3%, 95.4%){mark}")
    return "\n".join(rows)


def columns(rows: Iterable[tuple[str, Mapping[str, float]]]) -> list[str]:
    """Lines of METRICS under their names, each with its label in front; what a row does not know is a dash."""
    rows = list(rows)
    width = max(42, *(len(label) + 1 for label, _ in rows))
    lines = [" " * width + "".join(f"{metric:>8}" for metric in METRICS)]
    for label, values in rows:
        told = (f"{values[metric]:.3f}" if metric in values else "-" for metric in METRICS)
        lines.append(f"{label:{width}}" + "".join(f"{value:>8}" for value in told))
    return lines
