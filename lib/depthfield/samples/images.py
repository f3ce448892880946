"""Read a photo, a depth map or a MATLAB array from a file, and write a depth map."""

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from depthfield import files, tool

DEPTH_SCALE = "depth-scale"  # the text chunk of a depth PNG: metres per unit
MILLIMETRE = 0.001
GREATEST = 65535  # of 16 bits: 7-Scenes and others write it for no measurement

# Problems that matter to the user raise Failure; all else that Pillow logs is noise.
warnings.filterwarnings("ignore", module="PIL")
logging.getLogger("PIL").addHandler(logging.NullHandler())


@contextlib.contextmanager
def opened(path: Path, file: BinaryIO | None = None) -> Iterator[Image.Image]:
    """Yield the Pillow image in `path`, its pixels not decoded yet.

    With `file` the image is read from there, and `path` is only its name in messages. Any error of Pillow, on opening
    or in the block, becomes a tool.Failure of one line.
    """
    try:
        with Image.open(file or path) as image:
            yield image
    except tool.Failure:
        raise
    except Exception as error:  # for damaged files Pillow raises nearly anything, from struct.error to SyntaxError
        raise tool.Failure(f"{path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or a format that Pillow cannot read"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * Image.MAX_IMAGE_PIXELS / 1e6:.0f} million pixels; shrink it first"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if "truncated" in str(error).lower():
        return "the image is cut short"
    return f"the image cannot be read ({_first_line(error)})"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def read_photo(path: str | Path, file: BinaryIO | None = None) -> np.ndarray:
    """
    Read a photo upright, as its EXIF orientation says.

    Grey becomes three equal channels, 16 bits are scaled to 8, and transparency is dropped. A file with several
    pictures gives its first.

    Parameters
    ----------
    path : str or Path
        Photo in any format that Pillow reads.
    file : file object, optional
        Where to read the photo instead, such as ``io.BytesIO``; messages still call it `path`.

    Returns
    -------
    photo : ndarray of uint8, shape (H, W, 3)
        RGB.

    Raises
    ------
    depthfield.Failure
        If there is no such file or it cannot be read as a photo.

    Examples
    --------
    >>> from depthfield import read_photo
    >>> photo = read_photo("holiday.jpg")
    """
    with opened(path, file) as image:
        return as_rgb(ImageOps.exif_transpose(image))


def as_rgb(image: Image.Image) -> np.ndarray:
    """Return the stored pixels of a Pillow image, uint8 H×W×3 RGB; raises ValueError if their range is unknown."""
    if image.mode[0] not in "IF":
        return np.array(image.convert("RGB"))
    grey = np.asarray(image)  # Pillow's own conversion clips these to 255
    if image.mode == "F" or grey.min() < 0 or grey.max() > 65535:
        raise ValueError("32 bits a pixel, of unknown range")
    return np.repeat(np.rint(grey / 257).astype(np.uint8)[..., None], 3, axis=2)


class Stored(NamedTuple):
    """A depth map as it is stored in a file."""

    values: np.ndarray  # H×W: uint16 units of a PNG, floats of a .npy
    unit: float  # metres
    greatest: int | None  # the largest value of the format, often used for no measurement


