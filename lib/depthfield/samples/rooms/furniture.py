"""Pieces of furniture: lists of solids standing on z = 0 around the origin, their backs to +y, in metres."""

import math
from typing import NamedTuple

import numpy as np

from depthfield.samples.rooms import textures
from depthfield.samples.rooms.shapes import Solid, ball, bounds, box, placed, tube
from depthfield.samples.rooms.textures import Surface, colour

Piece = list[Solid]
Random = np.random.Generator


class Style(NamedTuple):
    """The colours a room's furniture shares, linear RGB."""

    wood: np.ndarray
    front: np.ndarray  # colour of cupboards and drawers
    cloth: np.ndarray
    accent: np.ndarray
    metal: np.ndarray


def style(rng: Random) -> Style:
    """Colours that go together."""
    woods = ((0.08, 0.55, 0.72), (0.07, 0.6, 0.5), (0.05, 0.6, 0.33), (0.09, 0.35, 0.82), (0.08, 0.05, 0.9))
    hue, saturation, value = woods[rng.integers(len(woods))]
    wood = colour(hue + rng.uniform(-0.01, 0.01), saturation, value + rng.uniform(-0.05, 0.05))
    painted = colour(rng.random(), rng.uniform(0.0, 0.4), rng.uniform(0.5, 0.95))
    return Style(
        wood=wood,
        front=wood if rng.random() < 0.5 else painted,
        cloth=colour(rng.random(), rng.uniform(0.05, 0.7), rng.uniform(0.25, 0.8)),
        accent=colour(rng.random(), rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.9)),
        metal=colour(0.6, 0.04, rng.uniform(0.2, 0.75)),
    )


def wooden(rng: Random, tone: np.ndarray) -> Surface:
    return Surface(textures.wood(tone, int(rng.integers(64))), gloss=0.06)


def painted(tone: np.ndarray, gloss: float = 0.05) -> Surface:
    return Surface(textures.flat(tone), gloss=gloss)


def woven(rng: Random, tone: np.ndarray) -> Surface:
    return Surface(textures.cloth(tone, int(rng.integers(64))))


def any_colour(rng: Random) -> np.ndarray:
    return colour(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.3, 0.95))


def legs(w: float, d: float, h: float, thick: float, surface: Surface, is_round: bool) -> Piece:
    """Four legs inside a footprint of w by d."""
    x, y = w / 2 - thick / 2, d / 2 - thick / 2
    corners = ((-x, -y), (x, -y), (-x, y), (x, y))
    if is_round:
        return [tube(a, b, 0, 0.35 * thick, h, surface, 0.5 * thick) for a, b in corners]
    return [box(a, b, 0, thick, thick, h, surface) for a, b in corners]


def bed(rng: Random, s: Style) -> Piece:
    w, d, h = rng.choice([0.95, 1.4, 1.7]), rng.uniform(1.95, 2.15), rng.uniform(0.25, 0.38)
    frame, sheet = wooden(rng, s.wood), woven(rng, colour(0.1, rng.uniform(0, 0.15), rng.uniform(0.75, 0.95)))
    tones = (s.cloth, s.accent)
    patterned = textures.checks(*tones, rng.uniform(0.1, 0.3)) if rng.random() < 0.3 else textures.cloth(s.cloth, 5)
    blanket = Surface(patterned)
    up = rng.uniform(0.75, 1.2)
    out = [
        box(0, 0, 0.1, w, d, h - 0.1, frame),
        box(0, d / 2 + 0.03, 0, w + 0.06, 0.06, up, frame),
        *legs(w, d, 0.1, 0.07, frame, False),
        box(0, 0, h, w - 0.06, d - 0.06, 0.2, sheet),
        box(0, -0.25, h + 0.03, w + 0.02, d - 0.52, 0.2, blanket),
    ]
    for x in (0.0,) if w < 1.2 else (-w / 4, w / 4):
        out.append(ball(x, d / 2 - 0.28, h + 0.18, 0.32, 0.22, 0.09, sheet, rng.uniform(-0.15, 0.15)))
    if rng.random() < 0.4:
        out.append(ball(0, d / 2 - 0.55, h + 0.21, 0.2, 0.13, 0.1, woven(rng, s.accent), rng.uniform(-0.4, 0.4)))
    return out


