"""The scores of a run on shards, or by a protocol, beside those of the training photos' mean depth everywhere."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from depthfield import calibration, files, picture, protocols, scoring
from depthfield.prediction import Prediction, Predictor
from depthfield.records import shards
from depthfield.samples import Sample
from depthfield.tool import Failure, progress, say


def of_run(
    run: Path, paths: Sequence[Path], limit: int | None, how: str, pictures: Path | None, pictured: int = 0
) -> dict[str, dict]:
    """Predict the first `limit` photos of shards and score them over all their measured pixels.

    `how` is one of fill.FILLS. Returns scoring.summary's of "field" (the run), with the shares of pixels within one and
    two standard deviations, and of "mean depth" (the baseline). Where `pictures` is a folder, the panels of the first
    `pictured` photos are written there, and the figure of calibration.
    """
    predictor = Predictor(run, how)
    field, baseline, counted = [], [], 0
    examples = itertools.islice(shards.read(paths), limit)
    for example in progress(examples, None, "photos"):
        predicted, truth = predictor.patch(example), example["depth_map"]
        field.append(scoring.tally(predicted.depth, truth))
        counted += calibration.counts(predicted.depth, predicted.sigma / predicted.depth, truth)
        baseline.append(scoring.tally(np.full_like(truth, predictor.survey.mean_depth), truth))
        if pictures is not None and len(field) <= pictured:
            path = pictures / f"{Path(example['name'].decode()).name}.png"
            write_panel(path, example["image"], truth, predicted)
            say(path)
    if not any(image.pixels for image in field):
        raise Failure("the shards hold no photo with a measured depth")
    if pictures is not None:
        with files.whole(pictures / "calibration.png") as temporary:
            calibration.figure(counted).save(temporary)
    within = {f"within {number} σ": calibration.within(counted, number) for number in (1, 2)}
    return {"field": scoring.summary(field) | within, "mean depth": scoring.summary(baseline)}


def by_protocol(name: str, run: Path, raw: Path, limit: int | None, how: str) -> tuple[dict[str, dict], int]:
    """protocols.score of "field" (the run) and "mean depth" on the test photos of the dataset folder `raw`.

    `how` is one of fill.FILLS. "field" has its steps, its number of training photos and the weights it began with too.
    """
    predictor, photos = Predictor(run, how), protocols.samples(name, raw, limit)

    def predict(sample: Sample, photo: np.ndarray) -> dict[str, np.ndarray]:
        field = predictor.photo(photo, sample.source).depth
        return {"field": field, "mean depth": np.full_like(field, predictor.survey.mean_depth)}

    summaries, refused = protocols.score(name, raw, photos, predict)
    init = run / "init.json"  # see training.transfer
    trained = {
        "steps": int(predictor.checkpoint.stem),
        "training photos": predictor.survey.photos,
        "weights from": json.loads(init.read_text())["from"] if init.exists() else None,
    }
    return summaries | {"field": summaries["field"] | trained}, refused


def write_panel(path: Path, photo: np.ndarray, truth: np.ndarray, predicted: Prediction) -> None:
    with files.whole(path) as temporary:
        Image.fromarray(picture.panel(photo, truth, predicted.depth, predicted.sigma)).save(temporary)
