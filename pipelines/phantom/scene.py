"""Generate one scan: scanner, bags on the belt, their contents and the prohibited items in them."""

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from pipelines.phantom.imaging.scanner import Beam, encode_jpeg, load_scanners
from pipelines.phantom.imaging.shapes import Item, Pose, extent_px, make_pose
from pipelines.phantom.items.bags import Bag, make_bag
from pipelines.phantom.items.clutter import make_clutter
from pipelines.phantom.items.threats import make_threat

Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """The tight bounding box of a prohibited item in pixels, clipped to the scan."""

    name: str
    xmin_px: float
    ymin_px: float
    xmax_px: float
    ymax_px: float


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan with the boxes of its prohibited items."""

    jpeg: bytes
    width_px: int
    height_px: int
    boxes: tuple[LabelledBox, ...]


@dataclass(frozen=True, slots=True)
class _PackedBag:
    bag: Bag
    centre_px: tuple[float, float]
    px_per_cm: float
    angle: float

    @property
    def pose(self) -> Pose:
        return make_pose(self.centre_px, self.px_per_cm, self.angle)


def make_scan(threats: Sequence[str], rng: Rng, clutter: float = 1.0) -> Scan:
    """Return a scan of bags that hold one item for each name in `threats`, which may be empty.

    Bags and clutter do not depend on `threats`: positive and negative scans differ by these items alone.

    Args:
        threats: classes of the prohibited items.
        rng: random generator of this scan.
        clutter: how full the bags are, relative to real ones.
    """
    views = load_views()
    names = list(views)
    look = names[int(rng.choice(len(names), p=[views[name]["share"] for name in names]))]
    view = views[look]
    bags = [make_bag(rng) for _ in range(int(rng.integers(view["num_bags"][0], view["num_bags"][1] + 1)))]
    width, height, packed = _lay_out(view, bags, rng)
    beam = Beam(width, height)
    for entry in packed:
        beam.add(entry.bag.item, entry.pose)
        _fill_bag(beam, entry, view["density"] * clutter, rng)
    boxes = tuple(_add_threat(beam, name, packed[int(rng.integers(len(packed)))], rng) for name in threats)
    return Scan(encode_jpeg(load_scanners()[look].develop(beam, rng)), width, height, boxes)


@functools.cache
def load_views() -> Mapping[str, Mapping[str, Any]]:
    """Return the kinds of scan in `views.json` by scanner; their shares add up to 1."""
    table = json.loads(resources.files("pipelines.phantom").joinpath("views.json").read_text())
    levels = table.pop("levels")
    table.pop("source")
    total = sum(view["share"] for view in table.values())
    return {name: {**view, "share": view["share"] / total, "levels": levels} for name, view in table.items()}


def _lay_out(view: Mapping[str, Any], bags: Sequence[Bag], rng: Rng) -> tuple[int, int, list[_PackedBag]]:
    angles = [_draw_angle(rng) for _ in bags]
    sizes = np.array([_turned_size(bag, angle) for bag, angle in zip(bags, angles, strict=True)])
    # Bags lie in a row along x, the direction of the belt.
    gap_cm = 2.0
    row = np.array([sizes[:, 0].sum() + gap_cm * (len(bags) - 1), sizes[:, 1].max()])
    fill = rng.uniform(*view["fill_fraction"])
    num_pixels = _draw_quantile(view["num_pixels"], view["levels"], rng)
    aspect = row[0] / row[1]
    if view["aspect"] is not None:
        shortest, longest = view["aspect"]
        aspect = min(max(aspect * math.exp(rng.normal(0, 0.22)), shortest), longest)
    width, height = round(math.sqrt(num_pixels * aspect)), round(math.sqrt(num_pixels / aspect))
    px_per_cm = fill * min(width / row[0], height / row[1])
    slack = np.array([width, height]) - row * px_per_cm
    corner = slack * rng.uniform(0.2, 0.8, 2)
    packed, x = [], corner[0]
    for bag, angle, size in zip(bags, angles, sizes, strict=True):
        y = corner[1] + rng.uniform(0, 1) * (row[1] - size[1]) * px_per_cm + size[1] * px_per_cm / 2
        packed.append(_PackedBag(bag, (x + size[0] * px_per_cm / 2, y), px_per_cm, angle))
        x += (size[0] + gap_cm) * px_per_cm
    return width, height, packed


def _fill_bag(beam: Beam, packed: _PackedBag, density: float, rng: Rng) -> None:
    bag = packed.bag
    # An ordinary bag has about a dozen items per 2,000 square centimetres.
    expected = density * bag.capacity * 11 * bag.length_cm * bag.width_cm / 2000
    for _ in range(2 + int(rng.poisson(expected))):
        item = make_clutter(rng)
        reach = _half_diagonal_cm(item)
        if reach > 0.62 * bag.length_cm:
            continue
        beam.add(item, _place(packed, reach, rng, least_foreshortening=0.7))


def _add_threat(beam: Beam, name: str, packed: _PackedBag, rng: Rng) -> LabelledBox:
    item = make_threat(name, rng)
    pose = _place(packed, _half_diagonal_cm(item), rng, least_foreshortening=0.85)
    xmin, ymin, xmax, ymax = extent_px(item, pose)
    # An item across the border is moved in until nine tenths of its width and height are visible.
    dx = _push_in(xmin, xmax, beam.width_px)
    dy = _push_in(ymin, ymax, beam.height_px)
    beam.add(item, Pose((pose.origin_px[0] + dx, pose.origin_px[1] + dy), pose.matrix, pose.tilt_gain))
    return LabelledBox(
        name,
        max(0.0, xmin + dx),
        max(0.0, ymin + dy),
        min(float(beam.width_px), xmax + dx),
        min(float(beam.height_px), ymax + dy),
    )


def _place(packed: _PackedBag, reach_cm: float, rng: Rng, *, least_foreshortening: float) -> Pose:
    bag = packed.bag
    free = np.maximum(np.array([bag.length_cm, bag.width_cm]) * bag.inside / 2 - reach_cm * 0.3, 2.0)
    origin = packed.pose.apply(rng.uniform(-1, 1, (1, 2)) * free)[0]
    return make_pose(
        (float(origin[0]), float(origin[1])),
        packed.px_per_cm,
        float(rng.uniform(-math.pi, math.pi)),
        mirrored=bool(rng.random() < 0.5),
        foreshortening=float(rng.uniform(least_foreshortening, 1)),
    )


def _draw_angle(rng: Rng) -> float:
    # Bags lie along or across the belt, most of them slightly rotated.
    quarter = math.pi / 2 * int(rng.integers(4))
    return quarter + float(rng.normal(0, 0.06) if rng.random() < 0.7 else rng.uniform(-0.6, 0.6))


def _turned_size(bag: Bag, angle: float) -> tuple[float, float]:
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    return bag.length_cm * cos + bag.width_cm * sin, bag.length_cm * sin + bag.width_cm * cos


def _half_diagonal_cm(item: Item) -> float:
    xmin, ymin, xmax, ymax = extent_px(item, make_pose((0.0, 0.0), 1.0))
    return math.hypot(max(-xmin, xmax), max(-ymin, ymax))


def _push_in(low: float, high: float, size_px: int) -> float:
    margin = 0.1 * (high - low)
    if low < -margin:
        return -margin - low
    return min(0.0, size_px + margin - high)


def _draw_quantile(values: Sequence[float], levels: Sequence[float], rng: Rng) -> float:
    return float(np.exp(np.interp(rng.random(), levels, np.log(values))))