def read_depth(
    path: Path,
    scale: float | None = None,
    missing: float | None = None,
    depth_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Read the depth map in `path` as float32 H×W metres, NaN without measurement.

    A 16-bit grey PNG has units of `scale` metres, with 0 and 65535 for no measurement; if `scale` is None, the file's
    text chunk `depth-scale` gives it, or else a unit is a millimetre. A `.npy` has floats in metres, with NaN or 0 for
    no measurement. `missing` is the value in the file, units or metres, for no measurement instead of 65535. Depths
    outside `depth_range`, metres, also count as not measured.

    Raises tool.Failure for anything else, and for a map without any measurement.
    """
    return in_metres(stored(path, scale), path, missing, depth_range)


def stored(path: Path, scale: float | None = None) -> Stored:
    """Read the depth map in `path` as it is stored; see `read_depth`."""
    path = Path(path)
    if path.suffix.lower() == ".npy":
        return Stored(_array(path), 1.0, None)
    with opened(path) as image:
        if image.format != "PNG" or not image.mode.startswith("I"):
            kind = "this has 8 bits" if image.mode in ("1", "L", "P", "LA") else f"this is {image.mode}"
            found = kind if image.format == "PNG" else f"this is {image.format}"
            raise tool.Failure(f"{path}: a depth map is a 16-bit grey PNG, or a .npy in metres; {found}")
        units = np.asarray(image)
        return Stored(units, _stated_scale(image, path) if scale is None else scale, GREATEST)


def in_metres(
    found: Stored, where: object, missing: float | None, depth_range: tuple[float, float] | None
) -> np.ndarray:
    """Convert a stored depth map to the result of `read_depth`."""
    if found.greatest is not None and missing is not None and missing not in range(found.greatest + 1):
        bounds = f"a 16-bit PNG holds whole numbers to {found.greatest}"
        raise tool.Failure(f"{where}: {bounds}; --missing {missing:g} is not one")
    none = found.greatest if missing is None else missing
    metres = found.values * found.unit
    if none is not None:
        metres[found.values == none] = np.nan
    if depth_range is not None:
        metres[(metres < depth_range[0]) | (metres > depth_range[1])] = np.nan
    return measured(metres, where)


def _stated_scale(image: PngImagePlugin.PngImageFile, path: Path) -> float:
    stated = image.text.get(DEPTH_SCALE)
    if stated is None:
        return MILLIMETRE
    with contextlib.suppress(ValueError):
        if 0 < float(stated) < math.inf:
            return float(stated)
    raise tool.Failure(f"{path}: its {DEPTH_SCALE} is {stated!r}, not a number of metres per unit")


def _array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r")  # mapped, so that a header cannot request more memory than the file has
    except OSError as error:
        raise tool.Failure(f"{path}: {error.strerror or _first_line(error)}") from error
    except Exception as error:  # damaged headers raise anything from EOFError to tokenize.TokenError
        raise tool.Failure(f"{path}: not an array of numbers, or cut short") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f":
        found = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else "an archive of arrays"
        raise tool.Failure(f"{path}: a depth map is a 2-D array of floats, in metres; this is {found}")
    return array


def measured(values: np.ndarray, where: object) -> np.ndarray:
    """Return a float32 copy of `values`, an array of metres, with NaN for 0 (not measured).

    Raises tool.Failure, starting with `where`, for negative or infinite values, and if nothing was measured.
    """
    with np.errstate(over="ignore"):
        depth = np.array(values, np.float32)
    if (depth < 0).any():
        raise tool.Failure(f"{where}: negative depth, down to {np.nanmin(depth):g} m")
    if np.isinf(depth).any():
        raise tool.Failure(f"{where}: infinite depth; use 0 or NaN for no measurement")
    depth[depth == 0] = np.nan
    if np.isnan(depth).all():
        raise tool.Failure(f"{where}: no measured depth at all")
    return depth


def write_depth_png(path: Path, depth: np.ndarray, scale: float) -> None:
    """Write `depth` as `depth_png` encodes it, whole or not at all."""
    encoded = depth_png(depth, scale, path)
    with files.whole(Path(path)) as temporary:
        temporary.write_bytes(encoded)


def depth_png(depth: np.ndarray, scale: float, where: object) -> bytes:
    """Return a 16-bit grey PNG of `depth`, H×W metres with NaN for none, with `scale` metres per unit.

    The text chunk `depth-scale` has the scale. Raises tool.Failure, beginning with `where`, if a depth is below one
    unit or above 65534 units, because 65535 means no measurement.
    """
    units = np.rint(np.asarray(depth, np.float64) / scale)
    if (units < 1).any() or (units >= GREATEST).any():
        raise tool.Failure(
            f"{where}: depth from {np.nanmin(depth):g} to {np.nanmax(depth):g} m does not fit into 16 bits of "
            f"{scale:g} m per unit, which hold {scale:g} to {(GREATEST - 1) * scale:g} m; use another --scale"
        )
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text(DEPTH_SCALE, repr(float(scale)))
    encoded = io.BytesIO()
    Image.fromarray(np.nan_to_num(units).astype(np.uint16)).save(encoded, "PNG", pnginfo=chunks)
    return encoded.getvalue()


def read_matlab(path: Path, *names: str) -> np.ndarray:
    """Read the first of the variables `names` that the MATLAB 5 file `path` has; raises tool.Failure if it has none."""
    from scipy.io import loadmat, matlab

    try:
        with Path(path).open("rb") as file:  # given a name, scipy would not say why it cannot be opened
            # Some of Make3D's files are longer than they say, which the integrity check takes for damage.
            found = loadmat(file, variable_names=names, verify_compressed_data_integrity=False)
    except OSError as error:
        raise tool.Failure(f"{path}: {error.strerror or 'the MATLAB file is cut short'}") from error
    except NotImplementedError as error:
        raise tool.Failure(f"{path}: a MATLAB 7.3 file (HDF5); expected MATLAB 5") from error
    except matlab.MatReadError as error:
        raise tool.Failure(f"{path}: the MATLAB file is cut short") from error
    except Exception as error:  # damaged files raise anything from zlib.error to TypeError
        raise tool.Failure(f"{path}: not a MATLAB 5 file, or damaged ({_first_line(error)})") from error
    for name in names:
        if name in found:
            return found[name]
    raise tool.Failure(f"{path}: has no variable {' or '.join(names)}")
