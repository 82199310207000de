"""Describe the dataset that was rated, and account for every sample: scored, quarantined or missing, and copies."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from shards import storage
from shards.curation.findings import is_generated
from shards.format.dataset import Dataset
from shards.predictions.run import Predictions

NUM_KEYS = 10
"""Keys that a report names of each kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """Counts of the samples of a split: `num_samples = num_scans + num_quarantined + num_missing`."""

    num_listed: int
    """Records that the corpus lists for the split."""
    num_refused: int
    """Of these, records that conversion refused."""
    num_samples: int
    num_scans: int
    """Samples with a prediction, which the figures are about."""
    num_quarantined: int
    """Samples that the scorer refused, each with its reason."""
    num_missing: int
    """Samples with neither a prediction nor a reason why there is none."""
    quarantined_by_reason: dict[str, int]
    missing_keys: tuple[str, ...]
    num_copies: int
    """Samples with the bytes of an earlier sample of the split: figures count both, intervals count one."""
    num_crossing: int
    """Samples whose bytes are in another split as well: a model trained on it has seen them."""
    crossing_keys: tuple[str, ...]
    num_cut_bags: int = 0
    """Bags of the split of which another split has scans: a model trained on that split has seen them."""
    cut_bags: tuple[str, ...] = ()


def measure_completeness(
    samples: pa.Table, scored: pa.Array, predictions: Predictions, dataset: Dataset, split: str
) -> Completeness:
    """Return the counts of a split.

    Args:
        samples: key and duplicate_of of every sample of the split, and the group if the dataset has it.
        scored: whether each has a prediction.
        predictions: with the reasons of those that have none.
        dataset: for the other splits.
        split: name of the split.
    """
    keys = samples["key"].combine_chunks()
    unscored_keys = keys.filter(pc.invert(scored))
    quarantine = predictions.read_quarantine()
    refused = quarantine.filter(pc.is_in(quarantine["key"], value_set=unscored_keys))
    missing = unscored_keys.filter(pc.invert(pc.is_in(unscored_keys, value_set=refused["key"].combine_chunks())))
    reasons = pc.value_counts(refused["reason"].combine_chunks()).to_pylist()
    ledger = dataset.manifest.ledger.get(split)
    copies, crossing = _find_copies(samples, dataset, split)
    cut = _find_cut_bags(samples, dataset, split)
    return Completeness(
        num_listed=ledger.listed if ledger else len(keys),
        num_refused=ledger.quarantined if ledger else 0,
        num_samples=len(keys),
        num_scans=pc.sum(scored).as_py() or 0,
        num_quarantined=len(unscored_keys) - len(missing),
        num_missing=len(missing),
        quarantined_by_reason={row["values"]: row["counts"] for row in sorted(reasons, key=lambda row: row["values"])},
        missing_keys=tuple(missing.slice(0, NUM_KEYS).to_pylist()),
        num_copies=copies,
        num_crossing=len(crossing),
        crossing_keys=tuple(crossing.slice(0, NUM_KEYS).to_pylist()),
        num_cut_bags=len(cut),
        cut_bags=tuple(cut.slice(0, NUM_KEYS).to_pylist()),
    )


def _find_copies(samples: pa.Table, dataset: Dataset, split: str) -> tuple[int, pa.Array]:
    """Return how many samples repeat one of their split, and the keys of those that another split has too."""
    firsts = _name_groups(samples)
    copies = len(firsts) - pc.count_distinct(firsts).as_py() if len(firsts) else 0
    others = [
        _name_groups(dataset.read_samples(other, ["key", "duplicate_of"])).unique()
        for other in dataset.manifest.splits
        if other != split
    ]
    elsewhere = pa.concat_arrays(others) if others else pa.array([], pa.string())
    return copies, samples["key"].combine_chunks().filter(pc.is_in(firsts, value_set=elsewhere))


def _find_cut_bags(samples: pa.Table, dataset: Dataset, split: str) -> pa.Array:
    """Return the bags of which another split has scans."""
    if "group" not in samples.column_names:
        return pa.array([], pa.string())
    own = samples["group"].unique().drop_null()
    others = [dataset.read_samples(other, ["group"])["group"].unique() for other in dataset.manifest.splits]
    counts = pc.value_counts(pa.concat_arrays(others))
    return own.filter(pc.is_in(own, counts.filter(pc.greater(counts.field("counts"), 1)).field("values")))


def _name_groups(samples: pa.Table) -> pa.Array:
    """Return for each sample the key of the first sample with its bytes."""
    return pc.coalesce(samples["duplicate_of"], samples["key"]).combine_chunks()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFacts:
    """What the first lines of a report say of the dataset."""

    name: str
    """Last part of its URL."""
    source: str | None
    """What it was made of: a URL; None if its manifest does not say."""
    layout: str | None
    """Of the corpus, e.g. `sixray`; None for a dataset that was made of datasets."""
    is_generated: bool | None
    """Whether its scans are generated, by the first one; None if that cannot be read."""
    has_groups: bool
    """Whether it says which scans show one bag."""


def describe_dataset(dataset: Dataset, split: str, has_groups: bool) -> DatasetFacts:
    """Return what a report says of the dataset, a split of which was rated."""
    options = dataset.manifest.options
    source = options.get("input")
    return DatasetFacts(
        name=storage.base_name(dataset.url),
        source=str(source) if source else None,
        layout=options.get("layout"),
        is_generated=is_generated(dataset, split),
        has_groups=has_groups,
    )
