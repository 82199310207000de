"""What is a bag without its contents to the beam? Walls, seams, frames, wheels, handles, zips."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from pipelines.phantom.shapes import (
    Item,
    Part,
    Points,
    closed,
    ellipse,
    map_points,
    move_item,
    points,
    rectangle,
    relief,
    smooth,
)

Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Bag:
    """An empty bag about the origin, long side along x."""

    item: Item
    length_cm: float
    """Along x, over everything but straps and handles."""
    width_cm: float
    inside: float
    """Fraction of both sides that contents lie in."""
    capacity: float
    """How much goes in, as a multiple of an ordinary bag of that size."""


def make_bag(rng: Rng) -> Bag:
    """Return a random empty bag, a little out of shape: suitcases and backpacks are most of what stations see."""
    kinds = list(BAGS)
    weights = np.array([BAGS[kind][1] for kind in kinds])
    chosen = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    bag = BAGS[chosen][0](rng)
    return replace(bag, item=_warp(rng, bag))


def suitcase(rng: Rng) -> Bag:
    """A trolley case: two shells, wire frames, telescopic handle, wheels with axles, zip."""
    length, width = rng.uniform(50, 70), rng.uniform(34, 46)
    outline = rectangle(0, 0, length, width, rng.uniform(2, 5))
    back = outline * [0.96, 0.95] + rng.uniform(-0.9, 0.9, 2)
    hard = rng.random() < 0.4
    shell = _walls(rng, outline, "abs" if hard else "coated_fabric", 0.35 if hard else 0.2)
    frame_material, frame_width = ("steel", 0.28) if rng.random() < 0.6 else ("aluminium", 0.8)
    frames = _lines(frame_material, ((closed(outline * 0.985), frame_width), (closed(back), frame_width)), 0.55)
    piping = _lines("pvc", tuple((closed(_loosen(rng, outline * scale, 0.15)), 0.4) for scale in (1.0, 0.955)), 0.9)
    parts = [*shell, frames, piping, *_telescope(rng, length, width), *_wheels(rng, length, width)]
    parts += [
        *_creases(rng, length, width, 18),
        *_zip(rng, outline * 0.97),
        *_screws(rng, length, width, 14),
        *_pocket(rng, length, width),
    ]
    return Bag(tuple(parts), length, width, 0.84, 1.2)


def backpack(rng: Rng) -> Bag:
    """A backpack: soft outline, straps with buckles, pockets, several zips."""
    length, width = rng.uniform(42, 56), rng.uniform(30, 40)
    outline = _soft_outline(rng, length, width)
    shell = _walls(rng, outline, "coated_fabric", rng.uniform(0.08, 0.24))
    straps = [
        _strap(rng, (-length * 0.46, side * width * 0.25), rng.uniform(10, 24), math.pi + side * rng.uniform(-0.6, 1.0))
        for side in (-1, 1)
    ]
    seams = _lines(
        "nylon", tuple((closed(outline * scale + rng.normal(0, 0.3, 2)), 0.4) for scale in (1.0, 0.93, 0.88)), 0.9
    )
    parts = [*shell, seams, *(part for strap in straps for part in strap)]
    parts += [
        *_zip(rng, outline * 0.95),
        *_zip(rng, outline * [0.5, 0.8] + [length * 0.2, 0]),
        *_pocket(rng, length, width),
    ]
    parts += [*_creases(rng, length, width, 26), *_pulls(rng, length, width, int(rng.integers(4, 9)))]
    return Bag(tuple(parts), length, width, 0.78, 1.0)


def handbag(rng: Rng) -> Bag:
    """A handbag: leather, lining, rings, a chain or a handle."""
    length, width = rng.uniform(26, 40), rng.uniform(20, 30)
    outline = _soft_outline(rng, length, width)
    shell = _walls(rng, outline, "leather", rng.uniform(0.1, 0.3))
    handle = smooth(
        points(
            (-length * 0.25, -width * 0.45),
            (-length * 0.2, -width * 0.9),
            (length * 0.2, -width * 0.95),
            (length * 0.25, -width * 0.45),
        ),
        3,
        is_closed=False,
    )
    grip = _lines("leather", ((handle, 1.3), (handle * [0.85, 0.95], 1.3)), 0.7)
    rings = _lines(
        "zinc_alloy", tuple((closed(ellipse(side * length * 0.25, -width * 0.45, 1.2)), 0.4) for side in (-1, 1)), 0.35
    )
    parts = [
        *shell,
        grip,
        rings,
        *_zip(rng, outline * 0.9),
        *_creases(rng, length, width, 10),
        *_pulls(rng, length, width, 5),
    ]
    return Bag(tuple(parts), length, width, 0.76, 0.8)


def briefcase(rng: Rng) -> Bag:
    """A case for a computer: padded walls, double zip, a handle."""
    length, width = rng.uniform(36, 46), rng.uniform(27, 34)
    outline = rectangle(0, 0, length, width, rng.uniform(2, 4))
    shell = _walls(rng, outline, "coated_fabric", rng.uniform(0.1, 0.3))
    frames = _lines(
        "steel", ((closed(outline * 0.97), 0.25), (closed(outline * 0.93 + rng.normal(0, 0.6, 2)), 0.25)), 0.12
    )
    handle = points((-6, -width / 2), (-5.4, -width / 2 - 3.4), (5.4, -width / 2 - 3.4), (6, -width / 2))
    grip = _lines("rubber", ((smooth(handle, 2, is_closed=False), 1.5),), 1.0)
    parts = [
        *shell,
        frames,
        grip,
        *_zip(rng, outline * 0.95),
        *_pocket(rng, length, width),
        *_pulls(rng, length, width, 6),
        *_creases(rng, length, width, 6),
    ]
    return Bag(tuple(parts), length, width, 0.82, 0.9)


def duffel(rng: Rng) -> Bag:
    """A travel bag: crumpled cloth, webbing, buckles."""
    length, width = rng.uniform(40, 58), rng.uniform(25, 34)
    outline = _soft_outline(rng, length, width)
    shell = _walls(rng, outline, "nylon", rng.uniform(0.08, 0.2))
    webbing = _lines(
        "nylon",
        tuple((points((side * length * 0.2, -width / 2), (side * length * 0.22, width / 2)), 3.0) for side in (-1, 1)),
        0.35,
    )
    strap = _strap(rng, (length * 0.45, 0.0), rng.uniform(14, 26), rng.uniform(-1, 1))
    parts = [
        *shell,
        webbing,
        *strap,
        *_zip(rng, outline * [0.95, 0.25]),
        *_creases(rng, length, width, 26),
        *_pulls(rng, length, width, 5),
    ]
    return Bag(tuple(parts), length, width, 0.8, 1.2)


def plastic_bag(rng: Rng) -> Bag:
    """A carrier bag: next to nothing but wrinkles."""
    length, width = rng.uniform(26, 42), rng.uniform(22, 34)
    outline = _soft_outline(rng, length, width)
    shell = _walls(rng, outline, "polyethylene", 0.05)
    return Bag((*shell, *_creases(rng, length, width, 34)), length, width, 0.72, 0.8)


def box(rng: Rng) -> Bag:
    """A carton in perspective, taped."""
    length, width = rng.uniform(28, 50), rng.uniform(22, 38)
    front = rectangle(0, 0, length, width)
    back = front * 0.93 + rng.uniform(-1.5, 1.5, 2)
    wall = Part(material="paper", outlines=(front,), thickness_cm=rng.uniform(0.2, 0.4))
    edges = [(closed(front), 0.5), (closed(back), 0.5)] + [(np.stack([front[k], back[k]]), 0.4) for k in range(4)]
    tape = Part(material="polyethylene", outlines=(rectangle(0, 0, length, 5),), thickness_cm=0.06)
    return Bag((wall, _lines("paper", tuple(edges), 2.2), tape), length, width, 0.86, 1.0)


BAGS: Mapping[str, tuple[Callable[[Rng], Bag], float]] = {
    "suitcase": (suitcase, 0.34),
    "backpack": (backpack, 0.26),
    "briefcase": (briefcase, 0.1),
    "handbag": (handbag, 0.08),
    "duffel": (duffel, 0.1),
    "plastic_bag": (plastic_bag, 0.05),
    "box": (box, 0.07),
}
"""Each kind of bag and its share."""


def _warp(rng: Rng, bag: Bag) -> Item:
    # Perspective, and sides that bulge: no bag on a belt is a rectangle.
    lean_x, lean_y, skew = rng.normal(0, [0.05, 0.05, 0.04])
    bulge, wave, phase = rng.normal(0, 0.012), rng.normal(0, 0.008), rng.uniform(0, 2 * math.pi)

    def bend(points: Points) -> Points:
        x, y = points[:, 0] * 2 / bag.length_cm, points[:, 1] * 2 / bag.width_cm
        bent_x = x * (1 + lean_x * y) + skew * y + bulge * x * (1 - y * y) + wave * np.sin(5 * y + phase)
        bent_y = y * (1 + lean_y * x) + bulge * y * (1 - x * x) + wave * np.sin(5 * x + phase)
        return np.stack([bent_x * bag.length_cm / 2, bent_y * bag.width_cm / 2], axis=1)

    return map_points(bag.item, bend)


def _scaled(item: Item, factor: float) -> Item:
    return map_points(item, lambda points: points * factor)


def _walls(rng: Rng, outline: Points, material: str, thickness_cm: float) -> Item:
    # Two walls, each a little uneven: what makes empty cloth drift between pale orange and pale green.
    first = Part(material=material, outlines=(outline,), thickness_cm=thickness_cm, relief=relief(rng, 7, 0.3))
    lining = Part(
        material="coated_fabric" if rng.random() < 0.6 else "nylon",
        outlines=(_loosen(rng, outline * rng.uniform(0.92, 0.98), 0.25),),
        thickness_cm=thickness_cm * rng.uniform(0.2, 0.8),
        relief=relief(rng, 5, 0.35),
    )
    rim = _lines(
        material, tuple((closed(_loosen(rng, outline, 0.12)), width) for width in (0.7, 0.25)), thickness_cm * 2.5
    )
    return first, lining, rim, *_panels(rng, outline)


def _panels(rng: Rng, outline: Points) -> Item:
    # Pockets, flaps, padding and cardboard: overlapping faint sheets with seams, none of them quite straight.
    size = np.ptp(outline, axis=0)
    parts: list[Part] = []
    for _ in range(int(rng.integers(3, 7))):
        width, height = size * rng.uniform(0.2, 0.8, 2)
        x, y = rng.uniform(-0.5, 0.5, 2) * (size - [width, height])
        sheet = _loosen(rng, rectangle(x, y, width, height, rng.uniform(0.5, 3)), 0.5)
        material = str(rng.choice(["nylon", "coated_fabric", "coated_fabric", "polyethylene", "paper"]))
        thickness = rng.uniform(0.04, 0.2)
        parts.append(Part(material=material, outlines=(sheet,), thickness_cm=thickness, relief=relief(rng, 6, 0.4)))
        parts.append(_lines(material, ((closed(sheet), rng.uniform(0.2, 0.5)),), thickness * rng.uniform(1.5, 5)))
    return tuple(parts)


def _loosen(rng: Rng, outline: Points, amount_cm: float) -> Points:
    """Return an outline whose vertices have wandered: cloth and cardboard are never drawn with a ruler."""
    knots = rng.normal(0, amount_cm, (7, 2))
    place = np.linspace(0, 7, len(outline), endpoint=False)
    wrapped = np.concatenate([knots, knots[:1]])
    drift = np.stack([np.interp(place, np.arange(8), wrapped[:, axis]) for axis in (0, 1)], axis=1)
    wandered: Points = outline + drift
    return wandered


def _soft_outline(rng: Rng, length: float, width: float) -> Points:
    corners = points(
        (-0.5, -0.32),
        (-0.36, -0.5),
        (0, -0.5),
        (0.38, -0.48),
        (0.5, -0.3),
        (0.5, 0.3),
        (0.38, 0.48),
        (0, 0.5),
        (-0.36, 0.5),
        (-0.5, 0.32),
    )
    return smooth((corners + rng.normal(0, 0.04, corners.shape)) * [length, width], 2)


def _telescope(rng: Rng, length: float, width: float) -> Item:
    offset, wide = width * rng.uniform(0.14, 0.24), rng.uniform(1.6, 2.6)
    start, end = -length * 0.5, length * rng.uniform(0.3, 0.48)
    bars = tuple(rectangle((start + end) / 2, side * offset, end - start, wide) for side in (-1, 1))
    metal = "aluminium" if rng.random() < 0.9 else "steel"
    tubes = Part(material=metal, outlines=bars, thickness_cm=rng.uniform(1.0, 1.8) if metal == "aluminium" else 0.14)
    edges = _lines(metal, tuple((closed(bar), 0.22) for bar in bars), 0.9 if metal == "aluminium" else 0.2)
    grip = rectangle(start - 1.6, 0, 2.6, offset * 2 + wide + 2, 1.0)
    handle = Part(material="abs", outlines=(grip,), holes=(grip * [1, 0.7],), thickness_cm=1.6)
    channel = Part(
        material="abs",
        outlines=(rectangle((start + end) / 2, 0, end - start, offset * 2 + wide * 2),),
        thickness_cm=0.2,
    )
    return tubes, edges, handle, channel


def _wheels(rng: Rng, length: float, width: float) -> Item:
    parts: list[Part] = []
    radius = rng.uniform(1.7, 2.6)
    for side in (-1, 1):
        x, y = length * 0.5 + rng.uniform(-1.0, 1.2), side * width * rng.uniform(0.38, 0.46)
        parts += [
            Part(material="rubber", outlines=(ellipse(x, y, radius, radius * rng.uniform(0.6, 1)),), thickness_cm=2.2),
            _lines("abs", ((closed(ellipse(x - 1, y, radius * 1.3)), 0.5),), 2.0),
            Part(material="steel", outlines=(ellipse(x, y, 0.6), rectangle(x - 0.8, y, 2.6, 0.6)), thickness_cm=0.9),
        ]
    return tuple(parts)


def _screws(rng: Rng, length: float, width: float, count: int) -> Item:
    along = rng.uniform(-0.48, 0.48, count) * length
    edge = np.where(rng.random(count) < 0.5, -1, 1) * width * rng.uniform(0.3, 0.47, count)
    heads = tuple(ellipse(x, y, 0.3, num=8) for x, y in zip(along, edge, strict=True))
    shafts = tuple((points((x, y), (x + 0.9, y + 0.2)), 0.22) for x, y in zip(along[::2], edge[::2], strict=True))
    return (Part(material="steel", outlines=heads, strokes=shafts, thickness_cm=0.7),)


def _zip(rng: Rng, path: Points) -> Item:
    # Teeth are finer than a pixel: a thin line of half brass, half nothing, and one or two sliders that do show.
    begin, share = int(rng.integers(len(path))), rng.uniform(0.5, 0.95)
    line = np.roll(path, -begin, axis=0)[: max(3, int(len(path) * share))]
    material, thickness = ("brass", 0.05) if rng.random() < 0.3 else ("nylon", 0.5)
    teeth = _lines(material, ((line, 0.45),), thickness)
    sliders: list[Part] = []
    for end in (line[0], line[-1]):
        sliders.extend(_slider(rng, float(end[0]), float(end[1])))
    return (teeth, *sliders)


def _slider(rng: Rng, x: float, y: float) -> Item:
    body = Part(material="zinc_alloy", outlines=(rectangle(0, 0, 1.1, 0.8, 0.2),), thickness_cm=0.7)
    tab = Part(
        material="zinc_alloy",
        outlines=(rectangle(1.7, 0, 2.4, 0.7, 0.3),),
        holes=(rectangle(2.1, 0, 1.0, 0.3),),
        thickness_cm=0.3,
    )
    return move_item(_scaled((body, tab), rng.uniform(0.55, 1.0)), x, y, rng.uniform(-math.pi, math.pi))


def _pulls(rng: Rng, length: float, width: float, count: int) -> Item:
    parts: list[Part] = []
    for _ in range(count):
        x, y = rng.uniform(-0.5, 0.5) * length, rng.uniform(-0.5, 0.5) * width
        if rng.random() < 0.8:
            parts.extend(_slider(rng, x, y))
        else:
            buckle = _lines(
                "steel" if rng.random() < 0.6 else "abs",
                ((closed(rectangle(0, 0, 3.2, 1.9, 0.3)), 0.42), (points((0, -0.9), (0, 0.9)), 0.35)),
                0.35,
            )
            parts.extend(move_item((buckle,), x, y, rng.uniform(-math.pi, math.pi)))
    return tuple(parts)


def _strap(rng: Rng, start: tuple[float, float], long: float, heading: float) -> Item:
    bend = rng.normal(0, 0.25)
    headings = heading + bend * np.arange(8)
    steps = np.stack([np.cos(headings), np.sin(headings)], axis=1) * long / 8
    axis = np.concatenate([[start], start + np.cumsum(steps, axis=0)])
    band = _lines("nylon", ((axis, rng.uniform(2.2, 4.0)),), rng.uniform(0.15, 0.4))
    edge = _lines("nylon", ((axis + np.array([0.0, 1.2]), 0.3), (axis - np.array([0.0, 1.2]), 0.3)), 0.3)
    ring = _lines("steel", ((closed(rectangle(0, 0, 4.0, 2.4, 0.4)), 0.5),), 0.35)
    return band, edge, *move_item((ring,), float(axis[-1, 0]), float(axis[-1, 1]), float(headings[-1]) + math.pi / 2)


def _pocket(rng: Rng, length: float, width: float) -> Item:
    x, y = rng.uniform(-0.12, 0.12) * length, rng.uniform(-0.1, 0.1) * width
    outline = rectangle(x, y, length * rng.uniform(0.5, 0.8), width * rng.uniform(0.5, 0.8), 2)
    cloth = Part(material="nylon", outlines=(outline,), thickness_cm=rng.uniform(0.1, 0.25))
    return cloth, _lines("nylon", ((closed(outline), 0.4),), 0.5)


def _creases(rng: Rng, length: float, width: float, count: int) -> Item:
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
    return _lines("nylon", tuple(lines[:half]), 0.35), _lines("coated_fabric", tuple(lines[half:]), 0.35)


def _lines(material: str, strokes: tuple[tuple[Points, float], ...], thickness_cm: float) -> Part:
    return Part(material=material, strokes=strokes, thickness_cm=thickness_cm)
