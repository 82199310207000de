"""Rasterise items: outlines in cm become thickness maps in pixels."""

# H, W pixels of the part's own bounding box, not of the scan

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Points = npt.NDArray[np.float64]
"""(n, 2): x to the right, y down; in cm of the item's frame, or in pixels once posed."""
Floats = npt.NDArray[np.float32]
Numbers = Sequence[float] | npt.NDArray[np.float64]
Profile = Callable[[Floats, Floats], Floats]
"""Thickness in cm at (x, y) in cm of the item's frame."""

_SUPERSAMPLED_BELOW_PX = 60_000
"""Smaller parts are drawn at twice the resolution; larger ones are walls and clothes with soft edges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of one material: filled outlines, holes, lines, and its thickness."""

    material: str
    outlines: tuple[Points, ...] = ()
    holes: tuple[Points, ...] = ()
    strokes: tuple[tuple[Points, float], ...] = ()
    """Polylines, each with its width in cm."""
    thickness_cm: float | Profile = 1.0
    relief: Floats | None = None
    """A coarse (h, w) map, stretched over the part, that multiplies the thickness."""


Item = tuple[Part, ...]


def solid(
    material: str,
    thickness_cm: float | Profile,
    *outlines: Points,
    holes: tuple[Points, ...] = (),
    strokes: tuple[tuple[Points, float], ...] = (),
    relief: Floats | None = None,
) -> Part:
    """Return a part that fills outlines."""
    return Part(
        material=material, outlines=outlines, holes=holes, strokes=strokes, thickness_cm=thickness_cm, relief=relief
    )


def lines(material: str, thickness_cm: float, *strokes: tuple[Points, float]) -> Part:
    """Return a part made of polylines, each with its width in cm."""
    return Part(material=material, strokes=strokes, thickness_cm=thickness_cm)


@dataclass(frozen=True, slots=True)
class Pose:
    """Position of an item in the scan: `pixels = points_cm @ matrix.T + origin_px`."""

    origin_px: tuple[float, float]
    matrix: npt.NDArray[np.float64]
    """(2, 2) pixels per cm: rotation, mirroring and foreshortening of a tilted item."""
    tilt_gain: float = 1.0
    """Factor on the thickness of a tilted item: its shadow shrinks, its mass stays."""

    def apply(self, points: Points) -> Points:
        """Return points of the item's frame (cm) in pixels of the scan."""
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
    """Return a pose: mirror, rotate by `angle` radians, then scale y by `foreshortening` <= 1."""
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([1.0, -1.0 if mirrored else 1.0])
    matrix = np.diag([1.0, foreshortening]) @ turn * px_per_cm
    return Pose(origin_px, matrix, 1.0 / foreshortening)


def extent_px(item: Item, pose: Pose) -> tuple[float, float, float, float]:
    """Return (xmin, ymin, xmax, ymax) around all outlines and strokes of a posed item."""
    boxes = np.array([_PosedPart(part, pose).extent for part in item])
    return float(boxes[:, 0].min()), float(boxes[:, 1].min()), float(boxes[:, 2].max()), float(boxes[:, 3].max())


def render_part(part: Part, pose: Pose, width_px: int, height_px: int) -> tuple[int, int, Floats] | None:
    """Return (left, top, thickness in cm (H, W)) of the visible part, None if it lies outside the scan."""
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
    """Return the flat indices of the pixels that a part made of lines touches, and its thickness in cm at each.

    Equals `render_part` and is several times as fast for a seam around the whole bag.
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
    """A part with its vertices in pixels of the scan."""

    def __init__(self, part: Part, pose: Pose) -> None:
        # x is not foreshortened, so the first row's length is the scale of a stroke's width.
        px_per_cm = math.hypot(pose.matrix[0, 0], pose.matrix[0, 1])
        self.pens_px = [width_cm * px_per_cm for _, width_cm in part.strokes]
        lines = [*part.outlines, *(points for points, _ in part.strokes), *part.holes]
        ends = np.cumsum([len(points) for points in lines])
        # One product for all vertices: a board has a hundred short outlines.
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
        """Return (left, top, width, height) of the visible part, None if it lies outside the scan."""
        xmin, ymin, xmax, ymax = self.extent
        left, top = max(0, math.floor(xmin)), max(0, math.floor(ymin))
        right, bottom = min(width_px, math.ceil(xmax) + 1), min(height_px, math.ceil(ymax) + 1)
        return (left, top, right - left, bottom - top) if right > left and bottom > top else None

    def coverage(self, left: int, top: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """Return the coverage of each pixel of a window (H, W), 255 for full."""
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
    """Return a copy of an item, rotated by `angle` radians about the origin, then moved by (dx, dy) in cm."""
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
    """Return a copy of an item with changed vertices; parts must have constant thickness."""
    assert not any(callable(part.thickness_cm) for part in item), "a profile does not follow the vertices"
    return _change_vertices(item, change)


def _change_vertices(item: Sequence[Part], change: Callable[[Points], Points]) -> Item:
    lines = [line for part in item for line in (*part.outlines, *part.holes, *(points for points, _ in part.strokes))]
    # One call for all vertices: a bag has a hundred short lines.
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


def centre_item(item: Sequence[Part]) -> Item:
    """Return a copy of an item, centred at the origin."""
    vertices = np.concatenate(
        [line for part in item for line in (*part.outlines, *(stroke for stroke, _ in part.strokes))]
    )
    x, y = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    return move_item(item, dx=-float(x), dy=-float(y))
