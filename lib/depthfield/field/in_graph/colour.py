"""Perceptual colour spaces, CIE Lab and LUV under D65 white, as in skimage.color."""

import tensorflow as tf

# The primaries of sRGB (IEC 61966-2-1), one row for each of X, Y, Z; and its white.
XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
WHITE = (0.95047, 1.0, 1.08883)
DARK = 0.008856  # share of white below which the response is linear


def stretched(image: tf.Tensor) -> tf.Tensor:
    """Scale a photo, uint8 H×W×3, so that its smallest value is 0 and its largest 1; returns float64."""
    values = tf.cast(image, tf.float64)
    least = tf.reduce_min(values)
    return tf.math.divide_no_nan(values - least, tf.reduce_max(values) - least)


def xyz(rgb: tf.Tensor) -> tf.Tensor:
    """Convert sRGB from 0 to 1, float64 …×3, to CIE XYZ."""
    linear = tf.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    return tf.tensordot(linear, tf.constant(XYZ, tf.float64), axes=[[-1], [1]])


def lab(rgb: tf.Tensor) -> tf.Tensor:
    """Convert sRGB from 0 to 1, float64 …×3, to CIE Lab."""
    share = xyz(rgb) / tf.constant(WHITE, tf.float64)
    x, y, z = tf.unstack(tf.where(share > DARK, share ** (1 / 3), 7.787 * share + 16 / 116), axis=-1)
    return tf.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def luv(rgb: tf.Tensor) -> tf.Tensor:
    """Convert sRGB from 0 to 1, float64 …×3, to CIE LUV; black is 0."""
    x, y, z = tf.unstack(xyz(rgb), axis=-1)
    lightness = tf.where(y > DARK, 116 * y ** (1 / 3) - 16, 903.3 * y)
    white = WHITE[0] + 15 * WHITE[1] + 3 * WHITE[2]
    total = x + 15 * y + 3 * z
    u = tf.math.divide_no_nan(4 * x, total) - 4 * WHITE[0] / white
    v = tf.math.divide_no_nan(9 * y, total) - 9 * WHITE[1] / white
    return tf.stack([lightness, 13 * lightness * u, 13 * lightness * v], axis=-1)