def wardrobe(rng: Random, s: Style) -> Piece:
    w, d, h = rng.uniform(0.9, 2.0), rng.uniform(0.5, 0.62), rng.uniform(1.8, 2.15)
    body, front, metal = wooden(rng, s.wood), s.front, painted(s.metal, 0.3)
    doors = max(2, round(w / 0.5))
    each = w / doors
    out = [box(0, 0, 0, w, d, h, body)]
    door = Surface(textures.panels(front, 1, int(rng.integers(1, 4))), gloss=0.08)
    for i in range(doors):
        x = (i + 0.5) * each - w / 2
        out.append(box(x, -d / 2 - 0.008, 0.08, each - 0.012, 0.02, h - 0.12, door))
        out.append(box(x + (0.4 if i % 2 == 0 else -0.4) * each, -d / 2 - 0.03, 0.95, 0.015, 0.03, 0.16, metal))
    if rng.random() < 0.5:
        out.append(box(rng.uniform(-0.2, 0.2) * w, 0, h, 0.5, 0.36, 0.25, painted(any_colour(rng)), 0.1))
    return out


def drawers(rng: Random, s: Style) -> Piece:
    w, d, h = rng.uniform(0.7, 1.3), rng.uniform(0.4, 0.5), rng.uniform(0.7, 1.1)
    body, front, metal = wooden(rng, s.wood), wooden(rng, s.front), painted(s.metal, 0.3)
    rows = int(rng.integers(3, 6))
    out = [box(0, 0, 0.06, w - 0.04, d, h - 0.08, body), box(0, 0, h - 0.02, w, d + 0.03, 0.03, body)]
    out += legs(w - 0.04, d, 0.06, 0.05, body, False)
    each = (h - 0.12) / rows
    for i in range(rows):
        z = 0.08 + i * each
        out.append(box(0, -d / 2 - 0.008, z, w - 0.08, 0.02, each - 0.015, front))
        for x in (-w / 4, w / 4):
            out.append(ball(x, -d / 2 - 0.03, z + each / 2 - 0.025, 0.016, 0.02, 0.016, metal))
    return out + on_top(rng, s, w, d, h + 0.01, int(rng.integers(1, 4)))


def bookshelf(rng: Random, s: Style) -> Piece:
    w, d, h = rng.uniform(0.6, 1.3), rng.uniform(0.26, 0.36), rng.uniform(0.9, 2.1)
    body, thick = wooden(rng, s.wood), 0.025
    out = [
        box(-w / 2 + thick / 2, 0, 0, thick, d, h, body),
        box(w / 2 - thick / 2, 0, 0, thick, d, h, body),
        box(0, d / 2 - 0.01, 0, w - 2 * thick, 0.015, h, body),
        box(0, 0, h - thick, w - 2 * thick, d, thick, body),
    ]
    rows = max(2, round(h / rng.uniform(0.32, 0.42)))
    gap = (h - 0.06) / rows
    for i in range(rows):
        z = 0.05 + i * gap
        out.append(box(0, 0, z - thick, w - 2 * thick, d - 0.02, thick, body))
        x = -w / 2 + thick
        while x < w / 2 - thick - 0.12:
            run = min(rng.uniform(0.12, 0.5), w / 2 - thick - x)
            what = rng.random()
            if what < 0.6:
                tall = rng.uniform(0.55, 0.85) * gap
                backs = Surface(textures.books(rng, run))
                out.append(box(x + run / 2, -0.02, z, run, 0.65 * d, tall, backs))
            elif what < 0.75:
                out += placed(ornament(rng, min(0.08, run / 2 - 0.01), 0.7 * gap), x + run / 2, 0, z, 0)
            x += run + rng.uniform(0.0, 0.06)
    return out


