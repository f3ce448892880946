"""Small datasets in the layouts of the real ones, for the tests of what reads them."""

from pathlib import Path

import h5py
import numpy as np
import scipy.io
from PIL import Image

from depthfield.samples import nyu
from depthfield.samples.rooms import write_cells

random = np.random.default_rng(4)
PHOTOS = random.integers(0, 256, (6, 12, 16, 3), np.uint8)  # N×H×W×3; MATLAB's H×W×3×N is reversed in the file
DEPTHS = random.uniform(0.7, 9.9, (6, 12, 16)).astype(np.float32)


def write_nyu(
    raw: Path, photos=PHOTOS, depths=DEPTHS, train=(5, 1, 2), test=(3, 6), raw_depths=None, scenes=None
) -> Path:
    """NYU's two files in the folder `raw`, without the arrays that are None; train and test are numbers from 1.

    `scenes` are as many names as there are frames, by default of two frames each; without any there is no such array.
    """
    count = 0 if photos is None else len(photos)
    scenes = [f"kitchen_{index // 2:04d}" for index in range(count)] if scenes is None else scenes
    with h5py.File(raw / nyu.FRAMES, "w", userblock_size=512) as file:
        for name, frames in (("images", photos), ("depths", depths), ("rawDepths", raw_depths)):
            if frames is not None:
                stored = np.moveaxis(frames, (1, 2), (-1, -2))
                file.create_dataset(name, data=stored, compression="gzip", chunks=(1, *stored.shape[1:]))
        if scenes:
            write_cells(file, "scenes", scenes)
    with (raw / nyu.FRAMES).open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    scipy.io.savemat(raw / nyu.DIVISION, {"trainNdxs": np.uint16([train]).T, "testNdxs": np.uint16([test]).T})
    return raw


def write_make3d1(raw: Path, names, split="train", depth=None) -> Path:
    """Photos of a colour of their own, and grids of a depth of their own, or of `depth`, 55×305 metres."""
    photos, grids = {"train": ("Train400Img", "Train400Depth"), "test": ("Test134", "Gridlaserdata")}[split]
    for number, name in enumerate(names, start=1):
        for top in (photos, grids):
            (raw / top).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (170, 227), (10 * number, 0, 0)).save(raw / photos / f"img-{name}.jpg", quality=95)
        grid = np.full((55, 305, 4), -7.0)
        grid[..., 3] = number if depth is None else depth
        scipy.io.savemat(raw / grids / f"depth_sph_corr-{name}.mat", {"Position3DGrid": grid}, do_compression=True)
    return raw


def write(path: Path, units: int | None = None, size: tuple[int, int] = (8, 6)) -> None:
    """A depth map of equal units, or where there are none a photo; `size` is width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = (
        Image.new("RGB", size, (90, 90, 90))
        if units is None
        else Image.fromarray(np.full(size[::-1], units, np.uint16))
    )
    image.save(path)


def write_tum(sequence: Path, photos: str, depths: str, units: int = 10000, size=(8, 6)) -> Path:
    """A sequence with photos and depth maps at these times, in this order; lists as TUM writes them."""
    for kind, times in (("rgb", photos.split()), ("depth", depths.split())):
        for time in times:
            write(sequence / kind / f"{time}.png", units if kind == "depth" else None, size)
        lines = [f"# {kind} maps", "# timestamp filename", *(f"{time} {kind}/{time}.png" for time in times)]
        (sequence / f"{kind}.txt").write_text("\n".join(lines) + "\n")
    return sequence


def write_scannet(scene: Path, count: int = 2, photo=(1296, 968), depth=(640, 480), units: int = 1500) -> None:
    """A scene as SensReader exports it, with photos and depth maps of these sizes."""
    for frame in range(count):
        write(scene / f"color/{frame}.jpg", size=photo)
        write(scene / f"depth/{frame}.png", units, depth)
        (scene / "pose").mkdir(exist_ok=True)
        (scene / f"pose/{frame}.txt").write_text("1 0 0 0")


def write_kitti(photos: Path, depths: Path, drive: str, frames=(5, 6), units: int = 256 * 14) -> None:
    """A drive's photos below one folder and its depth maps below another."""
    for frame in frames:
        write(photos / drive / f"image_02/data/{frame:010d}.png")
        write(depths / drive / f"proj_depth/groundtruth/image_02/{frame:010d}.png", units)


def write_sync(scene: Path, frames=(0, 1), units: int = 2500) -> None:
    """A scene of NYU's synchronised frames."""
    for frame in frames:
        write(scene / f"rgb_{frame:05d}.jpg")
        write(scene / f"sync_depth_{frame:05d}.png", units)
