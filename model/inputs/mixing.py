"""Mix scans of an epoch: multiply one by another, as a beam that passes both bags does (Eq. 1 of the CHR paper).

The other scan of an entry, its crop and its variations follow from (seed, epoch, entry) alone: not from batch size,
rank, worker or point of resumption. It is asked for as the entry E + e, beside the entry e of E.

Shapes: E entries of an epoch  B batch  P other scans of a batch  K classes  C colour  H W pixels  M boxes of a batch
"""

import numpy as np
import torch
from torch import Tensor

from model.inputs.batch import Batch, Boxes
from model.inputs.sampling import seeded_generator
from model.networks.config import InputConfig
from shards.format.classes import UNKNOWN


def epoch_partners(num_entries: int, fraction: float, seed: int, epoch: int) -> np.ndarray:
    """Return the entry that each entry of an epoch is multiplied by, int64 (E,): another one, or -1 for none.

    Args:
        num_entries: of the epoch.
        fraction: of entries that have one.
        seed: of the run.
        epoch: from 0.
    """
    draws_E2 = seeded_generator(seed, epoch, 3).random((num_entries, 2))
    steps_E = 1 + np.floor(draws_E2[:, 1] * (num_entries - 1)).astype(np.int64)
    has_partner_E = (draws_E2[:, 0] < fraction) & (num_entries > 1)
    return np.where(has_partner_E, (np.arange(num_entries) + steps_E) % num_entries, -1)


def with_partners(coded_B: np.ndarray, partners_E: np.ndarray) -> np.ndarray:
    """Return a batch of entries with the other scans of those that have one at its end; padding (< 0) has none."""
    return np.concatenate([coded_B, len(partners_E) + coded_B[_mixed_places(coded_B, partners_E)]])


def mix(batch: Batch, coded_B: np.ndarray, partners_E: np.ndarray, normalisation: InputConfig) -> Batch:
    """Return the scans of a batch, each multiplied by its other one.

    A class is present if it is in either scan, absent if it is in neither, else unknown; the boxes of both stay. A
    mixed scan has no label of a level. Scans without a known label, such as an image that cannot be decoded, are not
    mixed.

    Args:
        batch: decoded from `with_partners(coded_B, partners_E)`, and varied.
        coded_B: of `rank_batches`.
        partners_E: of `epoch_partners`.
        normalisation: of the images.
    """
    num_scans = len(coded_B)
    if len(batch.labels_BK) == num_scans:
        return batch
    is_known_B = (batch.labels_BK != UNKNOWN).any(dim=1)
    places_P = torch.from_numpy(_mixed_places(coded_B, partners_E))
    others_P = torch.arange(num_scans, len(batch.labels_BK))
    is_mixed_P = is_known_B[places_P] & is_known_B[others_P]
    places_P, others_P = places_P[is_mixed_P], others_P[is_mixed_P]

    labels_BK = batch.labels_BK[:num_scans].clone()
    labels_BK[places_P] = _union(labels_BK[places_P], batch.labels_BK[others_P])
    levels_B = batch.levels_B[:num_scans].clone()
    levels_B[places_P] = 0
    new_place_B = torch.arange(len(batch.labels_BK))
    new_place_B[num_scans:] = -1
    new_place_B[others_P] = places_P
    return Batch(
        _multiply(batch.images_BCHW, num_scans, places_P, others_P, normalisation),
        labels_BK,
        batch.rows_B[:num_scans],
        _move(batch.boxes, new_place_B),
        levels_B,
        batch.is_void_B[:num_scans],
    )


def _mixed_places(coded_B: np.ndarray, partners_E: np.ndarray) -> np.ndarray:
    return np.flatnonzero((coded_B >= 0) & (partners_E[np.maximum(coded_B, 0)] >= 0))


def _union(labels_PK: Tensor, others_PK: Tensor) -> Tensor:
    is_present_PK = (labels_PK == 1) | (others_PK == 1)
    return torch.where(is_present_PK, 1.0, torch.minimum(labels_PK, others_PK))  # UNKNOWN is below 0


def _move(boxes: Boxes, new_place_B: Tensor) -> Boxes:
    scans_M = new_place_B[boxes.scans_M]
    kept_M = scans_M >= 0
    return Boxes(boxes.edges_M4[kept_M], boxes.areas_M[kept_M], scans_M[kept_M], boxes.classes_M[kept_M])


def _multiply(
    images_BCHW: Tensor, num_scans: int, places_P: Tensor, others_P: Tensor, normalisation: InputConfig
) -> Tensor:
    device = images_BCHW.device
    mean_C, std_C = (
        torch.tensor(values, device=device)[:, None, None] for values in (normalisation.mean, normalisation.std)
    )
    mixed_BCHW = images_BCHW[:num_scans].clone(memory_format=torch.channels_last)
    places_P, others_P = places_P.to(device), others_P.to(device)
    product_PCHW = (images_BCHW[places_P] * std_C + mean_C) * (images_BCHW[others_P] * std_C + mean_C)
    mixed_BCHW[places_P] = (product_PCHW - mean_C) / std_C
    return mixed_BCHW