def sofa(rng: Random, s: Style, seats: int = 0) -> Piece:
    seats = seats or int(rng.integers(2, 4))
    w, d, arm = seats * rng.uniform(0.6, 0.75), rng.uniform(0.75, 0.9), rng.uniform(0.12, 0.22)
    stuff, low, up = woven(rng, s.cloth), rng.uniform(0.05, 0.14), rng.uniform(0.7, 0.9)
    foot = wooden(rng, s.wood)
    out = [
        box(0, 0, low, w + 2 * arm, d, 0.28 - low, stuff),
        box(0, d / 2 - 0.1, 0.28, w + 2 * arm, 0.2, up - 0.28, stuff),
        *legs(w + 2 * arm, d, low, 0.06, foot, True),
    ]
    for x in (-1, 1):
        out.append(box(x * (w + arm) / 2, -0.01, 0.28, arm, d - 0.02, rng.uniform(0.28, 0.3), stuff))
    each = w / seats
    for i in range(seats):
        x = (i + 0.5) * each - w / 2
        out.append(box(x, -0.12, 0.28, each - 0.015, d - 0.26, 0.15, stuff))
        out.append(box(x, d / 2 - 0.26, 0.43, each - 0.02, 0.13, up - 0.45, stuff))
        if rng.random() < 0.45:
            pillow = woven(rng, s.accent if rng.random() < 0.6 else any_colour(rng))
            out.append(ball(x, d / 2 - 0.42, 0.42, 0.2, 0.09, 0.19, pillow, rng.uniform(-0.4, 0.4)))
    return out


def armchair(rng: Random, s: Style) -> Piece:
    return sofa(rng, s._replace(cloth=s.accent) if rng.random() < 0.4 else s, 1)


def chair(rng: Random, s: Style) -> Piece:
    w, d, h = rng.uniform(0.4, 0.46), rng.uniform(0.4, 0.45), rng.uniform(0.43, 0.47)
    frame, is_round = wooden(rng, s.wood), rng.random() < 0.5
    out = [*legs(w, d, h, 0.04, frame, is_round), box(0, 0, h, w, d, 0.03, frame)]
    up, kind = rng.uniform(0.82, 1.0), rng.integers(3)
    if kind == 0:
        out.append(box(0, d / 2 - 0.015, h + 0.03, w, 0.03, up - h, frame))
    else:
        out += [box(x * (w / 2 - 0.02), d / 2 - 0.02, h, 0.035, 0.035, up - h, frame) for x in (-1, 1)]
        out.append(box(0, d / 2 - 0.02, up - 0.14, w - 0.04, 0.02, 0.12, frame))
        if kind == 2:
            out.append(box(0, d / 2 - 0.02, h + 0.16, w - 0.04, 0.02, 0.08, frame))
    if rng.random() < 0.4:
        out.append(box(0, 0, h + 0.03, w - 0.04, d - 0.05, 0.035, woven(rng, s.accent)))
    return out


def office_chair(rng: Random, s: Style) -> Piece:
    metal, stuff = painted(s.metal, 0.3), woven(rng, s.cloth if rng.random() < 0.5 else colour(0.6, 0.05, 0.18))
    out = [box(0, 0, 0.05, 0.6, 0.05, 0.035, metal, math.pi * k / 5) for k in range(0, 5, 2)]
    for k in range(0, 5, 2):
        for end in (-0.28, 0.28):
            x, y = end * math.cos(math.pi * k / 5), end * math.sin(math.pi * k / 5)
            out.append(ball(x, y, 0, 0.03, 0.03, 0.03, painted(colour(0, 0, 0.12))))
    return [
        *out,
        tube(0, 0, 0.08, 0.03, 0.34, metal),
        box(0, 0, 0.42, 0.48, 0.46, 0.08, stuff),
        box(0, 0.23, 0.45, 0.06, 0.03, 0.25, metal),
        box(0, 0.2, 0.6, 0.44, 0.06, 0.48, stuff),
    ]


