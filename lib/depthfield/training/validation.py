"""Validation: scores on the held-out photos, and the uncertainty (τ and scale) that fits them."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from depthfield import picture, scoring
from depthfield.field import fill, random_field
from depthfield.network.model import DepthField
from depthfield.records import batches
from depthfield.records.index import Photo
from depthfield.tool import Meter

PICTURED = 3  # photos shown in TensorBoard


class Validation:
    """Scores the held-out photos, or other photos if there are none; with `calibrate`, also sets τ and scale."""

    def __init__(self, model: DepthField, photos: Sequence[Photo], batch_size: int, calibrate: bool):
        self.model, self.photos, self.calibrate = model, photos, calibrate
        self.batches = batches.once(photos, batch_size)
        apart = photos[:: math.ceil(len(photos) / PICTURED)]  # neighbours may show the same place
        # A photo's source may have the name of another dataset: rendered rooms come in a file like that of NYU.
        self.pictured = [(f"{photo.shard.parent}: {photo.source}", batches.once([photo], 1)) for photo in apart]
        self.measure = tf.function(self._measure, input_signature=[self.batches.element_spec])

    def _measure(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        z, weights = self.model(batch)
        missing = batch["present"] & ~batch["measured"]
        terms = random_field.likelihood_terms(z, weights, batch["pairs"], batch["log_depth"], missing)
        y, deviation = random_field.marginals(z, weights, batch["pairs"], tf.ones([]))
        return z, y, (y - batch["log_depth"]) / deviation, *terms

    def run(self) -> tuple[dict[str, float], np.ndarray]:
        """Score the model, set the τ and scale that are best for held-out photos; return scores by name, and all z.

        Scores are over superpixels, each against its mean measured depth: fast, and close to scores over pixels. `nll`
        is -log Pr(y | photo) per measured superpixel at that τ; `scale` is the root of the mean squared error in units
        of the deviations before scaling; `unary_rel` is rel of z without the field.
        """
        answers, unaries, every_z, squares, q, log_determinants, measured = [], [], [], 0.0, 0.0, 0.0, 0.0
        for batch in self.measured():
            z, y, standardised, batch_q, batch_log = self.measure(batch)
            known = batch["measured"].numpy()
            every_z.append(z.numpy()[batch["present"].numpy()])
            truth = np.exp(batch["log_depth"].numpy()[known])
            answers.append(scoring.tally(np.exp(y.numpy()[known]), truth))
            unaries.append(scoring.tally(np.exp(z.numpy()[known]), truth))
            squares += float((standardised.numpy()[known].astype(np.float64) ** 2).sum())
            q += float(tf.reduce_sum(batch_q))
            log_determinants += float(tf.reduce_sum(batch_log))
            measured += known.sum()
        tau = random_field.best_tau(q, measured) if self.calibrate else 1.0
        scale = float(np.sqrt(tau * squares / measured))
        if self.calibrate and np.isfinite(tau * scale):
            self.model.tau.assign(tau)
            self.model.scale.assign(scale)
        nll = random_field.negative_log_likelihood(q, log_determinants, measured, tau)
        scores = scoring.summary(answers)["pooled over pixels"]
        unary = scoring.summary(unaries)["pooled over pixels"]
        scores |= {"unary_rel": unary["rel"], "nll": float(nll) / measured, "tau": tau, "scale": scale}
        return scores, np.concatenate(every_z)

    def measured(self) -> Iterator[dict[str, tf.Tensor]]:
        """Yield the batches, showing how many photos are done."""
        with Meter("photos", len(self.photos), what="measuring,") as meter:
            for batch in self.batches:
                yield batch
                meter.advance(len(batch["measured"]))

    def pictures(self) -> dict[str, np.ndarray]:
        """Return photo | truth | prediction | uncertainty of some photos, uint8 [H, 4W + gaps and bars, 3], by name."""
        panels = {}
        for name, photos in self.pictured:
            (batch,) = photos
            photo = {key: value[0] for key, value in batch.items()}
            y, sigma = self.model.marginals(batch)
            truth = np.where(photo["measured"], np.exp(photo["log_depth"]), np.nan)
            image, labels, pairs = (photo[key].numpy() for key in ("image", "superpixels", "pairs"))
            depth, deviation = np.moveaxis(fill.smooth(np.stack([y[0], sigma[0]], axis=1), image, labels, pairs), 2, 0)
            sigma = np.exp(depth) * deviation
            panels[name] = picture.panel(image, truth[labels], np.exp(depth), sigma, self.calibrate)
        return panels
