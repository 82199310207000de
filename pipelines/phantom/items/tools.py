"""Draw wrenches, pliers and hammers."""

import math

import numpy as np

from pipelines.phantom.imaging.outlines import ellipse, points, polygon, rectangle, revolved, ribbon, smooth
from pipelines.phantom.imaging.shapes import Item, Part, Points, centre_item, map_points, move_item, solid

Rng = np.random.Generator


def open_end_wrench(rng: Rng) -> Item:
    """A spanner with a jaw at both ends, turned by fifteen degrees."""
    length, head = rng.uniform(12, 22), rng.uniform(1.2, 1.9)
    shaft = _shaft(rng, length, head * 0.5)
    jaws = [_open_jaw(head), _open_jaw(head * rng.uniform(0.85, 1.0))]
    ends = (
        move_item((jaws[0],), dx=length / 2, angle=-0.26),
        move_item((jaws[1],), dx=-length / 2, angle=math.pi - 0.26),
    )
    return shaft, *ends[0], *ends[1]


def combination_wrench(rng: Rng) -> Item:
    """A spanner with a jaw at one end and a ring at the other."""
    length, head = rng.uniform(13, 23), rng.uniform(1.2, 1.8)
    ring = solid(
        "steel", 0.6, ellipse(-length / 2, 0, head * 0.95), holes=(ellipse(-length / 2, 0, head * 0.58, num=12),)
    )
    return _shaft(rng, length, head * 0.48), *move_item((_open_jaw(head),), dx=length / 2, angle=-0.26), ring


def ring_wrench(rng: Rng) -> Item:
    """A spanner with rings at both ends."""
    length, head = rng.uniform(13, 23), rng.uniform(1.2, 1.8)
    rings = tuple(
        (
            solid(
                "steel",
                0.6,
                ellipse(side * length / 2, 0, radius),
                holes=(ellipse(side * length / 2, 0, radius * 0.62, num=12),),
            )
            for side, radius in ((-1, head), (1, head * 0.85))
        )
    )
    return _shaft(rng, length, head * 0.5), *rings


def adjustable_wrench(rng: Rng) -> Item:
    """A spanner with a sliding jaw, a worm screw and a hole in its handle."""
    length, gap = rng.uniform(14, 24), rng.uniform(0.6, 2.0)
    size = length / 20
    axis = points((0, 0), (-length * 0.3, 0), (-length * 0.6, 0), (-length * 0.8, 0))
    handle = solid(
        "steel",
        rng.uniform(0.35, 0.6),
        ribbon(axis, [1.0 * size, 0.95 * size, 1.2 * size, 1.35 * size]),
        ellipse(-length * 0.8, 0, 1.35 * size),
        holes=(ellipse(-length * 0.81, 0, 0.65 * size),),
    )
    fixed = solid(
        "steel", 1.2, polygon("-1.2,-1.0 0.4,-2.7 2.6,-2.6 4.2,-1.4 3.8,-0.9 1.6,-0.7 1.4,1.6 -0.6,1.7") * size
    )
    sliding = solid("steel", 1.1, polygon("0.9,0.3 4.0,0.5 3.9,1.2 2.4,1.8 1.0,1.6") * size + [0, (gap - 0.9) * size])
    worm = solid("steel", 0.9, rectangle(0.1 * size, 0.9 * size, 0.9 * size, 1.5 * size, 0.2))
    return centre_item(move_item((handle, fixed, sliding, worm), angle=rng.uniform(-0.2, 0.2)))


def combination_pliers(rng: Rng) -> Item:
    """Flat jaws with a burner hole, cutters at the joint, sleeved handles."""
    size = rng.uniform(0.85, 1.15)
    jaw = polygon("-1.6,0.9 0.4,1.3 2.4,1.15 4.4,0.9 4.6,0.08 2.8,0.1 2.2,0.4 1.4,0.1 0,-0.6 -1.6,-0.6")
    return _pliers(rng, jaw * size, size, sleeved=rng.random() < 0.85)


def needle_nose_pliers(rng: Rng) -> Item:
    """Long thin jaws."""
    size = rng.uniform(0.8, 1.1)
    jaw = polygon("-1.5,0.8 0.4,1.1 2.2,0.8 6.6,0.35 6.7,0.05 1.6,0.08 0,-0.5 -1.5,-0.6")
    return _pliers(rng, jaw * size, size * 0.95, sleeved=rng.random() < 0.9)


