"""Test `sixray drift` over several nights."""

import json
import math
import shutil

import pytest

from model.monitoring import page
from pipelines import cli
from pipelines.drift import DriftConfig, watch_drift
from shards import storage
from tests.pipelines.nights import edit_run, rate_night, score_night


@pytest.fixture(autouse=True)
def few_charts(monkeypatch):
    """Draw three charts a page, not forty; `tests/model/monitoring` tests the page."""
    monkeypatch.setattr(page, "MAX_CHARTS", 3)


def watch(root, new, reference, *words, output="drift"):
    return cli.main(["drift", "--predictions", new, "--reference", reference, "--output", str(root / output), *words])


def read(root, output="drift"):
    return json.loads((root / output / "drift.json").read_text())


def alarmed(document):
    limit = len(document["streams"]) / document["alpha"]
    return {
        (stream["name"], stream["value"])
        for stream in document["streams"]
        if max(stream["log_wealth"]) >= math.log(limit)
    }


def test_nights_add_up_and_a_change_ends_with_exit_code_1(tmp_path, capsys):
    reference = score_night(tmp_path, "reference", num=1000)
    for night in "abc":
        new = score_night(tmp_path, night)
        assert watch(tmp_path, new, reference) == 0
    document = read(tmp_path)
    names = ["alarms", "score.Gun", "score.Knife", "score.any item", "image.width_px", "image.height_px"]
    assert [stream["name"] for stream in document["streams"]] == [*names, "quarantine", "quarantine.other"]
    assert len(document["nights"]) == 3 and alarmed(document) == set()
    assert watch(tmp_path, new, reference) == 0  # the same night again changes nothing
    assert read(tmp_path) == document
    assert watch(tmp_path, score_night(tmp_path, "d", shift=1.5), reference) == 1
    printed = capsys.readouterr().out
    assert "changed: alarms, score of Gun, score of Knife, score of any item in 4 nights" in printed
    assert "alarms (reference 10.0), 0.0 in quarantine (reference 0.0)" in printed
    assert "<h1>Changed: alarms, score of Gun" in (tmp_path / "drift/drift.html").read_text()
    assert watch(tmp_path, score_night(tmp_path, "e"), reference) == 1  # a change stays


@pytest.mark.slow
def test_a_change_of_one_site_is_found_where_it_is(tmp_path, capsys):
    sites = ("east", "west")
    reference = score_night(tmp_path, "reference", num=2000, sites=sites)
    for number in range(3):
        new = score_night(tmp_path, f"n{number}", num=600, sites=(*sites, "north"), shift=1.0, shift_of=("west",))
        code = watch(tmp_path, new, reference, "--by", "metadata.site")
    assert code == 1
    document = read(tmp_path)
    found = alarmed(document)
    assert ("score.Gun", "west") in found and "east" not in {value for _, value in found}
    assert set(document["nights"][0]["num_bags_of_value"]) == {"east", "west", "north"}
    assert "does not have are counted in the whole nights alone: north" in (tmp_path / "drift/drift.html").read_text()


def test_by_must_be_a_column_that_the_datasets_have(tmp_path, capsys):
    reference, new = score_night(tmp_path, "reference"), score_night(tmp_path, "a")
    assert watch(tmp_path, new, reference, "--by", "site") == 2
    assert "by must be a column of the dataset's metadata (metadata.site), got 'site'" in capsys.readouterr().err
    shutil.move(tmp_path / "reference", tmp_path / "elsewhere")
    assert watch(tmp_path, new, reference, "--by", "metadata.site") == 2
    assert "name them by --data" in capsys.readouterr().err
    assert not (tmp_path / "drift").exists()
    # Datasets of equal bytes share a digest, so one --data stands for both.
    assert watch(tmp_path, new, reference, "--by", "metadata.site", "--data", str(tmp_path / "elsewhere")) == 2
    assert "predictions must be of samples of the dataset" in capsys.readouterr().err