def stool(rng: Random, s: Style) -> Piece:
    h, r = rng.uniform(0.42, 0.65), rng.uniform(0.16, 0.22)
    out = legs(1.5 * r, 1.5 * r, h, 0.04, wooden(rng, s.wood), True)
    return [*out, tube(0, 0, h, r, 0.04, wooden(rng, s.front))]


def table(rng: Random, s: Style) -> Piece:
    """A table with chairs around it and things on it."""
    wood, h = wooden(rng, s.wood), rng.uniform(0.7, 0.77)
    if rng.random() < 0.35:
        r = rng.uniform(0.42, 0.65)
        w = d = 2 * r
        out = [tube(0, 0, h - 0.03, r, 0.03, wood), tube(0, 0, 0.03, 0.06, h - 0.06, wood, 0.05)]
        out.append(tube(0, 0, 0, 0.55 * r, 0.03, wood, 0.5 * r))
        spots = [(r * math.cos(a), r * math.sin(a), a) for a in np.arange(4) * math.pi / 2 + rng.uniform(0, 1)]
    else:
        w, d = rng.uniform(1.0, 1.9), rng.uniform(0.7, 0.95)
        out = [
            box(0, 0, h - 0.035, w, d, 0.035, wood),
            *legs(w - 0.06, d - 0.06, h - 0.035, 0.06, wood, rng.random() < 0.4),
        ]
        out.append(box(0, 0, h - 0.11, w - 0.14, d - 0.14, 0.075, wood))
        sides = (-w / 4, w / 4) if w > 1.3 else (0.0,)
        spots = [(x, y * d / 2, y * math.pi / 2) for x in sides for y in (-1, 1)]
        spots += [(x * w / 2, 0, 0.0 if x > 0 else math.pi) for x in (-1, 1) if rng.random() < 0.5]
    seat = chair(rng, s)
    for x, y, angle in spots:
        if rng.random() < 0.85:
            out_by = rng.uniform(0.02, 0.3)
            a, b = x + out_by * math.cos(angle), y + out_by * math.sin(angle)
            out += placed(seat, a, b, 0, angle - math.pi / 2 + rng.uniform(-0.2, 0.2))
    return out + on_top(rng, s, 0.75 * w, 0.75 * d, h, int(rng.integers(1, 6)))


def coffee_table(rng: Random, s: Style) -> Piece:
    w, d, h = rng.uniform(0.6, 1.2), rng.uniform(0.45, 0.65), rng.uniform(0.32, 0.48)
    wood = wooden(rng, s.wood)
    if rng.random() < 0.3:
        out = [tube(0, 0, h - 0.03, d / 1.6, 0.03, wood), *legs(d * 0.8, d * 0.8, h - 0.03, 0.05, wood, True)]
        w = d
    else:
        out = [box(0, 0, h - 0.03, w, d, 0.03, wood), *legs(w, d, h - 0.03, 0.05, wood, False)]
        if rng.random() < 0.5:
            out.append(box(0, 0, 0.12, w - 0.1, d - 0.1, 0.02, wood))
    return out + on_top(rng, s, 0.8 * w, 0.8 * d, h, int(rng.integers(1, 4)))


