"""Predictions of test photos for a page: their scores, and their maps as small pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from depthfield import evaluation, picture, scoring
from depthfield.prediction import Prediction, Predictor
from depthfield.records.index import Photo
from depthfield.report.photos import grey, jpeg
from depthfield.report.view import Shown, Tested

WIDTH = 320  # most pixels across a picture


def test(run: Path, shards: Sequence[Path]) -> Tested:
    """Predict the photos of test shards by a run. Raises Failure as Predictor and evaluation.examine do."""
    predictor, photos = Predictor(run), []

    def see(photo: Photo, example: dict[str, np.ndarray], predicted: Prediction, tally: scoring.Tally) -> None:
        photos.append(shown(photo, example, predicted, tally))

    found = evaluation.examine(predictor, shards, see=see)
    return Tested(found.summaries, found.counted.tolist(), found.calibrated, found.refused, photos)


def shown(photo: Photo, example: dict[str, np.ndarray], predicted: Prediction, tally: scoring.Tally) -> Shown:
    truth, depth, sigma = (small(values) for values in (example["depth_map"], *predicted))
    truth = np.where(scoring.known(truth), truth, np.nan)
    low, high = picture.span(truth) if scoring.known(truth).any() else picture.span(depth)
    height, width = truth.shape
    image = Image.fromarray(example["image"]).resize((width, height), Image.Resampling.LANCZOS)
    error, uncertainty = np.abs(depth - truth) / truth, sigma / depth
    ends = [float(end) for end in (low, high, min(picture.span(error)[1], 1), *picture.span(uncertainty))]
    rel = scoring.scores(tally.sums, tally.pixels)["rel"]
    name = Path(example["name"].decode()).name
    return Shown(
        photo.digest, name, float(rel), *ends, width, height,
        jpeg(np.asarray(image)),
        jpeg(picture.coloured(truth, low, high)),
        jpeg(picture.coloured(depth, low, high)),
        grey(error),
        jpeg(picture.coloured(uncertainty, *ends[3:], picture.ERRORS)),
    )  # fmt: skip


def small(values: np.ndarray) -> np.ndarray:
    """Shrink a float H×W map to at most WIDTH columns by nearest neighbour."""
    height, width = values.shape
    if width <= WIDTH:
        return values
    size = (WIDTH, max(1, round(height * WIDTH / width)))
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.NEAREST))
