"""What do everyday things in a bag look like to the beam? Bottles, food, clothes, shoes, umbrellas, cutlery."""

import math

import numpy as np

from pipelines.phantom.shapes import (
    Item,
    Part,
    Points,
    arc,
    closed,
    ellipse,
    ellipsoid,
    move_item,
    points,
    rectangle,
    relief,
    revolved,
    ribbon,
    smooth,
)

Rng = np.random.Generator


def bottle(rng: Rng) -> Item:
    """A bottle of water or lotion, seen from its side; a thick glass one now and then."""
    long, radius = rng.uniform(14, 26), rng.uniform(2.4, 4.2)
    axis = np.array([0, 0.4, 1.2, 0.62, 0.74, 0.84, 0.9, 1.0]) * [1, 1, 1, long, long, long, long, long]
    body = np.array([0.7, 0.95, 1.0, 1.0, 0.85, 0.42, 0.34, 0.34]) * radius
    wall, material = (0.35, "glass") if rng.random() < 0.2 else (0.06, "polyethylene")
    hull = revolved(material, axis, body, np.maximum(body - wall, 0.05))
    fill = rng.uniform(0.5, 0.88) * long
    inside = np.maximum(np.interp([0.3, 1.2, fill * 0.8, fill], axis, body) - wall, 0.1)
    liquid = revolved(str(rng.choice(["water", "lotion"])), (0.3, 1.2, fill * 0.8, fill), inside)
    cap = revolved("abs", (long * 0.93, long + 0.6), (radius * 0.42, radius * 0.42), (radius * 0.3, radius * 0.3))
    return move_item((hull, liquid, cap), dx=-long / 2)


def jar(rng: Rng) -> Item:
    """A vacuum flask or a tin: a metal tube with a bottom, half of them with something inside."""
    long, radius = rng.uniform(9, 22), rng.uniform(2.8, 4.2)
    tube = revolved("stainless", (0, long), (radius, radius), (radius - 0.05, radius - 0.05))
    inner = revolved(
        "stainless", (0.6, long - 0.5), (radius * 0.86, radius * 0.86), (radius * 0.86 - 0.04, radius * 0.86 - 0.04)
    )
    rims = Part(
        material="stainless",
        strokes=tuple((closed(ellipse(at, 0, radius * 0.22, radius)), 0.22) for at in (0.0, 0.9, long - 0.6, long)),
        thickness_cm=0.12,
    )
    parts = [tube, inner, rims]
    if rng.random() < 0.4:
        parts.append(revolved("water", (0.7, long * rng.uniform(0.4, 0.9)), (radius * 0.84, radius * 0.84)))
    return move_item(parts, dx=-long / 2)


def drink_can(rng: Rng) -> Item:
    """An aluminium can, full."""
    radius, long = rng.uniform(2.6, 3.3), rng.uniform(9, 15)
    hull = revolved(
        "aluminium",
        (0, 0.6, long - 0.8, long),
        (radius * 0.8, radius, radius, radius * 0.82),
        (radius * 0.76, radius - 0.03, radius - 0.03, radius * 0.78),
    )
    return move_item((hull, revolved("water", (0.4, long * 0.93), (radius * 0.96, radius * 0.96))), dx=-long / 2)


def spray_can(rng: Rng) -> Item:
    """A steel aerosol with its valve and dip tube."""
    radius, long = rng.uniform(1.8, 3.2), rng.uniform(12, 20)
    hull = revolved(
        "steel",
        (0, long * 0.85, long),
        (radius, radius, radius * 0.5),
        (radius - 0.03, radius - 0.03, radius * 0.5 - 0.03),
    )
    liquid = revolved("lotion", (0.1, long * rng.uniform(0.3, 0.7)), (radius * 0.97, radius * 0.97))
    valve = Part(
        material="steel",
        outlines=(rectangle(long + 0.3, 0, 0.9, 0.8),),
        strokes=((points((1, 0.3), (long, 0)), 0.2),),
        thickness_cm=0.3,
    )
    return move_item((hull, liquid, valve), dx=-long / 2)


def fruit(rng: Rng) -> Item:
    """A heap of apples or oranges, or a loaf."""
    parts: list[Part] = []
    radius = rng.uniform(2.8, 4.6)
    for _ in range(int(rng.integers(2, 7))):
        size = radius * rng.uniform(0.85, 1.15)
        x, y = rng.normal(0, radius * 1.6, 2)
        parts.extend(move_item((ellipsoid("food", size, size * rng.uniform(0.9, 1.1), size * 1.2),), dx=x, dy=y))
    return tuple(parts)


