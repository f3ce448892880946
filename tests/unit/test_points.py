"""Point clouds: where each pixel lies, which focal length is taken, and the file as a reader finds it."""

import math
import re

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from depthfield import points, tool

TAG = ExifTags.Base


def read_ply(data: bytes) -> np.ndarray:
    """The vertices of a binary PLY file, by its own header."""
    header, _, body = data.partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = next(int(line.split()[2]) for line in lines if line.startswith("element vertex "))
    kinds = {"float": "<f4", "uchar": "u1"}
    fields = [
        (name, kinds[kind]) for kind, name in re.findall(r"^property (\w+) (\w+)$", header.decode(), re.MULTILINE)
    ]
    vertices = np.frombuffer(body, np.dtype(fields))
    assert len(vertices) == count
    return vertices


def with_exif(path, size=(40, 30), **values):
    exif = Image.Exif()
    details = exif.get_ifd(ExifTags.IFD.Exif)
    for name, value in values.items():
        details[TAG[name].value] = value
    Image.new("RGB", size).save(path, exif=exif)
    return path


def test_pixels_lie_right_up_and_before_the_camera_in_their_colours():
    depth = np.full((3, 5), 2.0, np.float32)
    depth[0, 0], depth[1, 1] = 4.0, np.nan
    photo = np.arange(45, dtype=np.uint8).reshape(3, 5, 3)
    cloud = points.cloud(depth, photo, focal=10.0)
    assert len(cloud) == 14  # what has no depth is no point
    top_left, bottom_right = cloud[0], cloud[-1]
    assert [top_left[axis] for axis in "xyz"] == pytest.approx([-0.8, 0.4, -4.0])
    assert [bottom_right[axis] for axis in "xyz"] == pytest.approx([0.4, -0.2, -2.0])
    assert [top_left[c] for c in ("red", "green", "blue")] == [0, 1, 2]
    assert [bottom_right[c] for c in ("red", "green", "blue")] == [42, 43, 44]


def test_a_large_photo_gives_some_of_its_pixels_in_their_places():
    depth = np.ones((1500, 2000), np.float32)
    cloud = points.cloud(depth, np.zeros((1500, 2000, 3), np.uint8), focal=1000.0)
    assert len(cloud) == 750 * 1000 <= points.MOST
    assert cloud["x"].max() - cloud["x"].min() == pytest.approx(1.998, abs=1e-4)
    assert cloud["x"].mean() == pytest.approx(0, abs=1e-3)


def test_a_reader_finds_all_points_units_and_axes():
    focal = points.Focal(519.0, "as given")
    rng = np.random.default_rng(0)
    depth, photo = rng.uniform(1, 9, (4, 6)).astype(np.float32), rng.integers(0, 256, (4, 6, 3), np.uint8)
    cloud = points.cloud(depth, photo, focal.pixels)
    data = points.ply(cloud, focal)
    vertices = read_ply(data)
    assert vertices.dtype.names == ("x", "y", "z", "red", "green", "blue")
    for name in vertices.dtype.names:
        np.testing.assert_array_equal(vertices[name], cloud[name])
    assert b"comment metres; x right, y up, z towards the camera" in data
    assert b"comment focal length 519 pixels (as given)\n" in data


@pytest.mark.parametrize(
    ("values", "pixels", "said"),
    [
        ({"FocalLengthIn35mmFilm": 26}, 26 * 50 / points.DIAGONAL, "EXIF: 26 mm on 35 mm film"),
        # a sensor of 5 mm across for 40 pixels: 8 pixels per mm
        (
            {"FocalLength": IFDRational(4), "FocalPlaneXResolution": IFDRational(8), "FocalPlaneResolutionUnit": 4},
            32, "EXIF: 4 mm, 8 pixels per mm",
        ),
        # the same, stored with 80 pixels and made smaller since; per inch, which is the unit where none is stated
        (
            {"FocalLength": IFDRational(4), "FocalPlaneXResolution": IFDRational(4064, 10), "ExifImageWidth": 80},
            32, "EXIF: 4 mm, 16 pixels per mm",
        ),
        ({"FocalLengthIn35mmFilm": 0}, 28 * 50 / points.DIAGONAL, "assumed, as EXIF has none: 28 mm on 35 mm film"),
        ({"FocalLengthIn35mmFilm": 48388}, 28 * 50 / points.DIAGONAL, "assumed"),
        ({"FocalLength": IFDRational(4)}, 28 * 50 / points.DIAGONAL, "assumed"),
        ({"FocalLength": IFDRational(4, 0), "FocalPlaneXResolution": 9}, 28 * 50 / points.DIAGONAL, "assumed"),
    ],
)  # fmt: skip
def test_the_focal_length_is_that_of_exif_or_a_stated_assumption(tmp_path, values, pixels, said):
    found = points.focal_length(None, with_exif(tmp_path / "a.jpg", **values))
    assert found.pixels == pytest.approx(pixels, rel=1e-6) and said in found.in_words()


def test_a_given_focal_length_counts_before_exif_and_a_turned_photo_has_the_same(tmp_path):
    path = with_exif(tmp_path / "a.jpg", FocalLengthIn35mmFilm=26)
    assert points.focal_length(points.parse("800"), path) == (800, "as given")
    assert points.focal_length(points.parse("800px"), path).pixels == 800
    assert points.focal_length(points.parse("50mm"), path).pixels == pytest.approx(50 * 50 / math.hypot(36, 24))
    Image.new("RGB", (30, 40)).save(tmp_path / "turned.jpg")
    assert points.focal_length(None, tmp_path / "turned.jpg").pixels == pytest.approx(28 * 50 / points.DIAGONAL)


@pytest.mark.parametrize("text", ["wide", "0", "-5", "28cm", "inf", ""])
def test_what_is_no_focal_length_is_refused(text):
    with pytest.raises(tool.UsageError, match="--focal takes pixels"):
        points.parse(text)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("damaged", [b"MM\0*\0\0\0\x08\0\x05junk", b"no TIFF at all"])
def test_damaged_exif_is_none(tmp_path, damaged):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + damaged)
    assert "assumed" in points.focal_length(None, tmp_path / "a.jpg").in_words()
    (tmp_path / "b.jpg").write_text("no photo")
    with pytest.raises(tool.Failure, match="b.jpg: not an image"):
        points.focal_length(None, tmp_path / "b.jpg")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("28", "focal length 28 pixels means a view of 170°; did you mean 28mm?"),
        ("12mm", None),
        ("5mm", "focal length 5 mm means a view of 148°"),
        ("800mm", "focal length 800 mm means a view of 2°; did you mean 800px?"),
        ("9000", "focal length 9000 pixels means a view of 4°"),
        ("519", None),
        (None, None),
    ],
)
def test_a_view_too_wide_or_too_narrow_is_doubted(text, said, tmp_path):
    lens = points.parse(text)
    focal = points.focal_length(lens, with_exif(tmp_path / "a.jpg", (640, 480)))
    assert points.doubt(lens, focal, 640) == said
