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
