"""metrics.json follows its published schema, undefined figures included."""

import json
from importlib import resources
from typing import Any

import pytest

from model.evaluation.comparison import compare_models
from model.evaluation.evaluate import evaluate
from model.evaluation.scans.scored_scans import join_predictions
from model.reports.metrics_json import metrics_document, metrics_json
from shards.predictions.run import open_predictions
from tests.model.written import prediction, sample, write_dataset, write_predictions

SCHEMA = json.loads(resources.files("model.reports").joinpath("metrics.schema.json").read_text())
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "null": type(None),
    "boolean": bool,
}


def violations(value, schema, where="$"):
    """Yield what breaks the schema: the keywords that it uses, after JSON Schema 2020-12; any other is an error."""
    known = {"$ref", "anyOf", "type", "const", "enum", "properties", "required", "additionalProperties", "items"}
    known |= {"minItems", "maxItems", "minimum", "maximum", "description", "title", "$schema", "$defs"}
    assert set(schema) <= known, set(schema) - known
    if "$ref" in schema:
        yield from violations(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], where)
    if "anyOf" in schema and all(list(violations(value, choice, where)) for choice in schema["anyOf"]):
        yield f"{where}: fits none of the choices"
    types = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", [])
    is_bool = isinstance(value, bool)  # a bool is an int in Python, and no number in JSON
    if types and not any(isinstance(value, TYPES[name]) and is_bool == (name == "boolean") for name in types):
        yield f"{where}: {value!r} is not {types}"
    if "const" in schema and value != schema["const"]:
        yield f"{where}: {value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {schema['enum']}"
    if isinstance(value, (int, float)) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{where}: {value} is out of bounds"
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{where}: {len(value)} items"
        for index, item in enumerate(value):
            yield from violations(item, schema.get("items", {}), f"{where}[{index}]")
    if isinstance(value, dict):
        yield from (f"{where}: lacks {name}" for name in schema.get("required", []) if name not in value)
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties", {}))
            if inner is False:
                yield f"{where}: has {name}"
            else:
                yield from violations(item, inner or {}, f"{where}.{name}")


CASES: dict[str, Any] = {
    "whole": ([("a", (1, 0)), ("b", (0, 1)), ("c", (0, 0))], "abc", 20),
    "one class a scan": ([("a", (1, 0)), ("b", (0, 1))], "ab", 20),
    "one class a scan without a bootstrap": ([("a", (1, 0)), ("b", (0, 1))], "ab", 0),
    "without a bootstrap": ([("a", (1, 0)), ("b", (0, 1)), ("c", (0, 0))], "abc", 0),
    "without positives": ([("a", (0, 0)), ("b", (0, 0))], "ab", 20),
    "without negatives": ([("a", (1, 1)), ("b", (1, 1))], "ab", 20),
    "without known labels": ([("a", (None, None))], "a", 20),
    "without predictions": ([("a", (1, 0))], "", 20),
}


@pytest.mark.parametrize("case", CASES)
def test_metrics_json_keeps_to_its_schema(case, tmp_path):
    labels, scored, num_rounds = CASES[case]
    samples = [sample(key, of, [("Gun", 1, 1, 5, 5)] * (of[0] == 1)) for key, of in labels]
    dataset = write_dataset(tmp_path / "ds", samples)
    rows = [prediction(key, (float(ord(key)), 0.0)) for key in scored]
    missed = [(key, "truncated") for key, _ in labels if key not in scored]
    predictions = open_predictions(write_predictions(tmp_path / "pred", dataset, rows, quarantined=missed))
    text = metrics_json(metrics_document(evaluate(predictions, dataset, "test", num_rounds)))
    document = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert list(violations(document, SCHEMA)) == []


def test_a_comparison_keeps_to_the_schema(tmp_path):
    dataset = write_dataset(tmp_path / "ds", [sample("a", (1, 0)), sample("b", (0, 0)), sample("c", (1, 0))])
    scans = []
    for name, logits in (("new", (3, 1, 2)), ("old", (1, 2, 3))):
        rows = [prediction(key, (logit, 0)) for key, logit in zip("abc", logits, strict=True)]
        predictions = open_predictions(write_predictions(tmp_path / name, dataset, rows))
        scans.append(join_predictions(predictions, dataset, "test"))
    evaluation = evaluate(predictions, dataset, "test", 20)
    comparison = compare_models(scans[0], scans[1], "new", "old", 20)
    document = json.loads(metrics_json(metrics_document(evaluation, [comparison])))
    assert document["comparisons"][0]["classes"]["Gun"]["average_precision"]["new"] == 1.0
    assert list(violations(document, SCHEMA)) == []


def test_the_schema_sees_what_is_missing_surplus_or_out_of_bounds(tmp_path):
    dataset = write_dataset(tmp_path / "ds", [sample("a", (1, 0)), sample("b", (0, 0))])
    rows = [prediction(key, (1, 0)) for key in "ab"]
    predictions = open_predictions(write_predictions(tmp_path / "pred", dataset, rows))
    document = json.loads(metrics_json(metrics_document(evaluate(predictions, dataset, "test", 0))))
    del document["num_missing"]
    document["surplus"] = 1
    document["classes"]["Gun"]["roc_auc"] = 1.5
    document["classes"]["Knife"]["best_f1"] = {"threshold": "high"}
    found = list(violations(document, SCHEMA))
    assert found == [
        "$: lacks num_missing",
        "$.classes.Gun.roc_auc: 1.5 is out of bounds",
        "$.classes.Knife.best_f1: fits none of the choices",
        "$: has surplus",
    ]
