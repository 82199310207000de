"""Test that `sixray score --boxes` writes the boxes of a network beside its scores, and `box-share` finds the share."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from model.metrics.operating_points import sigmoid
from pipelines import box_share, cli
from pipelines.box_share import BoxShareConfig, rate_shares
from shards.format.parquet import read_parquet, write_parquet
from shards.predictions.detections import read_detections
from shards.predictions.run import open_predictions
from shards.verify.predictions import verify_predictions
from tests.pipelines.scoring import TEST, TRAIN_0, TRAIN_1, bench, model
from tests.shards.by_hand import CLASSES

__all__ = ["bench", "model"]  # fixtures


def test_the_highest_box_of_a_class_has_its_score_and_every_box_lies_in_its_scan(bench):
    bench.damage(TRAIN_1, 2)
    assert bench.score("--boxes=0.5", "--max-quarantine-fraction=1") == 0
    predictions = open_predictions(str(bench.folder))
    assert verify_predictions(predictions) == []
    found = read_detections(predictions)
    assert predictions.run["detections"] == {"num_detections": len(found), "box_share": 0.5}
    sizes = {row.key: (row.width_px, row.height_px) for name in (TEST, TRAIN_0, TRAIN_1) for row in bench.rows(name)}
    highest: dict[tuple[str, str], float] = {}
    for row in found.to_pylist():
        width_px, height_px = sizes[row["key"]]
        assert 0 <= row["xmin_px"] < row["xmax_px"] <= width_px and 0 <= row["ymin_px"] < row["ymax_px"] <= height_px
        pair = row["key"], row["class"]
        highest[pair] = max(highest.get(pair, 0), row["score"])
    scores = {
        (key, name): float(sigmoid(np.float64(logit)))
        for key, logits in bench.logits().items()
        for name, logit in logits.items()
    }
    assert len(scores) == 14 * len(CLASSES)
    assert highest == pytest.approx(scores)
    order = list(dict.fromkeys(found["key"].to_pylist()))
    assert order == predictions.read_rows()["key"].to_pylist()


def test_logits_and_peaks_are_those_of_a_run_without_boxes(bench):
    assert bench.score() == 0
    plain = read_parquet(f"{bench.folder}/{TEST}.parquet")
    assert bench.score("--boxes=0.3") == 0
    assert read_parquet(f"{bench.folder}/{TEST}.parquet").equals(plain)


def test_parts_without_boxes_or_of_another_share_are_scored_again_and_new_ones_have_what_earlier_ones_have(
    bench, capsys
):
    assert bench.score() == 0
    assert bench.score("--boxes=0.5", "--split=test") == 0
    assert "1 shards to score (1 boxes), 0 scored before" in capsys.readouterr().err
    assert "detections" not in bench.run()  # of the other split there are none
    assert verify_predictions(open_predictions(str(bench.folder))) == []
    with pytest.raises(ValueError, match="score all splits by `sixray score --boxes`"):
        read_detections(open_predictions(str(bench.folder)))
    assert bench.score("--boxes=0.5") == 0
    before = bench.files()
    assert bench.run()["detections"]["box_share"] == 0.5
    assert bench.score() == 0 and bench.score("--boxes=0.5") == 0
    assert bench.files() == before
    (bench.folder / f"{TRAIN_0}.parquet").unlink()
    (bench.folder / f"detections/{TEST}.parquet").unlink()
    capsys.readouterr()
    assert bench.score() == 0
    assert "2 shards to score (1 incomplete, 1 unscored)" in capsys.readouterr().err
    assert {name: of[2] for name, of in bench.files().items() if "run" not in name} == {
        name: of[2] for name, of in before.items() if "run" not in name
    }
    assert bench.score("--boxes=0.6") == 0
    assert "3 shards to score (3 boxes), 0 scored before" in capsys.readouterr().err
    assert bench.run()["detections"]["box_share"] == 0.6


@pytest.mark.parametrize("share", ["0", "1", "-0.5", "nan"])
def test_a_share_outside_0_to_1_is_refused(bench, capsys, share):
    assert bench.score(f"--boxes={share}") == 2
    assert "boxes must be a share above 0 and below 1, got" in capsys.readouterr().err
    assert not bench.output.exists()


def test_the_share_that_the_boxes_were_made_with_is_found_again(bench, capsys, monkeypatch):
    bench.score("--boxes=0.6")
    boxes: dict[str, list[dict[str, Any]]] = {}
    for row in read_detections(open_predictions(str(bench.folder)), "train").to_pylist():
        edges = {edge: row[edge] for edge in ("xmin_px", "ymin_px", "xmax_px", "ymax_px")}
        boxes.setdefault(row["key"], []).append({"class": row["class"], **edges})
    for shard in bench.dataset.shards("train"):
        url = bench.dataset.samples_url(shard)
        table = read_parquet(url)
        rows = [row | {"boxes": boxes[row["key"]], "labels": dict.fromkeys(CLASSES, 1)} for row in table.to_pylist()]
        write_parquet(url, pa.Table.from_pylist(rows, table.schema))
    config = BoxShareConfig(model=bench.model, data=bench.dataset.url, max_scans=8)
    rated = rate_shares(config)
    assert {of.num_scans for of in rated[0.6].classes.values()} == {8}
    assert rated[0.6].mean_ap50_95 == pytest.approx(1)
    assert max(rated, key=lambda share: rated[share].mean_ap50_95 or 0) == 0.6
    monkeypatch.setattr(box_share, "SHARES", (0.3, 0.6))
    assert cli.main(["box-share", "--model", bench.model, "--data", bench.dataset.url]) == 0
    *_, first, second, best = capsys.readouterr().out.splitlines()
    assert (first.split()[0], second.split()[:2]) == ("0.30", ["0.60", "1.000"])
    assert best.endswith("sixray score --boxes 0.6")


def test_scans_without_boxes_and_other_classes_give_no_share(bench, capsys):
    words = ["box-share", "--model", bench.model, "--data", bench.dataset.url]
    assert cli.main(words) == 2
    assert "split must have scans with boxes, got none in 'train'" in capsys.readouterr().err
    manifest = json.loads((bench.root / "ds/dataset.json").read_text())
    manifest["scored_classes"] = ["Gun", "Knife"]
    (bench.root / "ds/dataset.json").write_text(json.dumps(manifest))
    assert cli.main(words) == 2
    assert "data must have the model's classes" in capsys.readouterr().err
