"""Write a run as a TensorFlow SavedModel that predicts without this project, or as a Keras file, to train on.

The SavedModel takes a photo and returns metres: superpixels, similarities, network, field and fill are all inside, as
TensorFlow operations. The Keras file holds network and field alone (network.model.DepthField).
"""

import math
from pathlib import Path

import tensorflow as tf

from depthfield import files
from depthfield.field.in_graph import fill, similarity, superpixels
from depthfield.prediction import Predictor
from depthfield.tool import Failure, UsageError, detail, showing
from depthfield.training import provenance

PHOTO = tf.TensorSpec([None, None, 3], tf.uint8, name="photo")
SUPERPIXELS = tf.TensorSpec([None, None], tf.int32, name="superpixels")


class Portable(tf.Module):
    """prediction.Predictor as two functions of tensors.

    Each returns {"depth": float32 H×W metres, "sigma": its standard deviation, float32 H×W metres}.
    """

    def __init__(self, predictor: Predictor):
        super().__init__(name="depthfield")
        self.parameters = [variable.value for variable in predictor.model.variables]  # as an attribute it is saved
        self.calibrated = tf.Variable(predictor.calibrated, trainable=False)  # for users of the model
        self.predictor = predictor

    @tf.function(input_signature=[PHOTO], autograph=False)
    def photo(self, photo: tf.Tensor) -> dict[str, tf.Tensor]:
        """Predict a photo, uint8 H×W×3 of any size; it is resized to about as many pixels as the training photos."""
        photos = self.predictor.survey
        scaled = shrunk(photo, math.prod(photos.largest))
        maps = self.maps(scaled, superpixels.segment(scaled, photos.superpixels))
        return {name: tf.image.resize(values[..., None], tf.shape(photo)[:2])[..., 0] for name, values in maps.items()}

    @tf.function(input_signature=[PHOTO, SUPERPIXELS], autograph=False)
    def divided(self, photo: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Predict a photo, uint8 H×W×3, at its own size, with given superpixels: labels int32 H×W, each of 0..n-1."""
        fit = tf.reduce_all(tf.shape(photo)[:2] == tf.shape(labels))
        possible = tf.clip_by_value(labels, 0, tf.size(labels) - 1)
        used = tf.math.count_nonzero(tf.math.bincount(tf.reshape(possible, [-1])), dtype=tf.int32)
        whole = (tf.reduce_min(labels) >= 0) & (used == superpixels.number(labels))
        checks = (
            tf.debugging.Assert(fit, ["superpixels do not have the photo's size"]),
            tf.debugging.Assert(whole, ["superpixels are not labelled 0 to n-1 without gaps"]),
        )
        with tf.control_dependencies(checks):
            return self.maps(tf.identity(photo), tf.identity(labels))

    def maps(self, photo: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        pairs, recipe = superpixels.pairs(labels), self.predictor.recipe
        names = self.predictor.survey.similarities
        fields = {"image": photo, "superpixels": labels, "pairs": pairs}
        fields["similarities"] = similarity.similarities(photo, labels, pairs, names, recipe.similarities)
        fields["present"] = tf.ones([superpixels.number(labels)], tf.bool)
        y, deviation = self.predictor.marginals({name: value[None] for name, value in fields.items()})
        filled = fill.smooth(tf.stack([y[0], deviation[0]], axis=1), photo, labels, pairs)
        depth = tf.clip_by_value(tf.exp(filled[..., 0]), recipe.nearest, recipe.farthest)
        return {"depth": depth, "sigma": depth * filled[..., 1]}


def shrunk(photo: tf.Tensor, pixels: int) -> tf.Tensor:
    """Shrink a photo, uint8 H×W×3, to about this number of pixels, keeping proportions; a smaller one is unchanged."""
    size = tf.cast(tf.shape(photo)[:2], tf.float64)
    shrink = tf.sqrt(tf.minimum(tf.constant(1.0, tf.float64), pixels / tf.reduce_prod(size)))
    size = tf.maximum(1, tf.cast(tf.round(size * shrink), tf.int32))
    return tf.saturate_cast(tf.round(tf.image.resize(photo, size, "lanczos3", antialias=True)), tf.uint8)


def export(run: Path, out: Path, which: str | None, form: str = "savedmodel") -> None:
    """Write a checkpoint of `run` (see Predictor) to `out` in one of FORMS, replacing an older export.

    Raises Failure if `out` is something else or cannot be written, or if the run has no checkpoint; UsageError if the
    name `out` does not fit the form.
    """
    check, write = FORMS[form]
    check(out)
    predictor = Predictor(run, checkpoint=which)
    predictor.introduce(uncertainty=True)
    try:
        write(predictor, out)
    except tf.errors.OpError as error:  # such as a full disk
        raise Failure(f"{out}: {error.message}") from None
    for path in sorted(out.rglob("*")) or [out]:
        detail(path)
    provenance.record(run, checkpoint=str(predictor.checkpoint.path), step=predictor.checkpoint.step)


def check_folder(out: Path) -> None:
    if out.exists() and not (out / "saved_model.pb").is_file():
        raise Failure(f"{out}: exists and is not a SavedModel; name another --out")


def write_saved_model(predictor: Predictor, out: Path) -> None:
    """Write the folder `out`; its signatures are serving_default(photo) and divided(photo, superpixels) of Portable."""
    portable = Portable(predictor)
    with files.whole_folder(out) as temporary, showing("tracing the model, and writing it"):
        signatures = {"serving_default": portable.photo, "divided": portable.divided}
        tf.saved_model.save(portable, str(temporary), signatures)


def check_file(out: Path) -> None:
    if out.suffix != ".keras":
        raise UsageError(f"--out: a Keras file is called NAME.keras, not {out.name}")
    files.check_writable(out)


def write_keras(predictor: Predictor, out: Path) -> None:
    """Write the file `out`: network and field with their weights, as Keras saves them."""
    with files.whole(out) as temporary, showing("writing the model"):
        predictor.model.save(temporary)


FORMS = {"savedmodel": (check_folder, write_saved_model), "keras": (check_file, write_keras)}
