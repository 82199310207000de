"""Weigh what speaks against each label of a dataset: scores, the other scans of its bag, and the peak of its class.

Every piece of evidence is a natural logarithm of odds: above 0 it speaks against the label, below 0 for it. What it
depends on is estimated from the same scans, so no weight is chosen by hand. The scores must be of a model that has not
learnt from these labels.
"""

# N scans  K classes  S scans with a class and a box of it

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from model.evaluation.pointing import find_pointing_hits
from model.evaluation.scans.scored_scans import UNSCORED, ScoredScans
from model.metrics.calibration import fit_platt
from model.metrics.pointing import covered_shares
from model.metrics.ranking import rank
from shards.format.classes import ABSENT, PRESENT

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClassEvidence:
    """What speaks against the labels of one class; 0 where there is nothing to say, as for an unknown label."""

    scores_N: FloatArray
    bags_N: FloatArray
    peaks_N: FloatArray

    @cached_property
    def total_N(self) -> FloatArray:
        """The sum: how likely a label is wrong, in comparison with others; minus infinity where nothing is known."""
        known_N = (self.scores_N != 0) | (self.bags_N != 0) | (self.peaks_N != 0)
        return np.where(known_N, self.scores_N + self.bags_N + self.peaks_N, -np.inf)


def weigh_labels(scans: ScoredScans) -> list[ClassEvidence]:
    """Return the evidence against the labels of every class."""
    return [weigh_class(scans, k) for k in range(len(scans.classes))]


def weigh_class(scans: ScoredScans, k: int) -> ClassEvidence:
    """Return the evidence against the labels of class `k`."""
    logits_N, labels_N = scans.column(k)
    scores_N = weigh_scores(logits_N.astype(np.float64), labels_N)
    return ClassEvidence(scores_N, weigh_bags(labels_N, scans.groups_N), _weigh_peaks(scans, k))


def weigh_scores(logits_N: FloatArray, labels_N: npt.NDArray[np.int8]) -> FloatArray:
    """Return the evidence of scores: the log-odds of the other label by Platt scaling on these labels.

    So classes compare whose scores mean different things. Without the scaling this is the order of confident learning's
    self-confidence; with its thresholds a class in place of the scaling fewer wrong labels came first
    (`tests/bench/review.md`).

    Source:
        C. Northcutt, L. Jiang and I. Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels" (JAIR
        2021), Section 3.2.
    """
    scored_N = logits_N != UNSCORED
    present_N, absent_N = (labels_N == PRESENT) & scored_N, (labels_N == ABSENT) & scored_N
    evidence_N = np.zeros(len(logits_N))
    if present_N.any() and absent_N.any():
        scaling = fit_platt(rank(logits_N[present_N | absent_N], labels_N[present_N | absent_N]))
        log_odds_N = scaling.slope * logits_N + scaling.offset
        evidence_N[absent_N] = log_odds_N[absent_N]
        evidence_N[present_N] = -log_odds_N[present_N]
    return evidence_N


def weigh_bags(labels_N: npt.NDArray[np.int8], groups_N: npt.NDArray[np.int32]) -> FloatArray:
    """Return the evidence of the labels of the other scans of each bag.

    It is the mean over them of the likelihood ratio of the label that they have, if this scan's were wrong, to the one
    if it were right. How often two scans of a bag share the class is counted in all bags, with one more pair of each
    kind than there is, so that it is never certain.

    Args:
        labels_N: 1 present, 0 absent, else unknown.
        groups_N: number of the bag of each scan; scans with the same bytes share it.
    """
    present_N, absent_N = labels_N == PRESENT, labels_N == ABSENT
    num_groups = int(groups_N.max()) + 1 if len(groups_N) else 0
    present_G, absent_G = (np.bincount(groups_N[of], minlength=num_groups) for of in (present_N, absent_N))
    both_present, both_absent = (float((of * (of - 1)).sum()) for of in (present_G, absent_G))
    mixed = float((present_G * absent_G).sum())
    beside_present = (both_present + 1) / (both_present + mixed + 2)
    beside_absent = (mixed + 1) / (both_absent + mixed + 2)
    # Of the share of a present neighbour, beside a scan that has the class and beside one that has it not.
    says_present = np.log(beside_present / beside_absent)
    says_absent = np.log((1 - beside_present) / (1 - beside_absent))
    other_present_N = present_G[groups_N] - present_N
    other_absent_N = absent_G[groups_N] - absent_N
    others_N = other_present_N + other_absent_N
    for_presence_N = np.zeros(len(labels_N))
    np.divide(
        other_present_N * says_present + other_absent_N * says_absent, others_N, out=for_presence_N, where=others_N > 0
    )
    return np.where(absent_N, for_presence_N, np.where(present_N, -for_presence_N, 0.0))


def _weigh_peaks(scans: ScoredScans, k: int) -> FloatArray:
    """Return the evidence of peaks inside and outside of boxes, of scans that have the class and a box of it.

    A peak that a wrong label explains lies anywhere: in a box with the share of the picture that it covers.
    """
    evidence_N = np.zeros(len(scans.labels_NK))
    found = find_pointing_hits(scans, k)
    if len(found.row_S):
        chance_S = covered_shares(found.own_scan_B, found.own_edges_B4, scans.sizes_N2[found.row_S])
        chance = float(chance_S.clip(1e-6, 1 - 1e-6).mean())
        hit = (found.is_hit_S.sum() + 1) / (len(found.row_S) + 2)
        evidence_N[found.row_S] = np.where(found.is_hit_S, np.log(chance / hit), np.log((1 - chance) / (1 - hit)))
    return evidence_N
