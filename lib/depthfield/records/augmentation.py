"""Random variations of training photos that keep superpixels, pairs and depths consistent."""

import math
from typing import NamedTuple

import tensorflow as tf

FIELD_OF_VIEW = 62.5  # degrees, across a photo's width: as for phones and depth cameras


class Augmentation(NamedTuple):
    """How much photos may be varied; see the keys of a recipe."""

    mirror: bool = False
    crop: float = 1.0
    turn: float = 0.0
    colour: float = 0.0

    @property
    def looks_elsewhere(self) -> bool:
        """Whether depths must be computed again."""
        return self.crop < 1 or self.turn > 0


def vary(photo: dict[str, tf.Tensor], how: Augmentation, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return a variation of a photo (see records.batches) with its `depth_map`; `seed` int64 [2] selects it."""
    draw = tf.random.split(seed, 4)
    if how.looks_elsewhere:
        photo = warp(photo, how.crop, how.turn, draw[0])
    if how.mirror:
        coin = tf.random.stateless_uniform([], draw[1]) < 0.5
        photo = tf.cond(coin, lambda: mirror(photo), lambda: photo)
    if how.colour:
        photo = photo | {"image": recolour(photo["image"], how.colour, draw[2])}
    return photo


def mirror(photo: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Flip the photo and its maps left to right; labels stay, so nothing else changes."""
    maps = {name: photo[name][:, ::-1] for name in ("image", "superpixels", "depth_map") if name in photo}
    return photo | maps


def warp(photo: dict[str, tf.Tensor], least: float, degrees: float, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the photo as another camera at the same position would take it: turned, and with a longer lens.

    The camera turns by up to `degrees` to a side and half that up or down, and sees a random window of at least the
    share `least` of height and width. Depth is along the axis of the turned camera. It is multiplied by the window's
    share s: at 1/s times the focal length, an object at distance d looks like one at s·d. The lens is assumed to have
    FIELD_OF_VIEW; for others the turn is a little larger or smaller. Pixels that were not in the photo have no
    superpixel, and superpixels out of sight are no longer present.
    """
    height, width = tf.unstack(tf.cast(tf.shape(photo["superpixels"]), tf.float32))
    draw = tf.random.stateless_uniform([5], seed)
    share = least + (1 - least) * draw[0]
    right, down = (1 - share) * width * (draw[1] - 0.5), (1 - share) * height * (draw[2] - 0.5)  # of the centre
    yaw, pitch = math.radians(degrees) * (2 * draw[3] - 1), math.radians(degrees / 2) * (2 * draw[4] - 1)
    focal = width / (2 * math.tan(math.radians(FIELD_OF_VIEW / 2)))
    middle = (width - 1) / 2, (height - 1) / 2
    window = intrinsics(focal / share, middle[0] - right / share, middle[1] - down / share)
    to_old = homography(intrinsics(focal, *middle), rotation(yaw, pitch), window)
    x, y = tf.meshgrid(tf.range(width), tf.range(height))
    along = to_old[2, 0] * x + to_old[2, 1] * y + to_old[2, 2]  # old depth of points at new depth 1

    def seen(name: str, interpolation: str, beyond: str, fill: float = 0.0) -> tf.Tensor:
        values = tf.cast(photo[name], tf.float32)
        transform = tf.reshape(to_old, [9])
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=tf.reshape(values, [1, *tf.unstack(tf.shape(values)[:2]), 3 if name == "image" else 1]),
            transforms=transform[None, :8] / transform[8],
            output_shape=tf.shape(values)[:2],
            fill_value=fill,
            interpolation=interpolation,
            fill_mode=beyond,
        )[0]

    labels = tf.cast(seen("superpixels", "NEAREST", "CONSTANT", -1.0)[..., 0], tf.int32)
    depth_map = seen("depth_map", "NEAREST", "CONSTANT", math.nan)[..., 0] / along * share
    image = tf.cast(tf.round(seen("image", "BILINEAR", "NEAREST")), tf.uint8)
    maps = {"image": image, "superpixels": labels, "depth_map": depth_map}
    return photo | maps | measured_anew(photo, labels, depth_map)


def intrinsics(focal: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Return K of a camera, float32 [3, 3], from its focal length and the column and row of its axis, all in pixels.

    K maps a point (X, Y, Z), right, down and ahead, to Z(column, row, 1): Hartley and Zisserman 2004, section 6.1.
    """
    return matrix([[focal, 0.0, x], [0.0, focal, y], [0.0, 0.0, 1.0]])


def rotation(yaw: tf.Tensor, pitch: tf.Tensor) -> tf.Tensor:
    """Return R, float32 [3, 3], from the axes of a camera turned right by `yaw` and up by `pitch` (radians) to its
    original axes."""
    pan = matrix([[tf.cos(yaw), 0.0, tf.sin(yaw)], [0.0, 1.0, 0.0], [-tf.sin(yaw), 0.0, tf.cos(yaw)]])
    tilt = matrix([[1.0, 0.0, 0.0], [0.0, tf.cos(pitch), -tf.sin(pitch)], [0.0, tf.sin(pitch), tf.cos(pitch)]])
    return pan @ tilt


def homography(old: tf.Tensor, turn: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    """Return H = K R K'⁻¹, float32 [3, 3], from pixels (column, row, 1) of a camera K' to those of a camera K.

    Both have the same position. R, `turn`, goes from the axes of K' to those of K (Hartley and Zisserman 2004, section
    8.4.2). The third coordinate is the depth in K of a point at depth 1 in K', because the last row of both matrices is
    (0, 0, 1).
    """
    return old @ turn @ tf.linalg.inv(new)


def matrix(rows: list[list]) -> tf.Tensor:
    return tf.stack([tf.stack(row) for row in rows])


def measured_anew(photo: dict[str, tf.Tensor], labels: tf.Tensor, depth_map: tf.Tensor) -> dict[str, tf.Tensor]:
    """Recompute depths, presence and pairs from the maps of superpixels and depth."""
    count = tf.size(photo["present"])
    flat, metres = tf.reshape(labels, [-1]), tf.reshape(depth_map, [-1])
    valid = tf.cast(metres > 0, tf.float32)  # 0 for NaN
    pixels = tf.math.unsorted_segment_sum(valid, flat, count)
    depth = tf.math.unsorted_segment_sum(tf.where(valid > 0, metres, 0.0), flat, count) / tf.maximum(pixels, 1.0)
    present = tf.math.unsorted_segment_sum(tf.ones_like(flat), flat, count) > 0
    both = tf.reduce_all(tf.gather(present, photo["pairs"]), axis=1, keepdims=True)
    return {
        "log_depth": tf.math.log(tf.where(pixels > 0, depth, 1.0)),
        "measured": pixels > 0,
        "present": present,
        "pairs": tf.where(both, photo["pairs"], 0),
        "similarities": tf.where(both, photo["similarities"], 0.0),
    }


def recolour(image: tf.Tensor, strength: float, seed: tf.Tensor) -> tf.Tensor:
    """Shift brightness, contrast, saturation and hue at random, like another camera or light."""
    seeds = tf.random.split(seed, 4)
    image = tf.image.convert_image_dtype(image, tf.float32)
    image = tf.image.stateless_random_brightness(image, 0.25 * strength, seeds[0])
    image = tf.image.stateless_random_contrast(image, 1 - 0.5 * strength, 1 + 0.5 * strength, seeds[1])
    image = tf.image.stateless_random_saturation(image, 1 - 0.5 * strength, 1 + 0.5 * strength, seeds[2])
    image = tf.image.stateless_random_hue(image, 0.06 * strength, seeds[3])
    return tf.image.convert_image_dtype(tf.clip_by_value(image, 0.0, 1.0), tf.uint8, saturate=True)
