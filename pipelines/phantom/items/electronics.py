"""What do electronics in a bag look like to the beam? Computers, chargers, cables, cells."""

import math

import numpy as np

from pipelines.phantom.imaging.outlines import arc, closed, ellipse, points, rectangle, relief, revolved, smooth
from pipelines.phantom.imaging.shapes import Item, Part, Points, move_item

Rng = np.random.Generator


def laptop(rng: Rng) -> Item:
    """A notebook computer: case, screen, board with its chips, cells, keys and hinges."""
    width, height = rng.uniform(28, 37), rng.uniform(20, 25)
    case = Part(
        material=str(rng.choice(["aluminium", "abs"])),
        outlines=(rectangle(0, 0, width, height, 1.0),),
        thickness_cm=0.35,
    )
    screen = Part(material="glass", outlines=(rectangle(0, 0, width * 0.94, height * 0.92),), thickness_cm=0.12)
    plate = Part(
        material="stainless",
        outlines=(rectangle(-width * 0.05, -height * 0.18, width * 0.8, height * 0.5),),
        thickness_cm=0.015,
    )
    main = _board(rng, width * 0.7, height * 0.42)
    cells = tuple(rectangle((k - 1) * width * 0.27, height * 0.33, width * 0.25, height * 0.24, 0.3) for k in range(3))
    battery = Part(material="lithium_cell", outlines=cells, thickness_cm=0.55)
    fan_at = -width * 0.32, -height * 0.22
    fan = Part(
        material="copper",
        strokes=((closed(ellipse(*fan_at, 2.4)), 0.3), (points(fan_at, (width * 0.1, -height * 0.2)), 0.7)),
        thickness_cm=0.12,
    )
    hinges = Part(
        material="steel",
        outlines=tuple(rectangle(side * width * 0.36, -height * 0.48, 4, 0.9) for side in (-1, 1)),
        thickness_cm=0.5,
    )
    return case, screen, plate, *move_item(main, dx=width * 0.04, dy=-height * 0.18), battery, fan, hinges


def circuit_board(rng: Rng) -> Item:
    """A bare board, such as lies in desktop computers and instruments."""
    return _board(rng, rng.uniform(9, 22), rng.uniform(8, 18))


def telephone(rng: Rng) -> Item:
    """A mobile telephone."""
    height, width = rng.uniform(13, 16.5), rng.uniform(6.4, 7.8)
    glass = Part(material="glass", outlines=(rectangle(0, 0, width, height, 0.9),), thickness_cm=0.16)
    frame = Part(material="aluminium", strokes=((closed(rectangle(0, 0, width, height, 0.9)), 0.3),), thickness_cm=0.7)
    cell = Part(
        material="lithium_cell",
        outlines=(rectangle(width * 0.14, height * 0.08, width * 0.56, height * 0.6, 0.2),),
        thickness_cm=0.45,
    )
    main = move_item(_board(rng, width * 0.3, height * 0.84), dx=-width * 0.3)
    return glass, frame, cell, *main


def charger(rng: Rng) -> Item:
    """A power adapter with its transformer and a coiled cable."""
    width, height = rng.uniform(4, 12), rng.uniform(3.5, 6)
    case = Part(material="abs", outlines=(rectangle(0, 0, width, height, 0.6),), thickness_cm=0.5)
    core = Part(material="steel", outlines=(rectangle(width * 0.18, 0, width * 0.3, height * 0.6),), thickness_cm=0.45)
    coil = Part(
        material="copper", outlines=(rectangle(width * 0.18, 0, width * 0.2, height * 0.74, 0.3),), thickness_cm=0.3
    )
    cans = Part(
        material="aluminium",
        outlines=(ellipse(-width * 0.22, height * 0.1, 0.8), ellipse(-width * 0.36, -height * 0.2, 0.5)),
        thickness_cm=1.6,
    )
    main = Part(material="circuit_board", outlines=(rectangle(0, 0, width * 0.9, height * 0.86),), thickness_cm=0.16)
    return case, core, coil, cans, main, *_cable(rng, (width / 2, 0.0))


def cable(rng: Rng) -> Item:
    """A cable on its own, wound up."""
    return _cable(rng, (0.0, 0.0))


def power_bank(rng: Rng) -> Item:
    """Cells in a case."""
    count = int(rng.integers(2, 5))
    cells = tuple(
        part for k in range(count) for part in _round_cell("lithium_cell", 6.5, 0.92, (k - (count - 1) / 2) * 2.0)
    )
    case = Part(material="abs", outlines=(rectangle(0, 0, 9.4, count * 2 + 0.8, 0.7),), thickness_cm=0.5)
    return (*cells, case, *move_item(_board(rng, 1.8, count * 1.8), dx=3.8))


def batteries(rng: Rng) -> Item:
    """Loose dry cells."""
    return tuple(
        part
        for k in range(int(rng.integers(2, 6)))
        for part in move_item(
            _round_cell("alkaline_cell", 5.0, 0.72, 0.0), dx=rng.normal(0, 2), dy=k * 1.7 - 3, angle=rng.normal(0, 0.3)
        )
    )


