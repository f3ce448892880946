"""predict-depth for people: pipes, point clouds, frames of a video, and what is said where something is missing."""

import io
import os
import pty
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import run
from PIL import ExifTags, Image
from shell import PROJECT

from depthfield import picture, prediction, tool
from depthfield.samples import images, rooms

PREDICT = PROJECT / "bin/predict-depth"


@pytest.fixture(scope="module")
def predictor(trained) -> prediction.Predictor:
    return prediction.Predictor(trained)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A room of 128×96 pixels."""
    return Image.fromarray(rooms.render(5, "test", 0, (96, 128)).image)


def on_a_terminal(*words: object, cwd: Path, **streams) -> tuple[int, str]:
    """The status and stderr of predict-depth whose other streams are a terminal, but for those given."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [PREDICT, *map(str, words)], cwd=cwd, stderr=subprocess.PIPE, timeout=60,
            **{"stdin": theirs, "stdout": theirs} | streams, env=os.environ | {"DEPTHFIELD_RUN": "", "RUN_DIR": ""},
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)
    return done.returncode, done.stderr.decode()


def test_a_photo_that_comes_on_stdin_leaves_on_stdout_as_depth_and_a_cloud_beside_it(
    trained, predictor, photo, tmp_path
):
    (tmp_path / "runs").mkdir()
    for name, age in (("older", 2), ("newer", 1), ("begun", 0)):  # what has no best checkpoint does not count
        (tmp_path / "runs" / name).symlink_to(shutil.copytree(trained, tmp_path / name))
        best = tmp_path / name / "checkpoints/best.npz"
        os.utime(best, (1e9 - age, 1e9 - age))
        if not age:
            best.unlink()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 26
    photo.save(tmp_path / "turned.png", exif=exif)
    environment = os.environ | {"DEPTHFIELD_RUN": "", "RUN_DIR": ""}
    done = subprocess.run(
        f"cat turned.png | {PREDICT} --points cloud.ply - > depth.png", shell=True, cwd=tmp_path, capture_output=True,
        text=True, timeout=60, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    which, checkpoint, focal = done.stderr.splitlines()
    assert which.startswith("predict-depth: run runs/newer, whose best checkpoint is the newest in runs")
    assert "predicting with runs/newer/checkpoints/best.npz" in checkpoint
    assert focal == "predict-depth: stdin: focal length 96 pixels (EXIF: 26 mm on 35 mm film)"
    upright = images.read_photo(tmp_path / "turned.png")
    expected = predictor(upright).depth
    assert expected.shape == (128, 96)
    np.testing.assert_allclose(images.read_depth(tmp_path / "depth.png"), expected, atol=6e-4)
    header, _, body = (tmp_path / "cloud.ply").read_bytes().partition(b"end_header\n")
    vertices = np.frombuffer(body, [("xyz", "<f4", 3), ("colour", "u1", 3)]).reshape(128, 96)
    assert b"element vertex 12288\n" in header
    np.testing.assert_allclose(-vertices["xyz"][..., 2], expected, rtol=1e-4)
    np.testing.assert_array_equal(vertices["colour"], upright)
    assert not (tmp_path / "depths").exists()


def test_frames_come_in_natural_order_with_the_same_colours_and_a_cloud_each(trained, photo, tmp_path):
    (tmp_path / "film").mkdir()
    for name in ("frame10", "frame2", "frame1"):
        photo.save(tmp_path / f"film/{name}.jpg")
    words = ["--run", trained, "--picture", "--range", "1,4", "--npy", "--points", "clouds", "--focal", "28"]
    done = run("predict-depth", *words, "--out", "made", "film", "mm", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("predict-depth: mm: No such file or directory\n")
    names = ("frame1", "frame2", "frame10")
    assert done.stdout.split() == [f"made/depth/{name}.png" for name in names]
    told = [line for line in done.stderr.splitlines() if "focal length" in line]
    assert told == [
        "predict-depth: film/frame1.jpg: focal length 28 pixels (as given)",
        "predict-depth: film/frame1.jpg: focal length 28 pixels means a view of 133°; did you mean 28mm?",
    ]
    for name in names:
        depth = np.load(tmp_path / f"made/npy/{name}.npy")
        drawn = np.asarray(Image.open(tmp_path / f"made/picture/{name}.png"))
        np.testing.assert_array_equal(drawn, picture.with_scale_bar(depth, 1, 4))
        assert (tmp_path / f"clouds/{name}.ply").read_bytes().startswith(b"ply\n")


def test_on_a_terminal_it_says_what_is_missing_instead_of_waiting(tmp_path):
    (tmp_path / "a.jpg").touch()
    for words, streams, status, said in (
        ([], {}, 2, "no files given; name them, or send their paths on stdin"),
        (["-"], {}, 2, "stdin is a terminal: send it a photo"),
        (["-"], {"stdin": subprocess.DEVNULL}, 2, "stdout is a terminal: send it to a file"),
        (["a.jpg"], {}, 2, "no --run given, DEPTHFIELD_RUN is not set, and runs has no run with a best.npz"),
    ):
        done = on_a_terminal(*words, cwd=tmp_path, **streams)
        assert done[0] == status and done[1].startswith(f"predict-depth: {said}"), done


@pytest.mark.parametrize(
    ("words", "stdin", "status", "said"),
    [
        (["--range", "4,1", "--picture", "a.jpg"], b"", 2, "--range takes MIN,MAX in metres, MIN below MAX, not '4,1'"),
        (["--run", "r", "a.jpg"], b"", 1, "a.jpg: No such file or directory"),
        (["--run", "nowhere", "."], b"", 1, "nowhere: no such run"),
        (["--range", "1,4", "a.jpg"], b"", 2, "--range is for --picture"),
        (["--focal", "28mm", "a.jpg"], b"", 2, "--focal is for --points"),
        (["--points", "c.ply", "--focal", "wide", "a.jpg"], b"", 2, "--focal takes pixels (800)"),
        (["-", "a.jpg"], b"", 2, "- stands for one photo on stdin"),
        (["--npy", "--picture", "-"], b"", 2, "stdout takes one file, not those of --npy and --picture"),
        (["-q", "-"], b"", 1, "stdin: empty, no photo came"),
        ([], b"\x89PNG\r\n\x1a\n\0\xff", 2, "stdin holds no paths; to predict a photo that comes on stdin, name it -"),
        ([], b"P6 1\0", 2, "stdin holds no paths"),
        ([], b"", 2, "no photo given: stdin names none"),
    ],
)
def test_wrong_usage_is_told_in_one_line(tmp_path, words, stdin, status, said):
    best = tmp_path / "runs/r/checkpoints/best.npz"
    best.parent.mkdir(parents=True)
    best.touch()
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}  # as where the locale is not C
    done = subprocess.run(
        [PREDICT, *words], cwd=tmp_path, input=stdin, capture_output=True, timeout=60, env=environment
    )
    told = done.stderr.decode()
    assert done.returncode == status and told.startswith(f"predict-depth: {said}") and told.count("\n") == 1
    assert done.stdout == b""


# ---- in a program


def test_a_predictor_takes_photos_in_memory_one_or_several_of_any_size(predictor, photo):
    arrays = [np.asarray(photo.resize(size)) for size in ((128, 96), (96, 128), (128, 96), (40, 30))]
    together = predictor(arrays)
    assert isinstance(together, list) and all(isinstance(one, prediction.Prediction) for one in together)
    for array, (depth, sigma) in zip(arrays, together, strict=True):
        alone = predictor(array)
        assert depth.dtype == sigma.dtype == np.float32 and depth.shape == array.shape[:2]
        np.testing.assert_allclose(depth, alone.depth, rtol=1e-5)
        np.testing.assert_allclose(sigma, alone.sigma, rtol=1e-4)
    stacked = predictor(np.stack([arrays[0], arrays[2]]))
    np.testing.assert_allclose(stacked[1].depth, together[2].depth, rtol=1e-5)
    assert predictor([]) == [] and predictor.calibrated


def test_the_files_of_a_photo_are_of_one_prediction(tmp_path):
    def write(metres: float, *kinds: str) -> set[str]:
        one = prediction.Prediction(*np.full((2, 20, 30), metres, np.float32))
        prediction.write(one, tmp_path, "a", 0.001, kinds)
        return {path.parent.name for path in tmp_path.glob("*/a.*")}

    prediction.write(prediction.Prediction(*np.ones((2, 20, 30), np.float32)), tmp_path, "b", 0.001, ["npy"])
    assert write(2.0, "npy", "uncertainty") == {"depth", "npy", "uncertainty"}
    assert write(2.0, "picture") == {"depth", "npy", "uncertainty", "picture"}  # of the same prediction
    assert write(3.0, "picture") == {"depth", "picture"}
    assert (tmp_path / "npy/b.npy").exists()


def test_what_is_no_photo_is_refused_by_its_number(predictor):
    with pytest.raises(ValueError, match=r"the photo is float64 of shape \(9, 9, 3\), not uint8"):
        predictor(np.ones((9, 9, 3)))
    with pytest.raises(ValueError, match=r"photo 1 is uint8 of shape \(96, 128\)"):
        predictor([np.zeros((96, 128, 3), np.uint8), np.zeros((96, 128), np.uint8)])
    with pytest.raises(tool.Failure, match="^photo 1: 2×2 pixels are too few"):
        predictor([np.zeros((96, 128, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)])


def test_a_photo_is_read_from_a_file_object_too(photo, tmp_path):
    content = io.BytesIO()
    photo.save(content, "PNG")
    for _ in range(2):
        np.testing.assert_array_equal(images.read_photo("upload", content), np.asarray(photo))
    with pytest.raises(tool.Failure, match="^upload: not an image"):
        images.read_photo("upload", io.BytesIO(b"text"))
