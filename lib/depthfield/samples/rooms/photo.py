"""The photo of a room and its depth: cast rays, collect light, and simulate a sensor."""

from typing import NamedTuple

import numpy as np

from depthfield.samples.rooms.camera import Camera, axes, focal_length, grid
from depthfield.samples.rooms.scene import Light, Room
from depthfield.samples.rooms.shapes import Solid, crossing, frames, outward, slabs

TILE = 8  # shadow rays per tile side; shadows are computed tile by tile
APART = 2  # every second pixel of every second row sends a shadow ray; smooth() fills the rest
PATTERN = np.array([[0, 9, 3, 14], [12, 5, 11, 6], [2, 13, 1, 10], [8, 7, 15, 4]])  # which of 16 rays a pixel sends
NEAR = 0.05  # metres
SMALL = 0.011  # metres: objects thinner in two directions throw no shadow
NEIGHBOURS = (
    (2, 0),
    (-2, 0),
    (0, 2),
    (0, -2),
    (5, 4),
    (-5, 4),
    (5, -4),
    (-5, -4),
    (12, 0),
    (-12, 0),
    (0, 12),
    (0, -12),
)


class View(NamedTuple):
    """What the centre of each pixel sees. Arrays are H×W, or 3×H×W in world coordinates."""

    seen: np.ndarray  # int: 0..5 a side of the room, 6 + i the solid i
    depth: np.ndarray  # metres along the optical axis
    point: np.ndarray  # metres
    normal: np.ndarray
    side: np.ndarray  # the axis of the face within its solid
    albedo: np.ndarray
    glow: np.ndarray
    gloss: np.ndarray
    glass: np.ndarray  # bool


