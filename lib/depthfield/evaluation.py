"""Scores of a run on shards or by a protocol, and of the baseline: the training photos' mean depth everywhere."""

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from depthfield import calibration, files, picture, protocols, scoring
from depthfield.prediction import Prediction, Predictor
from depthfield.records import index
from depthfield.samples import Sample
from depthfield.tool import Failure, detail, inform, progress, say
from depthfield.training import survey

FIELDS = ("name", "image", "superpixels", "pairs", "similarities", "depth", "depth_map")


def of_run(
    run: Path,
    paths: Sequence[Path],
    limit: int | None,
    how: str,
    which: str | None,
    pictures: Path | None,
    pictured: int = 0,
) -> tuple[dict[str, dict], int]:
    """Predict the first `limit` photos of shards and score them over all measured pixels.

    `how` is one of fill.FILLS; for `which` see Predictor. If `pictures` is a folder, writes panels of the first
    `pictured` photos and the calibration figure there. Returns scoring.summary of "field" (the run, with the shares of
    pixels within one and two standard deviations) and "mean depth" (the baseline), and the number of photos without a
    measured pixel, each named on stderr, as are photos that the run was trained on. Raises Failure for photos made with
    other settings than the run's.
    """
    predictor = Predictor(run, how, which)
    predictor.introduce(uncertainty=True)
    own = {digest for *_, digest in survey.read_photos(run)}
    field, baseline, counted, refused, known = [], [], 0, 0, 0
    examples = itertools.islice(index.read(paths, FIELDS), limit)
    for photo, example in progress(examples, min(index.count(paths), limit or math.inf), "photos"):
        if not predictor.survey.fits(photo.settings):
            raise Failure(survey.mismatch(photo, predictor.survey, run))
        truth, known = example["depth_map"], known + (photo.digest in own)
        if not scoring.known(truth).any():
            say(f"{photo.source}: skipped, it has no measured pixel")
            refused += 1
            continue
        predicted = predictor.patch(example)
        field.append(scoring.tally(predicted.depth, truth))
        detail(f"{photo.source}: {scoring.in_words(field[-1])}")
        counted += calibration.counts(predicted.depth, predicted.sigma / predicted.depth, truth)
        baseline.append(scoring.tally(np.full_like(truth, predictor.survey.mean_depth), truth))
        if pictures is not None and len(field) <= pictured:
            path = pictures / f"{Path(example['name'].decode()).name}.png"
            write_panel(path, example["image"], truth, predicted, predictor.calibrated)
            inform(path)
    if not field:
        raise Failure("the shards hold no photo with measured depth; make them again with make-patches and to-tfrecord")
    if known:
        say(f"{known} of these photos were used to train {run}: these are not test scores")
    if pictures is not None:
        with files.whole(pictures / "calibration.png") as temporary:
            calibration.figure(counted, predictor.calibrated).save(temporary)
    within = {f"within {number} σ": calibration.within(counted, number) for number in (1, 2)}
    within["calibrated"] = predictor.calibrated
    return {"field": scoring.summary(field) | within, "mean depth": scoring.summary(baseline)}, refused


def by_protocol(
    name: str, run: Path, raw: Path, limit: int | None, how: str, which: str | None
) -> tuple[dict[str, dict], int]:
    """Return protocols.score of "field" (the run) and "mean depth" on the test photos of the dataset folder `raw`.

    `how` is one of fill.FILLS; for `which` see Predictor. "field" also has its steps, its number of training photos and
    the weights it started with.
    """
    predictor, photos = Predictor(run, how, which), protocols.samples(name, raw, limit)
    predictor.introduce(uncertainty=False)

    def predict(sample: Sample, photo: np.ndarray) -> dict[str, np.ndarray]:
        # not clamped: protocols do that
        field = predictor.photo(photo, sample.source, clamp=False).depth
        return {"field": field, "mean depth": np.full_like(field, predictor.survey.mean_depth)}

    summaries, refused = protocols.score(name, raw, photos, predict)
    init = run / "init.json"  # see training.transfer
    trained = {
        "steps": predictor.checkpoint.step,
        "training photos": predictor.survey.photos,
        "weights from": json.loads(init.read_text())["from"] if init.exists() else None,
    }
    return summaries | {"field": summaries["field"] | trained}, refused


def write_panel(path: Path, photo: np.ndarray, truth: np.ndarray, predicted: Prediction, calibrated: bool) -> None:
    with files.whole(path) as temporary:
        Image.fromarray(picture.panel(photo, truth, predicted.depth, predicted.sigma, calibrated)).save(temporary)
