"""Breakdowns, levels and mistakes agree with counts scan by scan."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from model.evaluation.breakdowns import count_mistakes, find_bands, rate_breakdowns
from model.evaluation.evaluate import evaluate
from model.evaluation.scans.scored_scans import join_predictions
from model.metrics.bags import NEVER
from model.reports.charts import draw_figures
from model.reports.csv_tables import make_tables
from model.reports.metrics_json import metrics_document
from model.reports.page import Report, render_html
from shards.predictions.run import open_predictions
from tests.model.written import prediction, sample, write_dataset, write_predictions


def write(tmp_path, samples, rows):
    dataset = write_dataset(tmp_path / "ds", samples)
    return open_predictions(write_predictions(tmp_path / "pred", dataset, rows)), dataset


@pytest.fixture
def random_scans(tmp_path):
    """200 scans of two image sizes; the gun's box covers 1, 3, 8 or 20 % of the image."""
    random = np.random.default_rng(6)
    samples, rows, facts = [], [], []
    for i in range(200):
        size = [(400, 400), (1000, 1000)][i % 2]
        gun, knife = bool(random.random() < 0.4), bool(random.random() < 0.2)
        share = random.choice([0.01, 0.03, 0.08, 0.20])
        side = (share * size[0] * size[1]) ** 0.5
        boxes = [("Gun", 5, 5, 5 + side, 5 + side)] * gun + [("Knife", 0, 0, 9, 9)] * knife * 2
        samples.append(sample(f"{i:05d}", (int(gun), int(knife)), boxes, size_px=size))
        logits = (float(random.normal() + gun).__round__(1), 0.0)
        rows.append(prediction(f"{i:05d}", logits))
        facts.append((gun, share if gun else None, len(boxes), size, logits[0]))
    return *write(tmp_path, samples, rows), facts


def test_each_breakdown_is_rated_over_its_own_positives(random_scans):
    predictions, dataset, facts = random_scans
    evaluation = evaluate(predictions, dataset, "test", num_rounds=0)
    gun = evaluation.classes["Gun"]
    point = gun.rank.operation.at_false_alarms[10]
    by_box = [
        ("below 2 %", lambda share: share == 0.01),
        ("2–5 %", lambda share: share == 0.03),
        ("5–10 %", lambda share: share == 0.08),
        ("from 10 %", lambda share: share == 0.20),
    ]
    assert [breakdown.name for breakdown in gun.breakdowns.by_box_size] == [name for name, _ in by_box]
    for breakdown, (_, belongs) in zip(gun.breakdowns.by_box_size, by_box, strict=True):
        kept = [(present, score) for present, share, _, _, score in facts if not present or belongs(share)]
        present, scores = (np.array(column) for column in zip(*kept, strict=True))
        scores = scores.astype(np.float32)
        assert breakdown.num_positive == present.sum()
        assert breakdown.average_precision == pytest.approx(average_precision_score(present, scores), abs=1e-12)
        assert breakdown.roc_auc == pytest.approx(roc_auc_score(present, scores), abs=1e-12)
        assert breakdown.recall == pytest.approx((scores[present] >= point.threshold).mean())


def test_the_number_of_items_counts_the_boxes_of_all_classes(random_scans):
    predictions, dataset, facts = random_scans
    scans = join_predictions(predictions, dataset, "test")
    breakdowns = rate_breakdowns(scans, 0, find_bands(scans), NEVER).by_num_items
    expected = [sum(gun and boxes == n for gun, _, boxes, _, _ in facts) for n in (1, 2)]
    expected.append(sum(gun and boxes >= 3 for gun, _, boxes, _, _ in facts))
    assert [breakdown.num_positive for breakdown in breakdowns] == expected
    assert all(breakdown.num_negative == sum(not gun for gun, *_ in facts) for breakdown in breakdowns)
    assert all(breakdown.recall is None for breakdown in breakdowns)


