"""NYU Depth v2, the labelled part: 1449 indoor photos of 640×480 with depth, in their official split."""

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from depthfield import tool
from depthfield.samples import Sample, images

FRAMES, DIVISION = "nyu_depth_v2_labeled.mat", "splits.mat"


def samples(raw: Path, depth: str = "depths") -> Iterator[Sample]:
    """Yield the frames in `raw/splits.mat`, in the order of the file, by their official number (`00017`, from 1).

    The frames of a scene are a group. `depth` is the array to read: `depths`, with holes filled in, or `rawDepths`, as
    the camera measured. Only requested frames are read from the 2.8 GB of `raw/nyu_depth_v2_labeled.mat`. Raises
    tool.Failure if a file is missing or unusable, or the split does not fit the frames.
    """
    frames, division = Path(raw) / FRAMES, Path(raw) / DIVISION
    for file in (frames, division):
        if not file.exists():
            raise tool.Failure(f"{file}: missing; run fetch-dataset")
    with _arrays(frames, depth) as (photos, _):
        count = len(photos)
    scenes = _scenes(frames, count)
    for number, split in sorted(_division(division, count).items()):
        yield Sample(
            name=f"{number:05d}",
            split=split,
            source=f"{frames.name}#{number}",
            group=scenes[number - 1],
            inputs=(str(frames),),
            read=functools.partial(_read, frames, number, depth),
        )


def _division(path: Path, count: int) -> dict[int, str]:
    """Return the split of each frame number, 1 to `count`."""
    split_of = {}
    for split in ("train", "test"):
        numbers = images.read_matlab(path, f"{split}Ndxs").ravel()
        if numbers.dtype.kind not in "uif":
            raise tool.Failure(f"{path}: {split}Ndxs are not frame numbers")
        for number in numbers.tolist():
            if number not in range(1, count + 1):
                raise tool.Failure(f"{path}: {split}Ndxs names frame {number}, but {FRAMES} has 1 to {count}")
            if number in split_of:
                raise tool.Failure(f"{path}: names frame {number} twice ({split_of[number]} and {split})")
            split_of[int(number)] = split
    return split_of


def _scenes(path: Path, count: int) -> list[str]:
    """Return the scene of each of `count` frames; in HDF5, strings are references to uint16 characters."""
    with _opened(path, "scenes") as (cells,):
        if h5py.check_ref_dtype(cells.dtype) is not h5py.Reference or cells.size != count:
            raise tool.Failure(f"{path}: its `scenes` are not {count} names, one per frame")
        return ["".join(map(chr, cells.file[cell][()].ravel())) for cell in cells[()].ravel()]


@contextlib.contextmanager
def _arrays(path: Path, depth: str, frame: str = "") -> Iterator[tuple[h5py.Dataset, h5py.Dataset]]:
    """Yield `images`, uint8 N×3×W×H, and the depths, float N×W×H metres: HDF5 reverses MATLAB's axes."""
    with _opened(path, "images", depth, frame=frame) as (photos, depths):
        if depths.ndim != 3 or photos.shape != (len(depths), 3, *depths.shape[1:]):
            raise tool.Failure(f"{path}: images {photos.shape} and {depth} {depths.shape} do not match")
        if photos.dtype != np.uint8 or depths.dtype.kind != "f":
            raise tool.Failure(f"{path}: images are {photos.dtype} and {depth} {depths.dtype}, not uint8 and float")
        yield photos, depths


@contextlib.contextmanager
def _opened(path: Path, *names: str, frame: str = "") -> Iterator[list[h5py.Dataset]]:
    """Yield the arrays `names` of the file; any error of HDF5 becomes a tool.Failure of one line."""
    try:
        with h5py.File(path, locking=False) as file:  # many shared disks have no locks, and nothing writes
            for name in names:
                if not isinstance(file.get(name), h5py.Dataset):
                    raise tool.Failure(f"{path}: has no `{name}`; expected the labelled part of NYU Depth v2")
            yield [file[name] for name in names]
    except (OSError, RuntimeError, ValueError) as error:
        raise tool.Failure(f"{path}{frame}: {_reason(path, error)}") from error


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    if "truncated" in str(error):
        return "cut short; fetch it again"
    if "signature not found" in str(error):
        with path.open("rb") as file:
            matlab5 = file.read(10) == b"MATLAB 5.0"
        return f"{'a MATLAB 5 file' if matlab5 else 'not an HDF5 file'}, expected MATLAB 7.3 (HDF5); fetch it again"
    return f"damaged ({str(error).splitlines()[0]})"


def _read(path: Path, number: int, depth: str) -> tuple[np.ndarray, np.ndarray]:
    with _arrays(path, depth, f"#{number}") as (photos, depths):
        photo, metres = photos[number - 1].T, depths[number - 1].T
    return np.ascontiguousarray(photo), images.measured(metres, f"{path}#{number}")
