"""Choose the scans of each batch: entries of an epoch, their order, and the share of each rank.

An epoch has one entry for each sample, and more for positives that are repeated; its order is one permutation of all
entries that follows from (seed, epoch) alone.

Rank r of `world_size` takes places r, r + world_size, ... of the permutation, so that the ranks' batches together are
the batch one process would take. Every entry appears exactly once an epoch, and all ranks take the same number of
batches of the same size: if the entries do not divide, the last batch of some ranks is padded with a repeated entry. A
last batch of one entry is padded likewise. The labels of padding are unknown, so it weighs nothing in the loss and in
every metric; batch normalisation does see it.

Shapes: N samples  K classes  E entries of an epoch
"""

import math

import numpy as np


def epoch_entries(labels_NK: np.ndarray, positive_repeats: int) -> np.ndarray:
    """Return the row of each entry of an epoch, int64 (E,): every row, then the positive ones again."""
    positives = np.flatnonzero((labels_NK == 1).any(axis=1))
    return np.concatenate([np.arange(len(labels_NK)), *[positives] * (positive_repeats - 1)])


def repeats_of_positives(labels_NK: np.ndarray, fraction: float) -> int:
    """Return how often each positive must come in an epoch for positives to be at least `fraction` of its entries.

    Negatives come once, so an epoch grows with the fraction. Returns 1 without positives.

    Args:
        labels_NK: 1 present; a row with any of them is a positive.
        fraction: in (0, 1).
    """
    num_positive = int((labels_NK == 1).any(axis=1).sum())
    num_negative = len(labels_NK) - num_positive
    if num_positive == 0:
        return 1
    return max(1, math.ceil(fraction * num_negative / ((1 - fraction) * num_positive)))


def epoch_order(num_entries: int, seed: int, epoch: int) -> np.ndarray:
    """Return the permutation of one epoch, int64 (E,)."""
    return seeded_generator(seed, epoch, 0).permutation(num_entries)


def rank_batches(order_E: np.ndarray, batch_size: int, rank: int, world_size: int) -> list[np.ndarray]:
    """Return the entries of each batch of a rank; -1 - entry stands for a padding copy of `entry`."""
    if len(order_E) == 0:
        return []
    entries = order_E[rank::world_size]
    padding = -1 - order_E[0]
    if len(entries) < math.ceil(len(order_E) / world_size):
        entries = np.append(entries, padding)
    batches = [entries[start : start + batch_size] for start in range(0, len(entries), batch_size)]
    # In training a batch norm refuses a single scan whose map is one cell, as the deepest is at 32 px (Inception-v3: at
    # 100), so a last batch of one would end the run. With batch_size 1 this fails at the first step already.
    if len(batches[-1]) == 1 < batch_size:
        batches[-1] = np.append(batches[-1], padding)
    return batches


def num_batches(num_entries: int, batch_size: int, world_size: int) -> int:
    """Return how many batches `rank_batches` gives, the same on every rank."""
    return math.ceil(math.ceil(num_entries / world_size) / batch_size)


def num_entries_in_step(num_entries: int, batch_size: int, accumulate: int, batch: int) -> int:
    """Return the number of entries of the optimizer step that a batch belongs to.

    Args:
        num_entries: of the epoch.
        batch_size: of all ranks together.
        accumulate: batches whose gradients are added up; fewer where the epoch ends.
        batch: its number in the epoch, from 0.
    """
    size = batch_size * accumulate
    return min(size, num_entries - batch // accumulate * size)


def seeded_generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    """Return the random numbers of one epoch; `stream` separates its order from its augmentations."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch, stream))))
