"""What do the six prohibited classes look like to the beam? Guns, knives, wrenches, pliers, scissors, hammers."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from pipelines.phantom.shapes import (
    Item,
    Part,
    Points,
    arc,
    closed,
    ellipse,
    map_points,
    move_item,
    points,
    ramp,
    rectangle,
    revolved,
    ribbon,
    smooth,
)

Rng = np.random.Generator
Maker = Callable[[Rng], Item]


def make_threat(name: str, rng: Rng) -> Item:
    """Return a random item of a class, centred about the origin; every subtype of the class is equally likely."""
    if name not in THREATS:
        raise ValueError(f"class must be one of {sorted(THREATS)}, got {name!r}")
    makers = THREATS[name]
    return makers[int(rng.integers(len(makers)))](rng)


def pistol(rng: Rng) -> Item:
    """A self-loading pistol: slide over a tube of a barrel, frame, guard, and a magazine in the grip."""
    length, slide_high = rng.uniform(15, 19.5), rng.uniform(2.3, 2.9)
    grip_long, slant = rng.uniform(7.5, 10), rng.uniform(0.8, 2.4)
    front = length / 2
    back = -front
    under = slide_high
    polymer = rng.random() < 0.4
    slide = Part(
        material="steel",
        outlines=(
            points((back, 0), (front - 0.4, 0), (front, 0.5), (front, under), (back + 0.3, under), (back, under - 0.6)),
        ),
        holes=(rectangle(length * 0.08, 0.75, 2.4, 0.8, 0.2),) if rng.random() < 0.6 else (),
        thickness_cm=rng.uniform(0.4, 0.8),
    )
    barrel = move_item((revolved("steel", (back + 5, front + 0.2), (0.75, 0.75), (0.45, 0.45)),), dy=slide_high * 0.42)
    frame_outline = points(
        (back + 0.6, under), (front - 1.2, under), (front - 1.4, under + 1.1), (back + 8.6, under + 1.3),
        (back + 5.6, under + 1.5), (back + 0.4, under + 1.3),
    )  # fmt: skip
    frame = Part(
        material="abs" if polymer else "aluminium",
        outlines=(frame_outline,),
        thickness_cm=1.6 if polymer else 1.2,
    )
    grip_outline = points(
        (back + 0.3, under + 0.6), (back + 5.4, under + 0.8), (back + 5.0 - slant, under + grip_long),
        (back - slant, under + grip_long + 0.2), (back - 0.1, under + 2.6),
    )  # fmt: skip
    centre = grip_outline.mean(axis=0)
    magazine = Part(
        material="steel",
        outlines=(centre + (grip_outline - centre) * [0.66, 0.96],),
        thickness_cm=rng.uniform(0.4, 0.9),
    )
    grip = Part(material="abs" if polymer else "wood", outlines=(smooth(grip_outline, 1),), thickness_cm=2.4)
    shell = Part(material="steel", strokes=((closed(grip_outline), 0.45),), thickness_cm=0.5)
    guard = points(
        (back + 9.2, under + 1.1), (back + 9.3, under + 2.6), (back + 8.4, under + 3.7), (back + 6.2, under + 3.7),
        (back + 5.0, under + 2.8),
    )  # fmt: skip
    trigger = points((back + 7.1, under + 1.2), (back + 6.7, under + 2.2), (back + 7.2, under + 3.0))
    fittings = Part(
        material="steel",
        outlines=(
            rectangle(front - 0.7, -0.2, 0.6, 0.5),
            rectangle(back + 0.7, -0.2, 0.9, 0.5),
            points((back, 0.6), (back - 0.9, 0.2), (back - 0.7, 1.1), (back, 1.9)),
        ),
        strokes=((smooth(guard, 2, is_closed=False), 0.45), (trigger, 0.5)),
        thickness_cm=0.7,
    )
    return _centre((slide, *barrel, frame, grip, magazine, shell, fittings))


def luger(rng: Rng) -> Item:
    """A pistol with a bare barrel and a raked grip."""
    length = rng.uniform(9, 13)
    barrel = revolved("steel", (4, 5, length + 3, length + 4), (1.0, 0.85, 0.7, 0.95), (0.4, 0.4, 0.4, 0.4))
    receiver = Part(
        material="steel",
        outlines=(points((-7, -1.2), (-5, -1.6), (4.2, -1.3), (4.4, 1.3), (0.5, 1.8), (-5.5, 1.9), (-7.4, 0.4)),),
        holes=(rectangle(0.6, -0.5, 2.0, 0.6),),
        thickness_cm=rng.uniform(0.45, 0.9),
    )
    toggle = Part(material="steel", outlines=(ellipse(-3.2, -1.5, 1.1), ellipse(-6.4, -0.6, 0.8)), thickness_cm=0.9)
    grip_outline = points((-6.6, 1.2), (-1.6, 1.6), (-4.4, 10.5), (-8.8, 10.2), (-8.2, 8), (-6.8, 4))
    centre = grip_outline.mean(axis=0)
    grip = Part(material="wood", outlines=(smooth(grip_outline, 1),), thickness_cm=2.6)
    magazine = Part(material="steel", outlines=(centre + (grip_outline - centre) * 0.72,), thickness_cm=0.5)
    rim = Part(
        material="steel",
        outlines=(ellipse(length + 3.4, -1.0, 0.5, 0.5),),
        strokes=(
            (closed(grip_outline), 0.4),
            (arc(0.3, 2.9, 1.7, -0.9, 3.5), 0.42),
            (points((0.2, 1.6), (0.0, 3.6)), 0.4),
        ),
        thickness_cm=0.8,
    )
    return _centre((barrel, receiver, toggle, grip, magazine, rim))


def revolver(rng: Rng) -> Item:
    """A revolver: barrel over an ejector rod, a cylinder with its chambers, a bent grip."""
    barrel_long = rng.uniform(4.5, 12)
    barrel = revolved("steel", (2.6, 2.6 + barrel_long), (0.9, 0.78), (0.45, 0.45))
    rod = move_item((revolved("steel", (2.6, 2.6 + barrel_long * 0.7), (0.4, 0.4)),), dy=1.25)
    drum = move_item((revolved("steel", (-1.9, -1.7, 1.7, 1.9), (1.6, 1.9, 1.9, 1.5), (1.4, 1.4, 1.4, 1.2)),), dy=0.7)
    chambers = Part(
        material="brass",
        outlines=tuple(rectangle(0.1, 0.7 + offset, 3.0, 0.7) for offset in (-1.25, -0.1, 1.2)),
        thickness_cm=0.35,
    )
    frame = Part(
        material="steel",
        outlines=(
            points(
                (-4.6, -0.9),
                (2.7, -1.2),
                (2.7, -0.7),
                (-1.9, -0.5),
                (-1.9, 2.4),
                (2.6, 2.2),
                (2.6, 2.9),
                (-3.2, 3.2),
                (-4.4, 1.8),
            ),
            points((-4.4, -0.8), (-5.8, -1.7), (-6.1, -1.2), (-4.9, 0.4)),
            rectangle(2.2 + barrel_long, -1.1, 0.9, 0.6),
        ),
        strokes=((arc(-0.6, 3.6, 1.6, -0.4, 3.4), 0.45), (points((-0.6, 3.0), (-0.9, 4.6)), 0.45)),
        thickness_cm=rng.uniform(0.45, 0.8),
    )
    grip_outline = smooth(
        points((-4.5, 0.2), (-2.6, 2.8), (-3.6, 5.4), (-4.6, 8.8), (-8.0, 9.2), (-7.4, 6.0), (-6.0, 2.6)), 2
    )
    grip = Part(material="wood" if rng.random() < 0.5 else "rubber", outlines=(grip_outline,), thickness_cm=2.8)
    strap = Part(material="steel", strokes=((closed(grip_outline), 0.35),), thickness_cm=0.8)
    return _centre((barrel, *rod, *drum, chambers, frame, grip, strap))


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
    steel = Part(
        material="stainless", outlines=(outline,), thickness_cm=ramp((0, 1), 0, high, rng.uniform(0.24, 0.36), 0.09)
    )
    return _centre((steel, *_scales(rng, handle, high)))


def cleaver(rng: Rng) -> Item:
    """A broad chopping knife."""
    blade, high = rng.uniform(15, 19), rng.uniform(7, 9.5)
    outline = points((0, 0), (blade - 0.5, 0.2), (blade, 1.0), (blade - 0.2, high), (0.5, high * 0.97), (0, high * 0.6))
    steel = Part(
        material="stainless", outlines=(outline,), thickness_cm=ramp((0, 1), 0, high, rng.uniform(0.28, 0.4), 0.12)
    )
    return _centre((steel, *_scales(rng, rng.uniform(10, 12), 2.8)))


def dagger(rng: Rng) -> Item:
    """A pointed knife with a guard and a metal grip."""
    blade, half = rng.uniform(12, 20), rng.uniform(1.1, 1.7)
    outline = points((0, -half), (blade * 0.7, -half * 0.9), (blade, 0), (blade * 0.7, half), (0, half))
    steel = Part(material="stainless", outlines=(outline,), thickness_cm=rng.uniform(0.24, 0.4))
    ridge = Part(material="stainless", outlines=(points((0, -0.3), (blade * 0.9, 0), (0, 0.3)),), thickness_cm=0.2)
    guard = Part(material="steel", outlines=(rectangle(-0.3, 0, 0.8, half * 3.6, 0.3),), thickness_cm=1.1)
    grip = revolved("abs", (-11, -10, -0.6), (1.2, 1.4, 1.2))
    tang = Part(material="steel", outlines=(rectangle(-5.4, 0, 10.4, 1.0), ellipse(-11, 0, 1.1)), thickness_cm=0.4)
    return _centre((steel, ridge, guard, grip, tang))


def folding_knife(rng: Rng) -> Item:
    """A clasp knife, opened part of the way: two liners with holes and a pivoted blade."""
    handle, high = rng.uniform(9.5, 12.5), rng.uniform(1.9, 2.7)
    outline = smooth(
        points(
            (-handle, -high / 2), (0.6, -high / 2), (0.9, high / 2), (-handle * 0.5, high * 0.4), (-handle, high / 2)
        ),
        2,
    )
    liners = Part(
        material="steel",
        outlines=(outline,),
        holes=tuple(ellipse(-handle * at, 0, 0.28) for at in (0.3, 0.5, 0.7)),
        thickness_cm=rng.uniform(0.2, 0.34),
    )
    scales = Part(material="abs" if rng.random() < 0.5 else "aluminium", outlines=(outline,), thickness_cm=0.6)
    rivets = Part(material="steel", outlines=(ellipse(0, 0, 0.42), ellipse(-handle + 0.8, 0, 0.3)), thickness_cm=1.0)
    blade = handle * rng.uniform(0.82, 0.92)
    edge = smooth(points((-0.6, -0.7), (blade * 0.65, -0.8), (blade, 0.2), (blade * 0.7, 0.8), (-0.5, 0.7)), 1)
    steel = Part(material="stainless", outlines=(edge,), thickness_cm=ramp((0, 1), -0.8, 0.8, 0.34, 0.12))
    return _centre((liners, scales, rivets, *move_item((steel,), angle=rng.uniform(-1.1, 0.3))))


def butterfly_knife(rng: Rng) -> Item:
    """A balisong: a blade between two skeleton handles."""
    handle = rng.uniform(10, 13)
    arm = Part(
        material="steel",
        outlines=(rectangle(-handle / 2, 0, handle, 1.25, 0.4),),
        holes=tuple(ellipse(-handle * at, 0, 0.36) for at in (0.2, 0.37, 0.54, 0.71, 0.86)),
        thickness_cm=rng.uniform(0.45, 0.7),
    )
    blade = Part(
        material="stainless",
        outlines=(points((-0.8, -0.8), (handle * 0.55, -0.9), (handle * 0.9, 0.1), (handle * 0.6, 0.8), (-0.8, 0.8)),),
        thickness_cm=0.3,
    )
    spread = rng.uniform(0.05, 0.8)
    first = move_item((arm,), dy=-0.7, angle=spread)
    second = move_item((arm,), dy=0.7, angle=-rng.uniform(0.02, 0.5))
    pins = Part(material="steel", outlines=(ellipse(0, -0.7, 0.35), ellipse(0, 0.7, 0.35)), thickness_cm=1.0)
    return _centre((blade, *first, *second, pins))


def open_end_wrench(rng: Rng) -> Item:
    """A spanner with a jaw at both ends, turned by fifteen degrees."""
    length, head = rng.uniform(12, 22), rng.uniform(1.2, 1.9)
    shaft = _shaft(rng, length, head * 0.5)
    jaws = [_open_jaw(head), _open_jaw(head * rng.uniform(0.85, 1.0))]
    ends = (
        move_item((jaws[0],), dx=length / 2, angle=-0.26),
        move_item((jaws[1],), dx=-length / 2, angle=math.pi - 0.26),
    )
    return (shaft, *ends[0], *ends[1])


def combination_wrench(rng: Rng) -> Item:
    """A spanner with a jaw at one end and a ring at the other."""
    length, head = rng.uniform(13, 23), rng.uniform(1.2, 1.8)
    ring = Part(
        material="steel",
        outlines=(ellipse(-length / 2, 0, head * 0.95),),
        holes=(ellipse(-length / 2, 0, head * 0.58, num=12),),
        thickness_cm=0.6,
    )
    return (_shaft(rng, length, head * 0.48), *move_item((_open_jaw(head),), dx=length / 2, angle=-0.26), ring)


def ring_wrench(rng: Rng) -> Item:
    """A spanner with rings at both ends."""
    length, head = rng.uniform(13, 23), rng.uniform(1.2, 1.8)
    rings = tuple(
        Part(
            material="steel",
            outlines=(ellipse(side * length / 2, 0, radius),),
            holes=(ellipse(side * length / 2, 0, radius * 0.62, num=12),),
            thickness_cm=0.6,
        )
        for side, radius in ((-1, head), (1, head * 0.85))
    )
    return (_shaft(rng, length, head * 0.5), *rings)


def adjustable_wrench(rng: Rng) -> Item:
    """A spanner with a sliding jaw, a worm screw and a hole in its handle."""
    length, gap = rng.uniform(14, 24), rng.uniform(0.6, 2.0)
    size = length / 20
    axis = points((0, 0), (-length * 0.3, 0), (-length * 0.6, 0), (-length * 0.8, 0))
    handle = Part(
        material="steel",
        outlines=(
            ribbon(axis, [1.0 * size, 0.95 * size, 1.2 * size, 1.35 * size]),
            ellipse(-length * 0.8, 0, 1.35 * size),
        ),
        holes=(ellipse(-length * 0.81, 0, 0.65 * size),),
        thickness_cm=rng.uniform(0.35, 0.6),
    )
    fixed = Part(
        material="steel",
        outlines=(
            points(
                (-1.2, -1.0), (0.4, -2.7), (2.6, -2.6), (4.2, -1.4), (3.8, -0.9), (1.6, -0.7), (1.4, 1.6), (-0.6, 1.7)
            )
            * size,
        ),
        thickness_cm=1.2,
    )
    sliding = Part(
        material="steel",
        outlines=(points((0.9, 0.3), (4.0, 0.5), (3.9, 1.2), (2.4, 1.8), (1.0, 1.6)) * size + [0, (gap - 0.9) * size],),
        thickness_cm=1.1,
    )
    worm = Part(
        material="steel", outlines=(rectangle(0.1 * size, 0.9 * size, 0.9 * size, 1.5 * size, 0.2),), thickness_cm=0.9
    )
    return _centre(move_item((handle, fixed, sliding, worm), angle=rng.uniform(-0.2, 0.2)))


def combination_pliers(rng: Rng) -> Item:
    """Flat jaws with a burner hole, cutters at the joint, sleeved handles."""
    size = rng.uniform(0.85, 1.15)
    jaw = points(
        (-1.6, 0.9),
        (0.4, 1.3),
        (2.4, 1.15),
        (4.4, 0.9),
        (4.6, 0.08),
        (2.8, 0.1),
        (2.2, 0.4),
        (1.4, 0.1),
        (0, -0.6),
        (-1.6, -0.6),
    )
    return _pliers(rng, jaw * size, size, sleeved=rng.random() < 0.85)


def needle_nose_pliers(rng: Rng) -> Item:
    """Long thin jaws."""
    size = rng.uniform(0.8, 1.1)
    jaw = points((-1.5, 0.8), (0.4, 1.1), (2.2, 0.8), (6.6, 0.35), (6.7, 0.05), (1.6, 0.08), (0, -0.5), (-1.5, -0.6))
    return _pliers(rng, jaw * size, size * 0.95, sleeved=rng.random() < 0.9)


def cutting_pliers(rng: Rng) -> Item:
    """Short, broad, round cutting jaws."""
    size = rng.uniform(0.85, 1.1)
    jaw = smooth(
        points((-1.4, 1.0), (0.4, 1.6), (2.0, 1.5), (2.9, 0.5), (2.6, 0.05), (0.9, 0.12), (0, -0.6), (-1.4, -0.6)), 1
    )
    return _pliers(rng, jaw * size, size, sleeved=rng.random() < 0.9)


def slip_joint_pliers(rng: Rng) -> Item:
    """Water-pump pliers: angled jaws and long bare or dipped handles."""
    size = rng.uniform(1.0, 1.3)
    jaw = points(
        (-1.8, 0.8), (0.6, 1.8), (2.6, 2.6), (4.2, 2.3), (4.4, 1.7), (2.6, 0.7), (1.2, 0.1), (0, -0.7), (-1.8, -0.6)
    )
    return _pliers(rng, jaw * size * 0.85, size, sleeved=rng.random() < 0.5)


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


def claw_hammer(rng: Rng) -> Item:
    """A steel head with a face and a claw on a wooden or sleeved steel handle."""
    head = Part(
        material="steel",
        outlines=(
            points(
                (-1.4, -5.4),
                (1.4, -5.4),
                (1.4, -3.8),
                (1.1, -3.0),
                (1.5, -1.2),
                (1.5, 1.4),
                (0.8, 3.6),
                (-1.0, 6.2),
                (-1.5, 6.0),
                (-0.9, 3.0),
                (-1.5, 1.2),
                (-1.5, -1.2),
                (-1.1, -3.0),
                (-1.4, -3.8),
            ),
        ),
        thickness_cm=rng.uniform(2.0, 2.6),
    )
    return _centre((*_hammer_handle(rng), head))


def ball_hammer(rng: Rng) -> Item:
    """A machinist's hammer: a flat face and a ball."""
    body = Part(
        material="steel", outlines=(rectangle(0, 0, 2.8, 4.6, 0.4), rectangle(0, -3.6, 2.9, 2.0, 0.3)), thickness_cm=2.4
    )
    ball = Part(material="steel", outlines=(ellipse(0, 3.4, 1.4), rectangle(0, 2.4, 1.6, 1.4)), thickness_cm=2.0)
    return _centre((*_hammer_handle(rng), body, ball))


