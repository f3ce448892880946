"""A run and a photo of any size to a depth map with its uncertainty."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from depthfield import files, picture
from depthfield.field import fill
from depthfield.network import model as models
from depthfield.records import batches, patches
from depthfield.samples import images
from depthfield.tool import Failure, inform, say
from depthfield.training import checkpoints, survey
from depthfield.training import recipe as recipes
from depthfield.training.rounds import model_variables


class Prediction(NamedTuple):
    """float32 H×W each: metres along the optical axis, and one standard deviation of it in metres (depth times that of
    log depth, to first order)."""

    depth: np.ndarray
    sigma: np.ndarray


class Predictor:
    """A checkpoint of a run: `best`, `newest`, or where None the best if there is one; it is told which.

    Raises Failure where the run has none, or one of another recipe or of photos made with other settings.
    """

    def __init__(self, run: Path, how: str = "smooth", which: str | None = None):
        self.fill = fill.FILLS[how]
        self.run, self.survey = run, survey.read(run)
        self.recipe = recipes.load(str(run / "recipe.toml"))
        self.checkpoint = checkpoints.chosen(run, which)
        self.model = models.build(self.recipe, self.survey.similarities, self.survey.mean_log_depth)
        variables = model_variables(self.model)
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        checkpoints.fit(self.checkpoint, shapes, self.survey.made_with())
        for name, variable in variables.items():
            variable.assign(self.checkpoint.values[name])
        self.marginals = tf.function(self.model.marginals, reduce_retracing=True)
        inform(f"predicting with {self.checkpoint.in_words()}")

    @property
    def calibrated(self) -> bool:
        """Whether τ and scale were set on held-out photos; else they are 1, and deviations are of no use as such."""
        return float(self.model.scale) != 1

    def say_calibrated(self) -> None:
        """Say so where the uncertainty is not calibrated."""
        if not self.calibrated:
            say(f"{self.run}: the uncertainty is not calibrated: no photo was held out, or none measured so far")

    def photo(self, image: np.ndarray, where: object, clamp: bool = True) -> Prediction:
        """Predict a photo, uint8 H×W×3, of any size; it is brought to as many pixels as the training photos had.

        With `clamp`, depths are brought into the recipe's range. Raises Failure, beginning with `where`, where the
        photo is too small for one superpixel.
        """
        height, width = image.shape[:2]
        shrink = min(1.0, np.sqrt(math.prod(self.survey.largest) / (width * height)))
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        scaled = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
        unknown = np.full(scaled.shape[:2], np.nan, np.float32)
        try:
            patch = patches.make(scaled, unknown, "", "", self.survey.superpixels, self.survey.similarities)
        except Failure as failure:
            raise Failure(f"{where}: {failure}") from None
        maps = self.patch(patch._asdict(), clamp)
        return Prediction(*(enlarged(one, width, height) for one in maps))

    def patch(self, fields: dict[str, np.ndarray], clamp: bool = True) -> Prediction:
        """Predict a photo that is divided already: the fields of a patch file or of an example; `clamp` as above."""
        photo = batches.prepare({name: tf.convert_to_tensor(fields[name]) for name in batches.FIELDS})
        y, deviation = self.marginals({name: value[None] for name, value in photo.items()})
        both = np.stack([y[0], deviation[0]], axis=1)
        log_depth, deviation = np.moveaxis(
            self.fill(both, fields["image"], fields["superpixels"], fields["pairs"]), 2, 0
        )
        depth = np.exp(log_depth)
        if clamp:
            depth = np.clip(depth, self.recipe.nearest, self.recipe.farthest)
        return Prediction(depth, depth * deviation)


def enlarged(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """A float32 map brought to height×width bilinearly."""
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))


def write(prediction: Prediction, out: Path, name: str, scale: float, kinds: Sequence[str]) -> Path:
    """Write OUT/depth/NAME.png in units of `scale` metres, and of npy, picture and uncertainty those in `kinds`.

    Returns the path of the depth map. Raises Failure where a depth is beyond what 16 bits hold at this scale.
    """
    depth = out / "depth" / f"{name}.png"
    images.write_depth_png(depth, prediction.depth, scale)
    if "npy" in kinds:  # in a folder of its own: score-depth wants one depth map a photo
        write_array(out / "npy" / f"{name}.npy", prediction.depth)
    if "uncertainty" in kinds:
        write_array(out / "uncertainty" / f"{name}.npy", prediction.sigma)
    if "picture" in kinds:
        with files.whole(out / "picture" / f"{name}.png") as temporary:
            Image.fromarray(picture.coloured(prediction.depth, *picture.span(prediction.depth))).save(temporary)
    return depth


def write_array(path: Path, values: np.ndarray) -> None:
    with files.whole(path) as temporary:
        np.save(temporary, values)


def photos(paths: Sequence[Path]) -> Iterator[Path]:
    """The photos named, and those in the folders named, in the order of their names."""
    suffixes = Image.registered_extensions().keys()
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes and p.name[0] != ".")
            if not inside:
                raise Failure(f"{path}: no photo in this folder")
            yield from inside
        else:
            yield path
