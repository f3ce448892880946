"""train-depth --init: weights from a run and from files of keras.applications, from the shell."""

import json

import keras
import numpy as np
import pytest
from conftest import run
from shell import SMALL, options

pytestmark = pytest.mark.xdist_group("init")  # its fixtures are made once

BACKBONE = ["network.application=ConvNeXtTiny", "network.features=8", "network.attention=1", "network.dense=[8]"]
MODERN = ["--recipe", "modern", *options(BACKBONE)]
FCSP = ["--recipe", "fcsp", *options(["network.blocks=[8]", "network.dense=[8, 4]"])]
FOUR = ["--steps", 4, *options(["round_steps=2", "batch_size=1"])]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The weights of untrained backbones in the formats of Keras: VGG16's bare, ConvNeXt's with its classifier."""
    folder = tmp_path_factory.mktemp("weights")
    keras.utils.set_random_seed(1)
    vgg = keras.applications.VGG16(include_top=False, weights=None, input_shape=(None, None, 3))
    vgg.save(folder / "bare.keras")
    vgg.save_weights(folder / "bare.weights.h5")
    convnext = keras.applications.ConvNeXtTiny(include_top=True, weights=None, input_shape=(224, 224, 3))
    convnext.save_weights(folder / "top.weights.h5")
    weights = {weight.path: weight.numpy() for model in (vgg, convnext) for weight in model.trainable_weights}
    return folder, weights


def train(prepared, folder, *words):
    return run(
        "train-depth", "--run", folder, *words, *sorted((prepared / "rooms/records").glob("train-*")), cwd=folder.parent
    )


def values(folder) -> dict[str, np.ndarray]:
    newest = sorted((folder / "checkpoints").glob("0*.npz"))[-1]
    with np.load(newest) as arrays:
        return dict(arrays)


@pytest.mark.parametrize(
    ("recipe", "name", "count"),
    [(FCSP, "bare.keras", 26), pytest.param(MODERN, "top.weights.h5", 150, marks=pytest.mark.long)],
)
def test_a_backbone_is_taken_from_a_file_and_stays_as_it_is_while_it_is_frozen(
    prepared, files, tmp_path, recipe, name, count
):
    folder, theirs = files
    done = train(prepared, tmp_path / "run", *recipe, *FOUR, *options(["frozen_share=1"]), "--init", folder / name)
    assert done.returncode == 0, done.stderr
    words = ("taken: ", "initialised: ")
    taken, begun = (next(line for line in done.stderr.splitlines() if word in line) for word in words)
    assert "conv" in taken and "/dense0" not in taken and "/dense0" in begun and "conv" not in begun
    ours = values(tmp_path / "run")
    shared = ours.keys() & theirs.keys()
    assert len(shared) >= count
    for path in shared:
        np.testing.assert_array_equal(ours[path], theirs[path], err_msg=path)
    assert shared <= set(json.loads((tmp_path / "run/init.json").read_text())["taken"])


def test_what_is_not_frozen_any_longer_is_trained(prepared, files, tmp_path):
    folder, theirs = files
    words = [*FCSP, *FOUR, *options(["frozen_share=0.5"]), "--init", folder / "bare.weights.h5"]
    first = train(prepared, tmp_path / "run", *words)
    assert first.returncode == 0, first.stderr
    ours = values(tmp_path / "run")
    assert len([path for path in theirs if path in ours and not np.array_equal(ours[path], theirs[path])]) >= 20


def test_a_run_begins_with_another_and_then_continues_with_its_own(prepared, trained, tmp_path):
    words = ["--recipe", "small", "--steps", 16, *options([*SMALL[:-1], "network.dense=[12]", "learning_rate=0"])]
    done = train(prepared, tmp_path / "run", *words, "--init", trained)
    assert done.returncode == 0, done.stderr
    before, after = values(trained), values(tmp_path / "run")
    kept = "field/pooled/encoder/down0/kernel"
    np.testing.assert_array_equal(before[kept], after[kept])
    assert after["step"] == 16 and after["field/pooled/dense0/kernel"].shape == (8, 12)
    assert "initialised: pooled/dense0, pooled/z" in done.stderr
    again = train(prepared, tmp_path / "run", *words, "--init", trained)
    assert again.returncode == 0 and "taken" not in again.stderr and "continuing from" in again.stderr


@pytest.mark.long
def test_a_training_begins_with_an_exported_model(prepared, trained, tmp_path):
    done = run("export-model", "--run", trained, "--format", "keras", "--out", "field.keras", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    words = ["--recipe", "small", "--steps", 2, *options([*SMALL, "learning_rate=0", "similarities=['colour']"])]
    done = train(prepared, tmp_path / "run", *words, "--init", "field.keras")
    assert done.returncode == 0, done.stderr
    with np.load(trained / "checkpoints/best.npz") as best:
        before = dict(best)
    after = values(tmp_path / "run")
    shared = [path for path in before if path.startswith("field/pooled/")]
    assert len(shared) > 20
    for path in shared:
        np.testing.assert_array_equal(before[path], after[path], err_msg=path)
    assert "initialised: field/beta" in done.stderr and after["field/beta"].shape == (1,)


def test_what_has_no_weights_is_named(prepared, files, tmp_path):
    folder, _ = files
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.keras").write_bytes(b"PK")
    for words, init, told in (
        (FCSP, tmp_path / "none.keras", "no such run or file"),
        (FCSP, tmp_path / "damaged.keras", "damaged.keras: not a model that Keras can load: "),
        (["--recipe", "small"], tmp_path / "empty", "no checkpoint"),
        (["--recipe", "small"], folder / "bare.keras", "no backbone"),
        (FCSP, folder / "top.weights.h5", "no weights of VGG16"),
    ):
        done = train(prepared, tmp_path / "run", *words, "--init", init)
        assert done.returncode == 1 and told in done.stderr.splitlines()[-1], done.stderr
        assert not (tmp_path / "run").exists()  # a mistake is no run, and does not hold its name
    (tmp_path / "run/nodes").mkdir(parents=True)  # as on a cluster
    done = train(prepared, tmp_path / "run", *FCSP, "--init", folder / "top.weights.h5")
    assert done.returncode == 1 and [path.name for path in (tmp_path / "run").iterdir()] == ["lock", "nodes"]


def test_recipe_and_weights_are_checked_without_photos_and_imagenet_s_file_is_named(trained, tmp_path):
    """Before anything is downloaded; nothing is written."""
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path / "keras")}
    asked = [
        ([*FCSP, "--init", "imagenet"], 1, "notop.h5"),
        ([*FCSP, "--init", tmp_path], 1, "no checkpoint to start from"),
        (["--recipe", "modern", "--set", "network.application=VGG16"], 2, "network.application is one of"),
        (["--recipe", "fscp"], 2, "no recipe 'fscp'"),
        (["--recipe", "small", "--init", trained], 0, ""),
    ]
    for words, status, told in asked:
        done = run("train-depth", "--check", "--run", "run", *words, cwd=tmp_path, **nowhere)
        assert done.returncode == status and told in done.stderr, done.stderr
        assert not (tmp_path / "run").exists()
        if "imagenet" in words:
            assert "imagenet: no weights of VGG16: " in done.stderr and "--init FILE (make: INIT=FILE)" in done.stderr
            assert "https://" in done.stderr
    begun = run("train-depth", "--check", "--run", trained, "--recipe", "small", cwd=tmp_path)
    assert begun.returncode == 1 and "started with another recipe (network.dense" in begun.stderr