def hair_dryer(rng: Rng) -> Item:
    """A dryer: a nozzle, a motor, a heating coil and a grip. It looks like a gun until one looks twice."""
    case = revolved("abs", (-8, -6, 4, 9), (3.0, 4.0, 3.4, 2.3), (2.8, 3.8, 3.2, 2.1))
    motor = revolved("steel", (-5, -1), (1.5, 1.5), (0.7, 0.7))
    coil = Part(
        material="copper",
        strokes=tuple((points((x, -2.2), (x + 0.5, 2.2)), 0.2) for x in np.arange(0.5, 6, 0.9)),
        thickness_cm=0.15,
    )
    grip = Part(
        material="abs", outlines=(smooth(points((-4, 3), (0, 3), (0.6, 13), (-2.8, 13.4)), 1),), thickness_cm=0.7
    )
    switch = Part(material="circuit_board", outlines=(rectangle(-1.6, 7, 1.6, 3.4),), thickness_cm=0.5)
    return (case, motor, coil, grip, switch, *move_item(_cable(rng, (0.0, 0.0)), dx=-1, dy=13.2))


def camera(rng: Rng) -> Item:
    """A camera with its lens facing the beam."""
    body = Part(material="abs", outlines=(rectangle(0, 0, 13, 8.4, 1.2),), thickness_cm=1.2)
    chassis = Part(
        material="aluminium", outlines=(rectangle(0, 0.3, 11, 6.4),), thickness_cm=0.5, relief=relief(rng, 9, 0.4)
    )
    rings = Part(
        material="aluminium",
        strokes=tuple((closed(ellipse(0.6, 0.4, radius)), 0.4) for radius in (3.6, 2.9, 1.9)),
        thickness_cm=2.5,
    )
    lens = Part(material="glass", outlines=(ellipse(0.6, 0.4, 2.6),), thickness_cm=1.6)
    cell = Part(material="lithium_cell", outlines=(rectangle(-5, 0.4, 2, 5),), thickness_cm=1.0)
    return body, chassis, rings, lens, cell


def headphones(rng: Rng) -> Item:
    """Headphones: a steel band and two drivers."""
    band = Part(material="steel", strokes=((arc(0, 0, 8.5, math.pi * 1.05, math.pi * 1.95), 0.5),), thickness_cm=0.12)
    pads = tuple(
        Part(material="abs", outlines=(ellipse(side * 8.2, 1.5, 2.6, 3.6),), thickness_cm=1.2) for side in (-1, 1)
    )
    magnets = Part(
        material="steel", outlines=tuple(ellipse(side * 8.2, 1.5, 1.1) for side in (-1, 1)), thickness_cm=0.7
    )
    return (band, *pads, magnets, *move_item(_cable(rng, (0.0, 0.0)), dy=4))


def _board(rng: Rng, width: float, height: float) -> Item:
    base = Part(
        material="circuit_board",
        outlines=(rectangle(0, 0, width, height),),
        thickness_cm=rng.uniform(0.25, 0.5),
        relief=relief(rng, 36, 0.3),
    )
    count = max(4, min(26, int(width * height / 5)))
    places = rng.uniform(-0.46, 0.46, (count, 2)) * [width, height]
    sizes = rng.uniform(0.3, min(2.6, height * 0.4), (count, 2))
    chips = [rectangle(*place, *size) for place, size in zip(places, sizes, strict=True)]
    third = count // 3
    silicon = Part(material="ceramic", outlines=tuple(chips[:third]), thickness_cm=0.3)
    shields = Part(material="copper", outlines=tuple(chips[third : 2 * third]), thickness_cm=0.05)
    pins = tuple((place + points((-0.6, 0), (0.6, 0)), 0.18) for place in places[2 * third :])
    metal = Part(
        material="copper",
        outlines=tuple(ellipse(float(place[0]), float(place[1]), 0.3, num=10) for place in places[2 * third :]),
        strokes=(*pins, (closed(rectangle(0, 0, width, height)), 0.15)),
        thickness_cm=0.12,
    )
    return base, silicon, shields, metal


def _round_cell(material: str, long: float, radius: float, y: float) -> Item:
    core = revolved(material, (-long / 2, long / 2), (radius, radius))
    can = revolved("steel", (-long / 2, long / 2), (radius, radius), (radius - 0.03, radius - 0.03))
    return move_item((core, can), dy=y)


def _cable(rng: Rng, start: tuple[float, float]) -> Item:
    turn = np.linspace(0, 2 * math.pi * rng.uniform(1.5, 4), 70)
    radius = rng.uniform(1.6, 4) * (1 + 0.15 * np.sin(turn * rng.uniform(0.6, 1.4)))
    drift = np.linspace(0, 1, 70)[:, None] * rng.normal(0, 4, 2)
    coil: Points = (
        np.stack([radius * (np.cos(turn) - 1), radius * np.sin(turn) * rng.uniform(0.4, 1)], axis=1) + drift + start
    )
    plug = Part(
        material="brass", outlines=(rectangle(float(coil[-1, 0]), float(coil[-1, 1]), 1.6, 0.9),), thickness_cm=0.25
    )
    sheath = Part(material="pvc", strokes=((coil, rng.uniform(0.3, 0.55)),), thickness_cm=0.4)
    wire = Part(material="copper", strokes=((coil, 0.16),), thickness_cm=0.1)
    return sheath, wire, plug
