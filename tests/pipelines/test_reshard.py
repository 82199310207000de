"""Test that a resharded dataset holds the same scans, bytes and labels, and accounts for every record."""

import io
import json
import shutil
from collections import defaultdict
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from PIL import Image

from pipelines.convert import convert_corpus
from pipelines.reshard import reshard_datasets
from pipelines.steps.corpus_job import ConvertConfig
from shards.format.dataset import open_dataset
from shards.format.manifest import samples_url
from tests.corpora import (
    SCORED,
    CorpusWriter,
    files_of,
    flip_byte,
    images_of,
    jpeg_bytes,
    make_corpus,
    payload_of,
    reasons_of,
    rows_of,
    stamps_of,
)
from tests.pipelines.resharding import SHARD_BYTES, config_for, contents, run, source
from tests.shards.corpus.layouts import twins
from tests.shards.corpus.layouts.test_twins import CASES
from tests.shards.plain_calls import convert_plainly, verify_plainly

__all__ = ["source"]  # a fixture


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES, "hixray", "dvxray"])
def test_a_dataset_of_any_layout_keeps_every_label_box_and_group(tmp_path, case):
    scans = twins.make_truth()
    if case == "hixray":
        kept = [replace(scan, split="test" if scan.split == "val" else scan.split) for scan in scans if scan.boxes]
        twins.write_hixray(tmp_path / "c", kept)
    elif case == "dvxray":
        twins.write_dvxray(tmp_path / "c", scans)
    else:
        CASES[case][0](tmp_path / "c", scans)
    convert_plainly(tmp_path / "c", tmp_path / "one")
    before = contents(tmp_path / "one")
    reshard_datasets(config_for(tmp_path / "one", tmp_path / "two", shard_bytes=3_000))
    assert contents(tmp_path / "two") == before
    assert sum(len(row["boxes"]) for row in before.values()) >= 10


def test_what_was_skipped_stays_known_where_all_records_come_along(tmp_path):
    corpus = make_corpus(tmp_path / "c", num_train=20, num_test=4)
    (corpus.images / ".DS_Store").write_bytes(b"x")
    (corpus.images / "N00001.json").write_bytes(b"{}")
    skipped = convert_plainly(corpus.root, tmp_path / "one").skipped
    assert {kind: entry["count"] for kind, entry in skipped.items()} == {"junk": 1, "side_file": 1}
    assert reshard_datasets(config_for(tmp_path / "one", tmp_path / "same")).skipped == skipped
    assert reshard_datasets(config_for(tmp_path / "one", tmp_path / "few", splits=("test",))).skipped == {}


def test_with_its_own_settings_a_dataset_is_the_same_to_the_last_byte(source, tmp_path):
    manifest = reshard_datasets(config_for(source, tmp_path / "ds"))
    assert payload_of(tmp_path / "ds") == payload_of(source)
    assert manifest.ledger == open_dataset(str(source)).manifest.ledger
    assert manifest.options["inputs"] == [{"url": f"file://{source}", "digest": manifest.digest}]
    assert manifest.contradictions == open_dataset(str(source)).manifest.contradictions != {}
    kept = stamps_of(tmp_path / "ds")
    reshard_datasets(config_for(source, tmp_path / "ds", shard_bytes=SHARD_BYTES))
    assert stamps_of(tmp_path / "ds") == kept


