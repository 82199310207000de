"""Tests of the benchmarks' cross-validation: folds by bag, and the rating of pooled folds."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from model.evaluation.scans.scored_scans import ScoredScans, join_predictions
from shards.predictions.run import open_predictions
from tests.bench.cross_validation import assign_folds, pool, rate, read_lists
from tests.bench.recipe_table import CELLS, format_table, make_row
from tests.model.written import prediction, sample, write_dataset, write_predictions

corpora = st.dictionaries(st.integers(0, 999).map("P{:05d}".format), st.tuples(st.integers(0, 20), st.booleans()))


@given(corpora, st.integers(2, 5))
def test_each_scan_is_tested_once_and_a_bag_lies_in_one_fold(scans, num_folds):
    bags = {key: f"bag {bag}" for key, (bag, _) in scans.items()}
    is_positive = {key: positive for key, (_, positive) in scans.items()}
    folds = assign_folds(bags, is_positive, num_folds)
    assert folds.keys() == scans.keys()
    assert all(len({folds[key] for key in bags if bags[key] == bag}) == 1 for bag in set(bags.values()))
    positives = Counter(dict.fromkeys(range(num_folds), 0))
    positives.update(folds[key] for key in folds if is_positive[key])
    largest = max(Counter(bags[key] for key in bags if is_positive[key]).values(), default=0)
    assert max(positives.values()) - min(positives.values()) <= largest


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
