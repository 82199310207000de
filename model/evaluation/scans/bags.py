"""Fuse the scans of each bag into one row, so that everything is rated by bags."""

# N scans  G bags  K classes  L levels

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.scans.scored_scans import UNSCORED, ScoredScans
from model.metrics.bags import Fusion, fuse_labels, fuse_logits


def number_bags(scans: ScoredScans) -> npt.NDArray[np.int64]:
    """Return a number for the bag of each scan: the dataset's `group`; a scan without one is a bag of its own."""
    return number_groups(scans.names_of_groups_N)


def number_groups(names_N: pa.Array) -> npt.NDArray[np.int64]:
    """Return a number for each name, equal for equal names; each null has a number of its own."""
    if names_N.null_count == len(names_N):
        return np.arange(len(names_N))
    codes = names_N.dictionary_encode().indices
    alone = pa.array(np.arange(len(names_N)) + len(names_N), pa.int64())
    numbers: npt.NDArray[np.int64] = pc.coalesce(codes.cast(pa.int64()), alone).to_numpy()
    return numbers


def fuse_bags(scans: ScoredScans, fusion: Fusion) -> ScoredScans:
    """Return a row a bag, in the order of their first scans, with the fused scores and labels of the bag's scans.

    A bag has the class if any of its scans does; the label is unknown if none is known to and one is unknown. Key, size
    and metadata are its first scan's. Peaks and boxes are of single scans: bags have none.

    Raises:
        ValueError: the dataset does not say which scans show one bag.
    """
    if not scans.has_groups:
        raise ValueError(
            f"data must say which scans show one bag, got no group in split {scans.split!r}; convert it with --group-by"
        )
    _, first_of_number, number_N = np.unique(number_bags(scans), return_index=True, return_inverse=True)
    first_G, bag_of_number = np.unique(first_of_number, return_inverse=True)
    bag_N = bag_of_number[number_N]
    logits_NK = np.where(scans.logits_NK == UNSCORED, -np.inf, scans.logits_NK)
    logits_GK = fuse_logits(logits_NK, bag_N, fusion)
    levels = [fuse_logits(level_NK, bag_N, fusion).astype(np.float32) for level_NK in scans.level_logits_LNK]
    taken = pa.array(first_G)
    return replace(
        scans,
        keys_N=scans.keys_N.take(taken),
        labels_NK=np.asfortranarray(fuse_labels(scans.labels_NK, bag_N)),
        logits_NK=np.asfortranarray(np.where(logits_GK == -np.inf, UNSCORED, logits_GK)),
        level_logits_LNK=np.stack(levels) if levels else scans.level_logits_LNK[:, first_G],
        peaks_NK2=np.full((*logits_GK.shape, 2), np.nan, np.float32),
        sizes_N2=scans.sizes_N2[first_G],
        entropy_bits_N=scans.entropy_bits_N[first_G],
        groups_N=np.unique(scans.groups_N[first_G], return_inverse=True)[1].astype(np.int32),
        names_of_groups_N=scans.names_of_groups_N.take(taken),
        metadata_N=None if scans.metadata_N is None else scans.metadata_N.take(taken),
        box_scan_B=scans.box_scan_B[:0],
        box_class_B=scans.box_class_B[:0],
        box_edges_B4=scans.box_edges_B4[:0],
        fusion=fusion,
    )
