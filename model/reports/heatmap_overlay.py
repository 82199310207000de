"""Draw a scan with its boxes, the heatmap of a class with its peak, and an attention mask.

Shapes: H W pixels of a scan
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from model.reports.charts import CHANCE, INK, MUTED, SERIES

Edges = tuple[float, float, float, float]
"""xmin, ymin, xmax, ymax in pixels."""
Picture = npt.NDArray[np.float32]
"""(H, W), any scale."""
PANEL_PX = 560
"""Longest side of a panel; smaller scans are not enlarged."""
LAYER_PX = 180
"""Longest side of a layer: a cell of the finest map has some pixels, and a browser smooths them."""
_LAYER_OPACITY = 0.75
_MARGIN, _LINE = 10, 20
_LEGEND_PX = 450
_WHITE = "#ffffff"


@dataclass(frozen=True, slots=True)
class Layer:
    """A heatmap to lay over a picture of its scan."""

    png: bytes
    """Its colours, the more opaque the higher; at most LAYER_PX a side."""
    lowest: str
    """In logits, as format_range has it; the transparent end."""
    highest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Marks on a scan, in its pixels."""

    title: str
    class_name: str
    peak_px: tuple[float, float]
    """x and y where the class' heatmap is highest."""
    own_boxes: tuple[Edges, ...]
    """Labelled boxes of the class."""
    other_boxes: tuple[Edges, ...]


def draw_overlay(scan: Image.Image, heatmap_HW: Picture, marks: Marks, attention_HW: Picture | None = None) -> bytes:
    """Return a PNG: the scan, the heatmap over it, and the attention mask over it where there is one, with scales.

    Args:
        scan: RGB, (W, H) pixels.
        heatmap_HW: of the class, in logits; shown from its lowest to its highest value, which the legend names.
        marks: boxes, peak and title.
        attention_HW: in [0, 1].
    """
    scale = min(1.0, PANEL_PX / max(scan.size))
    small = scan.resize((max(1, round(scan.width * scale)), max(1, round(scan.height * scale))))
    panels = [("scan", small, True, False), (f"heatmap of {marks.class_name}", _tint(small, heatmap_HW), True, True)]
    if attention_HW is not None:
        panels.append(("attention", _tint(small, attention_HW, (0.0, 1.0)), False, False))
    title_px = math.ceil(_font(15).getlength(marks.title))
    width = max(len(panels) * (small.width + _MARGIN), title_px + _MARGIN, _LEGEND_PX) + _MARGIN
    page = Image.new("RGB", (width, small.height + 4 * _LINE + 2 * _MARGIN), _WHITE)
    pen = ImageDraw.Draw(page)
    pen.text((_MARGIN, _MARGIN), marks.title, INK, _font(15))
    for number, (name, picture, has_boxes, has_peak) in enumerate(panels):
        _draw_marks(picture, marks, scale, has_boxes, has_peak)
        left = _MARGIN + number * (small.width + _MARGIN)
        pen.text((left, _MARGIN + _LINE), name, MUTED, _font(12))
        page.paste(picture, (left, _MARGIN + 2 * _LINE))
    _draw_legend(pen, page.height - 2 * _LINE - _MARGIN, marks)
    scales = [(marks.class_name, float(heatmap_HW.min()), float(heatmap_HW.max()), " logits")]
    if attention_HW is not None:
        scales.append(("attention", 0.0, 1.0, ""))
    _draw_scales(pen, page.height - _LINE - _MARGIN, scales)
    out = io.BytesIO()
    page.save(out, "PNG")
    return out.getvalue()


def draw_layer(heatmap_HW: Picture) -> Layer:
    """Return a heatmap, in logits, as a layer over its scan; equal arguments give equal bytes."""
    scale = min(1.0, LAYER_PX / max(heatmap_HW.shape))
    height_px, width_px = (max(1, round(side * scale)) for side in heatmap_HW.shape)
    strength = _resize_strength(heatmap_HW, (width_px, height_px))
    layer = Image.fromarray((255 * strength).round().astype(np.uint8)).convert("P")
    steps = np.linspace(0, 1, 256)
    layer.putpalette((mpl.colormaps["inferno"](steps)[:, :3] * 255).round().astype(np.uint8).tobytes())
    out = io.BytesIO()
    opacity = (255 * _LAYER_OPACITY * steps).round().astype(np.uint8).tobytes()
    layer.save(out, "PNG", transparency=opacity, optimize=True)
    return Layer(out.getvalue(), *format_range(float(heatmap_HW.min()), float(heatmap_HW.max())))