def cast(room: Room, camera: Camera, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return what the pixel centres see (H×W int: 0..5 sides of the room, 6 + i its solid i) and its depth (H×W
    float64, metres along the optical axis).
    """
    across, down = grid(camera, size)
    basis, eye = axes(camera), np.array(camera.position)
    depth, seen = np.full(size, np.inf), np.zeros(size, np.int64)
    for axis in range(3):
        d = across * basis[0, axis] + (down * basis[1, axis])[:, None] + basis[2, axis]
        t = np.where(d > 0, room.size[axis] - eye[axis], -eye[axis]) / d
        seen = np.where(t < depth, 2 * axis + (d > 0), seen)
        depth = np.minimum(depth, t)
    centres, turn, half = frames(room.solids)
    boxes = outlines(centres, turn, half, eye, basis, across, down)
    for i, (solid, (top, bottom, left, right)) in enumerate(zip(room.solids, boxes, strict=True)):
        if top >= bottom or left >= right:
            continue
        stretch = np.array(solid.half)
        o = turn[i] @ (eye - centres[i]) / stretch
        u, v, w = basis @ turn[i].T / stretch
        x, y = across[left:right], down[top:bottom, None]
        d = tuple(x * u[k] + (y * v[k] + w[k]) for k in range(3))
        enter, leave = crossing(solid.kind, solid.taper, tuple(o), d)
        window = depth[top:bottom, left:right]
        hit = (enter < leave) & (enter > NEAR) & (enter < window)
        np.copyto(window, enter, where=hit)
        np.copyto(seen[top:bottom, left:right], 6 + i, where=hit)
    return seen, depth


def outlines(centres, turn, half, eye, basis, across, down) -> np.ndarray:
    """Return for each solid the rectangle of pixels that can see it: top, bottom, left, right (n×4 int), or empty."""
    corners = np.array([(a, b, c) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)], float)
    world = centres[:, None] + np.einsum("ski,sij->skj", corners * half[:, None], turn) - eye
    x, y, z = np.moveaxis(world @ basis.T, 2, 0)  # n×8 each
    behind = z < NEAR
    z = np.maximum(z, NEAR)
    x, y = x / z, y / z
    out = np.stack(
        [
            np.searchsorted(down, y.min(1)),
            np.searchsorted(down, y.max(1), "right"),
            np.searchsorted(across, x.min(1)),
            np.searchsorted(across, x.max(1), "right"),
        ],
        axis=1,
    )
    out[behind.any(1)] = 0, len(down), 0, len(across)
    out[behind.all(1)] = 0
    return out


def look(room: Room, camera: Camera, size: tuple[int, int]) -> View:
    """Cast the rays and paint the surfaces that they hit."""
    seen, depth = cast(room, camera, size)
    count = depth.size
    across, down = grid(camera, size)
    basis, eye = axes(camera), np.array(camera.position)
    point = np.stack(
        [eye[k] + depth * (across * basis[0, k] + (down * basis[1, k])[:, None] + basis[2, k]) for k in range(3)]
    ).reshape(3, count)
    ray = (point - eye[:, None]) / depth.ravel()
    footprint = depth.ravel() / focal_length(camera, size)
    # Pixels are processed in the order of surfaces, so that the pixels of each are one slice.
    order = np.argsort(seen.ravel(), kind="stable")
    ids, starts = np.unique(seen.ravel()[order], return_index=True)
    back = np.empty_like(order)
    back[order] = np.arange(count)
    point_there, ray, footprint = point[:, order], ray[:, order], footprint[order]
    ray /= np.sqrt((ray * ray).sum(0))
    normal, albedo = np.zeros((3, count)), np.empty((3, count))
    side, glow, gloss, glass = np.empty(count, np.int8), np.empty(count), np.empty(count), np.empty(count, bool)
    for number, begin, end in zip(ids, starts, [*starts[1:], count], strict=True):
        at = slice(begin, end)
        if number < 6:
            axis = int(number) // 2
            half, surface = tuple(np.array(room.size) / 2), room.sides[number]
            q = point_there[:, at] - np.array(half)[:, None]
            normal[axis, at] = -1.0 if number % 2 else 1.0
            side[at] = axis
        else:
            solid = room.solids[number - 6]
            half, surface = solid.half, solid.surface
            (centre,), (turn,), _ = frames([solid])
            q = turned(turn, point_there[:, at] - centre[:, None])
            local, side[at] = outward(solid, q)
            normal[:, at] = turned(turn.T, local)
        facing = -(normal[:, at] * ray[:, at]).sum(0)
        # A pixel covers more of a slanted face; the root lies between its two widths there.
        blur = footprint[at] / np.sqrt(np.maximum(facing, 0.05))
        albedo[:, at] = surface.paint(q, half, side[at], blur)
        glow[at], gloss[at], glass[at] = surface.glow, surface.gloss, surface.glass
    shape = (3, *size)
    normal, albedo = (a[:, back].reshape(shape) for a in (normal, albedo))
    side, glow, gloss, glass = (a[back].reshape(size) for a in (side, glow, gloss, glass))
    return View(seen, depth, point.reshape(shape), normal, side, albedo, glow, gloss, glass)


def turned(turn: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Turn vectors (3×n) about the vertical; written out because the last bits of matrix products differ by machine."""
    x, y, z = vectors
    return np.stack([turn[0, 0] * x + turn[0, 1] * y, turn[1, 0] * x + turn[1, 1] * y, z])


def tiled(image: np.ndarray) -> np.ndarray:
    """Split an image (...×H×W) into tiles (...×tiles×pixels); tiles at the far edges are padded with the last pixel."""
    *more, height, width = image.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    fill = [(0, 0)] * len(more) + [(0, rows * TILE - height), (0, columns * TILE - width)]
    parts = np.pad(image, fill, mode="edge").reshape(*more, rows, TILE, columns, TILE)
    return np.moveaxis(parts, -3, -2).reshape(*more, rows * columns, TILE * TILE)


def untiled(tiles: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Join tiles to an image (H×W)."""
    rows, columns = -(-size[0] // TILE), -(-size[1] // TILE)
    parts = np.moveaxis(tiles.reshape(rows, columns, TILE, TILE), 2, 1)
    return parts.reshape(rows * TILE, columns * TILE)[: size[0], : size[1]]


def blocked(solids: list[Solid], start: np.ndarray, way: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return whether a solid stands between start and start + way (3×tiles×pixels each, metres), where wanted.

    wanted and the result are tiles×pixels bool.
    """
    shut = np.zeros(wanted.shape, bool)
    if not solids:
        return shut
    centres, turn, half = frames(solids)
    # All rays of a tile run inside the larger of the boxes around their starts and their ends, as it moves along them.
    ends = start + way
    (low, high), (last_low, last_high) = ((a.min(2), a.max(2)) for a in (start, ends))
    middle, last = (low + high) / 2, (last_low + last_high) / 2
    reach = np.maximum(high - low, last_high - last_low) / 2
    cos, sin = (turn[:, 0, k, None].astype(np.float32) for k in (0, 1))
    x, y, z = (middle[k] - centres[:, k, None].astype(np.float32) for k in range(3))
    u, v, w = last - middle
    half_x, half_y, half_z = (half[:, k, None].astype(np.float32) for k in range(3))
    turned_box = half_x + abs(cos) * reach[0] + abs(sin) * reach[1], half_y + abs(sin) * reach[0] + abs(cos) * reach[1]
    o, d = (cos * x + sin * y, cos * y - sin * x, z), (cos * u + sin * v, cos * v - sin * u, w + 0 * z)
    enter, leave = slabs(o, d, (*turned_box, half_z + reach[2]))
    near = (enter < leave) & (enter < 1.0) & (leave > 0.0) & wanted.any(1)
    for i, solid in enumerate(solids):
        tiles = np.flatnonzero(near[i])
        if not tiles.size:
            continue
        x, y, z = (start[k][tiles] - float(centres[i, k]) for k in range(3))
        u, v, w = (way[k][tiles] for k in range(3))
        cos, sin, (a, b, c) = float(turn[i, 0, 0]), float(turn[i, 0, 1]), solid.half
        origin = (cos / a) * x + (sin / a) * y, (cos / b) * y - (sin / b) * x, z * (1 / c)
        direction = (cos / a) * u + (sin / a) * v, (cos / b) * v - (sin / b) * u, w * (1 / c)
        enter, leave = crossing(solid.kind, solid.taper, origin, direction)
        shut[tiles] |= (enter < leave) & (enter < 1.0) & (leave > 0.0)
    return shut


def senders(size: tuple[int, int]) -> np.ndarray:
    """Return which pixels send a shadow ray, H×W bool."""
    sent = np.zeros(size, bool)
    sent[::APART, ::APART] = True
    return sent


def smooth(share: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Return the mean (H×W) over the rays within 8×8 pixels of the same surface: all of PATTERN, inside a surface."""
    sent = senders(share.shape)
    total, count = share * sent, sent.astype(np.float32)
    for axis in (0, 1):
        sums = total.copy(), count.copy()
        for shift in range(-2 * APART, 2 * APART):
            if not shift:
                continue
            a = [slice(None), slice(None)]
            b = [slice(None), slice(None)]
            a[axis] = slice(-shift, None) if shift < 0 else slice(None, -shift)
            b[axis] = slice(None, shift) if shift < 0 else slice(shift, None)
            a, b = tuple(a), tuple(b)
            same = key[a] == key[b]
            sums[0][a] += total[b] * same
            sums[1][a] += count[b] * same
        total, count = sums
    return np.where(count > 0, total, np.float32(1)) / np.maximum(count, np.float32(1))


def shine(room: Room, camera: Camera, view: View) -> np.ndarray:
    """Return the linear RGB that reaches the camera, 3×H×W."""
    size = view.depth.shape
    key = view.seen * 4 + view.side
    sent = (..., slice(None, None, APART), slice(None, None, APART))  # the pixels of senders()
    rows, columns = view.depth[sent].shape
    ray = tiled(np.tile(PATTERN, (rows // 4 + 1, columns // 4 + 1))[:rows, :columns])
    # Only sums, products and roots: these are the same on all machines in float32 too, and twice as fast.
    point, normal = view.point.astype(np.float32), view.normal.astype(np.float32)
    start = tiled(point[sent] + np.float32(2e-3) * normal[sent])
    solids = [solid for solid in room.solids if solid.casts and sorted(solid.half)[1] > SMALL]
    to_eye = column(camera.position) - point
    to_eye /= np.sqrt((to_eye * to_eye).sum(0))
    light = column(room.ambient) * around(room, point, normal)
    highlight = np.zeros_like(light)
    for lamp in strongest(room.lights):
        way = column(lamp.centre) - point
        square = (way * way).sum(0)
        way /= np.sqrt(square)
        fall = np.maximum((normal * way).sum(0), 0) / (square + np.float32(0.15))
        if lamp.normal is not None:
            fall *= np.maximum(-(column(lamp.normal) * way).sum(0), 0)
        target = lamp_points(lamp).astype(np.float32)[:, ray]
        shut = blocked(solids, start, target - start, tiled(fall[sent] > 1e-3 / lamp.colour.max()))
        share = np.ones(size, np.float32)
        share[sent] = ~untiled(shut, (rows, columns))
        free = smooth(share, key)
        light += column(lamp.colour) * (fall * free)
        between = way + to_eye
        glint = np.maximum((between * normal).sum(0), 0)
        glint *= glint / ((between * between).sum(0) + np.float32(1e-9))
        for _ in range(4):  # to the 32nd power
            glint *= glint
        highlight += column(lamp.colour) * (glint * free * (fall > 0) * 2 / (square + np.float32(0.5)))
    return view.albedo * (light + view.glow * light.mean(dtype=float)) + highlight * view.gloss


def column(vector) -> np.ndarray:
    """Return a vector of 3 as float32 3×1×1."""
    return np.array(vector, np.float32)[:, None, None]


def strongest(lights: list[Light]) -> list[Light]:
    """Return the three strongest lights: each costs as much time as the rest of a photo."""
    return sorted(lights, key=lambda light: -float(light.colour.sum()))[:3]


def lamp_points(lamp: Light) -> np.ndarray:
    """Return sixteen points spread over a light, 3×16."""
    steps = (np.arange(4) - 1.5) / 2
    across, up = (a.ravel() for a in np.meshgrid(steps, steps))
    return lamp.centre[:, None] + lamp.edges[0][:, None] * across + lamp.edges[1][:, None] * up


def around(room: Room, point: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Return the share of ambient light that reaches the points (3×H×W), H×W: less near walls and solids."""
    hidden = np.zeros(point.shape[1:], np.float32)
    for rows, columns in NEIGHBOURS:
        # The photo's content around a pixel stands for the surroundings of its point.
        here, there = shifted(rows, columns)
        way = point[there] - point[here]
        square = (way * way).sum(0) + np.float32(1e-6)
        up = (way * normal[here]).sum(0)
        hidden[here[1:]] += np.maximum(up / np.sqrt(square) - np.float32(0.1), 0) / (1 + square * np.float32(1 / 0.09))
    open_share = 1 / (1 + hidden * np.float32(5 / len(NEIGHBOURS)))
    for axis in range(3):
        for plane, inward in ((0.0, 1.0), (room.size[axis], -1.0)):
            near = np.float32(0.1) / (np.float32(0.25) + np.abs(point[axis] - np.float32(plane)))
            open_share *= 1 - near * (1 - np.maximum(normal[axis] * np.float32(inward), 0))
    return open_share * (np.float32(0.8) + np.float32(0.25) * normal[2])


def shifted(rows: int, columns: int) -> tuple[tuple, tuple]:
    """Return two windows of an image (any×H×W), the second shifted by rows and columns."""
    here, there = [slice(None)], [slice(None)]
    for n in (rows, columns):
        here.append(slice(None, -n) if n > 0 else slice(-n, None))
        there.append(slice(n, None) if n >= 0 else slice(None, n))
    return tuple(here), tuple(there)


def develop(rng: np.random.Generator, radiance: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Return the photo, uint8 H×W×3: exposure, lens, noise and quantisation."""
    _, height, width = radiance.shape
    luminance = 0.3 * radiance[0] + 0.59 * radiance[1] + 0.11 * radiance[2]
    level = np.sort(luminance[::2, ::2].ravel())
    typical = level[level.size // 4 :][: level.size // 2].mean()
    exposed = radiance * (rng.uniform(0.16, 0.26) / typical)
    y, x = np.linspace(-0.6, 0.6, height)[:, None], np.linspace(-0.8, 0.8, width)
    exposed *= 1 - rng.uniform(0.05, 0.3) * (x * x + y * y)
    exposed = exposed * (1 + exposed / 9) / (1 + exposed)  # Reinhard et al. 2002, eq. 4, white at 3
    tone = np.clip(exposed * 1.25, 0, 1) ** (1 / 2.2)
    edge = np.zeros(key.shape, bool)
    rows, columns = key[1:] != key[:-1], key[:, 1:] != key[:, :-1]
    edge[1:] |= rows
    edge[:-1] |= rows
    edge[:, 1:] |= columns
    edge[:, :-1] |= columns
    amount = np.where(edge, 0.2, rng.uniform(0.04, 0.1))
    for axis in (1, 2):
        padded = np.pad(tone, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        before, after = (padded[:, :-2], padded[:, 2:]) if axis == 1 else (padded[:, :, :-2], padded[:, :, 2:])
        tone = tone + amount * (before + after - 2 * tone)
    sigma = rng.uniform(1.0, 3.5) * (1.4 - 0.7 * tone)
    noisy = 255 * tone + sigma * rng.standard_normal(tone.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8).transpose(1, 2, 0)
