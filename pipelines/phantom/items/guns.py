"""What do guns look like to the beam? Pistols and revolvers."""

import numpy as np

from pipelines.phantom.imaging.outlines import arc, closed, ellipse, points, rectangle, revolved, smooth
from pipelines.phantom.imaging.shapes import Item, Part, centre_item, move_item

Rng = np.random.Generator


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
    return centre_item((slide, *barrel, frame, grip, magazine, shell, fittings))


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
    return centre_item((barrel, receiver, toggle, grip, magazine, rim))


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
    return centre_item((barrel, *rod, *drum, chambers, frame, grip, strap))
