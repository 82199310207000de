"""A better model is found better, an equal one not; scans whose alarm changed are named."""

import numpy as np
import pytest

from model.evaluation.comparison import _compare_score, _correct, _Pair, compare_models
from model.evaluation.evaluate import evaluate
from model.evaluation.scans.scored_scans import join_predictions
from shards.format.parquet import predictions_schema
from shards.predictions.run import open_predictions
from tests.model.written import CLASSES, prediction, sample, write_dataset, write_predictions


def scans_of(root, dataset, logits, keys=None, classes=CLASSES, **run):
    keys = keys if keys is not None else [f"P{i:05d}" for i in range(len(logits))]
    rows = [prediction(key, of, classes=classes) for key, of in zip(keys, logits, strict=True)]
    schema = None
    if classes != CLASSES:
        schema = predictions_schema(classes)
        run["classes"] = list(classes)
    return join_predictions(
        open_predictions(write_predictions(root, dataset, rows, schema=schema, **run)), dataset, "test"
    )


def sides_of(comparison, name="Gun"):
    assert comparison.classes[name].sides is not None
    return comparison.classes[name].sides


def ends(interval):
    assert interval is not None
    return interval.low, interval.high


@pytest.fixture
def split(tmp_path):
    """800 scans; a quarter holds a gun, a tenth a knife; and the noise that both models share."""
    random = np.random.default_rng(8)
    labels = (random.random((800, 2)) < [0.25, 0.1]).astype(int)
    dataset = write_dataset(tmp_path / "ds", [sample(f"P{i:05d}", labels[i].tolist()) for i in range(800)])
    return dataset, labels, random.normal(size=(800, 2))


def test_a_better_model_is_called_better_and_its_baseline_worse(split, tmp_path):
    dataset, labels, noise = split
    weak = scans_of(tmp_path / "weak", dataset, (noise + labels).tolist())
    strong = scans_of(tmp_path / "strong", dataset, (noise + 2.5 * labels).tolist())
    forth, back = compare_models(strong, weak, "new", "old", 200), compare_models(weak, strong, "old", "new", 200)
    assert forth.mean_average_precision.verdict == "better"
    assert back.mean_average_precision.verdict == "worse"
    assert forth.any_item.recall.verdict == "better"
    for name in CLASSES:
        there, here = forth.classes[name].average_precision, back.classes[name].average_precision
        assert (there.new, there.baseline) == (here.baseline, here.new)
        low, high = ends(here.interval)
        assert ends(there.interval) == pytest.approx((-high, -low))


def test_a_model_beside_itself_differs_in_nothing(split, tmp_path):
    dataset, labels, noise = split
    scans = scans_of(tmp_path / "one", dataset, (noise + labels).tolist())
    comparison = compare_models(scans, scans, "same", "same", 50)
    assert comparison.mean_average_precision.value == 0
    assert comparison.mean_average_precision.verdict == "open"
    sides = sides_of(comparison)
    assert (sides.num_newly_caught, sides.num_newly_missed, sides.num_newly_alarmed, sides.num_newly_quiet) == (0,) * 4


def test_models_of_equal_quality_are_seldom_found_different():
    """Of 8 to 40 positives, as in `tests/bench/bench_coverage.py`; uncorrected, a class differs in a third."""
    random, found = np.random.default_rng(2), 0
    labels = np.zeros((200, 5), np.int8)
    for k, (first, last) in enumerate([(0, 8), (8, 18), (18, 38), (38, 78), (78, 86)]):
        labels[first:last, k] = 1
    groups, keys = np.arange(200), np.arange(200).astype(str)
    for _ in range(60):
        shared = random.normal(size=(200, 5))
        one, other = (shared + 0.3 * random.normal(size=(200, 5)) + 2 * labels for _ in range(2))
        pairs = [_Pair(labels[:, k], one[:, k], other[:, k]) for k in range(5)]
        compared = [_compare_score(pair, groups, keys, 0.0, None) for pair in pairs]
        found += any(of.average_precision.verdict != "open" for of in _correct(compared, 1))
    assert found <= 7


def test_pairing_makes_an_interval_narrower_than_that_of_either_model(split, tmp_path):
    dataset, labels, noise = split
    jitter = np.random.default_rng(9).normal(size=(800, 2)) * 0.1
    rows = [(noise + labels).tolist(), (noise + jitter + labels).tolist()]
    first, second = (scans_of(tmp_path / name, dataset, of) for name, of in zip("ab", rows, strict=True))
    low, high = ends(compare_models(first, second, "a", "b", 200).mean_average_precision.interval)
    alone = evaluate(
        open_predictions(str(tmp_path / "a" / "chr-resnet18-0123456789ab")), dataset, "test", 200
    ).bootstrap
    assert alone is not None
    alone_low, alone_high = ends(alone.mean_average_precision)
    assert high - low < 0.5 * (alone_high - alone_low)


def test_scans_that_changed_sides_are_counted_and_named_largest_change_first(tmp_path):
    samples = [sample(key, (int(key < "e"), 0)) for key in "abcdefghij"]
    dataset = write_dataset(tmp_path / "ds", samples)
    # At 10 false alarms per 1,000 of six clean bags, none is allowed: thresholds stand above every clean bag.
    old = dict(zip("abcdefghij", [9, 8, 7, 1, 5, 2, 2, 2, 2, 2], strict=True))
    new = dict(zip("abcdefghij", [9, 1, 0, 8, 2, 5, 2, 2, 2, 2], strict=True))
    there, here = (
        scans_of(tmp_path / name, dataset, [(float(v), 0.0) for v in of.values()], list(of))
        for name, of in (("old", old), ("new", new))
    )
    sides = sides_of(compare_models(here, there, "new", "old", 0))
    assert (sides.num_newly_caught, sides.num_newly_missed) == (1, 2)
    assert sides.newly_missed_keys == ("b", "c")
    assert (sides.num_newly_alarmed, sides.num_newly_quiet) == (0, 0)


def test_only_scans_and_classes_of_both_are_compared(split, tmp_path):
    dataset, labels, noise = split
    both = scans_of(tmp_path / "both", dataset, (noise + labels).tolist())
    keys = [f"P{i:05d}" for i in range(700)][::-1]
    fewer = scans_of(tmp_path / "fewer", dataset, (noise + labels)[:700, :1][::-1].tolist(), keys, ("Gun",))
    comparison = compare_models(both, fewer, "both", "fewer", 0)
    assert (comparison.num_scans, comparison.num_only_new, comparison.num_only_baseline) == (700, 100, 0)
    assert comparison.left_out_classes == ("Knife",)
    assert list(comparison.classes) == ["Gun"]
    assert comparison.classes["Gun"].average_precision.value == 0


def test_models_without_a_scan_in_common_are_refused(split, tmp_path):
    dataset, _, noise = split
    first = scans_of(tmp_path / "first", dataset, noise[:10].tolist())
    second = scans_of(tmp_path / "second", dataset, noise[10:20].tolist(), [f"P{i:05d}" for i in range(10, 20)])
    with pytest.raises(ValueError, match=r"must have scans and classes in common, .* 0 of them the same \(new, old\)"):
        compare_models(first, second, "new", "old", 0)
