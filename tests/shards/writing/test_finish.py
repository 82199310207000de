"""Ledger and files are checked before a dataset is finished."""

import pytest

from shards.writing import finish
from shards.writing.corpus_source import ScanSource
from shards.writing.sharding import Tally
from tests.corpora import make_corpus
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
