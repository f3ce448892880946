"""Each similarity on an example computed by hand."""

import numpy as np
import pytest

from depthfield.field import similarity

LABELS = np.repeat([[0] * 10 + [1] * 10], 10, axis=0).astype(np.int32)
PAIRS = np.array([[0, 1]], np.int32)


def halves(left, right) -> np.ndarray:
    image = np.empty((10, 20, 3), np.uint8)
    image[:, :10], image[:, 10:] = left, right
    return image


def of(image: np.ndarray, *names: str) -> list[float]:
    return similarity.similarities(image, LABELS, PAIRS, names)[0].tolist()


def test_alike_in_everything_is_1():
    assert of(halves(90, 90), "histogram", "colour") == [1, 1]


def test_histogram_has_11_bins_of_each_rgb_channel():
    # 0 is in bin 0, 255 in bin 10: one bin apart in each of 3 channels, all pixels: ‖f‖² = 3·2
    assert of(halves(0, 255), "histogram")[0] == pytest.approx(np.exp(-25 * np.sqrt(6) / np.sqrt(33)), rel=1e-4)
    # 23 is the last value of bin 0, 24 the first of bin 1
    assert of(halves(0, 23), "histogram") == [1]
    assert of(halves((0, 0, 23), (0, 0, 24)), "histogram")[0] == pytest.approx(np.exp(-25 * np.sqrt(2 / 33)), rel=1e-4)


def test_colour_is_mean_luv():
    # white is L = 100, u = v = 0; black is L = 0
    assert of(halves(0, 255), "colour")[0] == pytest.approx(np.exp(-0.1 * 100 / np.sqrt(3)), rel=1e-3)


def test_texture_is_the_uniform_pattern_histogram_of_the_patch():
    # flat: all 36 patterns are 00000000; one isolated bright pixel per 4 columns gives others
    flat = halves(90, 90)
    features = similarity.texture(flat, np.zeros((10, 20), np.int32))
    assert features.shape == (1, 58) and features[0, similarity.PATTERN_BINS[0]] == 1
    np.testing.assert_allclose((features**2).sum(axis=1), 1)
    steps = np.repeat(np.arange(20, dtype=np.uint8)[None, :, None] * 10, 10, axis=0).repeat(3, axis=2)
    # brighter to the right everywhere: the three neighbours to the right are greater
    pattern = sum(1 << bit for bit, (_, right) in enumerate(similarity.RING) if right == 1)
    features = similarity.texture(steps, np.zeros((10, 20), np.int32))
    assert features[0, similarity.PATTERN_BINS[pattern]] == pytest.approx(1)
    assert similarity.PATTERN_BINS[pattern] < 56


def test_there_are_58_bins_of_uniform_patterns():
    bins = similarity.PATTERN_BINS
    assert sorted(set(bins)) == list(range(58))
    assert bins[0] == bins[255] == 56 and bins[0b01010101] == 57
    assert np.bincount(bins)[:56].tolist() == [1] * 56 and (bins == 57).sum() == 256 - 58


def test_the_columns_come_in_the_order_asked_for():
    image = np.random.default_rng(0).integers(0, 256, (10, 20, 3), np.uint8)
    one, other = of(image, "texture", "colour"), of(image, "colour", "texture")
    assert one == other[::-1] and one[0] != one[1]
