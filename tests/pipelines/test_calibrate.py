"""Test `sixray calibrate` and the thresholds that it writes."""

import csv
import json
import shutil
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from model.evaluation.scans.scored_scans import join_predictions
from model.metrics.operating_points import sigmoid
from model.reports.threshold_file import rate_thresholds
from pipelines import cli
from shards.predictions.run import open_predictions
from tests.model.written import prediction, sample, write_dataset, write_predictions

NUM = 900


class Scored:
    """Imported predictions of a val split of three classes."""

    def __init__(self, root):
        rng = np.random.default_rng(3)
        self.labels = rng.random((NUM, 2)) < 0.1
        scores = sigmoid(rng.normal(size=(NUM, 2)) + 3 * self.labels)
        self.keys = [f"k{n:03d}" for n in range(NUM)]
        rows = [sample(key, map(int, y)) for key, y in zip(self.keys, self.labels, strict=True)]
        dataset = write_dataset(root / "ds", rows, split="val", num_shards=2)
        lines = [f"{key},{a!r},{b!r}" for key, (a, b) in zip(self.keys, scores.tolist(), strict=True)]
        (root / "s.csv").write_text("\n".join(["key,Gun,Knife", *lines]))
        words = ["--data", dataset.url, "--output", str(root / "p"), "--format", "csv", "--model-name", "m"]
        assert cli.main(["import-predictions", str(root / "s.csv"), *words]) == 0
        self.scores = scores
        self.root, self.url, self.data = root, str(root / "p/m"), dataset.url

    def calibrate(self, *words):
        file = str(self.root / "thresholds.json")
        return cli.main(["calibrate", "--predictions", self.url, "--data", self.data, "--output", file, *words])

    def document(self):
        return json.loads((self.root / "thresholds.json").read_text())


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    return Scored(tmp_path_factory.mktemp("calibrate"))


def test_thresholds_go_from_calibrate_to_alarms_and_to_evaluate(scored, capsys):
    assert scored.calibrate("--max-false-alarms-per-1000", "50") == 0
    assert capsys.readouterr().out.startswith(
        "promised with confidence 0.9: at most 50 false alarms per 1,000 clean bags"
    )
    document = scored.document()
    (promise,) = document["promises"]
    assert (document["rule"], document["split"], document["confidence"]) == ("joint", "val", 0.9)
    assert promise["upper_bound"] <= 0.05 and promise["num_bags"] < NUM
    file = ["--thresholds", str(scored.root / "thresholds.json")]
    assert cli.main(["alarms", "--predictions", scored.url, "--output", str(scored.root / "a"), *file]) == 0
    alarmed = set(pq.read_table(scored.root / "a/alarms.parquet")["key"].to_pylist())
    words = ["--data", scored.data, "--output", str(scored.root / "r"), "--split", "val", "--bootstrap-rounds", "0"]
    assert cli.main(["evaluate", "--predictions", scored.url, *words, *file]) == 0
    rated = json.loads((scored.root / "r/metrics.json").read_text())["thresholds"]
    clean = {key for key, y in zip(scored.keys, scored.labels, strict=True) if not y.any()}
    assert (rated["num_clean"], rated["num_false"]) == (len(clean), len(alarmed & clean))
    assert rated["found_on_these_scans"] and rated["origin"]["promises"] == document["promises"]


@pytest.mark.parametrize("words", [("--max-false-alarms-per-1000", "50"), ("--max-miss-rate", "Gun=0.2")])
@pytest.mark.parametrize("is_elsewhere", [True, False])
def test_the_report_shows_given_thresholds_and_warns_where_they_were_found_on_its_scans(
    scored, tmp_path, words, is_elsewhere
):
    assert scored.calibrate(*words) == 0
    document = scored.document() | ({"split": "earlier"} if is_elsewhere else {})
    (tmp_path / "t.json").write_text(json.dumps(document))
    flags = ["--predictions", scored.url, "--data", scored.data, "--split", "val", "--output", str(tmp_path / "r")]
    assert cli.main(["evaluate", *flags, "--bootstrap-rounds", "1", "--thresholds", str(tmp_path / "t.json")]) == 0
    page = (tmp_path / "r/report.html").read_text()
    assert ("Thresholds were chosen on the scans they are rated on" in page) != is_elsewhere
    assert ("found on split earlier, not on these scans" in page) == is_elsewhere
    assert '<caption id="given-caption">' in page
    rated = json.loads((tmp_path / "r/metrics.json").read_text())["thresholds"]
    assert rated["found_on_these_scans"] != is_elsewhere
    clean = ~scored.labels.any(axis=1)
    alarms = np.zeros(NUM, bool)
    for k, name in enumerate(("Gun", "Knife")):
        at = document["thresholds"][name]
        is_alarm = scored.scores[:, k] >= at["score"] if at else np.zeros(NUM, bool)
        alarms |= is_alarm
        of = rated["classes"][name]
        assert (of["false_alarms"]["num_bags"], of["false_alarms"]["num_wrong"]) == (sum(clean), sum(is_alarm[clean]))
        assert of["misses"]["num_wrong"] == sum(~is_alarm[scored.labels[:, k]])
        assert of["misses"]["interval"]["low"] <= of["misses"]["rate"] <= of["misses"]["interval"]["high"]
    assert rated["any_item"]["false_alarms"]["rate"] == pytest.approx(alarms[clean].mean())
    errors = list(csv.DictReader((tmp_path / "r/errors.csv").read_text().splitlines()))
    listed = Counter((row["class"], row["verdict"]) for row in errors)
    assert listed["any item", "false_alarm"] == rated["num_false"]
    assert listed["Gun", "missed"] == rated["classes"]["Gun"]["misses"]["num_wrong"]
    assert "at the given thresholds, one scan a bag" in page or "at the given thresholds; in small print" in page
    kept = rated["classes"]["Gun"] if words[0] == "--max-miss-rate" else rated["any_item"]
    assert kept["promise"]["verdict"] == "kept" and "confidence 0.9</td>" in page


