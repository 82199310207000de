"""Choose the scans whose labels teach a model most: those that it is unsure of, class by class, one a bag.

Source: D. Lewis and W. Gale, "A Sequential Algorithm for Training Text Classifiers" (SIGIR 1994), uncertainty sampling;
one scan a bag, and the classes in turn, keep near copies and one frequent class from filling the list.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from shards.curation.bags import name_bags
from shards.format.dataset import Dataset
from shards.predictions.run import Predictions


def choose_uncertain(dataset: Dataset, predictions: Predictions, num_scans: int) -> list[str]:
    """Return the keys of at most `num_scans` scans.

    The classes take turns, and each takes the scan whose score is nearest to 0.5 of those whose bag is not chosen yet.
    """
    rows = predictions.read_rows(columns=["key", "logits"])
    samples = dataset.read_samples(columns=["key", "group", "duplicate_of"])
    places = pc.index_in(rows["key"], samples["key"].combine_chunks())
    if places.null_count:
        raise ValueError(
            f"predictions must be of the dataset, got {places.null_count} scans that it lacks "
            f"({predictions.url}, {dataset.url})"
        )
    bag_N = name_bags(samples).take(places.combine_chunks()).to_pylist()
    logits = rows["logits"].combine_chunks()
    names = [field.name for field in logits.type]
    doubts = [np.abs(logits.field(name).to_numpy(zero_copy_only=False)) for name in names]
    return _take_turns(
        rows["key"].to_pylist(), bag_N, [np.argsort(doubt_N, kind="stable") for doubt_N in doubts], num_scans
    )


def _take_turns(keys: Sequence[str], bags: Sequence[str], orders: Sequence[np.ndarray], num_scans: int) -> list[str]:
    chosen: list[str] = []
    used: set[str] = set()
    queues = [iter(order_N.tolist()) for order_N in orders]
    while queues and len(chosen) < num_scans:
        for queue in list(queues):
            place = next((place for place in queue if bags[place] not in used), None)
            if place is None:
                queues.remove(queue)
            elif len(chosen) < num_scans:
                used.add(bags[place])
                chosen.append(keys[place])
    return chosen
