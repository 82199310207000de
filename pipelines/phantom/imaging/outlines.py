"""Make outlines and bodies: ellipses, rectangles, ribbons, bodies of revolution."""

import functools
import math
from typing import Any

import numpy as np

from pipelines.phantom.imaging.shapes import Floats, Numbers, Part, Points, Profile


def points(*pairs: tuple[float, float]) -> Points:
    """Return an array of vertices."""
    return np.array(pairs, dtype=np.float64)


def polygon(text: str) -> Points:
    """Return vertices written as in SVG: `"x,y x,y ..."`."""
    return np.array([pair.split(",") for pair in text.split()], dtype=np.float64)


def ellipse(x: float, y: float, radius_x: float, radius_y: float | None = None, num: int = 28) -> Points:
    """Return the outline of an ellipse, a circle if only one radius is given."""
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
    """Return `num` vertices on the unit circle for each of four corners, and the corner of each vertex."""
    signs = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)], dtype=np.float64)
    quarters = [arc(0, 0, 1, quarter * math.pi / 2, (quarter + 1) * math.pi / 2, num) for quarter in range(4)]
    return np.concatenate(quarters), np.repeat(signs, num, axis=0)


def arc(x: float, y: float, radius: float, start: float, end: float, num: int = 14) -> Points:
    """Return a polyline along a circle from angle `start` to `end` in radians, y down."""
    turn = np.linspace(start, end, num)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1)


def closed(outline: Points) -> Points:
    """Return an outline as a closed polyline."""
    return np.concatenate([outline, outline[:1]])


def smooth(corners: Points, rounds: int = 2, *, is_closed: bool = True) -> Points:
    """Return the outline smoothed by `rounds` of corner cutting (Chaikin)."""
    line = corners
    for _ in range(rounds):
        following = np.roll(line, -1, axis=0) if is_closed else line[1:]
        start = line if is_closed else line[:-1]
        cut = np.stack([0.75 * start + 0.25 * following, 0.25 * start + 0.75 * following], axis=1).reshape(-1, 2)
        line = cut if is_closed else np.concatenate([line[:1], cut, line[-1:]])
    return line


def ribbon(axis: Points, half_widths: Numbers) -> Points:
    """Return the outline of a band along a polyline, given its half width at each vertex."""
    along = np.gradient(axis, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.maximum(np.linalg.norm(along, axis=1), 1e-9)[:, None]
    side = normal * np.asarray(half_widths, dtype=np.float64)[:, None]
    return np.concatenate([axis + side, (axis - side)[::-1]])


def revolved(material: str, axis_cm: Numbers, radius_cm: Numbers, inner_cm: Numbers | None = None) -> Part:
    """Return a body of revolution about the x axis, seen from the side: bottle, barrel, can, rod.

    Args:
        material: name in `materials.json`.
        axis_cm: increasing positions along x.
        radius_cm: outer radius at each.
        inner_cm: radius of the cavity at each; None for a solid body.
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
    """Return a solid ellipsoid about the origin, `depth_cm` thick at its centre."""
    scale_x, scale_y = np.float32(1 / radius_x), np.float32(1 / radius_y)

    def chord(x_HW: Floats, y_HW: Floats) -> Floats:
        return np.float32(depth_cm) * np.sqrt(np.maximum(1 - (x_HW * scale_x) ** 2 - (y_HW * scale_y) ** 2, 0))

    return Part(material=material, outlines=(ellipse(0, 0, radius_x, radius_y),), thickness_cm=chord)


def ramp(axis: tuple[float, float], start: float, end: float, first_cm: float, last_cm: float) -> Profile:
    """Return a thickness that changes linearly from `first_cm` to `last_cm` between two positions along `axis`."""
    along_x, along_y = (np.float32(value) for value in axis)

    def taper(x_HW: Floats, y_HW: Floats) -> Floats:
        position_HW = along_x * x_HW + along_y * y_HW
        return np.interp(position_HW, [start, end], [first_cm, last_cm]).astype(np.float32)

    return taper


def relief(rng: np.random.Generator, size: int, contrast: float) -> Floats:
    """Return a coarse random map with mean near 1 and minimum 0.1."""
    waves = rng.normal(1.0, contrast, (size, size)).astype(np.float32)
    return np.maximum(waves, np.float32(0.1))


def blob(rng: np.random.Generator, radius_x: float, radius_y: float, roughness: float) -> Points:
    """Return a rounded, irregular outline about the origin."""
    turn = np.linspace(0, 2 * math.pi, 11, endpoint=False)
    radius = 1 + rng.normal(0, roughness, 11)
    # A superellipse: folded cloth fills the corners more than an ellipse does.
    x, y = np.cos(turn), np.sin(turn)
    corner = np.stack([np.sign(x) * np.abs(x) ** 0.6 * radius_x, np.sign(y) * np.abs(y) ** 0.6 * radius_y], axis=1)
    return smooth(corner * radius[:, None], 2)


def rim(line: Points, material: str, width_cm: float, thickness_cm: float) -> Part:
    """Return the thicker edge of a sheet, where the beam passes along its wall."""
    return Part(material=material, strokes=((closed(line), width_cm),), thickness_cm=thickness_cm)
