"""A furnished room: its walls, furniture, positions and lamps."""

import math
from typing import NamedTuple

import numpy as np

from depthfield.samples.rooms import furniture, textures
from depthfield.samples.rooms.camera import Camera, axes
from depthfield.samples.rooms.shapes import Solid, ball, bounds, box, frames, placed, slabs, tube
from depthfield.samples.rooms.textures import Surface, colour

KINDS = ("bedroom", "living_room", "dining_room", "office", "kitchen")
WALLS = 4  # numbered by the side of the room they bound: x = 0, x = width, y = 0, y = length
GAP = 0.02  # metres between a wall and furniture against it
CLEARANCE = 0.45  # metres from the camera to the nearest object
TRIES = 16  # positions tried for the camera; the one that sees most is used


class Light(NamedTuple):
    """A lamp or a window: a parallelogram that emits light."""

    centre: np.ndarray  # 3, metres
    edges: np.ndarray  # 2×3, metres: from the centre to the middles of two sides
    colour: np.ndarray  # 3, linear RGB: what reaches a surface one metre away
    normal: np.ndarray | None  # 3, into the room; None for a lamp, which shines in all directions


class Room(NamedTuple):
    """The inside of the box from (0, 0, 0) to `size`, and its contents. Metres, z upwards."""

    kind: str
    size: tuple[float, float, float]
    sides: tuple[Surface, ...]  # at x = 0, x = width, y = 0, y = length, z = 0, z = height
    solids: list[Solid]
    lights: list[Light]
    ambient: np.ndarray  # 3, linear RGB


class Place(NamedTuple):
    """Occupied space: upright boxes, each with a lower and an upper corner."""

    low: list[np.ndarray]
    high: list[np.ndarray]

    def free(self, low: np.ndarray, high: np.ndarray) -> bool:
        return not self.low or not ((np.array(self.low) < high) & (low < np.array(self.high))).all(1).any()

    def take(self, low, high) -> None:
        self.low.append(np.array(low, float))
        self.high.append(np.array(high, float))


def furnish(rng: np.random.Generator) -> Room:
    """Build a random room. Everything stands on the floor or on something, or hangs; nothing overlaps but the legs of
    a chair under a table.
    """
    kind = KINDS[rng.integers(len(KINDS))]
    # from box rooms to halls, on a logarithmic scale
    across = math.exp(rng.uniform(math.log(2.4), math.log(8.0)))
    size = (across, min(across * rng.uniform(1.0, 1.7), 12.0), rng.uniform(2.35, 2.8) + 0.06 * across)
    night = rng.random() < 0.3
    style = furniture.style(rng)
    taken, solids = Place([], []), []
    sides = surfaces(rng, size, kind)
    lights = openings(rng, size, style, night, sides, taken, solids)
    for make in wall_pieces(rng, kind, size):
        against_wall(rng, make(rng, style), size, taken, solids)
    for make in free_pieces(rng, kind, size):
        anywhere(rng, make(rng, style), size, taken, solids)
    for _ in range(int(rng.integers(2, 7))):
        hang(rng, size, taken, solids)
    for _ in range(int(rng.integers(0, 3))):
        lay_rug(rng, size, solids)
    lights += lamps(rng, size, style, night, taken, solids)
    return Room(kind, size, sides, solids, lights, ambient(rng, size, sides, lights))


