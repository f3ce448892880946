"""Reading photos and depth maps of every kind, good and bad, from files made here."""

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import scipy.io
from PIL import Image, PngImagePlugin

from depthfield import tool
from depthfield.samples import doubts, images

RAMP = np.linspace(0, 65535, 24 * 16).reshape(24, 16).astype(np.uint16)
COLOURS = np.random.default_rng(1).integers(0, 256, (24, 16, 3), np.uint8)
METRES = np.linspace(0.5, 9.5, 12, dtype=np.float32).reshape(3, 4)


def failure(call, *arguments) -> str:
    """The one line that `call(*arguments)` fails with."""
    with pytest.raises(tool.Failure) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def png(pixels: np.ndarray, bits: int, colour: int, size: tuple[int, int] | None = None) -> bytes:
    """A PNG file written by hand, for what Pillow cannot write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = size or pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2" if bits == 16 else "u1").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# ---------------------------------------------------------------------------------------------------------- photos


@pytest.mark.parametrize("mode, suffix", [("RGB", "png"), ("RGBA", "png"), ("RGB", "tif"), ("RGB", "webp")])
def test_colours_come_as_they_are(tmp_path, mode, suffix):
    image = Image.fromarray(COLOURS).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(RAMP.astype(np.uint8)))
    path = tmp_path / f"a.{suffix}"
    image.save(path, **({"lossless": True} if suffix == "webp" else {}))
    photo = images.read_photo(path)
    assert photo.dtype == np.uint8 and photo.shape == (24, 16, 3)
    np.testing.assert_array_equal(photo, COLOURS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P"])
def test_grey_and_palette_become_three_channels(tmp_path, mode):
    grey = Image.fromarray((RAMP >> 8).astype(np.uint8)).convert(mode)
    grey.save(tmp_path / "a.png")
    photo = images.read_photo(tmp_path / "a.png")
    assert photo.shape == (24, 16, 3)
    np.testing.assert_array_equal(photo, np.asarray(grey.convert("RGB")))
    assert photo.max() == 255 and photo.min() == 0


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (16, 24), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert images.read_photo(tmp_path / "a.tif")[0, 0].tolist() == [255, 0, 0]
    Image.new("CMYK", (16, 24), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    np.testing.assert_allclose(images.read_photo(tmp_path / "a.jpg")[0, 0], [255, 0, 0], atol=6)


@pytest.mark.parametrize("suffix, mode", [("png", "I;16"), ("tif", "I;16"), ("tif", "I;16B"), ("pgm", "I;16")])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix, mode):
    path = tmp_path / f"a.{suffix}"
    bytes_ = RAMP.astype(">u2" if mode == "I;16B" else "<u2").tobytes()
    Image.frombytes(mode, (16, 24), bytes_).save(path)
    photo = images.read_photo(path)
    np.testing.assert_array_equal(photo, np.rint(RAMP / 257)[..., None].repeat(3, 2))


@pytest.mark.parametrize("colour, channels", [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_of_colour_are_scaled(tmp_path, colour, channels):
    (tmp_path / "a.png").write_bytes(png(RAMP[..., None].repeat(channels, 2), 16, colour))
    photo = images.read_photo(tmp_path / "a.png")
    np.testing.assert_allclose(photo, (RAMP / 257)[..., None].repeat(3, 2), atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for pixels, suffix in ((COLOURS, "png"), (RAMP, "png"), (COLOURS, "jpg")):
        image = Image.fromarray(pixels)
        image.save(tmp_path / f"a.{suffix}", exif=exif, **({"quality": 100} if suffix == "jpg" else {}))
        photo = images.read_photo(tmp_path / f"a.{suffix}")
        turned = np.rot90(pixels, {3: 2, 6: 3, 8: 1, 5: 3, 7: 1}.get(orientation, 0))
        if orientation in (2, 5, 7):
            turned = turned[:, ::-1]
        if orientation == 4:
            turned = turned[::-1]
        assert photo.shape[:2] == turned.shape[:2]
        if suffix == "png":
            expected = turned if turned.ndim == 3 else np.rint(turned / 257)[..., None].repeat(3, 2)
            np.testing.assert_array_equal(photo, expected)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp"])
def test_a_photo_cut_short_is_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(COLOURS).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    words = "cannot be read (could not create decoder object)" if suffix == "webp" else "is cut short"
    assert failure(images.read_photo, path) == f"{path}: the image {words}"


@pytest.mark.parametrize("content", [b"", b"<html>404 Not Found</html>", b"\0" * 5000])
def test_a_file_that_is_not_an_image_is_refused(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert failure(images.read_photo, path) == f"{path}: not an image, or a format that Pillow cannot read"


def test_a_missing_photo_and_a_folder_are_named(tmp_path):
    assert failure(images.read_photo, tmp_path / "a.png") == f"{tmp_path}/a.png: No such file or directory"
    assert failure(images.read_photo, tmp_path) == f"{tmp_path}: Is a directory"


def test_a_decompression_bomb_is_refused_unread(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(COLOURS, 8, 2, size=(40000, 40000)))
    assert failure(images.read_photo, path).startswith(f"{path}: more than 179 million pixels")


def test_pillow_itself_says_nothing(tmp_path):
    large, damaged = tmp_path / "large.png", tmp_path / "damaged.tif"
    large.write_bytes(png(COLOURS, 8, 2, size=(9000, 12000)))
    Image.fromarray(COLOURS).save(damaged)
    whole = bytearray(damaged.read_bytes())
    entry = whole.index(struct.pack("<HHI", 277, 3, 1))  # samples per pixel, which Pillow logs when there are many
    whole[entry + 8 : entry + 10] = struct.pack("<H", 2048)
    damaged.write_bytes(whole)
    script = "import sys\nfrom depthfield import tool\nfrom depthfield.samples import images\n"
    script += "for path in sys.argv[1:]:\n try: images.read_photo(path)\n except tool.Failure: print('refused')"
    command = [sys.executable, "-c", script, str(large), str(damaged)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("refused\nrefused\n", "")


def test_pixels_of_unknown_range_are_refused(tmp_path):
    for name, pixels in (("f.tif", METRES), ("i.tif", (RAMP.astype(np.int32) * 2)), ("n.tif", np.int32([[-1, 5]]))):
        Image.fromarray(pixels).save(tmp_path / name)
        assert "32 bits a pixel, of unknown range" in failure(images.read_photo, tmp_path / name)


# ---------------------------------------------------------------------------------------------------------- depth


def write_png(path, units, chunk=None):
    chunks = PngImagePlugin.PngInfo()
    if chunk is not None:
        chunks.add_text("depth-scale", chunk)
    Image.fromarray(units).save(path, pnginfo=chunks)
    return path


@pytest.mark.parametrize(
    "given, chunk, metres", [(None, None, 1.234), (1 / 5000, None, 0.2468), (None, "0.01", 12.34), (0.001, "9", 1.234)]
)
def test_a_depth_png_is_scaled_as_given_else_as_it_says_else_as_millimetres(tmp_path, given, chunk, metres):
    path = write_png(tmp_path / "a.png", np.uint16([[0, 1234], [65534, 1]]), chunk)
    depth = images.read_depth(path, given)
    assert depth.dtype == np.float32 and depth.shape == (2, 2)
    assert np.isnan(depth[0, 0]) and depth[0, 1] == np.float32(metres) and np.isfinite(depth).sum() == 3
    assert depth[1, 0] == pytest.approx(metres / 1234 * 65534)


@pytest.mark.parametrize(
    "options, unmeasured",
    [
        ({}, [0, 65535]),
        ({"missing": 0}, [0]),
        ({"missing": 60000.0}, [0, 60000]),
        ({"depth_range": (0.4, 10)}, [0, 399, 10001, 60000, 65535]),
        ({"missing": 400, "depth_range": (0, 60)}, [0, 400, 65535]),
    ],
)
def test_values_that_mean_no_measurement_are_none(tmp_path, options, unmeasured):
    units = np.uint16([[0, 399, 400, 10000], [10001, 60000, 65534, 65535]])
    depth = images.read_depth(write_png(tmp_path / "a.png", units), **options)
    wanted = np.isin(units, unmeasured) | ((units > 60000) & ("depth_range" in options))
    np.testing.assert_array_equal(depth, np.where(wanted, np.nan, units / 1000).astype(np.float32))


def test_an_npy_has_a_missing_value_in_metres(tmp_path):
    np.save(tmp_path / "a.npy", np.float32([[-1, 9.99, 2, 65.535, np.inf]]))
    for options, metres in (
        ({"missing": -1, "depth_range": (0, 99)}, [np.nan, 9.99, 2, 65.535, np.nan]),
        ({"missing": 9.99, "depth_range": (0, 60)}, [np.nan, np.nan, 2, np.nan, np.nan]),
    ):
        np.testing.assert_array_equal(images.read_depth(tmp_path / "a.npy", **options), np.float32([metres]))
    path = write_png(tmp_path / "a.png", RAMP)
    assert failure(images.read_depth, path, None, 65.535) == (
        f"{path}: a 16-bit PNG holds whole numbers to 65535; --missing 65.535 is not one"
    )


@pytest.mark.parametrize(
    "far, apart",
    [
        (np.full(300, 65.534), (4, 65.534)),
        (np.full(9000, 65.534), (4, 65.534)),  # one value, however often
        (np.linspace(10.1, 12, 300), (4, 10.1)),
        (np.linspace(9.9, 12, 300), None),  # through a door
        (np.linspace(10.1, 12, 9000), None),  # another room
        (np.full(1, 65.534), (4, 65.534)),
        (np.array([np.nan]), None),
    ],
)
def test_depths_far_from_all_others_are_doubtful(far, apart):
    near = np.linspace(1, 4, 9999)
    depth = np.concatenate([near, far, np.full(9999, np.nan)]).astype(np.float32).reshape(1, -1)
    assert doubts.far_apart(depth) == pytest.approx(apart) if apart else doubts.far_apart(depth) is None
    assert doubts.far_apart(np.float32([[2]])) is None


@pytest.mark.parametrize("chunk", ["", "metres", "0", "-0.001", "nan", "inf"])
def test_a_senseless_stated_scale_is_refused(tmp_path, chunk):
    path = write_png(tmp_path / "a.png", RAMP, chunk)
    assert failure(images.read_depth, path) == f"{path}: its depth-scale is {chunk!r}, not a number of metres per unit"
    assert np.nanmax(images.read_depth(path, 0.001, missing=0)) == np.float32(65.535)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_an_npy_is_metres(tmp_path, kind):
    metres = METRES.astype(kind)
    metres[0, 0], metres[1, 1] = 0, np.nan
    np.save(tmp_path / "a.npy", metres)
    depth = images.read_depth(tmp_path / "a.npy", 0.001)
    assert depth.dtype == np.float32 and depth.flags.writeable and not isinstance(depth, np.memmap)
    assert np.isnan(depth[0, 0]) and np.isnan(depth[1, 1]) and np.isfinite(depth).sum() == 10
    np.testing.assert_allclose(depth[2], METRES[2], rtol=1e-3)


def test_depth_that_cannot_be_is_refused(tmp_path):
    path = tmp_path / "a.npy"
    for value, words in ((-0.25, "negative depth, down to -0.25 m"), (np.inf, "infinite depth"), (1e300, "infinite")):
        metres = METRES.astype(np.float64)
        metres[1, 2] = value
        np.save(path, metres)
        assert words in failure(images.read_depth, path)
    for metres in (np.zeros((3, 4)), np.full((3, 4), np.nan), np.ones((0, 4))):
        np.save(path, metres)
        assert failure(images.read_depth, path) == f"{path}: no measured depth at all"
    path = write_png(tmp_path / "a.png", np.zeros((3, 4), np.uint16))
    assert failure(images.read_depth, path) == f"{path}: no measured depth at all"


@pytest.mark.parametrize("array", [np.ones((3, 4), np.uint16), np.ones((3, 4, 1)), np.float32(3), np.array([["a"]])])
def test_an_npy_that_is_not_a_map_of_metres_is_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    assert "a depth map is a 2-D array of floats, in metres; this is" in failure(images.read_depth, tmp_path / "a.npy")


def test_a_damaged_npy_is_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, METRES)
    whole = path.read_bytes()
    np.save(path, np.array([{}]), allow_pickle=True)
    pickled = path.read_bytes()
    claims = whole.replace(b"(3, 4)", b"(3,4000000000)").replace(b" " * 8 + b"\n", b"\n")  # 48 GB in 190 bytes
    unclosed = whole.replace(b"}", b" ")
    for content in (b"", whole[:40], whole[:-8], pickled, b"some text", claims, unclosed):
        path.write_bytes(content)
        assert failure(images.read_depth, path) == f"{path}: not an array of numbers, or cut short"
    with path.open("wb") as file:
        np.savez(file, depth=METRES)
    assert failure(images.read_depth, path).endswith("this is an archive of arrays")
    assert failure(images.read_depth, tmp_path / "b.npy") == f"{tmp_path}/b.npy: No such file or directory"


@pytest.mark.parametrize(
    "pixels, suffix, words",
    [
        (RAMP.astype(np.uint8), "png", "this has 8 bits"),
        (COLOURS, "png", "this is RGB"),
        (COLOURS, "jpg", "this is JPEG"),
        (RAMP, "tif", "this is TIFF"),
    ],
)
def test_only_16_bit_pngs_are_depth_maps(tmp_path, pixels, suffix, words):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path)
    expected = f"{path}: a depth map is a 16-bit grey PNG, or a .npy in metres; {words}"
    assert failure(images.read_depth, path) == expected


def test_a_depth_png_cut_short_is_refused(tmp_path):
    path = write_png(tmp_path / "a.png", np.random.default_rng(2).integers(1, 65535, (64, 64), np.uint16))
    path.write_bytes(path.read_bytes()[:3000])
    assert failure(images.read_depth, path) == f"{path}: the image is cut short"


@pytest.mark.parametrize("scale", [0.001, 0.00125, 1 / 5000])
def test_written_depth_is_read_again(tmp_path, scale):
    depth = METRES.copy()
    depth[1] = np.nan
    images.write_depth_png(tmp_path / "a.png", depth, scale)
    np.testing.assert_allclose(images.read_depth(tmp_path / "a.png"), depth, atol=scale / 2)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "I;16" and float(image.text["depth-scale"]) == scale
        assert (np.asarray(image)[1] == 0).all()


@pytest.mark.parametrize("value", [65.535, 0.0004, 0, -1, np.inf])
def test_depth_that_does_not_fit_is_not_written(tmp_path, value):
    depth = METRES.copy()
    depth[1, 1], depth[2, 2] = value, np.nan
    told = failure(images.write_depth_png, tmp_path / "a.png", depth, 0.001)
    assert "does not fit into 16 bits of 0.001 m per unit, which hold 0.001 to 65.534 m" in told
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------------------------- MATLAB


def test_a_matlab_array_is_read_by_the_first_of_its_names(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"other": [[2.0]], "depth": METRES}, do_compression=True)
    for names in (("grid", "depth"), ("depth", "other")):
        np.testing.assert_array_equal(images.read_matlab(tmp_path / "a.mat", *names), METRES)
    assert failure(images.read_matlab, tmp_path / "a.mat", "x", "y") == f"{tmp_path}/a.mat: has no variable x or y"


def test_a_matlab_array_followed_by_surplus_bytes_is_read(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"depth": METRES}, do_compression=True)
    whole = path.read_bytes()
    body = zlib.compress(zlib.decompress(whole[136:]) + b"\0" * 64)
    path.write_bytes(whole[:128] + struct.pack("<II", 15, len(body)) + body)
    with pytest.raises(ValueError):
        scipy.io.loadmat(path)
    np.testing.assert_array_equal(images.read_matlab(path, "depth"), METRES)


def test_a_damaged_matlab_file_is_refused(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"depth": np.random.default_rng(3).random((60, 60))}, do_compression=True)
    whole = path.read_bytes()
    for content in (b"", whole[:1000], whole[:-40]):
        path.write_bytes(content)
        assert failure(images.read_matlab, path, "depth") == f"{path}: the MATLAB file is cut short"
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 255
    for content in (whole[:100], broken, b"<html>" + b"." * 500):
        path.write_bytes(content)
        assert failure(images.read_matlab, path, "depth").startswith(f"{path}: not a MATLAB 5 file, or damaged (")
    path.unlink()
    assert failure(images.read_matlab, path, "depth") == f"{path}: No such file or directory"