def cutting_pliers(rng: Rng) -> Item:
    """Short, broad, round cutting jaws."""
    size = rng.uniform(0.85, 1.1)
    jaw = smooth(polygon("-1.4,1.0 0.4,1.6 2.0,1.5 2.9,0.5 2.6,0.05 0.9,0.12 0,-0.6 -1.4,-0.6"), 1)
    return _pliers(rng, jaw * size, size, sleeved=rng.random() < 0.9)


def slip_joint_pliers(rng: Rng) -> Item:
    """Water-pump pliers: angled jaws and long bare or dipped handles."""
    size = rng.uniform(1.0, 1.3)
    jaw = polygon("-1.8,0.8 0.6,1.8 2.6,2.6 4.2,2.3 4.4,1.7 2.6,0.7 1.2,0.1 0,-0.7 -1.8,-0.6")
    return _pliers(rng, jaw * size * 0.85, size, sleeved=rng.random() < 0.5)


def claw_hammer(rng: Rng) -> Item:
    """A steel head with a face and a claw on a wooden or sleeved steel handle."""
    head = solid(
        "steel",
        rng.uniform(2.0, 2.6),
        polygon(
            "-1.4,-5.4 1.4,-5.4 1.4,-3.8 1.1,-3.0 1.5,-1.2 1.5,1.4 0.8,3.6 "
            "-1.0,6.2 -1.5,6.0 -0.9,3.0 -1.5,1.2 -1.5,-1.2 -1.1,-3.0 -1.4,-3.8"
        ),
    )
    return centre_item((*_hammer_handle(rng), head))


def ball_hammer(rng: Rng) -> Item:
    """A machinist's hammer: a flat face and a ball."""
    body = solid("steel", 2.4, rectangle(0, 0, 2.8, 4.6, 0.4), rectangle(0, -3.6, 2.9, 2.0, 0.3))
    ball = solid("steel", 2.0, ellipse(0, 3.4, 1.4), rectangle(0, 2.4, 1.6, 1.4))
    return centre_item((*_hammer_handle(rng), body, ball))


def mallet(rng: Rng) -> Item:
    """A club hammer with a square head."""
    head = solid("steel", 3.4, rectangle(0, 0, 3.8, rng.uniform(7.5, 10), 0.5))
    return centre_item((*_hammer_handle(rng), head))


def _shaft(rng: Rng, length: float, half: float) -> Part:
    axis = np.stack([np.linspace(-length / 2, length / 2, 5), np.zeros(5)], axis=1)
    outline = ribbon(axis, np.array([1.15, 0.95, 0.85, 0.95, 1.15]) * half)
    return solid("steel", rng.uniform(0.28, 0.5), outline)


def _open_jaw(head: float) -> Part:
    outline = polygon(
        "-1.0,-0.7 -0.2,-1.1 0.8,-1.05 1.5,-0.85 1.55,-0.5 0.2,-0.5 "
        "-0.15,0 0.2,0.5 1.55,0.5 1.5,0.85 0.8,1.05 -0.2,1.1 -1.0,0.7"
    )
    return solid("steel", 0.6, outline * head)


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
    arm = solid("steel", rng.uniform(0.35, 0.6), jaw, ribbon(axis, half_widths))
    half: Item = (arm,)
    if sleeved:
        sleeve = ribbon(axis[len(axis) // 3 :], np.full(len(axis) - len(axis) // 3, 0.75 * size))
        half = (arm, solid(str(rng.choice(["pvc", "abs", "rubber"])), 0.7, sleeve))
    other = map_points(half, lambda points: points * [1, -1])
    joint = solid("steel", 0.6, ellipse(0, 0, 1.05 * size), ellipse(0, 0, 0.5 * size))
    return centre_item((*move_item(half, angle=open_angle / 2), *move_item(other, angle=-open_angle / 2), joint))


def _hammer_handle(rng: Rng) -> Item:
    long = rng.uniform(20, 30)
    if rng.random() < 0.5:
        return (revolved("wood", (0, long * 0.5, long * 0.75, long), (1.0, 1.1, 1.6, 1.5)),)
    tube = revolved("steel", (0, long), (0.9, 0.9), (0.65, 0.65))
    return tube, revolved("rubber", (long * 0.5, long * 0.55, long), (1.2, 1.6, 1.6), (0.9, 0.9, 0.9))