def surfaces(rng: np.random.Generator, size: tuple, kind: str) -> tuple[Surface, ...]:
    """The four walls (one of them may differ), the floor and the ceiling."""
    seed = int(rng.integers(1000))
    tone = colour(rng.random(), rng.uniform(0.02, 0.35), rng.uniform(0.6, 0.95))
    if rng.random() < 0.4:
        tone = colour(rng.uniform(0.07, 0.14), rng.uniform(0.02, 0.2), rng.uniform(0.8, 0.97))
    other = colour(rng.random(), rng.uniform(0.1, 0.6), rng.uniform(0.4, 0.9))
    white = colour(0.1, 0.03, 0.93)

    def cover(tone):
        choice = rng.random()
        if choice < 0.5:
            return textures.plain(tone, 0.05, seed)
        if choice < 0.68:
            return textures.stripes(tone, tone * rng.uniform(0.65, 0.9), rng.uniform(0.06, 0.4))
        if choice < 0.86:
            return textures.motif(tone, 0.6 * tone + 0.4 * other, rng.uniform(0.1, 0.3))
        brick = colour(rng.uniform(0.0, 0.06), rng.uniform(0.3, 0.65), rng.uniform(0.45, 0.75))
        return textures.bricks(white if rng.random() < 0.4 else brick, colour(0.1, 0.05, 0.7), seed=seed)

    base = cover(tone)
    wood = furniture.style(rng).wood
    skirting = white if rng.random() < 0.6 else wood
    dado = rng.uniform(0.8, 1.3) if rng.random() < 0.25 else 0.0
    lower = textures.plain(other, 0.04, seed) if dado else None
    if kind == "kitchen" and rng.random() < 0.6:
        edge = rng.uniform(0.1, 0.2)
        base = textures.tiles(tone, tone, colour(0, 0, 0.6), edge, seed)
    walls = [Surface(textures.wall(base, skirting, dado, lower))] * WALLS
    if rng.random() < 0.3:
        walls[rng.integers(WALLS)] = Surface(textures.wall(cover(other), skirting))
    return (
        *walls,
        floor(rng, kind, wood, seed),
        Surface(textures.plain(colour(0.1, rng.uniform(0, 0.06), 0.95), 0.03, seed)),
    )


def floor(rng: np.random.Generator, kind: str, wood: np.ndarray, seed: int) -> Surface:
    """Boards, tiles or carpet."""
    choice = rng.random() * (0.75 if kind == "kitchen" else 1.0)
    if choice < 0.5:
        boards = textures.planks(wood, rng.uniform(0.07, 0.2), int(rng.integers(2)), seed)
        return Surface(boards, gloss=rng.uniform(0.02, 0.15))
    pale = colour(rng.uniform(0.05, 0.15), rng.uniform(0, 0.3), rng.uniform(0.5, 0.9))
    if choice < 0.75:
        other = pale if rng.random() < 0.5 else pale * rng.uniform(0.2, 0.7)
        return Surface(textures.tiles(pale, other, colour(0, 0, 0.5), rng.uniform(0.2, 0.5), seed), gloss=0.12)
    return Surface(textures.cloth(colour(rng.random(), rng.uniform(0.05, 0.5), rng.uniform(0.35, 0.75)), seed, 0.25))


def on_wall(wall: int, along: float, size: tuple, off: float = 0.0) -> tuple[float, float, float]:
    """Return (x, y, yaw) that move a piece with its back at y = 0, facing +y, to a wall, `off` metres from it."""
    width, length, _ = size
    return (
        (off, along, math.pi / 2),
        (width - off, along, -math.pi / 2),
        (along, off, math.pi),
        (along, length - off, 0.0),
    )[wall]


def fit_wall(rng, solids: list[Solid], z: float, size: tuple, taken: Place, margin=0.03, tries=12) -> tuple | None:
    """Find a free place at a wall, at height z: returns the placed solids and (x, y, yaw), or None."""
    low, high = bounds(solids)
    for _ in range(tries):
        wall = int(rng.integers(WALLS))
        run = size[1] if wall < 2 else size[0]
        reach = max(-low[0], high[0]) + 0.02
        if 2 * reach > run:
            continue
        x, y, yaw = on_wall(wall, rng.uniform(reach, run - reach), size, high[1] + GAP)
        there = placed(solids, x, y, z, yaw)
        lower, upper = bounds(there)
        if taken.free(lower - margin, upper + margin):
            return there, lower, upper, wall, (x, y, yaw)
    return None


def against_wall(rng: np.random.Generator, piece: list[Solid], size: tuple, taken: Place, solids: list[Solid]) -> None:
    """Place a piece with its back to a wall, if there is room."""
    if bounds(piece)[1][2] < size[2] - 0.05 and (fit := fit_wall(rng, piece, 0.0, size, taken)):
        there, lower, upper, _, _ = fit
        taken.take(lower, upper)
        solids += there


