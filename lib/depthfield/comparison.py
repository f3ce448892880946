"""The scores of anybody's depth maps against those of another folder, or of a dataset by a protocol, paired by name."""

from pathlib import Path

import numpy as np
from PIL import Image

from depthfield import protocols, scoring
from depthfield.samples import Sample, images
from depthfield.tool import Failure, progress, say


def of_folders(
    predictions: Path, truths: Path, scale: float | None, truth_scale: float | None
) -> tuple[dict[str, dict], int]:
    """scoring.summary of "prediction", and how many files were refused or had no partner, each named on stderr."""
    predicted, measured = depth_maps(predictions), depth_maps(truths)
    common = sorted(predicted.keys() & measured.keys())
    if not common:
        raise Failure(f"no depth map of {predictions} has the name of one in {truths}")
    tallies, refused = [], 0
    for name in sorted(measured.keys() - predicted.keys()):
        say(f"{measured[name]}: no prediction of that name")
        refused += 1
    for name in progress(common, len(common), "photos"):
        try:
            truth = images.read_depth(measured[name], truth_scale)
            prediction = images.read_depth(predicted[name], scale)
            tallies.append(scoring.tally(resized(prediction, truth.shape), truth))
        except Failure as failure:
            say(failure)
            refused += 1
    if not any(one.pixels for one in tallies):
        raise Failure("no pixel has both a prediction and a measurement")
    return {"prediction": scoring.summary(tallies)}, refused


def by_protocol(
    name: str, predictions: Path, raw: Path, scale: float | None, limit: int | None
) -> tuple[dict[str, dict], int]:
    """protocols.score of the depth maps of a folder, each by the name of its test photo in the dataset folder `raw`."""
    predicted, photos = depth_maps(predictions), protocols.samples(name, raw, limit)
    if not any(sample.name in predicted for sample in photos):
        raise Failure(f"no depth map of {predictions} has the name of a test photo in {raw}, as {photos[0].name}.png")

    def predict(sample: Sample, photo: np.ndarray) -> dict[str, np.ndarray]:
        if sample.name not in predicted:
            raise Failure(f"{sample.source}: no prediction {sample.name}.png or .npy in {predictions}")
        return {"prediction": resized(images.read_depth(predicted[sample.name], scale), photo.shape[:2])}

    return protocols.score(name, raw, photos, predict)


def depth_maps(folder: Path) -> dict[str, Path]:
    """The depth maps of a folder by name; a .npy, which loses nothing, goes before a PNG of the same name."""
    if not folder.is_dir():
        raise Failure(f"{folder}: no such folder")
    return {path.stem: path for suffix in (".png", ".npy") for path in sorted(folder.glob(f"[!.]*{suffix}"))}


def resized(depth: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A depth map brought to H×W bilinearly; what touches a pixel without depth has none."""
    if depth.shape == shape:
        return depth
    return np.asarray(Image.fromarray(depth).resize(shape[::-1], Image.Resampling.BILINEAR))
