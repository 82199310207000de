"""Draw guns: pistols and revolvers."""

import numpy as np

from pipelines.phantom.imaging.outlines import arc, closed, ellipse, points, polygon, rectangle, revolved, smooth
from pipelines.phantom.imaging.shapes import Item, centre_item, lines, move_item, solid

Rng = np.random.Generator


def pistol(rng: Rng) -> Item:
    """A self-loading pistol: slide over a tube of a barrel, frame, guard, and a magazine in the grip."""
    length, slide_high = rng.uniform(15, 19.5), rng.uniform(2.3, 2.9)
    grip_long, slant = rng.uniform(7.5, 10), rng.uniform(0.8, 2.4)
    front = length / 2
    back = -front
    under = slide_high
    polymer = rng.random() < 0.4
    slide = solid(
        "steel",
        rng.uniform(0.4, 0.8),
        points((back, 0), (front - 0.4, 0), (front, 0.5), (front, under), (back + 0.3, under), (back, under - 0.6)),
        holes=(rectangle(length * 0.08, 0.75, 2.4, 0.8, 0.2),) if rng.random() < 0.6 else (),
    )
    barrel = move_item((revolved("steel", (back + 5, front + 0.2), (0.75, 0.75), (0.45, 0.45)),), dy=slide_high * 0.42)
    frame_outline = points(
        (back + 0.6, under),
        (front - 1.2, under),
        (front - 1.4, under + 1.1),
        (back + 8.6, under + 1.3),
        (back + 5.6, under + 1.5),
        (back + 0.4, under + 1.3),
    )
    frame = solid("abs" if polymer else "aluminium", 1.6 if polymer else 1.2, frame_outline)
    grip_outline = points(
        (back + 0.3, under + 0.6),
        (back + 5.4, under + 0.8),
        (back + 5.0 - slant, under + grip_long),
        (back - slant, under + grip_long + 0.2),
        (back - 0.1, under + 2.6),
    )
    centre = grip_outline.mean(axis=0)
    magazine = solid("steel", rng.uniform(0.4, 0.9), centre + (grip_outline - centre) * [0.66, 0.96])
    grip = solid("abs" if polymer else "wood", 2.4, smooth(grip_outline, 1))
    shell = lines("steel", 0.5, (closed(grip_outline), 0.45))
    guard = points(
        (back + 9.2, under + 1.1),
        (back + 9.3, under + 2.6),
        (back + 8.4, under + 3.7),
        (back + 6.2, under + 3.7),
        (back + 5.0, under + 2.8),
    )
    trigger = points((back + 7.1, under + 1.2), (back + 6.7, under + 2.2), (back + 7.2, under + 3.0))
    fittings = solid(
        "steel",
        0.7,
        rectangle(front - 0.7, -0.2, 0.6, 0.5),
        rectangle(back + 0.7, -0.2, 0.9, 0.5),
        points((back, 0.6), (back - 0.9, 0.2), (back - 0.7, 1.1), (back, 1.9)),
        strokes=((smooth(guard, 2, is_closed=False), 0.45), (trigger, 0.5)),
    )
    return centre_item((slide, *barrel, frame, grip, magazine, shell, fittings))


def luger(rng: Rng) -> Item:
    """A pistol with a bare barrel and a raked grip."""
    length = rng.uniform(9, 13)
    barrel = revolved("steel", (4, 5, length + 3, length + 4), (1.0, 0.85, 0.7, 0.95), (0.4, 0.4, 0.4, 0.4))
    receiver = solid(
        "steel",
        rng.uniform(0.45, 0.9),
        polygon("-7,-1.2 -5,-1.6 4.2,-1.3 4.4,1.3 0.5,1.8 -5.5,1.9 -7.4,0.4"),
        holes=(rectangle(0.6, -0.5, 2.0, 0.6),),
    )
    toggle = solid("steel", 0.9, ellipse(-3.2, -1.5, 1.1), ellipse(-6.4, -0.6, 0.8))
    grip_outline = polygon("-6.6,1.2 -1.6,1.6 -4.4,10.5 -8.8,10.2 -8.2,8 -6.8,4")
    centre = grip_outline.mean(axis=0)
    grip = solid("wood", 2.6, smooth(grip_outline, 1))
    magazine = solid("steel", 0.5, centre + (grip_outline - centre) * 0.72)
    rim = solid(
        "steel",
        0.8,
        ellipse(length + 3.4, -1.0, 0.5, 0.5),
        strokes=(
            (closed(grip_outline), 0.4),
            (arc(0.3, 2.9, 1.7, -0.9, 3.5), 0.42),
            (points((0.2, 1.6), (0.0, 3.6)), 0.4),
        ),
    )
    return centre_item((barrel, receiver, toggle, grip, magazine, rim))


def revolver(rng: Rng) -> Item:
    """A revolver: barrel over an ejector rod, a cylinder with its chambers, a bent grip."""
    barrel_long = rng.uniform(4.5, 12)
    barrel = revolved("steel", (2.6, 2.6 + barrel_long), (0.9, 0.78), (0.45, 0.45))
    rod = move_item((revolved("steel", (2.6, 2.6 + barrel_long * 0.7), (0.4, 0.4)),), dy=1.25)
    drum = move_item((revolved("steel", (-1.9, -1.7, 1.7, 1.9), (1.6, 1.9, 1.9, 1.5), (1.4, 1.4, 1.4, 1.2)),), dy=0.7)
    chambers = solid("brass", 0.35, *(rectangle(0.1, 0.7 + offset, 3.0, 0.7) for offset in (-1.25, -0.1, 1.2)))
    frame = solid(
        "steel",
        rng.uniform(0.45, 0.8),
        polygon("-4.6,-0.9 2.7,-1.2 2.7,-0.7 -1.9,-0.5 -1.9,2.4 2.6,2.2 2.6,2.9 -3.2,3.2 -4.4,1.8"),
        polygon("-4.4,-0.8 -5.8,-1.7 -6.1,-1.2 -4.9,0.4"),
        rectangle(2.2 + barrel_long, -1.1, 0.9, 0.6),
        strokes=((arc(-0.6, 3.6, 1.6, -0.4, 3.4), 0.45), (points((-0.6, 3.0), (-0.9, 4.6)), 0.45)),
    )
    grip_outline = smooth(polygon("-4.5,0.2 -2.6,2.8 -3.6,5.4 -4.6,8.8 -8.0,9.2 -7.4,6.0 -6.0,2.6"), 2)
    grip = solid("wood" if rng.random() < 0.5 else "rubber", 2.8, grip_outline)
    strap = lines("steel", 0.8, (closed(grip_outline), 0.35))
    return centre_item((barrel, *rod, *drum, chambers, frame, grip, strap))