def _tint(scan: Image.Image, values_HW: Picture, limits: tuple[float, float] | None = None) -> Image.Image:
    """Return the scan in grey under the values' colours, more opaque the higher they are."""
    strength = _resize_strength(values_HW, scan.size, limits)[..., None]
    colours = mpl.colormaps["inferno"](strength[..., 0])[..., :3] * 255
    grey = np.asarray(scan.convert("L"), np.float32)[..., None]
    mixed = grey * (0.85 - 0.65 * strength) + colours * (0.15 + 0.65 * strength)
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


def _resize_strength(
    values_HW: Picture, size_px: tuple[int, int], limits: tuple[float, float] | None = None
) -> Picture:
    """Return values scaled from 0 at their lowest (or the first limit) to 1, at another width and height."""
    lowest, highest = limits or (float(values_HW.min()), float(values_HW.max()))
    strength = ((values_HW - lowest) / max(highest - lowest, 1e-6)).clip(0, 1)
    resized = Image.fromarray(strength.astype(np.float32)).resize(size_px, Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _draw_marks(picture: Image.Image, marks: Marks, scale: float, has_boxes: bool, has_peak: bool) -> None:
    pen = ImageDraw.Draw(picture)
    if has_boxes:
        for boxes, colour in ((marks.other_boxes, MUTED), (marks.own_boxes, SERIES)):
            for box in boxes:
                _draw_box(pen, tuple(edge * scale for edge in box), colour)
    if has_peak:
        _draw_cross(pen, marks.peak_px[0] * scale, marks.peak_px[1] * scale)


def _draw_box(pen: ImageDraw.ImageDraw, edges: tuple[float, ...], colour: str) -> None:
    pen.rectangle(edges, outline=_WHITE, width=4)  # type: ignore[arg-type]
    inner = (edges[0] + 1, edges[1] + 1, max(edges[0] + 1, edges[2] - 1), max(edges[1] + 1, edges[3] - 1))
    pen.rectangle(inner, outline=colour, width=2)


def _draw_cross(pen: ImageDraw.ImageDraw, x: float, y: float, arm: int = 9) -> None:
    for colour, width in ((_WHITE, 5), (CHANCE, 2)):
        pen.line((x - arm, y, x + arm, y), colour, width)
        pen.line((x, y - arm, x, y + arm), colour, width)


def _draw_legend(pen: ImageDraw.ImageDraw, top: int, marks: Marks) -> None:
    x, middle = float(_MARGIN), top + _LINE / 2
    for colour, text in ((SERIES, f"{marks.class_name}, labelled"), (MUTED, "other item")):
        _draw_box(pen, (x, top + 4, x + 16, top + 16), colour)
        x = _write(pen, x + 22, middle, text)
    _draw_cross(pen, x + 8, middle, 7)
    _write(pen, x + 22, middle, "peak")


def _draw_scales(pen: ImageDraw.ImageDraw, top: int, scales: Sequence[tuple[str, float, float, str]]) -> None:
    """Draw the colours of each panel in a line: its name, the lowest value, the highest and its unit."""
    x, middle = float(_MARGIN), top + _LINE / 2
    for name, lowest, highest, unit in scales:
        first, last = format_range(lowest, highest)
        x = _write(pen, x, middle, f"{name}: {first}") - 6
        for step in range(60):
            colour = mpl.colors.to_hex(mpl.colormaps["inferno"](step / 59))
            pen.rectangle((x + step, top + 5, x + step + 1, top + 15), fill=colour)
        x = _write(pen, x + 66, middle, last + unit)


def format_range(lowest: float, highest: float) -> tuple[str, str]:
    """Return both ends of a scale, rounded to two digits of their difference."""
    span = highest - lowest
    if not 0 < span < math.inf:
        return f"{lowest:z.3g}", f"{highest:z.3g}"
    decimals = max(0, 1 - math.floor(math.log10(span)))
    return f"{lowest:z.{decimals}f}", f"{highest:z.{decimals}f}"


def _write(pen: ImageDraw.ImageDraw, x: float, middle: float, text: str) -> float:
    """Write at `x` and return the left edge of the next mark."""
    pen.text((x, middle), text, INK, _font(12), anchor="lm")
    return x + pen.textlength(text, _font(12)) + 14


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)
