"""What shape has a thing, and how thick is it at each pixel? Outlines in cm become thickness maps."""

# H, W pixels of the part's own bounding box, not of the scan

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Points = npt.NDArray[np.float64]
"""(n, 2): x to the right and y down, in cm of the item's own frame, or in pixels once posed."""
Floats = npt.NDArray[np.float32]
Numbers = Sequence[float] | npt.NDArray[np.float64]
Profile = Callable[[Floats, Floats], Floats]
"""Thickness in cm at (x, y), both in cm of the item's own frame."""

_SUPERSAMPLED_BELOW_PX = 60_000
"""Larger parts are bag walls and clothes, whose edges are soft anyway; small ones get twice the resolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of one material: outlines to fill, holes to leave out, lines to draw, and how thick it is."""

    material: str
    outlines: tuple[Points, ...] = ()
    holes: tuple[Points, ...] = ()
    strokes: tuple[tuple[Points, float], ...] = ()
    """Each a polyline and its width in cm."""
    thickness_cm: float | Profile = 1.0
    relief: Floats | None = None
    """A coarse (h, w) map that is stretched over the part and multiplies the thickness: folds, food, padding."""


Item = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Pose:
    """Where an item lies in the scan: `pixels = points_cm @ matrix.T + origin_px`."""

    origin_px: tuple[float, float]
    matrix: npt.NDArray[np.float64]
    """(2, 2) pixels per cm: rotation, mirroring and foreshortening of a tilted item."""
    tilt_gain: float = 1.0
    """How much longer the beam's way through a tilted item is: its shadow shrinks, its mass does not."""

    def apply(self, points: Points) -> Points:
        """Return points in cm of the item's frame as pixels of the scan."""
        posed: Points = points @ self.matrix.T + np.asarray(self.origin_px)
        return posed


def make_pose(
    origin_px: tuple[float, float],
    px_per_cm: float,
    angle: float = 0.0,
    *,
    mirrored: bool = False,
    foreshortening: float = 1.0,
) -> Pose:
    """Return a pose: mirror, turn by `angle` radians, then shorten along y by a factor of at most 1."""
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([1.0, -1.0 if mirrored else 1.0])
    matrix = np.diag([1.0, foreshortening]) @ turn * px_per_cm
    return Pose(origin_px, matrix, 1.0 / foreshortening)


def extent_px(item: Item, pose: Pose) -> tuple[float, float, float, float]:
    """Return (xmin, ymin, xmax, ymax) around all outlines and strokes of a posed item."""
    boxes = np.array([_PosedPart(part, pose).extent for part in item])
    return float(boxes[:, 0].min()), float(boxes[:, 1].min()), float(boxes[:, 2].max()), float(boxes[:, 3].max())


def render_part(part: Part, pose: Pose, width_px: int, height_px: int) -> tuple[int, int, Floats] | None:
    """Return where the part's map begins (x, y) and its thickness in cm (H, W), None where it is out of sight."""
    posed = _PosedPart(part, pose)
    window = posed.window(width_px, height_px)
    if window is None:
        return None
    left, top, width, height = window
    gain = pose.tilt_gain / 255 * (1.0 if callable(part.thickness_cm) else part.thickness_cm)
    thickness_HW = np.multiply(posed.coverage(*window), np.float32(gain), dtype=np.float32)
    if callable(part.thickness_cm):
        thickness_HW *= part.thickness_cm(*_item_coordinates(pose, *window))
    if part.relief is not None:
        xmin, ymin, xmax, ymax = posed.extent
        size = (math.ceil(xmax) - math.floor(xmin) + 1, math.ceil(ymax) - math.floor(ymin) + 1)
        x, y = left - math.floor(xmin), top - math.floor(ymin)
        stretched = Image.fromarray(part.relief).resize(size, Image.Resampling.BILINEAR)
        thickness_HW *= np.asarray(stretched.crop((x, y, x + width, y + height)))
    return left, top, thickness_HW


def trace_part(part: Part, pose: Pose, width_px: int, height_px: int) -> tuple[npt.NDArray[np.intp], Floats]:
    """Return the pixels that a part made of lines touches, as flat indices, and its thickness in cm at each.

    The same as `render_part`, several times as fast where a seam runs around the whole bag.
    """
    assert not callable(part.thickness_cm) and part.relief is None, "lines have one thickness"
    posed = _PosedPart(part, pose)
    window = posed.window(width_px, height_px)
    if window is None:
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.float32)
    left, top, width, _ = window
    coverage = posed.coverage(*window).ravel()
    touched = np.flatnonzero(coverage != 0)
    thickness = coverage[touched] * np.float32(pose.tilt_gain * part.thickness_cm / 255)
    rows, columns = np.divmod(touched, width)
    return (rows + top) * width_px + columns + left, thickness


