"""show-depth: what it finds of each kind of file, as a PNG and in a terminal."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

import numpy as np
import pytest
from conftest import run
from PIL import Image
from shell import PROJECT, shards

from depthfield import blocks, picture, prediction, preparation, tool, viewing
from depthfield.records import patches
from depthfield.samples import images

SHOW = PROJECT / "bin/show-depth"


@pytest.fixture(scope="module")
def predictor(trained) -> prediction.Predictor:
    return prediction.Predictor(trained)


def way(superpixels: str = "grid:12") -> preparation.Way:
    return preparation.way(superpixels, "texture,histogram,colour", 640, 480, False)


def samples(folder: Path):
    return preparation.reader(folder, None, {})(folder)


def looked_at(path: Path, which: str | None = None, predictor=None) -> viewing.Subject:
    return viewing.subject(path, which, samples, way(), predictor)


def in_terminal(*words: object, cwd: Path, cells: tuple[int, int], **environment: str) -> tuple[int, str, str]:
    """The status of show-depth in a terminal of so many cells, what it drew and its stderr."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", cells[1], cells[0], 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [SHOW, *map(str, words)], cwd=cwd, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE,
        env=clean | {"TERM": "xterm", "COLORTERM": "truecolor"} | environment,
    )  # fmt: skip
    os.close(theirs)
    drawn = b""
    with contextlib.suppress(OSError):  # the terminal's other end is closed
        while part := os.read(ours, 65536):
            drawn += part
    os.close(ours)
    told = process.stderr.read().decode()
    process.stderr.close()
    return process.wait(60), drawn.decode().replace("\r\n", "\n"), told


# ---- what there is to see


def test_one_photo_is_the_same_as_a_sample_a_patch_file_and_a_record(prepared):
    rooms = prepared / "rooms"
    patch = looked_at(sorted((rooms / "patches/test").glob("*.npz"))[-1])
    record = looked_at(shards(prepared, "test")[-1], patch.name)  # the second of its shard
    position = [sample.name for sample in samples(rooms / "raw")].index(patch.name) + 1
    sample = looked_at(rooms / "raw", str(position))
    assert record.name == patch.name and sample.name == f"test {patch.name}"
    assert viewing.caption(patch) == viewing.caption(record) == f"rooms: {patch.name}"  # not the file of NYU's name
    assert viewing.caption(sample) == f"rooms: test {patch.name}"
    assert viewing.caption(patch._replace(dataset="")).startswith(f"{patch.name} (nyu_depth_v2_labeled.mat#")
    for other in (record, sample):
        for field in ("image", "superpixels", "pairs", "similarities"):
            np.testing.assert_array_equal(getattr(other.patch, field), getattr(patch.patch, field))
        np.testing.assert_allclose(other.depth, patch.depth, rtol=1e-4)


def test_a_photo_is_chosen_by_name_before_number_and_the_first_is_the_default():
    found = ["7", "b", "1"]
    choose = lambda which: viewing.chosen(found, which, str, Path("set"))  # noqa: E731
    assert [choose(which) for which in (None, "b", "1", "2", "3")] == ["7", "b", "1", "b", "1"]
    for which in ("x", "0", "4", "-1"):
        with pytest.raises(tool.Failure, match=f"^set: no photo {which}; there are 3: 7, b, 1$"):
            choose(which)


def test_photos_and_depth_maps_are_looked_at_as_what_they_are(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (36, 48, 3), np.uint8)).save(tmp_path / "photo.png")
    images.write_depth_png(tmp_path / "depth.png", np.full((36, 48), 2.0), 0.001)
    photo, depth = (looked_at(tmp_path / f"{name}.png") for name in ("photo", "depth"))
    assert [panel.title for panel in viewing.panels(photo, viewing.PANELS, None, None)] == [
        "photo, 48×36", "12 superpixels", "17 pairs by mean of texture, histogram, colour"
    ]  # fmt: skip
    assert [panel.title for panel in viewing.panels(depth, viewing.PANELS, None, None)] == ["depth"]
    (tmp_path / "uncertainty").mkdir()
    np.save(tmp_path / "uncertainty/photo.npy", np.full((36, 48), 0.5, np.float32))
    (deviation,) = viewing.panels(looked_at(tmp_path / "uncertainty/photo.npy"), viewing.PANELS, None, None)
    assert (deviation.name, deviation.title) == ("uncertainty", "uncertainty")
    assert deviation.span == (0.5, 0.5, "m", "uncertainty", picture.ERRORS)
    with pytest.raises(tool.UsageError, match="--photo is for shards and folders"):
        looked_at(tmp_path / "photo.png", "2")