def food_tray(rng: Rng) -> Item:
    """Rows of something to eat in a box: eggs, dumplings, sweets."""
    rows, columns = int(rng.integers(2, 5)), int(rng.integers(3, 6))
    pitch = rng.uniform(2.6, 4.2)
    outlines = tuple(
        smooth(
            rectangle((c - (columns - 1) / 2) * pitch, (r - (rows - 1) / 2) * pitch, pitch * 0.9, pitch * 0.8)
            + rng.normal(0, 0.15, (4, 2)),
            2,
        )
        for r in range(rows)
        for c in range(columns)
    )
    food = Part(material="food", outlines=outlines, thickness_cm=rng.uniform(1.2, 3), relief=relief(rng, 24, 0.25))
    box = Part(material="paper", outlines=(rectangle(0, 0, columns * pitch + 1, rows * pitch + 1),), thickness_cm=0.15)
    return food, box, _outline(rectangle(0, 0, columns * pitch + 1, rows * pitch + 1), "paper", 0.3, 1.5)


def grain_sack(rng: Rng) -> Item:
    """A lumpy bag of rice, powder or vegetables."""
    outline = _blob(rng, rng.uniform(6, 12), rng.uniform(5, 9), 0.18)
    return (Part(material="food", outlines=(outline,), thickness_cm=rng.uniform(1.5, 4), relief=relief(rng, 14, 0.3)),)


def clothes(rng: Rng) -> Item:
    """Folded layers of cloth with creases."""
    width, height = rng.uniform(14, 30), rng.uniform(12, 24)
    parts = []
    for _ in range(int(rng.integers(1, 4))):
        outline = _blob(rng, width * rng.uniform(0.3, 0.5), height * rng.uniform(0.3, 0.5), 0.14) + rng.normal(0, 2, 2)
        parts.append(
            Part(
                material="textile",
                outlines=(outline,),
                thickness_cm=rng.uniform(1, 4),
                relief=relief(rng, int(rng.integers(6, 22)), 0.35),
            )
        )
    creases = tuple((_wander(rng, rng.normal(0, 4, 2), rng.uniform(5, 14)), rng.uniform(0.15, 0.4)) for _ in range(6))
    return (*parts, Part(material="textile", strokes=creases, thickness_cm=rng.uniform(1, 2.4)))


def book(rng: Rng) -> Item:
    """A book or a pile of paper."""
    width, height = rng.uniform(13, 21), rng.uniform(18, 29)
    page = rectangle(0, 0, width, height)
    block = Part(material="paper", outlines=(page,), thickness_cm=rng.uniform(0.3, 1.8))
    cover = Part(material="paper", outlines=(page * 1.02,), thickness_cm=0.4)
    return block, cover, _outline(page, "paper", 0.4, 1.0)


def carton(rng: Rng) -> Item:
    """A packet of carton with a filling that does not reach its walls."""
    width, height = rng.uniform(7, 18), rng.uniform(5, 12)
    wall = rectangle(0, 0, width, height)
    filling = Part(
        material=str(rng.choice(["food", "lotion", "textile", "food"])),
        outlines=(rectangle(0, 0, width * 0.88, height * 0.82, 0.6),),
        thickness_cm=rng.uniform(0.8, 2.8),
        relief=relief(rng, 10, 0.12),
    )
    return filling, Part(material="paper", outlines=(wall,), thickness_cm=0.2), _outline(wall, "paper", 0.3, 2.0)


def toiletries(rng: Rng) -> Item:
    """A tube, a small bottle and a jar side by side."""
    parts: list[Part] = []
    for place in range(int(rng.integers(2, 5))):
        long, radius = rng.uniform(6, 14), rng.uniform(0.8, 2.0)
        body = revolved("lotion", (0, 0.4, long * 0.8, long), (radius * 0.9, radius, radius * 0.9, radius * 0.5))
        cap = revolved("abs", (long, long + 1.6), (radius * 0.6, radius * 0.6), (radius * 0.4, radius * 0.4))
        parts.extend(move_item((body, cap), dx=-long / 2, dy=(place - 1.5) * 3.4, angle=rng.normal(0, 0.25)))
    return tuple(parts)


def shoe(rng: Rng) -> Item:
    """A shoe from above: rubber sole, shank, eyelets."""
    size = rng.uniform(0.85, 1.1)
    sole = (
        smooth(
            points(
                (-13, -2.8),
                (-4, -3.0),
                (4, -4.6),
                (11, -4.4),
                (14, -1.4),
                (13, 2.6),
                (7, 4.4),
                (-2, 3.2),
                (-12, 3.4),
                (-14, 0),
            ),
            2,
        )
        * size
    )
    rubber = Part(material="rubber", outlines=(sole,), thickness_cm=rng.uniform(0.6, 1.6), relief=relief(rng, 20, 0.1))
    upper = _outline(sole * 0.96, "leather", 0.8, 4.0)
    shank = Part(material="steel", outlines=(rectangle(-4 * size, 0, 10 * size, 1.4, 0.4),), thickness_cm=0.1)
    eyelets = Part(
        material="brass",
        outlines=tuple(ellipse((1 + 1.6 * k) * size, side * 1.6, 0.3) for k in range(4) for side in (-1, 1)),
        thickness_cm=0.15,
    )
    return rubber, upper, shank, eyelets


