"""Names of any length, form and encoding meet their list rows, and every reader of tars reads them."""

import gc
import json
import os
import tarfile
import unicodedata
import warnings

import pytest
import webdataset

from shards.format.keys import MAX_KEY_BYTES
from tests.corpora import HEADER, CorpusWriter, reasons_of, rows_of
from tests.shards.plain_calls import convert_plainly

NAMES = ["行李箱扫描图像" * 10, "a" * 150, "Gepäck", "x.y.z", "安检", "plain"]
IN_GBK = "扫描三"


def write_corpus(root):
    corpus = CorpusWriter(root)
    for name in NAMES:
        corpus.add_image(unicodedata.normalize("NFD", name))
        corpus.add_annotation(name, [("Gun", 1, 1, 9, 9)])
    corpus.add_image(os.fsdecode(IN_GBK.encode("gbk")))
    corpus.add_annotation(IN_GBK, [("Gun", 1, 1, 9, 9)])
    lines = [f"图像\\{name}.JPG;1.0;-1.0;-1.0;-1.0;-1.0;A" for name in [*NAMES, IN_GBK]]
    (root / "ImageSet/10").mkdir(parents=True)
    text = "\n".join([f"{HEADER.title()},Site".replace(",", ";"), *lines])
    (root / "ImageSet/10/train.csv").write_bytes(text.encode("utf-16"))
    return root


def test_odd_names_meet_and_are_read_by_every_reader_of_tars(tmp_path):
    convert_plainly(write_corpus(tmp_path / "c"), tmp_path / "ds")
    assert reasons_of(tmp_path / "ds") == {}
    rows = rows_of(tmp_path / "ds")
    keys = {row["key"] for row in rows}
    assert len(rows) == len(keys) == len(NAMES) + 1
    assert max(map(len, keys)) <= MAX_KEY_BYTES
    assert all(row["split"] == "train" and row["labels"]["Gun"] == 1 and len(row["boxes"]) == 1 for row in rows)
    sources = {unicodedata.normalize("NFC", row["source_uri"].rpartition("/")[2]) for row in rows}
    assert {f"{name}.jpg" for name in NAMES} <= sources

    (tar,) = (tmp_path / "ds/train").glob("*.tar")
    with tarfile.open(tar) as members:
        assert {member.name.rpartition(".")[0] for member in members} == keys
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves its files to the collector
        assert {sample["__key__"] for sample in webdataset.WebDataset(str(tar), shardshuffle=False)} == keys
        gc.collect()

    fn = pytest.importorskip("nvidia.dali.fn", reason="DALI is not installed: the extra `model` brings it")
    from nvidia.dali import pipeline_def

    @pipeline_def(batch_size=len(rows), num_threads=1, device_id=None)
    def read():
        index = str(tar.with_suffix(".idx"))
        images, documents = fn.readers.webdataset(paths=[str(tar)], index_paths=[index], ext=["jpg", "json"])
        return images, documents

    pipeline = read()
    pipeline.build()
    _, documents = pipeline.run()
    assert {json.loads(bytes(documents.at(at)))["key"] for at in range(len(rows))} == keys
