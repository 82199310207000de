"""Predictions that do not fit the dataset are refused."""

import json

import numpy as np
import pyarrow as pa
import pytest

from model.evaluation.evaluate import evaluate
from shards.format.parquet import predictions_schema, write_parquet
from shards.predictions.parts import part_url
from shards.predictions.run import Predictions, open_predictions
from tests.model.evaluation.evaluated import evaluate_written, write
from tests.model.written import CLASSES, MODEL_ID, prediction, sample

__all__ = ["write"]  # a fixture


def test_predictions_of_another_dataset_are_refused(write):
    predictions, dataset = write([sample("a", (1, 0))], [prediction("a", (0, 0))], dataset_digest="f" * 64)
    with pytest.raises(ValueError, match=r"must be of the dataset with digest .*, got predictions of f{64} .*score"):
        evaluate(predictions, dataset, "test")


def test_predictions_of_several_datasets_are_rated_on_the_one_that_is_named(write):
    predictions, dataset = write([sample("a", (1, 0))], [prediction("a", (0, 0))])
    digests = [{"url": "x", "digest": "f" * 64}, {"url": "y", "digest": dataset.manifest.digest}]
    parts = [*predictions.run["parts"], "test-00000-of-00009"]
    both = Predictions(
        predictions.url, predictions.run | {"dataset_digest": "e" * 64, "datasets": digests, "parts": parts}
    )
    assert evaluate(both, dataset, "test").completeness.num_scans == 1


def test_a_class_that_the_dataset_does_not_have_is_refused(write):
    predictions, dataset = write([sample("a", (1, 0))], [prediction("a", (0, 0))], classes=["Gun", "Blade"])
    with pytest.raises(ValueError, match=r"classes of the predictions must be among .*, got \['Gun', 'Blade'\]"):
        evaluate(predictions, dataset, "test")


def test_columns_that_lack_a_class_of_the_run_are_refused(write):
    row = prediction("a", (0,), classes=("Gun",))
    predictions, dataset = write([sample("a", (1, 0))], [row], schema=predictions_schema(("Gun",)))
    with pytest.raises(ValueError, match=r"must have a column 'logits' of type struct<Gun.*Knife.*test-00000-of-00001"):
        evaluate(predictions, dataset, "test")


def test_a_missing_column_is_refused(write):
    schema = predictions_schema(CLASSES)
    without_peaks = schema.remove(schema.get_field_index("peaks"))
    predictions, dataset = write([sample("a", (1, 0))], [prediction("a", (0, 0))], schema=without_peaks)
    with pytest.raises(ValueError, match=r"must have a column 'peaks' of type .*, got none .*test-00000"):
        evaluate(predictions, dataset, "test")


def test_half_precision_logits_are_refused_because_they_tie_what_differs(write):
    predictions, dataset = write([sample("a", (1, 0))], [prediction("a", (0, 0))])
    half = pa.struct([pa.field(name, pa.float16()) for name in CLASSES])
    table = pa.Table.from_pylist([prediction("a", (0, 0))], predictions_schema(CLASSES))
    at = table.schema.get_field_index("logits")
    halved = pa.StructArray.from_arrays([pa.array([np.float16(0)], pa.float16())] * 2, fields=list(half))
    write_parquet(part_url(predictions.url, "test-00000-of-00001"), table.set_column(at, "logits", halved))
    with pytest.raises(ValueError, match=r"column 'logits' of type .*float.*, got struct<Gun: halffloat"):
        evaluate(predictions, dataset, "test")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_logit_that_is_not_finite_is_refused_by_name(write, bad):
    rows = [prediction("a", (0, 0)), prediction("b", (0, bad))]
    predictions, dataset = write([sample("a", (1, 0)), sample("b", (0, 0))], rows)
    with pytest.raises(ValueError, match=r"logits must be finite, got (nan|inf) \(sample 'b', class 'Knife'"):
        evaluate(predictions, dataset, "test")


def test_a_peak_that_is_not_finite_is_refused_by_name(write):
    rows = [prediction("a", (0, 0), [(0, 0), (float("nan"), 0)])]
    with pytest.raises(ValueError, match=r"peaks must be finite, got .*nan.*\(sample 'a', class 'Knife'"):
        evaluate_written(write([sample("a", (1, 0))], rows))


def test_a_key_that_is_predicted_twice_is_refused(write):
    rows = [prediction("a", (0, 0)), prediction("a", (1, 1))]
    with pytest.raises(ValueError, match=r"predictions must name each key once, got 'a' twice"):
        evaluate_written(write([sample("a", (1, 0))], rows))


def test_a_key_that_the_dataset_does_not_have_is_refused(write):
    rows = [prediction("a", (0, 0)), prediction("z", (1, 1))]
    with pytest.raises(ValueError, match=r"must be of samples of split 'test', got 1 others, the first 'z'"):
        evaluate_written(write([sample("a", (1, 0))], rows))


def test_a_truncated_table_is_refused_by_name(write):
    predictions, dataset = write([sample("a", (1, 0))], [prediction("a", (0, 0))])
    path = part_url(predictions.url, "test-00000-of-00001")
    with open(path, "r+b") as handle:  # noqa: PTH123 (a URL here, and a path)
        handle.truncate(300)
    with pytest.raises(ValueError, match=r"table must be a whole Parquet file, .*test-00000-of-00001.parquet"):
        evaluate(predictions, dataset, "test")


def test_a_part_that_went_missing_is_refused_with_what_to_do(write, tmp_path):
    predictions, dataset = write([sample("a", (1, 0))], [prediction("a", (0, 0))])
    (tmp_path / "pred" / MODEL_ID / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(ValueError, match=r"must have every part that run.json lists, .*it makes what is missing"):
        evaluate(predictions, dataset, "test")


def test_a_split_that_was_not_scored_is_refused(write):
    predictions, dataset = write([sample("a", (1, 0))], [prediction("a", (0, 0))], parts=["train-00000-of-00001"])
    with pytest.raises(ValueError, match=r"must have a part of split 'test', got parts \['train-00000-of-00001'\]"):
        evaluate(predictions, dataset, "test")


def test_a_split_that_the_dataset_does_not_have_is_refused(write):
    with pytest.raises(ValueError, match=r"split must be one of \['test'\], got 'val'"):
        evaluate_written(write([sample("a", (1, 0))], [prediction("a", (0, 0))]), split="val")


def test_a_run_without_its_classes_is_refused(write, tmp_path):
    predictions, dataset = write([sample("a", (1, 0))], [prediction("a", (0, 0))])
    run_path = tmp_path / "pred" / MODEL_ID / "run.json"
    document = json.loads(run_path.read_text())
    del document["classes"]
    run_path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"run.json must have 'classes', got"):
        evaluate(open_predictions(predictions.url), dataset, "test")
