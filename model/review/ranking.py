"""Rank the scans of a split by how likely a label of theirs is wrong, with the reason in words."""

# N scans  K classes

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from model.evaluation.scans.scored_scans import UNSCORED, ScoredScans
from model.metrics.operating_points import sigmoid
from model.reports.text.numbers import format_percent
from model.review.evidence import ClassEvidence, FloatArray
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


def find_strongest(evidence: Sequence[ClassEvidence]) -> FloatArray:
    """Return the evidence against the most doubtful label of each scan; minus infinity where nothing is known."""
    return functools.reduce(np.maximum, (of.total_N for of in evidence))


def choose_suspects(strongest_N: FloatArray, budget: int) -> list[int]:
    """Return the rows of the `budget` most doubtful scans, the most doubtful first.

    Scans of whose labels nothing is known are left out. Equal evidence goes in the order of the scans.
    """
    rows = np.argsort(-strongest_N, kind="stable")[:budget]
    chosen: list[int] = rows[np.isfinite(strongest_N[rows])].tolist()
    return chosen


def describe_suspects(
    scans: ScoredScans, evidence: Sequence[ClassEvidence], rows: Sequence[int], checksums: Sequence[str]
) -> pa.Table:
    """Return the scans of some rows, ranked in their order, in the form of `SUSPECTS_SCHEMA`.

    Args:
        scans: with scores of a model that has not learnt from these labels.
        evidence: of `weigh_labels`.
        rows: of `choose_suspects`.
        checksums: sha256 of the image of each of these.
    """
    described = [
        {"rank": rank, "sha256": sha256} | _describe(scans, evidence, row)
        for rank, (row, sha256) in enumerate(zip(rows, checksums, strict=True), 1)
    ]
    return pa.Table.from_pylist(described, SUSPECTS_SCHEMA)


def _describe(scans: ScoredScans, evidence: Sequence[ClassEvidence], row: int) -> dict[str, object]:
    """Return the row of a scan, but for its rank and checksum."""
    first, *others = np.argsort([-of.total_N[row] for of in evidence], kind="stable").tolist()
    doubted = [first, *(k for k in others if evidence[k].total_N[row] > 0)]
    of, logit = evidence[first], scans.logits_NK[row, first]
    return {
        "key": scans.keys_N[row].as_py(),
        "group": scans.names_of_groups_N[row].as_py(),
        "class": scans.classes[first],
        "label": int(scans.labels_NK[row, first]),
        "score": None if logit == UNSCORED else float(sigmoid(logit)),
        "evidence": float(of.total_N[row]),
        "evidence_of_score": float(of.scores_N[row]),
        "evidence_of_bag": float(of.bags_N[row]),
        "evidence_of_peak": float(of.peaks_N[row]),
        "reason": "; ".join(text for k in doubted for text in _say(scans, evidence[k], row, k)),
    }


def _say(scans: ScoredScans, evidence: ClassEvidence, row: int, k: int) -> Iterator[str]:
    """Yield what speaks against a label, one clause each; its score if nothing does."""
    of_score, of_bag, of_peak = (float(of[row]) for of in (evidence.scores_N, evidence.bags_N, evidence.peaks_N))
    name, is_present = scans.classes[k], scans.labels_NK[row, k] == PRESENT
    label = f"{name} is labelled {'present' if is_present else 'absent'}"
    if of_score > 0 or (of_score and max(of_bag, of_peak) <= 0):
        share, other = format_percent(float(sigmoid(np.float64(of_score))), " "), "absent" if is_present else "present"
        score = sigmoid(scans.logits_NK[row, k])
        yield f"{label} and scores {score:.3g}, and {share} of scans with such a score are labelled {other}"
    if of_bag > 0:
        in_bag_N = scans.groups_N == scans.groups_N[row]
        in_bag_N[row] = False
        labels = scans.labels_NK[in_bag_N, k]
        num_other, num_known = int((labels == (ABSENT if is_present else PRESENT)).sum()), int((labels >= 0).sum())
        yield f"{label}, not so in {num_other} of {num_known} other scans of its bag"
    if of_peak > 0:
        x, y = scans.peaks_NK2[row, k]
        boxes = f"none of its boxes holds the peak of {name}"
        yield f"{boxes} ({x:.0f}, {y:.0f})" if np.isfinite(x) else f"{boxes}, as there is none"