def mallet(rng: Rng) -> Item:
    """A club hammer with a square head."""
    head = Part(material="steel", outlines=(rectangle(0, 0, 3.8, rng.uniform(7.5, 10), 0.5),), thickness_cm=3.4)
    return _centre((*_hammer_handle(rng), head))


THREATS: Mapping[str, tuple[Maker, ...]] = {
    "Gun": (pistol, pistol, luger, revolver, revolver),
    "Knife": (kitchen_knife, kitchen_knife, cleaver, dagger, folding_knife, butterfly_knife),
    "Wrench": (open_end_wrench, combination_wrench, ring_wrench, adjustable_wrench),
    "Pliers": (combination_pliers, needle_nose_pliers, cutting_pliers, slip_joint_pliers),
    "Scissors": (household_scissors, metal_scissors, shears),
    "Hammer": (claw_hammer, ball_hammer, mallet),
}
"""Subtypes of each class; one named twice is twice as likely."""


def _scales(rng: Rng, handle: float, high: float) -> Item:
    grip = smooth(
        points((0.2, 0), (-handle, -0.2), (-handle - 0.6, 2.4), (-handle + 1.2, 2.5), (-handle / 2, 2.1), (0, 2.4)), 2
    )
    grip = grip * [1, min(1.0, high / 2.6)]
    centre = grip.mean(axis=0)
    scales = Part(
        material=str(rng.choice(["wood", "abs", "polyethylene"])), outlines=(grip,), thickness_cm=rng.uniform(1.6, 2.2)
    )
    tang = Part(material="stainless", outlines=(centre + (grip - centre) * [0.96, 0.6],), thickness_cm=0.2)
    rivets = Part(
        material="brass",
        outlines=tuple(ellipse(centre[0] + handle * at, centre[1], 0.32) for at in (-0.3, 0.0, 0.3)),
        thickness_cm=1.6,
    )
    return scales, tang, rivets