class _PosedPart:
    """A part with all its vertices in pixels of the scan."""

    def __init__(self, part: Part, pose: Pose) -> None:
        # A stroke's width: along x nothing is foreshortened, so the first row's length is the true scale.
        px_per_cm = math.hypot(pose.matrix[0, 0], pose.matrix[0, 1])
        self.pens_px = [width_cm * px_per_cm for _, width_cm in part.strokes]
        lines = [*part.outlines, *(points for points, _ in part.strokes), *part.holes]
        ends = np.cumsum([len(points) for points in lines])
        # All vertices in one product: a board has a hundred short outlines.
        vertices = pose.apply(np.concatenate(lines))
        posed = [vertices[end - len(points) : end] for points, end in zip(lines, ends, strict=True)]
        num_outlines, num_seen = len(part.outlines), len(part.outlines) + len(part.strokes)
        self.outlines, self.strokes, self.holes = posed[:num_outlines], posed[num_outlines:num_seen], posed[num_seen:]
        self.extent = self._measure(vertices[: ends[num_seen - 1]])
        """(xmin, ymin, xmax, ymax) around outlines and strokes."""

    def _measure(self, vertices: Points) -> tuple[float, float, float, float]:
        if self.strokes:
            margins = [0.0] * len(self.outlines) + [pen / 2 for pen in self.pens_px]
            counts = [len(points) for points in (*self.outlines, *self.strokes)]
            margin = np.repeat(margins, counts)[:, None]
            low, high = (vertices - margin).min(axis=0), (vertices + margin).max(axis=0)
        else:
            low, high = vertices.min(axis=0), vertices.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def window(self, width_px: int, height_px: int) -> tuple[int, int, int, int] | None:
        """Return (left, top, width, height) of what is seen of the part in a scan, None where nothing is."""
        xmin, ymin, xmax, ymax = self.extent
        left, top = max(0, math.floor(xmin)), max(0, math.floor(ymin))
        right, bottom = min(width_px, math.ceil(xmax) + 1), min(height_px, math.ceil(ymax) + 1)
        return (left, top, right - left, bottom - top) if right > left and bottom > top else None

    def coverage(self, left: int, top: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """Return how much of each pixel of a window the part covers (H, W), 255 for all of it."""
        scale = 2 if width * height < _SUPERSAMPLED_BELOW_PX else 1
        image = Image.new("L", (width * scale, height * scale))
        draw = ImageDraw.Draw(image)
        corner = np.array([left, top], dtype=np.float64)

        def place(points: Points) -> list[float]:
            flat: list[float] = ((points - corner) * scale).ravel().tolist()
            return flat

        for points in self.outlines:
            draw.polygon(place(points), fill=255)
        for points, pen_px in zip(self.strokes, self.pens_px, strict=True):
            pen = max(1, round(pen_px * scale))
            draw.line(place(points), fill=255, width=pen, joint="curve" if pen > 14 else None)
        for points in self.holes:
            draw.polygon(place(points), fill=0)
        if scale > 1:
            image = image.reduce(scale)
        return np.asarray(image)


def _item_coordinates(pose: Pose, left: int, top: int, width: int, height: int) -> tuple[Floats, Floats]:
    inverse = np.linalg.inv(pose.matrix).astype(np.float32)
    dx_W = np.arange(left, left + width, dtype=np.float32) + np.float32(0.5 - pose.origin_px[0])
    dy_H1 = (np.arange(top, top + height, dtype=np.float32) + np.float32(0.5 - pose.origin_px[1]))[:, None]
    return inverse[0, 0] * dx_W + inverse[0, 1] * dy_H1, inverse[1, 0] * dx_W + inverse[1, 1] * dy_H1


def move_item(item: Sequence[Part], dx: float = 0.0, dy: float = 0.0, angle: float = 0.0) -> Item:
    """Return a rigid copy of an item, turned about its origin by `angle` radians, then moved by (dx, dy) in cm."""
    cos, sin = math.cos(angle), math.sin(angle)
    turn, offset = np.array([[cos, sin], [-sin, cos]]), np.array([dx, dy])

    def move_profile(inner: Profile) -> Profile:
        cos_, sin_, dx_, dy_ = (np.float32(value) for value in (cos, sin, dx, dy))
        return lambda x, y: inner(cos_ * (x - dx_) + sin_ * (y - dy_), cos_ * (y - dy_) - sin_ * (x - dx_))

    moved = _change_vertices(item, lambda vertices: vertices @ turn + offset)
    return tuple(
        replace(part, thickness_cm=move_profile(part.thickness_cm)) if callable(part.thickness_cm) else part
        for part in moved
    )


def map_points(item: Sequence[Part], change: Callable[[Points], Points]) -> Item:
    """Return a copy of an item with all its vertices changed; only for parts of one thickness."""
    assert not any(callable(part.thickness_cm) for part in item), "a profile does not follow the vertices"
    return _change_vertices(item, change)


def _change_vertices(item: Sequence[Part], change: Callable[[Points], Points]) -> Item:
    lines = [line for part in item for line in (*part.outlines, *part.holes, *(points for points, _ in part.strokes))]
    # All vertices in one go: a bag has a hundred short lines.
    changed = change(np.concatenate(lines))
    ends = np.cumsum([len(line) for line in lines])
    pieces = iter([changed[end - len(line) : end] for line, end in zip(lines, ends, strict=True)])
    return tuple(
        replace(
            part,
            outlines=tuple(next(pieces) for _ in part.outlines),
            holes=tuple(next(pieces) for _ in part.holes),
            strokes=tuple((next(pieces), width) for _, width in part.strokes),
        )
        for part in item
    )


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
