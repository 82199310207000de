"""What do small metal things in a bag look like to the beam? Coins, keys, screwdrivers, nails."""

import math

import numpy as np

from pipelines.phantom.imaging.outlines import arc, closed, ellipse, points, rectangle, revolved
from pipelines.phantom.imaging.shapes import Item, Part, move_item

Rng = np.random.Generator


def coins(rng: Rng) -> Item:
    """Loose change: thin discs, overlapping."""
    discs = [
        Part(
            material="copper",
            outlines=(ellipse(rng.normal(0, 2.2), rng.normal(0, 2.2), rng.uniform(0.9, 1.3), num=20),),
            thickness_cm=0.19,
        )
        for _ in range(int(rng.integers(2, 8)))
    ]
    return tuple(discs)


def keys(rng: Rng) -> Item:
    """Keys on a ring."""
    ring = Part(material="steel", strokes=((closed(ellipse(0, 0, 1.5)), 0.25),), thickness_cm=0.25)
    parts: list[Part] = [ring]
    for _ in range(int(rng.integers(2, 6))):
        teeth = points(
            (2.2, -0.3),
            (5.4, -0.3),
            (5.8, 0),
            (5.4, 0.4),
            (4.9, 0.2),
            (4.4, 0.5),
            (3.9, 0.2),
            (3.4, 0.5),
            (2.9, 0.3),
            (2.2, 0.3),
        )
        key = Part(
            material="brass",
            outlines=(ellipse(1.6, 0, 1.1), teeth),
            holes=(ellipse(1.0, 0, 0.3, num=10),),
            thickness_cm=0.22,
        )
        parts.extend(move_item((key,), dx=0.6, angle=rng.uniform(-math.pi, math.pi)))
    return tuple(parts)


def screwdriver(rng: Rng) -> Item:
    """A screwdriver, or two."""
    parts: list[Part] = []
    for place in range(int(rng.integers(1, 3))):
        long = rng.uniform(8, 16)
        rod = revolved("steel", (0, long), (0.3, 0.3))
        grip = revolved("abs", (-9.5, -9, -2, 0), (1.1, 1.5, 1.5, 0.8))
        parts.extend(move_item((rod, grip), dx=-long / 2 + 4, dy=place * 3.0, angle=rng.normal(0, 0.2)))
    return tuple(parts)


def rods(rng: Rng) -> Item:
    """A bundle of wires, electrodes or long nails."""
    long = rng.uniform(10, 26)
    lines = []
    for _ in range(int(rng.integers(8, 26))):
        offset, lean = rng.normal(0, 1.3), rng.normal(0, 0.07)
        shift = rng.normal(0, long * 0.05)
        lines.append(
            (
                points((-long / 2 + shift, offset - lean * long), (long / 2 + shift, offset + lean * long)),
                rng.uniform(0.12, 0.3),
            )
        )
    half = len(lines) // 2
    return tuple(
        Part(material="steel", strokes=tuple(group), thickness_cm=0.16) for group in (lines[:half], lines[half:])
    )


def hex_keys(rng: Rng) -> Item:
    """Bent keys, sorted by size."""
    lines = tuple(
        (
            points((k * 1.1 - 3, -1.2 - k * 0.3), (k * 1.1 - 4, -2.0 - k * 0.3), (k * 1.1 - 3.4, 5 + k * 0.6))[1:],
            0.25 + 0.06 * k,
        )
        for k in range(5)
    )
    hooks = tuple(
        (points((k * 1.1 - 4, -2.0 - k * 0.3), (k * 1.1 - 2.6, -2.2 - k * 0.3)), 0.25 + 0.06 * k) for k in range(5)
    )
    return move_item((Part(material="steel", strokes=lines + hooks, thickness_cm=0.4),), angle=rng.normal(0, 0.3))


def sockets(rng: Rng) -> Item:
    """A row of nuts or sockets in a plastic case."""
    count, pitch = int(rng.integers(5, 11)), rng.uniform(1.7, 2.4)
    at = [(k - (count - 1) / 2) * pitch for k in range(count)]
    rings = Part(
        material="steel",
        outlines=tuple(ellipse(x, -2, pitch * 0.45) for x in at),
        holes=tuple(ellipse(x, -2, pitch * 0.2, num=6) for x in at),
        thickness_cm=rng.uniform(0.6, 1.4),
    )
    case = Part(material="polyethylene", outlines=(rectangle(0, 0, count * pitch + 1.4, 8, 0.8),), thickness_cm=0.4)
    rim = Part(
        material="polyethylene",
        strokes=((closed(rectangle(0, 0, count * pitch + 1.4, 8, 0.8)), 0.3),),
        thickness_cm=2.5,
    )
    bar = move_item((revolved("steel", (-count * pitch * 0.4, count * pitch * 0.3), (0.45, 0.45)),), dy=1.8)
    return rings, case, rim, *bar


def padlock(rng: Rng) -> Item:
    """A padlock."""
    body = Part(material="brass", outlines=(rectangle(0, 1.2, 3.4, 2.8, 0.3),), thickness_cm=rng.uniform(0.8, 1.3))
    bow = Part(
        material="steel",
        strokes=(
            (np.concatenate([points((-1.1, 0)), arc(0, -1.0, 1.1, math.pi, 2 * math.pi), points((1.1, 0))]), 0.5),
        ),
        thickness_cm=0.5,
    )
    return body, bow
