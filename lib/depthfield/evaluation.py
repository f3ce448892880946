"""Scores of a run on shards or by a protocol, and of the baseline: the training photos' mean depth everywhere."""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from depthfield import calibration, files, picture, protocols, scoring
from depthfield.prediction import Prediction, Predictor
from depthfield.records import index
from depthfield.records.index import Photo
from depthfield.samples import Sample
from depthfield.tool import Failure, detail, inform, progress, say
from depthfield.training import survey

FIELDS = ("name", "image", "superpixels", "pairs", "similarities", "depth", "depth_map")


class Evaluation(NamedTuple):
    """What a run's predictions of test photos are worth."""

    summaries: dict[str, dict]  # scoring.summary of "field" (the run) and of "mean depth" (the baseline)
    counted: np.ndarray  # pixels by their error in standard deviations, see calibration.counts
    calibrated: bool
    refused: int  # photos without a measured pixel


def examine(
    predictor: Predictor,
    paths: Sequence[Path],
    limit: int | None = None,
    see: Callable[[Photo, dict[str, np.ndarray], Prediction, scoring.Tally], None] | None = None,
) -> Evaluation:
    """Predict the first `limit` photos of shards and score them over all measured pixels.

    Calls `see` for each photo with the FIELDS of its example, its prediction and the tally of that. The summary of the
    run also has the step of its checkpoint, the number of its training photos, its loss, a digest of the test photos,
    and the shares of pixels within one and two standard deviations. Photos without a measured pixel are named on
    stderr, and so is the number of those that the run was trained on. Raises Failure for photos made with other
    settings than the run's.
    """
    predictor.introduce(uncertainty=True)
    run, digests = predictor.run, []
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
        digests.append(photo.digest)
        if see:
            see(photo, example, predicted, field[-1])
    if not field:
        raise Failure("the shards hold no photo with measured depth; make them again with make-patches and to-tfrecord")
    if doubt := scoring.doubt(field):
        say(f"{run}: {doubt}")
    if known:
        say(f"{known} of these photos were used to train {run}: these are not test scores")
    within = {f"within {number} σ": calibration.within(counted, number) for number in (1, 2)}
    photos = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()[:16]
    about = {"calibrated": predictor.calibrated, "photos": photos}
    trained = trained_as(predictor)
    field_summary = scoring.summary(field) | within | about | trained
    summaries = {"field": field_summary, "mean depth": scoring.summary(baseline)}
    return Evaluation(summaries, counted, predictor.calibrated, refused)


def of_run(
    run: Path,
    paths: Sequence[Path],
    limit: int | None,
    how: str,
    which: str | None,
    pictures: Path | None,
    pictured: int = 0,
) -> tuple[dict[str, dict], int]:
    """Return the summaries of `examine` for a run, and the number of photos without a measured pixel.

    `how` is one of fill.FILLS; for `which` see Predictor. If `pictures` is a folder, writes panels of the first
    `pictured` photos and the calibration figure there.
    """
    predictor, written = Predictor(run, how, which), 0

    def see(photo: Photo, example: dict[str, np.ndarray], predicted: Prediction, tally: scoring.Tally) -> None:
        nonlocal written
        if pictures is not None and written < pictured:
            path = pictures / f"{Path(example['name'].decode()).name}.png"
            write_panel(path, example["image"], example["depth_map"], predicted, predictor.calibrated)
            inform(path)
            written += 1

    found = examine(predictor, paths, limit, see)
    if pictures is not None:
        with files.whole(pictures / "calibration.png") as temporary:
            calibration.figure(found.counted, found.calibrated).save(temporary)
    return found.summaries, found.refused


def by_protocol(
    name: str, run: Path, raw: Path, limit: int | None, how: str, which: str | None
) -> tuple[dict[str, dict], int]:
    """Return protocols.score of "field" (the run) and "mean depth" on the test photos of the dataset folder `raw`.

    `how` is one of fill.FILLS; for `which` see Predictor. "field" also has its steps, its number of training photos,
    its loss and the weights it started with.
    """
    predictor, photos = Predictor(run, how, which), protocols.samples(name, raw, limit)
    predictor.introduce(uncertainty=False)

    def predict(sample: Sample, photo: np.ndarray) -> dict[str, np.ndarray]:
        # not clamped: protocols do that
        field = predictor.photo(photo, sample.source, clamp=False).depth
        return {"field": field, "mean depth": np.full_like(field, predictor.survey.mean_depth)}

    summaries, refused = protocols.score(name, raw, photos, predict)
    init = run / "init.json"  # see training.transfer
    begun = {"weights from": json.loads(init.read_text())["from"] if init.exists() else None}
    return summaries | {"field": summaries["field"] | trained_as(predictor) | begun}, refused


def trained_as(predictor: Predictor) -> dict[str, object]:
    """Return what a summary says of the training: step of the checkpoint, number of its photos, loss."""
    return {
        "steps": predictor.checkpoint.step,
        "training photos": predictor.survey.photos,
        "loss": predictor.recipe.loss,
    }


def write_panel(path: Path, photo: np.ndarray, truth: np.ndarray, predicted: Prediction, calibrated: bool) -> None:
    with files.whole(path) as temporary:
        Image.fromarray(picture.panel(photo, truth, predicted.depth, predicted.sigma, calibrated)).save(temporary)
