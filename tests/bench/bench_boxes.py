"""Measure what the boxes of our own networks cost a scan, beside scoring without them.

CHR on EfficientNet-lite0 at 224 px with random weights: every class of every scan has boxes, more than in practice,
where the scores of most classes are too low for any. Scoring and scoring with boxes run in turn.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from model.hardware import detect_hardware
from model.scoring.boxes import find_boxes
from model.scoring.heatmaps import join_heatmaps
from model.scoring.scorer import Scorer
from model.scoring.scoring_network import ScoringNetwork
from tests.bench.measure import Measurement, time_in_turn
from tests.bench.scoring import make_model, make_scans, make_shards, score_all

NUM_SCANS, BATCH_SIZE, SHARE = 384, 64, 0.75


def run(scratch: Path) -> Iterator[Measurement]:
    """Time scoring with and without boxes, and the search for boxes in one thread."""
    hardware = replace(detect_hardware(), device="cpu", decode_device="cpu")
    model = make_model(scratch / "model", "tf_efficientnet_lite0")
    shards = make_shards(scratch / "scans", make_scans(128), NUM_SCANS, 3)
    plain = Scorer(ScoringNetwork(model, hardware), BATCH_SIZE)
    boxed = Scorer(ScoringNetwork(model, hardware, box_share=SHARE), BATCH_SIZE)
    side = model.config.input.size_px
    with torch.inference_mode():
        output = model.network(torch.randn(BATCH_SIZE, 3, side, side))
        maps_BKhw = join_heatmaps(output.heatmaps).numpy()
    scores_BK = np.full(maps_BKhw.shape[:2], 0.5)
    found = find_boxes(maps_BKhw, scores_BK, SHARE)
    seconds = time_in_turn(
        {
            "plain": lambda: score_all(plain, shards),
            "boxes": lambda: score_all(boxed, shards),
            "find": lambda: find_boxes(maps_BKhw, scores_BK, SHARE),
        }
    )
    num_maps = f"{maps_BKhw.shape[1]} maps of {maps_BKhw.shape[2]} x {maps_BKhw.shape[3]} cells a scan"
    yield Measurement("score", NUM_SCANS / seconds["plain"], "scans/s")
    yield Measurement("score --boxes", NUM_SCANS / seconds["boxes"], "scans/s")
    yield Measurement("with boxes / without", seconds["plain"] / seconds["boxes"], "ratio")
    yield Measurement("find boxes alone", 1e6 * seconds["find"] / BATCH_SIZE, "us a scan", num_maps)
    yield Measurement("boxes", len(found.scan_D) / BATCH_SIZE, "a scan")
