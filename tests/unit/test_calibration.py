"""The share of pixels within so many standard deviations, counted and drawn."""

import numpy as np
import pytest

from depthfield import calibration


def test_shares_by_hand():
    truth = np.array([[1.0, 1.0, 1.0, 1.0, np.nan, 0.0]])
    predicted = np.exp([[0.05, -0.15, 0.25, 9.0, 0.0, 0.0]])
    counted = calibration.counts(predicted, np.full((1, 6), 0.1), truth)
    assert counted.sum() == 4
    assert calibration.within(counted, 1) == 0.25 and calibration.within(counted, 2) == 0.5


def test_a_gaussian_is_calibrated_and_half_its_deviation_is_not():
    rng = np.random.default_rng(0)
    deviation = rng.uniform(0.05, 0.4, (300, 300))
    predicted = np.exp(rng.normal(size=(300, 300)) * deviation)
    truth = np.ones((300, 300))
    right = calibration.counts(predicted, deviation, truth)
    assert calibration.within(right, 1) == pytest.approx(0.683, abs=0.01)
    assert calibration.within(right, 2) == pytest.approx(0.954, abs=0.005)
    assert calibration.within(calibration.counts(predicted, deviation / 2, truth), 1) == pytest.approx(0.383, abs=0.01)


def letters(strip: np.ndarray) -> int:
    """How many rows of a white strip, uint8 H×W×3, have ink."""
    return int((strip.min(axis=(1, 2)) < 128).sum())


def test_the_figure_shows_a_curve_below_the_diagonal_for_errors_beyond_what_is_stated():
    rng = np.random.default_rng(0)
    figures = {}
    for claimed in (0.1, 0.4):
        predicted = np.exp(rng.normal(0, 0.2, (200, 200)))
        counted = calibration.counts(predicted, np.full((200, 200), claimed), np.ones((200, 200)))
        pixels = np.asarray(calibration.figure(counted, calibrated=True))
        curve = np.argwhere((pixels == (0x31, 0x68, 0x8E)).all(axis=-1))
        middle = curve[np.abs(curve[:, 1] - calibration.SIDE // 2) < 3][:, 0]
        figures[claimed] = middle.mean()  # rows grow downwards
    assert letters(pixels[: calibration.MARGIN // 2]) > 12  # of the title; a font of bitmaps has 11 pixels at most
    assert figures[0.1] > calibration.SIDE / 2 + 10 and figures[0.4] < calibration.SIDE / 2 - 10