def desk(rng: Random, s: Style) -> Piece:
    w, d, h = rng.uniform(1.1, 1.7), rng.uniform(0.6, 0.8), rng.uniform(0.71, 0.76)
    wood, front, dark = wooden(rng, s.wood), wooden(rng, s.front), painted(colour(0.6, 0.1, 0.1), 0.2)
    out = [box(0, 0, h - 0.03, w, d, 0.03, wood)]
    if rng.random() < 0.6:
        side = rng.choice([-1, 1])
        out.append(box(side * (w / 2 - 0.22), 0, 0.04, 0.4, d - 0.06, h - 0.07, wood))
        for i in range(3):
            out.append(box(side * (w / 2 - 0.22), -d / 2 + 0.03, 0.06 + i * 0.2, 0.37, 0.03, 0.18, front))
        out.append(box(-side * (w / 2 - 0.02), 0, 0, 0.03, d - 0.04, h - 0.03, wood))
    else:
        out += legs(w, d, h - 0.03, 0.05, painted(s.metal, 0.2) if rng.random() < 0.5 else wood, False)
    if rng.random() < 0.75:
        x = rng.uniform(-0.15, 0.15)
        out += placed(screen(rng, rng.uniform(0.45, 0.65)), x, 0.12, h, rng.uniform(-0.2, 0.2))
        out.append(box(x, -0.16, h, 0.42, 0.14, 0.02, dark, rng.uniform(-0.05, 0.05)))
        out.append(ball(x + 0.3, -0.16, h, 0.03, 0.05, 0.018, dark))
    for side in (-1, 1):
        spot = side * (w / 2 - 0.2)
        if rng.random() < 0.35:
            out += placed(desk_lamp(rng, s), spot, 0.1, h, 0)
        else:
            out += placed(small_thing(rng, s), spot, rng.uniform(-0.1, 0.15), h, rng.uniform(0, 3))
    if rng.random() < 0.85:
        seat = office_chair(rng, s) if rng.random() < 0.7 else chair(rng, s)
        out += placed(seat, rng.uniform(-0.2, 0.2), -d / 2 - rng.uniform(0.2, 0.4), 0, math.pi + rng.uniform(-0.7, 0.7))
    return out


def screen(rng: Random, w: float) -> Piece:
    dark, lit = painted(colour(0.6, 0.05, 0.1), 0.2), rng.random() < 0.5
    show = textures.picture(rng, colour(0, 0, 0.05)) if lit else textures.flat(colour(0.6, 0.2, 0.08))
    face = Surface(show, glow=0.8 if lit else 0.0, gloss=0.4, glass=True)
    return [
        box(0, 0, 0, 0.35 * w, 0.18, 0.015, dark),
        box(0, 0.02, 0, 0.06, 0.03, 0.2, dark),
        box(0, 0, 0.1, w, 0.035, 0.6 * w, dark),
        box(0, -0.019, 0.115, w - 0.03, 0.004, 0.6 * w - 0.03, face),
    ]


def television(rng: Random, s: Style) -> Piece:
    w, d, h = rng.uniform(1.1, 1.8), rng.uniform(0.38, 0.48), rng.uniform(0.35, 0.55)
    body, front = wooden(rng, s.wood), wooden(rng, s.front)
    out = [box(0, 0, 0.06, w, d, h - 0.06, body), *legs(w, d, 0.06, 0.06, body, False)]
    parts = int(rng.integers(2, 4))
    for i in range(parts):
        x = (i + 0.5) * w / parts - w / 2
        out.append(box(x, -d / 2 - 0.008, 0.09, w / parts - 0.03, 0.02, h - 0.13, front))
    out += placed(screen(rng, rng.uniform(0.7, min(1.2, w - 0.1))), 0, 0, h, 0)
    if w > 1.4:
        out += placed(small_thing(rng, s), rng.choice([-1, 1]) * (w / 2 - 0.1), 0, h, 0)
    return out


