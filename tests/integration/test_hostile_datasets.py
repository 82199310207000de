"""A dataset from elsewhere, whose names lead out of the output, is refused or leads nowhere."""

import json
from pathlib import Path

import pytest

from shards.annotation.export import ExportPlan, export_scans
from shards.annotation.formats import WRITERS
from shards.format.dataset import open_dataset
from shards.format.manifest import MANIFEST_NAME, samples_url
from shards.format.parquet import read_parquet, write_parquet
from shards.format.shard_reader import find_rows, read_rows
from tests.shards.by_hand import small_dataset

SHARD = "test-00000-of-00001"
OUTSIDE = ("../../outside", "/tmp/outside", "a/b", "a\\b", "..", ".", "", "new\nline", "nul\0", ".hidden")


def change_rows(root: Path, column: str, value: str) -> None:
    url = samples_url(str(root), SHARD)
    table = read_parquet(url)
    values = [value, *table[column].to_pylist()[1:]]
    at = table.column_names.index(column)
    write_parquet(url, table.set_column(at, table.schema.field(at), [values]))


@pytest.mark.parametrize("key", OUTSIDE)
def test_a_key_that_could_lead_out_of_a_folder_is_refused_by_every_reader_of_rows(tmp_path, key):
    dataset = small_dataset(tmp_path / "ds")
    change_rows(tmp_path / "ds", "key", key)
    for read in (
        lambda: read_rows(samples_url(dataset.url, SHARD), 5),
        lambda: find_rows(dataset, [key]),
        lambda: dataset.read_samples("test", ["key", "labels"]),
        lambda: export_scans(ExportPlan(dataset=dataset, output=str(tmp_path / "out"), format_name="yolo")),
    ):
        with pytest.raises(
            ValueError,
            match=r"key must not be empty, begin with a dot, or hold separators of folders or control .*, got",
        ):
            read()


@pytest.mark.parametrize(
    ("name", "split"),
    [("../../outside-00000-of-00001", "test"), ("/tmp/x", "test"), (SHARD, "../.."), (SHARD, "train"), ("", "")],
)
def test_a_shard_whose_name_could_lead_out_of_a_folder_is_refused(tmp_path, name, split):
    small_dataset(tmp_path)
    path = tmp_path / MANIFEST_NAME
    document = json.loads(path.read_text())
    document["shards"][0] |= {"name": name, "split": split}
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"shard must be named SPLIT-00000-of-00001 after its split, got"):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize("format_name", WRITERS)
@pytest.mark.parametrize("has_pictures", [False, True])
def test_a_source_uri_is_text_that_is_never_opened_and_names_no_file(tmp_path, format_name, has_pictures):
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"a secret")
    dataset = small_dataset(tmp_path / "deep/ds")
    for uri in (secret.as_uri(), "../../../outside.jpg"):
        change_rows(tmp_path / "deep/ds", "source_uri", uri)
        output = tmp_path / "deep/er/out" / format_name / uri[-5]
        plan = ExportPlan(dataset=dataset, output=str(output), format_name=format_name, has_pictures=has_pictures)
        assert export_scans(plan).num_scans == 15
        assert not any(b"a secret" in path.read_bytes() for path in output.rglob("*") if path.is_file())
    assert {path.name for path in tmp_path.iterdir()} == {"secret.jpg", "deep"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"ds", "er"}
    assert secret.read_bytes() == b"a secret"
