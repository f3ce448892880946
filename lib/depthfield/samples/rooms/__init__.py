"""Rendered rooms: photos of furnished rooms with exact depth, for users without a dataset, in NYU's layout.

A room depends only on (seed, split, index, size). Sines, powers and other functions whose last bits differ between
machines are computed in float64; photos are rounded to 8 bits and depth to a tenth of a millimetre, so that the
differences practically never show.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import scipy.io

from depthfield import files
from depthfield.samples.rooms import photo, scene
from depthfield.samples.rooms.camera import Camera
from depthfield.tool import UsageError, cores, parallel, progress

SPLITS = ("train", "test")
SMALLEST = 16  # pixels
MATLAB_HEADER = b"MATLAB 7.3 MAT-file, Platform: depthfield, Created by: fetch-dataset rooms HDF5 schema 1.00 ."
SENSOR_REACH = 9.0  # metres: range of the depth camera


class Rendered(NamedTuple):
    image: np.ndarray  # uint8 H×W×3 RGB
    depth: np.ndarray  # float32 H×W metres along the optical axis, exact at the pixel's centre
    measured: np.ndarray  # the same as a depth camera would measure, 0 for no measurement
    kind: str  # the kind of room
    camera: Camera


def render(seed: int, split: str, index: int, size: tuple[int, int]) -> Rendered:
    """Render room `index` of a split ("train" or "test") as a photo of size (height, width)."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    room = scene.furnish(rng)
    camera = scene.stand(rng, room)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # rays parallel to a face miss it
        view = photo.look(room, camera, size)
        image = photo.develop(rng, photo.shine(room, camera, view), view.seen * 4 + view.side)
    depth = np.round(view.depth, 4).astype(np.float32)
    return Rendered(image, depth, sensed(rng, view), room.kind, camera)


def sensed(rng: np.random.Generator, view: photo.View) -> np.ndarray:
    """Return float32 depth with the holes of a structured-light camera: at edges, on glass, on dark faces, far away."""
    depth = np.round(view.depth, 4)
    edge = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        jump = np.abs(np.diff(depth, axis=axis)) > 0.05 * np.minimum(*neighbours(depth, axis))
        near, far = neighbours(edge, axis)
        near |= jump
        far |= jump
    dark = view.albedo.mean(axis=0) < 0.05
    lost = edge | view.glass | (depth > SENSOR_REACH) | (dark & (rng.random(depth.shape) < 0.7))
    return np.where(lost, 0, depth).astype(np.float32)


def neighbours(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return views of all but the last and of all but the first along an axis."""
    return (values[:-1], values[1:]) if axis == 0 else (values[:, :-1], values[:, 1:])


def write(
    raw: Path, train: int, test: int, size: tuple[int, int] = (240, 320), seed: int = 0, jobs: int | None = None
) -> None:
    """Render rooms into RAW/nyu_depth_v2_labeled.mat and RAW/splits.mat, each whole or not at all.

    size is (height, width) in pixels; jobs is the number of processes, one per core by default. Raises UsageError for
    no rooms, or photos smaller than 16×16.
    """
    if train < 0 or test < 0 or train + test < 1:
        raise UsageError(f"--count {train},{test}: no rooms to render")
    if min(size) < SMALLEST:
        raise UsageError(f"--size {size[0]}x{size[1]}: too small; the minimum is {SMALLEST}x{SMALLEST} pixels")
    wanted = [("train", index) for index in range(train)] + [("test", index) for index in range(test)]
    rendered = parallel(partial(render_one, seed=seed, size=size), wanted, min(jobs or cores(), len(wanted)))
    with files.whole(raw / "nyu_depth_v2_labeled.mat") as temporary:
        store(temporary, progress(rendered, len(wanted), "rooms"), len(wanted), size)
    numbers = np.arange(1, len(wanted) + 1, dtype=np.uint16)[:, None]
    with files.whole(raw / "splits.mat") as temporary:
        scipy.io.savemat(temporary, {"trainNdxs": numbers[:train], "testNdxs": numbers[train:]})


def render_one(wanted: tuple[str, int], seed: int, size: tuple[int, int]) -> Rendered:
    return render(seed, *wanted, size)


def store(path: Path, rooms: Iterable[Rendered], count: int, size: tuple[int, int]) -> None:
    """Write rooms one by one in the layout of nyu_depth_v2_labeled.mat: MATLAB 7.3, axes reversed, one chunk each."""
    height, width = size
    with h5py.File(path, "w", userblock_size=512) as file:
        images = file.create_dataset("images", (count, 3, width, height), "u1", **chunked(3, width, height))
        depths = file.create_dataset("depths", (count, width, height), "f4", **chunked(width, height))
        raw_depths = file.create_dataset("rawDepths", (count, width, height), "f4", **chunked(width, height))
        for array, kind in ((images, "uint8"), (depths, "single"), (raw_depths, "single")):
            array.attrs["MATLAB_class"] = np.bytes_(kind)
        names, types = [], []
        for index, room in enumerate(rooms):
            images[index], depths[index], raw_depths[index] = room.image.T, room.depth.T, room.measured.T
            names.append(f"{room.kind}_{index + 1:04d}")
            types.append(room.kind)
        write_cells(file, "scenes", names)
        write_cells(file, "sceneTypes", types)
    with path.open("r+b") as file:
        file.write(MATLAB_HEADER.ljust(116) + bytes(8) + b"\x00\x02IM")


def chunked(*shape: int) -> dict:
    """Return HDF5 settings for an array with one entry per photo: fast to write, each photo readable alone."""
    return {"chunks": (1, *shape), "compression": "gzip", "compression_opts": 1, "shuffle": True}


def write_cells(file: h5py.File, name: str, texts: list[str]) -> None:
    """Write a MATLAB cell array of strings: 1×N references to uint16 arrays of their characters."""
    cells = file.create_dataset(name, (1, len(texts)), h5py.ref_dtype)
    cells.attrs["MATLAB_class"] = np.bytes_("cell")
    for index, text in enumerate(texts):
        characters = np.array([[ord(character)] for character in text], np.uint16)
        cell = file.create_dataset(f"#refs#/{name}{index}", data=characters)
        cell.attrs["MATLAB_class"] = np.bytes_("char")
        cells[0, index] = cell.ref
