"""DET and ROC charts show every class in one chart, and stay small."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from model.evaluation.evaluate import ScoreFigures, _rate_ranks
from model.evaluation.uncertainty import RankIntervals
from model.metrics.uncertainty.intervals import Interval
from model.reports.tradeoff_charts import MAX_CLASSES, _steps, draw_tradeoffs


def rate(labels, scores, has_intervals=True):
    half = Interval(0.4, 0.6)
    intervals = RankIntervals(
        average_precision=half,
        roc_auc=half,
        recall_at_false_alarms={10: half},
        false_alarms_at_false_alarms={},
        false_alarms_at_recall={},
        brier=None,
        pointing_accuracy=None,
        num_positive_groups=9,
    )
    rank = _rate_ranks(np.array(scores, np.float32), np.array(labels, np.int8))
    return ScoreFigures(rank=rank, intervals=intervals if has_intervals else None)


def test_the_lines_are_those_of_every_threshold():
    random = np.random.default_rng(1)
    labels, scores = (random.random(60) < 0.3).astype(int), random.integers(0, 12, 60)
    false, miss = _steps(rate(labels, scores))
    assert (np.diff(false) >= 0).all()
    assert (np.diff(miss) <= 0).all()
    points = set(zip(false.tolist(), miss.tolist(), strict=True))
    for threshold in np.unique(scores[labels == 1]):
        alarms = scores >= threshold
        expected = (alarms[labels == 0].mean(), 1 - alarms[labels == 1].mean())
        assert min(np.abs(np.subtract(point, expected)).max() for point in points) < 1e-12
    assert (false[-1], miss[-1]) == (1, 0)


def test_a_chart_names_each_class_with_its_area_and_interval_and_none_without_scans_of_both_kinds():
    rated = {"Gun": rate([1, 0, 1, 0], [3, 1, 2, 0]), "Knife": rate([1, 1], [1, 2]), "Any item": rate([1, 0], [0, 1])}
    figures = draw_tradeoffs(rated, "Any item")
    assert sorted(figures) == ["det.svg", "roc.svg"]
    assert all(">Gun" in text and "Knife" not in text for text in figures.values())
    assert "Gun 1.000 (0.400–0.600)" in figures["roc.svg"]
    assert all(ET.fromstring(text).tag.endswith("svg") for text in figures.values())
    assert draw_tradeoffs({"Knife": rate([1, 1], [1, 2])}, "Any item") == {}


def test_more_classes_than_can_be_told_apart_leave_the_alarm_for_any_item():
    one = rate([1, 0, 1, 0], [3, 1, 2, 0], has_intervals=False)
    rated = {f"n{k}": one for k in range(MAX_CLASSES + 1)} | {"Any item": one}
    figures = draw_tradeoffs(rated, "Any item")
    assert all("Any item" in text and ">n0" not in text for text in figures.values())


@pytest.mark.parametrize("num_scans", [20_000])
def test_a_chart_of_many_scans_stays_small(num_scans):
    random = np.random.default_rng(2)
    labels = (random.random(num_scans) < 0.5).astype(int)
    of = rate(labels, random.normal(size=num_scans))
    assert all(len(text) < 60_000 for text in draw_tradeoffs({"Any item": of}, "Any item").values())


def test_the_legend_covers_no_curve():
    for name, svg in draw_tradeoffs({"Gun": rate([1, 0, 1, 0], [0, 1, 2, 3])}, "Any item").items():
        heights = {text.text: float(text.get("y", "nan")) for text in ET.fromstring(svg).iter() if text.text}
        of_axis = next(y for text, y in heights.items() if text.startswith("False alarms"))
        assert [y > of_axis for text, y in heights.items() if text.startswith("Gun")] == [True], name
