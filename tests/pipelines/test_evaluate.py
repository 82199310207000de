"""Test that the command writes a whole report and refuses bad input before it writes anything."""

import json
import pickle
import re
from pathlib import Path

import fsspec
import numpy as np
import pytest

from model.reports.charts import draw_figures
from model.reports.tradeoff_charts import draw_tradeoffs
from pipelines import cli
from pipelines.evaluate import EvaluateConfig, main, write_report
from pipelines.runtime.command_line import INTERRUPTED
from shards import storage
from shards.format.dataset import open_dataset
from shards.predictions.parts import part_url
from tests.model.written import MODEL_ID, prediction, sample, write_dataset, write_predictions

RECALL = "recall_at_10_false_alarms_per_1000"
SAMPLES = [sample("a", (1, 0)), sample("b", (0, 1)), sample("c", (0, 0))]
ROWS = [prediction("a", (3, 0)), prediction("b", (1, 2)), prediction("c", (0, 0))]


@pytest.fixture(scope="module", autouse=True)
def drawn_once():
    """Draw the charts of equal figures once: that takes longer than all else. `tests/model/reports` tests them."""
    drawn = {}

    def once(draw):
        def find(*args):
            key = (draw, pickle.dumps(args))
            if key not in drawn:
                drawn[key] = draw(*args)
            return drawn[key]

        return find

    with pytest.MonkeyPatch.context() as patch:
        for draw in (draw_figures, draw_tradeoffs):
            patch.setattr(f"pipelines.evaluate.{draw.__name__}", once(draw))
        yield


@pytest.fixture
def flags(tmp_path):
    dataset = write_dataset(tmp_path / "ds", SAMPLES)
    url = write_predictions(tmp_path / "pred", dataset, ROWS)
    return ["--predictions", url, "--data", dataset.url, "--output", str(tmp_path / "report")]


def test_a_report_is_a_page_its_figures_and_its_numbers(flags, tmp_path, capsys):
    assert cli.main(["evaluate", *flags]) == 0
    files = sorted(path.name for path in (tmp_path / "report").iterdir())
    assert files == [
        "alarms.csv",
        "average_precision.svg",
        "classes.csv",
        "det.svg",
        "errors.csv",
        "metrics.json",
        "operating_points.csv",
        "precision_recall_Gun.svg",
        "precision_recall_Knife.svg",
        "reliability_Gun.svg",
        "reliability_Knife.svg",
        "report.html",
        "roc.svg",
        "scans.parquet",
        "strata.csv",
    ]
    document = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert document["classes"]["Gun"]["average_precision"]["non_interpolated"] == 1.0
    out = capsys.readouterr().out
    assert "Gun " in out
    assert out.splitlines()[-1] == str(tmp_path / "report" / "report.html")


@pytest.mark.parametrize("is_training_data", [True, False, None])
def test_the_report_warns_where_the_model_was_trained_on_the_scans(tmp_path, is_training_data):
    dataset = write_dataset(tmp_path / "ds", SAMPLES)
    digest = dataset.manifest.digest if is_training_data else "other"
    run = {} if is_training_data is None else {"trained_on": {"dataset_digest": digest, "splits": ["train", "test"]}}
    url = write_predictions(tmp_path / "pred", dataset, ROWS, **run)
    words = ["--predictions", url, "--data", dataset.url, "--output", str(tmp_path / "report")]
    assert cli.main(["evaluate", *words]) == 0
    assert json.loads((tmp_path / "report/metrics.json").read_text())["is_training_data"] is is_training_data
    assert ("The model was trained on these scans" in (tmp_path / "report/report.html").read_text()) == bool(
        is_training_data
    )


