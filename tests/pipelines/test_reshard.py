"""Test that a resharded dataset holds the same scans, bytes and labels, and accounts for every record."""

import io
import json
import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.convert import convert_corpus
from pipelines.reshard import main, reshard_datasets
from pipelines.steps.corpus_job import ConvertConfig
from pipelines.steps.reshard_job import ReshardConfig
from shards import storage
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
    rewrite_rows,
    rows_of,
    stamps_of,
)
from tests.shards.corpus.layouts import twins
from tests.shards.corpus.layouts.test_twins import CASES
from tests.shards.plain_calls import convert_plainly, verify_plainly

SHARD_BYTES = 15_000
PLACE = ("shard", "offset_bytes", "duplicate_of")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A dataset of several shards with refusals, one of them of a whole split, and byte-equal scans; for reading."""
    corpus = make_corpus(tmp_path_factory.mktemp("corpus"), num_train=64, num_test=20)
    corpus.add_row("N90000")
    corpus.add_image("N90001", b"")
    corpus.add_image("N90002", jpeg_bytes(1)[:-50])
    corpus.add_row("N90002")
    corpus.add_scan("P90004", ("Gun", "Knife"))
    corpus.add_image("N90003", (corpus.images / "N00001.jpg").read_bytes())
    corpus.add_row("N90003", split="test")
    output = tmp_path_factory.mktemp("source") / "ds"
    convert_plainly(corpus.root, output, shard_bytes=SHARD_BYTES)
    assert len(list(output.glob("train/*.tar"))) > 2
    return output


def config_for(source: Path, output: Path, **changes) -> ReshardConfig:
    return replace(ReshardConfig(inputs=(str(source),), output=str(output)), **changes)


def run(*words: object) -> int:
    """Run the command as a shell would; argparse leaves by SystemExit."""
    try:
        return main([str(word) for word in words])
    except SystemExit as leaving:
        return int(leaving.code or 0)


def contents(dataset: Path) -> dict[str, dict[str, Any]]:
    """Each sample's row but for its place, by key."""
    rows = rows_of(dataset)
    assert len({row["key"] for row in rows}) == len(rows)
    return {row["key"]: {name: value for name, value in row.items() if name not in PLACE} for row in rows}


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
def test_rows_are_chosen_by_a_condition(source, tmp_path):
    reshard_datasets(
        config_for(source, tmp_path / "ds", where=("labels.Gun = 1 and width_px >= 40",), shard_bytes=SHARD_BYTES)
    )
    chosen = {key for key, row in contents(source).items() if row["labels"]["Gun"] == 1}
    assert len(chosen) > 3 and set(contents(tmp_path / "ds")) == chosen
    assert all(contents(tmp_path / "ds")[key] == contents(source)[key] for key in chosen)
    assert images_of(tmp_path / "ds") == {key: image for key, image in images_of(source).items() if key in chosen}
    assert reasons_of(tmp_path / "ds") == {}
    assert verify_plainly(tmp_path / "ds") == []


def test_splits_positives_and_classes_are_chosen(source, tmp_path):
    config = config_for(source, tmp_path / "ds", splits=("train",), subset="positives", classes=("Knife", "Hammer"))
    manifest = reshard_datasets(config)
    assert (manifest.classes, manifest.scored_classes) == (("Knife", "Hammer"), ("Knife",))
    expected = {
        key: row | {"labels": {name: row["labels"][name] for name in ("Knife", "Hammer")}}
        for key, row in contents(source).items()
        if row["split"] == "train" and row["labels"]["Knife"] == 1
    }
    for row in expected.values():
        row["boxes"] = [box for box in row["boxes"] if box["class"] == "Knife"]
    assert contents(tmp_path / "ds") == expected
    assert len(expected["P90004"]["boxes"]) == 1
    assert verify_plainly(tmp_path / "ds") == []


@pytest.mark.slow
def test_sixray10_is_built_from_labels_and_what_was_kept_for_testing_stays_there(tmp_path):
    corpus = CorpusWriter(tmp_path / "c")
    for number in range(90):
        corpus.add_scan(f"N{number:07d}", split="test" if number % 5 == 0 else "train")
    for number in range(5):
        corpus.add_scan(f"P{number:05d}", ("Gun",), split="test" if number == 0 else "train")
    corpus.add_image("unknown")
    convert_plainly(corpus.root, tmp_path / "all")
    reshard_datasets(config_for(tmp_path / "all", tmp_path / "ten", subset="10"))
    before, after = contents(tmp_path / "all"), contents(tmp_path / "ten")
    assert all(before[key] == row for key, row in after.items())
    assert Counter(1 in row["labels"].values() for row in after.values()) == {True: 5, False: 50}
    reshard_datasets(config_for(tmp_path / "all", tmp_path / "other", subset="10", seed=1))
    assert set(contents(tmp_path / "other")) != set(after)


