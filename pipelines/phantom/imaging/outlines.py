"""Which outlines and bodies are items put together from? Circles, rectangles, bands, bodies of revolution."""

import functools
import math
from typing import Any

import numpy as np

from pipelines.phantom.imaging.shapes import Floats, Numbers, Part, Points, Profile


def points(*pairs: tuple[float, float]) -> Points:
    """Return vertices given one by one."""
    return np.array(pairs, dtype=np.float64)


def ellipse(x: float, y: float, radius_x: float, radius_y: float | None = None, num: int = 28) -> Points:
    """Return the outline of an ellipse, or of a circle where there is one radius."""
    outline: Points = _unit_circle(num) * (radius_x, radius_x if radius_y is None else radius_y) + (x, y)
    return outline


def rectangle(x: float, y: float, width: float, height: float, corner: float = 0.0) -> Points:
    """Return the outline of a rectangle around its centre (x, y), with corners rounded by a radius in cm."""
    radius = max(0.0, min(corner, width / 2, height / 2))
    arcs, corners = _unit_corners(6 if radius > 0 else 1)
    outline: Points = arcs * radius + corners * (width / 2 - radius, height / 2 - radius) + (x, y)
    return outline


@functools.cache
def _unit_circle(num: int) -> Points:
    return arc(0, 0, 1, 0, 2 * math.pi, num + 1)[:-1]


@functools.cache
def _unit_corners(num: int) -> tuple[Points, Points]:
    """Return `num` vertices for each of four corners: on the unit circle, and the corner that each belongs to."""
    signs = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)], dtype=np.float64)
    quarters = [arc(0, 0, 1, quarter * math.pi / 2, (quarter + 1) * math.pi / 2, num) for quarter in range(4)]
    return np.concatenate(quarters), np.repeat(signs, num, axis=0)


def arc(x: float, y: float, radius: float, start: float, end: float, num: int = 14) -> Points:
    """Return a polyline along a circle from angle `start` to `end` in radians, y down."""
    turn = np.linspace(start, end, num)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1)


def closed(outline: Points) -> Points:
    """Return an outline as a polyline that comes back to its start."""
    return np.concatenate([outline, outline[:1]])


def smooth(corners: Points, rounds: int = 2, *, is_closed: bool = True) -> Points:
    """Return the outline with its corners cut `rounds` times (Chaikin): hand-like curves out of few points."""
    line = corners
    for _ in range(rounds):
        following = np.roll(line, -1, axis=0) if is_closed else line[1:]
        start = line if is_closed else line[:-1]
        cut = np.stack([0.75 * start + 0.25 * following, 0.25 * start + 0.75 * following], axis=1).reshape(-1, 2)
        line = cut if is_closed else np.concatenate([line[:1], cut, line[-1:]])
    return line


def ribbon(axis: Points, half_widths: Numbers) -> Points:
    """Return the outline of a band along a polyline, `half_widths` wide to either side at each vertex."""
    along = np.gradient(axis, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.maximum(np.linalg.norm(along, axis=1), 1e-9)[:, None]
    side = normal * np.asarray(half_widths, dtype=np.float64)[:, None]
    return np.concatenate([axis + side, (axis - side)[::-1]])


def revolved(material: str, axis_cm: Numbers, radius_cm: Numbers, inner_cm: Numbers | None = None) -> Part:
    """Return a body of revolution about the x axis, seen from its side: bottle, barrel, can, rod.

    Args:
        material: name in the table of materials.
        axis_cm: positions along x, rising.
        radius_cm: outer radius at each.
        inner_cm: radius of the hollow at each; solid where None.
    """
    axis = np.asarray(axis_cm, dtype=np.float32)
    outer = np.asarray(radius_cm, dtype=np.float32)
    inner = None if inner_cm is None else np.asarray(inner_cm, dtype=np.float32)

    def chord(x_HW: Floats, y_HW: Floats) -> Floats:
        square_HW = y_HW * y_HW
        length_HW = _half_chord(x_HW, square_HW, axis, outer)
        if inner is not None:
            length_HW -= _half_chord(x_HW, square_HW, axis, inner)
        length_HW *= np.float32(2)
        return length_HW

    outline = np.concatenate([np.stack([axis, -outer], axis=1), np.stack([axis, outer], axis=1)[::-1]])
    return Part(material=material, outlines=(outline.astype(np.float64),), thickness_cm=chord)


def _half_chord(x_HW: Floats, square_HW: Floats, axis: Floats, radius: Floats) -> Floats:
    if len(set(radius.tolist())) == 1:
        radius_HW: Any = radius[0]
    else:
        radius_HW = np.interp(x_HW, axis, radius).astype(np.float32)
    half_HW: Floats = np.sqrt(np.maximum(radius_HW * radius_HW - square_HW, 0))
    return half_HW


def ellipsoid(material: str, radius_x: float, radius_y: float, depth_cm: float) -> Part:
    """Return a solid ellipsoid about the origin, `depth_cm` thick at its middle: fruit, clothes, padding."""
    scale_x, scale_y = np.float32(1 / radius_x), np.float32(1 / radius_y)

    def chord(x_HW: Floats, y_HW: Floats) -> Floats:
        return np.float32(depth_cm) * np.sqrt(np.maximum(1 - (x_HW * scale_x) ** 2 - (y_HW * scale_y) ** 2, 0))

    return Part(material=material, outlines=(ellipse(0, 0, radius_x, radius_y),), thickness_cm=chord)


def ramp(axis: tuple[float, float], start: float, end: float, first_cm: float, last_cm: float) -> Profile:
    """Return a thickness that goes linearly from `first_cm` to `last_cm` between two positions along `axis`."""
    along_x, along_y = (np.float32(value) for value in axis)

    def taper(x_HW: Floats, y_HW: Floats) -> Floats:
        position_HW = along_x * x_HW + along_y * y_HW
        return np.interp(position_HW, [start, end], [first_cm, last_cm]).astype(np.float32)

    return taper


def relief(rng: np.random.Generator, size: int, contrast: float) -> Floats:
    """Return a coarse random map with mean near 1, never below a tenth."""
    waves = rng.normal(1.0, contrast, (size, size)).astype(np.float32)
    return np.maximum(waves, np.float32(0.1))


def blob(rng: np.random.Generator, radius_x: float, radius_y: float, roughness: float) -> Points:
    """Return the outline of something soft that was put into a box: rounded, irregular, about the origin."""
    turn = np.linspace(0, 2 * math.pi, 11, endpoint=False)
    radius = 1 + rng.normal(0, roughness, 11)
    # A superellipse: folded things fill the corners of their box more than an ellipse does.
    x, y = np.cos(turn), np.sin(turn)
    corner = np.stack([np.sign(x) * np.abs(x) ** 0.6 * radius_x, np.sign(y) * np.abs(y) ** 0.6 * radius_y], axis=1)
    return smooth(corner * radius[:, None], 2)


def rim(line: Points, material: str, width_cm: float, thickness_cm: float) -> Part:
    """Return the edge of a sheet, where the beam passes along its wall."""
    return Part(material=material, strokes=((closed(line), width_cm),), thickness_cm=thickness_cm)
