"""Photos of a training varied at random, so that superpixels, pairs and depths stay those of what is seen."""

import math
from typing import NamedTuple

import tensorflow as tf

FIELD_OF_VIEW = 62.5  # degrees, of a photo's width: a phone's, a depth camera's


class Augmentation(NamedTuple):
    """How far photos may be varied; see the keys of a recipe."""

    mirror: bool = False
    crop: float = 1.0
    turn: float = 0.0
    colour: float = 0.0

    @property
    def looks_elsewhere(self) -> bool:
        """Whether depths have to be measured anew."""
        return self.crop < 1 or self.turn > 0


def vary(photo: dict[str, tf.Tensor], how: Augmentation, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """One of the ways to see a photo (see records.batches), with its `depth_map`; `seed` int64 [2] says which."""
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
    """The photo and its maps left for right; labels stay, so nothing else changes."""
    maps = {name: photo[name][:, ::-1] for name in ("image", "superpixels", "depth_map") if name in photo}
    return photo | maps


def warp(photo: dict[str, tf.Tensor], least: float, degrees: float, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """The photo as another camera at the same place would take it: turned, and with a longer lens.

    It is turned by up to `degrees` to a side and half that up or down, and sees a random window of at least the share
    `least` of height and width. Depth is along the axis of the turned camera; and as what is d away looks through a
    lens of 1/s the focal length like what is s·d away, it is multiplied by the window's share s. The lens is taken for
    one of FIELD_OF_VIEW; with one of other angles the turn is a little more or less. What was not in the photo has no
    superpixel, and superpixels that are out of sight altogether are present no longer.
    """
    height, width = tf.unstack(tf.cast(tf.shape(photo["superpixels"]), tf.float32))
    draw = tf.random.stateless_uniform([5], seed)
    share = least + (1 - least) * draw[0]
    right, down = (1 - share) * width * (draw[1] - 0.5), (1 - share) * height * (draw[2] - 0.5)  # of the middle
    yaw, pitch = math.radians(degrees) * (2 * draw[3] - 1), math.radians(degrees / 2) * (2 * draw[4] - 1)
    focal = width / (2 * math.tan(math.radians(FIELD_OF_VIEW / 2)))
    middle = (width - 1) / 2, (height - 1) / 2
    window = intrinsics(focal / share, middle[0] - right / share, middle[1] - down / share)
    to_old = homography(intrinsics(focal, *middle), rotation(yaw, pitch), window)
    x, y = tf.meshgrid(tf.range(width), tf.range(height))
    along = to_old[2, 0] * x + to_old[2, 1] * y + to_old[2, 2]  # the old axis, of what is at depth 1 along the new one

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
    """K of a camera, float32 [3, 3], with its focal length and the column and row of its axis, all in pixels.

    It takes a point (X, Y, Z), right, down and ahead, to Z(column, row, 1): Hartley and Zisserman 2004, section 6.1.
    """
    return matrix([[focal, 0.0, x], [0.0, focal, y], [0.0, 0.0, 1.0]])


def rotation(yaw: tf.Tensor, pitch: tf.Tensor) -> tf.Tensor:
    """R, float32 [3, 3]: from the axes of a camera that is turned to the right by `yaw` and up by `pitch`, in radians,
    to the axes it had before."""
    pan = matrix([[tf.cos(yaw), 0.0, tf.sin(yaw)], [0.0, 1.0, 0.0], [-tf.sin(yaw), 0.0, tf.cos(yaw)]])
    tilt = matrix([[1.0, 0.0, 0.0], [0.0, tf.cos(pitch), -tf.sin(pitch)], [0.0, tf.sin(pitch), tf.cos(pitch)]])
    return pan @ tilt


def homography(old: tf.Tensor, turn: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    """H = K R K'⁻¹, float32 [3, 3]: from pixels (column, row, 1) of a camera K' to those of a camera K in its place.

    R, `turn`, goes from the axes of K' to those of K (Hartley and Zisserman 2004, section 8.4.2). What is at depth 1 of
    K' is at the third coordinate as depth of K, for the last row of both matrices is (0, 0, 1).
    """
    return old @ turn @ tf.linalg.inv(new)


def matrix(rows: list[list]) -> tf.Tensor:
    return tf.stack([tf.stack(row) for row in rows])


def measured_anew(photo: dict[str, tf.Tensor], labels: tf.Tensor, depth_map: tf.Tensor) -> dict[str, tf.Tensor]:
    """What follows of maps of superpixels and depth: depths, presence, and the pairs of those present."""
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
    """Brightness, contrast, saturation and hue shifted at random, as another camera or light would."""
    seeds = tf.random.split(seed, 4)
    image = tf.image.convert_image_dtype(image, tf.float32)
    image = tf.image.stateless_random_brightness(image, 0.25 * strength, seeds[0])
    image = tf.image.stateless_random_contrast(image, 1 - 0.5 * strength, 1 + 0.5 * strength, seeds[1])
    image = tf.image.stateless_random_saturation(image, 1 - 0.5 * strength, 1 + 0.5 * strength, seeds[2])
    image = tf.image.stateless_random_hue(image, 0.06 * strength, seeds[3])
    return tf.image.convert_image_dtype(tf.clip_by_value(image, 0.0, 1.0), tf.uint8, saturate=True)