def _shaft(rng: Rng, length: float, half: float) -> Part:
    axis = np.stack([np.linspace(-length / 2, length / 2, 5), np.zeros(5)], axis=1)
    outline = ribbon(axis, np.array([1.15, 0.95, 0.85, 0.95, 1.15]) * half)
    return Part(material="steel", outlines=(outline,), thickness_cm=rng.uniform(0.28, 0.5))


def _open_jaw(head: float) -> Part:
    outline = points(
        (-1.0, -0.7), (-0.2, -1.1), (0.8, -1.05), (1.5, -0.85), (1.55, -0.5), (0.2, -0.5), (-0.15, 0), (0.2, 0.5),
        (1.55, 0.5), (1.5, 0.85), (0.8, 1.05), (-0.2, 1.1), (-1.0, 0.7),
    )  # fmt: skip
    return Part(material="steel", outlines=(outline * head,), thickness_cm=0.6)


def _pliers(rng: Rng, jaw: Points, size: float, *, sleeved: bool) -> Item:
    open_angle = rng.uniform(0.02, 0.38)
    long, bow = rng.uniform(9.5, 13.5) * size, rng.uniform(1.6, 2.5) * size
    # The half whose jaw is above the axis has its handle below: they cross at the joint.
    axis = smooth(
        points((-0.6, 0.1), (-2.2, -0.7 * size), (-4.5, -bow), (-long * 0.75, -bow * 0.95), (-long, -bow * 0.72)),
        2,
        is_closed=False,
    )
    half_widths = np.interp(np.linspace(0, 1, len(axis)), [0, 0.3, 1], [0.8, 0.5, 0.42]) * size
    arm = Part(material="steel", outlines=(jaw, ribbon(axis, half_widths)), thickness_cm=rng.uniform(0.35, 0.6))
    half: Item = (arm,)
    if sleeved:
        sleeve = ribbon(axis[len(axis) // 3 :], np.full(len(axis) - len(axis) // 3, 0.75 * size))
        half = (arm, Part(material=str(rng.choice(["pvc", "abs", "rubber"])), outlines=(sleeve,), thickness_cm=0.7))
    other = map_points(half, lambda points: points * [1, -1])
    joint = Part(material="steel", outlines=(ellipse(0, 0, 1.05 * size), ellipse(0, 0, 0.5 * size)), thickness_cm=0.6)
    return _centre((*move_item(half, angle=open_angle / 2), *move_item(other, angle=-open_angle / 2), joint))


def _scissors(rng: Rng, *, blade: float, ring: float, material: str, ring_thickness_cm: float) -> Item:
    angle = rng.uniform(0.03, 0.75)
    wide = blade * rng.uniform(0.1, 0.15)
    shank = blade * rng.uniform(0.35, 0.6)
    edge = points((-0.8, -wide * 0.4), (0, wide), (blade * 0.6, wide * 0.8), (blade, 0.05), (0, -0.15))
    axis = smooth(points((0.4, 0.2), (-shank * 0.6, -0.5), (-shank, -ring * 0.55)), 2, is_closed=False)
    steel = Part(
        material="stainless",
        outlines=(edge, ribbon(axis, np.linspace(wide * 0.75, 0.4, len(axis)))),
        thickness_cm=rng.uniform(0.22, 0.36),
    )
    eye = ellipse(-shank - ring * 1.0, -ring * 0.95, ring * rng.uniform(1.1, 1.5), ring * 0.85)
    handle = Part(
        material=material,
        strokes=((closed(eye), 0.75 if material == "abs" else 0.5), (axis[len(axis) // 2 :], 0.8)),
        thickness_cm=ring_thickness_cm,
    )
    half = (steel, handle)
    other = map_points(half, lambda points: points * [1, -1])
    screw = Part(material="steel", outlines=(ellipse(0, 0, 0.42),), thickness_cm=0.6)
    return _centre((*move_item(half, angle=angle / 2), *move_item(other, angle=-angle / 2), screw))


def _hammer_handle(rng: Rng) -> Item:
    long = rng.uniform(20, 30)
    if rng.random() < 0.5:
        return (revolved("wood", (0, long * 0.5, long * 0.75, long), (1.0, 1.1, 1.6, 1.5)),)
    tube = revolved("steel", (0, long), (0.9, 0.9), (0.65, 0.65))
    return tube, revolved("rubber", (long * 0.5, long * 0.55, long), (1.2, 1.6, 1.6), (0.9, 0.9, 0.9))


def _centre(item: Item) -> Item:
    vertices = np.concatenate(
        [line for part in item for line in (*part.outlines, *(stroke for stroke, _ in part.strokes))]
    )
    x, y = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    return move_item(item, dx=-float(x), dy=-float(y))