@pytest.mark.parametrize(
    ("num_wrong", "limit", "promised", "verdict"),
    [(2, 0.1, 1, "kept"), (15, 0.1, 1, "above"), (40, 0.1, 1, "broken"), (2, 0.1, None, "not_promised")],
)
def test_a_promise_is_broken_where_chance_does_not_explain_it(scored, tmp_path, num_wrong, limit, promised, verdict):
    dataset = write_dataset(tmp_path / "ds", [sample(f"k{n:03d}", (0, 0)) for n in range(100)])
    rows = [prediction(f"k{n:03d}", (1.0 if n < num_wrong else -1.0, -1.0)) for n in range(100)]
    predictions = open_predictions(write_predictions(tmp_path / "p", dataset, rows))
    promise = {"subject": "false_alarms_per_1000", "max_rate": limit, "num_wrong": promised, "num_needed": 22}
    given = {"dataset_digest": "d", "split": "val", "confidence": 0.9, "rule": "any_item", "promises": [promise]}
    given["thresholds"] = {name: {"threshold": 0.0, "score": 0.5} for name in ("Gun", "Knife")}
    rated = rate_thresholds(join_predictions(predictions, dataset, "test"), given, dataset.manifest.digest)
    assert rated["any_item"]["promise"]["verdict"] == verdict
    assert rated["any_item"]["misses"] == {"num_bags": 0, "num_wrong": 0, "rate": None, "interval": None}


def test_misses_are_limited_class_by_class(scored):
    assert scored.calibrate("--max-miss-rate", "Gun=0.2") == 0
    document = scored.document()
    assert document["thresholds"]["Knife"] is None and 0 < document["thresholds"]["Gun"]["score"] < 1
    assert document["promises"][0]["subject"] == "Gun"


def test_a_split_that_is_too_small_promises_nothing_and_says_what_it_takes(scored, capsys):
    assert scored.calibrate("--max-false-alarms-per-1000", "1") == 1
    assert "not promised: at most 1 false alarms per 1,000 clean bags needs 2,302 clean bags" in capsys.readouterr().out
    assert scored.document()["thresholds"] == {"Gun": None, "Knife": None}
    file = ["--thresholds", str(scored.root / "thresholds.json")]
    assert cli.main(["alarms", "--predictions", scored.url, "--output", str(scored.root / "b"), *file]) == 1
    assert capsys.readouterr().out.startswith("no alarm can be raised for Gun, Knife: nothing is promised of it")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "limit must be one of"),
        (("--max-miss-rate", "Sword=0.1"), "a class among Gun, Knife, got 'Sword'"),
        (("--max-miss-rate", "Gun=2"), r"miss rate must be a number in (0, 1), got 'Gun=2'"),
        (("--max-false-alarms-per-1000", "10", "--confidence", "1"), "confidence must be in"),
        (("--max-false-alarms-per-1000", "10", "--split", "train"), "split must not be train"),
    ],
)
def test_what_cannot_be_promised_is_refused(scored, words, message, capsys):
    assert scored.calibrate(*words) == 2
    assert message in capsys.readouterr().err


def test_scans_that_the_model_was_trained_on_are_refused(scored, tmp_path, capsys):
    shutil.copytree(scored.url, tmp_path / "m")
    run = json.loads((tmp_path / "m/run.json").read_text())
    words = ["--predictions", str(tmp_path / "m"), "--data", scored.data, "--output", str(tmp_path / "t.json")]
    words += ["--max-false-alarms-per-1000", "50"]
    for splits, code in ((["train", "val"], 2), (["train"], 0)):
        run["trained_on"] = {"dataset_digest": run["dataset_digest"], "splits": splits}
        (tmp_path / "m/run.json").write_text(json.dumps(run))
        assert cli.main(["calibrate", *words]) == code
        assert (tmp_path / "t.json").exists() == (code == 0)
        if code:
            err = capsys.readouterr().err
            assert "'val'" in err and run["dataset_digest"] in err and "m was trained on 100 % of its scans" in err


def test_thresholds_of_another_model_are_refused(scored, tmp_path, capsys):
    file = tmp_path / "t.json"
    file.write_text(json.dumps({"format": 1, "model_id": "other", "thresholds": {}}))
    words = ["--predictions", scored.url, "--output", str(tmp_path / "a"), "--thresholds", str(file)]
    assert cli.main(["alarms", *words]) == 2
    assert "thresholds must be of the model m, got those of other" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("mine", "got another program's"),
        ('{"format": 1, "model_id": "other", "thresholds": {}, "promises": []}', "got those of other"),
    ],
)
def test_only_thresholds_of_the_same_model_are_overwritten(scored, tmp_path, capsys, found, message):
    file = tmp_path / "t.json"
    file.write_text(found)
    words = ["--output", str(file), "--max-false-alarms-per-1000", "50"]
    assert cli.main(["calibrate", "--predictions", scored.url, "--data", scored.data, *words]) == 2
    assert message in capsys.readouterr().err
    assert file.read_text() == found
