"""Tell whether scans are those that a model was trained on, also in another dataset, by a sample of their checksums."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from shards.format.dataset import Dataset

NUM_CHECKSUMS = 1024
"""Of these the lowest are kept, if there are more scans: a random part, the same for all datasets of these scans."""
_NUM_DIGITS = 12
"""Of a checksum: two of a million scans share them once in 300 times."""
MAX_KNOWN_SHARE = 0.1
"""Scans that are known by more than this share are training data; fewer are copies that have crossed the splits."""


@dataclass(frozen=True, slots=True)
class KnownScans:
    """How many of the scans that can be compared a model was trained on."""

    num_known: int
    num_compared: int

    @property
    def share(self) -> float | None:
        """Estimated share of the scans that the model was trained on; None if none can be compared."""
        return self.num_known / self.num_compared if self.num_compared else None


def sample_checksums(dataset: Dataset, split: str) -> str:
    """Return the lowest NUM_CHECKSUMS of the distinct checksums of a split's images, 12 hex digits each, joined."""
    ordered = _begin(dataset, split).unique().sort()
    return "".join(ordered.slice(0, NUM_CHECKSUMS).to_pylist())


def find_known_scans(sample: str, dataset: Dataset, split: str) -> KnownScans:
    """Return how many scans of a split are among those that `sample` was made of.

    Args:
        sample: of `sample_checksums`; with fewer than NUM_CHECKSUMS entries it has every scan.
        dataset: of the scans to compare.
        split: of these.
    """
    known = pa.array([sample[at : at + _NUM_DIGITS] for at in range(0, len(sample), _NUM_DIGITS)], pa.string())
    found = _begin(dataset, split)
    if len(known) == NUM_CHECKSUMS:
        found = found.filter(pc.less_equal(found, known[-1]))
    return KnownScans(pc.sum(pc.is_in(found, value_set=known)).as_py() or 0, len(found))


def is_training_data(share: float | None) -> bool | None:
    """Return whether a share of known scans makes scans training data; None if it is unknown."""
    return None if share is None else share > MAX_KNOWN_SHARE


def find_trained_share(trained_on: Mapping[str, Any] | None, dataset: Dataset, split: str) -> float | None:
    """Return the estimated share of a split's scans that a model was trained on; None if that is unknown.

    Args:
        trained_on: of `run.json`: digest and splits of the training data and, of later releases, `checksums`.
        dataset: of the scans.
        split: of these.
    """
    if trained_on is None:
        return None
    if trained_on["dataset_digest"] == dataset.manifest.digest and split in trained_on["splits"]:
        return 1.0
    if "checksums" not in trained_on:
        return 0.0
    return find_known_scans(trained_on["checksums"], dataset, split).share


def _begin(dataset: Dataset, split: str) -> pa.Array:
    checksums = dataset.read_samples(split, ["sha256"])["sha256"].combine_chunks()
    return pc.utf8_slice_codeunits(checksums, 0, _NUM_DIGITS)
