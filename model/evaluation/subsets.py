"""Rate subsets of the scans, such as SIXray10, 100 and 1000, from one scoring."""

# N scans  K classes  B boxes

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.evaluate import Evaluation, evaluate_scans
from model.evaluation.scans.scored_scans import ScoredScans
from shards.corpus.label_lists import read_list
from shards.format.dataset import Dataset
from shards.predictions.run import Predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class SubsetFigures:
    """The figures over the scans that a list names."""

    num_listed: int
    num_not_rated: int
    """Listed scans without a prediction in this split: of another split, refused or missing."""
    evaluation: Evaluation
    """Without intervals; its completeness is that of the whole split."""


def rate_subsets(
    scans: ScoredScans, predictions: Predictions, dataset: Dataset, lists: Mapping[str, str]
) -> dict[str, SubsetFigures]:
    """Return the figures of every subset, by its name.

    Args:
        scans: joined from these predictions and this dataset.
        predictions: of one model.
        dataset: that was scored.
        lists: URL of each subset's list, for instance `ImageSet/10/test.csv`; the labels are the dataset's.

    Raises:
        ValueError: a file is no list of the dataset's classes, has a line that cannot be used, or names no scan
            that has a prediction.
    """
    return {name: _rate_subset(scans, predictions, dataset, url) for name, url in lists.items()}


def select(scans: ScoredScans, rows: npt.NDArray[np.int64]) -> ScoredScans:
    """Return the scans at `rows`, which are in ascending order."""
    new_row_N = np.full(len(scans.labels_NK), -1)
    new_row_N[rows] = np.arange(len(rows))
    kept_B = new_row_N[scans.box_scan_B] >= 0
    _, groups = np.unique(scans.groups_N[rows], return_inverse=True)
    return replace(
        scans,
        keys_N=scans.keys_N.take(pa.array(rows)),
        labels_NK=scans.labels_NK[rows],
        logits_NK=scans.logits_NK[rows],
        level_logits_LNK=scans.level_logits_LNK[:, rows],
        peaks_NK2=scans.peaks_NK2[rows],
        sizes_N2=scans.sizes_N2[rows],
        entropy_bits_N=scans.entropy_bits_N[rows],
        groups_N=groups.astype(np.int32),
        names_of_groups_N=scans.names_of_groups_N.take(pa.array(rows)),
        metadata_N=None if scans.metadata_N is None else scans.metadata_N.take(pa.array(rows)),
        box_scan_B=new_row_N[scans.box_scan_B[kept_B]],
        box_class_B=scans.box_class_B[kept_B],
        box_edges_B4=scans.box_edges_B4[kept_B],
    )


def _rate_subset(scans: ScoredScans, predictions: Predictions, dataset: Dataset, url: str) -> SubsetFigures:
    keys = _read_keys(url, dataset.manifest.scored_classes)
    rows = np.flatnonzero(pc.is_in(scans.keys_N, value_set=keys).to_numpy(zero_copy_only=False))
    if not len(rows):
        raise ValueError(
            f"list must name scans of split {scans.split!r} that have a prediction, got {len(keys)} others ({url})"
        )
    return SubsetFigures(
        num_listed=len(keys),
        num_not_rated=len(keys) - len(rows),
        evaluation=evaluate_scans(select(scans, rows), predictions, dataset, num_rounds=0),
    )


def _read_keys(url: str, classes: tuple[str, ...]) -> Any:
    names = []
    for row in read_list(url, classes):
        if row.problem:
            raise ValueError(f"list must have a usable line for every scan, got {row.name!r}: {row.problem} ({url})")
        names.append(row.name)
    return pa.array(names, pa.string()).unique()