def test_an_image_size_has_its_own_negatives(random_scans):
    predictions, dataset, facts = random_scans
    scans = join_predictions(predictions, dataset, "test")
    below, middle, above = rate_breakdowns(scans, 0, find_bands(scans), NEVER).by_image_size
    assert below.num_negative == sum(not gun and size == (400, 400) for gun, _, _, size, _ in facts)
    assert above.num_positive == sum(gun and size == (1000, 1000) for gun, _, _, size, _ in facts)
    assert (middle.num_positive, middle.average_precision, middle.roc_auc) == (0, None, None)


def test_clutter_is_rated_in_quarters_of_the_entropy_and_not_where_none_was_written(random_scans):
    predictions, dataset, _ = random_scans
    scans = join_predictions(predictions, dataset, "test")
    assert rate_breakdowns(scans, 0, find_bands(scans), NEVER).by_clutter == ()
    entropy_bits_N = np.linspace(1, 7, 200, dtype=np.float32)
    entropy_bits_N[0] = np.nan
    scans = replace(scans, entropy_bits_N=entropy_bits_N)
    parts = rate_breakdowns(scans, 0, find_bands(scans), 0.0).by_clutter
    assert [part.name for part in parts] == ["below 2.52 bits", "2.52–4.02 bits", "4.02–5.51 bits", "from 5.51 bits"]
    assert [part.num_positive + part.num_negative for part in parts] == [50, 50, 49, 50]


METADATA = {"site": "string", "belt": "int64", "serial": "string", "speed": "double", "day": "date", "same": "string"}


def test_each_column_of_metadata_with_several_values_breaks_the_figures_down(tmp_path):
    random = np.random.default_rng(8)
    samples, rows = [], []
    for i in range(400):
        has_gun = int(random.random() < 0.4)
        metadata = {
            "site": [None, "A", "B", "B"][i % 4],
            "belt": i % 3,
            "serial": f"{i:04d}",
            "speed": float(random.random()),
            "day": date(2026, 1, 1) + timedelta(days=i),
            "same": "x",
        }
        samples.append(sample(f"{i:05d}", (has_gun, 0), metadata=metadata))
        rows.append(prediction(f"{i:05d}", (float(random.normal() + 2 * has_gun), 0.0)))
    dataset = write_dataset(tmp_path / "ds", samples, metadata=METADATA)
    predictions = open_predictions(write_predictions(tmp_path / "pred", dataset, rows))
    evaluation = evaluate(predictions, dataset, "test")
    gun = evaluation.classes["Gun"]
    found = gun.breakdowns.by_metadata
    names = {column: [part.name for part in parts] for column, parts in found.items()}
    assert names["site"] == ["A", "B", "unknown"]
    assert names["belt"] == ["0", "1", "2"]
    assert [name.split()[0] for name in names["speed"][::3]] == ["below", "from"]
    assert names["day"] == ["2026", "2027"]
    assert set(names) == {"site", "belt", "speed", "day"}
    threshold = float(evaluation.alarm_thresholds.logits_K[0])
    for part, site in zip(found["site"], ["A", "B", None], strict=True):
        own = [i for i, of in enumerate(samples) if of["metadata"]["site"] == site]
        alarms = np.array([np.float32(rows[i]["logits"]["Gun"]) >= threshold for i in own])
        labels = np.array([samples[i]["labels"]["Gun"] for i in own])
        assert (part.num_positive, part.num_negative) == (labels.sum(), (1 - labels).sum())
        assert part.recall == pytest.approx(alarms[labels == 1].mean())
        assert part.recall_interval is not None
        assert part.recall is not None
        assert part.recall_interval.low <= part.recall <= part.recall_interval.high
        assert part.false_alarms_per_1000 == pytest.approx(1000 * alarms[labels == 0].mean())
        assert part.false_alarms_per_1000 is not None
        assert part.num_false == alarms[labels == 0].sum()
        assert part.false_alarms_interval is not None
        assert part.false_alarms_interval.low <= part.false_alarms_per_1000 <= part.false_alarms_interval.high
        assert 0 < part.false_alarms_interval.high - part.false_alarms_interval.low < 100
    assert all(sum(part.num_positive for part in parts) == gun.rank.ranking.num_positive for parts in found.values())
    document = metrics_document(evaluation)
    assert "metadata.site" in make_tables(document)["strata.csv"]
    assert "By site" in (page := render_html(Report(evaluation=evaluation), draw_figures(evaluation)))
    assert "false</small>" in page


