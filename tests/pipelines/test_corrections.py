"""Corrections change the labels and boxes of the scans that they name, on record, and nothing else."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.reshard import main
from pipelines.verify import main as verify
from shards.curation.corrections import COLUMNS, Correction, read_corrections, write_corrections
from shards.format.classes import Box
from shards.format.dataset import open_dataset
from tests.corpora import files_of, images_of, make_corpus, rows_of
from tests.shards.plain_calls import convert_plainly

TIME = "2026-11-27T09:30:00+00:00"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    corpus = make_corpus(tmp_path_factory.mktemp("corpus"), num_train=30, num_test=8)
    output = tmp_path_factory.mktemp("source") / "ds"
    convert_plainly(corpus.root, output, shard_bytes=15_000)
    return output


def rows_by_key(dataset):
    return {row["key"]: row for row in rows_of(dataset)}


def correct(row, **changes):
    fields: dict[str, Any] = {
        "labels": {},
        "boxes": None,
        "author": "Ada",
        "time": TIME,
        "reason": "a knife was missed",
    }
    return Correction(key=row["key"], sha256=row["sha256"], **(fields | changes))


@pytest.fixture(scope="module")
def corrections(source, tmp_path_factory):
    """A file with three corrections: a label, boxes with their label, and one that changes nothing."""
    rows = sorted(rows_of(source), key=lambda row: row["key"])
    clean, boxed = (next(row for row in rows if bool(row["boxes"]) == has) for has in (False, True))
    same = next(row for row in rows if row["key"] not in (clean["key"], boxed["key"]))
    url = tmp_path_factory.mktemp("corrections") / "corrections.csv"
    box = Box("Knife", 1.5, 2.25, 10.0, 11.125)
    write_corrections(
        str(url),
        [
            correct(clean, labels={"Knife": 1}, boxes=(box,)),
            correct(boxed, labels=dict.fromkeys(boxed["labels"], None), reason="unclear"),
            correct(same, labels=dict(same["labels"])),
        ],
    )
    return url, clean["key"], boxed["key"]


def reshard(source, output, *more):
    return main([str(word) for word in ("--input", source, "--output", output, *more)])


@pytest.fixture(scope="module")
def corrected(source, corrections, tmp_path_factory):
    before = files_of(source)
    output = tmp_path_factory.mktemp("corrected") / "ds"
    assert reshard(source, output, "--corrections", corrections[0]) == 0
    assert files_of(source) == before
    return output


def test_what_was_corrected_changes_and_nothing_else(source, corrections, corrected):
    _, clean, boxed = corrections
    before, after = rows_by_key(source), rows_by_key(corrected)
    assert after.keys() == before.keys() and images_of(corrected) == images_of(source)
    changed = {key for key in before if any(after[key][n] != before[key][n] for n in ("labels", "boxes"))}
    assert changed == {clean, boxed} == {key for key, row in after.items() if row["corrected_by"]}
    assert after[clean]["labels"] == before[clean]["labels"] | {"Knife": 1}
    assert after[clean]["boxes"] == [
        {"class": "Knife", "xmin_px": 1.5, "ymin_px": 2.25, "xmax_px": 10.0, "ymax_px": 11.125}
    ]
    assert set(after[boxed]["labels"].values()) == {None} and after[boxed]["boxes"] == before[boxed]["boxes"]
    assert verify([str(corrected)]) == 0


def test_the_table_says_who_changed_what_and_why(corrections, corrected):
    _, clean, boxed = corrections
    table = {row["key"]: row for row in pq.read_table(corrected / "corrections/part-00000.parquet").to_pylist()}
    assert table.keys() == {clean, boxed}
    assert [table[key][name] for key in (clean, boxed) for name in ("author", "time", "reason")] == [
        *("Ada", TIME, "a knife was missed"),
        *("Ada", TIME, "unclear"),
    ]
    assert json.loads(table[clean]["labels_before"])["Knife"] != 1 == json.loads(table[clean]["labels_after"])["Knife"]
    assert (json.loads(table[clean]["boxes_before"]), len(json.loads(table[clean]["boxes_after"]))) == ([], 1)
    assert open_dataset(str(corrected)).manifest.corrections["count"] == 2


def test_the_same_corrections_give_the_same_bytes_and_then_nothing_to_do(source, corrections, corrected, tmp_path):
    assert reshard(source, tmp_path / "again", "--corrections", corrections[0]) == 0
    assert files_of(tmp_path / "again") == files_of(corrected)
    assert reshard(corrected, tmp_path / "twice", "--corrections", corrections[0]) == 0
    names = ("samples", "train", "test", "corrections")
    first, second = (
        {name: data for name, data in files_of(folder).items() if Path(name).parts[0] in names}
        for folder in (corrected, tmp_path / "twice")
    )
    assert first == second


def test_corrections_come_along_and_more_are_added(source, corrections, corrected, tmp_path):
    _, clean, boxed = corrections
    more = tmp_path / "more.csv"
    row = rows_by_key(corrected)[clean]
    write_corrections(str(more), [correct(row, labels={"Knife": 0}, boxes=(), author="Bo", reason="it was a key")])
    assert reshard(corrected, tmp_path / "more", "--corrections", more) == 0
    table = pq.read_table(tmp_path / "more/corrections/part-00000.parquet").to_pylist()
    assert [(row["key"], row["author"]) for row in table] == [
        *((key, "Ada") for key in sorted((clean, boxed))),
        (clean, "Bo"),
    ]
    assert rows_by_key(tmp_path / "more")[clean]["corrected_by"] == "Bo"
    assert reshard(tmp_path / "more", tmp_path / "part", "--where", f"key = '{boxed}'") == 0
    assert [row["key"] for row in pq.read_table(tmp_path / "part/corrections/part-00000.parquet").to_pylist()] == [
        boxed
    ]
    assert verify([str(tmp_path / "part")]) == 0


def test_damage_in_the_table_is_found(source, corrections, tmp_path):
    assert reshard(source, tmp_path / "ds", "--corrections", corrections[0]) == 0
    (tmp_path / "ds/corrections/part-00000.parquet").unlink()
    assert verify([str(tmp_path / "ds")]) == 1


def test_a_dataset_without_changes_stays_as_it_is(source, tmp_path):
    row = next(iter(rows_of(source)))
    write_corrections(str(tmp_path / "none.csv"), [correct(row)])
    assert reshard(source, tmp_path / "ds", "--corrections", tmp_path / "none.csv") == 0
    assert {name: data for name, data in files_of(tmp_path / "ds").items() if name != "dataset.json"} == {
        name: data for name, data in files_of(source).items() if name != "dataset.json"
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sha256": "0" * 64}, "must be of the image with sha256"),
        ({"key": "P99999"}, "corrections must be of scans of the input, got 1 of others: P99999"),
        ({"labels": '{"Bomb": 1}'}, "must name classes of ["),
        ({"boxes": '[["Gun", 0, 0, 5000, 5]]', "labels": '{"Gun": 1}'}, "must have its boxes within"),
        (
            {"boxes": '[["Gun", 0, 0, 5, 5]]', "labels": '{"Gun": 0}'},
            "must not leave a box of a class that its labels say is absent, got Gun",
        ),
        ({"boxes": '[["Gun", 5, 0, 5, 5]]'}, "a box must be [class, xmin, ymin, xmax, ymax]"),
        ({"boxes": "[[1]]"}, "a box must be [class, xmin, ymin, xmax, ymax]"),
        ({"boxes": '{"Gun": 1}'}, "boxes must be a JSON list"),
        ({"labels": '{"Gun": 2}'}, "labels must be a JSON object of 1, 0 or null a class"),
        ({"labels": "Gun"}, "labels must be JSON"),
        ({"time": "yesterday"}, "time must be in ISO 8601, got 'yesterday'"),
        ({"author": ""}, "author must be given, got an empty cell"),
    ],
)
def test_a_correction_that_does_not_fit_is_refused_by_file_and_name(source, tmp_path, capsys, change, words):
    row = next(iter(rows_of(source)))
    cells = {"key": row["key"], "sha256": row["sha256"], "labels": "{}", "boxes": "", "author": "A", "time": TIME}
    url = tmp_path / "wrong.csv"

    with url.open("w", newline="") as out:
        writer = csv.DictWriter(out, COLUMNS)
        writer.writeheader()
        writer.writerow(cells | {"reason": ""} | change)
    assert reshard(source, tmp_path / "ds", "--corrections", url) == 2
    printed = capsys.readouterr().err
    assert words in printed and str(url) in printed
    assert not (tmp_path / "ds").exists()


def test_a_file_with_other_columns_or_two_lines_a_scan_is_refused(source, tmp_path, capsys):
    row = next(iter(rows_of(source)))
    url = tmp_path / "twice.csv"
    write_corrections(str(url), [correct(row), correct(row)])
    assert reshard(source, tmp_path / "ds", "--corrections", url) == 2
    assert "a scan must have one correction, got a second one" in capsys.readouterr().err
    url.write_text("key,labels\n")
    assert reshard(source, tmp_path / "ds", "--corrections", url) == 2
    assert "corrections must have the columns key,sha256,labels,boxes,author,time,reason" in capsys.readouterr().err


def test_an_absent_label_needs_the_box_removed_too(source, tmp_path, capsys):
    row = next(row for row in rows_of(source) if row["boxes"])
    name = row["boxes"][0]["class"]
    write_corrections(str(tmp_path / "half.csv"), [correct(row, labels={name: 0})])
    assert reshard(source, tmp_path / "ds", "--corrections", tmp_path / "half.csv") == 2
    assert f"must not leave a box of a class that its labels say is absent, got {name}" in capsys.readouterr().err
    write_corrections(str(tmp_path / "whole.csv"), [correct(row, labels={name: 0}, boxes=())])
    assert reshard(source, tmp_path / "ds", "--corrections", tmp_path / "whole.csv") == 0


def test_other_encodings_are_refused_and_long_cells_read(tmp_path):
    url = tmp_path / "c.csv"
    url.write_bytes(",".join(COLUMNS).encode() + b"\r\nP1,a,{},,\xe9,2026-01-01,\r\n")
    with pytest.raises(ValueError, match=r"corrections must be in UTF-8, got .*c\.csv"):
        read_corrections(str(url))
    boxes = tuple(Box("Gun", place, 0, place + 1, 1) for place in range(10_000))
    row = {"key": "P1", "sha256": "0" * 64}
    write_corrections(str(url), [correct(row, boxes=boxes)])
    assert read_corrections(str(url))[0].boxes == boxes


names = st.text(min_size=1, max_size=8)
edges = st.floats(0, 1000, width=32)
boxes = st.builds(
    lambda name, x, y, width, height: Box(name, x, y, x + width + 1, y + height + 1), names, edges, edges, edges, edges
)


@given(
    st.lists(
        st.builds(
            Correction,
            key=names,
            sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
            labels=st.dictionaries(names, st.sampled_from([0, 1, None])),
            boxes=st.none() | st.lists(boxes, max_size=3).map(tuple),
            author=names,
            time=st.datetimes().map(lambda time: time.isoformat()),
            reason=st.text(max_size=20),
        ),
        unique_by=lambda of: of.key,
        max_size=4,
    )
)
def test_a_file_is_read_as_it_was_written(tmp_path_factory, corrections):
    url = str(tmp_path_factory.mktemp("round") / "c.csv")
    write_corrections(url, corrections)
    found = read_corrections(url)
    write_corrections(url + "2", found)
    assert Path(url).read_bytes() == Path(url + "2").read_bytes()
    assert [of.key for of in found] == sorted(of.key for of in corrections)
    assert {of.key: dict(of.labels) for of in found} == {of.key: dict(of.labels) for of in corrections}
