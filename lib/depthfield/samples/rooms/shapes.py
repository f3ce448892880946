"""The solids of a room: boxes, tapered tubes and balls, with their ray intersections and normals.

Each solid is a unit shape, stretched, turned about the vertical and moved. Rays are transformed to the frame of the
unit shape, where the parameter t of a hit is the same.
"""

import math
from typing import NamedTuple

import numpy as np

from depthfield.samples.rooms.textures import Surface

BOX, TUBE, BALL = range(3)
UNIT = 1.0


class Solid(NamedTuple):
    """A convex solid; lengths in metres, z upwards."""

    kind: int  # BOX, TUBE (axis vertical) or BALL
    centre: tuple[float, float, float]
    half: tuple[float, float, float]  # half its extent along its own axes
    surface: Surface
    yaw: float = 0.0  # radians, about the vertical
    taper: float = 1.0  # a tube's upper radius over its lower one
    casts: bool = True  # whether it throws shadows


def box(x: float, y: float, z: float, w: float, d: float, h: float, surface: Surface, yaw: float = 0.0) -> Solid:
    """A box of width w, depth d and height h, with the centre of its base at (x, y, z)."""
    return Solid(BOX, (x, y, z + h / 2), (w / 2, d / 2, h / 2), surface, yaw)


def tube(x: float, y: float, z: float, radius: float, h: float, surface: Surface, top: float | None = None) -> Solid:
    """An upright tube of height h with the centre of its base at (x, y, z), narrowing or widening to radius `top`."""
    widest = max(radius, 1e-3)
    return Solid(
        TUBE, (x, y, z + h / 2), (widest, widest, h / 2), surface, 0.0, (radius if top is None else top) / widest
    )


def ball(x: float, y: float, z: float, rx: float, ry: float, rz: float, surface: Surface, yaw: float = 0.0) -> Solid:
    """An ellipsoid resting on (x, y, z)."""
    return Solid(BALL, (x, y, z + rz), (rx, ry, rz), surface, yaw)


def placed(solids: list[Solid], x: float, y: float, z: float, yaw: float) -> list[Solid]:
    """Turn solids about the vertical through their origin, then move them by (x, y, z)."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    out = []
    for solid in solids:
        a, b, c = solid.centre
        centre = (x + cos * a - sin * b, y + sin * a + cos * b, z + c)
        out.append(solid._replace(centre=centre, yaw=solid.yaw + yaw))
    return out


def bounds(solids: list[Solid]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and the upper corner (3 each, metres) of the upright box around the solids."""
    centres, reach = np.array([s.centre for s in solids]), []
    for solid in solids:
        cos, sin = abs(math.cos(solid.yaw)), abs(math.sin(solid.yaw))
        w, d, h = solid.half
        wide = max(1.0, solid.taper)
        reach.append((wide * (cos * w + sin * d), wide * (sin * w + cos * d), h))
    return (centres - reach).min(0), (centres + reach).max(0)


def frames(solids: list[Solid]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return centres (n×3), rotations from world axes to each solid's own (n×3×3), and half extents (n×3), in metres.

    The half extents enclose a tube that widens upwards.
    """
    centres = np.array([s.centre for s in solids], float).reshape(-1, 3)
    half = np.array([s.half for s in solids], float).reshape(-1, 3)
    half[:, :2] *= np.maximum(1.0, [s.taper for s in solids])[:, None]
    cos, sin = np.cos([s.yaw for s in solids]), np.sin([s.yaw for s in solids])
    turn = np.zeros((len(solids), 3, 3))
    turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1], turn[:, 2, 2] = cos, sin, -sin, cos, 1.0
    return centres, turn, half


def crossing(kind: int, taper: float, o: tuple, d: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Return t where rays o + t·d, in the frame of the unit shape, enter and leave it; a miss leaves before it enters.

    o and d are three arrays or numbers each, of shapes that broadcast.
    """
    if kind == BOX:
        return slabs(o, d, (UNIT, UNIT, UNIT))
    if kind == BALL:
        a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
        b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
        c = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - 1.0
        root = b * b - a * c
        hit = root > 0.0
        root = np.sqrt(np.where(hit, root, 0.0))
        return np.where(hit, (-b - root) / a, np.inf), np.where(hit, (root - b) / a, -np.inf)
    # A tube: radius m + k·z for -1 <= z <= 1. Its points of entry and exit are two of four candidates: two on
    # the mantle, one on each lid.
    m, k = (1.0 + taper) / 2, (taper - 1.0) / 2
    radius = m + k * o[2]
    a = d[0] * d[0] + d[1] * d[1] - k * k * d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] - k * d[2] * radius
    c = o[0] * o[0] + o[1] * o[1] - radius * radius
    root = np.sqrt(np.maximum(b * b - a * c, 0.0))
    missed = b * b < a * c
    enter, leave = np.inf, -np.inf
    for t in ((-b - root) / a, (root - b) / a):
        ok = ~missed & (np.abs(o[2] + t * d[2]) <= 1.0)
        enter, leave = np.minimum(enter, np.where(ok, t, np.inf)), np.maximum(leave, np.where(ok, t, -np.inf))
    for lid, r in ((-1.0, 1.0), (1.0, taper)):
        t = (lid - o[2]) / d[2]
        x, y = o[0] + t * d[0], o[1] + t * d[1]
        ok = x * x + y * y <= r * r
        enter, leave = np.minimum(enter, np.where(ok, t, np.inf)), np.maximum(leave, np.where(ok, t, -np.inf))
    return enter, leave


def slabs(o: tuple, d: tuple, half: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Return t where rays o + t·d enter and leave the box -half..half; a miss leaves before it enters."""
    enter = leave = None  # `enter` has the opposite sign, which saves a pass
    for origin, direction, h in zip(o, d, half, strict=True):
        inverse = 1.0 / direction
        middle, reach = origin * inverse, np.abs(inverse)
        if h is not UNIT:
            reach *= h
        nearer, farther = reach + middle, reach - middle
        enter = nearer if enter is None else np.minimum(enter, nearer, out=enter)
        leave = farther if leave is None else np.minimum(leave, farther, out=leave)
    return -enter, leave


def outward(solid: Solid, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit normals, 3×n in the solid's own axes, at surface points q (3×n metres), and the side of each.

    Sides: 0 and 1 are seen along x and y, 2 along z; a tube's mantle is 0, a ball is all 0.
    """
    half = np.array(solid.half)[:, None]
    unit = q / half
    if solid.kind == BOX:
        # Distances to the faces are compared in metres, so that a thin plate is not taken for its rim.
        side = np.argmax(np.abs(q) - half, axis=0)
        normal = np.zeros_like(q)
        at = np.arange(q.shape[1])
        normal[side, at] = np.sign(q[side, at])
        return normal, side
    if solid.kind == BALL:
        normal = unit / half
        return normal / np.sqrt((normal * normal).sum(0)), np.zeros(q.shape[1], int)
    m, k = (1.0 + solid.taper) / 2, (solid.taper - 1.0) / 2
    lid = (1.0 - np.abs(unit[2])) * half[2] < np.abs(np.hypot(unit[0], unit[1]) - (m + k * unit[2])) * half[0]
    normal = np.stack([unit[0] / half[0], unit[1] / half[0], -k * (m + k * unit[2]) / half[2]])
    normal /= np.sqrt((normal * normal).sum(0)) + 1e-12
    normal[:, lid] = 0.0
    normal[2, lid] = np.sign(unit[2, lid])
    return normal, np.where(lid, 2, 0)
