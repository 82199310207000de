"""What are bags put together from, as the beam sees it? Walls, seams, zips, handles, wheels, straps."""

import math

import numpy as np

from pipelines.phantom.imaging.outlines import closed, ellipse, points, rectangle, relief
from pipelines.phantom.imaging.shapes import Item, Part, Points, map_points, move_item

Rng = np.random.Generator


def make_walls(rng: Rng, outline: Points, material: str, thickness_cm: float) -> Item:
    """Return both walls of a bag, its lining, its rim, and what is sewn onto them."""
    # Two walls, each a little uneven: what makes empty cloth drift between pale orange and pale green.
    first = Part(material=material, outlines=(outline,), thickness_cm=thickness_cm, relief=relief(rng, 7, 0.3))
    lining = Part(
        material="coated_fabric" if rng.random() < 0.6 else "nylon",
        outlines=(loosen(rng, outline * rng.uniform(0.92, 0.98), 0.25),),
        thickness_cm=thickness_cm * rng.uniform(0.2, 0.8),
        relief=relief(rng, 5, 0.35),
    )
    rim = make_lines(
        material, tuple((closed(loosen(rng, outline, 0.12)), width) for width in (0.7, 0.25)), thickness_cm * 2.5
    )
    return first, lining, rim, *_panels(rng, outline)


def make_telescope(rng: Rng, length: float, width: float) -> Item:
    """Return the two tubes of a telescopic handle, its grip and its channel."""
    offset, wide = width * rng.uniform(0.14, 0.24), rng.uniform(1.6, 2.6)
    start, end = -length * 0.5, length * rng.uniform(0.3, 0.48)
    bars = tuple(rectangle((start + end) / 2, side * offset, end - start, wide) for side in (-1, 1))
    metal = "aluminium" if rng.random() < 0.9 else "steel"
    tubes = Part(material=metal, outlines=bars, thickness_cm=rng.uniform(1.0, 1.8) if metal == "aluminium" else 0.14)
    edges = make_lines(metal, tuple((closed(bar), 0.22) for bar in bars), 0.9 if metal == "aluminium" else 0.2)
    grip = rectangle(start - 1.6, 0, 2.6, offset * 2 + wide + 2, 1.0)
    handle = Part(material="abs", outlines=(grip,), holes=(grip * [1, 0.7],), thickness_cm=1.6)
    channel = Part(
        material="abs",
        outlines=(rectangle((start + end) / 2, 0, end - start, offset * 2 + wide * 2),),
        thickness_cm=0.2,
    )
    return tubes, edges, handle, channel


def make_wheels(rng: Rng, length: float, width: float) -> Item:
    """Return two wheels with axles and housings at the far end."""
    parts: list[Part] = []
    radius = rng.uniform(1.7, 2.6)
    for side in (-1, 1):
        x, y = length * 0.5 + rng.uniform(-1.0, 1.2), side * width * rng.uniform(0.38, 0.46)
        parts += [
            Part(material="rubber", outlines=(ellipse(x, y, radius, radius * rng.uniform(0.6, 1)),), thickness_cm=2.2),
            make_lines("abs", ((closed(ellipse(x - 1, y, radius * 1.3)), 0.5),), 2.0),
            Part(material="steel", outlines=(ellipse(x, y, 0.6), rectangle(x - 0.8, y, 2.6, 0.6)), thickness_cm=0.9),
        ]
    return tuple(parts)


def make_screws(rng: Rng, length: float, width: float, count: int) -> Item:
    """Return rivets and nails along the long sides."""
    along = rng.uniform(-0.48, 0.48, count) * length
    edge = np.where(rng.random(count) < 0.5, -1, 1) * width * rng.uniform(0.3, 0.47, count)
    heads = tuple(ellipse(x, y, 0.3, num=8) for x, y in zip(along, edge, strict=True))
    shafts = tuple((points((x, y), (x + 0.9, y + 0.2)), 0.22) for x, y in zip(along[::2], edge[::2], strict=True))
    return (Part(material="steel", outlines=heads, strokes=shafts, thickness_cm=0.7),)


def make_zip(rng: Rng, path: Points) -> Item:
    """Return a zip along part of a path, with a slider at either end."""
    # Teeth are finer than a pixel: a thin line of half brass, half nothing, and one or two sliders that do show.
    begin, share = int(rng.integers(len(path))), rng.uniform(0.5, 0.95)
    line = np.roll(path, -begin, axis=0)[: max(3, int(len(path) * share))]
    material, thickness = ("brass", 0.05) if rng.random() < 0.3 else ("nylon", 0.5)
    teeth = make_lines(material, ((line, 0.45),), thickness)
    sliders: list[Part] = []
    for end in (line[0], line[-1]):
        sliders.extend(_slider(rng, float(end[0]), float(end[1])))
    return (teeth, *sliders)


def make_pulls(rng: Rng, length: float, width: float, count: int) -> Item:
    """Return loose sliders and buckles all over the bag."""
    parts: list[Part] = []
    for _ in range(count):
        x, y = rng.uniform(-0.5, 0.5) * length, rng.uniform(-0.5, 0.5) * width
        if rng.random() < 0.8:
            parts.extend(_slider(rng, x, y))
        else:
            buckle = make_lines(
                "steel" if rng.random() < 0.6 else "abs",
                ((closed(rectangle(0, 0, 3.2, 1.9, 0.3)), 0.42), (points((0, -0.9), (0, 0.9)), 0.35)),
                0.35,
            )
            parts.extend(move_item((buckle,), x, y, rng.uniform(-math.pi, math.pi)))
    return tuple(parts)


