"""The exported model predicts what predict-depth does, where none of this code is."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import run
from PIL import Image
from shell import PROJECT

from depthfield import prediction
from depthfield.records import shards
from depthfield.samples import rooms

pytestmark = pytest.mark.xdist_group("export")  # its fixtures are made once

TOLERANCE = 1e-5  # of the depth: float32 rounding of the same sums in another order
# The isolated Python leaves .pth files alone, by which this project is installed; so it is told where TensorFlow is.
ALONE = """
import sys

sys.path.append(sys.argv[1])
try:
    import depthfield
except ImportError:
    pass
else:
    sys.exit("depthfield can be imported")

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

model = tf.saved_model.load(sys.argv[2]).signatures["serving_default"]
layer = keras.layers.TFSMLayer(sys.argv[2], call_endpoint="serving_default")
for path in sys.argv[3:]:
    photo = tf.constant(np.asarray(Image.open(path).convert("RGB")))
    result = model(photo=photo)
    np.savez(path + ".npz", **{name: value.numpy() for name, value in result.items()})
    for name, value in layer(photo).items():
        np.testing.assert_array_equal(value, result[name])
"""


def exported(folder, *arguments):
    done = run("export-model", "--run", folder, *arguments, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("export-model: predicting with ") and done.stderr.count("\n") == 1
    return done.stdout.rstrip("\n")


@pytest.fixture(scope="module")
def cells(trained, tmp_path_factory) -> Path:
    """A run of square cells, for a model in its own folder."""
    return shutil.copytree(trained, tmp_path_factory.mktemp("cells") / "run")


@pytest.fixture(scope="module")
def model(cells) -> str:
    return exported(cells)


@pytest.fixture(scope="module")
def slic(trained, tmp_path_factory) -> tuple:
    """The same run, had its photos been divided by SLIC into some 90 superpixels; and its model elsewhere."""
    folder = tmp_path_factory.mktemp("slic") / "run"
    shutil.copytree(trained, folder)
    survey = json.loads((folder / "survey.json").read_text())
    (folder / "survey.json").write_text(json.dumps(survey | {"superpixels": "4000"}))
    for checkpoint in (folder / "checkpoints").iterdir():
        with np.load(checkpoint) as arrays:
            values = dict(arrays)
        np.savez(checkpoint, **values | {"made_with": str(values["made_with"]).replace("grid:12", "4000")})
    return folder, exported(folder, "--out", folder.parent / "elsewhere/model")


def alone(model: str, *photos) -> list[dict[str, np.ndarray]]:
    """What the model makes of photo files in a process that has Python, TensorFlow, NumPy and Pillow, and no more."""
    script = photos[0].parent / "alone.py"
    script.write_text(ALONE)
    command = [sys.executable, "-I", "-S", script, sysconfig.get_paths()["purelib"], model, *photos]
    done = subprocess.run(command, cwd=script.parent, capture_output=True, text=True, timeout=120, env={"PATH": "/bin"})
    assert done.returncode == 0, done.stderr
    return [dict(np.load(f"{photo}.npz")) for photo in photos]


def sizes(folder) -> list:
    """One room as a photo of the training photos' size, a smaller, an upright one and a much larger one."""
    room = Image.fromarray(rooms.render(5, "test", 0, (144, 192)).image)
    made = {"same": (96, 72), "small": (40, 30), "upright": (108, 192), "large": (1600, 1200)}
    for name, size in made.items():
        room.resize(size).save(folder / f"{name}.png")
    return [folder / f"{name}.png" for name in made]


@pytest.mark.parametrize("kind", ["square cells", "slic"])
def test_the_model_predicts_photos_of_any_size_where_this_code_is_not(cells, model, slic, tmp_path, kind):
    folder, where = (cells, model) if kind == "square cells" else slic
    predictor, photos = prediction.Predictor(folder), sizes(tmp_path)
    for photo, result in zip(photos, alone(where, *photos), strict=True):
        image = np.asarray(Image.open(photo))
        expected = predictor.photo(image, photo)
        assert set(result) == {"depth", "sigma"}
        for name, values in result.items():
            assert values.dtype == np.float32 and values.shape == image.shape[:2] and (values > 0).all()
            apart = np.abs(values / getattr(expected, name) - 1)
            if kind == "square cells" and photo.stem in ("same", "small"):
                assert apart.max() < TOLERANCE
            else:  # superpixels of its own, or Pillow's grey levels, rounded once more than TensorFlow's
                assert apart.mean() < (0.15 if kind == "slic" else 0.005)