def anywhere(rng: np.random.Generator, piece: list[Solid], size: tuple, taken: Place, solids: list[Solid]) -> None:
    """Place a piece on the floor away from the walls, if there is room."""
    for _ in range(10):
        yaw = rng.integers(4) * math.pi / 2 + rng.normal(0, 0.25)
        there = placed(piece, rng.uniform(0.3, size[0] - 0.3), rng.uniform(0.3, size[1] - 0.3), 0.0, yaw)
        lower, upper = bounds(there)
        inside = (lower[:2] > 0.03).all() and (upper < np.array(size) - 0.03).all()
        if inside and taken.free(lower - 0.05, upper + 0.05):
            taken.take(lower, upper)
            solids += there
            return


def wall_pieces(rng: np.random.Generator, kind: str, size: tuple) -> list:
    """Choose the pieces at the walls, the largest first."""
    f = furniture
    must, may = {
        "bedroom": ([f.bed, f.wardrobe], [f.bedside, f.drawers, f.desk, f.bookshelf, f.armchair, f.plant, f.bedside]),
        "living_room": ([f.sofa, f.television], [f.bookshelf, f.armchair, f.drawers, f.plant, f.sofa, f.bookshelf]),
        "dining_room": ([f.drawers], [f.bookshelf, f.wardrobe, f.plant, f.sofa, f.chair, f.chair, f.television]),
        "office": ([f.desk, f.bookshelf], [f.desk, f.bookshelf, f.drawers, f.wardrobe, f.plant, f.chair, f.sofa]),
        "kitchen": ([f.kitchen], [f.kitchen, f.drawers, f.bookshelf, f.stool, f.stool, f.chair, f.plant]),
    }[kind]
    area = size[0] * size[1]
    count = int(rng.integers(2, 4) + area / 9)
    return must + [may[i] for i in rng.permutation(len(may))[:count]] + [f.radiator] * int(rng.integers(2))


def free_pieces(rng: np.random.Generator, kind: str, size: tuple) -> list:
    """Choose the pieces in the middle, the largest first."""
    f = furniture
    must, may = {
        "bedroom": ([], [f.armchair, f.stool, f.chair, f.toy, f.toy]),
        "living_room": ([f.coffee_table], [f.table, f.armchair, f.armchair, f.stool, f.plant, f.toy]),
        "dining_room": ([f.table], [f.table, f.armchair, f.chair, f.toy]),
        "office": ([], [f.desk, f.table, f.chair, f.plant, f.toy]),
        "kitchen": ([f.table], [f.chair, f.stool, f.toy]),
    }[kind]
    count = int(rng.integers(1, 3) + size[0] * size[1] / 14)
    picked = must + [may[i] for i in sorted(rng.permutation(len(may))[:count])]
    return picked + [f.toy] * int(rng.integers(0, 4))


def openings(rng, size: tuple, style, night: bool, sides: tuple, taken: Place, solids: list[Solid]) -> list[Light]:
    """Add doors, windows with curtains, and chimney breasts or pillars; returns the light of the windows."""
    lights, white = [], furniture.painted(colour(0.1, 0.03, 0.92), 0.1)
    if rng.random() < 0.35:  # a chimney breast or a pillar, papered like the wall
        w, d = rng.uniform(0.5, 1.6), rng.uniform(0.25, 0.6)
        breast = [box(0, -d / 2 + GAP, 0, w, d, size[2], sides[0])]
        if fit := fit_wall(rng, breast, 0.0, size, taken):
            taken.take(fit[1], fit[2])
            solids += fit[0]
    if rng.random() < 0.85:
        w, h = rng.uniform(0.8, 1.0), rng.uniform(1.98, 2.1)
        leaf = style.wood if rng.random() < 0.4 else colour(0.1, 0.04, 0.9)
        door = Surface(textures.panels(leaf, int(rng.integers(1, 3)), int(rng.integers(1, 4)), 0.2), gloss=0.08)
        frame, metal = (
            furniture.painted(colour(0.1, 0.03, 0.9) if rng.random() < 0.7 else style.wood),
            furniture.painted(style.metal, 0.4),
        )
        solid = [box(x * (w / 2 + 0.04), -0.025, 0, 0.08, 0.05, h + 0.08, frame) for x in (-1, 1)]
        solid += [box(0, -0.025, h, w, 0.05, 0.08, frame), box(0, -0.015, 0, w, 0.03, h, door)]
        solid += [box(0.4 * w, -0.05, 1.03, 0.1, 0.03, 0.02, metal)]
        if fit := fit_wall(rng, solid, 0.0, size, taken):
            there, lower, upper, _, (x, y, yaw) = fit
            ahead = placed([box(0, -0.35, 0, w, 0.7, h, white)], x, y, 0, yaw)
            low, high = bounds(ahead)
            taken.take(np.minimum(low, lower), np.maximum(high, upper))
            solids += [s._replace(casts=False) for s in there]
    for _ in range(int(rng.integers(1, 4))):
        window(rng, size, style, night, taken, solids, lights)
    return lights


