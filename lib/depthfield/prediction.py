"""A run and photos of any size to depth maps with their uncertainty."""

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from depthfield import files, picture
from depthfield.field import fill as fills
from depthfield.network import model as models
from depthfield.records import patches
from depthfield.samples import folder, images
from depthfield.tool import Failure, detail, inform, say
from depthfield.training import checkpoints, provenance, survey
from depthfield.training import recipe as recipes
from depthfield.training.rounds import model_variables

# What the model sees of photos (see records.batches), of any number and size: one graph for all of them.
SEEN = {
    "image": tf.TensorSpec([None, None, None, 3], tf.uint8),
    "superpixels": tf.TensorSpec([None, None, None], tf.int32),
    "pairs": tf.TensorSpec([None, None, 2], tf.int32),
    "similarities": tf.TensorSpec([None, None, None], tf.float32),
    "present": tf.TensorSpec([None, None], tf.bool),
}
SUFFIXES = {"depth": ".png", "npy": ".npy", "picture": ".png", "uncertainty": ".npy"}  # of the files of a prediction


class Prediction(NamedTuple):
    """
    Depth of one photo and its uncertainty.

    Attributes
    ----------
    depth : ndarray of float32, shape (H, W)
        Metres along the optical axis.
    sigma : ndarray of float32, shape (H, W)
        One standard deviation of the depth, in metres.
    """

    depth: np.ndarray
    sigma: np.ndarray  # depth times the deviation of log depth: to first order


class Predictor:
    """
    Predict the depth of photos with a trained run.

    Parameters
    ----------
    run : str or Path
        Folder of the run, as ``train-depth`` leaves it.
    fill : {"smooth", "colourise"}, optional
        How depth spreads from superpixels to pixels: fast, or as the paper's authors do.
    checkpoint : {"best", "newest"}, optional
        Take the checkpoint that did best on held-out photos of its training, or the newest. By default the best if
        there is one.

    Attributes
    ----------
    checkpoint : Checkpoint
        The one that predicts: its `path`, its `step`, and, if it is the best, its `rel` on held-out photos of the
        dataset that the run was trained on. For other places and cameras it can be far worse, and `sigma` too small.
    calibrated : bool
        Whether the uncertainty was fitted to those held-out photos. If not, `sigma` is of no use.

    Raises
    ------
    depthfield.Failure
        If the folder is no run, or has no checkpoint that fits it.

    Examples
    --------
    >>> from depthfield import Predictor, read_photo
    >>> predict = Predictor("runs/first")
    >>> depth, sigma = predict(read_photo("holiday.jpg"))
    """

    def __init__(self, run: str | Path, fill: str = "smooth", checkpoint: str | None = None):
        run = Path(run)
        self.fill = fills.FILLS[fill]
        self.run, self.survey = run, survey.read(run)
        self.recipe = recipes.load(str(run / "recipe.toml"))
        self.checkpoint = checkpoints.chosen(run, checkpoint)
        self.model = models.build(self.recipe, self.survey.similarities, self.survey.mean_log_depth)
        variables = model_variables(self.model)
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        checkpoints.fit(self.checkpoint, shapes, self.survey.made_with())
        for name, variable in variables.items():
            variable.assign(self.checkpoint.values[name])
        self.marginals = tf.function(self.model.marginals, input_signature=[SEEN])

    @property
    def calibrated(self) -> bool:
        """Whether τ and scale were set on held-out photos; else they are 1, and deviations are of no use as such."""
        return self.model.calibrated

    def __call__(self, photos: np.ndarray | Iterable[np.ndarray]) -> "Prediction | list[Prediction]":
        """
        Predict one photo or several.

        Parameters
        ----------
        photos : ndarray of uint8, shape (H, W, 3), or iterable of such
            RGB photos of any size. Photos larger than those of the training are made smaller first, and their depth
            is brought back to the full size.

        Returns
        -------
        prediction : Prediction or list of Prediction
            Depth and sigma of the photo, of its size; a list of them for several photos.

        Raises
        ------
        ValueError
            If a photo is not uint8 of shape (H, W, 3).
        depthfield.Failure
            If a photo is too small for one superpixel.

        Examples
        --------
        >>> depth, sigma = predict(photo)
        >>> for depth, sigma in predict([photo, another]):
        ...     print(depth.shape, depth.mean())
        """
        if isinstance(photos, np.ndarray) and photos.ndim == 3:
            return self.photo(checked(photos, "the photo"), "the photo")
        numbered = ((f"photo {number}", photo) for number, photo in enumerate(photos))
        return [self.photo(checked(photo, name), name) for name, photo in numbered]

    def introduce(self, uncertainty: bool) -> None:
        """Say on stderr which checkpoint predicts and, if the uncertainty is wanted, where it is not calibrated."""
        dataset = provenance.dataset(self.run) or "its own dataset"
        inform(f"predicting with {self.checkpoint.in_words(dataset)}")
        if uncertainty and not self.calibrated:
            say(f"{self.run}: the uncertainty is not calibrated: no photo was held out, or none measured so far")

    def photo(self, image: np.ndarray, where: object, clamp: bool = True) -> Prediction:
        """Predict a photo, uint8 H×W×3, of any size; it is brought to as many pixels as the training photos had.

        With `clamp`, depths are brought into the recipe's range. Raises Failure, beginning with `where`, where the
        photo is too small for one superpixel.
        """
        height, width = image.shape[:2]
        unknown = np.full((height, width), np.nan, np.float32)
        maps = self.patch(self.divide(image, unknown, where)._asdict(), clamp)
        return Prediction(*(enlarged(one, width, height) for one in maps))

    def divide(self, image: np.ndarray, depth: np.ndarray, where: object) -> patches.Patch:
        """Divide a photo, uint8 H×W×3, as those of the training were, in as many pixels; depth float32 H×W or NaN.

        Raises Failure, beginning with `where`, where the photo is too small for one superpixel.
        """
        height, width = image.shape[:2]
        shrink = min(1.0, np.sqrt(math.prod(self.survey.largest) / (width * height)))
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        scaled, scaled_depth = picture.resized(image, size), picture.resized_map(depth, size)
        try:
            return patches.make(scaled, scaled_depth, str(where), "", self.survey.superpixels, self.survey.similarities)
        except Failure as failure:
            raise Failure(f"{where}: {failure}") from None

    def patch(self, fields: Mapping[str, np.ndarray], clamp: bool = True) -> Prediction:
        """Predict a photo that is divided already: the fields of a patch file or of an example; `clamp` as above."""
        seen = {name: fields[name][None] for name in SEEN if name != "present"}
        y, deviation = self.marginals(seen | {"present": np.ones((1, len(fields["depth"])), bool)})
        both = np.stack([y[0], deviation[0]], axis=1)
        log_depth, deviation = np.moveaxis(
            self.fill(both, fields["image"], fields["superpixels"], fields["pairs"]), 2, 0
        )
        depth = np.exp(log_depth)
        if clamp:
            depth = np.clip(depth, self.recipe.nearest, self.recipe.farthest)
        return Prediction(depth, depth * deviation)


