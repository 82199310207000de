"""What do food and drink in a bag look like to the beam? Bottles, cans, fruit, packets."""

import numpy as np

from pipelines.phantom.imaging.outlines import (
    blob,
    closed,
    ellipse,
    ellipsoid,
    points,
    rectangle,
    relief,
    revolved,
    rim,
    smooth,
)
from pipelines.phantom.imaging.shapes import Item, Part, move_item

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
    return food, box, rim(rectangle(0, 0, columns * pitch + 1, rows * pitch + 1), "paper", 0.3, 1.5)


def grain_sack(rng: Rng) -> Item:
    """A lumpy bag of rice, powder or vegetables."""
    outline = blob(rng, rng.uniform(6, 12), rng.uniform(5, 9), 0.18)
    return (Part(material="food", outlines=(outline,), thickness_cm=rng.uniform(1.5, 4), relief=relief(rng, 14, 0.3)),)


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
    return filling, Part(material="paper", outlines=(wall,), thickness_cm=0.2), rim(wall, "paper", 0.3, 2.0)


def toiletries(rng: Rng) -> Item:
    """A tube, a small bottle and a jar side by side."""
    parts: list[Part] = []
    for place in range(int(rng.integers(2, 5))):
        long, radius = rng.uniform(6, 14), rng.uniform(0.8, 2.0)
        body = revolved("lotion", (0, 0.4, long * 0.8, long), (radius * 0.9, radius, radius * 0.9, radius * 0.5))
        cap = revolved("abs", (long, long + 1.6), (radius * 0.6, radius * 0.6), (radius * 0.4, radius * 0.4))
        parts.extend(move_item((body, cap), dx=-long / 2, dy=(place - 1.5) * 3.4, angle=rng.normal(0, 0.25)))
    return tuple(parts)