def window(rng, size: tuple, style, night: bool, taken: Place, solids: list[Solid], lights: list[Light]) -> None:
    """A window with bars and sill, perhaps curtains; it lights the room by day."""
    w, h = rng.uniform(0.7, 1.8), rng.uniform(0.9, 1.4)
    sill = min(rng.uniform(0.75, 1.0), size[2] - h - 0.2)
    paint = furniture.painted(colour(0.1, 0.03, 0.93), 0.1)
    pane = Surface(
        textures.outdoors(rng, night),
        glow=0.0 if night else rng.uniform(2.0, 4.0),
        gloss=0.4 if night else 0.0,
        glass=True,
    )
    out = [box(0, -0.005, 0, w, 0.01, h, pane)]
    for x in (-1, 1):
        out.append(box(x * (w / 2 - 0.03), -0.03, 0, 0.06, 0.06, h, paint))
    for z in (0.0, h - 0.06):
        out.append(box(0, -0.03, z, w - 0.12, 0.06, 0.06, paint))
    bars = 1 if w < 1.0 else int(rng.integers(1, 3))
    for i in range(bars):
        out.append(box((i + 1) * w / (bars + 1) - w / 2, -0.025, 0.06, 0.04, 0.05, h - 0.12, paint))
    if rng.random() < 0.5:
        out.append(box(0, -0.025, rng.uniform(0.5, 0.75) * h, w - 0.12, 0.05, 0.035, paint))
    out.append(box(0, -0.1, -0.04, w + 0.1, 0.2, 0.04, paint))
    if rng.random() < 0.6:
        drape = Surface(
            textures.folds(
                style.accent if rng.random() < 0.5 else style.cloth, rng.uniform(0.08, 0.16), int(rng.integers(60))
            )
        )
        low = -sill + 0.03 if rng.random() < 0.5 else -0.25
        for x in (-1, 1):
            wide = rng.uniform(0.2, 0.35)
            out.append(box(x * (w / 2 + 0.1), -0.25, low, wide, 0.07, h + 0.12 - low, drape))
        out.append(box(0, -0.26, h + 0.12, w + 0.7, 0.03, 0.03, furniture.painted(style.metal, 0.3)))
    out = [solid._replace(casts=False) for solid in out]
    if not (fit := fit_wall(rng, out, sill, size, taken)):
        return
    there, lower, upper, wall, (x, y, _) = fit
    taken.take(lower, upper)
    solids += there
    if not night:
        normal = np.array([(1.0, 0, 0), (-1.0, 0, 0), (0, 1.0, 0), (0, -1.0, 0)][wall])
        along = np.array([abs(normal[1]), abs(normal[0]), 0.0])
        sky = colour(rng.uniform(0.52, 0.62), rng.uniform(0.02, 0.2), 1.0) * w * h * rng.uniform(2.0, 5.0)
        centre = np.array([x, y, sill + h / 2]) + 0.02 * normal
        lights.append(Light(centre, np.stack([along * w / 2, np.array([0, 0, h / 2])]), sky, normal))