@pytest.mark.slow
def test_refused_bytes_that_filled_a_shard_are_remembered(tmp_path):
    corpus = make_corpus(tmp_path / "c", num_train=40, num_test=0)
    for number in range(30):
        corpus.add_image(f"N9{number:04d}", jpeg_bytes(number)[:-9])
        corpus.add_row(f"N9{number:04d}")
    convert_plainly(corpus.root, tmp_path / "one", shard_bytes=SHARD_BYTES)
    reshard_datasets(config_for(tmp_path / "one", tmp_path / "two"))
    assert payload_of(tmp_path / "two") == payload_of(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("shard_bytes", [5_000, 1 << 30])
def test_other_sizes_change_places_and_nothing_else(source, tmp_path, shard_bytes, capsys):
    reshard_datasets(config_for(source, tmp_path / "ds", shard_bytes=shard_bytes))
    assert contents(tmp_path / "ds") == contents(source)
    assert images_of(tmp_path / "ds") == images_of(source)
    assert reasons_of(tmp_path / "ds") == reasons_of(source) != {}
    assert len(list((tmp_path / "ds/train").glob("*.tar"))) == {5_000: 4, 1 << 30: 1}[shard_bytes]
    assert verify_plainly(tmp_path / "ds") == []
    # And back again: where a sample lies follows from its key alone.
    reshard_datasets(config_for(tmp_path / "ds", tmp_path / "back", shard_bytes=SHARD_BYTES))
    assert images_of(tmp_path / "back") == images_of(source)


@pytest.mark.slow
def test_what_sources_disagreed_on_is_told_of_all_inputs_while_every_record_comes_along(source, tmp_path):
    other = make_corpus(tmp_path / "c", num_train=20, num_test=0)
    other.add_row("N00000x")
    convert_plainly(other.root, tmp_path / "other", shard_bytes=SHARD_BYTES)
    inputs = (str(source), str(tmp_path / "other"))
    one, two = (open_dataset(url).manifest.contradictions["missing_image"] for url in inputs)
    found = reshard_datasets(config_for(source, tmp_path / "ds", inputs=inputs)).contradictions["missing_image"]
    assert found["count"] == one["count"] + two["count"] == 2
    assert found["examples"] == two["examples"] + one["examples"]
    some = reshard_datasets(config_for(source, tmp_path / "some", inputs=inputs, splits=("train",)))
    assert some.contradictions == {}


@pytest.mark.slow
def test_a_damaged_sample_costs_its_own_row_and_is_taken_once_it_is_mended(source, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(source, broken)
    hit, cut = sorted(broken.glob("train/*.tar"))[:2]
    row = next(row for row in rows_of(broken) if row["shard"] == hit.name)
    last = [row for row in rows_of(broken) if row["shard"] == cut.name][-1]
    flip_byte(hit, row["offset_bytes"] + 100)
    whole = cut.read_bytes()
    cut.write_bytes(whole[: last["offset_bytes"] + 9])
    manifest = reshard_datasets(config_for(broken, tmp_path / "ds"))
    reasons = reasons_of(tmp_path / "ds")
    assert reasons == reasons_of(source) | {row["key"]: "checksum_mismatch", last["key"]: "truncated_shard"}
    assert manifest.ledger["train"].listed == open_dataset(str(source)).manifest.ledger["train"].listed
    assert verify_plainly(tmp_path / "ds") == []
    details = {item["key"]: item for item in rows_of(tmp_path / "ds", "quarantine")}
    assert f"{row['size_bytes']} bytes from {row['offset_bytes']} of file://{hit}" in details[row["key"]]["detail"]
    assert details[row["key"]]["source_uri"] == row["source_uri"]
    flip_byte(hit, row["offset_bytes"] + 100)
    cut.write_bytes(whole)
    reshard_datasets(config_for(broken, tmp_path / "ds"))
    assert payload_of(tmp_path / "ds") == payload_of(source)


@pytest.mark.slow
def test_what_is_damaged_or_missing_is_made_again_and_the_rest_not_touched(source, tmp_path):
    reshard_datasets(config_for(source, tmp_path / "ds", shard_bytes=10_000))
    calm = files_of(tmp_path / "ds")
    tars = sorted((tmp_path / "ds").glob("train/*.tar"))
    flip_byte(tars[0])
    tars[1].unlink()
    kept = stamps_of(tmp_path / "ds")
    reshard_datasets(config_for(source, tmp_path / "ds", shard_bytes=10_000))
    assert files_of(tmp_path / "ds") == calm
    touched = {name for name, stamp in stamps_of(tmp_path / "ds").items() if kept.get(name) != stamp}
    stems = {Path(name).stem.removeprefix("part-") for name in touched}
    assert stems == {tars[0].stem, tars[1].stem, "dataset"}


@pytest.mark.slow
def test_groups_and_metadata_come_along_and_conditions_may_name_them(tmp_path):
    corpus = make_corpus(tmp_path / "c", num_train=24, num_test=8)
    names = sorted(path.name for path in corpus.images.iterdir())
    rows = [f"{name},{'AB'[at % 2]},{at},2026-03-{1 + at % 28:02d},{at // 2}" for at, name in enumerate(names[:-1])]
    (tmp_path / "meta.csv").write_text("\n".join(["name,site,kv,taken,bag", *rows, "Nobody,A,1,2026-01-01,x", ""]))
    config = ConvertConfig(input=str(corpus.root), output=str(tmp_path / "one"), shard_bytes=SHARD_BYTES)
    meta = str(tmp_path / "meta.csv")
    manifest = convert_corpus(replace(config, metadata=meta, group_by="bag", split_policy="group"))
    assert manifest.metadata == {"site": "string", "kv": "int64", "taken": "date", "bag": "string"}
    assert manifest.skipped["metadata_without_scan"]["count"] == 1
    by_key = {row["key"]: row for row in rows_of(tmp_path / "one")}
    expected = {"site": "B", "kv": 3, "taken": date(2026, 3, 4), "bag": "1"}
    second = by_key[names[3].removesuffix(".jpg")]
    assert (second["group"], second["metadata"]) == ("1", expected)
    assert by_key[names[-1].removesuffix(".jpg")]["metadata"] is None
    splits = defaultdict(set)
    for row in by_key.values():
        splits[row["group"] or row["key"]].add(row["split"])
    assert all(len(of) == 1 for of in splits.values())
    reshard_datasets(config_for(tmp_path / "one", tmp_path / "same"))
    assert payload_of(tmp_path / "same") == payload_of(tmp_path / "one")
    where = ("metadata.site = 'B'", "metadata.taken < date '2026-03-11'", '"group" is not null')
    reshard_datasets(config_for(tmp_path / "one", tmp_path / "few", where=where))
    assert rows_of(tmp_path / "few") and verify_plainly(tmp_path / "few") == []
    for row in rows_of(tmp_path / "few"):
        assert (row["group"], row["metadata"]) == (by_key[row["key"]]["group"], by_key[row["key"]]["metadata"])
        assert row["metadata"]["site"] == "B" and row["metadata"]["taken"] < date(2026, 3, 11)
    convert_plainly(corpus.root, tmp_path / "plain")
    inputs = (str(tmp_path / "few"), str(tmp_path / "plain"))
    reshard_datasets(config_for(tmp_path / "one", tmp_path / "both", inputs=inputs))
    found = {row["key"]: row["metadata"] for row in rows_of(tmp_path / "both")}
    assert None in found.values() and {"B"} == {of["site"] for of in found.values() if of}


def test_an_input_that_was_made_anew_is_not_taken_for_the_old_one(tmp_path):
    corpus = make_corpus(tmp_path / "c", num_train=10, num_test=0)
    convert_plainly(corpus.root, tmp_path / "one")
    reshard_datasets(config_for(tmp_path / "one", tmp_path / "two"))
    image = corpus.images / "N00001.jpg"
    image.write_bytes(image.read_bytes()[:-4] + b"\x00\x00\xff\xd9")
    next((tmp_path / "one/train").glob("*.tar")).unlink()
    convert_plainly(corpus.root, tmp_path / "one")
    reshard_datasets(config_for(tmp_path / "one", tmp_path / "two"))
    assert payload_of(tmp_path / "two") == payload_of(tmp_path / "one")
    assert images_of(tmp_path / "two")["N00001"] == image.read_bytes()


def test_rows_that_are_not_those_of_the_manifest_stop_the_job(source, tmp_path, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(source, broken)
    name = sorted((broken / "samples").iterdir())[0].stem
    flip_byte(Path(samples_url(str(broken), name)), -1)
    assert run("--input", broken, "--output", tmp_path / "ds") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: table must have sha256") and f"samples/{name}.parquet" in error
    assert not (tmp_path / "ds/dataset.json").exists()


def test_a_tar_that_is_not_there_stops_the_job_and_costs_no_sample(source, tmp_path, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(source, broken)
    tar = sorted(broken.glob("train/*.tar"))[0]
    tar.rename(tmp_path / "elsewhere")
    words = ("--input", broken, "--output", tmp_path / "ds", "--max-quarantine-fraction=1")
    assert run(*words) in (2, 3)
    assert str(tar) in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "ds/dataset.json").exists()
    (tmp_path / "elsewhere").rename(tar)
    assert run(*words) == 0
    assert payload_of(tmp_path / "ds") == payload_of(source)


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_number_of_workers(source, tmp_path):
    config = config_for(source, tmp_path / "one", shard_bytes=10_000)
    reshard_datasets(config)
    workers = ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]
    reshard_datasets(replace(config, output=str(tmp_path / "two")), workers)
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split", "val"], "error: split must be one of ['test', 'train', 'unlisted'], got val"),
        (["--classes", "Gun", "Bomb"], "error: classes must be of ['Gun', 'Hammer', "),
        (["--classes", "Gun", "Gun"], "error: classes must be named once each, got ('Gun', 'Gun')"),
        (["--where", "labels.Gun = "], "error: condition on rows must be SQL over the columns of samples"),
        (
            ["--where", "width_px > 100000"],
            "condition must be true of at least one row, got none that matches 'width_px > 100000'",
        ),
        (["--subset=7"], "argument --subset: invalid choice: '7'"),
        (["--subset=1000"], "error: subset '1000' must have 1,000 positives and "),
        (["--shard-bytes=0"], "error: shard_bytes must be >= 1, got 0"),
        (["--wher=x"], "unrecognized arguments: --wher=x"),
    ],
)
def test_wrong_usage_ends_with_2_and_leaves_no_dataset(source, tmp_path, capsys, words, message):
    assert run("--input", source, "--output", tmp_path / "ds", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "ds/dataset.json").exists()