def kitchen(rng: Random, s: Style) -> Piece:
    """A counter with a cooker or a sink, wall cupboards above it, perhaps a fridge beside it."""
    units, each, d = int(rng.integers(3, 6)), 0.6, 0.6
    w = units * each
    top, body = (
        Surface(textures.plain(colour(0.08, rng.uniform(0, 0.4), rng.uniform(0.3, 0.8)), 0.2), gloss=0.15),
        s.front,
    )
    door, metal = Surface(textures.panels(body, 1, 1, 0.12), gloss=0.1), painted(s.metal, 0.4)
    out = [box(0, 0.02, 0.1, w, d - 0.04, 0.76, painted(body)), box(0, 0.06, 0, w, d - 0.12, 0.1, painted(0.5 * body))]
    out.append(box(0, 0, 0.86, w, d, 0.04, top))
    cooker = int(rng.integers(units))
    for i in range(units):
        x = (i + 0.5) * each - w / 2
        if i == cooker:
            out.append(box(x, -d / 2 + 0.03, 0.12, each - 0.01, 0.03, 0.72, painted(colour(0, 0, 0.25), 0.3)))
            out.append(box(x, -d / 2 + 0.012, 0.25, each - 0.1, 0.01, 0.35, painted(colour(0, 0, 0.05), 0.5)))
            out.append(box(x, 0, 0.9, each - 0.06, d - 0.1, 0.01, painted(colour(0, 0, 0.06), 0.4)))
            if rng.random() < 0.7:
                out.append(tube(x - 0.12, 0.1, 0.91, 0.11, 0.13, painted(any_colour(rng), 0.3)))
        else:
            out.append(box(x, -d / 2 + 0.03, 0.12, each - 0.015, 0.03, 0.72, door))
        out.append(box(x, -d / 2 + 0.0, 0.78, 0.2, 0.015, 0.015, metal))
    if rng.random() < 0.75:
        out.append(box(0, d / 2 - 0.17, 1.45, w, 0.33, 0.7, painted(body)))
        for i in range(units):
            x = (i + 0.5) * each - w / 2
            out.append(box(x, d / 2 - 0.345, 1.46, each - 0.015, 0.02, 0.68, door))
    out += placed(on_top(rng, s, w - 0.2, 0.3, 0.9, int(rng.integers(2, 6))), 0, 0.05, 0, 0)
    if rng.random() < 0.6:
        white, x = painted(colour(0.6, 0.02, rng.uniform(0.7, 0.95)), 0.2), w / 2 + 0.33
        out += [box(x, 0.02, 0, 0.6, 0.56, 1.75, white), box(x, -d / 2 + 0.02, 0.06, 0.6, 0.04, 1.1, white)]
        out += [
            box(x, -d / 2 + 0.02, 1.18, 0.6, 0.04, 0.56, white),
            box(x - 0.25, -d / 2 - 0.02, 0.85, 0.02, 0.03, 0.28, metal),
        ]
    return out


def bedside(rng: Random, s: Style) -> Piece:
    w, h = rng.uniform(0.36, 0.48), rng.uniform(0.42, 0.58)
    wood, front = wooden(rng, s.wood), wooden(rng, s.front)
    out = [box(0, 0, 0.08, w, 0.38, h - 0.08, wood), *legs(w, 0.38, 0.08, 0.04, wood, True)]
    for i in range(2):
        out.append(box(0, -0.195, 0.1 + i * (h - 0.1) / 2, w - 0.04, 0.02, (h - 0.14) / 2, front))
    thing = table_lamp(rng, s) if rng.random() < 0.7 else small_thing(rng, s)
    return out + placed(thing, 0, 0, h, 0)


def radiator(rng: Random, s: Style) -> Piece:
    w, white = rng.uniform(0.6, 1.2), colour(0.1, 0.03, 0.9)
    fins = Surface(textures.stripes(white, 0.5 * white, 0.05, 0.3), gloss=0.1)
    return [box(0, 0, 0.14, w, 0.08, 0.5, fins), box(-w / 3, 0, 0, 0.03, 0.03, 0.14, painted(white))]


def shade(rng: Random, s: Style) -> Surface:
    tone = colour(rng.uniform(0.06, 0.14), rng.uniform(0.1, 0.5), 0.95) if rng.random() < 0.7 else s.accent
    return Surface(textures.flat(tone), glow=1.3)


def dim(solids: Piece) -> Piece:
    """Return the solids with their light off."""
    return [solid._replace(surface=solid.surface._replace(glow=0.0)) for solid in solids]


def unshadowed(solid: Solid) -> Solid:
    """Return a solid that throws no shadow, for the shade around a light."""
    return solid._replace(casts=False)


def floor_lamp(rng: Random, s: Style) -> Piece:
    """A floor lamp; its shade, which has the light, comes last."""
    metal, h = painted(s.metal, 0.3), rng.uniform(1.35, 1.7)
    out = [tube(0, 0, 0, 0.15, 0.025, metal, 0.14), tube(0, 0, 0.02, 0.012, h, metal)]
    r = rng.uniform(0.14, 0.22)
    return [*out, unshadowed(tube(0, 0, h - 0.14, r, 0.26, shade(rng, s), rng.uniform(0.5, 1.0) * r))]


