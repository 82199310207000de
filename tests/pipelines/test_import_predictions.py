"""Test that scores of another program become predictions that every reader takes."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from model.evaluation.scans.scored_scans import UNSCORED, join_predictions
from model.metrics.operating_points import sigmoid
from pipelines import cli
from shards.predictions.run import open_predictions
from shards.verify.predictions import verify_predictions
from tests.model.written import sample, write_dataset

NUM = 40


class Corpus:
    """A dataset of two shards, and a function that imports a CSV of scores."""

    def __init__(self, root):
        rng = np.random.default_rng(0)
        self.labels = rng.random((NUM, 2)) < 0.3
        self.scores = sigmoid(rng.normal(size=(NUM, 2)) + 2 * self.labels)
        self.keys = [f"k{n:02d}" for n in range(NUM)]
        boxes = [[("Gun", 0, 0, 9, 9)] if gun else [] for gun, _ in self.labels]
        rows = zip(self.keys, self.labels, boxes, strict=True)
        self.dataset = write_dataset(root / "ds", [sample(k, map(int, y), b) for k, y, b in rows], num_shards=2)
        self.root = root

    def lines(self):
        return ["key,Gun,Knife"] + [f"{k},{a!r},{b!r}" for k, (a, b) in zip(self.keys, self.scores.tolist())]  # noqa: B905

    def run(self, lines, *words, name="foreign"):
        (self.root / "s.csv").write_text("\n".join(lines))
        words = ("--data", self.dataset.url, "--output", str(self.root / "p"), "--model-name", name, *words)
        return cli.main(["import-predictions", str(self.root / "s.csv"), *words, "--format", "csv"])

    @property
    def predictions(self):
        return open_predictions(str(self.root / "p/foreign"))

    def metrics(self):
        words = ["--predictions", self.predictions.url, "--data", self.dataset.url, "--output", str(self.root / "r")]
        assert cli.main(["evaluate", *words, "--bootstrap-rounds", "20"]) == 0
        return json.loads((self.root / "r/metrics.json").read_text())


@pytest.fixture
def corpus(tmp_path):
    return Corpus(tmp_path)


def test_imported_scores_are_verified_rated_and_listed_like_any_other(corpus):
    assert corpus.run(corpus.lines()) == 0
    assert verify_predictions(corpus.predictions) == []
    scans = join_predictions(corpus.predictions, corpus.dataset, "test")
    order = [corpus.keys.index(key) for key in scans.keys_N.to_pylist()]
    np.testing.assert_allclose(sigmoid(scans.logits_NK), corpus.scores[order], rtol=1e-12)
    gun = corpus.metrics()["classes"]["Gun"]
    assert gun["num_positive"] == corpus.labels[:, 0].sum() and gun["roc_auc"] > 0.7
    assert gun["pointing_accuracy"] is None and gun["pointing"]["num_evaluable"] == 0
    page = (corpus.root / "r/report.html").read_text()
    assert f"<dt>Imported</dt><dd>{corpus.predictions.run['imported_at'][:10]} " in page
    assert "Scans with boxes" not in page  # those whose peaks were rated, and there are no peaks
    words = ["--predictions", corpus.predictions.url, "--output", str(corpus.root / "a"), "--threshold", "Gun=0.5"]
    assert cli.main(["alarms", *words]) == 0
    alarms = pq.read_table(corpus.root / "a/alarms.parquet").to_pylist()
    assert {row["key"] for row in alarms} == {k for k, s in zip(corpus.keys, corpus.scores, strict=True) if s[0] >= 0.5}
    assert {row["x_px"] for row in alarms} == {None}


def test_every_scan_and_every_row_is_accounted_for_by_name(corpus):
    lines = corpus.lines()
    lines[1] = "k00,1.01,0"
    lines[2:4] = ["k03,0.5,0.5", "ghost,0.5,0.5"]  # no row of k01, k02; two of k03
    assert corpus.run(lines) == 1
    refused = {row["key"]: row["reason"] for row in corpus.predictions.read_quarantine().to_pylist()}
    assert refused == {"k00": "out_of_range", "k01": "missing_row", "k02": "missing_row", "k03": "duplicate_row"}
    unmatched = pq.read_table(corpus.root / "p/foreign/quarantine/unmatched-rows.parquet").to_pylist()
    assert [(row["key"], row["reason"]) for row in unmatched] == [("ghost", "unknown_key")]
    assert verify_predictions(corpus.predictions) == []
    assert corpus.metrics()["num_quarantined"] == 4
    assert corpus.run(lines, "--max-quarantine-fraction", "0.2") == 0  # the same again is no conflict


def test_logits_that_are_not_called_so_are_refused_and_the_flag_is_named(corpus, capsys):
    lines = [lines_of if n == 0 else f"{lines_of.split(',')[0]},-3.5,2" for n, lines_of in enumerate(corpus.lines())]
    assert corpus.run(lines) == 2
    assert "in each of 40 rows, the first: Gun must be a score in [0, 1], got -3.5" in (err := capsys.readouterr().err)
    assert "--scores-are logits" in err and not (corpus.root / "p").exists()
    assert corpus.run(lines[:20] + corpus.lines()[20:]) == 1  # some rows may be damaged, so the others are taken
    assert "--scores-are logits" in capsys.readouterr().err
    assert corpus.run(lines, "--scores-are", "logits", name="named") == 0


def test_every_imported_score_and_every_refused_scan_is_attested(corpus, capsys):
    lines = corpus.lines()
    lines[1:3] = ["k00,0.5,", "k01,2,0"]
    assert corpus.run(lines) == 1
    capsys.readouterr()
    records = []
    for key in ("k00", "k01"):
        assert cli.main(["verify", corpus.predictions.url, "--attest", "--key", key]) == 0
        first, proof = capsys.readouterr().out.splitlines()
        assert first == f"root: {corpus.predictions.run['attestation']['root']}, over {NUM} records"
        records.append(json.loads(json.loads(proof)["record"]))
    assert records[0] == ["scored", "test", "k00", [0.0, None]]
    assert records[1][:5] == ["refused", "test", "k01", "import", "out_of_range"]
    path = next((corpus.root / "p/foreign").glob("test-*.parquet"))
    table = pq.read_table(path)
    pq.write_table(table.take(list(range(1, len(table)))), path)
    assert cli.main(["verify", corpus.predictions.url, "--attest"]) == 2
    assert "predictions must have root" in capsys.readouterr().err


def test_a_score_that_is_missing_leaves_its_class_unknown_for_the_scan(corpus):
    lines = corpus.lines()
    lines[1:11] = [f"{key},0.5," for key in corpus.keys[:10]]
    assert corpus.run(lines) == 0
    metrics = corpus.metrics()
    assert (metrics["classes"]["Gun"]["num_unknown"], metrics["classes"]["Knife"]["num_unknown"]) == (0, 10)
    assert metrics["any_item"]["num_positive"] == corpus.labels.any(axis=1).sum()
    scans = join_predictions(corpus.predictions, corpus.dataset, "test")
    assert (scans.logits_NK == UNSCORED).sum(axis=0).tolist() == [0, 10]


def test_a_class_without_a_column_has_no_figures(corpus, capsys):
    assert corpus.run([line.rpartition(",")[0] for line in corpus.lines()]) == 0
    assert "no column for Knife" in capsys.readouterr().err
    knife, held = corpus.metrics()["classes"]["Knife"], int(corpus.labels[:, 1].sum())
    assert (knife["num_unknown"], knife["roc_auc"]) == (NUM, None)
    assert (knife["num_positive"], knife["num_positive_unscored"]) == (0, held)
    assert f"0 of {held} " in capsys.readouterr().out
    page = (corpus.root / "r/report.html").read_text()
    assert f"The predictions have no score of Knife for {held} scans with it" in page
    assert f"{held} more unscored" in page and "No scan holds Knife" not in page
    knife = pq.read_table(corpus.root / "r/scans.parquet").flatten().flatten()
    assert knife["label.Knife"].null_count == 0
    assert {knife[f"{name}.Knife"].null_count for name in ("score", "probability", "rank", "verdict")} == {NUM}


def test_the_same_file_gives_the_same_bytes_and_another_one_is_refused(corpus, capsys):
    corpus.run(corpus.lines())
    folder = corpus.root / "p/foreign"
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    assert corpus.run(corpus.lines()) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
    assert corpus.run(corpus.lines()[:-1]) == 2
    assert "output must not hold other predictions" in capsys.readouterr().err


def test_a_file_of_another_dataset_is_refused_and_nothing_is_written(corpus, capsys):
    assert corpus.run(["key,Gun", "x.jpg,1"]) == 2
    err = capsys.readouterr().err
    assert "keys must be those of the dataset's samples, such as 'k00'" in err and "the first 'x.jpg'" in err
    assert not (corpus.root / "p").exists()
    assert corpus.run(corpus.lines(), name="a/b") == 2


def test_a_file_that_is_not_there_is_named(corpus, capsys):
    words = ["--data", corpus.dataset.url, "--output", str(corpus.root / "p"), "--format", "csv", "--model-name", "m"]
    assert cli.main(["import-predictions", str(corpus.root / "none.csv"), *words]) == 2
    assert "file must be a table of scores or detections, got none" in capsys.readouterr().err
