"""Holds that a dataset of format 2, with groups and metadata, is read, verified and made the same by this code.

`python -m tests.golden.test_format2` wrote the fixtures in `format2/` from the corpus of format 1 and `metadata.csv`.
"""

import json
import shutil
from datetime import date
from pathlib import Path

from shards.format.dataset import open_dataset
from tests.golden import steps

ROOT = Path(__file__).parent / "format2"
DATASET, METADATA = ROOT / "dataset", ROOT / "metadata.csv"


def convert(output: Path) -> int:
    """Convert the corpus of format 1 with the metadata."""
    with steps.in_memory(steps.CORPUS) as corpus, steps.in_memory(ROOT, without="dataset") as metadata:
        words = ["--metadata", f"{metadata}/metadata.csv", "--group-by=bag", "--split-policy=group"]
        limits = ["--shard-bytes=1000000", "--max-quarantine-fraction=0.1"]
        return steps.run("convert", "--input", corpus, "--output", output, *words, *limits)


def test_the_corpus_converts_to_the_same_dataset(tmp_path):
    assert convert(tmp_path / "dataset") == 0
    found, expected = steps.files_of(tmp_path / "dataset"), steps.files_of(DATASET)
    documents = [files.pop("dataset.json") for files in (found, expected)]
    assert list(found) == list(expected)
    for name, data in expected.items():
        if name.endswith(".parquet"):
            assert steps.table_document(found[name]) == steps.table_document(data), name
        else:
            assert found[name] == data, name
    manifests = [steps.manifest_document(document, with_table_checksums=False) for document in documents]
    assert manifests[0] == manifests[1]


def test_groups_and_metadata_are_read_and_the_dataset_is_whole(tmp_path, capsys):
    dataset = open_dataset(str(DATASET))
    assert json.loads((DATASET / "dataset.json").read_bytes())["format"] == 2
    assert dataset.manifest.metadata == {"site": "string", "kv": "int64", "taken": "date", "bag": "string"}
    rows = {row["key"]: row for row in dataset.read_samples().to_pylist()}
    assert rows["P00003"]["group"] == "02"
    assert rows["P00003"]["metadata"] == {"site": "B", "kv": 167, "taken": date(2026, 3, 8), "bag": "02"}
    assert (rows["N90004"]["group"], rows["N90004"]["metadata"]) == (None, None)
    shutil.copytree(DATASET, tmp_path / "dataset")
    assert steps.run("verify", tmp_path / "dataset") == 0
    assert "whole: 72 scans" in capsys.readouterr().out


def test_the_dataset_reshards_to_the_same_tars_and_rows(tmp_path):
    words = ["--output", tmp_path / "dataset", "--max-quarantine-fraction=0.1"]
    assert steps.run("reshard", "--input", DATASET, *words) == 0
    found, expected = steps.files_of(tmp_path / "dataset"), steps.files_of(DATASET)
    assert list(found) == list(expected)
    for name, data in found.items():
        if name.endswith(".tar"):
            assert data == expected[name]
        elif name.startswith("samples/"):
            assert steps.table_document(data)["rows"] == steps.table_document(expected[name])["rows"]


if __name__ == "__main__":
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir()
    lines = [
        f"{path.name},{'AB'[at % 2]},{160 + at},2026-03-{1 + at % 28:02d},0{at // 3}"
        for at, path in enumerate([*sorted(steps.CORPUS.glob("JPEGImage/*0.jpg")), Path("P00003.jpg")])
    ]
    METADATA.write_text("\n".join(["name,site,kv,taken,bag", *lines, "Nobody.jpg,A,1,2026-01-01,x", ""]))
    convert(DATASET)