def hang(rng: np.random.Generator, size: tuple, taken: Place, solids: list[Solid]) -> None:
    """A picture, a mirror-like disc, a clock or a shelf on a free stretch of wall."""
    kind = rng.random()
    w, h = rng.uniform(0.25, 1.0), rng.uniform(0.25, 0.8)
    z = rng.uniform(1.15, 1.75)
    if kind < 0.75:
        frame = colour(0.1, rng.uniform(0, 0.5), rng.uniform(0.05, 0.9))
        out = [box(0, -0.012, 0, w, 0.025, h, Surface(textures.picture(rng, frame), gloss=0.08))]
    elif kind < 0.87:
        r = rng.uniform(0.12, 0.2)
        rim, face = furniture.painted(furniture.any_colour(rng), 0.2), furniture.painted(colour(0.1, 0.03, 0.95))
        out = [ball(0, -0.02, 0, r, 0.03, r, rim), ball(0, -0.035, 0.02, r - 0.02, 0.03, r - 0.02, face)]
        dark = furniture.painted(colour(0, 0, 0.1))
        out += [box(0, -0.067, r, 0.012, 0.004, 0.6 * r, dark), box(0.2 * r, -0.067, r, 0.4 * r, 0.004, 0.012, dark)]
    else:
        board = furniture.wooden(rng, furniture.style(rng).wood)
        out = [box(0, -0.1, 0, w, 0.2, 0.025, board)]
        things = furniture.on_top(rng, furniture.style(rng), w, 0.2, 0.025, 4)
        out += placed(things, 0, -0.1, 0, 0)
    if z + h < size[2] - 0.1 and (fit := fit_wall(rng, out, z, size, taken, 0.08, 6)):
        there, lower, upper, _, _ = fit
        taken.take(lower, upper)
        solids += there


def lay_rug(rng: np.random.Generator, size: tuple, solids: list[Solid]) -> None:
    """A rug under whatever stands there: thinner than what it could touch."""
    w, d = rng.uniform(0.9, 2.2), rng.uniform(1.2, 3.0)
    if w < size[0] - 0.3 and d < size[1] - 0.3:
        x, y = rng.uniform(w / 2, size[0] - w / 2), rng.uniform(d / 2, size[1] - d / 2)
        rug = box(0, 0, 0, w, d, rng.uniform(0.006, 0.012), Surface(textures.rug(rng)))
        (there,) = placed([rug._replace(casts=False)], x, y, 0, rng.normal(0, 0.06))
        lower, upper = bounds([there])
        if (lower[:2] > 0).all() and (upper < np.array(size)).all():
            solids.append(there)


def lamps(rng: np.random.Generator, size: tuple, style, night: bool, taken: Place, solids: list[Solid]) -> list[Light]:
    """Add ceiling and floor lamps; at night all are on."""
    lights, warm = [], np.array([1.0, 0.72, 0.45]) ** rng.uniform(0.4, 1.0)
    middle = (size[0] / 2 + rng.normal(0, 0.2), size[1] / 2 + rng.normal(0, 0.3))
    on = night or rng.random() < 0.4
    lit = furniture.shade(rng, style)
    spots = [middle] if size[1] < 6 or rng.random() < 0.4 else [(middle[0], size[1] * k / 4) for k in (1, 3)]
    kind = rng.integers(3)
    for x, y in spots:
        if kind == 0:  # flush with the ceiling
            out, drop = [ball(x, y, size[2] - 0.13, 0.2, 0.2, 0.07, lit)], 0.16
        else:  # a pendant
            drop = rng.uniform(0.45, 0.8) if size[2] > 2.6 else rng.uniform(0.3, 0.4)
            z, r = size[2] - drop, rng.uniform(0.13, 0.25)
            shade = ball(x, y, z, r, r, r, lit) if kind == 1 else tube(x, y, z, r, 0.22, lit, 0.4 * r)
            out = [tube(x, y, z + 0.2, 0.008, drop - 0.2, furniture.painted(style.metal)), shade]
        lower, upper = bounds(out)
        if not taken.free(lower, upper):
            continue
        taken.take(lower, upper)
        solids += [s._replace(casts=False) for s in (out if on else furniture.dim(out))]
        if on:
            lights.append(
                Light(
                    np.array([x, y, lower[2] - 0.04]),
                    np.diag([0.12, 0.12, 0.0])[:2],
                    warm * rng.uniform(2.5, 5.0) / len(spots),
                    None,
                )
            )
    for _ in range(int(rng.integers(0, 3))):
        lamp, shine = furniture.floor_lamp(rng, style), night or rng.random() < 0.3
        before = len(solids)
        against_wall(rng, lamp if shine else furniture.dim(lamp), size, taken, solids)
        if shine and len(solids) > before:
            x, y, z = solids[-1].centre
            lights.append(Light(np.array([x, y, z]), np.diag([0.1, 0.1, 0.0])[:2], warm * rng.uniform(0.8, 2.0), None))
    if not lights and night:
        centre = np.array([*middle, size[2] - 0.05])
        lights.append(Light(centre, np.diag([0.15, 0.15, 0.0])[:2], warm * 3.0, None))
    return lights