def make_strap(rng: Rng, start: tuple[float, float], long: float, heading: float) -> Item:
    """Return a strap that hangs out of the bag, with a ring at its end."""
    bend = rng.normal(0, 0.25)
    headings = heading + bend * np.arange(8)
    steps = np.stack([np.cos(headings), np.sin(headings)], axis=1) * long / 8
    axis = np.concatenate([[start], start + np.cumsum(steps, axis=0)])
    band = make_lines("nylon", ((axis, rng.uniform(2.2, 4.0)),), rng.uniform(0.15, 0.4))
    edge = make_lines("nylon", ((axis + np.array([0.0, 1.2]), 0.3), (axis - np.array([0.0, 1.2]), 0.3)), 0.3)
    ring = make_lines("steel", ((closed(rectangle(0, 0, 4.0, 2.4, 0.4)), 0.5),), 0.35)
    return band, edge, *move_item((ring,), float(axis[-1, 0]), float(axis[-1, 1]), float(headings[-1]) + math.pi / 2)


def make_pocket(rng: Rng, length: float, width: float) -> Item:
    """Return a flat pocket in the middle of the bag."""
    x, y = rng.uniform(-0.12, 0.12) * length, rng.uniform(-0.1, 0.1) * width
    outline = rectangle(x, y, length * rng.uniform(0.5, 0.8), width * rng.uniform(0.5, 0.8), 2)
    cloth = Part(material="nylon", outlines=(outline,), thickness_cm=rng.uniform(0.1, 0.25))
    return cloth, make_lines("nylon", ((closed(outline), 0.4),), 0.5)


def make_creases(rng: Rng, length: float, width: float, count: int) -> Item:
    """Return wrinkles of the cloth."""
    lines = []
    for _ in range(count):
        start = rng.uniform(-0.46, 0.46, 2) * [length, width]
        heading = rng.uniform(0, 2 * math.pi) + rng.normal(0, 0.35) * np.arange(5)
        steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * rng.uniform(1, 4)
        lines.append(
            (
                np.clip(start + np.cumsum(steps, axis=0), [-length / 2, -width / 2], [length / 2, width / 2]),
                rng.uniform(0.15, 0.35),
            )
        )
    half = len(lines) // 2
    return make_lines("nylon", tuple(lines[:half]), 0.35), make_lines("coated_fabric", tuple(lines[half:]), 0.35)


def make_lines(material: str, strokes: tuple[tuple[Points, float], ...], thickness_cm: float) -> Part:
    """Return lines of one material and thickness."""
    return Part(material=material, strokes=strokes, thickness_cm=thickness_cm)


def loosen(rng: Rng, outline: Points, amount_cm: float) -> Points:
    """Return an outline whose vertices have wandered: cloth and cardboard are never drawn with a ruler."""
    knots = rng.normal(0, amount_cm, (7, 2))
    place = np.linspace(0, 7, len(outline), endpoint=False)
    wrapped = np.concatenate([knots, knots[:1]])
    drift = np.stack([np.interp(place, np.arange(8), wrapped[:, axis]) for axis in (0, 1)], axis=1)
    wandered: Points = outline + drift
    return wandered


def _panels(rng: Rng, outline: Points) -> Item:
    # Pockets, flaps, padding and cardboard: overlapping faint sheets with seams, none of them quite straight.
    size = np.ptp(outline, axis=0)
    parts: list[Part] = []
    for _ in range(int(rng.integers(3, 7))):
        width, height = size * rng.uniform(0.2, 0.8, 2)
        x, y = rng.uniform(-0.5, 0.5, 2) * (size - [width, height])
        sheet = loosen(rng, rectangle(x, y, width, height, rng.uniform(0.5, 3)), 0.5)
        material = str(rng.choice(["nylon", "coated_fabric", "coated_fabric", "polyethylene", "paper"]))
        thickness = rng.uniform(0.04, 0.2)
        parts.append(Part(material=material, outlines=(sheet,), thickness_cm=thickness, relief=relief(rng, 6, 0.4)))
        parts.append(make_lines(material, ((closed(sheet), rng.uniform(0.2, 0.5)),), thickness * rng.uniform(1.5, 5)))
    return tuple(parts)


def _slider(rng: Rng, x: float, y: float) -> Item:
    body = Part(material="zinc_alloy", outlines=(rectangle(0, 0, 1.1, 0.8, 0.2),), thickness_cm=0.7)
    tab = Part(
        material="zinc_alloy",
        outlines=(rectangle(1.7, 0, 2.4, 0.7, 0.3),),
        holes=(rectangle(2.1, 0, 1.0, 0.3),),
        thickness_cm=0.3,
    )
    return move_item(_scaled((body, tab), rng.uniform(0.55, 1.0)), x, y, rng.uniform(-math.pi, math.pi))


def _scaled(item: Item, factor: float) -> Item:
    return map_points(item, lambda points: points * factor)