def table_lamp(rng: Random, s: Style) -> Piece:
    foot, r = painted(s.accent if rng.random() < 0.5 else any_colour(rng), 0.25), rng.uniform(0.09, 0.14)
    lit = [unshadowed(tube(0, 0, 0.22, r, 0.17, shade(rng, s), 0.65 * r))]
    stand = ball(0, 0, 0, 0.06, 0.06, 0.09, foot) if rng.random() < 0.5 else tube(0, 0, 0, 0.06, 0.16, foot, 0.03)
    return [stand, tube(0, 0, 0.15, 0.01, 0.1, foot), *(lit if rng.random() < 0.5 else dim(lit))]


def desk_lamp(rng: Random, s: Style) -> Piece:
    metal = painted(s.accent if rng.random() < 0.5 else s.metal, 0.3)
    return [
        tube(0, 0, 0, 0.08, 0.02, metal),
        tube(0, 0, 0.02, 0.008, 0.4, metal),
        box(0, -0.1, 0.41, 0.015, 0.22, 0.015, metal),
        tube(0, -0.2, 0.33, 0.08, 0.1, metal, 0.025),
    ]


def plant(rng: Random, s: Style) -> Piece:
    pot, h = painted(any_colour(rng) if rng.random() < 0.5 else colour(0.05, 0.6, 0.65)), rng.uniform(0.2, 0.35)
    r, tall = rng.uniform(0.11, 0.18), rng.uniform(0.3, 0.9)
    hue = rng.uniform(0.22, 0.38)
    out = [tube(0, 0, 0, 0.75 * r, h, pot, r), tube(0, 0, h, 0.015, 0.6 * tall, painted(colour(0.08, 0.6, 0.3)))]
    for _ in range(int(rng.integers(6, 13))):
        angle, off = rng.uniform(0, 6.28), rng.uniform(0.02, 0.2) * (0.6 + tall)
        leaf = Surface(
            textures.plain(colour(hue, 0.6, rng.uniform(0.25, 0.55)), 0.3, int(rng.integers(60))), gloss=0.05
        )
        size, z = rng.uniform(0.07, 0.15), h + rng.uniform(0.1, 1.0) * tall
        out.append(
            ball(off * math.cos(angle), off * math.sin(angle), z, 1.3 * size, 0.5 * size, 0.5 * size, leaf, angle)
        )
    return out


def vase(rng: Random, s: Style, size: float = 1.0) -> Piece:
    glaze, r, h = painted(any_colour(rng), 0.35), rng.uniform(0.04, 0.07) * size, rng.uniform(0.12, 0.22) * size
    out = [ball(0, 0, 0, r, r, h / 2, glaze), tube(0, 0, 0.85 * h, 0.4 * r, 0.3 * h, glaze, 0.6 * r)]
    if rng.random() < 0.5:
        for k in range(4):
            x, y, z = 0.5 * r * math.cos(k * 1.7), 0.5 * r * math.sin(k * 1.7), 1.15 * h
            out.append(tube(x, y, z, 0.004, 0.12, painted(colour(0.3, 0.6, 0.4))))
            out.append(ball(1.3 * x, 1.3 * y, z + 0.1, 0.028, 0.028, 0.025, painted(colour(rng.random(), 0.7, 0.9))))
    return out


def ornament(rng: Random, r: float, h: float) -> Piece:
    """An object that fits into a circle of radius r and the height h."""
    glaze, kind = painted(any_colour(rng), 0.25), rng.integers(4)
    if kind == 0:
        return [ball(0, 0, 0, r, r, min(r, h / 2), glaze)]
    if kind == 1:
        return [tube(0, 0, 0, 0.6 * r, 0.7 * h, glaze, 0.9 * r)]
    if kind == 2:
        return [box(0, 0, 0, 1.3 * r, r, rng.uniform(0.4, 0.9) * h, glaze, rng.uniform(-0.3, 0.3))]
    return [ball(0, 0, 0, 0.8 * r, 0.8 * r, 0.35 * h, glaze), tube(0, 0, 0.6 * h, 0.25 * r, 0.35 * h, glaze, 0.35 * r)]


