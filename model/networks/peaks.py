"""Locate items: find the peaks of the class activation maps, in pixels of the scan as stored.

Shapes: B batch  K classes  L levels  h w cells of a level's map  W H pixels of a scan
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Peaks:
    """The highest response of each class over all levels and places."""

    x_px_BK: Tensor
    """float32, in the original image: 0 is its left edge, its width the right edge; always inside."""
    y_px_BK: Tensor
    level_BK: Tensor
    """int64, from 1 (finest) to L."""
    value_BK: Tensor
    """float32, in logits; NaN if a map has a NaN."""


def find_peaks(
    heatmaps: Sequence[Tensor], widths_px_B: Tensor, heights_px_B: Tensor, windows_B4: Tensor | None = None
) -> Peaks:
    """Return the maxima of the maps over all levels and places (CHR paper, Section 5.3).

    The paper rescales each map to the image first. A map rescaled bilinearly (`align_corners=False`) has its maximum at
    the centre of a cell, since every value between centres is a weighted mean of cells. Scoring squashes the whole scan
    to a square, so the centre of column j of w lies at (j + 0.5) / w of the scan's width: no map needs rescaling, and
    the peak is not rounded to a pixel.

    The maps are logits that include their level's bias (`model.networks.chr.MapClassifier`), unlike the paper's class
    activation maps: levels are compared on the scale on which the prediction adds them up.

    Ties go to the finest level, then the upper row, then the left column.

    Args:
        heatmaps: level 1 (finest) to L, each (B, K, h, w); sizes differ between levels.
        widths_px_B: of the scans as stored.
        heights_px_B: likewise.
        windows_B4: what trimming left of each scan, see `model.inputs.crop_geometry`; None: the whole scan.
    """
    best = [_best_cell(heatmap) for heatmap in heatmaps]
    values_LBK = torch.stack([value_BK for value_BK, _, _ in best])
    winner_1BK = values_LBK.argmax(dim=0, keepdim=True)  # the first of equals: the finest level
    x_fraction_BK = torch.stack([x_BK for _, x_BK, _ in best]).gather(0, winner_1BK)[0]
    y_fraction_BK = torch.stack([y_BK for _, _, y_BK in best]).gather(0, winner_1BK)[0]
    device = values_LBK.device
    if windows_B4 is not None:
        left_B1, top_B1, right_B1, bottom_B1 = (edges_B[:, None] for edges_B in windows_B4.to(device).unbind(dim=1))
        x_fraction_BK = left_B1 + x_fraction_BK * (right_B1 - left_B1)
        y_fraction_BK = top_B1 + y_fraction_BK * (bottom_B1 - top_B1)
    return Peaks(
        x_px_BK=x_fraction_BK * widths_px_B.to(device, torch.float32)[:, None],
        y_px_BK=y_fraction_BK * heights_px_B.to(device, torch.float32)[:, None],
        level_BK=winner_1BK[0] + 1,
        value_BK=values_LBK.gather(0, winner_1BK)[0],
    )


def _best_cell(heatmap_BKhw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return value, and x and y of the centre as fractions of the image, of each map's highest cell; (B, K) each."""
    num_rows, num_columns = heatmap_BKhw.shape[-2:]
    flat_BKc = heatmap_BKhw.float().flatten(start_dim=2)
    cell_BK = flat_BKc.argmax(dim=2)  # the first of equals, in row-major order
    value_BK = flat_BKc.gather(2, cell_BK[..., None])[..., 0]
    x_BK = (cell_BK % num_columns + 0.5) / num_columns
    y_BK = (cell_BK // num_columns + 0.5) / num_rows
    return value_BK, x_BK, y_BK
