"""Draw empty bags: suitcases, backpacks, briefcases, handbags, boxes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from pipelines.phantom.imaging.outlines import closed, ellipse, points, polygon, rectangle, smooth
from pipelines.phantom.imaging.shapes import Item, Points, lines, map_points, solid
from pipelines.phantom.items.fittings import (
    loosen,
    make_creases,
    make_pocket,
    make_pulls,
    make_screws,
    make_strap,
    make_telescope,
    make_walls,
    make_wheels,
    make_zip,
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
    """Return a random empty bag, slightly distorted; most are suitcases and backpacks."""
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
    shell = make_walls(rng, outline, "abs" if hard else "coated_fabric", 0.35 if hard else 0.2)
    frame_material, frame_width = ("steel", 0.28) if rng.random() < 0.6 else ("aluminium", 0.8)
    frames = lines(frame_material, 0.55, (closed(outline * 0.985), frame_width), (closed(back), frame_width))
    piping = lines("pvc", 0.9, *((closed(loosen(rng, outline * scale, 0.15)), 0.4) for scale in (1.0, 0.955)))
    parts = [*shell, frames, piping, *make_telescope(rng, length, width), *make_wheels(rng, length, width)]
    parts += [
        *make_creases(rng, length, width, 18),
        *make_zip(rng, outline * 0.97),
        *make_screws(rng, length, width, 14),
        *make_pocket(rng, length, width),
    ]
    return Bag(tuple(parts), length, width, 0.84, 1.2)


def backpack(rng: Rng) -> Bag:
    """A backpack: soft outline, straps with buckles, pockets, several zips."""
    length, width = rng.uniform(42, 56), rng.uniform(30, 40)
    outline = _soft_outline(rng, length, width)
    shell = make_walls(rng, outline, "coated_fabric", rng.uniform(0.08, 0.24))
    straps = [
        make_strap(
            rng, (-length * 0.46, side * width * 0.25), rng.uniform(10, 24), math.pi + side * rng.uniform(-0.6, 1.0)
        )
        for side in (-1, 1)
    ]
    seams = lines(
        "nylon", 0.9, *((closed(outline * scale + rng.normal(0, 0.3, 2)), 0.4) for scale in (1.0, 0.93, 0.88))
    )
    parts = [*shell, seams, *(part for strap in straps for part in strap)]
    parts += [
        *make_zip(rng, outline * 0.95),
        *make_zip(rng, outline * [0.5, 0.8] + [length * 0.2, 0]),
        *make_pocket(rng, length, width),
    ]
    parts += [*make_creases(rng, length, width, 26), *make_pulls(rng, length, width, int(rng.integers(4, 9)))]
    return Bag(tuple(parts), length, width, 0.78, 1.0)


def handbag(rng: Rng) -> Bag:
    """A handbag: leather, lining, rings, a chain or a handle."""
    length, width = rng.uniform(26, 40), rng.uniform(20, 30)
    outline = _soft_outline(rng, length, width)
    shell = make_walls(rng, outline, "leather", rng.uniform(0.1, 0.3))
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
    grip = lines("leather", 0.7, (handle, 1.3), (handle * [0.85, 0.95], 1.3))
    rings = lines(
        "zinc_alloy", 0.35, *((closed(ellipse(side * length * 0.25, -width * 0.45, 1.2)), 0.4) for side in (-1, 1))
    )
    parts = [
        *shell,
        grip,
        rings,
        *make_zip(rng, outline * 0.9),
        *make_creases(rng, length, width, 10),
        *make_pulls(rng, length, width, 5),
    ]
    return Bag(tuple(parts), length, width, 0.76, 0.8)


def briefcase(rng: Rng) -> Bag:
    """A case for a computer: padded walls, double zip, a handle."""
    length, width = rng.uniform(36, 46), rng.uniform(27, 34)
    outline = rectangle(0, 0, length, width, rng.uniform(2, 4))
    shell = make_walls(rng, outline, "coated_fabric", rng.uniform(0.1, 0.3))
    frames = lines(
        "steel", 0.12, (closed(outline * 0.97), 0.25), (closed(outline * 0.93 + rng.normal(0, 0.6, 2)), 0.25)
    )
    handle = points((-6, -width / 2), (-5.4, -width / 2 - 3.4), (5.4, -width / 2 - 3.4), (6, -width / 2))
    grip = lines("rubber", 1.0, (smooth(handle, 2, is_closed=False), 1.5))
    parts = [
        *shell,
        frames,
        grip,
        *make_zip(rng, outline * 0.95),
        *make_pocket(rng, length, width),
        *make_pulls(rng, length, width, 6),
        *make_creases(rng, length, width, 6),
    ]
    return Bag(tuple(parts), length, width, 0.82, 0.9)


def duffel(rng: Rng) -> Bag:
    """A travel bag: crumpled cloth, webbing, buckles."""
    length, width = rng.uniform(40, 58), rng.uniform(25, 34)
    outline = _soft_outline(rng, length, width)
    shell = make_walls(rng, outline, "nylon", rng.uniform(0.08, 0.2))
    webbing = lines(
        "nylon",
        0.35,
        *((points((side * length * 0.2, -width / 2), (side * length * 0.22, width / 2)), 3.0) for side in (-1, 1)),
    )
    strap = make_strap(rng, (length * 0.45, 0.0), rng.uniform(14, 26), rng.uniform(-1, 1))
    parts = [
        *shell,
        webbing,
        *strap,
        *make_zip(rng, outline * [0.95, 0.25]),
        *make_creases(rng, length, width, 26),
        *make_pulls(rng, length, width, 5),
    ]
    return Bag(tuple(parts), length, width, 0.8, 1.2)


def plastic_bag(rng: Rng) -> Bag:
    """A carrier bag: next to nothing but wrinkles."""
    length, width = rng.uniform(26, 42), rng.uniform(22, 34)
    outline = _soft_outline(rng, length, width)
    shell = make_walls(rng, outline, "polyethylene", 0.05)
    return Bag((*shell, *make_creases(rng, length, width, 34)), length, width, 0.72, 0.8)


def box(rng: Rng) -> Bag:
    """A carton in perspective, taped."""
    length, width = rng.uniform(28, 50), rng.uniform(22, 38)
    front = rectangle(0, 0, length, width)
    back = front * 0.93 + rng.uniform(-1.5, 1.5, 2)
    wall = solid("paper", rng.uniform(0.2, 0.4), front)
    edges = [(closed(front), 0.5), (closed(back), 0.5)] + [(np.stack([front[k], back[k]]), 0.4) for k in range(4)]
    tape = solid("polyethylene", 0.06, rectangle(0, 0, length, 5))
    return Bag((wall, lines("paper", 2.2, *edges), tape), length, width, 0.86, 1.0)


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


def _soft_outline(rng: Rng, length: float, width: float) -> Points:
    corners = polygon("-0.5,-0.32 -0.36,-0.5 0,-0.5 0.38,-0.48 0.5,-0.3 0.5,0.3 0.38,0.48 0,0.5 -0.36,0.5 -0.5,0.32")
    return smooth((corners + rng.normal(0, 0.04, corners.shape)) * [length, width], 2)


def _warp(rng: Rng, bag: Bag) -> Item:
    # Perspective and bulging sides: no bag on a belt is a rectangle.
    lean_x, lean_y, skew = rng.normal(0, [0.05, 0.05, 0.04])
    bulge, wave, phase = rng.normal(0, 0.012), rng.normal(0, 0.008), rng.uniform(0, 2 * math.pi)

    def bend(points: Points) -> Points:
        x, y = points[:, 0] * 2 / bag.length_cm, points[:, 1] * 2 / bag.width_cm
        bent_x = x * (1 + lean_x * y) + skew * y + bulge * x * (1 - y * y) + wave * np.sin(5 * y + phase)
        bent_y = y * (1 + lean_y * x) + bulge * y * (1 - x * x) + wave * np.sin(5 * x + phase)
        return np.stack([bent_x * bag.length_cm / 2, bent_y * bag.width_cm / 2], axis=1)

    return map_points(bag.item, bend)
