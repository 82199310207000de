"""Fuse the heatmaps of a network's levels into one at the size of the scan.

Shapes: K classes  H W pixels of a scan  h w cells of a level's map
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

MAP_SCALE = 2
"""Cells of joined maps a cell of level 1, and side."""


def join_heatmaps(heatmaps: Sequence[Tensor]) -> Tensor:
    """Return the heatmap of each class, float32 (B, K, h, w): the maximum over levels, finer than level 1 by MAP_SCALE.

    Args:
        heatmaps: level 1 to L, each (B, K, h, w).
    """
    num_rows, num_columns = heatmaps[0].shape[-2:]
    size = (MAP_SCALE * num_rows, MAP_SCALE * num_columns)
    rescaled = [functional.interpolate(m.float(), size=size, mode="bilinear", align_corners=False) for m in heatmaps]
    return torch.stack(rescaled).amax(dim=0)


def fuse_heatmaps(
    heatmaps: Sequence[Tensor],
    height_px: int,
    width_px: int,
    window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
) -> npt.NDArray[np.float32]:
    """Return a scan's heatmap of each class, float32 (K, H, W): the maximum over levels of the rescaled maps.

    Its peak is that of `model.networks.peaks`, to within a pixel.

    Args:
        heatmaps: of one scan, level 1 to L, each (1, K, h, w).
        height_px: of the scan as stored.
        width_px: likewise.
        window: left, top, right and bottom of the network's input, as fractions of the scan; outside, the heatmap has
            the lowest value of the class.

    Source:
        "SIXray: A Large-scale Security Inspection X-ray Benchmark" (CVPR 2019), Section 5.3.
    """
    left, right = (round(edge * width_px) for edge in window[::2])
    top, bottom = (round(edge * height_px) for edge in window[1::2])
    size = (max(1, bottom - top), max(1, right - left))
    rescaled = [functional.interpolate(m.float(), size=size, mode="bilinear", align_corners=False) for m in heatmaps]
    fused_Khw = torch.cat(rescaled).amax(dim=0).cpu().numpy()
    lowest_K11 = fused_Khw.min(axis=(1, 2), keepdims=True)
    canvas_KHW = np.broadcast_to(lowest_K11, (len(fused_Khw), height_px, width_px)).copy()
    canvas_KHW[:, top : top + size[0], left : left + size[1]] = fused_Khw
    return canvas_KHW
