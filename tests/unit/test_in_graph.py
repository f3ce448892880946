"""What an exported model computes around its network equals what NumPy computes; its SLIC is a sound one."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from skimage.color import rgb2lab, rgb2luv

from depthfield import export
from depthfield.field import fill, similarity, superpixels
from depthfield.field.in_graph import colour
from depthfield.field.in_graph import fill as graph_fill
from depthfield.field.in_graph import similarity as graph_similarity
from depthfield.field.in_graph import superpixels as graph_superpixels
from depthfield.samples import rooms

ALL = tuple(similarity.SIMILARITIES)
SLIC = "2000"  # superpixels of some 12×12 pixels


def room() -> np.ndarray:
    return rooms.render(0, "test", 0, (120, 160)).image


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)


def dim() -> np.ndarray:
    """Few colours, black among them, and large flat areas: ties and the dark ends of the colour spaces."""
    rng = np.random.default_rng(1)
    return rng.integers(0, 4, (12, 9, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)


def black() -> np.ndarray:
    return np.zeros((48, 64, 3), np.uint8)


PHOTOS = pytest.mark.parametrize("photo", [room, noise, dim, black], ids=lambda photo: photo.__name__)


def divided(photo, setting: str = SLIC) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image = photo()
    labels = superpixels.segment(image, setting)
    return image, labels, superpixels.pairs(labels)


def segment(image: np.ndarray, setting: str) -> np.ndarray:
    """As a graph for photos of any size, which is how it leaves."""
    function = tf.function(lambda photo: graph_superpixels.segment(photo, setting), autograph=False)
    return function.get_concrete_function(tf.TensorSpec([None, None, 3], tf.uint8))(tf.constant(image)).numpy()


@PHOTOS
def test_colours_are_skimages(photo):
    rgb = photo() / 255
    np.testing.assert_allclose(colour.lab(tf.constant(rgb)), rgb2lab(rgb), atol=1e-9)
    np.testing.assert_allclose(colour.luv(tf.constant(rgb)), np.nan_to_num(rgb2luv(rgb)), atol=1e-9)


@PHOTOS
def test_pairs_are_numpys(photo):
    for labels in (divided(photo)[1], np.random.default_rng(0).permutation(48).reshape(6, 8).astype(np.int32)):
        assert np.array_equal(graph_superpixels.pairs(tf.constant(labels)), superpixels.pairs(labels))


def test_one_superpixel_alone_has_no_pair_and_is_filled_with_its_value():
    labels, image = tf.zeros([4, 6], tf.int32), tf.zeros([4, 6, 3], tf.uint8)
    pairs = graph_superpixels.pairs(labels)
    assert pairs.shape == (0, 2)
    assert graph_similarity.similarities(image, labels, pairs, ALL, ALL).shape == (0, 3)
    filled = graph_fill.smooth(tf.constant([[2.0, 3.0]]), image, labels, pairs)
    np.testing.assert_allclose(filled, np.broadcast_to([2, 3], (4, 6, 2)), rtol=1e-6)


@PHOTOS
@pytest.mark.parametrize("setting", [SLIC, "grid:9", "100"])
def test_similarities_are_numpys(photo, setting):
    image, labels, pairs = divided(photo, setting)
    ours = graph_similarity.similarities(tf.constant(image), tf.constant(labels), tf.constant(pairs), ALL, ALL)
    np.testing.assert_allclose(ours, similarity.similarities(image, labels, pairs, ALL), atol=1e-6)
    assert ours.dtype == tf.float32


def test_unwanted_similarities_are_0_and_the_others_keep_their_columns():
    image, labels, pairs = (tf.constant(one) for one in divided(room))
    every = graph_similarity.similarities(image, labels, pairs, ALL, ALL).numpy()
    some = graph_similarity.similarities(image, labels, pairs, ALL, ["colour", "texture"]).numpy()
    assert np.array_equal(some, every * [1, 0, 1])


@PHOTOS
def test_the_neighbour_table_and_the_fill_are_numpys(photo):
    image, labels, pairs = divided(photo)
    count = labels.max() + 1
    table = graph_fill.neighbour_table(tf.constant(pairs), tf.constant(count))
    assert np.array_equal(table, fill.neighbour_table(pairs, count))
    values = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)
    ours = graph_fill.smooth(*(tf.constant(one) for one in (values, image, labels, pairs)))
    np.testing.assert_allclose(ours, fill.smooth(values, image, labels, pairs), atol=2e-5)


def test_a_pixel_too_far_from_every_centre_takes_its_own_superpixels_value():
    labels = np.maximum(np.arange(1000)[None] - 500, 0).astype(np.int32)
    image, values = np.zeros((1, 1000, 3), np.uint8), np.linspace(3, 7, 500, dtype=np.float32)[:, None]
    pairs = superpixels.pairs(labels)
    ours = graph_fill.smooth(*(tf.constant(one) for one in (values, image, labels, pairs))).numpy()
    np.testing.assert_allclose(ours, fill.smooth(values, image, labels, pairs), atol=2e-5)
    assert (ours[0, :100] == 3).all()


@pytest.mark.parametrize("size", [(96, 128), (100, 70), (40, 40)])
def test_grid_cells_are_numpys(size):
    image = np.zeros((*size, 3), np.uint8)
    for setting in ("grid:40", "grid:7"):
        assert np.array_equal(segment(image, setting), superpixels.segment(image, setting))


@PHOTOS
def test_slic_gives_superpixels_of_sane_number_area_and_shape(photo):
    image = photo()
    labels = segment(image, SLIC)
    count, area = labels.max() + 1, 640 * 480 / int(SLIC)
    assert labels.dtype == np.int32 and labels.shape == image.shape[:2]
    assert np.array_equal(np.unique(labels), np.arange(count))
    assert labels.size / count == pytest.approx(area, rel=0.2)
    sizes = np.bincount(labels.ravel())
    assert (sizes < 4 * area).all() and np.mean((area / 3 < sizes) & (sizes < 3 * area)) > 0.8
    away = np.stack(np.indices(labels.shape), axis=-1) - superpixels.centres(labels)[labels]
    assert np.abs(away).max() < 3 * np.sqrt(area)
    if photo in (room, black):  # a square's pixels are area/6 from its centre in the mean of squares
        assert (away**2).sum(axis=-1).mean() < 2 * area / 6


def test_slic_follows_the_edges_of_colours_in_the_photos_middle_and_in_the_dark():
    rows, columns = np.indices((120, 160))
    for bright, dark in (((200, 60, 60), (60, 60, 200)), ((12, 12, 12), (9, 9, 9))):
        side = rows + 2 * columns > 210
        labels = segment(np.where(side[..., None], bright, dark).astype(np.uint8), SLIC)
        squares = superpixels.segment(np.zeros((120, 160, 3), np.uint8), "grid:12")
        assert astray(labels, side) < 0.05 * astray(squares, side)


def astray(labels: np.ndarray, side: np.ndarray) -> float:
    """How many pixels are on the other side than most of their superpixel."""
    share = superpixels.mean(labels, side)
    return (np.minimum(share, 1 - share) * np.bincount(labels.ravel())).sum()


def test_slic_of_the_same_pictures_is_as_homogeneous_as_skimages():
    """The variance of colour inside superpixels, as a share of the photo's."""
    image = room().astype(np.float64)
    inside = []
    for labels in (segment(room(), SLIC), superpixels.segment(room(), SLIC)):
        means = np.stack([superpixels.mean(labels, image[..., channel]) for channel in range(3)], axis=1)
        inside.append(((image - means[labels]) ** 2).sum() / ((image - image.mean(axis=(0, 1))) ** 2).sum())
    assert inside[0] < 1.1 * inside[1]


@pytest.mark.parametrize(("setting", "size"), [("700", (8, 8)), ("grid:40", (39, 200)), ("400000", (90, 120))])
def test_a_photo_too_small_is_refused(setting, size):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{size[1]}×{size[0]} pixels are too few for"):
        segment(np.zeros((*size, 3), np.uint8), setting)


@pytest.mark.parametrize("size", [(320, 240), (300, 500), (1000, 30), (2000, 1501), (60, 40), (5000, 1)])
def test_photos_are_made_smaller_as_pillow_does(size):
    large = Image.fromarray(room()).resize(size)
    width, height = (max(1, round(n * min(1, np.sqrt(76800 / (size[0] * size[1]))))) for n in size)
    ours = export.shrunk(tf.constant(np.asarray(large)), 76800).numpy()
    assert ours.shape == (height, width, 3) and ours.dtype == np.uint8
    pillows = np.asarray(large.resize((width, height), Image.Resampling.LANCZOS))
    apart = np.abs(ours.astype(int) - pillows)
    assert apart.max() <= 2 and apart.mean() < 0.3
    assert apart.max() == 0 or width * height < size[0] * size[1]