def test_levels_are_rated_each_alone(tmp_path):
    samples = [sample(key, (int(key in "ab"), 0)) for key in "abcd"]
    rows = []
    for key, levels in {"a": (4, 1), "b": (3, 2), "c": (2, 3), "d": (1, 4)}.items():
        row = prediction(key, (0.0, 0.0))
        row["level_logits"] = [{"Gun": float(value), "Knife": 0.0} for value in levels]
        rows.append(row)
    predictions, dataset = write(tmp_path, samples, rows)
    document = metrics_document(evaluate(predictions, dataset, "test", num_rounds=0))
    assert document["classes"]["Gun"]["average_precision_by_level"] == [1.0, pytest.approx((1 / 3 + 2 / 4) / 2)]
    assert document["classes"]["Knife"]["average_precision_by_level"] == [None, None]


def test_a_model_of_one_level_has_no_table_of_levels(tmp_path):
    row = prediction("a", (0.0, 0.0))
    row["level_logits"] = row["level_logits"][:1]
    predictions, dataset = write(tmp_path, [sample("a", (1, 0))], [row])
    evaluation = evaluate(predictions, dataset, "test", num_rounds=0)
    assert evaluation.classes["Gun"].level_average_precision == ()


def test_rows_with_different_numbers_of_levels_are_refused(tmp_path):
    rows = [prediction("a", (0.0, 0.0)), prediction("b", (0.0, 0.0))]
    rows[1]["level_logits"] = rows[1]["level_logits"][:2]
    predictions, dataset = write(tmp_path, [sample("a", (1, 0)), sample("b", (0, 0))], rows)
    with pytest.raises(ValueError, match=r"level logits must have one number of levels, got \[2, 3\]"):
        join_predictions(predictions, dataset, "test")


def test_a_level_logit_that_is_not_finite_is_refused(tmp_path):
    row = prediction("a", (0.0, 0.0))
    row["level_logits"] = [{"Gun": float("nan"), "Knife": 0.0}] * 3
    predictions, dataset = write(tmp_path, [sample("a", (1, 0))], [row])
    with pytest.raises(ValueError, match="level logits must be finite"):
        join_predictions(predictions, dataset, "test")


def test_a_miss_with_a_false_alarm_for_another_class_is_a_confusion(tmp_path):
    labels = {"seen": (1, 0), "unseen": (1, 0), "as knife": (1, 0), "both": (1, 1), "clean": (0, 0)}
    logits = {"seen": (5, 0), "unseen": (0, 0), "as knife": (0, 5), "both": (0, 5), "clean": (0, 0)}
    samples = [sample(key, of) for key, of in labels.items()]
    predictions, dataset = write(tmp_path, samples, [prediction(key, of) for key, of in logits.items()])
    evaluation = evaluate(predictions, dataset, "test", num_rounds=0)
    assert evaluation.mistakes.num_missed_K.tolist() == [3, 0]
    mistakes = count_mistakes(join_predictions(predictions, dataset, "test"), np.array([5.0, 5.0]))
    assert mistakes.num_missed_K.tolist() == [3, 0]
    assert mistakes.num_confused_KK.tolist() == [[0, 1], [0, 0]]


def test_without_any_threshold_every_positive_is_missed_and_none_confused(tmp_path):
    predictions, dataset = write(tmp_path, [sample("a", (1, 0))], [prediction("a", (1, 1))])
    mistakes = count_mistakes(join_predictions(predictions, dataset, "test"), np.array([NEVER, NEVER]))
    assert mistakes.num_missed_K.tolist() == [1, 0]
    assert not mistakes.num_confused_KK.any()
