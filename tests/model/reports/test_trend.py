"""The history shows earlier reports of the same split and refuses others."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from model.evaluation.evaluate import evaluate
from model.reports.charts import draw_figures, draw_history
from model.reports.metrics_json import metrics_document, read_metrics
from model.reports.page import Report, render_html
from model.reports.trend import read_history
from pipelines.evaluate import main
from shards.predictions.run import open_predictions
from tests.model.written import prediction, sample, write_dataset, write_predictions

SAMPLES = [sample("a", (1, 0)), sample("b", (0, 1)), sample("c", (0, 0))]


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Two models' reports, the first one worse, with the flags and the evaluation of the second."""
    root = tmp_path_factory.mktemp("reports")
    dataset = write_dataset(root / "ds", SAMPLES)
    for name, logits in (("old", (0, 1, 2)), ("new", (2, 1, 0))):
        rows = [prediction(key, (logit, 0)) for key, logit in zip("abc", logits, strict=True)]
        url = write_predictions(root / name, dataset, rows, model_id=f"{name}-model")
        flags = ["--predictions", url, "--data", dataset.url, "--bootstrap-rounds", "20", "--output"]
        assert main([*flags, str(root / f"report-{name}")]) == 0
    return root, flags, evaluate(open_predictions(url), dataset, "test", 20)


@pytest.fixture
def written(reports, tmp_path):
    """The same with copies of the reports that a test may change."""
    root, flags, evaluation = reports
    for name in ("report-old", "report-new"):
        shutil.copytree(root / name, tmp_path / name)
    return tmp_path, [*flags, str(tmp_path / "report-new")], evaluation


def test_entries_follow_the_order_of_the_reports_and_end_with_this_one(written):
    root, _, evaluation = written
    first, last = read_history([str(root / "report-old")], metrics_document(evaluation))
    assert (first.model_id, last.model_id) == ("old-model", "new-model")
    assert first.average_precision["Gun"] == pytest.approx(1 / 3)
    assert last.average_precision["Gun"] == 1.0
    assert last.interval == evaluation.bootstrap.mean_average_precision
    assert last.caught == evaluation.any_item.rank.operation.at_false_alarms[10].recall


def test_a_report_of_format_1_is_read_with_its_intervals():
    document = read_metrics(str(Path(__file__).parents[2] / "golden/format1/report"))
    (entry, _) = read_history([str(Path(__file__).parents[2] / "golden/format1/report")], document)
    assert entry.interval is not None
    assert [entry.interval.low, entry.interval.high] == document["mean"]["intervals"]["average_precision"]


def test_without_earlier_reports_there_is_no_history(written):
    assert read_history([], metrics_document(written[2])) == ()


def test_a_report_of_the_least_form_is_enough(written):
    root, _, evaluation = written
    path = root / "report-old" / "metrics.json"
    document = json.loads(path.read_text())
    del document["any_item"], document["mean"]["intervals"], document["operating_points"]
    path.write_text(json.dumps(document))
    entry = read_history([str(root / "report-old")], metrics_document(evaluation))[0]
    assert (entry.interval, entry.caught) == (None, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset_digest": "f" * 64}, r"dataset_digest of an earlier report must be '.*', got 'f{64}'"),
        ({"split": "val"}, r"split of an earlier report must be 'test', got 'val'"),
        ({"format": 3}, r"metrics.json must have format 2, got 3"),
    ],
)
def test_a_report_that_is_not_of_these_scans_is_refused(written, change, message):
    root, _, evaluation = written
    path = root / "report-old" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        read_history([str(root / "report-old")], metrics_document(evaluation))


def test_a_folder_without_a_report_and_a_damaged_report_are_refused(written):
    root, _, evaluation = written
    with pytest.raises(ValueError, match=r"report must have a metrics.json, got none"):
        read_history([str(root)], metrics_document(evaluation))
    (root / "report-old" / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match=r"metrics.json must be a JSON document, got"):
        read_history([str(root / "report-old")], metrics_document(evaluation))


def test_the_page_shows_the_table_and_the_trend(written):
    root, flags, evaluation = written
    assert main([*flags, "--history", str(root / "report-old"), "--history", str(root / "report-new")]) == 0
    page = (root / "report-new" / "report.html").read_text()
    assert 'id="history-title">History<' in page
    assert (root / "report-new" / "history.svg").exists()
    assert page.count("old-model") == 1
    without = render_html(Report(evaluation=evaluation), draw_figures(evaluation))
    assert 'id="history-title"' not in without


def test_equal_histories_are_drawn_alike(written):
    root, _, evaluation = written
    history = read_history([str(root / "report-old")], metrics_document(evaluation))
    assert draw_history(history) == draw_history(history)


def stamp(root, name, at):
    path = root / f"report-{name}" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scored_at": at}))


def ids(root, evaluation):
    history = read_history([str(root / "report-old")], metrics_document(evaluation))
    return [entry.model_id for entry in history]


def test_reports_are_sorted_by_the_time_of_their_scores_if_all_have_one(written):
    root, _, evaluation = written
    stamped = replace(evaluation, run=evaluation.run | {"timings": {"finished_at": "2026-03-02T01:00:00+00:00"}})
    stamp(root, "old", "2026-03-03T01:00:00+00:00")
    assert ids(root, stamped) == ["new-model", "old-model"]
    stamp(root, "old", None)
    assert ids(root, stamped) == ["old-model", "new-model"]


def test_the_trend_is_labelled_with_dates(written):
    root, _, evaluation = written
    stamped = replace(evaluation, run=evaluation.run | {"timings": {"finished_at": "2026-03-02T01:00:00+00:00"}})
    stamp(root, "old", "2026-03-01T01:00:00+00:00")
    drawn = draw_history(read_history([str(root / "report-old")], metrics_document(stamped)))
    assert "2026-03-01" in drawn and "2026-03-02" in drawn and "Scored on" in drawn