def test_the_lines_of_the_readme_read_the_whole_report(flags, tmp_path, capsys):
    assert main(flags) == 0
    readme = (Path(__file__).parents[2] / "model" / "README.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "scans.parquet" in block)
    capsys.readouterr()
    exec(code.replace("REPORT_DIR", str(tmp_path / "report")), {})
    assert len([line for line in code.splitlines() if line]) == 5
    assert capsys.readouterr().out == "1.0 []\n"


def test_a_second_run_writes_the_same_bytes(flags, tmp_path):
    reports = []
    for _ in range(2):
        assert main(flags) == 0
        reports.append({path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()})
    assert reports[0] == reports[1]


def test_what_an_earlier_report_left_goes_and_what_others_left_stays(flags, tmp_path):
    assert main([*flags, "--format", "markdown"]) == 0
    (tmp_path / "report" / "notes.svg").write_text("mine")
    assert main(flags) == 0
    files = {path.name for path in (tmp_path / "report").iterdir()}
    assert "report.md" not in files
    assert {"report.html", "notes.svg"} < files
    listed = json.loads((tmp_path / "report" / "metrics.json").read_text())["files"]
    assert files - {"notes.svg", "metrics.json"} == set(listed)


@pytest.mark.parametrize("names", [["../../ds/dataset.json"], ["metrics.json", 3, ""], "report.md"])
def test_a_list_of_files_that_no_report_writes_removes_nothing(flags, tmp_path, names):
    assert main(flags) == 0
    path = tmp_path / "report" / "metrics.json"
    listed = json.loads(path.read_text())
    is_list = isinstance(names, list)
    path.write_text(json.dumps(listed | {"files": [*listed["files"], *names] if is_list else names}))
    assert main(flags) == (0 if is_list else 2)
    assert (tmp_path / "ds" / "dataset.json").exists()


@pytest.mark.parametrize("name", ["metrics.json", "report.html", "errors.csv"])
def test_a_file_of_another_program_is_not_overwritten(flags, tmp_path, capsys, name):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / name).write_text('{"mine": 1}')
    assert main(flags) == 2
    assert f"of another program, got a {name}" in (err := capsys.readouterr().err) or f"program's {name}" in err
    assert {path.name: path.read_text() for path in (tmp_path / "report").iterdir()} == {name: '{"mine": 1}'}


def test_a_report_of_other_scores_is_not_overwritten(flags, tmp_path, capsys):
    assert main(flags) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()}
    other = write_predictions(tmp_path / "new", open_dataset(str(tmp_path / "ds")), ROWS, model_id="other-0123456789ab")
    assert main(["--predictions", other, *flags[2:]]) == 2
    assert f"with model_id 'other-0123456789ab', got a report with model_id '{MODEL_ID}'" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()} == before


def test_a_report_that_is_cut_short_has_no_metrics_of_an_earlier_one(flags, tmp_path, monkeypatch):
    assert main(flags) == 0

    def write_but_for_the_page(url, data):
        if url.endswith("report.html"):
            raise KeyboardInterrupt
        write_bytes(url, data)

    write_bytes = storage.write_bytes
    monkeypatch.setattr(storage, "write_bytes", write_but_for_the_page)
    assert main(flags) == INTERRUPTED
    assert not (tmp_path / "report" / "metrics.json").exists()
    monkeypatch.undo()
    assert main(flags) == 0
    assert "unfinished" not in " ".join(path.name for path in (tmp_path / "report").iterdir())


def test_a_report_can_go_to_any_store(tmp_path):
    dataset = write_dataset(tmp_path / "ds", SAMPLES)
    url = write_predictions(tmp_path / "pred", dataset, ROWS)
    write_report(EvaluateConfig(predictions=url, data=dataset.url, output="memory://evaluate-test/report"))
    fs = fsspec.filesystem("memory")
    assert json.loads(fs.cat_file("/evaluate-test/report/metrics.json"))["num_scans"] == 3
    assert fs.cat_file("/evaluate-test/report/report.html").startswith(b"<!doctype html>")


def test_missing_predictions_are_a_finding_and_the_report_is_whole_all_the_same(tmp_path, capsys):
    dataset = write_dataset(tmp_path / "ds", SAMPLES)
    url = write_predictions(tmp_path / "pred", dataset, ROWS[:2])
    assert main(["--predictions", url, "--data", dataset.url, "--output", str(tmp_path / "report")]) == 1
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["num_missing"] == 1
    assert "1 of 3 samples have neither a prediction nor a quarantine row, the first c" in capsys.readouterr().err