def checked(photo: np.ndarray, name: str) -> np.ndarray:
    """The photo as an array; ValueError where it is no uint8 H×W×3."""
    photo = np.asarray(photo)
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
        raise ValueError(f"{name} is {photo.dtype} of shape {photo.shape}, not uint8 of shape (height, width, 3)")
    return photo


def enlarged(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """A float32 map brought to height×width bilinearly."""
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))


# ---- files


def write(
    prediction: Prediction,
    out: Path,
    name: str,
    scale: float,
    kinds: Sequence[str],
    colours: tuple[float, float] | None = None,
) -> Path:
    """Write OUT/KIND/NAME.SUFFIX for depth and each of `kinds`, out of SUFFIXES; the path of the depth map.

    A folder for each kind: score-depth wants one depth map a photo. Where another depth map is replaced, files of the
    kinds not asked for are removed, as they belong to that one. The other arguments and what is raised are those of
    `encoded`.
    """
    paths = {kind: out / kind / f"{name}{suffix}" for kind, suffix in SUFFIXES.items()}
    contents = {kind: encoded(prediction, kind, paths[kind], scale, colours) for kind in ("depth", *kinds)}
    if not paths["depth"].exists() or paths["depth"].read_bytes() != contents["depth"]:
        for path in (path for kind, path in paths.items() if kind not in contents and path.exists()):
            path.unlink()
            detail(f"{path}: removed, it was of another prediction")
    for kind, content in contents.items():
        with files.whole(paths[kind]) as temporary:
            temporary.write_bytes(content)
    return paths["depth"]


def encoded(
    prediction: Prediction, kind: str, where: object, scale: float, colours: tuple[float, float] | None = None
) -> bytes:
    """A file of a prediction: `depth`, a PNG in units of `scale` metres; `npy`; `picture`, whose colours reach from
    one of `colours` to the other, metres, or else over its own span; or `uncertainty`.

    Raises Failure, beginning with `where`, where a depth is beyond what 16 bits hold at this scale.
    """
    if kind == "depth":
        return images.depth_png(prediction.depth, scale, where)
    content = io.BytesIO()
    if kind == "picture":
        low, high = colours or picture.span(prediction.depth)
        Image.fromarray(picture.with_scale_bar(prediction.depth, low, high)).save(content, "PNG")
    else:
        np.save(content, prediction.depth if kind == "npy" else prediction.sigma)
    return content.getvalue()


def photos(paths: Sequence[Path]) -> Iterator[Path]:
    """The photos named, and those in the folders named, in natural order: frame2 before frame10."""
    suffixes = Image.registered_extensions().keys()
    for path in paths:
        if path.is_dir():
            inside = [p for p in path.iterdir() if p.suffix.lower() in suffixes and p.name[0] != "."]
            if not inside:
                raise Failure(f"{path}: no photo in this folder")
            yield from sorted(inside, key=lambda photo: (folder.natural_order(photo.name), photo.name))
        else:
            yield path
