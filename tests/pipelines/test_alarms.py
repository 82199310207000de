"""Test the list of scans that `sixray alarms` writes for an operator."""

import csv
import itertools
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.metrics.operating_points import sigmoid
from pipelines import cli
from pipelines.evaluate import EvaluateConfig, write_report
from shards import storage
from shards.format.dataset import Dataset
from shards.format.parquet import QUARANTINE_SCHEMA, predictions_schema
from shards.predictions.parts import Engine, PartInfo, write_part
from shards.predictions.run import run_document, write_run
from tests.model.written import CLASSES, MODEL_ID, prediction, sample, write_dataset

ENGINE = Engine("dali-cpu", "cpu", "float32", 64)
NUM = 60
KEYS = [f"k{number:02d}" for number in range(NUM)]


def write_parts(root, dataset: Dataset, rows, refused=()) -> str:
    """Write predictions as the scorer does; `refused` keys go to the quarantine of the first shard."""
    url, infos = f"{root}/{MODEL_ID}", []
    shards = dataset.shards()
    for index, shard in enumerate(shards):
        part = pa.Table.from_pylist(rows[index :: len(shards)], predictions_schema(CLASSES))
        bad = [
            {"source_uri": f"file:///{key}.jpg", "key": key, "stage": "score", "reason": "bad_jpeg", "detail": ""}
            for key in (refused if index == 0 else ())
        ]
        info = PartInfo(
            model_id=MODEL_ID,
            shard=shard.name,
            shard_digest=shard.digest,
            split=shard.split,
            num_scored=part.num_rows,
            num_quarantined=len(bad),
            quarantined_by_reason={"bad_jpeg": len(bad)} if bad else {},
            engine=ENGINE,
        )
        write_part(url, part, pa.Table.from_pylist(bad, QUARANTINE_SCHEMA), info)
        infos.append(info)
    model = {"model_id": MODEL_ID, "classes": CLASSES, "num_levels": 3}
    write_run(url, run_document(model, [dataset], infos, None))
    return url


class Scored:
    """A dataset of two shards with labels, and predictions of it."""

    def __init__(self, root):
        rng = np.random.default_rng(0)
        labels = self.labels = rng.random((NUM, 2)) < 0.3
        self.logits = (rng.normal(size=(NUM, 2)) + 2 * labels).astype(np.float32)
        samples = [sample(key, tuple(map(int, row))) for key, row in zip(KEYS, labels, strict=True)]
        peaks = [[(float(n), 2.0), (float(n), 4.0)] for n in range(NUM)]
        self.rows = [prediction(k, map(float, row), p) for k, row, p in zip(KEYS, self.logits, peaks, strict=True)]
        self.root = root
        self.dataset = write_dataset(root / "ds", samples, num_shards=2)
        self.url = write_parts(root / "pred", self.dataset, self.rows)
        self.output = root / "alarms"

    def run(self, *words):
        return cli.main(["alarms", "--predictions", self.url, "--output", str(self.output), *words])

    def table(self):
        return pq.read_table(self.output / "alarms.parquet").to_pylist()

    def summary(self):
        return json.loads((self.output / "alarms.json").read_text())


@pytest.fixture
def scored(tmp_path):
    return Scored(tmp_path)


def test_the_list_has_every_alarm_once_with_score_peak_and_source(scored, capsys):
    assert scored.run("--threshold", "Gun=0.8,Knife=0.9", "--data", scored.dataset.url) == 0
    scores = sigmoid(scored.logits)
    expected = {(KEYS[n], CLASSES[k]) for k, at in enumerate((0.8, 0.9)) for n in np.flatnonzero(scores[:, k] >= at)}
    rows = scored.table()
    assert {(row["key"], row["class"]) for row in rows} == expected and len(rows) == len(expected) > 5
    for row in rows:
        number, k = KEYS.index(row["key"]), CLASSES.index(row["class"])
        assert row["score"] == scores[number, k]
        assert (row["x_px"], row["y_px"]) == (number, (2, 4)[k])
        assert row["source_uri"] == f"file:///{row['key']}.jpg"
    num_scans = len({key for key, _ in expected})
    out = capsys.readouterr().out
    assert out.startswith(f"{num_scans} of {NUM} scans to look at (") and out.rstrip().endswith("alarms/alarms.csv")
    assert scored.summary()["num_alarmed_scans"] == num_scans
    assert scored.summary()["thresholds"] == {"Gun": 0.8, "Knife": 0.9}