def test_a_prediction_shares_its_colours_with_the_depth_and_is_that_of_the_run(prepared, predictor):
    found = looked_at(shards(prepared, "test")[0])
    panels = dict(zip(viewing.PANELS, viewing.panels(found, viewing.PANELS, "colour", predictor), strict=True))
    assert panels["pairs"].title.endswith("by colour similarity")
    predicted = predictor.patch(found.patch._asdict())
    span = (*picture.span(found.depth, predicted.depth), "m", "depth", picture.DEPTHS)
    assert panels["depth"].span == panels["prediction"].span == span
    ends = picture.span(100 * predicted.sigma / predicted.depth)
    assert panels["uncertainty"].span == (*ends, "%", "uncertainty", picture.ERRORS)
    np.testing.assert_array_equal(
        panels["prediction"].draw((96, 72)), picture.coloured(predicted.depth, *panels["depth"].span[:2])
    )
    with pytest.raises(tool.Failure, match="no similarity 'smell'; there are texture, histogram, colour"):
        viewing.panels(found, viewing.PANELS, "smell", None)
    photo, unknown = found.patch.image.repeat(2, axis=0).repeat(2, axis=1), np.full((144, 192), np.nan, np.float32)
    large = viewing.divided("large", photo, unknown, "here", way(), predictor)
    assert viewing.panels(large, ["photo"], None, predictor)[0].title == "photo, shrunk to 96×72 as in training"
    other = viewing.divided("other", found.patch.image, found.depth, "here", way("grid:6"), None)
    with pytest.raises(tool.Failure, match="^other: made with superpixels grid:6.* was trained on .*grid:12"):
        viewing.panels(other, viewing.PANELS, None, predictor)


def test_boundaries_are_drawn_where_there_is_room_else_mean_colours(prepared):
    patch = looked_at(shards(prepared, "test")[0]).patch
    large, small = viewing.draw_superpixels(patch, (480, 360)), viewing.draw_superpixels(patch, (24, 18))
    assert (large == picture.BOUNDARY).all(axis=2).mean() > 0.02
    assert not (small == picture.BOUNDARY).all(axis=2).any()
    assert len(np.unique(small.reshape(-1, 3), axis=0)) <= len(patch.depth)


