"""Draw what bags hold besides prohibited items: clothes, books, food, bottles, electronics, metal."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from pipelines.phantom.imaging.outlines import (
    blob,
    closed,
    ellipse,
    ellipsoid,
    points,
    polygon,
    rectangle,
    relief,
    revolved,
    ribbon,
    rim,
    smooth,
)
from pipelines.phantom.imaging.shapes import Item, Part, Points, lines, move_item, solid

Rng = np.random.Generator


def make_clutter(rng: Rng) -> Item:
    """Return a random everyday item about the origin."""
    makers = list(CLUTTER)
    weights = np.array(list(CLUTTER.values()))
    return makers[int(rng.choice(len(makers), p=weights / weights.sum()))](rng)


def clothes(rng: Rng) -> Item:
    """Folded layers of cloth with creases."""
    width, height = rng.uniform(14, 30), rng.uniform(12, 24)
    parts = []
    for _ in range(int(rng.integers(1, 4))):
        outline = blob(rng, width * rng.uniform(0.3, 0.5), height * rng.uniform(0.3, 0.5), 0.14) + rng.normal(0, 2, 2)
        parts.append(solid("textile", rng.uniform(1, 4), outline, relief=relief(rng, int(rng.integers(6, 22)), 0.35)))
    creases = tuple((_wander(rng, rng.normal(0, 4, 2), rng.uniform(5, 14)), rng.uniform(0.15, 0.4)) for _ in range(6))
    return *parts, lines("textile", rng.uniform(1, 2.4), *creases)


def book(rng: Rng) -> Item:
    """A book or a pile of paper."""
    width, height = rng.uniform(13, 21), rng.uniform(18, 29)
    page = rectangle(0, 0, width, height)
    block = solid("paper", rng.uniform(0.3, 1.8), page)
    cover = solid("paper", 0.4, page * 1.02)
    return block, cover, rim(page, "paper", 0.4, 1.0)


def bottle(rng: Rng) -> Item:
    """A bottle of water or lotion, seen from the side; one in five is of thick glass."""
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
    valve = solid("steel", 0.3, rectangle(long + 0.3, 0, 0.9, 0.8), strokes=((points((1, 0.3), (long, 0)), 0.2),))
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


def cutlery(rng: Rng) -> Item:
    """A spoon and a fork."""
    long = rng.uniform(14, 20)
    handle = ribbon(points((0, 0), (long * 0.5, 0), (long * 0.7, 0)), [0.65, 0.4, 0.35])
    spoon = solid("stainless", 0.2, handle, ellipse(long * 0.82, 0, long * 0.15, 2.0))
    prongs = tuple((points((long * 0.82, offset), (long, offset)), 0.25) for offset in (-0.8, -0.27, 0.27, 0.8))
    fork = solid("stainless", 0.2, handle, rectangle(long * 0.77, 0, 2.6, 2.0, 0.8), strokes=prongs)
    return (
        *move_item((spoon,), dx=-long / 2, dy=rng.uniform(-3, -1), angle=rng.normal(0, 0.3)),
        *move_item((fork,), dx=-long / 2, dy=rng.uniform(1, 3), angle=rng.normal(0, 0.3)),
    )


def keys(rng: Rng) -> Item:
    """Keys on a ring."""
    ring = lines("steel", 0.25, (closed(ellipse(0, 0, 1.5)), 0.25))
    parts: list[Part] = [ring]
    for _ in range(int(rng.integers(2, 6))):
        teeth = polygon("2.2,-0.3 5.4,-0.3 5.8,0 5.4,0.4 4.9,0.2 4.4,0.5 3.9,0.2 3.4,0.5 2.9,0.3 2.2,0.3")
        key = solid("brass", 0.22, ellipse(1.6, 0, 1.1), teeth, holes=(ellipse(1.0, 0, 0.3, num=10),))
        parts.extend(move_item((key,), dx=0.6, angle=rng.uniform(-math.pi, math.pi)))
    return tuple(parts)


def laptop(rng: Rng) -> Item:
    """A notebook computer: case, screen, board with its chips, cells, keys and hinges."""
    width, height = rng.uniform(28, 37), rng.uniform(20, 25)
    case = solid(str(rng.choice(["aluminium", "abs"])), 0.35, rectangle(0, 0, width, height, 1.0))
    screen = solid("glass", 0.12, rectangle(0, 0, width * 0.94, height * 0.92))
    plate = solid("stainless", 0.015, rectangle(-width * 0.05, -height * 0.18, width * 0.8, height * 0.5))
    main = _board(rng, width * 0.7, height * 0.42)
    cells = tuple(rectangle((k - 1) * width * 0.27, height * 0.33, width * 0.25, height * 0.24, 0.3) for k in range(3))
    battery = solid("lithium_cell", 0.55, *cells)
    fan_at = (-width * 0.32, -height * 0.22)
    fan = lines(
        "copper", 0.12, (closed(ellipse(*fan_at, 2.4)), 0.3), (points(fan_at, (width * 0.1, -height * 0.2)), 0.7)
    )
    hinges = solid("steel", 0.5, *(rectangle(side * width * 0.36, -height * 0.48, 4, 0.9) for side in (-1, 1)))
    return case, screen, plate, *move_item(main, dx=width * 0.04, dy=-height * 0.18), battery, fan, hinges


def charger(rng: Rng) -> Item:
    """A power adapter with its transformer and a coiled cable."""
    width, height = rng.uniform(4, 12), rng.uniform(3.5, 6)
    case = solid("abs", 0.5, rectangle(0, 0, width, height, 0.6))
    core = solid("steel", 0.45, rectangle(width * 0.18, 0, width * 0.3, height * 0.6))
    coil = solid("copper", 0.3, rectangle(width * 0.18, 0, width * 0.2, height * 0.74, 0.3))
    cans = solid(
        "aluminium", 1.6, ellipse(-width * 0.22, height * 0.1, 0.8), ellipse(-width * 0.36, -height * 0.2, 0.5)
    )
    main = solid("circuit_board", 0.16, rectangle(0, 0, width * 0.9, height * 0.86))
    return case, core, coil, cans, main, *_cable(rng, (width / 2, 0.0))


def hair_dryer(rng: Rng) -> Item:
    """A hair dryer: nozzle, motor, heating coil and grip; easily mistaken for a gun."""
    case = revolved("abs", (-8, -6, 4, 9), (3.0, 4.0, 3.4, 2.3), (2.8, 3.8, 3.2, 2.1))
    motor = revolved("steel", (-5, -1), (1.5, 1.5), (0.7, 0.7))
    coil = lines("copper", 0.15, *((points((x, -2.2), (x + 0.5, 2.2)), 0.2) for x in np.arange(0.5, 6, 0.9)))
    grip = solid("abs", 0.7, smooth(polygon("-4,3 0,3 0.6,13 -2.8,13.4"), 1))
    switch = solid("circuit_board", 0.5, rectangle(-1.6, 7, 1.6, 3.4))
    return case, motor, coil, grip, switch, *move_item(_cable(rng, (0.0, 0.0)), dx=-1, dy=13.2)


CLUTTER: Mapping[Callable[[Rng], Item], float] = {
    clothes: 14,
    book: 8,
    bottle: 11,
    spray_can: 6,
    fruit: 11,
    cutlery: 7,
    keys: 9,
    laptop: 5,
    charger: 14,
    hair_dryer: 5,
}
"""Each kind and its weight: soft things most, metal often enough to be mistaken for a prohibited item."""


def _wander(rng: Rng, start: Points, long: float) -> Points:
    steps = np.cumsum(rng.normal(rng.normal(0, 0.5, 2), 0.5, (6, 2)), axis=0)
    return smooth(start + steps * long / max(1.0, float(np.abs(steps[-1]).max())), 2, is_closed=False)


def _board(rng: Rng, width: float, height: float) -> Item:
    base = solid("circuit_board", rng.uniform(0.25, 0.5), rectangle(0, 0, width, height), relief=relief(rng, 36, 0.3))
    count = max(4, min(26, int(width * height / 5)))
    places = rng.uniform(-0.46, 0.46, (count, 2)) * [width, height]
    sizes = rng.uniform(0.3, min(2.6, height * 0.4), (count, 2))
    chips = [rectangle(*place, *size) for place, size in zip(places, sizes, strict=True)]
    third = count // 3
    silicon = solid("ceramic", 0.3, *chips[:third])
    shields = solid("copper", 0.05, *chips[third : 2 * third])
    pins = tuple((place + points((-0.6, 0), (0.6, 0)), 0.18) for place in places[2 * third :])
    metal = solid(
        "copper",
        0.12,
        *(ellipse(float(place[0]), float(place[1]), 0.3, num=10) for place in places[2 * third :]),
        strokes=(*pins, (closed(rectangle(0, 0, width, height)), 0.15)),
    )
    return base, silicon, shields, metal


def _cable(rng: Rng, start: tuple[float, float]) -> Item:
    turn = np.linspace(0, 2 * math.pi * rng.uniform(1.5, 4), 70)
    radius = rng.uniform(1.6, 4) * (1 + 0.15 * np.sin(turn * rng.uniform(0.6, 1.4)))
    drift = np.linspace(0, 1, 70)[:, None] * rng.normal(0, 4, 2)
    coil: Points = (
        np.stack([radius * (np.cos(turn) - 1), radius * np.sin(turn) * rng.uniform(0.4, 1)], axis=1) + drift + start
    )
    plug = solid("brass", 0.25, rectangle(float(coil[-1, 0]), float(coil[-1, 1]), 1.6, 0.9))
    sheath = lines("pvc", 0.4, (coil, rng.uniform(0.3, 0.55)))
    wire = lines("copper", 0.1, (coil, 0.16))
    return sheath, wire, plug