def test_without_the_datasets_every_scan_is_a_bag_and_the_page_says_so(tmp_path, capsys):
    reference, new = score_night(tmp_path, "reference"), score_night(tmp_path, "a")
    shutil.rmtree(tmp_path / "reference")
    assert watch(tmp_path, new, reference) == 0
    assert "every scan counts as a bag of its own" in capsys.readouterr().err
    assert "The scored datasets were not at hand" in (tmp_path / "drift/drift.html").read_text()
    assert "image.width_px" not in {stream["name"] for stream in read(tmp_path)["streams"]}  # unknown, not zero


@pytest.mark.slow
def test_refused_scans_are_watched_by_reason(tmp_path):
    reference = score_night(tmp_path, "reference", num=2000, refused=2)
    for number in range(3):
        code = watch(tmp_path, score_night(tmp_path, f"n{number}", refused=30), reference)
    found = read(tmp_path)
    assert code == 1 and alarmed(found) >= {("quarantine", None), ("quarantine.missing_row", None)}
    stream = next(of for of in found["streams"] if of["name"] == "quarantine.missing_row")
    assert stream["reference"]["mean"] == pytest.approx(2 / 2000)
    assert stream["nights"][-1] == {"num": 300, "mean": pytest.approx(0.1)}


@pytest.mark.slow
def test_thresholds_and_estimates_come_from_a_report(tmp_path, capsys):
    reference = score_night(tmp_path, "reference", num=1500, item_share=0.1)
    score_night(tmp_path, "rated", num=3000, item_share=0.1)
    report = rate_night(tmp_path, "rated")
    assert watch(tmp_path, score_night(tmp_path, "a", num=3000, item_share=0.1), reference, "--report", report) == 0
    assert "estimated without labels: recall" in capsys.readouterr().out
    document = read(tmp_path)
    headline = json.loads((tmp_path / "report-rated/metrics.json").read_text())["headline"]
    assert document["thresholds"] == [headline["thresholds"][name]["threshold"] for name in ("Gun", "Knife")]
    truth = json.loads(storage.read_bytes(f"{rate_night(tmp_path, 'a')}/metrics.json"))
    estimates = document["nights"][0]["estimates"]
    for name in ("Gun", "Knife"):
        at = headline["thresholds"][name]["score"]
        scores = truth["operating_points"]
        place = min(range(len(scores["scores"])), key=lambda t: abs(scores["scores"][t] - at))
        recall = scores["classes"][name]["num_true"][place] / truth["classes"][name]["num_positive"]
        for assumption in ("if_calibrated", "if_label_shift"):
            assert estimates[name][assumption]["recall"] == pytest.approx(recall, abs=0.08)
    page = (tmp_path / "drift/drift.html").read_text()
    assert "Recall and precision without labels" in page and document["assumptions"]["if_calibrated"] in page


def test_thresholds_of_calibrate_are_taken(tmp_path):
    reference, new = score_night(tmp_path, "reference"), score_night(tmp_path, "a")
    points = {"Gun": {"threshold": -1.0, "score": 0.269}, "Knife": None}
    document = {"format": 1, "model_id": "m", "thresholds": points, "promises": []}
    (tmp_path / "t.json").write_text(json.dumps(document))
    assert watch(tmp_path, new, reference, "--thresholds", str(tmp_path / "t.json")) == 0
    found = read(tmp_path)
    assert found["thresholds"] == [-1.0, None] and found["nights"][0]["num_alarms_of_class"][1] == 0
    assert 0 < found["nights"][0]["num_alarms_of_class"][0] < 300


