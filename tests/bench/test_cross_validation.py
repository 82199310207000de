"""Tests of the benchmarks' cross-validation: lists, and the rating of pooled folds."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from model.evaluation.scans.scored_scans import ScoredScans, join_predictions
from shards.predictions.run import open_predictions
from tests.bench.cross_validation import pool, rate, read_lists
from tests.bench.recipe_table import CELLS, format_table, make_row
from tests.model.written import prediction, sample, write_dataset, write_predictions


def fold_scans(folder, first: int) -> ScoredScans:
    keys = [f"P{first + place:05d}" for place in range(40)]
    samples = [
        sample(key, (int(place % 4 == 0), 0), [("Gun", 0, 0, 100, 50)] if place % 4 == 0 else ())
        for place, key in enumerate(keys)
    ]
    dataset = write_dataset(folder / "ds", samples)
    rows = [
        prediction(key, ((place * 37 + first) % 41 / 9 + (place % 4 == 0), 0.0), [(10 if place % 8 else 150, 20)] * 2)
        for place, key in enumerate(keys)
    ]
    return join_predictions(open_predictions(write_predictions(folder / "pred", dataset, rows)), dataset, "test")


@pytest.fixture
def parts(tmp_path):
    return [fold_scans(tmp_path / str(first), first) for first in (0, 100, 200)]


def test_the_rating_of_pooled_folds_is_that_of_all_their_scans(parts):
    pooled = pool(parts)
    rating = rate(pooled)
    labels_N = np.concatenate([part.labels_NK[:, 0] for part in parts])
    scores_N = np.concatenate([part.logits_NK[:, 0] for part in parts])
    expected = average_precision_score(labels_N, scores_N)
    assert rating.mean_average_precision == pytest.approx(expected)
    assert pooled.num_groups == sum(part.num_groups for part in parts)
    hits = [rate(part).mean_pointing_accuracy or 0 for part in parts]
    assert rating.mean_pointing_accuracy == pytest.approx(np.mean(hits))
    assert 0 < np.mean(hits) < 1
    interval = rating.intervals.average_precision
    assert interval is not None and interval.low < expected < interval.high


def test_the_table_has_a_row_a_finished_cell_in_the_order_of_the_cells(parts):
    rating, seconds = rate(pool(parts)), {"train": 90.0, "score": 4.0}
    rows = [make_row(cell, rating, parts, seconds) for cell in (CELLS[2], CELLS[0])]
    header, first, second = format_table(rows).splitlines()
    assert (first.split(",")[0], second.split(",")[0]) == (CELLS[0].name, CELLS[2].name)
    row = dict(zip(header.split(","), first.split(","), strict=False))
    assert row["num_scans"] == "120"
    assert float(row["training_minutes_a_fold"]) == 0.5
    assert float(row["scored_scans_per_second"]) == 30


def test_lists_are_read_together_and_written_as_they_stood(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffname,Gun\r\nP00001,1\r\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("name,Gun\nN0000001,-1")
    listed = read_lists([tmp_path / "a.csv", tmp_path / "b.csv"])
    listed.write(tmp_path / "fold/train.csv", ["N0000001", "P00001"])
    assert (tmp_path / "fold/train.csv").read_text() == "name,Gun\nN0000001,-1\nP00001,1\n"


def test_lists_of_other_classes_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("name,Gun\nP00001,1\n")
    (tmp_path / "b.csv").write_text("name,Knife\nP00002,1\n")
    with pytest.raises(ValueError, match=r"header of lists must be name,Gun, got name,Knife \(.*b\.csv\)"):
        read_lists([tmp_path / "a.csv", tmp_path / "b.csv"])
