"""Scores of predicted depth maps in a folder, against those in another folder or a dataset's by a protocol."""

from pathlib import Path

import numpy as np
from PIL import Image

from depthfield import protocols, scoring
from depthfield.samples import Sample, images
from depthfield.tool import Failure, detail, progress, say

SMALLEST = 10  # least side in pixels of a map that is resized: in a smaller one, rounding hides the aspect ratio


def of_folders(
    predictions: Path, truths: Path, scale: float | None, truth_scale: float | None
) -> tuple[dict[str, dict], int]:
    """Return {"prediction": scoring.summary}, and the number of files refused or without a partner.

    Names each of these on stderr. Raises Failure if no photo is left, and like `depth_maps`.
    """
    predicted, measured = depth_maps(predictions), depth_maps(truths)
    common = sorted(predicted.keys() & measured.keys())
    if not common:
        raise Failure(f"{predictions}: no depth map has the name of one in {truths}")
    tallies, refused = [], 0
    for name in sorted(measured.keys() - predicted.keys()):
        say(f"{measured[name]}: no prediction with this name")
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
        raise Failure("no photo could be scored; see the messages above")
    if doubt := scoring.doubt(tallies):
        say(f"{predictions}: {doubt}")
    return {"prediction": scoring.summary(tallies)}, refused


def by_protocol(
    name: str, predictions: Path, raw: Path, scale: float | None, limit: int | None
) -> tuple[dict[str, dict], int]:
    """Return protocols.score of the depth maps in a folder, named like the test photos of the dataset folder `raw`."""
    predicted, photos = depth_maps(predictions), protocols.samples(name, raw, limit)
    if not any(sample.name in predicted for sample in photos):
        raise Failure(f"{predictions}: no depth map is named like a test photo of {raw} ({photos[0].name}.png)")

    def predict(sample: Sample, photo: np.ndarray) -> dict[str, np.ndarray]:
        if sample.name not in predicted:
            raise Failure(f"{sample.source}: no prediction {sample.name}.png or .npy in {predictions}")
        return {"prediction": resized(predicted[sample.name], scale, photo.shape[:2])}

    return protocols.score(name, raw, photos, predict, origin=lambda sample: predicted[sample.name])


def depth_maps(folder: Path) -> dict[str, Path]:
    """Return the depth maps of a folder, .png and .npy, by name. Raises Failure if two have the same name."""
    if not folder.is_dir():
        raise Failure(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("[!.]*")):
        if path.suffix in (".npy", ".png"):
            other = found.setdefault(path.stem, path)
            if other != path:
                raise Failure(f"{path}: {other.name} is for the same photo; move one of them away")
    return found


def resized(path: Path, scale: float | None, shape: tuple[int, int]) -> np.ndarray:
    """Return the depth map of a file, resized bilinearly to the H×W of its truth; a pixel next to no depth has none.

    Raises Failure if its aspect ratio differs by more than rounding sides to pixels explains.
    """
    depth = images.read_depth(path, scale)
    if depth.shape == shape:
        return depth
    (height, width), (true_height, true_width) = depth.shape, shape
    # Half a pixel on each side of the smaller map changes width·true_height - height·true_width by this much.
    rounding = max(height + width, true_height + true_width) / 2
    small = min(*depth.shape, *shape) < SMALLEST
    if small or abs(width * true_height - height * true_width) > rounding:
        sizes = f"it has {width}×{height} pixels, but its truth {true_width}×{true_height}"
        raise Failure(f"{path}: {sizes}: {'too small to resize' if small else 'the aspect ratios differ'}")
    return np.asarray(Image.fromarray(depth).resize(shape[::-1], Image.Resampling.BILINEAR))