def test_a_run_that_was_killed_before_its_record_gives_the_same_when_done_again(tmp_path, monkeypatch):
    reference, new = score_night(tmp_path, "reference"), score_night(tmp_path, "a")
    configs = {
        name: DriftConfig(predictions=new, reference=reference, output=str(tmp_path / name)) for name in ("x", "y")
    }
    expected = watch_drift(configs["x"])
    monkeypatch.setattr("pipelines.drift.render_page", lambda document: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        watch_drift(configs["y"])
    monkeypatch.undo()
    assert watch_drift(configs["y"]) == expected
    nights = [path.read_bytes() for path in sorted((tmp_path / "y/nights").iterdir())]
    assert nights == [path.read_bytes() for path in sorted((tmp_path / "x/nights").iterdir())]


def test_another_model_reference_or_flag_is_refused(tmp_path, capsys):
    reference, new = score_night(tmp_path, "reference"), score_night(tmp_path, "a")
    assert watch(tmp_path, score_night(tmp_path, "b", model="other"), reference) == 2
    assert "reference must be of the model other, got m" in capsys.readouterr().err
    assert watch(tmp_path, reference, reference) == 2
    assert "predictions must be of other scans than the reference" in capsys.readouterr().err
    assert watch(tmp_path, new, reference) == 0
    assert watch(tmp_path, new, score_night(tmp_path, "c")) == 2
    assert "got another reference_digest" in capsys.readouterr().err
    assert watch(tmp_path, new, reference, "--alpha", "0.05") == 2
    assert "got another alpha" in capsys.readouterr().err


def test_a_night_that_is_not_scored_to_its_end_is_refused(tmp_path, capsys):
    reference, new = score_night(tmp_path, "reference"), score_night(tmp_path, "a")
    edit_run(tmp_path / "p-a/m", unscored={"num_shards": 1, "num_scans": 7})
    assert watch(tmp_path, new, reference) == 2
    assert "got 7 scans that were not scored yet" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["drift.json", "drift.html", "nights/reference.parquet", "nights/night-00001.parquet"])
def test_a_file_of_another_program_is_not_overwritten(tmp_path, capsys, name):
    reference, new = score_night(tmp_path, "reference"), score_night(tmp_path, "a")
    path = tmp_path / "drift" / name
    path.parent.mkdir(parents=True)
    path.write_text('{"mine": 1}')
    assert watch(tmp_path, new, reference) == 2
    assert name in capsys.readouterr().err
    found = [path for path in (tmp_path / "drift").rglob("*") if path.is_file()]
    assert found == [path] and path.read_text() == '{"mine": 1}'


def test_a_later_night_that_was_killed_is_done_again(tmp_path, monkeypatch):
    reference = score_night(tmp_path, "reference")
    assert watch(tmp_path, score_night(tmp_path, "a"), reference) == 0
    new = score_night(tmp_path, "b")

    def write_but_for_the_page(url, data):
        if str(url).endswith(".html"):
            raise OSError(28, "No space left on device")
        write_bytes(url, data)

    write_bytes = storage.write_bytes
    monkeypatch.setattr(storage, "write_bytes", write_but_for_the_page)
    assert watch(tmp_path, new, reference) == 3
    monkeypatch.undo()
    assert (tmp_path / "drift/nights/night-00002.parquet").exists() and len(read(tmp_path)["nights"]) == 1
    assert watch(tmp_path, new, reference) == 0
    assert len(read(tmp_path)["nights"]) == 2
    assert not (tmp_path / "drift/unfinished-drift.json").exists()


def test_a_class_with_too_few_labelled_bags_is_said_to_have_no_estimate(tmp_path):
    reference, new = score_night(tmp_path, "reference"), score_night(tmp_path, "a")
    score_night(tmp_path, "rated", item_share=0.02)
    assert watch(tmp_path, new, reference, "--report", rate_night(tmp_path, "rated")) == 0
    assert read(tmp_path)["calibration"]["Gun"]["refused"] == "it takes 20 labelled bags with and without it"
    assert "nothing is estimated: it takes 20 labelled bags" in (tmp_path / "drift/drift.html").read_text()
