"""Scale bars, superpixels and pairs as pictures, and pictures as blocks of colour for a terminal."""

import re

import numpy as np
import pytest

from depthfield import blocks, picture, tool
from depthfield.field import superpixels

COLOURS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


def cells(line: str) -> list[tuple[list[int], list[int]]]:
    """The codes of the upper and the lower pixel of each cell of a terminal's line."""
    assert line.endswith(blocks.RESET)
    found, pair = [], None
    for above, below, drawn in re.findall(r"\x1b\[38;([\d;]+);48;([\d;]+)m(▀+)", line.removesuffix(blocks.RESET)):
        pair = tuple([int(number) for number in code.split(";")] for code in (above, below))
        found += [pair] * len(drawn)
    return found


# ---- scale bars


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0.93, 6.4, 8, [1, 2, 3, 4, 5, 6]),
        (0.93, 6.4, 4, [2, 4, 6]),
        (0.61, 0.78, 5, [0.65, 0.7, 0.75]),
        (2.0, 60.0, 6, [10, 20, 30, 40, 50, 60]),
        (1.2, 1.4, 2, [1.2, 1.4]),
        (3.0, 3.0, 5, [3.0]),
    ],
)
def test_ticks_are_round_numbers_of_metres(low, high, most, expected):
    assert picture.ticks(low, high, most) == pytest.approx(expected)


def test_labels_have_the_decimals_that_tell_them_apart():
    assert [picture.decimals(marks) for marks in ([1, 2], [0.65, 0.7], [10, 20], [3.0])] == [0, 2, 0, 2]


def test_a_scale_bar_stands_beside_the_depth_near_below_far_above():
    depth = np.linspace(1, 5, 200 * 300, dtype=np.float32).reshape(200, 300)
    drawn = picture.with_scale_bar(depth, 1.0, 5.0)
    assert drawn.dtype == np.uint8 and drawn.shape[0] == 200 and 340 < drawn.shape[1] < 400
    np.testing.assert_array_equal(drawn[:, :300], picture.coloured(depth, 1.0, 5.0))
    bar = drawn[:, 310]
    coloured = np.flatnonzero((bar != 255).any(axis=1))
    assert bar[coloured[0]].tolist() == list(picture.DEPTHS[-1])
    assert bar[coloured[-1]].tolist() == list(picture.DEPTHS[0])
    assert (drawn[:, 320:].min(axis=2) < 100).any()  # letters


def test_every_scale_bar_has_the_largest_on_top_whichever_way_its_colours_go():
    upwards, downwards = picture.scale_bar(200, 0.0, 1.0), picture.scale_bar(200, 1.0, 0.0)
    coloured = np.flatnonzero((upwards[:, 10] != 255).any(axis=1))
    np.testing.assert_array_equal(upwards[coloured, 10], downwards[coloured[::-1], 10])
    np.testing.assert_array_equal(upwards[:, 22:], downwards[:, 22:])  # their numbers


def test_uncertainty_has_other_colours_than_depth_over_its_own_span():
    photo, depth = np.zeros((60, 80, 3), np.uint8), np.tile(np.linspace(1, 5, 80, dtype=np.float32), (60, 1))
    sigma = depth * np.linspace(0.2, 0.25, 80, dtype=np.float32)
    drawn = picture.panel(photo, depth, depth, sigma, calibrated=True)
    bar = picture.scale_bar(60, 20, 25, "%", picture.ERRORS).shape[1]
    uncertainty = drawn[:, -80 - bar : -bar]
    np.testing.assert_array_equal(uncertainty[:, [0, -1]], [[picture.ERRORS[0], picture.ERRORS[-1]]] * 60)
    lightness = uncertainty.mean(axis=(0, 2))
    assert (np.diff(lightness) <= 0).all() and lightness[-1] < lightness[0] - 150
    assert not set(picture.ERRORS) & set(picture.DEPTHS)


@pytest.mark.parametrize("height", [1, 20, 72, 3000])
def test_a_scale_bar_fits_any_height(height):
    assert picture.scale_bar(height, 0.9, 12.0).shape[0] == height
    assert picture.scale_bar(height, 2.0, 2.0).shape[0] == height


# ---- superpixels and pairs


def test_boundaries_and_mean_colours_follow_the_superpixels():
    labels = np.array([[0, 0, 1, 1, 1, 1]] * 4, np.int32)
    outlined = picture.outlined(COLOURS, labels)
    assert (outlined[:, 1] == picture.BOUNDARY).all() and (
        outlined[:, [0, 2, 3, 4, 5]] == COLOURS[:, [0, 2, 3, 4, 5]]
    ).all()
    averaged = picture.averaged(COLOURS, labels)
    np.testing.assert_allclose(averaged[2, 5], COLOURS[:, 2:].reshape(-1, 3).mean(axis=0), atol=0.5)


def test_the_more_alike_a_pair_is_the_lighter_and_wider_its_line():
    labels = np.repeat(np.repeat(np.array([[0, 1, 2]], np.int32), 60, axis=1), 30, axis=0)
    centres, pairs = superpixels.centres(labels), superpixels.pairs(labels)
    drawn = picture.linked(np.zeros((30, 180, 3), np.uint8), centres, pairs, np.array([1.0, 0.2], np.float32))
    widths = [(drawn[:, column] > 0).any(axis=1).sum() for column in (60, 120)]
    assert widths[0] > 2 * widths[1] > 0
    assert drawn[:, 60].max() > drawn[:, 120].max()
    assert not picture.linked(np.zeros((9, 9, 3), np.uint8), centres[:1], pairs[:0], np.zeros(0, np.float32)).any()


# ---- the terminal


def test_two_rows_of_pixels_are_a_line_of_cells_in_24_bits():
    lines = list(blocks.lines(COLOURS, true=True))
    assert len(lines) == 2
    for number, line in enumerate(lines):
        assert cells(line) == [
            ([2, *COLOURS[2 * number, column]], [2, *COLOURS[2 * number + 1, column]]) for column in range(6)
        ]


def test_256_colours_are_the_nearest_there_are():
    levels = (0, 95, 135, 175, 215, 255)
    palette = [(r, g, b) for r in levels for g in levels for b in levels] + [(8 + 10 * k,) * 3 for k in range(24)]
    shown = np.concatenate([COLOURS, np.repeat(COLOURS[..., :1], 3, axis=2)])
    for number, line in enumerate(blocks.lines(shown, true=False)):
        for column, pair in enumerate(cells(line)):
            for code, pixel in zip(pair, shown[2 * number : 2 * number + 2, column].astype(int), strict=True):
                distance = ((np.array(palette) - pixel) ** 2).sum(axis=1)
                assert code[0] == 5 and distance[code[1] - 16] == distance.min()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("NO_COLOR", "1", "NO_COLOR is set"), ("TERM", "dumb", "TERM=dumb"), ("TERM", "", "has no colours")],
)
def test_a_terminal_without_colours_says_why_nothing_is_shown(monkeypatch, name, value, said):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(tool.Failure, match=f"{said}.*--out FILE"):
        blocks.check()