def test_a_damaged_part_ends_with_2_and_writes_nothing(flags, tmp_path, capsys):
    path = tmp_path / "pred" / MODEL_ID / "test-00000-of-00001.parquet"
    assert str(path) == part_url(flags[1], "test-00000-of-00001")
    path.write_bytes(path.read_bytes()[:200])
    assert main(flags) == 2
    assert "error: table must be a whole Parquet file" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_predictions_of_another_dataset_end_with_2_and_write_nothing(flags, tmp_path, capsys):
    other = write_dataset(tmp_path / "other", SAMPLES, num_shards=2)
    assert main([*flags[:3], other.url, *flags[4:]]) == 2
    assert "error: predictions must be of the dataset with digest" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(("flag", "what"), [("--predictions", "run.json"), ("--data", "dataset.json")])
def test_a_folder_that_is_something_else_ends_with_2(flags, tmp_path, capsys, flag, what):
    flags[flags.index(flag) + 1] = str(tmp_path)
    assert main(flags) == 2
    assert f"must have a {what}, got none ({tmp_path})" in capsys.readouterr().err


def test_beside_a_baseline_the_report_says_which_is_better(flags, tmp_path):
    dataset = open_dataset(str(tmp_path / "ds"))
    worse = [prediction("a", (0, 0)), prediction("b", (1, 2)), prediction("c", (3, 0))]
    url = write_predictions(tmp_path / "baseline", dataset, worse, model_id="resnet34-000000000000")
    assert main([*flags, "--baseline", url]) == 0
    document = json.loads((tmp_path / "report" / "metrics.json").read_text())["comparisons"][0]
    assert document["baseline_model_id"] == "resnet34-000000000000"
    gun = document["classes"]["Gun"]["average_precision"]
    assert (gun["new"], gun["baseline"], gun["difference"]) == (1.0, pytest.approx(1 / 3), pytest.approx(2 / 3))
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Comparison with resnet34-000000000000" in page
    assert document["classes"]["Gun"]["changed_sides"]["num_newly_caught"] == 1


def write_models(tmp_path, num_scans=120, **shifts):
    """Write predictions by model of scans that a third hold a gun, a sixth a knife; return flags and the folders."""
    random = np.random.default_rng(5)
    labels = np.stack([np.arange(num_scans) % 3 == 0, np.arange(num_scans) % 6 == 1], axis=1).astype(int)
    dataset = write_dataset(tmp_path / "ds", [sample(f"s{i}", of.tolist()) for i, of in enumerate(labels)])
    noise, urls = random.normal(size=labels.shape), {}
    for name, shift in shifts.items():
        logits = noise + 0.3 * random.normal(size=labels.shape) + shift * labels
        rows = [prediction(f"s{i}", of.tolist()) for i, of in enumerate(logits)]
        urls[name] = write_predictions(tmp_path / name, dataset, rows, model_id=f"{name}-model")
    return ["--data", dataset.url, "--output", str(tmp_path / "report"), "--bootstrap-rounds", "50"], urls


def test_several_baselines_stand_in_one_table(tmp_path):
    flags, urls = write_models(tmp_path, new=2.0, old=0.5, other=2.0)
    flags += ["--predictions", urls["new"], "--baseline", urls["old"], "--baseline", urls["other"]]
    assert main(flags) == 0
    first, second = json.loads((tmp_path / "report" / "metrics.json").read_text())["comparisons"]
    assert (first["verdict"], second["verdict"]) == ("better", "open")
    assert first["mean_average_precision"]["p_value"] < 0.001
    assert all(0.05 < of["average_precision"]["p_value"] <= 1 for of in second["classes"].values())
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Comparison with old-model, other-model" in page
    assert page.count("comparison-caption") == 2
    assert main([*flags, "--decide-by", "recall_at_false_alarms", "--format", "markdown"]) == 0
    found = json.loads((tmp_path / "report" / "metrics.json").read_text())["comparisons"]
    assert [of["verdict"] for of in found] == [of["any_item"][RECALL]["verdict"] for of in found]
    assert "at 10 false alarms per 1,000 it catches" in (tmp_path / "report" / "report.md").read_text()