def test_what_is_divided_already_gets_the_depths_of_predict_depth(prepared, cells, model, slic):
    loaded = {where: tf.saved_model.load(where).signatures["divided"] for where in (model, slic[1])}
    for folder, where in ((cells, model), slic):
        predictor = prediction.Predictor(folder)
        for example in shards.read(sorted((prepared / "rooms/records").glob("test-*"))):
            result = loaded[where](photo=tf.constant(example["image"]), superpixels=tf.constant(example["superpixels"]))
            for name, expected in predictor.patch(example)._asdict().items():
                np.testing.assert_allclose(result[name], expected, rtol=TOLERANCE)


def test_depth_stays_in_the_recipes_range(prepared, trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    recipe = (folder / "recipe.toml").read_text()
    (folder / "recipe.toml").write_text(recipe.replace("nearest = 0.1", "nearest = 50.0"))
    loaded = tf.saved_model.load(exported(folder)).signatures["serving_default"]
    assert (loaded(photo=tf.zeros([72, 96, 3], tf.uint8))["depth"].numpy() == 50).all()


def test_what_cannot_be_predicted_is_reported(model, slic):
    assert tf.saved_model.load(model).calibrated
    loaded, photo = tf.saved_model.load(model), np.zeros((24, 36, 3), np.uint8)
    with pytest.raises(tf.errors.InvalidArgumentError, match="36×11 pixels are too few for one superpixel of 12×12"):
        loaded.signatures["serving_default"](photo=tf.constant(photo[:11]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="2×2 pixels are too few for superpixels"):
        tf.saved_model.load(slic[1]).signatures["serving_default"](photo=tf.constant(photo[:2, :2]))
    labels = np.zeros((24, 36), np.int32)
    labels[:, 18:] = 1
    for wrong, said in (
        (labels[:-1], "size"),
        (labels - 1, "not labelled 0 to n-1"),
        (labels * 2, "without gaps"),
        (labels * (2**31 - 1), "gaps"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=said):
            loaded.signatures["divided"](photo=tf.constant(photo), superpixels=tf.constant(wrong))


def test_a_model_is_replaced_whole_and_nothing_else_is(trained, model, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(model, out)
    (out / "stale").touch()
    assert exported(trained, "--out", out) == str(out)
    assert not (out / "stale").exists() and (out / "saved_model.pb").exists() and list(tmp_path.iterdir()) == [out]

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter").touch()
    done = run("export-model", "--run", trained, "--out", mine, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"export-model: {mine}: exists and is not a SavedModel; name another --out\n"
    assert list(mine.iterdir()) == [mine / "letter"]


def test_a_run_without_a_checkpoint_and_a_full_disk_leave_what_was_there(trained, model, tmp_path):
    begun = tmp_path / "begun"
    shutil.copytree(trained, begun, ignore=shutil.ignore_patterns("model", "checkpoints"))
    done = run("export-model", "--run", begun, cwd=tmp_path)
    assert done.returncode == 1 and "no checkpoint yet" in done.stderr and not (begun / "model").exists()
    out = tmp_path / "out/model"
    shutil.copytree(model, out)
    command = f"trap '' XFSZ; ulimit -f 8; {PROJECT}/bin/export-model --run {trained} --out {out}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "File too large" in done.stderr and len(done.stderr.splitlines()) == 2
    assert list(out.parent.iterdir()) == [out] and len(list(out.rglob("*"))) == len(list(Path(model).rglob("*")))


KERAS = """
import sys

import keras
import numpy as np

import depthfield.network.model  # so that Keras knows the model's class

model = keras.models.load_model(sys.argv[1])
np.savez(sys.argv[2], **{variable.path: variable.numpy() for variable in model.variables})
"""


def test_a_keras_file_has_the_runs_weights_where_this_code_is_installed(trained, tmp_path):
    out = exported(trained, "--format", "keras", "--out", tmp_path / "field.keras")
    command = [sys.executable, "-c", KERAS, out, tmp_path / "weights.npz"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "lib")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    predictor = prediction.Predictor(trained)
    with np.load(tmp_path / "weights.npz") as weights:
        assert set(weights) == {variable.path for variable in predictor.model.variables}
        for variable in predictor.model.variables:
            np.testing.assert_array_equal(weights[variable.path], variable.numpy(), err_msg=variable.path)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--format", "onnx"], 2, "--format is one of savedmodel, keras, not 'onnx'"),
        (["--format", "keras", "--out", "field.h5"], 2, "--out: a Keras file is called NAME.keras, not field.h5"),
        (["--format", "keras", "--out", "a.keras"], 1, "a.keras: a folder; name a file to write"),
    ],
)
def test_an_export_that_cannot_be_is_refused(trained, tmp_path, words, status, said):
    (tmp_path / "a.keras").mkdir()
    done = run("export-model", "--run", trained, *words, cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[0]) == (status, f"export-model: {said}")
