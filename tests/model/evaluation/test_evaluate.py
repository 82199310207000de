"""Figures are those of the joined rows."""

import json

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, top_k_accuracy_score

from model.evaluation.evaluate import evaluate
from model.evaluation.scans.scored_scans import join_predictions
from model.metrics.uncertainty.intervals import proportion_interval
from model.reports.metrics_json import metrics_document, metrics_json
from shards.format.parquet import predictions_schema, write_parquet
from shards.predictions.parts import part_url
from shards.predictions.run import open_predictions
from tests.model.evaluation.evaluated import evaluate_written, random_rows, write
from tests.model.written import CLASSES, MODEL_ID, add_split, prediction, sample, write_dataset, write_predictions

__all__ = ["write"]  # a fixture

GUN_BOX = ("Gun", 10, 10, 30, 30)


def test_figures_are_scikit_learns_whatever_the_order_of_rows_and_parts(write):
    samples, rows, labels, logits = random_rows()
    document = metrics_document(evaluate_written(write(samples, rows[::-1], num_shards=3)))
    assert document["num_scans"] == 300
    for k, name in enumerate(CLASSES):
        figures = document["classes"][name]
        scores = logits[:, k].astype(np.float32)
        assert figures["num_positive"] == labels[:, k].sum()
        assert figures["prevalence"] == labels[:, k].mean()
        ours = figures["average_precision"]["non_interpolated"]
        assert ours == pytest.approx(average_precision_score(labels[:, k], scores), abs=1e-12)
        assert figures["roc_auc"] == pytest.approx(roc_auc_score(labels[:, k], scores), abs=1e-12)


def test_where_every_scan_has_one_class_top_k_accuracy_is_rated(write):
    random = np.random.default_rng(0)
    true_N, logits_NK = random.integers(0, 2, 100), random.normal(size=(100, 2)).astype(np.float32)
    samples = [sample(f"P{i:05d}", np.eye(2, dtype=int)[true].tolist()) for i, true in enumerate(true_N)]
    rows = [prediction(f"P{i:05d}", logits.tolist()) for i, logits in enumerate(logits_NK)]
    evaluation = evaluate_written(write(samples, rows))
    expected = top_k_accuracy_score(true_N, logits_NK[:, 1] - logits_NK[:, 0], k=1)
    found = metrics_document(evaluation)["single_label"]
    low, high = found["intervals"]["top1_accuracy"].values()
    assert low < expected < high
    assert high - low == pytest.approx(2 * 1.96 * (expected * (1 - expected) / 100) ** 0.5, rel=0.1)
    intervals = {"top1_accuracy": {"low": low, "high": high}, "top5_accuracy": None}
    assert found == {"top1_accuracy": expected, "top5_accuracy": 1.0, "intervals": intervals}


