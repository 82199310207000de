"""Draw the parts of bags: walls, seams, zips, handles, wheels, straps."""

import math

import numpy as np

from pipelines.phantom.imaging.outlines import closed, ellipse, points, rectangle, relief
from pipelines.phantom.imaging.shapes import Item, Part, Points, lines, map_points, move_item, solid

Rng = np.random.Generator


def make_walls(rng: Rng, outline: Points, material: str, thickness_cm: float) -> Item:
    """Return both walls of a bag, its lining, its rim, and what is sewn onto them."""
    # Two uneven walls: empty cloth varies between pale orange and pale green.
    first = solid(material, thickness_cm, outline, relief=relief(rng, 7, 0.3))
    lining = solid(
        "coated_fabric" if rng.random() < 0.6 else "nylon",
        thickness_cm * rng.uniform(0.2, 0.8),
        loosen(rng, outline * rng.uniform(0.92, 0.98), 0.25),
        relief=relief(rng, 5, 0.35),
    )
    rim = lines(material, thickness_cm * 2.5, *((closed(loosen(rng, outline, 0.12)), width) for width in (0.7, 0.25)))
    return first, lining, rim, *_panels(rng, outline)


def make_telescope(rng: Rng, length: float, width: float) -> Item:
    """Return the two tubes of a telescopic handle, its grip and its channel."""
    offset, wide = width * rng.uniform(0.14, 0.24), rng.uniform(1.6, 2.6)
    start, end = -length * 0.5, length * rng.uniform(0.3, 0.48)
    bars = tuple(rectangle((start + end) / 2, side * offset, end - start, wide) for side in (-1, 1))
    metal = "aluminium" if rng.random() < 0.9 else "steel"
    tubes = solid(metal, rng.uniform(1.0, 1.8) if metal == "aluminium" else 0.14, *bars)
    edges = lines(metal, 0.9 if metal == "aluminium" else 0.2, *((closed(bar), 0.22) for bar in bars))
    grip = rectangle(start - 1.6, 0, 2.6, offset * 2 + wide + 2, 1.0)
    handle = solid("abs", 1.6, grip, holes=(grip * [1, 0.7],))
    channel = solid("abs", 0.2, rectangle((start + end) / 2, 0, end - start, offset * 2 + wide * 2))
    return tubes, edges, handle, channel


def make_wheels(rng: Rng, length: float, width: float) -> Item:
    """Return two wheels with axles and housings at the far end."""
    parts: list[Part] = []
    radius = rng.uniform(1.7, 2.6)
    for side in (-1, 1):
        x, y = length * 0.5 + rng.uniform(-1.0, 1.2), side * width * rng.uniform(0.38, 0.46)
        parts += [
            solid("rubber", 2.2, ellipse(x, y, radius, radius * rng.uniform(0.6, 1))),
            lines("abs", 2.0, (closed(ellipse(x - 1, y, radius * 1.3)), 0.5)),
            solid("steel", 0.9, ellipse(x, y, 0.6), rectangle(x - 0.8, y, 2.6, 0.6)),
        ]
    return tuple(parts)


def make_screws(rng: Rng, length: float, width: float, count: int) -> Item:
    """Return rivets and nails along the long sides."""
    along = rng.uniform(-0.48, 0.48, count) * length
    edge = np.where(rng.random(count) < 0.5, -1, 1) * width * rng.uniform(0.3, 0.47, count)
    heads = tuple(ellipse(x, y, 0.3, num=8) for x, y in zip(along, edge, strict=True))
    shafts = tuple((points((x, y), (x + 0.9, y + 0.2)), 0.22) for x, y in zip(along[::2], edge[::2], strict=True))
    return (solid("steel", 0.7, *heads, strokes=shafts),)


def make_zip(rng: Rng, path: Points) -> Item:
    """Return a zip along part of a path, with a slider at either end."""
    # Teeth are finer than a pixel: a thin line at half density; only the sliders are visible.
    begin, share = int(rng.integers(len(path))), rng.uniform(0.5, 0.95)
    line = np.roll(path, -begin, axis=0)[: max(3, int(len(path) * share))]
    material, thickness = ("brass", 0.05) if rng.random() < 0.3 else ("nylon", 0.5)
    teeth = lines(material, thickness, (line, 0.45))
    sliders: list[Part] = []
    for end in (line[0], line[-1]):
        sliders.extend(_slider(rng, float(end[0]), float(end[1])))
    return teeth, *sliders