def test_the_csv_says_what_the_parquet_says(scored):
    scored.run("--threshold", "Gun=0.5", "--data", scored.dataset.url)
    with (scored.output / "alarms.csv").open(newline="") as handle:
        found = list(csv.DictReader(handle))
    assert [(row["rank"], row["key"], row["class"], float(row["score"]), row["source_uri"]) for row in found] == [
        (str(row["rank"]), row["key"], row["class"], row["score"], row["source_uri"]) for row in scored.table()
    ]


def test_without_the_dataset_no_source_is_made_up(scored):
    scored.run("--threshold", "Gun=0.9")
    assert {row["source_uri"] for row in scored.table()} == {None}


def test_a_reports_operating_point_raises_the_false_alarms_that_it_promises(scored):
    config = EvaluateConfig(
        predictions=scored.url, data=scored.dataset.url, output=str(scored.root / "report"), num_rounds=0
    )
    write_report(config)
    metrics = json.loads((scored.root / "report/metrics.json").read_text())
    assert scored.run("--report", str(scored.root / "report"), "--false-alarms-per-1000", "50", "--per-class") == 0
    for name, num in scored.summary()["classes"].items():
        point = metrics["classes"][name]["at_false_alarms_per_1000"]["50"]
        assert num == point["num_true"] + point["num_false"] > 0
    assert scored.run("--report", str(scored.root / "report"), "--recall", "0.9", "--threshold", "Knife=1") == 0
    assert scored.summary()["classes"]["Knife"] == 0
    point = metrics["classes"]["Gun"]["at_recall"]["0.9"]
    assert scored.summary()["classes"]["Gun"] == point["num_true"] + point["num_false"]


def test_a_budget_is_of_bags_over_all_classes_and_agrees_with_the_reports_headline(scored, capsys):
    report = str(scored.root / "report")
    write_report(EvaluateConfig(predictions=scored.url, data=scored.dataset.url, output=report, num_rounds=0))
    metrics = json.loads((scored.root / "report/metrics.json").read_text())
    clean = [KEYS[n] for n in range(NUM) if not any(scored.labels[n])]
    for budget, rule in itertools.product(("10", "50"), ((), ("--any-item",), ("--per-class",))):
        assert scored.run("--report", report, "--false-alarms-per-1000", budget, *rule) == 0
        said = scored.summary()["on_report"]
        alarmed = {row["key"] for row in scored.table()}
        assert (said["num_clean"], said["num_false"]) == (len(clean), len(alarmed & set(clean)))
        assert said["num_caught"] == len(alarmed - set(clean))
        assert rule == ("--per-class",) or said["num_false"] <= int(budget) * len(clean) / 1000
        assert f"{said['num_caught']} of {NUM - len(clean)} bags with an item caught" in capsys.readouterr().out
        if not rule and budget == "10":
            assert said.items() <= metrics["headline"].items()


def test_a_class_that_cannot_alarm_is_said_first(scored, capsys):
    samples = [sample(key, (int(gun), 0)) for key, (gun, _) in zip(KEYS, scored.labels, strict=True)]
    scored.dataset = write_dataset(scored.root / "ds", samples, num_shards=2)
    report = str(scored.root / "report")
    write_report(EvaluateConfig(predictions=scored.url, data=scored.dataset.url, output=report, num_rounds=0))
    words = ("--report", report, "--false-alarms-per-1000", "50")
    capsys.readouterr()
    assert scored.run(*words) == 1
    assert capsys.readouterr().out.startswith("no alarm can be raised for Knife: no bag of the report that holds it")
    assert scored.summary()["cannot_alarm"] == ["Knife"] and scored.table()
    assert scored.run(*words, "--threshold", "Knife=0.9") == 0


