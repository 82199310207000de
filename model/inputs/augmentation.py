"""Vary scans and their boxes after decoding: views of another scale, aspect and orientation, thicker or thinner bags.

Everything is computed on the batch, on its device, from numbers that follow from (seed, epoch, entry) alone: not from
batch size, rank, worker or point of resumption. What a view shows outside the scan is white, as around a bag.

Shapes: B batch  E entries of an epoch  C colour  H W pixels  M boxes of a batch
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.inputs.batch import Batch
from model.inputs.sampling import seeded_generator
from model.networks.config import InputConfig

_NUM_DRAWS = 7
_DARKEST = 1e-3
"""Least transmission: its logarithm must be finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationConfig:
    """What training varies beside crop and mirror; all off by default, as in the papers."""

    scale: float = 0.0
    """A view is up to this share larger or smaller than the scan, the logarithm uniform: 0.5 is 1/1.5 to 1.5 times."""
    aspect: float = 0.0
    """The ratio of a view's sides changes by up to this share, likewise."""
    exposure: float = 0.0
    """Transmission is raised to a power of up to 1 + this, or its inverse: materials become thicker or thinner."""
    upside_down: bool = False
    """Half of the views are mirrored top to bottom."""
    quarter_turns: bool = False
    """Views are rotated by 0, 90, 180 or 270 degrees."""
    mixed: float = 0.0
    """Share of the scans that are multiplied by another scan of the epoch; see `model.inputs.mixing`."""
    projected: float = 0.0
    """Share of the scans into which an object of another is projected, half of them items; see
    `model.inputs.projecting`."""

    def __post_init__(self) -> None:
        for name in ("mixed", "projected"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("scale", "aspect", "exposure"):
            if not 0 <= getattr(self, name) < 4:
                raise ValueError(f"{name} must be in [0, 4), got {getattr(self, name)}")

    @property
    def is_off(self) -> bool:
        """Whether views of scans stay as they are."""
        return replace(self, mixed=0.0, projected=0.0) == AugmentationConfig()


def epoch_variations(num_entries: int, seed: int, epoch: int, *, stream: int = 2) -> np.ndarray:
    """Return float64 (E, 7) in [0, 1): scale, aspect, x, y, exposure, upside down and quarter turns of each entry."""
    draws_E7: np.ndarray = seeded_generator(seed, epoch, stream).random((num_entries, _NUM_DRAWS))
    return draws_E7


def vary(batch: Batch, config: AugmentationConfig, draws_B7: np.ndarray, normalisation: InputConfig) -> Batch:
    """Return a batch with its scans and boxes varied.

    Args:
        batch: as it was decoded.
        config: what to vary.
        draws_B7: of `epoch_variations`, the rows of the batch's entries.
        normalisation: of the images.
    """
    if config.is_off:
        return batch
    images_BCHW, edges_M4 = batch.images_BCHW, batch.boxes.edges_M4
    device = images_BCHW.device
    mean_C, std_C = (
        torch.tensor(values, device=device)[:, None, None] for values in (normalisation.mean, normalisation.std)
    )
    transmission_BCHW = images_BCHW * std_C + mean_C
    if config.exposure:
        powers_B = torch.from_numpy(_spread(draws_B7[:, 4], config.exposure)).to(device, torch.float32)
        transmission_BCHW = transmission_BCHW.clamp(min=_DARKEST) ** powers_B[:, None, None, None]
    if config.scale or config.aspect:
        windows_B4 = torch.from_numpy(draw_windows(config, draws_B7)).float()  # where the boxes are: in memory
        transmission_BCHW = _show(transmission_BCHW, windows_B4.to(device))
        edges_M4 = _boxes_in(edges_M4, windows_B4[batch.boxes.scans_M])
    turns_B = np.zeros(len(draws_B7), np.int64)
    if config.quarter_turns:
        turns_B = np.floor(4 * draws_B7[:, 6]).astype(np.int64)
    flips_B = (draws_B7[:, 5] < 0.5) & config.upside_down
    transmission_BCHW = _turn(transmission_BCHW, flips_B, turns_B)
    edges_M4 = _turn_boxes(edges_M4, *(torch.from_numpy(of)[batch.boxes.scans_M] for of in (flips_B, turns_B)))
    images_BCHW = ((transmission_BCHW - mean_C) / std_C).contiguous(memory_format=torch.channels_last)
    return batch._replace(images_BCHW=images_BCHW, boxes=batch.boxes._replace(edges_M4=edges_M4))


def draw_windows(config: AugmentationConfig, draws_B7: np.ndarray) -> np.ndarray:
    """Return the views (B, 4): left, top, right and bottom as fractions of the scan.

    A view that is smaller than the scan lies within it, a larger one around it.
    """
    scale_B = _spread(draws_B7[:, 0], config.scale)
    aspect_B = np.sqrt(_spread(draws_B7[:, 1], config.aspect))
    sizes_B2 = np.stack([scale_B * aspect_B, scale_B / aspect_B], axis=1)
    origin_B2 = draws_B7[:, 2:4] * (1 - sizes_B2)
    return np.concatenate([origin_B2, origin_B2 + sizes_B2], axis=1)


def _spread(draws_B: np.ndarray, share: float) -> np.ndarray:
    """Return factors from 1 / (1 + share) to 1 + share, the logarithm uniform."""
    factors_B: np.ndarray = np.exp((2 * draws_B - 1) * math.log1p(share))
    return factors_B


def _show(transmission_BCHW: Tensor, windows_B4: Tensor) -> Tensor:
    low_B2, high_B2 = windows_B4[:, :2], windows_B4[:, 2:]
    matrix_B23 = torch.cat([torch.diag_embed(high_B2 - low_B2), (low_B2 + high_B2 - 1)[:, :, None]], dim=2)
    grid_BHW2 = functional.affine_grid(matrix_B23, list(transmission_BCHW.shape), align_corners=False)
    # Outside is zero: what is sampled is the darkness, which is zero in white.
    dark_BCHW = functional.grid_sample(1 - transmission_BCHW, grid_BHW2, align_corners=False)
    return 1 - dark_BCHW


def _boxes_in(edges_M4: Tensor, windows_M4: Tensor) -> Tensor:
    low_M4, high_M4 = windows_M4[:, :2].repeat(1, 2), windows_M4[:, 2:].repeat(1, 2)
    return (edges_M4 - low_M4) / (high_M4 - low_M4)


def _turn(images_BCHW: Tensor, flips_B: np.ndarray, turns_B: np.ndarray) -> Tensor:
    turned_BCHW = images_BCHW.clone()
    for place in np.flatnonzero(flips_B | (turns_B > 0)).tolist():
        image_CHW = images_BCHW[place].flip(1) if flips_B[place] else images_BCHW[place]
        turned_BCHW[place] = torch.rot90(image_CHW, int(turns_B[place]), (1, 2))
    return turned_BCHW


def _turn_boxes(edges_M4: Tensor, flips_M: Tensor, turns_M: Tensor) -> Tensor:
    left_M, top_M, right_M, bottom_M = edges_M4.unbind(dim=1)
    top_M, bottom_M = torch.where(flips_M, 1 - bottom_M, top_M), torch.where(flips_M, 1 - top_M, bottom_M)
    turned = [
        (left_M, top_M, right_M, bottom_M),
        (top_M, 1 - right_M, bottom_M, 1 - left_M),  # counter-clockwise, as torch.rot90 of rows and columns
        (1 - right_M, 1 - bottom_M, 1 - left_M, 1 - top_M),
        (1 - bottom_M, left_M, 1 - top_M, right_M),
    ]
    all_4M4 = torch.stack([torch.stack(edges, dim=1) for edges in turned])
    return all_4M4[turns_M, torch.arange(len(edges_M4), device=edges_M4.device)]
