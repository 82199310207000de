"""Ledger and files are checked before a dataset is finished."""

import pytest

from shards.writing import finish
from shards.writing.corpus_source import ScanSource
from shards.writing.finish import find_equal
from shards.writing.sharding import Tally
from tests.corpora import CorpusWriter, files_of, images_of, jpeg_bytes, make_corpus, rows_of
from tests.shards.plain_calls import CLASSES, convert_plainly


def test_a_ledger_that_misses_a_record_stops_the_run(tmp_path, monkeypatch):
    corpus = make_corpus(tmp_path / "c")
    real = finish.write_manifest

    def miscount(finished, tallies, *rest):
        return real(finished, tallies | {"train": tallies["train"] + Tally(1, 1, 1)}, *rest)

    monkeypatch.setattr(finish, "write_manifest", miscount)
    expected = r"ledger of split 'train' must have listed = converted \+ quarantined, got 25 = 24 \+ 0"
    with pytest.raises(ValueError, match=expected):
        convert_plainly(corpus.root, tmp_path / "ds")
    assert not (tmp_path / "ds/dataset.json").exists()


def test_a_tar_that_vanished_meanwhile_stops_the_run(tmp_path, monkeypatch):
    corpus = make_corpus(tmp_path / "c")
    real = finish.finish_shard

    def lose(output, info, *rest):
        (tmp_path / f"ds/{info[0].split}/{info[0].name}.tar").unlink()
        return real(output, info, *rest)

    monkeypatch.setattr(finish, "finish_shard", lose)
    with pytest.raises(ValueError, match=r"shard must have \d+ bytes, got None \(.*\.tar\); run the job again"):
        convert_plainly(corpus.root, tmp_path / "ds")
    assert not (tmp_path / "ds/dataset.json").exists()


def test_a_corpus_without_a_record_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"corpus must have at least one record, got none with the options \{'subset'"):
        finish.write_manifest([], {}, str(tmp_path / "ds"), ScanSource(CLASSES), {"subset": "all"})
    assert not (tmp_path / "ds").exists()


def test_byte_equal_scans_are_found_across_splits_and_shards(tmp_path):
    corpus = make_corpus(tmp_path / "c", num_train=60, num_test=8)
    same = jpeg_bytes(77)
    for key, split in {"N50000": "train", "N50001": "test", "A9": "train", "Z1": "test"}.items():
        corpus.add_image(key, same)
        corpus.add_row(key, split=split)
    corpus.add_image("M00000", same)
    convert_plainly(corpus.root, tmp_path / "ds", seed=3)
    rows = {row["key"]: row for row in rows_of(tmp_path / "ds")}
    assert {key: row["duplicate_of"] for key, row in rows.items() if row["duplicate_of"]} == dict.fromkeys(
        ["M00000", "N50000", "N50001", "Z1"], "A9"
    )
    assert len({rows[key]["shard"] for key in ("A9", "M00000", "N50000", "N50001", "Z1")}) > 2
    assert len(images_of(tmp_path / "ds")) == 73


def test_a_duplicate_that_goes_away_is_one_no_more(tmp_path):
    corpus = make_corpus(tmp_path / "c")
    corpus.add_image("N90000", (corpus.images / "N00001.jpg").read_bytes())
    convert_plainly(corpus.root, tmp_path / "ds")
    (duplicate,) = [row for row in rows_of(tmp_path / "ds") if row["duplicate_of"]]
    assert (duplicate["key"], duplicate["duplicate_of"]) == ("N90000", "N00001")
    (corpus.images / "N00001.jpg").write_bytes(jpeg_bytes(123456)[:-2] + b"\xff\xfe\x00\x04xx\xff\xd9")
    convert_plainly(corpus.root, tmp_path / "ds")
    convert_plainly(corpus.root, tmp_path / "calm")
    assert files_of(tmp_path / "ds") == files_of(tmp_path / "calm")
    assert not any(row["duplicate_of"] for row in rows_of(tmp_path / "ds"))


def test_the_first_key_in_order_is_the_original_whatever_order_checksums_come_in(tmp_path, monkeypatch):
    corpus = CorpusWriter(tmp_path / "c")
    corpus.add_annotation("P1")
    for key in ("c", "a", "b", "P1"):
        corpus.add_image(key, jpeg_bytes(1))
    monkeypatch.setattr(finish, "_CHECKSUMS_A_BUCKET", 1)
    convert_plainly(corpus.root, tmp_path / "ds", seed=1)
    assert {row["key"]: row["duplicate_of"] for row in rows_of(tmp_path / "ds")} == {
        "P1": None,
        "a": "P1",
        "b": "P1",
        "c": "P1",
    }
    assert find_equal([]) == []