def test_scans_without_a_score_are_to_be_looked_at_too(scored, capsys):
    scored.url = write_parts(scored.root / "pred", scored.dataset, scored.rows[:-2], refused=KEYS[-2:])
    assert scored.run("--threshold", "Gun=1") == 0
    said = capsys.readouterr()
    assert "2 scans could not be scored and are to be looked at too" in said.err
    assert scored.summary()["num_unscored"] == 2 and scored.table() == []
    with (scored.output / "unscored.csv").open(newline="") as handle:
        assert [(row["key"], row["reason"]) for row in csv.DictReader(handle)] == [(k, "bad_jpeg") for k in KEYS[-2:]]


def test_what_scoring_left_for_later_is_told(scored, capsys):
    run = scored.root / "pred" / MODEL_ID / "run.json"
    run.write_text(json.dumps(json.loads(run.read_text()) | {"unscored": {"num_shards": 2, "num_scans": 16_000}}))
    assert scored.run("--threshold", "Gun=1") == 0
    assert "16000 scans of 2 shards were not scored yet and are in no list here" in capsys.readouterr().err
    assert scored.summary()["left_by_run"] == {"num_shards": 2, "num_scans": 16_000}


def test_a_second_run_writes_the_same_bytes(scored):
    files = []
    for _ in range(2):
        scored.run("--threshold", "Gun=0.5,Knife=0.5")
        files.append({path.name: path.read_bytes() for path in scored.output.iterdir()})
    assert files[0] == files[1]
    assert sorted(files[0]) == ["alarms.csv", "alarms.json", "alarms.parquet", "unscored.csv"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "thresholds must come from --threshold, or from --report with an operating point"),
        (("--recall", "0.9", "--threshold", "Gun=0.5"), "thresholds must come from"),
        (("--report", "REPORT"), "--report must have one of --false-alarms-per-1000 and --recall beside it, got 0"),
        (("--report", "REPORT", "--recall", "0.9"), "report must have a metrics.json, got none"),
        (("--report", "REPORT", "--recall", "0.9", "--per-class"), "--any-item or --per-class must stand alone beside"),
        (("--threshold", "Sword=1"), "a class among Gun, Knife, got 'Sword'"),
        (("--threshold", "Gun=0.5", "--split", "val"), "predictions must have a part of split 'val'"),
    ],
)
def test_what_gives_no_threshold_is_refused_and_nothing_is_written(scored, words, message, capsys):
    assert scored.run(*(word.replace("REPORT", str(scored.root / "none")) for word in words)) == 2
    assert message in capsys.readouterr().err
    assert not scored.output.exists()


def write_metrics(scored, **changes):
    gun = {"at_recall": {"0.9": {"threshold": 1.0, "score": 0.73}}}
    document = {"format": 1, "model_id": MODEL_ID, "classes": {"Gun": gun, "Knife": {"at_recall": {}}}}
    (scored.root / "report").mkdir()
    (scored.root / "report/metrics.json").write_text(json.dumps(document | changes))
    return "--report", str(scored.root / "report"), "--recall", "0.9"


def test_another_models_report_is_refused(scored, capsys):
    assert scored.run(*write_metrics(scored, model_id="chr-other")) == 2
    assert f"report must be of the model {MODEL_ID}, got one of chr-other" in capsys.readouterr().err


def test_a_class_that_the_report_cannot_rate_needs_a_threshold_of_its_own(scored, capsys):
    words = write_metrics(scored)
    assert scored.run(*words) == 2
    assert "got none for Knife" in capsys.readouterr().err
    assert scored.run(*words, "--threshold", "Knife=0.9") == 0