def make_pulls(rng: Rng, length: float, width: float, count: int) -> Item:
    """Return loose sliders and buckles all over the bag."""
    parts: list[Part] = []
    for _ in range(count):
        x, y = rng.uniform(-0.5, 0.5) * length, rng.uniform(-0.5, 0.5) * width
        if rng.random() < 0.8:
            parts.extend(_slider(rng, x, y))
        else:
            buckle = lines(
                "steel" if rng.random() < 0.6 else "abs",
                0.35,
                (closed(rectangle(0, 0, 3.2, 1.9, 0.3)), 0.42),
                (points((0, -0.9), (0, 0.9)), 0.35),
            )
            parts.extend(move_item((buckle,), x, y, rng.uniform(-math.pi, math.pi)))
    return tuple(parts)


def make_strap(rng: Rng, start: tuple[float, float], long: float, heading: float) -> Item:
    """Return a strap that hangs out of the bag, with a ring at its end."""
    bend = rng.normal(0, 0.25)
    headings = heading + bend * np.arange(8)
    steps = np.stack([np.cos(headings), np.sin(headings)], axis=1) * long / 8
    axis = np.concatenate([[start], start + np.cumsum(steps, axis=0)])
    band = lines("nylon", rng.uniform(0.15, 0.4), (axis, rng.uniform(2.2, 4.0)))
    edge = lines("nylon", 0.3, (axis + np.array([0.0, 1.2]), 0.3), (axis - np.array([0.0, 1.2]), 0.3))
    ring = lines("steel", 0.35, (closed(rectangle(0, 0, 4.0, 2.4, 0.4)), 0.5))
    return band, edge, *move_item((ring,), float(axis[-1, 0]), float(axis[-1, 1]), float(headings[-1]) + math.pi / 2)


def make_pocket(rng: Rng, length: float, width: float) -> Item:
    """Return a flat pocket in the middle of the bag."""
    x, y = rng.uniform(-0.12, 0.12) * length, rng.uniform(-0.1, 0.1) * width
    outline = rectangle(x, y, length * rng.uniform(0.5, 0.8), width * rng.uniform(0.5, 0.8), 2)
    cloth = solid("nylon", rng.uniform(0.1, 0.25), outline)
    return cloth, lines("nylon", 0.5, (closed(outline), 0.4))


def make_creases(rng: Rng, length: float, width: float, count: int) -> Item:
    """Return wrinkles of the cloth."""
    creases = []
    for _ in range(count):
        start = rng.uniform(-0.46, 0.46, 2) * [length, width]
        heading = rng.uniform(0, 2 * math.pi) + rng.normal(0, 0.35) * np.arange(5)
        steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * rng.uniform(1, 4)
        line = np.clip(start + np.cumsum(steps, axis=0), [-length / 2, -width / 2], [length / 2, width / 2])
        creases.append((line, rng.uniform(0.15, 0.35)))
    half = len(creases) // 2
    return lines("nylon", 0.35, *creases[:half]), lines("coated_fabric", 0.35, *creases[half:])


def loosen(rng: Rng, outline: Points, amount_cm: float) -> Points:
    """Return an outline with smoothly displaced vertices: cloth and cardboard are never straight."""
    knots = rng.normal(0, amount_cm, (7, 2))
    place = np.linspace(0, 7, len(outline), endpoint=False)
    wrapped = np.concatenate([knots, knots[:1]])
    drift = np.stack([np.interp(place, np.arange(8), wrapped[:, axis]) for axis in (0, 1)], axis=1)
    return np.asarray(outline + drift)


def _panels(rng: Rng, outline: Points) -> Item:
    # Pockets, flaps, padding and cardboard: overlapping faint sheets with seams.
    size = np.ptp(outline, axis=0)
    parts: list[Part] = []
    for _ in range(int(rng.integers(3, 7))):
        width, height = size * rng.uniform(0.2, 0.8, 2)
        x, y = rng.uniform(-0.5, 0.5, 2) * (size - [width, height])
        sheet = loosen(rng, rectangle(x, y, width, height, rng.uniform(0.5, 3)), 0.5)
        material = str(rng.choice(["nylon", "coated_fabric", "coated_fabric", "polyethylene", "paper"]))
        thickness = rng.uniform(0.04, 0.2)
        parts.append(solid(material, thickness, sheet, relief=relief(rng, 6, 0.4)))
        parts.append(lines(material, thickness * rng.uniform(1.5, 5), (closed(sheet), rng.uniform(0.2, 0.5))))
    return tuple(parts)


def _slider(rng: Rng, x: float, y: float) -> Item:
    body = solid("zinc_alloy", 0.7, rectangle(0, 0, 1.1, 0.8, 0.2))
    tab = solid("zinc_alloy", 0.3, rectangle(1.7, 0, 2.4, 0.7, 0.3), holes=(rectangle(2.1, 0, 1.0, 0.3),))
    factor = rng.uniform(0.55, 1.0)
    slider = map_points((body, tab), lambda vertices: vertices * factor)
    return move_item(slider, x, y, rng.uniform(-math.pi, math.pi))
