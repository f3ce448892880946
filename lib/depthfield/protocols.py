"""Scoring protocols for NYU and Make3D: which truth, which of its pixels, and which average.

Scores differ more between protocols than between methods, so each number belongs to one protocol. The rules are those
of the scripts behind published scores:

nyu        iro-cp/FCRN-DepthPrediction, matlab/evaluateNYU.m and error_metrics.m
nyu-eigen  cleinc/bts, utils/eval_with_pngs.py and pytorch/arguments_train_nyu.txt, on the frames of
           utils/extract_official_train_test_set_from_mat.py. (That cuts the truth to whole millimetres, and blacks
           out the photos' white border before predicting; here metres and photos are the dataset's own. And it
           takes NaN for a prediction of 1e-3 m and infinity for one of 10 m; here neither is a prediction.)
make3d-c1  iro-cp/FCRN-DepthPrediction, matlab/evaluateMake3D.m
make3d-c2  DepthTransfer (Karsch, Liu, Kang 2012), evaluateMake3dDataset.m and loadData.m
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from depthfield import scoring
from depthfield.samples import Sample, make3d, nyu
from depthfield.scoring import MEAN, POOLED
from depthfield.tool import Failure, detail, progress, say

NYU, MAKE3D = (480, 640), (make3d.HEIGHT, make3d.WIDTH)  # rows and columns of the truth


class Protocol(NamedTuple):
    rule: str  # in words
    samples: Callable[[Path], Iterator[Sample]]  # photos in the dataset's folder with the truth, at its scored size
    photos: int  # number of official test photos
    size: tuple[int, int]  # rows and columns of the truth
    valid: tuple[float, float]  # metres: truth counts if strictly between these
    crop: tuple[slice, slice] | None  # rows and columns that count
    clamp: tuple[float, float] | None  # metres: predictions are clamped to these
    headline: str  # the average of scoring.AVERAGES that is published


PROTOCOLS = {
    "nyu": Protocol(
        "NYU Depth v2, 654 test photos, in-painted depth, full frame, pooled over pixels",
        partial(nyu.samples, depth="depths"), 654, NYU, (0, math.inf), None, None, POOLED,
    ),
    "nyu-eigen": Protocol(
        "NYU Depth v2, 654 test photos, raw depth, 1e-3 to 10 m, Eigen's crop, mean of images",
        partial(nyu.samples, depth="rawDepths"), 654, NYU, (1e-3, 10), (slice(45, 471), slice(41, 601)), (1e-3, 10),
        MEAN,
    ),
    "make3d-c1": Protocol(
        "Make3D, 134 test photos, laser depth below 70 m, 460x345 by nearest neighbour, pooled over pixels",
        partial(make3d.samples, resampling=Image.Resampling.NEAREST), 134, MAKE3D, (0, 70), None, None, POOLED,
    ),
    "make3d-c2": Protocol(
        "Make3D, 134 test photos, all laser depth, 460x345 bilinearly, mean of images",
        partial(make3d.samples, resampling=Image.Resampling.BILINEAR), 134, MAKE3D, (0, math.inf), None, None, MEAN,
    ),
}  # fmt: skip


def samples(name: str, raw: Path, limit: int | None) -> list[Sample]:
    """Return the first `limit` test photos of the dataset folder `raw`, as the protocol needs them.

    Raises Failure if the folder has none, or is not the protocol's dataset.
    """
    if not raw.is_dir():
        raise Failure(f"{raw}: no such folder")
    found = [sample for sample in PROTOCOLS[name].samples(raw) if sample.split == "test"]
    if not found:
        raise Failure(f"{raw}: contains no test photo")
    return found[:limit]


def counted(name: str, truth: np.ndarray, where: object) -> np.ndarray:
    """Return the pixels of a true depth map that count by a protocol: float H×W metres, NaN elsewhere.

    Raises Failure, starting with `where`, if the map does not have the protocol's size, or no pixel counts.
    """
    protocol = PROTOCOLS[name]
    if truth.shape != protocol.size:
        size, wanted = (f"{columns}×{rows}" for rows, columns in (truth.shape, protocol.size))
        raise Failure(f"{where}: its depth map has {size} pixels, but {name} needs {wanted}")
    counts = (truth > protocol.valid[0]) & (truth < protocol.valid[1])
    if protocol.crop:
        inside = np.zeros_like(counts)
        inside[protocol.crop] = True
        counts &= inside
    if not counts.any():
        raise Failure(f"{where}: no pixel of its depth map counts by {name}")
    return np.where(counts, truth, np.nan)


def tally(name: str, predicted: np.ndarray, truth: np.ndarray, where: object) -> scoring.Tally:
    """Compare a predicted depth map with the `counted` pixels of the true one, both float H×W metres.

    Raises Failure, starting with `where`, if a pixel that counts has no prediction (NaN, infinity, 0 or negative).
    """
    counts = scoring.known(truth)
    lacking = np.count_nonzero(counts & ~scoring.known(predicted))
    if lacking:
        raise Failure(f"{where}: {lacking} of the {np.count_nonzero(counts)} pixels that count have no prediction")
    clamp = PROTOCOLS[name].clamp
    return scoring.tally(np.clip(predicted, *clamp) if clamp else predicted, truth)


def score(
    name: str,
    raw: Path,
    photos: list[Sample],
    predict: Callable[[Sample, np.ndarray], dict[str, np.ndarray]],
    origin: Callable[[Sample], object] = attrgetter("source"),
) -> tuple[dict[str, dict], int]:
    """Return scoring.summary per method on the photos of `raw`, with the protocol, and the number of photos refused.

    predict takes a sample and its photo, uint8 H×W×3, and returns depth maps, float32 H×W metres, by method; if it
    raises Failure, the photo is refused with one line on stderr. Messages about a prediction start with the sample's
    `origin`. Raises Failure if no photo is left.
    """
    protocol, tallies, refused = PROTOCOLS[name], [], 0
    for sample in progress(photos, len(photos), "photos"):
        try:
            photo, truth = sample.read()
            truth = counted(name, truth, sample.source)
            maps = predict(sample, photo)
            tallies.append({method: tally(name, depth, truth, origin(sample)) for method, depth in maps.items()})
            for method, scored in tallies[-1].items():
                detail(f"{origin(sample)}: {method}: {scoring.in_words(scored)}")
        except Failure as failure:
            say(failure)
            refused += 1
    if not tallies:
        raise Failure("no photo could be scored; see the messages above")
    if len(tallies) != protocol.photos:
        say(f"only {len(tallies)} photos are scored, but {name} has {protocol.photos}: these are not benchmark scores")
    if doubt := scoring.doubt([next(iter(each.values())) for each in tallies]):
        say(f"{raw}: {doubt}")
    summaries = {method: scoring.summary([each[method] for each in tallies]) for method in tallies[0]}
    stated = {"protocol": name, "headline": protocol.headline, "dataset": str(raw), "official images": protocol.photos}
    return {method: stated | scored for method, scored in summaries.items()}, refused