def test_a_requirement_that_does_not_hold_ends_with_1_and_the_reason(tmp_path, capsys):
    flags, urls = write_models(tmp_path, new=2.0, old=0.5)
    flags += ["--predictions", urls["new"], "--baseline", urls["old"]]
    held = ["--require", "mean.average_precision>=0.5", "--require", "Gun.Roc_Auc.low > baseline - 0.02"]
    assert main([*flags, *held]) == 0
    assert main([*flags, *held, "--require", "gun.recall_at_10>=baseline+0.9"]) == 1
    assert "required gun.recall_at_10>=baseline+0.9: " in capsys.readouterr().err
    found = json.loads((tmp_path / "report" / "metrics.json").read_text())["requirements"]
    assert [of["holds"] for of in found] == [True, True, False]
    assert [of["baseline"] for of in found] == [None, "old-model", "old-model"]


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        ("gun.recal_at_10>=0.5", r"must be of a known figure, got 'gun.recal_at_10' .* nearest: gun.recall_at_10,"),
        ("gun.roc_auc=>0.5", r"must be of a known figure, got 'gun.roc_auc=' .* nearest: gun.roc_auc,"),
        ("gun.roc_auc=0.5", r"must be FIGURE>=NUMBER or FIGURE>=baseline-NUMBER .*, got 'gun.roc_auc=0.5'"),
        ("gun.roc_auc>=baseline", r"must be of a number without --baseline, got 'gun.roc_auc>=baseline'"),
    ],
)
def test_a_requirement_that_cannot_be_checked_ends_with_2_and_writes_nothing(
    flags, tmp_path, capsys, requirement, message
):
    assert main([*flags, "--require", requirement]) == 2
    assert re.search(message, capsys.readouterr().err, re.DOTALL)
    assert not (tmp_path / "report").exists()


def test_a_baseline_of_another_dataset_ends_with_2_and_writes_nothing(flags, tmp_path, capsys):
    other = write_dataset(tmp_path / "other", SAMPLES, num_shards=2)
    url = write_predictions(tmp_path / "baseline", other, ROWS)
    assert main([*flags, "--baseline", url]) == 2
    assert "predictions must be of the dataset with digest" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_markdown_takes_the_place_of_the_page(flags, tmp_path, capsys):
    assert main([*flags, "--format", "markdown", "--baseline", flags[1]]) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert not (tmp_path / "report" / "report.html").exists()
    assert capsys.readouterr().out.splitlines()[-1].endswith("report.md")
    assert text.startswith(f"## {MODEL_ID} on split `test`\n\n")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) == (2 + 4) + (2 + 4)
    assert len({line.count("|") for line in tables[:6]}) == 1
    assert len({line.count("|") for line in tables[6:]}) == 1
    assert "| Gun | 1 | 33.3\xa0% | 1.000 |" in text


def test_a_subset_stands_beside_the_whole(flags, tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("name,Gun,Knife\na,1,-1\nc,-1,-1\n")
    assert main([*flags, "--subset", f"10={path}"]) == 0
    subset = json.loads((tmp_path / "report" / "metrics.json").read_text())["subsets"]["10"]
    assert (subset["num_scans"], subset["classes"]["Knife"]["num_positive"]) == (2, 0)
    assert "Subset 10: 2 scans" in (tmp_path / "report" / "report.html").read_text()
    assert main([*flags, "--subset", f"10={path}", "--format", "markdown"]) == 0
    assert "| 10 | 2 | 1.000 | 1.000 | – |" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.parametrize("word", ["10", "=x", "10="])
def test_a_subset_without_its_list_is_refused(flags, capsys, word):
    assert main([*flags, "--subset", word]) == 2
    assert f"--subset must be NAME=LIST with each name once, got {word!r}" in capsys.readouterr().err


def test_a_negative_number_of_rounds_is_refused(flags, capsys):
    assert main([*flags, "--bootstrap-rounds", "-1"]) == 2
    assert "bootstrap rounds must be >= 0, got -1" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--predict", "x"], ["--outputs", "x"], ["extra"]])
def test_a_misspelt_flag_is_an_error(flags, wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*flags, *wrong])
    assert ended.value.code == 2
    assert "error: unrecognized arguments" in capsys.readouterr().err
