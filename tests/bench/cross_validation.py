"""Read and write lists of a corpus in the SIXray layout, and rate the pooled predictions of all folds.

Shapes: N scans  K classes  B boxes
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from model.evaluation.pointing import rate_pointing
from model.evaluation.scans.scored_scans import ScoredScans
from model.evaluation.uncertainty import MeanIntervals, Rated, find_intervals
from model.metrics import ranking as metrics
from model.metrics.operating_points import any_item, rate_operation


@dataclass(frozen=True, slots=True)
class ListedScans:
    """The rows of a corpus' lists."""

    header: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]
    """By key: the row as it stands."""

    def write(self, path: Path, keys: Iterable[str]) -> None:
        """Write a list of these scans."""
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows(self.rows[key] for key in keys)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(out.getvalue())


def read_lists(paths: Iterable[Path]) -> ListedScans:
    """Return the rows of several lists with one header; ValueError if headers differ."""
    header: tuple[str, ...] = ()
    rows: dict[str, tuple[str, ...]] = {}
    for path in paths:
        first, *others = csv.reader(path.read_text(encoding="utf-8-sig").splitlines())
        if header and tuple(first) != header:
            raise ValueError(f"header of lists must be {','.join(header)}, got {','.join(first)} ({path})")
        header = tuple(first)
        rows |= {row[0]: tuple(row) for row in others if row}
    return ListedScans(header, rows)


def pool(parts: Sequence[ScoredScans]) -> ScoredScans:
    """Return the scans of all folds as one split; bags of several folds stay apart."""
    first = parts[0]
    scans_before = np.cumsum([0, *(len(part.keys_N) for part in parts)])
    groups_before = np.cumsum([0, *(part.num_groups for part in parts)])
    pooled: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("labels_NK", "logits_NK", "peaks_NK2", "sizes_N2", "box_class_B", "box_edges_B4")
    }
    return replace(
        first,
        **pooled,
        keys_N=pa.concat_arrays([part.keys_N for part in parts]),
        level_logits_LNK=np.concatenate([part.level_logits_LNK for part in parts], axis=1),
        groups_N=np.concatenate([part.groups_N + at for part, at in zip(parts, groups_before, strict=False)]),
        names_of_groups_N=pa.concat_arrays([part.names_of_groups_N for part in parts]),
        metadata_N=None,
        box_scan_B=np.concatenate([part.box_scan_B + at for part, at in zip(parts, scans_before, strict=False)]),
    )


@dataclass(frozen=True, slots=True)
class ClassRating:
    """The figures of one class; None where it has no positives, or no boxes."""

    average_precision: float | None
    pointing_accuracy: float | None


@dataclass(frozen=True, slots=True)
class Rating:
    """The figures of a network over all folds."""

    classes: dict[str, ClassRating]
    intervals: MeanIntervals
    """Bags are drawn, not folds or seeds."""

    @property
    def mean_average_precision(self) -> float | None:
        """Over classes with positives."""
        return metrics.mean_of_defined([of.average_precision for of in self.classes.values()])

    @property
    def mean_pointing_accuracy(self) -> float | None:
        """Over classes with boxes."""
        return metrics.mean_of_defined([of.pointing_accuracy for of in self.classes.values()])


def rate(scans: ScoredScans) -> Rating:
    """Return average precision and pointing accuracy with intervals of their means."""
    rated = [_rate_column(*scans.column(k)) for k in range(len(scans.classes))]
    intervals = find_intervals(scans, rated, _rate_column(*any_item(scans.logits_NK, scans.labels_NK)))
    classes = {
        name: ClassRating(of.average_precision, rate_pointing(scans, k).accuracy)
        for k, (name, of) in enumerate(zip(scans.classes, rated, strict=True))
    }
    return Rating(classes, intervals.mean)


def _rate_column(scores_N: np.ndarray, labels_N: np.ndarray) -> Rated:
    ranking = metrics.rank(scores_N, labels_N)
    curve = metrics.trace_curve(ranking)
    return Rated(
        scores_N=scores_N,
        labels_N=labels_N,
        ranking=ranking,
        operation=rate_operation(curve),
        average_precision=metrics.average_precision(curve),
        roc_auc=metrics.roc_auc(ranking),
    )
