"""Draw knives and scissors."""

import numpy as np

from pipelines.phantom.imaging.outlines import closed, ellipse, points, ramp, rectangle, revolved, ribbon, smooth
from pipelines.phantom.imaging.shapes import Item, centre_item, lines, map_points, move_item, solid

Rng = np.random.Generator


def kitchen_knife(rng: Rng) -> Item:
    """A cook's knife: a blade that thins from spine to edge, a full tang, riveted scales."""
    blade, high = rng.uniform(11, 22), rng.uniform(2.2, 4.6)
    handle = rng.uniform(9.5, 12.5)
    outline = smooth(
        points(
            (0, 0), (blade * 0.6, 0), (blade, high * 0.35), (blade * 0.9, high * 0.7), (blade * 0.6, high), (0.3, high)
        ),
        1,
    )
    steel = solid("stainless", ramp((0, 1), 0, high, rng.uniform(0.24, 0.36), 0.09), outline)
    return centre_item((steel, *_scales(rng, handle, high)))


def cleaver(rng: Rng) -> Item:
    """A broad chopping knife."""
    blade, high = rng.uniform(15, 19), rng.uniform(7, 9.5)
    outline = points((0, 0), (blade - 0.5, 0.2), (blade, 1.0), (blade - 0.2, high), (0.5, high * 0.97), (0, high * 0.6))
    steel = solid("stainless", ramp((0, 1), 0, high, rng.uniform(0.28, 0.4), 0.12), outline)
    return centre_item((steel, *_scales(rng, rng.uniform(10, 12), 2.8)))


def dagger(rng: Rng) -> Item:
    """A pointed knife with a guard and a metal grip."""
    blade, half = rng.uniform(12, 20), rng.uniform(1.1, 1.7)
    outline = points((0, -half), (blade * 0.7, -half * 0.9), (blade, 0), (blade * 0.7, half), (0, half))
    steel = solid("stainless", rng.uniform(0.24, 0.4), outline)
    ridge = solid("stainless", 0.2, points((0, -0.3), (blade * 0.9, 0), (0, 0.3)))
    guard = solid("steel", 1.1, rectangle(-0.3, 0, 0.8, half * 3.6, 0.3))
    grip = revolved("abs", (-11, -10, -0.6), (1.2, 1.4, 1.2))
    tang = solid("steel", 0.4, rectangle(-5.4, 0, 10.4, 1.0), ellipse(-11, 0, 1.1))
    return centre_item((steel, ridge, guard, grip, tang))


def folding_knife(rng: Rng) -> Item:
    """A clasp knife, opened part of the way: two liners with holes and a pivoted blade."""
    handle, high = rng.uniform(9.5, 12.5), rng.uniform(1.9, 2.7)
    outline = smooth(
        points(
            (-handle, -high / 2), (0.6, -high / 2), (0.9, high / 2), (-handle * 0.5, high * 0.4), (-handle, high / 2)
        ),
        2,
    )
    liners = solid(
        "steel", rng.uniform(0.2, 0.34), outline, holes=tuple(ellipse(-handle * at, 0, 0.28) for at in (0.3, 0.5, 0.7))
    )
    scales = solid("abs" if rng.random() < 0.5 else "aluminium", 0.6, outline)
    rivets = solid("steel", 1.0, ellipse(0, 0, 0.42), ellipse(-handle + 0.8, 0, 0.3))
    blade = handle * rng.uniform(0.82, 0.92)
    edge = smooth(points((-0.6, -0.7), (blade * 0.65, -0.8), (blade, 0.2), (blade * 0.7, 0.8), (-0.5, 0.7)), 1)
    steel = solid("stainless", ramp((0, 1), -0.8, 0.8, 0.34, 0.12), edge)
    return centre_item((liners, scales, rivets, *move_item((steel,), angle=rng.uniform(-1.1, 0.3))))