def small_thing(rng: Random, s: Style) -> Piece:
    """A small object on a table: mug, bowl of fruit, bottle, book, vase."""
    kind, tone = rng.integers(6), painted(any_colour(rng), 0.2)
    if kind == 0:
        return [tube(0, 0, 0, 0.04, 0.1, tone)]
    if kind == 1:
        r = rng.uniform(0.1, 0.14)
        fruit = [painted(colour(h, 0.8, 0.85), 0.15) for h in (0.02, 0.1, 0.28)]
        spots = ((0.4, 0.0), (-0.25, 0.35), (-0.2, -0.4))
        return [tube(0, 0, 0, 0.5 * r, 0.07, tone, r)] + [
            ball(x * r, y * r, 0.045, 0.038, 0.038, 0.036, f) for (x, y), f in zip(spots, fruit, strict=True)
        ]
    if kind == 2:
        glass = painted(colour(rng.choice([0.3, 0.1, 0.6]), 0.6, 0.4), 0.4)
        return [
            tube(0, 0, 0, 0.036, 0.18, glass),
            tube(0, 0, 0.18, 0.036, 0.05, glass, 0.014),
            tube(0, 0, 0.23, 0.014, 0.06, glass),
        ]
    if kind == 3:
        out, z = [], 0.0
        for _ in range(int(rng.integers(1, 4))):
            h = rng.uniform(0.015, 0.035)
            out.append(box(0, 0, z, 0.2, 0.14, h, painted(any_colour(rng)), rng.uniform(-0.3, 0.3)))
            z += h
        return out
    if kind == 4:
        return vase(rng, s)
    return ornament(rng, rng.uniform(0.05, 0.09), rng.uniform(0.1, 0.22))


def on_top(rng: Random, s: Style, w: float, d: float, z: float, count: int) -> Piece:
    """Up to `count` small things side by side on a top of w by d at height z."""
    out, spots = [], []
    for _ in range(count):
        thing = small_thing(rng, s)
        low, high = bounds(thing)
        r = float(max(high[0], high[1], -low[0], -low[1]))
        for _ in range(4):
            x, y = rng.uniform(-1, 1) * max(w / 2 - r, 0), rng.uniform(-1, 1) * max(d / 2 - r, 0)
            if all(math.hypot(x - a, y - b) > r + q for a, b, q in spots):
                spots.append((x, y, r))
                out += placed(thing, x, y, z, 0.0)
                break
    return out


def toy(rng: Random, s: Style) -> Piece:
    """A small object on the floor: ball, carton, basket, stack of books."""
    kind, tone = rng.integers(4), painted(any_colour(rng), 0.15)
    if kind == 0:
        r = rng.uniform(0.08, 0.2)
        pattern = Surface(textures.stripes(any_colour(rng), any_colour(rng), r), gloss=0.2)
        return [ball(0, 0, 0, r, r, r, pattern)]
    if kind == 1:
        w, d, h = rng.uniform(0.25, 0.55, 3)
        carton = Surface(textures.plain(colour(0.09, 0.45, 0.65), 0.08))
        return [box(0, 0, 0, w, d, 0.8 * h, carton), box(0, 0, 0.8 * h, 0.05, d, 0.003, painted(colour(0.1, 0.3, 0.8)))]
    if kind == 2:
        r = rng.uniform(0.14, 0.22)
        return [
            tube(0, 0, 0, 0.8 * r, rng.uniform(0.25, 0.4), Surface(textures.cloth(colour(0.1, 0.5, 0.6), 3, 0.5)), r)
        ]
    return (
        [tube(0, 0, 0, rng.uniform(0.2, 0.3), rng.uniform(0.32, 0.42), woven(rng, s.accent))]
        if rng.random() < 0.5
        else [box(0, 0, 0, 0.35, 0.3, rng.uniform(0.3, 0.4), tone)]
    )