@pytest.mark.parametrize("place", ["", "more", ".."])
def test_an_input_is_never_the_output(source, tmp_path, capsys, place):
    shutil.copytree(source, tmp_path / "ds")
    before = files_of(tmp_path)
    assert run("--input", tmp_path / "ds", "--output", tmp_path / "ds" / place) == 2
    assert "error: output must be a folder apart from the inputs" in capsys.readouterr().err
    assert files_of(tmp_path) == before


def test_an_unfinished_input_is_refused(source, tmp_path, capsys):
    shutil.copytree(source, tmp_path / "input")
    (tmp_path / "input/dataset.json").unlink()
    assert run("--input", tmp_path / "input", "--output", tmp_path / "ds") == 2
    assert "error: dataset must have a dataset.json, got none" in capsys.readouterr().err


def test_png_scans_keep_their_extension(tmp_path):
    corpus = CorpusWriter(tmp_path / "c")
    out = io.BytesIO()
    Image.new("L", (20, 10), 99).save(out, "PNG")
    corpus.add_image("a", out.getvalue(), suffix=".png")
    corpus.add_image("b")
    convert_plainly(corpus.root, tmp_path / "one", layout="images")
    reshard_datasets(config_for(tmp_path / "one", tmp_path / "two"))
    assert payload_of(tmp_path / "two") == payload_of(tmp_path / "one")


@pytest.mark.slow
def test_the_manifest_says_what_was_asked_for(source, tmp_path):
    reshard_datasets(
        config_for(source, tmp_path / "ds", where=("labels.Gun = 1",), splits=("train", "test"), classes=SCORED)
    )
    options = json.loads((tmp_path / "ds/dataset.json").read_text())["options"]
    assert options == {
        "command": "reshard",
        "inputs": [{"url": f"file://{source}", "digest": open_dataset(str(source)).manifest.digest}],
        "shard_bytes": SHARD_BYTES,
        "subset": "all",
        "seed": 0,
        "splits": ["test", "train"],
        "classes": list(SCORED),
        "where": "labels.Gun = 1",
    }
