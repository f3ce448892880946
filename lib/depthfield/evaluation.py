"""The scores of a run on shards, beside those of the training photos' mean depth everywhere."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from depthfield import files, picture, scoring
from depthfield.prediction import Prediction, Predictor
from depthfield.records import shards
from depthfield.tool import Failure, progress, say


def of_run(
    run: Path, paths: Sequence[Path], limit: int | None, pictures: Path | None, pictured: int = 0
) -> dict[str, dict]:
    """Predict the first `limit` photos of shards and score them over all their measured pixels.

    Returns scoring.summary's of "field" (the run) and "mean depth" (the baseline). Where `pictures` is a folder,
    the panels of the first `pictured` photos are written there.
    """
    predictor = Predictor(run)
    field, baseline = [], []
    examples = itertools.islice(shards.read(paths), limit)
    for example in progress(examples, None, "photos"):
        predicted, truth = predictor.patch(example), example["depth_map"]
        field.append(scoring.tally(predicted.depth, truth))
        baseline.append(scoring.tally(np.full_like(truth, predictor.survey.mean_depth), truth))
        if pictures is not None and len(field) <= pictured:
            path = pictures / f"{Path(example['name'].decode()).name}.png"
            write_panel(path, example["image"], truth, predicted)
            say(path)
    if not any(one.pixels for one in field):
        raise Failure("the shards hold no photo with a measured depth")
    return {"field": scoring.summary(field), "mean depth": scoring.summary(baseline)}


def write_panel(path: Path, photo: np.ndarray, truth: np.ndarray, predicted: Prediction) -> None:
    with files.whole(path) as temporary:
        Image.fromarray(picture.panel(photo, truth, predicted.depth, predicted.sigma)).save(temporary)
