"""The camera: its position, and the ray through each pixel."""

import math
from typing import NamedTuple

import numpy as np


class Camera(NamedTuple):
    """A pinhole camera without distortion; metres and radians, z upwards."""

    position: tuple[float, float, float]
    yaw: float  # of the optical axis, from +x towards +y
    tilt: float  # of the optical axis above the horizon
    roll: float  # of the camera, anticlockwise as seen by the photographer
    field_of_view: float  # from the left to the right edge of the photo


def axes(camera: Camera) -> np.ndarray:
    """Return unit vectors to the right, down and along the optical axis: the rows of a 3×3, in world coordinates."""
    cy, sy, ct, st = math.cos(camera.yaw), math.sin(camera.yaw), math.cos(camera.tilt), math.sin(camera.tilt)
    right, down, forward = np.array([(sy, -cy, 0.0), (cy * st, sy * st, -ct), (cy * ct, sy * ct, st)])
    cr, sr = math.cos(camera.roll), math.sin(camera.roll)
    return np.stack([cr * right - sr * down, sr * right + cr * down, forward])


def focal_length(camera: Camera, size: tuple[int, int]) -> float:
    """Return the focal length in pixels, for photos of `size` (rows, columns)."""
    return size[1] / 2 / math.tan(camera.field_of_view / 2)


def grid(camera: Camera, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of pixel centres on the plane one metre ahead: right (per column) and down (per row).

    The ray `right·axes[0] + down·axes[1] + axes[2]` advances one metre along the optical axis per unit of t, so that t
    of a hit is its depth.
    """
    height, width = size
    f = focal_length(camera, size)
    return (np.arange(width) + 0.5 - width / 2) / f, (np.arange(height) + 0.5 - height / 2) / f
