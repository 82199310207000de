"""Rank the scans of a split by how likely a label of theirs is wrong, with the reason in words."""

# N scans  K classes

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from model.evaluation.scans.scored_scans import UNSCORED, ScoredScans
from model.metrics.operating_points import sigmoid
from model.review.evidence import Evidence
from shards.format.classes import ABSENT, PRESENT

SUSPECTS_SCHEMA = pa.schema(
    [
        pa.field("rank", pa.int64(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("class", pa.string(), nullable=False),
        pa.field("label", pa.int8(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("evidence", pa.float64(), nullable=False),
        pa.field("evidence_of_score", pa.float64(), nullable=False),
        pa.field("evidence_of_bag", pa.float64(), nullable=False),
        pa.field("evidence_of_peak", pa.float64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
"""A row a scan, the most doubtful first: its most doubtful class and label, and the logarithms of odds against it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doubt:
    """What speaks against a label."""

    row: int
    k: int
    of_score: float
    of_bag: float
    of_peak: float

    @property
    def total(self) -> float:
        return self.of_score + self.of_bag + self.of_peak


def rank_suspects(scans: ScoredScans, sha256_N: pa.Array, budget: int) -> pa.Table:
    """Return the `budget` most doubtful scans of a split, in the form of `SUSPECTS_SCHEMA`.

    Scans of whose labels nothing is known are left out. Equal evidence goes in the order of the scans.

    Args:
        scans: with scores of a model that has not learnt from these labels.
        sha256_N: of the image of each scan.
        budget: scans that a person has time for.
    """
    evidence = Evidence(scans)
    strongest_N = evidence.strongest_N
    rows = np.argsort(-strongest_N, kind="stable")[:budget]
    rows = rows[np.isfinite(strongest_N[rows])]
    described = [_describe(evidence, int(row), rank, sha256_N) for rank, row in enumerate(rows, 1)]
    return pa.Table.from_pylist(described, SUSPECTS_SCHEMA)


def _describe(evidence: Evidence, row: int, rank: int, sha256_N: pa.Array) -> dict[str, object]:
    scans = evidence.scans
    first, *others = sorted(_find_doubts(evidence, row), key=lambda doubt: (-doubt.total, doubt.k))
    doubts = [first, *(doubt for doubt in others if doubt.total > 0)]
    logit = scans.logits_NK[row, first.k]
    return {
        "rank": rank,
        "key": scans.keys_N[row].as_py(),
        "sha256": sha256_N[row].as_py(),
        "group": scans.names_of_groups_N[row].as_py(),
        "class": scans.classes[first.k],
        "label": int(scans.labels_NK[row, first.k]),
        "score": None if logit == UNSCORED else float(sigmoid(np.float64(logit))),
        "evidence": first.total,
        "evidence_of_score": first.of_score,
        "evidence_of_bag": first.of_bag,
        "evidence_of_peak": first.of_peak,
        "reason": "; ".join(text for doubt in doubts for text in _say(evidence, doubt)),
    }


def _find_doubts(evidence: Evidence, row: int) -> Iterator[_Doubt]:
    for k in range(len(evidence.scans.classes)):
        of = evidence.of_class(k)
        if np.isfinite(of.total_N[row]):
            yield _Doubt(
                row=row,
                k=k,
                of_score=float(of.scores_N[row]),
                of_bag=float(of.bags_N[row]),
                of_peak=float(of.peaks_N[row]),
            )


def _say(evidence: Evidence, doubt: _Doubt) -> Iterator[str]:
    """Yield what speaks against a label, one clause each; its score if nothing does."""
    scans, name = evidence.scans, evidence.scans.classes[doubt.k]
    is_present = scans.labels_NK[doubt.row, doubt.k] == PRESENT
    label = f"{name} is labelled {'present' if is_present else 'absent'}"
    if doubt.of_score > 0 or (doubt.of_score and max(doubt.of_bag, doubt.of_peak) <= 0):
        score = sigmoid(scans.logits_NK[doubt.row, doubt.k].astype(np.float64))
        share, other = 100 * sigmoid(np.float64(doubt.of_score)), "absent" if is_present else "present"
        yield f"{label} and scores {score:.3g}, and {share:.2g} % of scans with such a score are labelled {other}"
    if doubt.of_bag > 0:
        others = (scans.groups_N == scans.groups_N[doubt.row]) & (np.arange(len(scans.groups_N)) != doubt.row)
        labels = scans.labels_NK[others, doubt.k]
        num_other, num_known = int((labels == (ABSENT if is_present else PRESENT)).sum()), int((labels >= 0).sum())
        yield f"{label}, not so in {num_other} of {num_known} other scans of its bag"
    if doubt.of_peak > 0:
        x, y = scans.peaks_NK2[doubt.row, doubt.k]
        boxes = f"none of its boxes holds the peak of {name}"
        yield f"{boxes} ({x:.0f}, {y:.0f})" if np.isfinite(x) else f"{boxes}, as there is none"
