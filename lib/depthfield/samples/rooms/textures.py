"""The look of surfaces: paints, papers, woods, tiles, cloths and pictures, computed where they are seen.

A paint is a function `(q, half, side, blur) -> albedo`: q are the points (3×n, metres, in the axes of a solid whose
half extents are `half`), side the axis their face is seen along (n), blur the width a pixel covers there (n, metres),
over which patterns fade to avoid aliasing; albedo is 3×n, linear RGB.
"""

import colorsys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Paint = Callable[[np.ndarray, tuple, np.ndarray, np.ndarray], np.ndarray]

TABLE = np.random.default_rng(20150608).random((64, 64)) * 2 - 1  # lattice values of the noise, -1..1


class Surface(NamedTuple):
    """How a solid reflects light."""

    paint: Paint
    glow: float = 0.0  # emitted light, as a multiple of its albedo
    gloss: float = 0.0  # strength of the highlight
    glass: bool = False  # a depth camera measures nothing there


def colour(hue: float, saturation: float, value: float) -> np.ndarray:
    """Return the linear RGB (3) of a colour given by hue, saturation and value."""
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))) ** 2.2


def unfold(q: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates on the face of each point, metres: sideways, and upwards (on lids: along y)."""
    return np.where(side == 0, q[1], q[0]), np.where(side == 2, q[1], q[2])


def noise(u: np.ndarray, v: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return smooth noise of about one wave per unit, -1..1."""
    i, j = np.floor(u), np.floor(v)
    a, b = u - i, v - j
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    i, j = i.astype(np.int64) + seed * 13, j.astype(np.int64) + seed * 29
    i0, i1, j0, j1 = i & 63, (i + 1) & 63, j & 63, (j + 1) & 63
    upper = TABLE[i0, j0] + a * (TABLE[i1, j0] - TABLE[i0, j0])
    lower = TABLE[i0, j1] + a * (TABLE[i1, j1] - TABLE[i0, j1])
    return upper + b * (lower - upper)


def cell(i: np.ndarray, j: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return a value of -1..1 for each cell of a lattice."""
    return TABLE[(i.astype(np.int64) * 7 + seed) & 63, (j.astype(np.int64) * 11 + 3 * seed) & 63]


def faded(blur: np.ndarray, period: float) -> np.ndarray:
    """Return how much of a pattern is left, 1..0, if a pixel covers `blur` metres of it."""
    return np.clip(1.5 - 2.0 * blur / period, 0.0, 1.0)


def lines(u: np.ndarray, period: float, width: float, blur: np.ndarray) -> np.ndarray:
    """Return the share of a pixel covered by lines around the multiples of `period`, 0..1."""
    distance = np.abs(u - period * np.round(u / period))
    near = np.minimum(distance + blur / 2, width / 2) - np.maximum(distance - blur / 2, -width / 2)
    left = faded(blur, period)
    return np.clip(near / blur, 0.0, 1.0) * left + (1 - left) * width / period


def step(u: np.ndarray, blur: np.ndarray) -> np.ndarray:
    """Return the share of a pixel on the positive side of u = 0, 0..1."""
    return np.clip(u / blur + 0.5, 0.0, 1.0)


def mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Blend from a to b (3 or 3×n each) as share (n) goes from 0 to 1."""
    a, b = (x[:, None] if x.ndim == 1 else x for x in (a, b))
    return a + (b - a) * share


def plain(tone: np.ndarray, mottle: float = 0.05, seed: int = 0) -> Paint:
    """One colour, a little uneven."""

    def paint(q, half, side, blur):
        u, v = unfold(q, side)
        return tone[:, None] * (1 + mottle * noise(2.3 * u, 2.3 * v, seed))

    return paint


def flat(tone: np.ndarray) -> Paint:
    """One colour, for things too small for more."""

    def paint(q, half, side, blur):
        return np.broadcast_to(tone[:, None], q.shape)

    return paint


def stripes(a: np.ndarray, b: np.ndarray, period: float, share: float = 0.5) -> Paint:
    """Upright stripes."""

    def paint(q, half, side, blur):
        u, _ = unfold(q, side)
        return mix(a, b, lines(u, period, share * period, blur))

    return paint


def motif(a: np.ndarray, b: np.ndarray, period: float) -> Paint:
    """A printed wallpaper: staggered leaves."""

    def paint(q, half, side, blur):
        u, v = unfold(q, side)
        row = np.round(v / period)
        x = u / period + 0.5 * (row % 2)
        x, y = (x - np.round(x)) * 2, (v / period - row) * 2
        leaf = 0.75 - np.abs(x) * (1.6 + 1.1 * y) - y * y
        return mix(a, b, step(leaf * period / 3, blur) * faded(blur, period) + 0.35 * (1 - faded(blur, period)))

    return paint


def bricks(tone: np.ndarray, mortar: np.ndarray, width: float = 0.24, height: float = 0.08, seed: int = 0) -> Paint:
    """Bricks in running bond."""

    def paint(q, half, side, blur):
        u, v = unfold(q, side)
        row = np.floor(v / height)
        shifted = u + 0.5 * width * (row % 2)
        joint = np.maximum(lines(v, height, 0.012, blur), lines(shifted, width, 0.012, blur))
        shade = 1 + faded(blur, width) * (
            0.25 * cell(np.floor(shifted / width), row, seed) + 0.12 * noise(60 * u, 60 * v)
        )
        return mix(tone[:, None] * shade, mortar, joint)

    return paint


def tiles(a: np.ndarray, b: np.ndarray, grout: np.ndarray, edge: float, seed: int = 0) -> Paint:
    """Square tiles, laid like a chessboard of a and b."""

    def paint(q, half, side, blur):
        u, v = unfold(q, side)
        i, j = np.floor(u / edge), np.floor(v / edge)
        left = faded(blur, edge)
        odd = ((i + j) % 2) * left + 0.5 * (1 - left)
        tone = mix(a, b, odd) * (1 + 0.06 * left * cell(i, j, seed) + 0.05 * noise(5 * u, 5 * v, seed))
        return mix(tone, grout, np.maximum(lines(u, edge, 0.008, blur), lines(v, edge, 0.008, blur)))

    return paint


def planks(tone: np.ndarray, width: float, along: int, seed: int = 0) -> Paint:
    """A floor of boards along x (0) or y (1)."""

    def paint(q, half, side, blur):
        u, v = (q[0], q[1]) if along == 0 else (q[1], q[0])
        row = np.floor(v / width)
        shifted = u + 0.37 * cell(row, row, seed) + 0.6 * row
        length = width * 9
        board = np.floor(shifted / length)
        grain = noise(2.5 * u + 40 * board, 70 * v + 9 * row, seed) * faded(blur, 0.03)
        shade = 1 + 0.2 * faded(blur, width) * cell(board, row, seed) + 0.12 * grain + 0.05 * noise(u, 3 * v, seed)
        gap = np.maximum(lines(v, width, 0.004, blur), lines(shifted, length, 0.004, blur))
        return tone[:, None] * (shade * (1 - 0.6 * gap))

    return paint


def wood(tone: np.ndarray, seed: int = 0) -> Paint:
    """Wood with its grain along the longest side."""

    def paint(q, half, side, blur):
        along = int(np.argmax(half))
        u, v = q[along], q[(along + 1) % 3] + 1.3 * q[(along + 2) % 3]
        rings = noise(3 * u + seed, 22 * v + noise(2 * u, 5 * v, seed), seed) * faded(blur, 0.1)
        return tone[:, None] * (1 + 0.16 * rings + 0.06 * noise(8 * u, 160 * v, seed + 1) * faded(blur, 0.015))

    return paint


def cloth(tone: np.ndarray, seed: int = 0, rough: float = 0.18) -> Paint:
    """Woven cloth or carpet."""

    def paint(q, half, side, blur):
        u, v = unfold(q, side)
        fine = noise(110 * u, 110 * v, seed) * faded(blur, 0.02) + 0.6 * noise(31 * u, 31 * v, seed) * faded(blur, 0.06)
        return tone[:, None] * (1 + rough * fine + 0.06 * noise(2 * u, 2 * v, seed))

    return paint


def checks(a: np.ndarray, b: np.ndarray, period: float) -> Paint:
    """A woven check, as on blankets."""

    def paint(q, half, side, blur):
        u, v = unfold(q, side)
        return mix(a, b, (lines(u, period, period / 2.5, blur) + lines(v, period, period / 2.5, blur)) / 2)

    return paint


def folds(tone: np.ndarray, period: float, seed: int = 0) -> Paint:
    """A curtain: folds that darken where they turn away."""

    def paint(q, half, side, blur):
        u, v = unfold(q, side)
        wave = np.sin(2 * np.pi * u / period + 1.5 * noise(2 * u, 0.6 * v, seed))
        return tone[:, None] * (0.78 + 0.22 * wave * faded(blur, period))

    return paint


def wall(base: Paint, skirting: np.ndarray, dado: float = 0.0, lower: Paint | None = None) -> Paint:
    """A wall with a skirting board and, up to the height `dado`, another paint under a rail."""

    def paint(q, half, side, blur):
        height = q[2] + half[2]
        tone = base(q, half, side, blur)
        if lower is not None:
            tone = mix(lower(q, half, side, blur), tone, step(height - dado, blur))
            tone = mix(tone, skirting, step(height - dado, blur) * step(dado + 0.05 - height, blur))
        groove = 1 - 0.35 * step(height - 0.085, blur) * step(0.095 - height, blur)
        return mix(tone, skirting[:, None] * groove, step(0.11 - height, blur))

    return paint


def panels(tone: np.ndarray, columns: int, rows: int, margin: float = 0.1) -> Paint:
    """The front of a door: panels whose grooves catch light above and shade below."""

    def paint(q, half, side, blur):
        u, v = unfold(q, side)
        reach = half[0] if half[0] > half[1] else half[1]
        across, up = 2 * (reach - margin / 2) / columns, 2 * (half[2] - margin / 2) / rows
        x, y = (u + reach - margin / 2) % across, (v + half[2] - margin / 2) % up
        inset = np.minimum(np.minimum(x, across - x), np.minimum(y, up - y)) - margin / 2
        groove = step(inset, blur) * step(0.02 - inset, blur)
        lit = np.where((y > up / 2) == (x > across / 2), 0.6, 0.85)
        return tone[:, None] * (1 - groove * (1 - lit)) * (1 + 0.02 * noise(3 * u, 3 * v))

    return paint


def books(rng: np.random.Generator, width: float) -> Paint:
    """The backs of books side by side."""
    edges = np.cumsum(rng.uniform(0.015, 0.045, max(2, int(width / 0.02))))
    count = min(int(np.searchsorted(edges, width)) + 1, len(edges))
    tones = np.stack([colour(rng.random(), rng.uniform(0.1, 0.8), rng.uniform(0.2, 0.85)) for _ in range(count)], 1)
    band = rng.uniform(0.3, 0.9, count)

    def paint(q, half, side, blur):
        u = q[0] + half[0]
        book = np.minimum(np.searchsorted(edges, u), count - 1)
        gap = np.minimum(np.abs(u - edges[book]), np.abs(u - np.where(book > 0, edges[book - 1], 0.0)))
        title = np.abs(q[2] / half[2] - band[book] + 0.4) < 0.12
        tone = tones[:, book] * (1 - 0.6 * step(0.003 - gap, blur)) * np.where(title, 1.7, 1.0)
        return np.where(side == 2, 0.6, np.minimum(tone, 0.9))

    return paint


def picture(rng: np.random.Generator, frame: np.ndarray) -> Paint:
    """A framed picture: hills under a sky, or shapes, or a portrait of nobody; with or without a mount."""
    kind, seed = int(rng.integers(3)), int(rng.integers(1000))
    a, b, c = (colour(rng.random(), rng.uniform(0.2, 0.8), rng.uniform(0.25, 0.95)) for _ in range(3))
    sky = colour(rng.uniform(0.5, 0.65), rng.uniform(0.1, 0.5), 0.9)
    border, mount = rng.uniform(0.02, 0.05), rng.choice([0.0, 0.05])
    paper = colour(0.1, 0.05, 0.93)

    def paint(q, half, side, blur):
        u, v = unfold(q, side)
        reach = max(half[0], half[1])
        x, y = u / reach, v / half[2]
        if kind == 0:
            tone = mix(sky, paper, np.clip(0.5 - 0.6 * y, 0, 1))
            for level, hill in ((0.15, mix(a, sky, np.full(1, 0.5))), (-0.15, a), (-0.55, b)):
                tone = mix(
                    tone, hill, step((level + 0.3 * noise(1.5 * x + seed, 3 * level + 0 * x, seed) - y) * 0.2, blur)
                )
        elif kind == 1:
            tone = mix(a, b, step(0.2 * noise(1.7 * x + seed, 1.7 * y, seed), blur))
            tone = mix(tone, c, step(0.2 * (noise(1.2 * x, 1.2 * y + seed, seed + 1) - 0.25), blur))
        else:
            tone = mix(a, b, np.clip(0.5 + 0.5 * y + 0.2 * noise(2 * x, 2 * y, seed), 0, 1))
            body = np.minimum((x / 0.75) ** 2 + ((y + 1.1) / 0.8) ** 2, 9.0)
            tone = mix(tone, c, step((1 - body) * 0.1, blur))
            tone = mix(tone, colour(0.07, 0.4, 0.8), step((1 - (x / 0.32) ** 2 - ((y - 0.15) / 0.4) ** 2) * 0.1, blur))
        inset = np.minimum(reach - np.abs(u), half[2] - np.abs(v))
        if mount:
            tone = mix(tone, paper, step(border + mount - inset, blur))
        return mix(tone, frame, np.where(side == 2, 1.0, step(border - inset, blur)))

    return paint


def rug(rng: np.random.Generator) -> Paint:
    """A rug with borders and a field of diamonds or stripes, or a shaggy one."""
    a, b, c = (colour(rng.random(), rng.uniform(0.2, 0.7), rng.uniform(0.3, 0.85)) for _ in range(3))
    kind, period = int(rng.integers(3)), rng.uniform(0.15, 0.4)
    pile = cloth(np.ones(3), int(rng.integers(1000)), 0.25)

    def paint(q, half, side, blur):
        u, v = q[0], q[1]
        if kind == 0:
            field = mix(a, b, (lines(u + v, period, period / 3, blur) + lines(u - v, period, period / 3, blur)) / 2)
        elif kind == 1:
            field = mix(a, b, lines(u, period, period / 2, blur))
        else:
            field = a[:, None] * np.ones_like(u)
        inset = np.minimum(half[0] - np.abs(u), half[1] - np.abs(v))
        for edge, tone in ((0.22, c), (0.17, b), (0.06, a)):
            if kind != 2:
                field = mix(field, tone, step(edge - inset, blur))
        return field * pile(q, half, side, blur)

    return paint


def outdoors(rng: np.random.Generator, night: bool) -> Paint:
    """The view from a window: sky, hills or houses, and green; or darkness."""
    seed, level = int(rng.integers(1000)), rng.uniform(-0.5, 0.1)
    green = colour(rng.uniform(0.22, 0.36), 0.5, rng.uniform(0.35, 0.6))
    high, low = colour(0.58, rng.uniform(0.1, 0.5), 1.0), colour(0.12, 0.05, 1.0)
    if night:
        green, high, low = (0.03 * x for x in (green, high, low))

    def paint(q, half, side, blur):
        u, v = unfold(q, side)
        y = v / half[2]
        tone = mix(low, high, np.clip(0.5 + 0.6 * y, 0, 1))
        edge = level + 0.25 * noise(2.2 * u, 0 * u + 0.5, seed) + 0.12 * noise(11 * u, 0 * u, seed)
        return mix(tone, green[:, None] * (1 + 0.4 * noise(9 * u, 9 * v, seed)), step((edge - y) * half[2], blur))

    return paint
