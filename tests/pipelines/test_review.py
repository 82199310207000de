"""`sixray review` writes a ranked list, over nothing but its own, and warns of a model that defends its labels."""

import csv
import json

import pyarrow.parquet as pq
import pytest

from pipelines import annotate, review
from pipelines.runtime import command_line
from shards import storage
from tests.model.written import MODEL_ID, prediction, sample, write_dataset, write_predictions

NUM = 40
ODD = "=odd"
"""A key that a spreadsheet would take for a formula."""


@pytest.fixture
def written(tmp_path):
    samples = [sample(f"s{n:02d}", (int(n < NUM // 2), 0)) for n in range(NUM)] + [sample(ODD, (0, 0))]
    dataset = write_dataset(tmp_path / "ds", samples)
    rows = [prediction(of["key"], (4.0 if n < NUM // 2 else -4.0, -5.0)) for n, of in enumerate(samples[:-1])]
    write_predictions(tmp_path / "pred", dataset, [*rows, prediction(ODD, (5.0, -5.0))])
    return tmp_path


def run(root, *more, output="review"):
    flags = ("--predictions", root / "pred" / MODEL_ID, "--data", root / "ds", "--output", root / output, *more)
    return review.main(list(map(str, flags)))


def test_the_list_is_the_same_in_all_its_forms(written, capsys):
    assert run(written, "--budget", "5") == 0
    table = pq.read_table(written / "review" / "review.parquet").to_pylist()
    with (written / "review" / "review.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert table[0]["key"] == ODD and len(table) == len(rows) == 5
    assert rows[0]["key"] == f"'{ODD}" and [row["reason"] for row in rows] == [row["reason"] for row in table]
    document = json.loads((written / "review" / "review.json").read_text())
    assert (document["num_scans"], document["num_doubtful"], document["budget"]) == (NUM + 1, 1, 5)
    printed = capsys.readouterr().out
    assert "5 of 41 scans ranked, more speaks against a label than for it in 1" in printed
    assert f"1. {ODD}: Gun is labelled absent and scores 0.993" in printed


def test_a_second_run_gives_the_same_bytes_over_the_first(written):
    assert run(written) == 0
    first = {path.name: path.read_bytes() for path in (written / "review").iterdir()}
    assert run(written) == 0
    assert {path.name: path.read_bytes() for path in (written / "review").iterdir()} == first


def test_a_review_that_is_killed_leaves_no_document_of_another_budget(written, monkeypatch):
    assert run(written) == 0

    def stop(url, content):
        raise InterruptedError(url)

    monkeypatch.setattr(storage, "write_bytes", stop)
    assert run(written, "--budget", "5") == command_line.STOPPED
    assert not (written / "review" / "review.json").exists()
    monkeypatch.undo()
    assert run(written, "--budget", "5") == 0
    assert pq.read_table(written / "review" / "review.parquet").num_rows == 5


@pytest.mark.parametrize("name", ["notes.txt", "metrics.json"])
def test_a_folder_of_another_program_stays_as_it_is(written, capsys, name):
    (written / "review").mkdir()
    (written / "review" / name).write_text("mine")
    assert run(written) == 2
    assert f"got '{name}'" in capsys.readouterr().err
    assert [path.name for path in (written / "review").iterdir()] == [name]


def test_the_review_of_other_scores_is_not_replaced(written, capsys):
    assert run(written) == 0
    path = written / "review" / "review.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_id": "another"}))
    assert run(written) == 2
    assert "got one with 'another'" in capsys.readouterr().err


def test_a_budget_must_be_a_scan_or_more(written, capsys):
    assert run(written, "--budget", "0") == 2
    assert "budget must be >= 1, got 0" in capsys.readouterr().err


def test_the_ranked_scans_are_sent_to_annotators(written):
    assert run(written, "--budget", "5") == 0
    ranked = pq.read_table(written / "review" / "review.parquet")["key"].to_pylist()
    flags = ("--data", written / "ds", "--output", written / "tasks", "--review", written / "review", "--no-pictures")
    assert annotate.main(["export", *map(str, flags)]) == 0
    (document,) = (written / "tasks").glob("**/*.json")
    names = [image["file_name"] for image in json.loads(document.read_text())["images"]]
    assert sorted(names) == sorted(f"file:///{key}.jpg" for key in ranked)
