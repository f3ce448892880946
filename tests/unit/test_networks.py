"""The networks of the recipes: their sizes, what they are made of, and what they see."""

import random
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf

from depthfield.network import encoders, patchwise
from depthfield.network import model as models
from depthfield.network.layers import dropout, last
from depthfield.records import batches, index, patches, shards
from depthfield.tool import Failure, UsageError
from depthfield.training import recipe as recipes

ALL = ("texture", "histogram", "colour")
# Trainable parameters of each recipe; of fcsp, 14,714,688 are VGG16's, as published.
PARAMETERS = {"small": 883_732, "demo": 812_628, "seed": 2_336_675, "dcnf": 40_482_724, "fcsp": 19_502_052}
PARAMETERS |= {"modern": 28_536_932, "dcnf-small": 91_012}


def build(name: str, *changes: str) -> models.DepthField:
    random.seed(0)
    return models.build(recipes.load(name, changes), ALL, 1.0)


def count(variables) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_number_of_parameters_is_known_and_their_names_differ(name):
    model = build(name)
    assert count(model.trainable_variables) == PARAMETERS[name]
    assert len({variable.path for variable in model.variables}) == len(model.variables)


# Of the published networks, layer by layer.
LAYERS = {
    "dcnf": {
        "conv1": 23_296, "conv2": 409_856, "conv3": 590_080, "conv4": 590_080, "conv5": 590_080,
        "dense0": 37_752_832, "dense1": 524_416, "dense2": 2_064, "z": 17, "field": 3,
    },
    "fcsp": {
        "block1_conv1": 1_792, "block1_conv2": 36_928, "block2_conv1": 73_856, "block2_conv2": 147_584,
        "block3_conv1": 295_168, "block3_conv2": 590_080, "block3_conv3": 590_080, "block4_conv1": 1_180_160,
        "block4_conv2": 2_359_808, "block4_conv3": 2_359_808, "block5_conv1": 2_359_808, "block5_conv2": 2_359_808,
        "block5_conv3": 2_359_808, "block6": 2_359_808, "block7": 2_359_808, "dense0": 65_664, "dense1": 2_064, "z": 17,
        "field": 3,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_the_layers_of_the_published_networks_have_their_sizes(name):
    sizes = Counter()
    for variable in build(name).trainable_variables:
        sizes[variable.path.split("/")[-2]] += int(np.prod(variable.shape))
    assert sizes == LAYERS[name]


def photo(size: tuple[int, int], seed: int = 0) -> dict[str, np.ndarray]:
    """The fields of a noise photo's patch."""
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return patches.make(image, np.full(size, 2.0, np.float32), "", "", "grid:24", ALL)


def batch(size: tuple[int, int], seed: int = 0) -> dict[str, tf.Tensor]:
    fields = photo(size, seed)._asdict()
    one = batches.prepare({name: tf.constant(fields[name]) for name in batches.FIELDS})
    return {name: value[None] for name, value in one.items()}


@pytest.mark.parametrize("name", PARAMETERS)
def test_z_of_a_photo_does_not_depend_on_the_others_in_its_batch(name, tmp_path):
    """Alone, beside one like it, and beside larger ones: z is the same."""
    sizes = [(96, 96), (120, 144), (96, 96), (144, 96)]
    shard = tmp_path / "x.tfrecord"
    shards.write(shard, [shards.encode(str(seed), photo(size, seed)) for seed, size in enumerate(sizes)])
    photos = [found for found, _ in index.read([shard])]
    network, z = build(name).network, {}
    for drawn in batches.once(photos, 4):
        for image, answers in zip(drawn["image"].numpy(), network(drawn).numpy(), strict=True):
            z[image.tobytes()] = answers
    for seed, size in enumerate(sizes):
        one = batch(size, seed)
        alone = network(one).numpy()[0]
        np.testing.assert_allclose(z[one["image"].numpy().tobytes()][: len(alone)], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["small", "seed", "fcsp"])
def test_the_first_answers_are_near_the_mean_depth(name):
    z = build(name, *["network.patch=64"] * (name == "seed")).network(batch((96, 96))).numpy()
    np.testing.assert_allclose(z, 1.0, atol=0.2)


def test_behind_logistic_units_weights_begin_larger_and_equal_inputs_give_the_start():
    small, large = (last(1.5, logistic=logistic) for logistic in (False, True))
    inputs = tf.random.stateless_uniform([200, 16], [0, 1])
    assert small(inputs).numpy().std() < 0.05 < 0.1 < large(inputs).numpy().std()
    np.testing.assert_allclose(large(tf.fill([1, 16], 0.5)), 1.5, atol=1e-5)


def test_patches_lie_around_the_centres_with_zeros_beyond_the_photo():
    for size, side in (((96, 120), 40), ((160, 200), 64)):
        one = batch(size)
        image, labels = one["image"].numpy()[0], one["superpixels"].numpy()[0]
        cut = tf.function(patchwise.patches)(one["image"], one["superpixels"], one["present"], side).numpy()
        assert cut.shape == (labels.max() + 1, side, side, 3)
        padded = np.pad(image, [(side, side), (side, side), (0, 0)])
        for label in range(labels.max() + 1):
            row, column = np.round(np.argwhere(labels == label).mean(axis=0)).astype(int)  # half to even, as TensorFlow
            here = padded[row + side // 2 :, column + side // 2 :][:side, :side]
            np.testing.assert_array_equal(cut[label], here)


@pytest.mark.parametrize("text", ["64", "64 3x5", "64 3x3 /0", "0 3x3", "64 3x3 max"])
def test_a_convolution_that_cannot_be_read_is_named(text):
    with pytest.raises(UsageError, match="64 11x11 /4 pool"):
        patchwise.parse(text)


def test_dropout_is_drawn_from_the_seed_of_a_batch_and_only_in_training():
    x = tf.ones([50, 40])
    assert dropout(x, 0.5, {}, 0) is x
    seeds = [{"seed": tf.constant([[number, 1]], tf.int64)} for number in (3, 3, 4)]
    first, again, other = (dropout(x, 0.5, seed, 0).numpy() for seed in seeds)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and set(np.unique(first)) == {0, 2}
    assert (dropout(x, 0.5, seeds[0], 1).numpy() != first).any()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ResNet50", "not 'ResNet50'"), ("None", "not 'None'"), ("vgg16", "not 'vgg16'"),
        ("EfficientNetV2B0", "EfficientNetV2B0 has layers .* in training .BatchNormalization, Dropout"),
        ("MobileNetV3Small", "MobileNetV3Small has layers .* in training .BatchNormalization"),
    ],
)  # fmt: skip
def test_backbones_that_would_go_wrong_silently_are_refused_by_name(name, said):
    with pytest.raises(UsageError, match=said) as refused:
        encoders.application(name)
    assert "one of ConvNeXtBase, ConvNeXtLarge, ConvNeXtSmall, ConvNeXtTiny" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "changes"), [("small", []), ("dcnf-small", ['similarities=["colour"]']), ("fcsp", [])]
)
def test_keras_saves_a_model_and_loads_it(tmp_path, name, changes):
    model, one = build(name, *changes), batch((96, 96))
    for number, variable in enumerate(model.variables):
        variable.assign(variable + 0.01 * (number + 1))
    model.save(tmp_path / "field.keras")
    loaded = keras.models.load_model(tmp_path / "field.keras")
    assert [variable.path for variable in loaded.variables] == [variable.path for variable in model.variables]
    for ours, theirs in zip(model.marginals(one), loaded.marginals(one), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_recipe_may_use_some_of_the_similarities_only():
    model = build("small", 'similarities=["colour"]')
    one = batch((48, 48))
    _, weights = model(one)
    np.testing.assert_allclose(weights, one["similarities"][..., 2])
    with pytest.raises(Failure, match="lack the similarities texture"):
        models.build(recipes.load("small"), ("histogram", "colour"), 1.0)
