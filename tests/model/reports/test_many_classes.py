"""A report of many classes stays readable and says what it leaves out."""

import json

import numpy as np
import pytest

from model.evaluation.evaluate import MAX_CLASSES_IN_FULL, NUM_EXTREME_CLASSES
from model.reports.text.caveats import list_warnings
from pipelines.evaluate import EvaluateConfig, main, write_report
from shards.format.dataset import open_dataset
from shards.format.parquet import predictions_schema
from tests.model.reports.test_metrics_json import SCHEMA, violations
from tests.model.reports.test_page import Page
from tests.model.written import MODEL_ID, prediction, sample, write_dataset, write_predictions

NUM_SCANS = 240


def write_scans(root, num_classes, num_present=None):
    """Write scans of one class each, and predictions of them that know the first classes better than the last."""
    random = np.random.default_rng(7)
    classes = tuple(f"n{k:04d}" for k in range(num_classes))
    samples, rows = [], []
    for n in range(NUM_SCANS):
        own = n % (num_present or num_classes)
        logits = random.normal(size=num_classes)
        logits[own] += 6 * (1 - own / num_classes)
        labels = {name: int(k == own) for k, name in enumerate(classes)}
        samples.append(sample(f"s{n:04d}", (0, 0)) | {"labels": labels})
        rows.append(prediction(f"s{n:04d}", logits.tolist(), classes=classes))
    dataset = write_dataset(root / "ds", samples, classes=classes, scored=classes)
    url = write_predictions(root / "pred", dataset, rows, schema=predictions_schema(classes), classes=list(classes))
    return EvaluateConfig(predictions=url, data=dataset.url, output=str(root / "report"), num_rounds=20)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A report of 80 classes: its folder and what it says."""
    root = tmp_path_factory.mktemp("many")
    evaluation = write_report(write_scans(root, 80))
    return root / "report", evaluation


def test_no_class_of_many_has_a_chart_of_its_own(many):
    folder, _ = many
    assert sorted(path.name for path in folder.iterdir()) == [
        "alarms.csv",
        "average_precision.svg",
        "classes.csv",
        "errors.csv",
        "metrics.json",
        "operating_points.csv",
        "report.html",
        "scans.parquet",
        "strata.csv",
    ]


def test_metrics_json_keeps_every_class_and_names_what_it_leaves_out(many):
    folder, evaluation = many
    document = json.loads((folder / "metrics.json").read_text())
    assert list(violations(document, SCHEMA)) == []
    assert list(document["classes"]) == list(evaluation.classes)
    assert all("average_precision" in of["intervals"] for of in document["classes"].values())
    assert document["single_label"]["intervals"]["top1_accuracy"]
    assert document["mean"]["intervals"]["average_precision"]
    assert document["operating_points"]["classes"] == {}
    assert document["operating_points"]["any_item"]["num_true"]
    assert len(document["mistakes"]["num_missed"]) == 80
    assert document["mistakes"]["num_missed_with_false_alarm"] == []
    assert document["left_out"].startswith("80 classes are more than the 40 that a report shows one by one: ")


def test_the_page_names_what_it_leaves_out_and_has_one_table_of_all_classes(many):
    folder, evaluation = many
    html = (folder / "report.html").read_text()
    page = Page(html)
    assert page.open == []
    assert json.loads((folder / "metrics.json").read_text())["left_out"] in page.text
    assert all(f'<th scope="row">{name}</th>' in html for name in evaluation.classes)
    assert 'id="threshold"' not in html
    assert "seen as" not in html
    assert "Precision and recall" not in page.text
    assert "Classes 80" in page.text


def test_the_chart_and_the_pictures_are_of_the_weakest_and_the_best_classes(many):
    folder, evaluation = many
    figures = {name: of.rank.average_precision["non_interpolated"] for name, of in evaluation.classes.items()}
    shown = [figures[name] for name in evaluation.shown_classes]
    assert len(shown) == 2 * NUM_EXTREME_CLASSES
    assert shown[:NUM_EXTREME_CLASSES] == sorted(figures.values())[:NUM_EXTREME_CLASSES]
    assert shown[NUM_EXTREME_CLASSES:] == sorted(figures.values())[-NUM_EXTREME_CLASSES:]
    chart = (folder / "average_precision.svg").read_text()
    left = [name for name in figures if name not in evaluation.shown_classes]
    assert all(f">{name}<" in chart for name in evaluation.shown_classes)
    assert not any(f">{name}<" in chart for name in left)
    html = (folder / "report.html").read_text()
    assert f"{evaluation.shown_classes[0]}: misses" in html
    assert not any(f"{name}: misses" in html for name in left)


def test_markdown_of_many_classes_has_a_row_for_those_that_are_shown_and_no_column_a_class(many, tmp_path):
    config = write_scans(tmp_path, 80)
    listed = tmp_path / "list.txt"
    rows = [",".join([f"s{n:04d}", *["-1"] * n, "1", *["-1"] * (79 - n)]) for n in range(0, 80, 2)]
    listed.write_text("\n".join([",".join(["name", *many[1].classes]), *rows]) + "\n")
    flags = ["--predictions", config.predictions, "--data", config.data, "--output", config.output, "--format"]
    flags += ["markdown", "--bootstrap-rounds", "0", "--subset", f"half={listed}"]
    assert main(flags) == 0
    lines = (tmp_path / "report" / "report.md").read_text().splitlines()
    named = {line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")}
    assert named >= {*many[1].shown_classes, "Any item", "half"}
    assert sum(name.startswith("n") for name in named) == 2 * NUM_EXTREME_CLASSES
    assert "80 classes are more than the 40" in "".join(lines)
    assert max(len(line.split("|")) for line in lines) < 20


def test_the_terminal_names_the_weakest_and_the_best(tmp_path, capsys):
    config = write_scans(tmp_path, 80)
    flags = ["--predictions", config.predictions, "--data", config.data, "--output", config.output]
    assert main([*flags, "--bootstrap-rounds", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("n0") for line in lines) == 2 * NUM_EXTREME_CLASSES
    assert "10 weakest and best of 80 classes; all: classes.csv" in lines


@pytest.mark.parametrize(("num_classes", "is_in_full"), [(MAX_CLASSES_IN_FULL, True), (MAX_CLASSES_IN_FULL + 1, False)])
def test_one_class_more_than_can_be_shown_decides(tmp_path, monkeypatch, num_classes, is_in_full):
    monkeypatch.setattr("pipelines.evaluate.draw_figures", lambda _: {"average_precision.svg": "<svg/>"})
    config = write_scans(tmp_path, num_classes)
    evaluation = write_report(
        EvaluateConfig(
            predictions=config.predictions, data=config.data, output=config.output, num_rounds=0, format="markdown"
        )
    )
    document = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert evaluation.is_in_full is is_in_full
    assert ("left_out" not in document) is is_in_full
    assert bool(document["operating_points"]["classes"]) is is_in_full
    assert len(document["mistakes"]["num_missed_with_false_alarm"]) == (num_classes if is_in_full else 0)
    assert len(evaluation.shown_classes) == (num_classes if is_in_full else 2 * NUM_EXTREME_CLASSES)


def test_classes_without_a_scan_are_counted_and_never_shown(tmp_path):
    evaluation = write_report(write_scans(tmp_path, 80, num_present=12))
    assert len(evaluation.shown_classes) == 12
    assert "No scan holds any of 68 classes: the figures of these classes are undefined" in list_warnings(evaluation)[0]
    assert open_dataset(str(tmp_path / "ds")).manifest.classes == tuple(evaluation.classes)
    assert evaluation.model_id == MODEL_ID