def test_a_dataset_that_was_not_scored_or_changed_since_is_refused(scored, capsys):
    other = write_dataset(scored.root / "other", [sample("x", (0, 0))], split="val")
    assert scored.run("--threshold", "Gun=0.5", "--data", other.url) == 2
    assert "data must be the dataset that was scored" in capsys.readouterr().err
    manifest = scored.root / "ds/dataset.json"
    shard = scored.dataset.shards()[0]
    changed = replace(shard, digest="f" * 64), *scored.dataset.shards()[1:]
    manifest.write_bytes(replace(scored.dataset.manifest, shards=changed).to_json())
    assert scored.run("--threshold", "Gun=0.5", "--data", scored.dataset.url) == 2
    assert f"got another digest ({shard.name}" in capsys.readouterr().err


def test_no_cell_of_a_csv_is_a_formula(tmp_path):
    keys = ["=cmd|'/C calc'!A0", "+1", "-1", "@sum", "k1"]
    dataset = write_dataset(tmp_path / "ds", [sample(key, (1, 0)) for key in keys])
    url = write_parts(tmp_path / "pred", dataset, [prediction(key, (2.0, -2.0)) for key in keys], refused=["=1+1"])
    output = tmp_path / "alarms"
    assert cli.main(["alarms", "--predictions", url, "--output", str(output), "--threshold", "Gun=0.5"]) == 0
    cells = {}
    for name in ("alarms.csv", "unscored.csv"):
        with (output / name).open(newline="") as file:
            cells[name] = [row["key"] for row in csv.DictReader(file)]
    assert sorted(cells["alarms.csv"]) == sorted([*(f"'{key}" for key in keys[:4]), "k1"])
    assert cells["unscored.csv"] == ["'=1+1"]
    assert sorted(pq.read_table(output / "alarms.parquet")["key"].to_pylist()) == sorted(keys)


@pytest.mark.parametrize("name", ["alarms.csv", "alarms.parquet", "unscored.csv", "alarms.json"])
def test_a_file_of_another_program_is_not_overwritten(scored, capsys, name):
    scored.output.mkdir()
    (scored.output / name).write_text('{"mine": 1}')
    assert scored.run("--threshold", "Gun=0.8") == 2
    assert f"got a {name}" in (said := capsys.readouterr().err) or f"another program's {name}" in said
    assert {path.name: path.read_text() for path in scored.output.iterdir()} == {name: '{"mine": 1}'}


def test_alarms_of_the_same_scores_are_replaced_and_those_of_others_are_not(scored, capsys):
    assert scored.run("--threshold", "Gun=0.8") == 0
    assert scored.run("--threshold", "Gun=0.9") == 0
    assert scored.summary()["thresholds"]["Gun"] == 0.9
    path = scored.output / "alarms.json"
    path.write_text(json.dumps(scored.summary() | {"dataset_digest": "other"}))
    assert scored.run("--threshold", "Gun=0.8") == 2
    assert "got a list of alarms with dataset_digest 'other'" in capsys.readouterr().err


def test_alarms_that_were_cut_short_are_written_again(scored, monkeypatch):
    def write_but_for_the_last(url, data):
        if url.endswith("unscored.csv"):
            raise OSError(28, "No space left on device")
        write_bytes(url, data)

    write_bytes = storage.write_bytes
    monkeypatch.setattr(storage, "write_bytes", write_but_for_the_last)
    assert scored.run("--threshold", "Gun=0.8") == 3
    assert {path.name for path in scored.output.iterdir()} == {"alarms.parquet", "alarms.csv", "unfinished-alarms.json"}
    monkeypatch.undo()
    assert scored.run("--threshold", "Gun=0.8") == 0
    assert {path.name for path in scored.output.iterdir()} == {
        "alarms.parquet",
        "alarms.csv",
        "unscored.csv",
        "alarms.json",
    }
