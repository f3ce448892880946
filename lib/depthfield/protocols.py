"""The protocols by which depth is scored on NYU and Make3D: which truth, which of its pixels, and which average.

Scores of one photo differ between protocols by more than methods do; a number is of a protocol or of none. The rules
are those of the scripts that published scores come from:

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
    samples: Callable[[Path], Iterator[Sample]]  # photos of the dataset's folder with the truth, at the size it counts
    photos: int  # of the official test
    size: tuple[int, int]  # rows and columns of the truth
    valid: tuple[float, float]  # metres: truth counts between these, not at them
    crop: tuple[slice, slice] | None  # rows and columns that count
    clamp: tuple[float, float] | None  # metres: what is predicted beyond is brought to these
    headline: str  # the one of scoring.AVERAGES that is published


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
    """The first `limit` test photos of the dataset folder `raw`, as the protocol wants them.

    Raises Failure where that folder holds none, or is not of the protocol's dataset.
    """
    if not raw.is_dir():
        raise Failure(f"{raw}: no such folder")
    found = [sample for sample in PROTOCOLS[name].samples(raw) if sample.split == "test"]
    if not found:
        raise Failure(f"{raw}: no test photo in it")
    return found[:limit]


def counted(name: str, truth: np.ndarray, where: object) -> np.ndarray:
    """What counts of a true depth map by a protocol: float H×W metres, NaN elsewhere.

    Raises Failure, beginning with `where`, for a map of another size than the protocol's, or of which nothing counts.
    """
    protocol = PROTOCOLS[name]
    if truth.shape != protocol.size:
        size, wanted = (f"{columns}×{rows}" for rows, columns in (truth.shape, protocol.size))
        raise Failure(f"{where}: its depth has {size} pixels, but {name} is of photos with {wanted}")
    counts = (truth > protocol.valid[0]) & (truth < protocol.valid[1])
    if protocol.crop:
        inside = np.zeros_like(counts)
        inside[protocol.crop] = True
        counts &= inside
    if not counts.any():
        raise Failure(f"{where}: no pixel of its depth counts by {name}")
    return np.where(counts, truth, np.nan)


def tally(name: str, predicted: np.ndarray, truth: np.ndarray, where: object) -> scoring.Tally:
    """Compare a predicted depth map with what is `counted` of the true one, float H×W metres both, by a protocol.

    Raises Failure, beginning with `where`, for a prediction that lacks a pixel that counts: NaN, infinity, 0 and
    negative values are no prediction.
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
    """scoring.summary of each method's predictions on photos of `raw`, with its protocol; and how many were refused.

    predict gets a sample and its photo, uint8 H×W×3, and gives depth maps, float32 H×W metres, by the names of the
    methods; what it raises as Failure refuses the photo with one line on stderr. Lines about a prediction begin with
    the sample's `origin`. Raises Failure where no photo is left.
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
        raise Failure("no photo could be scored")
    if len(tallies) != protocol.photos:
        say(f"{len(tallies)} photos scored; {name} is of {protocol.photos}: these are not scores of the benchmark")
    summaries = {method: scoring.summary([each[method] for each in tallies]) for method in tallies[0]}
    stated = {"protocol": name, "headline": protocol.headline, "dataset": str(raw), "official images": protocol.photos}
    return {method: stated | scored for method, scored in summaries.items()}, refused
