"""A depth map as a cloud of coloured points, from the focal length of the photo; PLY files.

Axes are those of the viewers, so that a cloud stands upright in MeshLab and Open3D: x to the right, y up, z towards the
camera, which is at the origin. With y and z negated they are those of OpenCV and of Open3D's camera models.
"""

import contextlib
import math
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image

from depthfield import files
from depthfield.samples import images
from depthfield.tool import UsageError

DIAGONAL = math.hypot(36, 24)  # millimetres of 35 mm film; equivalents compare diagonals (CIPA DCG-001)
ASSUMED = 28.0  # millimetres on 35 mm film: the main camera of most telephones, and the Kinect of NYU's photos
PLAUSIBLE = (5.0, 2000.0)  # millimetres on 35 mm film; some cameras write nonsense into EXIF
USUAL = (5.0, 120.0)  # degrees that a photo shows from left to right
UNITS = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # millimetres, by EXIF's FocalPlaneResolutionUnit
MOST = 1_000_000  # points of a photo
VERTEX = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
)  # packed, as PLY wants it
TYPES = {"<f4": "float", "|u1": "uchar"}


class Focal(NamedTuple):
    """The focal length of one photo."""

    pixels: float
    source: str  # where it is from, for people

    def in_words(self) -> str:
        """The focal length and where it is from."""
        return f"focal length {self.pixels:.0f} pixels ({self.source})"


class Lens(NamedTuple):
    """A focal length that the user gives for all photos."""

    length: float
    unit: str  # "px", or "mm" on 35 mm film


def parse(text: str | None) -> Lens | None:
    """Read `800` or `800px`, pixels of the photo, or `28mm`, millimetres on 35 mm film; UsageError for others."""
    if text is None:
        return None
    unit = text[-2:] if text[-2:] in ("mm", "px") else ""
    with contextlib.suppress(ValueError):
        length = float(text.removesuffix(unit))
        if 0 < length < math.inf:
            return Lens(length, unit or "px")
    raise UsageError(f"--focal takes pixels (800) or millimetres on 35 mm film (28mm), not {text!r}")


def focal_length(lens: Lens | None, photo: Path, file: BinaryIO | None = None) -> Focal:
    """The focal length of a photo: that of `lens`, else that of its EXIF, else of a lens of ASSUMED millimetres.

    `file` is as of images.opened. Raises Failure for a file that is no photo.
    """
    with images.opened(photo, file) as image:
        size = image.size
        if lens is None:
            with contextlib.suppress(Exception):  # damaged EXIF is none; Pillow raises nearly anything for it
                if found := from_exif(image.getexif(), size):
                    return found
    if lens is None:
        source = f"assumed, as EXIF has none: {ASSUMED:g} mm on 35 mm film; --focal takes another"
        return equivalent(ASSUMED, size, source)
    if lens.unit == "mm":
        return equivalent(lens.length, size, f"{lens.length:g} mm on 35 mm film, as given")
    return Focal(lens.length, "as given")


def doubt(lens: Lens | None, focal: Focal, width: int) -> str | None:
    """Why the focal length that was given may be wrong for a photo so many pixels wide; None where it may be right."""
    view = math.degrees(2 * math.atan(width / 2 / focal.pixels))
    if lens is None or USUAL[0] <= view <= USUAL[1]:
        return None
    other = "px" if lens.unit == "mm" else "mm"
    meant = f"; did you mean {lens.length:g}{other}?" if (view > USUAL[1]) == (other == "mm") else ""
    given = "pixels" if lens.unit == "px" else "mm"
    return f"focal length {lens.length:g} {given} means a view of {view:.0f}°{meant}"


def equivalent(millimetres: float, size: tuple[int, int], source: str) -> Focal:
    """The focal length of a photo of `size` pixels from its equivalent on 35 mm film."""
    return Focal(millimetres * math.hypot(*size) / DIAGONAL, source)


def from_exif(exif: Image.Exif, size: tuple[int, int]) -> Focal | None:
    """The focal length that EXIF states for a photo of `size` pixels, width and height as stored; None for none.

    FocalLengthIn35mmFilm counts first. Else FocalLength and FocalPlaneXResolution, which is of the pixels that the
    camera stored: where the photo was made smaller since, so is its focal length. Implausible values count as none.
    """
    details = exif.get_ifd(ExifTags.IFD.Exif)

    def number(tag: ExifTags.Base) -> float:
        with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
            return float(details.get(tag, 0))
        return 0.0

    on_film = number(ExifTags.Base.FocalLengthIn35mmFilm)
    if PLAUSIBLE[0] <= on_film <= PLAUSIBLE[1]:
        return equivalent(on_film, size, f"EXIF: {on_film:g} mm on 35 mm film")
    length, resolution = number(ExifTags.Base.FocalLength), number(ExifTags.Base.FocalPlaneXResolution)
    unit = UNITS.get(int(number(ExifTags.Base.FocalPlaneResolutionUnit)) or 2, 0.0)
    if not (length > 0 and resolution > 0 and unit):
        return None
    shrunk = size[0] / (number(ExifTags.Base.ExifImageWidth) or size[0])
    pixels = length * resolution / unit * shrunk
    if not PLAUSIBLE[0] <= pixels * DIAGONAL / math.hypot(*size) <= PLAUSIBLE[1]:
        return None
    return Focal(pixels, f"EXIF: {length:g} mm, {resolution / unit:.0f} pixels per mm of the sensor")


def cloud(depth: np.ndarray, photo: np.ndarray, focal: float) -> np.ndarray:
    """The points that the pixels of a photo show, in the axes above.

    depth float H×W metres along the optical axis, NaN where there is none; photo uint8 H×W×3; focal in pixels, with
    the optical axis through the middle of the photo. Returns an array of VERTEX, one a pixel with depth; of more than
    MOST pixels every second, third, ... of a row and of a column.
    """
    height, width = depth.shape
    step = max(1, math.ceil(math.sqrt(height * width / MOST)))
    rows, columns = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    distance = depth[rows, columns]
    points = np.empty(distance.shape, VERTEX)
    points["x"] = (columns - (width - 1) / 2) * distance / focal
    points["y"] = ((height - 1) / 2 - rows) * distance / focal
    points["z"] = -distance
    for channel, colour in enumerate(("red", "green", "blue")):
        points[colour] = photo[rows, columns, channel]
    return points[distance > 0]


def ply(points: np.ndarray, focal: Focal) -> bytes:
    """A cloud as a binary little-endian PLY file; its comments state units, axes and focal length."""
    properties = [f"property {TYPES[VERTEX[name].str]} {name}" for name in VERTEX.names]
    lines = (
        "ply",
        "format binary_little_endian 1.0",
        "comment metres; x right, y up, z towards the camera, which is at the origin",
        f"comment {focal.in_words()}",
        f"element vertex {len(points)}",
        *properties,
        "end_header",
    )
    return "".join(f"{line}\n" for line in lines).encode("ascii") + points.tobytes()


def write(path: Path, depth: np.ndarray, photo: np.ndarray, focal: Focal) -> None:
    """Write the `cloud` of a photo as a PLY file, whole or not at all."""
    content = ply(cloud(depth, photo, focal.pixels), focal)
    with files.whole(path) as temporary:
        temporary.write_bytes(content)
