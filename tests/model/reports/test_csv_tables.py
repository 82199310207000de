"""CSV tables hold the figures of metrics.json."""

import csv
import io

import pyarrow as pa
import pyarrow.csv
import pytest

from model.evaluation.evaluate import evaluate
from model.reports.csv_tables import make_tables
from model.reports.metrics_json import metrics_document
from shards.predictions.run import open_predictions
from tests.model.written import prediction, sample, write_dataset, write_predictions


@pytest.fixture
def evaluation(tmp_path):
    samples = [sample(f"{i:03d}", (int(i % 5 == 0), 0), [("Gun", 5, 5, 9, 9)] * (i % 5 == 0)) for i in range(60)]
    dataset = write_dataset(tmp_path / "ds", samples)
    rows = [prediction(f"{i:03d}", ((i * 37) % 61 / 7, 0.0)) for i in range(60)]
    predictions = open_predictions(write_predictions(tmp_path / "pred", dataset, rows))
    return evaluate(predictions, dataset, "test", num_rounds=30)


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_classes_are_those_of_metrics_json_to_the_last_digit(evaluation):
    document = metrics_document(evaluation)
    rows = {row["class"]: row for row in rows_of(make_tables(metrics_document(evaluation))["classes.csv"])}
    assert list(rows) == ["Gun", "Knife", "any item", "mean"]
    gun = document["classes"]["Gun"]
    assert float(rows["Gun"]["average_precision_non_interpolated"]) == gun["average_precision"]["non_interpolated"]
    assert float(rows["Gun"]["roc_auc"]) == gun["roc_auc"]
    ends = {end: float(rows["Gun"][f"average_precision_{end}"]) for end in ("low", "high")}
    assert ends == gun["intervals"]["average_precision"]
    assert int(rows["Gun"]["pointing_num_evaluable"]) == 12
    mean = document["mean"]["average_precision"]["non_interpolated"]
    assert float(rows["mean"]["average_precision_non_interpolated"]) == mean


def test_an_undefined_figure_is_an_empty_cell(evaluation):
    rows = {row["class"]: row for row in rows_of(make_tables(metrics_document(evaluation))["classes.csv"])}
    assert rows["Knife"]["average_precision_non_interpolated"] == ""
    assert rows["Knife"]["num_positive"] == "0"


def test_alarms_operating_points_and_breakdowns_have_a_row_each(evaluation):
    document, tables = metrics_document(evaluation), make_tables(metrics_document(evaluation))
    points = rows_of(tables["operating_points.csv"])
    assert len(points) == 3 * len(document["operating_points"]["thresholds"])
    assert {row["set_by"] for row in rows_of(tables["alarms.csv"])} == {"false_alarms_per_1000", "recall", "best_f1"}
    gun_10 = next(
        row
        for row in rows_of(tables["alarms.csv"])
        if (row["class"], row["set_by"], row["aim"]) == ("Gun", "false_alarms_per_1000", "10")
    )
    assert int(gun_10["num_true"]) == document["classes"]["Gun"]["at_false_alarms_per_1000"]["10"]["num_true"]
    strata = rows_of(tables["strata.csv"])
    assert len(strata) == 2 * (4 + 3 + 3)
    assert strata[0]["stratum"] == "below 2 %"


def test_arrow_reads_every_table_with_numbers_as_numbers(evaluation):
    for name, text in make_tables(metrics_document(evaluation)).items():
        table = pyarrow.csv.read_csv(io.BytesIO(text.encode()))
        assert table.num_rows, name
        numeric = [
            field for field in table.schema if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
        ]
        assert len(numeric) >= 4, name