def ambient(rng, size: tuple, sides: tuple, lights: list[Light]) -> np.ndarray:
    """Return the light after many bounces: proportional to all lights, and inverse to the area of the walls."""
    area = 2 * (size[0] * size[1] + size[0] * size[2] + size[1] * size[2])
    total = sum((light.colour for light in lights), np.full(3, 0.3))
    return total / area * rng.uniform(5.0, 9.0)


def stand(rng: np.random.Generator, room: Room) -> Camera:
    """Place a camera as people hold it, at 1.4 to 1.6 m, facing a little down and into the room, not at a wall or the
    back of a cupboard.
    """
    size = np.array(room.size)
    centres, turn, half = frames(room.solids)
    best, most = None, -1.0
    for _ in range(TRIES):
        x, y = rng.uniform(0.3, size[0] - 0.3), rng.uniform(0.3, size[1] - 0.3)
        camera = Camera(
            (x, y, rng.uniform(1.4, 1.6)),
            math.atan2(size[1] / 2 - y, size[0] / 2 - x) + rng.uniform(-0.5, 0.5),
            math.radians(rng.uniform(-12, -7)),
            math.radians(rng.normal(0, 1.5)),
            math.radians(rng.uniform(60, 65)),
        )
        q = np.abs(np.einsum("sij,sj->si", turn, np.array(camera.position) - centres)) - half
        if (np.sqrt((np.maximum(q, 0) ** 2).sum(1)) < CLEARANCE).any():
            continue
        depth, seen = glance(camera, room, centres, turn, half)
        value = len(np.unique(seen)) * min(float(np.median(depth)), 0.5 * float(size.max()))
        if depth.min() > CLEARANCE and value > most:
            best, most = camera, value
    if best is None:
        raise AssertionError("a room without a free corner")
    return best


def glance(camera: Camera, room: Room, centres, turn, half) -> tuple[np.ndarray, np.ndarray]:
    """Take a coarse look at the room, with each solid as its box: depth in metres and the solid (-1 for walls) of
    12×16 rays.
    """
    across, up = np.meshgrid(np.linspace(-1, 1, 16), np.linspace(-0.75, 0.75, 12))
    wide = math.tan(camera.field_of_view / 2)
    rays = np.stack([across.ravel() * wide, up.ravel() * wide, np.ones(192)])
    d = np.einsum("kr,ki->ir", rays, axes(camera))
    o = np.array(camera.position)
    with np.errstate(divide="ignore", invalid="ignore"):
        _, exit_room = slabs(tuple(o - np.array(room.size) / 2), d, tuple(np.array(room.size) / 2))
        local_o = np.einsum("sij,sj->is", turn, o - centres)[:, :, None]
        local_d = np.einsum("sij,jr->isr", turn, d)
        enter, leave = slabs(local_o, local_d, half.T[:, :, None])
    enter = np.where((enter < leave) & (enter > 0), enter, np.inf)
    first = enter.argmin(0)
    near = enter[first, np.arange(192)]
    return np.minimum(near, exit_room), np.where(near < exit_room, first, -1)