def test_scans_without_a_split_get_that_of_the_subset(tmp_path):
    corpus = CorpusWriter(tmp_path / "c")
    for number in range(55):
        corpus.add_image(f"N{number:07d}")
    convert_plainly(corpus.root, tmp_path / "all", layout="images")
    for path in (tmp_path / "all/samples").iterdir():
        # A dataset whose labels were made elsewhere.
        rewrite_rows(path, lambda rows: [row.update(labels=known(row["key"][-7:] < "0000005")) for row in rows])
    manifest = json.loads((tmp_path / "all/dataset.json").read_text())
    for shard in manifest["shards"]:
        shard["samples_sha256"] = storage.sha256_of(tmp_path / f"all/samples/{shard['name']}.parquet")
    assert {shard["split"] for shard in manifest["shards"]} == {"unlisted"}
    (tmp_path / "all/dataset.json").write_text(json.dumps(manifest))
    reshard_datasets(config_for(tmp_path / "all", tmp_path / "ten", subset="10"))
    rows = contents(tmp_path / "ten").values()
    found = Counter((row["split"], row["labels"]["Gun"]) for row in rows)
    assert found == {("train", 1): 4, ("test", 1): 1, ("train", 0): 40, ("test", 0): 10}


def known(is_positive: bool) -> dict[str, int]:
    """Labels that leave nothing open."""
    return dict.fromkeys([*SCORED, "Hammer"], 0) | {"Gun": int(is_positive)}


def test_duplicates_are_named_among_what_is_left(source, tmp_path):
    assert {row["key"]: row["duplicate_of"] for row in rows_of(source) if row["duplicate_of"]} == {"N90003": "N00001"}
    reshard_datasets(config_for(source, tmp_path / "ds", splits=("test",)))
    assert [row["duplicate_of"] for row in rows_of(tmp_path / "ds") if row["key"] == "N90003"] == [None]


@pytest.mark.slow
def test_several_datasets_become_one_and_the_first_has_a_key_that_both_have(source, tmp_path, capsys):
    other = make_corpus(tmp_path / "c", num_train=3, num_test=0)
    other.add_scan("X1", split="test")
    other.add_image("X2", (other.images / "N00001.jpg").read_bytes())
    convert_plainly(other.root, tmp_path / "other")
    words = ["--input", source, "--input", tmp_path / "other", "--output", tmp_path / "ds"]
    assert run(*words, "--max-quarantine-fraction=0") == 1
    both = contents(tmp_path / "ds")
    assert set(both) == set(contents(source)) | {"X1", "X2"}
    assert all(both[key] == row for key, row in contents(source).items())
    assert Counter(reasons_of(tmp_path / "ds").values()) == Counter(reasons_of(source).values()) + Counter(
        {"duplicate_key": 3}
    )
    (twice,) = [row for row in rows_of(tmp_path / "ds", "quarantine") if row["key"] == "N00001"]
    assert twice["detail"].startswith(f"file://{source}/train/train-") and twice["stage"] == "list"
    assert {row["key"]: row["duplicate_of"] for row in rows_of(tmp_path / "ds") if row["duplicate_of"]} == {
        "N90003": "N00001",
        "X2": "N00001",
    }
    assert "3 duplicate_key" in capsys.readouterr().out
    assert verify_plainly(tmp_path / "ds") == []
    # The other way round the other one's samples stay.
    reshard_datasets(ReshardConfig(inputs=(str(tmp_path / "other"), str(source)), output=str(tmp_path / "swapped")))
    assert contents(tmp_path / "swapped")["N00001"] == contents(tmp_path / "other")["N00001"]


def test_datasets_of_different_classes_need_the_classes_named_and_what_one_lacks_is_unknown(source, tmp_path):
    reshard_datasets(config_for(source, tmp_path / "guns", classes=("Gun",), splits=("test",)))
    config = ReshardConfig(inputs=(str(tmp_path / "guns"), str(source)), output=str(tmp_path / "ds"))
    with pytest.raises(ValueError, match=r"inputs must have the same classes, got Gun and Gun, Knife, .*--classes"):
        reshard_datasets(config)
    reshard_datasets(replace(config, classes=("Knife", "Gun")))
    rows = contents(tmp_path / "ds")
    assert {row["labels"]["Knife"] for row in rows.values() if row["split"] == "test"} == {None}
    assert {row["labels"]["Knife"] for row in rows.values() if row["split"] == "train"} == {0, 1}


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
