"""Predictions of test photos for a page: their scores, and their maps as small pictures."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from depthfield import evaluation, picture, scoring
from depthfield.prediction import Prediction, Predictor
from depthfield.records.index import Photo
from depthfield.report.view import Shown, Tested

WIDTH = 320  # most pixels across a picture
FARTHEST_OFF = 0.5  # share of the depth at the end of the colours of errors and uncertainties
QUALITY = 80


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
    maps = (
        picture.coloured(truth, low, high),
        picture.coloured(depth, low, high),
        picture.coloured(np.abs(depth - truth) / truth, 0, FARTHEST_OFF),
        picture.coloured(sigma / depth, 0, FARTHEST_OFF),
    )
    pictures = (jpeg(one) for one in (image, *map(Image.fromarray, maps)))
    rel = scoring.scores(tally.sums, tally.pixels)["rel"]
    name = Path(example["name"].decode()).name
    return Shown(photo.digest, name, float(rel), float(low), float(high), width, height, *pictures)


def small(values: np.ndarray) -> np.ndarray:
    """Shrink a float H×W map to at most WIDTH columns by nearest neighbour."""
    height, width = values.shape
    if width <= WIDTH:
        return values
    size = (WIDTH, max(1, round(height * WIDTH / width)))
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.NEAREST))


def jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()
