"""Figures of a class equal a second implementation and appear wherever a report shows figures."""

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from model.evaluation.evaluate import evaluate
from model.metrics.class_figures import CLASS_FIGURES, ClassFigure, recall_at_precision
from model.metrics.ranking import rank, trace_curve
from model.reports.charts import draw_figures
from model.reports.csv_tables import make_tables
from model.reports.metrics_json import metrics_document, metrics_json
from model.reports.page import Report, render_html
from shards.predictions.run import open_predictions
from tests.model.written import prediction, sample, write_dataset, write_predictions

ROWS = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30)


@given(ROWS, st.sampled_from([0.1, 0.5, 0.9, 1.0]))
def test_recall_at_a_precision_equals_the_best_on_scikit_learns_curve(rows, precision):
    scores_N, labels_N = np.array([row[0] for row in rows], float), np.array([int(row[1]) for row in rows])
    found = recall_at_precision(trace_curve(rank(scores_N, labels_N)), precision)
    if not labels_N.any():
        assert found is None
        return
    precision_T, recall_T, _ = precision_recall_curve(labels_N, scores_N)
    # Its last point has no threshold: precision 1 at recall 0.
    assert found == pytest.approx(max(recall_T[precision_T >= precision - 1e-12]))


def test_an_entry_is_all_that_a_figure_needs_to_appear_in_a_report(tmp_path, monkeypatch):
    monkeypatch.setitem(CLASS_FIGURES, "half", ClassFigure("Half", "Always a half.", lambda _curve: 0.5))
    dataset = write_dataset(tmp_path / "ds", [sample("a", (1, 0)), sample("b", (0, 0))])
    rows = [prediction(key, (float(ord(key)), 0.0)) for key in "ab"]
    predictions = open_predictions(write_predictions(tmp_path / "pred", dataset, rows))
    evaluation = evaluate(predictions, dataset, "test", 0)
    document = json.loads(metrics_json(metrics_document(evaluation)))
    assert document["classes"]["Gun"]["figures"].items() >= {"recall_at_precision_90": 0.0, "half": 0.5}.items()
    assert document["classes"]["Knife"]["figures"]["recall_at_precision_90"] is None
    table = csv.DictReader(io.StringIO(make_tables(document)["classes.csv"]))
    assert {row["class"]: row["half"] for row in table}["Gun"] == "0.5"
    page = render_html(Report(evaluation=evaluation), draw_figures(evaluation))
    assert page.count("Half") == 2 and "Always a half." in page
