"""Measure how many flipped labels a review finds first, beside cleanlab on the same scores; and a review of a million.

Generated scans lie in bags that share their items. A label of 1, 5 and 10 % of the scans is flipped; the scores are
those of a model that did not see the flips. cleanlab is not among the dependencies: `uv pip install cleanlab`.
"""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from model.evaluation.scans.completeness import Completeness
from model.evaluation.scans.scored_scans import ScoredScans
from model.review.evidence import weigh_labels
from tests.bench.bench_evaluate import CLASSES, PREVALENCE, draw_scores, write_tables
from tests.bench.measure import Measurement, measure_command

NUM_SCANS, NUM_SEEDS = 30_000, 5
SHARES = (0.01, 0.05, 0.1)
BUDGET = 1_000
SEPARATION = 3.5
"""Of the logits of scans with and without an item, in standard deviations: an AUC of 0.993."""


def run(scratch: Path) -> Iterator[Measurement]:
    """Measure precision among as many scans as were flipped, and recall at a budget; then time and memory."""
    rankings = list_rankings()
    for share in SHARES:
        found = {name: np.zeros(2) for name in rankings}
        for seed in range(NUM_SEEDS):
            scans, is_flipped_N = draw_flipped(share, seed)
            for name in rankings:
                found[name] += rate(order_by(name, scans), is_flipped_N)
        num_flipped = int(share * NUM_SCANS)
        for name in rankings:
            precision, recall = found[name] / NUM_SEEDS
            what = f"{share:.0%} flipped, {name}"
            yield Measurement(f"{what}: precision among the first {num_flipped}", precision, "share")
            yield Measurement(f"{what}: recall among the first {BUDGET}", recall, "share")
    root = scratch / "corpus"
    write_tables(root, CLASSES, *draw_scores())
    flags = ["--predictions", root / "pred", "--data", root / "ds", "--output", root / "review", "--budget", BUDGET]
    cost = measure_command("pipelines.review", flags)
    yield Measurement(
        "sixray review, 1,059,231 scans in bags of 3, 5 classes, budget 1,000", cost.seconds, "s", "aim: 60"
    )
    yield Measurement("sixray review, processor time", cost.processor_seconds, "s")
    yield Measurement("sixray review, peak memory", cost.peak_bytes / 1e9, "GB", "aim: under 2")


def list_rankings() -> list[str]:
    """Return the names of ours, and of cleanlab's where it is installed."""
    rankings = ["evidence of scores alone", "all evidence"]
    if importlib.util.find_spec("cleanlab"):
        return [*rankings, "cleanlab, self confidence", "cleanlab, normalized margin"]
    print("review: cleanlab is not installed, nothing stands beside ours", file=sys.stderr)
    return rankings


def draw_flipped(share: float, seed: int) -> tuple[ScoredScans, np.ndarray]:
    """Return scans in bags of 1 to 4 with one wrong label in a share of them, and which these are.

    Items are ten times as frequent as in the corpus; a bag shows them in nine of ten of its scans.
    """
    random = np.random.default_rng(seed)
    groups_N = np.repeat(np.arange(NUM_SCANS), random.integers(1, 5, NUM_SCANS))[:NUM_SCANS].astype(np.int32)
    in_bag_GK = random.random((groups_N[-1] + 1, len(CLASSES))) < 10 * PREVALENCE
    truth_NK = in_bag_GK[groups_N] & (random.random((NUM_SCANS, len(CLASSES))) < 0.9)
    logits_NK = random.normal(size=truth_NK.shape) + SEPARATION * truth_NK - 4
    labels_NK = truth_NK.astype(np.int8)
    flipped = random.permutation(NUM_SCANS)[: int(share * NUM_SCANS)]
    classes = random.integers(0, len(CLASSES), len(flipped))
    labels_NK[flipped, classes] = 1 - labels_NK[flipped, classes]
    is_flipped_N = np.zeros(NUM_SCANS, bool)
    is_flipped_N[flipped] = True
    return make_scans(labels_NK, logits_NK, groups_N), is_flipped_N


def make_scans(labels_NK: np.ndarray, logits_NK: np.ndarray, groups_N: np.ndarray) -> ScoredScans:
    """Return scans without peaks and boxes."""
    num_scans, num_classes = labels_NK.shape
    return ScoredScans(
        split="train",
        classes=CLASSES,
        keys_N=pa.array(np.arange(num_scans)).cast(pa.string()),
        labels_NK=labels_NK,
        logits_NK=logits_NK,
        level_logits_LNK=logits_NK[None].astype(np.float32),
        peaks_NK2=np.full((num_scans, num_classes, 2), np.nan, np.float32),
        sizes_N2=np.full((num_scans, 2), 500, np.int32),
        entropy_bits_N=np.full(num_scans, np.nan, np.float32),
        groups_N=groups_N,
        names_of_groups_N=pa.array(groups_N).cast(pa.string()),
        metadata_N=None,
        box_scan_B=np.zeros(0, np.int64),
        box_class_B=np.zeros(0, np.int64),
        box_edges_B4=np.zeros((0, 4), np.float32),
        completeness=Completeness(
            num_listed=num_scans,
            num_refused=0,
            num_samples=num_scans,
            num_scans=num_scans,
            num_quarantined=0,
            num_missing=0,
            quarantined_by_reason={},
            missing_keys=(),
            num_copies=0,
            num_crossing=0,
            crossing_keys=(),
        ),
    )


def order_by(name: str, scans: ScoredScans) -> np.ndarray:
    """Return the rows of scans, the most doubtful first."""
    if "evidence" in name:
        evidence = weigh_labels(scans)
        found = [of.total_N if name == "all evidence" else of.scores_N for of in evidence]
        return np.argsort(-np.max(found, axis=0), kind="stable")
    from cleanlab.multilabel_classification import get_label_quality_scores  # type: ignore[import-not-found]

    method = name.partition(", ")[2].replace(" ", "_")
    labels = [np.flatnonzero(row).tolist() for row in scans.labels_NK == 1]
    scores_NK = 1 / (1 + np.exp(-scans.logits_NK))
    return np.argsort(get_label_quality_scores(labels, scores_NK, method=method), kind="stable")


def rate(order_N: np.ndarray, is_flipped_N: np.ndarray) -> np.ndarray:
    """Return the precision among as many scans as were flipped, and the share of these among the first BUDGET."""
    num_flipped = int(is_flipped_N.sum())
    return np.array([is_flipped_N[order_N[:num_flipped]].mean(), is_flipped_N[order_N[:BUDGET]].sum() / num_flipped])
