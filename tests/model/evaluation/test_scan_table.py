"""scans.parquet and errors.csv say of every scan what the figures are made of."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.evaluation import scan_table
from model.evaluation.alarm_plans import ALARM_RATE
from model.evaluation.evaluate import evaluate_scans
from model.evaluation.scan_table import ERROR_FIELDS, VERDICTS, list_errors, rate_columns, scans_parquet
from model.evaluation.scans.scored_scans import join_predictions
from model.metrics.operating_points import sigmoid
from model.reports.csv_tables import errors_table
from shards.predictions.run import open_predictions
from tests.model.written import prediction, sample, write_dataset, write_predictions

BOX = ("Gun", 10, 10, 30, 30)
SAMPLES = [
    sample("a", (1, 0), [BOX]),
    sample("b", (1, 1), [BOX]),
    sample("c", (0, 0)),
    sample("d", (0, None)),
    sample("e", (0, 1)),
]
LOGITS = [(3.0, 0.0), (-1.0, 2.0), (1.0, 0.5), (-2.0, 4.0), (-2.0, -1.0)]
PEAKS = [[(20, 20), (5, 5)], [(50, 50), (6, 6)], *[[(1, 2), (3, 4)]] * 3]


@pytest.fixture
def rated(tmp_path):
    """Return a function that evaluates SAMPLES with LOGITS, and the scans, columns and evaluation that it finds."""

    def rate(samples=SAMPLES, metadata=None):
        dataset = write_dataset(tmp_path / "ds", samples, metadata=metadata)
        rows = [prediction(of["key"], z, p) for of, z, p in zip(SAMPLES, LOGITS, PEAKS, strict=True)]
        predictions = open_predictions(write_predictions(tmp_path / "pred", dataset, rows))
        scans = join_predictions(predictions, dataset, "test")
        evaluation = evaluate_scans(scans, predictions, dataset, 0)
        of_all = [*evaluation.classes.values(), evaluation.any_item]
        thresholds_K = evaluation.alarm_thresholds.logits_K
        return scans, rate_columns(scans, [of.rank.ranking for of in of_all], thresholds_K), evaluation

    return rate


def read(scans, columns):
    return pq.read_table(io.BytesIO(scans_parquet(scans, columns)))


def test_each_scan_has_a_row_with_label_score_rank_verdict_peak_and_hit(rated):
    table = read(*rated()[:2])
    assert table.column_names == ["key", "split", "group", *scan_table._CLASS_FIELDS, "any_item"]
    rows = table.flatten().to_pylist()
    assert [row["key"] for row in rows] == list("abcde")
    assert [row["label.Gun"] for row in rows] == [1, 1, 0, 0, 0]
    assert [row["label.Knife"] for row in rows] == [0, 1, 0, None, 1]
    assert [row["rank.Gun"] for row in rows] == [1, 3, 2, 4, 4]
    assert [row["verdict.Gun"] for row in rows] == ["caught", "missed", "clear", "clear", "clear"]
    assert [row["verdict.Knife"] for row in rows] == ["clear", "caught", "clear", None, "missed"]
    assert [row["hit.Gun"] for row in rows] == [True, False, None, None, None]
    assert rows[1]["peak.Gun"] == {"x_px": 50, "y_px": 50}
    np.testing.assert_allclose([row["score.Gun"] for row in rows], sigmoid(np.array([z[0] for z in LOGITS])))
    assert [row["any_item.label"] for row in rows] == [1, 1, 0, None, 1]
    assert all(row["any_item.score"] == max(row["score.Gun"], row["score.Knife"]) for row in rows)


def test_verdicts_count_what_metrics_json_counts(rated):
    scans, columns, evaluation = rated()
    plan = evaluation.alarm_plans[ALARM_RATE].joint
    counts = {name: int((columns[-1].verdict_N == code).sum()) for code, name in enumerate(VERDICTS)}
    assert (counts["caught"], counts["false_alarm"]) == (plan.num_caught, plan.num_false)
    assert counts["caught"] + counts["missed"] == plan.num_with_item
    assert [int((of.verdict_N == 1).sum()) for of in columns[:2]] == evaluation.mistakes.num_missed_K.tolist()
    assert len(list_errors(scans, columns)) == sum(int(np.isin(of.verdict_N, (1, 2)).sum()) for of in columns)


def test_groups_and_metadata_of_the_dataset_come_along(rated):
    metadata = [{"site": site, "belt": n} for n, site in enumerate(["A", "B", "A", None, "B"])]
    groups = ["x", "x", None, None, "y"]
    samples = [of | {"group": g, "metadata": m} for of, g, m in zip(SAMPLES, groups, metadata, strict=True)]
    scans, columns, _ = rated(samples, {"site": "string", "belt": "int64"})
    table = read(scans, columns)
    assert table["group"].to_pylist() == ["x", "x", None, None, "y"]
    assert table["metadata"].to_pylist() == metadata


def test_a_table_written_in_many_row_groups_is_the_same(rated, monkeypatch):
    scans, columns, _ = rated()
    whole = read(scans, columns)
    monkeypatch.setattr(scan_table, "_ROWS_OF_GROUP", 2)
    assert read(scans, columns).equals(whole)


def test_errors_are_the_worst_first_of_each_class(rated):
    errors = list_errors(*rated()[:2])
    assert [(row["class"], row["verdict"], row["key"]) for row in errors] == [
        ("Gun", "missed", "b"),
        ("Knife", "missed", "e"),
        ("any item", "missed", "e"),
    ]
    assert (errors[0]["x_px"], errors[0]["hit"], errors[0]["rank"]) == (50, 0, 3)
    assert errors[0]["score"] < errors[0]["threshold"]
    assert all(tuple(row) == ERROR_FIELDS for row in errors)


def test_without_errors_their_table_still_names_its_columns():
    assert errors_table([]) == ",".join(ERROR_FIELDS) + "\n"


@given(st.lists(st.integers(-3, 3), max_size=30))
def test_a_rank_is_one_more_than_the_scans_that_score_higher(values):
    scores = np.array(values, np.float32)
    assert scan_table._rank_of_each(scores).tolist() == [1 + int((scores > score).sum()) for score in scores]