def butterfly_knife(rng: Rng) -> Item:
    """A balisong: a blade between two skeleton handles."""
    handle = rng.uniform(10, 13)
    arm = solid(
        "steel",
        rng.uniform(0.45, 0.7),
        rectangle(-handle / 2, 0, handle, 1.25, 0.4),
        holes=tuple(ellipse(-handle * at, 0, 0.36) for at in (0.2, 0.37, 0.54, 0.71, 0.86)),
    )
    blade = solid(
        "stainless",
        0.3,
        points((-0.8, -0.8), (handle * 0.55, -0.9), (handle * 0.9, 0.1), (handle * 0.6, 0.8), (-0.8, 0.8)),
    )
    spread = rng.uniform(0.05, 0.8)
    first = move_item((arm,), dy=-0.7, angle=spread)
    second = move_item((arm,), dy=0.7, angle=-rng.uniform(0.02, 0.5))
    pins = solid("steel", 1.0, ellipse(0, -0.7, 0.35), ellipse(0, 0.7, 0.35))
    return centre_item((blade, *first, *second, pins))


def household_scissors(rng: Rng) -> Item:
    """Pointed blades and plastic rings."""
    return _scissors(rng, blade=rng.uniform(7, 12), ring=rng.uniform(1.5, 2.2), material="abs", ring_thickness_cm=0.9)


def metal_scissors(rng: Rng) -> Item:
    """All of steel, rings as well."""
    return _scissors(
        rng, blade=rng.uniform(5, 11), ring=rng.uniform(1.3, 1.9), material="stainless", ring_thickness_cm=0.5
    )


def shears(rng: Rng) -> Item:
    """Tailor's shears: long broad blades, long oval rings."""
    return _scissors(rng, blade=rng.uniform(11, 14), ring=rng.uniform(2.1, 2.6), material="abs", ring_thickness_cm=1.2)


def _scales(rng: Rng, handle: float, high: float) -> Item:
    grip = smooth(
        points((0.2, 0), (-handle, -0.2), (-handle - 0.6, 2.4), (-handle + 1.2, 2.5), (-handle / 2, 2.1), (0, 2.4)), 2
    )
    grip = grip * [1, min(1.0, high / 2.6)]
    centre = grip.mean(axis=0)
    scales = solid(str(rng.choice(["wood", "abs", "polyethylene"])), rng.uniform(1.6, 2.2), grip)
    tang = solid("stainless", 0.2, centre + (grip - centre) * [0.96, 0.6])
    rivets = solid("brass", 1.6, *(ellipse(centre[0] + handle * at, centre[1], 0.32) for at in (-0.3, 0.0, 0.3)))
    return scales, tang, rivets


def _scissors(rng: Rng, *, blade: float, ring: float, material: str, ring_thickness_cm: float) -> Item:
    angle = rng.uniform(0.03, 0.75)
    wide = blade * rng.uniform(0.1, 0.15)
    shank = blade * rng.uniform(0.35, 0.6)
    edge = points((-0.8, -wide * 0.4), (0, wide), (blade * 0.6, wide * 0.8), (blade, 0.05), (0, -0.15))
    axis = smooth(points((0.4, 0.2), (-shank * 0.6, -0.5), (-shank, -ring * 0.55)), 2, is_closed=False)
    steel = solid("stainless", rng.uniform(0.22, 0.36), edge, ribbon(axis, np.linspace(wide * 0.75, 0.4, len(axis))))
    eye = ellipse(-shank - ring * 1.0, -ring * 0.95, ring * rng.uniform(1.1, 1.5), ring * 0.85)
    handle = lines(
        material, ring_thickness_cm, (closed(eye), 0.75 if material == "abs" else 0.5), (axis[len(axis) // 2 :], 0.8)
    )
    half = (steel, handle)
    other = map_points(half, lambda points: points * [1, -1])
    screw = solid("steel", 0.6, ellipse(0, 0, 0.42))
    return centre_item((*move_item(half, angle=angle / 2), *move_item(other, angle=-angle / 2), screw))
