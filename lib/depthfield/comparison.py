"""The scores of anybody's depth maps against those of another folder, or of a dataset by a protocol, paired by name."""

from pathlib import Path

import numpy as np
from PIL import Image

from depthfield import protocols, scoring
from depthfield.samples import Sample, images
from depthfield.tool import Failure, detail, progress, say

SMALLEST = 10  # pixels a side of a map that is resized; in a smaller one, rounding hides the aspect ratio


def of_folders(
    predictions: Path, truths: Path, scale: float | None, truth_scale: float | None
) -> tuple[dict[str, dict], int]:
    """scoring.summary of "prediction", and how many files were refused or had no partner, each named on stderr.

    Raises Failure where no photo is left, and as `depth_maps`.
    """
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
            tally = scoring.tally(resized(predicted[name], scale, truth.shape), truth)
            if not tally.pixels:
                raise Failure(f"{predicted[name]}: no prediction for any of the {tally.measured} measured pixels")
            tallies.append(tally)
            detail(f"{predicted[name]}: {scoring.in_words(tally)}")
        except Failure as failure:
            say(failure)
            refused += 1
    if not tallies:
        raise Failure("no photo could be scored")
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
        return {"prediction": resized(predicted[sample.name], scale, photo.shape[:2])}

    return protocols.score(name, raw, photos, predict, origin=lambda sample: predicted[sample.name])


def depth_maps(folder: Path) -> dict[str, Path]:
    """The depth maps of a folder, .png and .npy, by name. Raises Failure where two have one name."""
    if not folder.is_dir():
        raise Failure(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("[!.]*")):
        if path.suffix in (".npy", ".png"):
            other = found.setdefault(path.stem, path)
            if other != path:
                raise Failure(f"{path}: there is {other.name} too, and one photo has one depth map: move one away")
    return found


def resized(path: Path, scale: float | None, shape: tuple[int, int]) -> np.ndarray:
    """The depth map of a file, brought to its truth's H×W bilinearly; what touches a pixel without depth has none.

    Raises Failure where width to height is not as in H×W but for the rounding of the smaller one's sides to pixels.
    """
    depth = images.read_depth(path, scale)
    if depth.shape == shape:
        return depth
    (height, width), (true_height, true_width) = depth.shape, shape
    # Half a pixel on each side of the smaller map changes width·true_height - height·true_width by this much.
    rounding = max(height + width, true_height + true_width) / 2
    small = min(*depth.shape, *shape) < SMALLEST
    if small or abs(width * true_height - height * true_width) > rounding:
        sizes = f"{width}×{height} pixels, but its truth has {true_width}×{true_height}"
        raise Failure(f"{path}: {sizes}: {'too small to be resized' if small else 'another aspect ratio'}")
    return np.asarray(Image.fromarray(depth).resize(shape[::-1], Image.Resampling.BILINEAR))