def umbrella(rng: Rng) -> Item:
    """A folded umbrella: a shaft, a bundle of ribs, cloth and a handle."""
    long = rng.uniform(22, 32)
    shaft = revolved("steel", (0, long), (0.45, 0.45), (0.36, 0.36))
    ribs = Part(
        material="steel",
        strokes=tuple(
            (points((2, 0), (long * 0.35, offset * 1.2), (long * 0.9, offset)), 0.22)
            for offset in np.linspace(-1.8, 1.8, 8)
        ),
        thickness_cm=0.22,
    )
    cloth = revolved("nylon", (1, long * 0.4, long), (0.8, 2.2, 1.8), (0.6, 1.95, 1.55))
    handle = revolved("abs", (-6, -5.4, 0), (1.0, 1.4, 1.2))
    return move_item((shaft, ribs, cloth, handle), dx=-long / 2)


def cutlery(rng: Rng) -> Item:
    """A spoon and a fork."""
    long = rng.uniform(14, 20)
    handle = ribbon(points((0, 0), (long * 0.5, 0), (long * 0.7, 0)), [0.65, 0.4, 0.35])
    spoon = Part(material="stainless", outlines=(handle, ellipse(long * 0.82, 0, long * 0.15, 2.0)), thickness_cm=0.2)
    prongs = tuple((points((long * 0.82, offset), (long, offset)), 0.25) for offset in (-0.8, -0.27, 0.27, 0.8))
    fork = Part(
        material="stainless",
        outlines=(handle, rectangle(long * 0.77, 0, 2.6, 2.0, 0.8)),
        strokes=prongs,
        thickness_cm=0.2,
    )
    return (
        *move_item((spoon,), dx=-long / 2, dy=rng.uniform(-3, -1), angle=rng.normal(0, 0.3)),
        *move_item((fork,), dx=-long / 2, dy=rng.uniform(1, 3), angle=rng.normal(0, 0.3)),
    )


def glasses(rng: Rng) -> Item:
    """Spectacles, folded."""
    rims = tuple((closed(ellipse(side * 3.3, 0, 2.6, 2.1)), 0.25) for side in (-1, 1))
    arms = (
        (points((-6, 0), (-5.6, 1.4), (6, 2.6)), 0.25),
        (points((6, 0), (5.6, 1.8), (-5.6, 3.0)), 0.25),
        (points((-0.7, 0), (0.7, 0)), 0.3),
    )
    frame = Part(material="stainless" if rng.random() < 0.6 else "abs", strokes=(*rims, *arms), thickness_cm=0.22)
    lenses = Part(material="glass", outlines=(ellipse(-3.3, 0, 2.6, 2.1), ellipse(3.3, 0, 2.6, 2.1)), thickness_cm=0.2)
    return frame, lenses


def belt(rng: Rng) -> Item:
    """A leather belt, rolled up, with its buckle."""
    turn = np.linspace(0, 2 * math.pi * rng.uniform(1.4, 2.6), 60)
    radius = np.linspace(2.5, rng.uniform(4, 6), 60)
    spiral = np.stack([radius * np.cos(turn), radius * np.sin(turn) * rng.uniform(0.6, 1)], axis=1)
    strap = Part(material="leather", strokes=((spiral, 0.45),), thickness_cm=3.2)
    buckle = Part(
        material="zinc_alloy",
        strokes=(
            (closed(rectangle(float(spiral[-1, 0]), float(spiral[-1, 1]), 4.2, 3.4, 0.6)), 0.5),
            (spiral[-1] + points((-2, 0), (2, 0)), 0.3),
        ),
        thickness_cm=0.4,
    )
    return strap, buckle


def hanger(rng: Rng) -> Item:
    """A wire coat hanger."""
    line = points((-18, 5), (0, -3), (18, 5), (-18, 5))
    wire = Part(material="steel", strokes=((line, 0.3), (arc(1.2, -5.4, 1.6, -3.6, 1.9), 0.3)), thickness_cm=0.25)
    return move_item((wire,), dy=rng.uniform(-1, 1))


def _blob(rng: Rng, radius_x: float, radius_y: float, roughness: float) -> Points:
    turn = np.linspace(0, 2 * math.pi, 11, endpoint=False)
    radius = 1 + rng.normal(0, roughness, 11)
    # A superellipse: folded things fill the corners of their box more than an ellipse does.
    x, y = np.cos(turn), np.sin(turn)
    corner = np.stack([np.sign(x) * np.abs(x) ** 0.6 * radius_x, np.sign(y) * np.abs(y) ** 0.6 * radius_y], axis=1)
    return smooth(corner * radius[:, None], 2)


def _wander(rng: Rng, start: Points, long: float) -> Points:
    steps = np.cumsum(rng.normal(rng.normal(0, 0.5, 2), 0.5, (6, 2)), axis=0)
    return smooth(start + steps * long / max(1.0, float(np.abs(steps[-1]).max())), 2, is_closed=False)


def _outline(line: Points, material: str, width_cm: float, thickness_cm: float) -> Part:
    return Part(material=material, strokes=((closed(line), width_cm),), thickness_cm=thickness_cm)