def test_scans_with_the_same_bytes_are_drawn_together_for_the_accuracy_too(write):
    labels = [(1, 0), (0, 1)] * 3
    samples = [
        sample(str(i), labels[i // 25], duplicate_of=None if i % 25 == 0 else str(i - i % 25)) for i in range(150)
    ]
    rows = [prediction(str(i), (1.0, 0.0)) for i in range(150)]
    found = metrics_document(evaluate_written(write(samples, rows)))["single_label"]
    assert found["top1_accuracy"] == 0.5
    expected = proportion_interval(0.5, 6)
    assert found["intervals"]["top1_accuracy"] == {"low": expected.low, "high": expected.high}


@pytest.mark.parametrize("labels", [(0, 0), (1, 1), (1, None)])
def test_one_scan_without_exactly_one_class_leaves_top_k_accuracy_undefined(write, labels):
    samples = [sample("a", (1, 0)), sample("b", labels)]
    document = metrics_document(evaluate_written(write(samples, [prediction(key, (1, 0)) for key in "ab"])))
    assert document["single_label"] is None


def test_the_least_form_of_metrics_json_is_all_there(write):
    samples, rows, _, _ = random_rows()
    text = metrics_json(metrics_document(evaluate_written(write(samples, rows))))
    document = json.loads(text)
    assert document["format"] == 2
    assert document["model_id"] == MODEL_ID
    assert len(document["dataset_digest"]) == 64
    assert document["split"] == "test"
    assert (document["num_scans"], document["num_missing"], document["num_quarantined"]) == (300, 0, 0)
    definitions = {"non_interpolated", "voc_all_points", "voc2007_11_point"}
    for figures in [*document["classes"].values(), document["mean"]]:
        assert set(figures["average_precision"]) == definitions
        assert {"roc_auc", "pointing_accuracy"} <= set(figures)
    for figures in document["classes"].values():
        assert {"num_positive", "num_unknown", "prevalence"} <= set(figures)


def test_a_class_without_positives_is_null_and_counts_in_no_mean(write):
    samples = [sample("a", (1, 0)), sample("b", (0, 0)), sample("c", (0, 0))]
    rows = [prediction("a", (1, 0)), prediction("b", (2, 0)), prediction("c", (0, 0))]
    document = json.loads(metrics_json(metrics_document(evaluate_written(write(samples, rows)))))
    assert set(document["classes"]["Knife"]["average_precision"].values()) == {None}
    assert document["classes"]["Knife"]["roc_auc"] is None
    assert document["classes"]["Knife"]["prevalence"] == 0
    assert document["mean"]["average_precision"] == document["classes"]["Gun"]["average_precision"]
    assert document["mean"]["roc_auc"] == document["classes"]["Gun"]["roc_auc"] == 0.5


def test_an_unknown_label_leaves_the_scan_out_of_that_class_only(write):
    samples = [sample("a", (1, 1)), sample("b", (None, 0)), sample("c", (0, 1))]
    rows = [prediction("a", (1, 1)), prediction("b", (9, 3)), prediction("c", (0, 2))]
    document = metrics_document(evaluate_written(write(samples, rows)))
    gun, knife = document["classes"]["Gun"], document["classes"]["Knife"]
    assert (gun["num_positive"], gun["num_unknown"], gun["prevalence"]) == (1, 1, 1 / 2)
    assert gun["average_precision"]["non_interpolated"] == 1.0
    assert (knife["num_positive"], knife["num_unknown"], knife["prevalence"]) == (2, 0, 2 / 3)
    assert document["num_scans"] == 3


def test_every_sample_is_scored_quarantined_or_missing(write):
    samples = [sample(key, (0, 0)) for key in "abcde"]
    rows = [prediction(key, (0, 0)) for key in "ab"]
    quarantined = [("c", "unreadable"), ("d", "unreadable"), ("of another split", "truncated")]
    found = evaluate_written(write(samples, rows, quarantined=quarantined)).completeness
    assert (
        found.num_samples,
        found.num_scans,
        found.num_quarantined,
        found.num_missing,
    ) == (5, 2, 2, 1)
    assert found.quarantined_by_reason == {"unreadable": 2}
    assert found.missing_keys == ("e",)


def test_copies_within_the_split_and_in_another_are_counted_and_named(tmp_path):
    own = [sample("a", (1, 0)), sample("b", (1, 0), duplicate_of="a"), sample("c", (0, 0)), sample("d", (0, 0))]
    own[3]["duplicate_of"] = "t1"  # first seen in the other split
    other = [sample("t1", (0, 0)), sample("t2", (0, 0), duplicate_of="a"), sample("t3", (0, 0))]
    dataset = add_split(write_dataset(tmp_path / "ds", own), other, "train")
    rows = [prediction(key, (0, 0)) for key in "abcd"]
    test_parts = ["test-00000-of-00001"]
    url = write_predictions(tmp_path / "pred", dataset, [*rows, *rows], parts=test_parts)
    write_parquet(part_url(url, test_parts[0]), pa.Table.from_pylist(rows, predictions_schema(CLASSES)))
    found = evaluate(open_predictions(url), dataset, "test").completeness
    assert found.num_copies == 1
    assert found.num_crossing == 3
    assert found.crossing_keys == ("a", "b", "d")


def test_pointing_is_judged_where_the_class_is_present_and_has_a_box(write):
    samples = [
        sample("hit", (1, 0), [GUN_BOX]),
        sample("second", (1, 0), [GUN_BOX, ("Gun", 100, 10, 120, 30)]),
        sample("other", (1, 1), [GUN_BOX, ("Knife", 100, 10, 120, 30)]),
        sample("no box", (1, 0), []),
        sample("hammer", (0, 0), [("Hammer", 0, 0, 200, 100)]),
        sample("doubtful", (None, 0), [GUN_BOX]),
    ]
    at = {"hit": (30, 30), "second": (110, 20), "other": (110, 20), "no box": (20, 20), "doubtful": (20, 20)}
    rows = [prediction(row["key"], (0, 0), [at.get(row["key"], (0, 0))] * 2) for row in samples]
    classes = evaluate_written(write(samples, rows)).classes
    assert (classes["Gun"].pointing.num_hits, classes["Gun"].pointing.num_evaluable) == (2, 3)
    assert classes["Gun"].pointing.accuracy == 2 / 3
    assert classes["Knife"].pointing.accuracy == 1.0
    # 20 x 20 of 200 x 100 pixels, in one scan of three twice that.
    assert classes["Gun"].pointing.random_point == pytest.approx((0.02 + 0.04 + 0.02) / 3)


def test_pointing_beside_a_box_counts_within_a_tolerance_and_the_largest_item_is_a_baseline(write):
    samples = [
        sample("alone", (1, 0), [GUN_BOX]),
        sample("beside a larger one", (1, 1), [GUN_BOX, ("Knife", 100, 10, 160, 60)]),
    ]
    rows = [prediction(row["key"], (0, 0), [(46, 20), (0, 0)]) for row in samples]
    gun = evaluate_written(write(samples, rows)).classes["Gun"].pointing
    assert gun.num_hits_within == {0: 0, 15: 0, 18: 2}
    assert gun.largest_box == 0.5


def test_without_any_box_pointing_accuracy_is_null(write):
    document = metrics_document(evaluate_written(write([sample("a", (1, 0))], [prediction("a", (0, 0))])))
    assert document["classes"]["Gun"]["pointing_accuracy"] is None
    assert document["mean"]["pointing_accuracy"] is None


def test_when_nothing_could_be_scored_every_figure_is_null(write):
    predictions, dataset = write([sample("a", (1, 0))], [], quarantined=[("a", "truncated")])
    document = json.loads(metrics_json(metrics_document(evaluate(predictions, dataset, "test"))))
    assert (document["num_scans"], document["num_quarantined"]) == (0, 1)
    assert document["classes"]["Gun"]["prevalence"] is None
    assert document["mean"]["average_precision"]["non_interpolated"] is None


def test_scans_with_the_same_bytes_are_one_group(write):
    samples = [sample("a", (1, 0)), sample("b", (1, 0), duplicate_of="a"), sample("c", (0, 0))]
    predictions, dataset = write(samples, [prediction(key, (0, 0)) for key in "abc"])
    groups_N = join_predictions(predictions, dataset, "test").groups_N
    assert groups_N.tolist() == [0, 0, 1]


def test_operating_points_are_counted_for_every_class_and_for_any_item(write):
    samples, rows, labels, logits = random_rows()
    points = metrics_document(evaluate_written(write(samples, rows)))["operating_points"]
    scores = np.column_stack([logits, logits.max(axis=1)]).astype(np.float32)
    present = np.column_stack([labels, labels.max(axis=1)]) == 1
    for k, of in enumerate([*points["classes"].values(), points["any_item"]]):
        for t, threshold in enumerate(points["thresholds"]):
            alarms = scores[:, k] >= threshold
            assert of["num_true"][t] == (alarms & present[:, k]).sum()
            assert of["num_false"][t] == (alarms & ~present[:, k]).sum()


def test_intervals_hold_their_figures_and_the_mean_has_one_of_its_own(write):
    samples, rows, _, _ = random_rows()
    document = metrics_document(evaluate_written(write(samples, rows)))
    assert document["bootstrap"] == {"num_rounds": 1000, "num_groups": 300, "level": 0.95}
    for figures in [*document["classes"].values(), document["mean"], document["any_item"]]:
        low, high = figures["intervals"]["average_precision"].values()
        assert low < figures["average_precision"]["non_interpolated"] < high


def test_the_interval_of_a_mean_over_many_classes_holds_the_mean(tmp_path):
    random = np.random.default_rng(0)
    classes = tuple(f"c{k:02d}" for k in range(30))
    labels_NK = np.eye(30, dtype=int)[np.arange(180) % 30]
    logits_NK = random.normal(size=labels_NK.shape) + 1.5 * labels_NK
    samples = [
        sample(f"P{i:05d}", (0, 0)) | {"labels": dict(zip(classes, map(int, row), strict=True))}
        for i, row in enumerate(labels_NK)
    ]
    rows = [prediction(f"P{i:05d}", row.tolist(), classes=classes) for i, row in enumerate(logits_NK)]
    dataset = write_dataset(tmp_path / "ds", samples, classes=classes, scored=classes)
    url = write_predictions(tmp_path / "p", dataset, rows, schema=predictions_schema(classes), classes=list(classes))
    evaluation = evaluate(open_predictions(url), dataset, "test")
    mean = metrics_document(evaluation)["mean"]
    low, high = mean["intervals"]["average_precision"].values()
    assert low < mean["average_precision"]["non_interpolated"] <= high
    low, high = mean["intervals"]["roc_auc"].values()
    assert low < mean["roc_auc"] < high


def test_scans_of_one_bag_are_one_observation(write):
    samples, rows, _, _ = random_rows()
    alone = metrics_document(evaluate_written(write(samples, rows)))
    tripled = [of | {"key": f"{of['key']}-{i}", "duplicate_of": of["key"] + "-0"} for of in samples for i in range(3)]
    rows = [of | {"key": f"{of['key']}-{i}"} for of in rows for i in range(3)]
    bags = metrics_document(evaluate_written(write(tripled, rows)))
    for name in CLASSES:
        for figure in ("average_precision", "roc_auc", "recall_at_false_alarms_per_1000"):
            one, other = (document["classes"][name]["intervals"][figure] for document in (alone, bags))
            if "low" not in one:
                one, other = one["50"], other["50"]
            assert list(one.values()) == pytest.approx(list(other.values()), abs=0.01)


def test_a_class_in_fewer_than_five_bags_has_no_interval(write):
    samples = [sample(f"P{i}", (int(i < 9), int(i >= 5)), duplicate_of="P0" if 0 < i < 6 else None) for i in range(30)]
    document = metrics_document(evaluate_written(write(samples, [prediction(f"P{i}", (30 - i, i)) for i in range(30)])))
    found = document["classes"]["Gun"]["intervals"]
    assert (document["classes"]["Gun"]["num_positive"], found["num_positive_groups"]) == (9, 4)
    assert found["average_precision"] is found["roc_auc"] is found["recall_at_false_alarms_per_1000"]["10"] is None


def test_the_headline_has_an_interval_around_its_recall_and_none_of_few_bags(write):
    random = np.random.default_rng(5)
    labels = (random.random((200, 2)) < 0.2).astype(int)
    logits = random.normal(size=(200, 2)) + 1.5 * labels
    samples = [sample(f"{n:03d}", labels[n].tolist()) for n in range(200)]
    rows = [prediction(f"{n:03d}", logits[n].tolist()) for n in range(200)]
    evaluation = evaluate_written(write(samples, rows))
    for plans in evaluation.alarm_plans.values():
        assert plans.joint_interval.low <= plans.joint.recall <= plans.joint_interval.high
        assert 0 < plans.joint_interval.high - plans.joint_interval.low < 1
    headline = metrics_document(evaluation)["headline"]
    assert headline["recall_interval"]["low"] == evaluation.alarm_plans[10].joint_interval.low
    few = evaluate_written(write(samples[:6], rows[:6]))
    assert few.alarm_plans[10].joint_interval is None
