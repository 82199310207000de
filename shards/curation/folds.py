"""Divide scans into folds by bag, for models that each leave one fold out."""

# N scans  G bags

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Fold:
    """One of several parts of a training split."""

    number: int
    """From 1."""
    num_folds: int

    def __str__(self) -> str:
        return f"fold {self.number} of {self.num_folds}"


def assign_folds(bags_N: pa.Array, is_positive_N: npt.NDArray[np.bool_], num_folds: int) -> npt.NDArray[np.int64]:
    """Return the fold of each scan, from 1; a bag lies in one, and folds have nearly as many positives and scans.

    Bags go one by one, the largest first and equal ones in the order of a hash, to the fold with the fewest positives;
    bags without positives to the fold with the fewest scans. So it depends on the scans and not on their order.

    Args:
        bags_N: name of each scan's bag, of `shards.curation.bags.name_bags`.
        is_positive_N: whether a scan has any item.
        num_folds: at least 2.

    Raises:
        ValueError: there are fewer bags than folds, or one fold.
    """
    coded = bags_N.dictionary_encode()
    names, bag_N = coded.dictionary.to_pylist(), coded.indices.to_numpy(zero_copy_only=False)
    if not 2 <= num_folds <= len(names):
        raise ValueError(f"folds must be 2 to the number of bags, {len(names)}, got {num_folds}")
    scans_G = np.bincount(bag_N).tolist()
    positives_G = np.bincount(bag_N, weights=is_positive_N).astype(int).tolist()
    num_scans, num_positives, fold_G = [0] * num_folds, [0] * num_folds, np.zeros(len(names), np.int64)
    for bag in sorted(range(len(names)), key=lambda bag: (-positives_G[bag], -scans_G[bag], _digest(names[bag]))):
        counts = num_positives if positives_G[bag] else num_scans
        fold = min(range(num_folds), key=lambda number: (counts[number], num_scans[number], number))
        num_scans[fold] += scans_G[bag]
        num_positives[fold] += positives_G[bag]
        fold_G[bag] = fold + 1
    found: npt.NDArray[np.int64] = fold_G[bag_N]
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
