"""What do everyday things in a bag look like to the beam? Clothes, shoes, umbrellas, books."""

import math

import numpy as np

from pipelines.phantom.imaging.outlines import (
    arc,
    blob,
    closed,
    ellipse,
    points,
    rectangle,
    relief,
    revolved,
    ribbon,
    rim,
    smooth,
)
from pipelines.phantom.imaging.shapes import Item, Part, Points, move_item

Rng = np.random.Generator


def clothes(rng: Rng) -> Item:
    """Folded layers of cloth with creases."""
    width, height = rng.uniform(14, 30), rng.uniform(12, 24)
    parts = []
    for _ in range(int(rng.integers(1, 4))):
        outline = blob(rng, width * rng.uniform(0.3, 0.5), height * rng.uniform(0.3, 0.5), 0.14) + rng.normal(0, 2, 2)
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
    return block, cover, rim(page, "paper", 0.4, 1.0)


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
    upper = rim(sole * 0.96, "leather", 0.8, 4.0)
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


def _wander(rng: Rng, start: Points, long: float) -> Points:
    steps = np.cumsum(rng.normal(rng.normal(0, 0.5, 2), 0.5, (6, 2)), axis=0)
    return smooth(start + steps * long / max(1.0, float(np.abs(steps[-1]).max())), 2, is_closed=False)
