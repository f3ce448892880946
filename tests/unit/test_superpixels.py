"""Superpixels, their pairs and depths, and the way back to pixels."""

import numpy as np
import pytest

from depthfield.field import fill, superpixels
from depthfield.tool import Failure, UsageError


def photo(height: int = 96, width: int = 128, seed: int = 0) -> np.ndarray:
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    return blocks.repeat(16, axis=0).repeat(16, axis=1)


def test_slic_labels_run_from_0_without_gaps_and_keep_their_area_at_any_size():
    for height, width in ((96, 128), (192, 256)):
        labels = superpixels.segment(photo(height, width), "700")
        count = labels.max() + 1
        assert labels.dtype == np.int32 and np.array_equal(np.unique(labels), np.arange(count))
        assert height * width / count == pytest.approx(640 * 480 / 700, rel=0.35)


def test_grid_cells_are_squares_and_the_rest_at_the_border():
    labels = superpixels.segment(photo(96, 128), "grid:40")
    assert labels.max() + 1 == 3 * 4
    assert (labels[:40, :40] == 0).all() and (labels[80:, 120:] == 11).all()
    assert np.bincount(labels.ravel())[[0, 11]].tolist() == [1600, 16 * 8]


def test_a_photo_too_small_is_refused():
    for how, size in (("700", (8, 8)), ("grid:40", (39, 200))):
        with pytest.raises(Failure, match="too few"):
            superpixels.segment(np.zeros((*size, 3), np.uint8), how)


@pytest.mark.parametrize("text", ["", "grid", "grid:0", "slic:7", "-5", "many"])
def test_invalid_settings_are_usage_errors(text):
    with pytest.raises(UsageError, match="superpixels are"):
        superpixels.parse(text)


def test_pairs_touch_by_an_edge_and_come_once():
    labels = np.array([[0, 0, 1], [2, 0, 1], [2, 3, 3]], np.int32)
    # 1 and 2, and 0 and 3 by the middle column; 2 and 1 only meet across others
    assert superpixels.pairs(labels).tolist() == [[0, 1], [0, 2], [0, 3], [1, 3], [2, 3]]
    assert superpixels.pairs(np.zeros((4, 4), np.int32)).shape == (0, 2)


def test_centres_and_mean_depth_over_measured_pixels():
    labels = np.array([[0, 0, 1, 1], [0, 0, 2, 2]], np.int32)
    depth = np.array([[1.0, np.nan, 5.0, 7.0], [2.0, 3.0, np.nan, np.nan]])
    np.testing.assert_allclose(superpixels.centres(labels), [[0.5, 0.5], [0, 2.5], [1, 2.5]])
    np.testing.assert_allclose(superpixels.mean(labels, depth), [2.0, 6.0, np.nan])


def test_fill_keeps_what_is_constant_stays_in_range_and_keeps_edges():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 40:] = 255
    labels = superpixels.segment(image, "grid:20")
    pairs = superpixels.pairs(labels)
    values = np.where(superpixels.centres(labels)[:, 1] < 40, 1.0, 5.0)
    filled = fill.smooth(np.stack([values, np.full(len(values), 3.0)], axis=1), image, labels, pairs)
    assert filled.shape == (40, 80, 2) and filled.dtype == np.float32
    np.testing.assert_allclose(filled[..., 1], 3.0, rtol=1e-5)
    np.testing.assert_allclose(filled[:, :40, 0], 1.0, rtol=1e-3)  # not blurred across the edge of the photo
    np.testing.assert_allclose(filled[:, 40:, 0], 5.0, rtol=1e-3)


def test_fill_blends_where_the_photo_has_no_edge():
    image = np.full((40, 80, 3), 100, np.uint8)
    labels = superpixels.segment(image, "grid:20")
    values = superpixels.centres(labels)[:, 1:]
    row = fill.smooth(values, image, labels, superpixels.pairs(labels))[10, :, 0]
    assert np.abs(np.diff(row)).max() < 10  # piecewise constant, the steps would be 20
    assert values.min() <= row.min() and row.max() <= values.max()


def test_colourisation_solves_levins_equations():
    """On a photo of one grey each pixel is the mean of its neighbours, but where a value is given: (A + G)x = Gv."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (12, 16, 1), np.uint8).repeat(3, axis=2)
    labels = superpixels.segment(image, "grid:4")
    values = rng.uniform(1, 5, (12, 2))
    filled = fill.colourise(values, image, labels, superpixels.pairs(labels))
    assert filled.shape == (12, 16, 2) and filled.dtype == np.float32
    grey = image[..., 0] / 255.0
    known = {
        tuple(np.rint(centre).astype(int)): value
        for centre, value in zip(superpixels.centres(labels), values, strict=True)
    }
    for row in range(12):
        for column in range(16):
            near = [(r, c) for r in range(row - 1, row + 2) for c in range(column - 1, column + 2)]
            near = [(r, c) for r, c in near if 0 <= r < 12 and 0 <= c < 16]
            variance = np.var([grey[place] for place in near])
            near.remove((row, column))
            squares = np.array([(grey[place] - grey[row, column]) ** 2 for place in near])
            spread = max(0.6 * variance, squares.min() / -np.log(0.01), 2e-6)
            weights = np.exp(-squares / spread)
            mean = sum(w * filled[place] for w, place in zip(weights / weights.sum(), near, strict=True))
            given = known.get((row, column))
            residual = filled[row, column] - mean + (filled[row, column] - given if given is not None else 0)
            np.testing.assert_allclose(residual, 0, atol=1e-4)


def test_colourisation_keeps_to_edges():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 40:] = 255
    labels = superpixels.segment(image, "grid:20")
    values = np.where(superpixels.centres(labels)[:, 1:] < 40, 1.0, 5.0)
    filled = fill.colourise(values, image, labels, superpixels.pairs(labels))[..., 0]
    assert filled[:, :39].max() < 1.1 and filled[:, 41:].min() > 4.9
