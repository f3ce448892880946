"""Where the camera stands, and the ray through each pixel."""

import math
from typing import NamedTuple

import numpy as np


class Camera(NamedTuple):
    """A pinhole camera without distortion; metres and radians, z upwards."""

    position: tuple[float, float, float]
    yaw: float  # of the optical axis, from +x towards +y
    tilt: float  # of the optical axis above the horizon
    roll: float  # of the camera, anticlockwise as the photographer sees it
    field_of_view: float  # from the left to the right edge of the photo


def axes(camera: Camera) -> np.ndarray:
    """Unit vectors to the photo's right, to its bottom and along the optical axis, as rows: 3×3, world coordinates."""
    cy, sy, ct, st = math.cos(camera.yaw), math.sin(camera.yaw), math.cos(camera.tilt), math.sin(camera.tilt)
    right, down, forward = np.array([(sy, -cy, 0.0), (cy * st, sy * st, -ct), (cy * ct, sy * ct, st)])
    cr, sr = math.cos(camera.roll), math.sin(camera.roll)
    return np.stack([cr * right - sr * down, sr * right + cr * down, forward])


def focal_length(camera: Camera, size: tuple[int, int]) -> float:
    """In pixels, for photos of `size` (rows, columns)."""
    return size[1] / 2 / math.tan(camera.field_of_view / 2)


def grid(camera: Camera, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What to go right (one for each column) and down (one for each row) on the plane one metre ahead to meet the
    middle of a pixel. The ray `right·axes[0] + down·axes[1] + axes[2]` advances one metre along the optical axis for
    each unit of t, so that t of a hit is its depth.
    """
    height, width = size
    f = focal_length(camera, size)
    return (np.arange(width) + 0.5 - width / 2) / f, (np.arange(height) + 0.5 - height / 2) / f