@pytest.mark.parametrize(
    ("number", "cells", "legends", "columns"),
    [(4, (80, 24), 1, 2), (4, (120, 70), 1, 2), (1, (200, 60), 1, 1), (6, (200, 50), 2, 3)],
)
def test_panels_are_as_large_as_the_terminal_allows(number, cells, legends, columns):
    chosen, (width, height) = viewing.layout(number, cells, legends, 4 / 3)
    lines = -(-number // chosen)
    assert chosen == columns and height % 2 == 0 and width / height == pytest.approx(4 / 3, rel=0.15)
    assert chosen * width + chosen - 1 <= cells[0] and 2 + legends + lines * (1 + height // 2) <= cells[1]
    with pytest.raises(tool.Failure, match="a terminal of 30×6 characters is too small for 4 panels"):
        viewing.layout(4, (30, 6), 1, 4 / 3)


# ---- the command


def test_a_png_of_a_record_with_its_prediction(prepared, trained, tmp_path):
    words = ["--run", trained, "--width", "200", "--out", "seen/it.png", shards(prepared, "test")[0]]
    done = run("show-depth", *words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "seen/it.png\n"), done.stderr
    alone = run("show-depth", "--out", "alone.png", shards(prepared, "test")[0], cwd=tmp_path)
    assert (alone.stdout, alone.stderr) == ("alone.png\n", "")  # TensorFlow logs when it is imported
    assert done.stderr.startswith("show-depth: predicting with ") and done.stderr.count("\n") == 1
    seen = Image.open(tmp_path / "seen/it.png")
    assert seen.mode == "RGB" and 3 * 200 < seen.width < 4 * 200 and 2 * 150 < seen.height < 3 * 150


def test_a_terminal_shows_what_a_png_does_in_its_own_size(prepared, tmp_path):
    (patch,) = sorted((prepared / "rooms/patches/test").glob("*.npz"))[:1]
    status, drawn, told = in_terminal("--panels", "photo,depth", patch, cwd=tmp_path, cells=(101, 24))
    assert (status, told) == (0, "")
    title, titles, *lines, legend = drawn.splitlines()
    assert title == f"rooms: {patch.stem}" and titles.split() == ["photo,", "96×72", "depth"]
    assert re.match(r"depth [\d.]+ m .*▀.* [\d.]+ m$", legend)
    photo, depth = viewing.panels(looked_at(patch), ("photo", "depth"), None, None)
    columns, size = viewing.layout(2, (101, 24), 1, 96 / 72)
    assert columns == 2 and len(lines) == size[1] // 2 <= 20
    expected = zip(*(blocks.lines(panel.draw(size), True) for panel in (photo, depth)), strict=True)
    assert lines == [" ".join(parts) for parts in expected]
    _, drawn, _ = in_terminal(patch, cwd=tmp_path, cells=(45, 24), COLORTERM="")
    assert "38;5;" in drawn and "38;2;" not in drawn
    titles = re.sub(r"\x1b[^m]*m|▀", "", drawn).split()
    assert "superpixels" in titles and "depth" in titles and "pairs" not in drawn and "similarity" not in drawn


def test_without_colours_or_a_terminal_it_says_why_nothing_is_shown(prepared, tmp_path):
    (patch,) = sorted((prepared / "rooms/patches/test").glob("*.npz"))[:1]
    status, drawn, told = in_terminal(patch, cwd=tmp_path, cells=(80, 24), NO_COLOR="1")
    assert status == 1 and drawn == "" and told.startswith("show-depth: NO_COLOR is set, and without colours")
    status, drawn, told = in_terminal("--out", "-", patch, cwd=tmp_path, cells=(80, 24))
    assert status == 2 and told == "show-depth: a PNG would go to this terminal: name a file with --out\n"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["x.npz"], 2, "stdout is no terminal to draw in: name a file with --out"),
        ([], 2, "no file given: stdin names none"),
        (["--out", "o.png", "x.npz"], 1, "x.npz: no such file"),
        (["--out", "o.png", "--panels", "photo,smell", "x.npz"], 2, "--panels takes some of photo,superpixels"),
        (["--out", "o.png", "--panels", "prediction", "x.npz"], 2, "the panel prediction needs --run DIR"),
        (["--out", ".", "x.npz"], 1, ".: a folder; name a file"),
        (["--out", "o.png", "--run", "r", "x.npz"], 1, "r: no such run"),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_line(tmp_path, words, status, said):
    done = run("show-depth", *words, cwd=tmp_path, stdin="")
    assert done.returncode == status and done.stderr.startswith(f"show-depth: {said}") and done.stderr.count("\n") == 1
    assert done.stdout == "" and not (tmp_path / "o.png").exists()


def test_tensorflow_is_not_imported_for_a_patch_file(prepared, tmp_path):
    (patch,) = sorted((prepared / "rooms/patches/test").glob("*.npz"))[:1]
    script = "import runpy, sys; sys.argv = sys.argv[1:]\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    script += "except SystemExit as end: print(end.code, 'tensorflow' in sys.modules)"
    words = [PROJECT / ".venv/bin/python", "-c", script, SHOW, "--out", tmp_path / "seen.png", patch]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{tmp_path}/seen.png\n0 False\n", done.stderr
    assert patches.read(patch).image.shape == (72, 96, 3)
