"""Who belongs to a subset that no list names? Steps that `convert` and `reshard` share; none gathers all hashes."""

from collections.abc import Callable
from functools import partial

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton

from shards.curation import subsets, thresholds
from shards.curation.subsets import Census, Selection
from shards.curation.thresholds import Hashes, Thresholds


def choose_subset(censuses: beam.PCollection[Census], subset: str, seed: int) -> beam.PCollection[Selection]:
    """Add to a pipeline what says who is in, and then who of those is for testing."""
    choosing = find_thresholds(
        censuses | "TakeChoosing" >> beam.Map(subsets.choosing_hashes),
        partial(subsets.count_chosen, subset=subset),
        "Choosing",
    )
    splitting = find_thresholds(
        censuses | "TakeSplitting" >> beam.Map(subsets.splitting_hashes, AsSingleton(choosing)),
        subsets.count_test,
        "Splitting",
    )
    return choosing | "MakeSelection" >> beam.Map(subsets.make_selection, AsSingleton(splitting), seed)


def find_thresholds(
    hashes: beam.PCollection[Hashes], count_wanted: Callable[[np.ndarray], tuple[int, int]], label: str
) -> beam.PCollection[Thresholds]:
    """Add to a pipeline what finds the largest of the smallest hashes of each kind.

    Args:
        hashes: of both kinds, in parts.
        count_wanted: says how many of each kind are wanted, from how many there are in each range.
        label: closes the names of the steps.
    """
    places = (
        hashes
        | f"Count{label}" >> beam.Map(thresholds.count_ranges)
        | f"Sum{label}" >> beam.CombineGlobally(thresholds.sum_counts)
        | f"Place{label}" >> beam.Map(lambda counts_TR: thresholds.find_places(counts_TR, count_wanted(counts_TR)))
    )
    return (
        hashes
        | f"Narrow{label}" >> beam.Map(thresholds.take_ranges, AsSingleton(places))
        | f"Join{label}" >> beam.CombineGlobally(thresholds.join_hashes)
        | f"Find{label}" >> beam.Map(thresholds.find_thresholds, AsSingleton(places))
    )
