"""A corpus always gives the same bytes, and every record ends as a sample or a refusal."""

import errno
import json
import os
import shutil
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from shards import shuffle, storage
from shards.corpus import read_scan
from shards.format.dataset import open_dataset
from shards.format.keys import hash_key
from shards.format.parquet import read_parquet, write_parquet
from shards.format.tar import TarShardWriter
from shards.images.jpeg import ImageError
from shards.storage import atomic
from shards.verify.shard import METADATA_KEY
from shards.writing import finish, sharding
from tests.corpora import (
    files_of,
    flip_byte,
    jpeg_bytes,
    make_corpus,
    members_of,
    reasons_of,
    rows_of,
    stamps_of,
)
from tests.shards.plain_calls import convert_plainly

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dirty(tmp_path_factory):
    """A corpus with sound scans and some of each kind of refusal, in several shards; for reading alone."""
    corpus = make_corpus(tmp_path_factory.mktemp("dirty"), num_train=60, num_test=8)
    corpus.add_image("N90000", b"no jpeg")
    corpus.add_row("N90001")
    corpus.add_image("N90002", jpeg_bytes(0)[:99])
    corpus.add_row("N90002", split="test")
    corpus.add_line("garbage")
    corpus.add_image("N00001", folder="again")
    return corpus


@pytest.fixture(scope="module")
def calm(dirty, tmp_path_factory):
    """What an undisturbed run makes of it; for reading alone."""
    output = tmp_path_factory.mktemp("calm") / "ds"
    convert_plainly(dirty.root, output)
    return output


def test_a_dataset_holds_what_its_format_says_and_nothing_else(dirty, calm):
    shards = sorted(path.stem for path in calm.glob("*/*.tar"))
    assert len(shards) == 4
    expected = {f"{name.partition('-')[0]}/{name}.{end}" for name in shards for end in ("tar", "idx")}
    expected |= {f"samples/{path.stem}.parquet" for path in (calm / "samples").iterdir()} | {"dataset.json"}
    expected |= {f"quarantine/{path.name}" for path in (calm / "quarantine").iterdir()}
    assert set(files_of(calm)) == expected
    assert {path.stem for path in (calm / "samples").iterdir()} >= set(shards)
    assert reasons_of(calm) == {
        "N90000": "unknown_format",
        "N90001": "missing_image",
        "N90002": "truncated_jpeg",
        "garbage": "bad_list_row",
        "N00001": "duplicate_key",
    }


def test_rows_name_the_bytes_in_the_tar(calm):
    members = members_of(calm)
    rows = rows_of(calm)
    assert len(members) == 2 * len(rows) == 2 * 68
    for row in rows:
        tar = (calm / row["split"] / row["shard"]).read_bytes()
        image = tar[row["offset_bytes"] : row["offset_bytes"] + row["size_bytes"]]
        assert image == members[f"{row['key']}.jpg"]
        document = json.loads(members[f"{row['key']}.json"])
        assert {name: row[name] for name in ("key", "width_px", "height_px", "labels", "boxes")} == document


def test_samples_stand_in_the_order_of_their_keyed_hashes(calm):
    for path in calm.glob("*/*.tar"):
        keys = [row["key"] for row in rows_of(calm) if row["shard"] == path.name]
        assert keys == sorted(keys, key=hash_key)
    assert [row["key"] for row in rows_of(calm)] != sorted(row["key"] for row in rows_of(calm))


@pytest.mark.parametrize("seed", range(5))
def test_bytes_do_not_depend_on_the_order_of_anything(dirty, calm, tmp_path, seed):
    convert_plainly(dirty.root, tmp_path / "ds", seed=seed)
    assert files_of(tmp_path / "ds") == files_of(calm)


@pytest.mark.parametrize(("facts", "partitions"), [(1, 256), (7, 3), (65_536, 1)])
def test_bytes_do_not_depend_on_the_size_of_batches(dirty, calm, tmp_path, monkeypatch, facts, partitions):
    monkeypatch.setattr(shuffle, "_BATCH_ITEMS", facts)
    monkeypatch.setattr(sharding, "NUM_PARTITIONS", partitions)
    convert_plainly(dirty.root, tmp_path / "ds", seed=facts)
    assert files_of(tmp_path / "ds") == files_of(calm)


def test_a_second_run_touches_nothing(dirty, calm, tmp_path):
    shutil.copytree(calm, tmp_path / "ds")
    before = stamps_of(tmp_path / "ds")
    convert_plainly(dirty.root, tmp_path / "ds", seed=1)
    assert stamps_of(tmp_path / "ds") == before


KINDS = ["train/*.tar", "test/*.tar", "train/*.idx", "samples/train*", "samples/test*", "quarantine/*"]


@pytest.mark.parametrize("kind", [*KINDS, "dataset.json"])
def test_what_is_missing_is_made_again(dirty, calm, tmp_path, kind):
    shutil.copytree(calm, tmp_path / "ds")
    gone = sorted((tmp_path / "ds").glob(kind))[-1]
    gone.unlink()
    kept = stamps_of(tmp_path / "ds")
    convert_plainly(dirty.root, tmp_path / "ds")
    assert files_of(tmp_path / "ds") == files_of(calm)
    stem = gone.stem.removeprefix("part-")
    after = stamps_of(tmp_path / "ds")
    assert all(after[name] == stamp for name, stamp in kept.items() if stem not in name and name != "dataset.json")


DAMAGES = [(kind, at) for kind in [*KINDS, "dataset.json"] for at in (0, 700, -1, None)]
DAMAGED_PAGES = [("samples/train*", "page"), ("samples/test*", "page")]


def page_of(path: Path) -> int:
    """Return where in a Parquet file the first column's data is."""
    with pq.ParquetFile(path) as table:
        chunk = table.metadata.row_group(0).column(0)
    return int((chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size - 2)


@pytest.mark.parametrize(("kind", "at"), [*DAMAGES, *DAMAGED_PAGES])
def test_what_is_damaged_is_made_again(dirty, calm, tmp_path, kind, at):
    shutil.copytree(calm, tmp_path / "ds")
    hit = sorted((tmp_path / "ds").glob(kind))[0]
    at = page_of(hit) if at == "page" else at
    flip_byte(hit, None if at is None or at >= hit.stat().st_size else at)
    convert_plainly(dirty.root, tmp_path / "ds")
    assert files_of(tmp_path / "ds") == files_of(calm)


@pytest.mark.parametrize("field", ["plan", "digest", "tar_bytes", "image_bytes", "num_quarantined", "num_retryable"])
def test_rows_whose_metadata_is_not_true_are_made_again(dirty, calm, tmp_path, field):
    shutil.copytree(calm, tmp_path / "ds")
    path = sorted((tmp_path / "ds/samples").glob("train*"))[0]
    table = read_parquet(str(path))
    metadata = json.loads(table.schema.metadata[METADATA_KEY])
    metadata[field] = "0" * 64 if isinstance(metadata[field], str) else metadata[field] + 1
    write_parquet(str(path), table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata)}))
    convert_plainly(dirty.root, tmp_path / "ds")
    assert files_of(tmp_path / "ds") == files_of(calm)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_cut_is_made_again(dirty, calm, tmp_path, kind):
    shutil.copytree(calm, tmp_path / "ds")
    hit = sorted((tmp_path / "ds").glob(kind))[0]
    hit.write_bytes(hit.read_bytes()[:-20])
    convert_plainly(dirty.root, tmp_path / "ds")
    assert files_of(tmp_path / "ds") == files_of(calm)


@pytest.mark.parametrize(("first", "second"), [(20_000, 1 << 30), (1 << 30, 20_000), (20_000, 30_000)])
def test_shards_of_another_size_replace_those_that_were_there(dirty, tmp_path, first, second):
    for shard_bytes in (first, second):
        convert_plainly(dirty.root, tmp_path / "twice", shard_bytes=shard_bytes)
    convert_plainly(dirty.root, tmp_path / "once", shard_bytes=second)
    assert files_of(tmp_path / "twice") == files_of(tmp_path / "once")


def test_another_subset_replaces_the_dataset(dirty, tmp_path):
    for subset in ("all", "positives"):
        convert_plainly(dirty.root, tmp_path / "twice", subset=subset)
    convert_plainly(dirty.root, tmp_path / "once", subset="positives")
    assert files_of(tmp_path / "twice") == files_of(tmp_path / "once")


def test_a_manifest_is_gone_before_the_first_file_that_it_names(calm, dirty, tmp_path, monkeypatch):
    shutil.copytree(calm, tmp_path / "ds")

    def fail(url):
        assert not (tmp_path / "ds/dataset.json").exists()
        raise KeyboardInterrupt

    for function in ("atomic_writer", "remove_tree"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(storage, function, fail)
            convert_plainly(dirty.root, tmp_path / "ds", subset="positives")


def test_a_manifest_is_gone_before_surplus_files_are(tmp_path, monkeypatch):
    corpus = make_corpus(tmp_path / "c")
    corpus.add_image("N90000")
    convert_plainly(corpus.root, tmp_path / "ds")
    (corpus.images / "N90000.jpg").unlink()
    removed = []
    remove = storage.remove

    def watch(url):
        removed.append(Path(url).name)
        remove(url)

    monkeypatch.setattr(storage, "remove", watch)
    convert_plainly(corpus.root, tmp_path / "ds")
    surplus = [name for name in removed if name.startswith("unlisted")]
    assert len(surplus) == 3
    assert removed.index("dataset.json") < removed.index(surplus[0])


@pytest.mark.parametrize("moment", range(1, 24, 2))
def test_a_run_that_stops_at_any_write_is_resumed_to_the_same_bytes(dirty, calm, tmp_path, monkeypatch, moment):
    opened = Counter[str]()
    real = storage.atomic_writer

    def stop(url):
        opened["files"] += 1
        if opened["files"] == moment:
            raise KeyboardInterrupt
        return real(url)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        for module in (storage, atomic):
            patch.setattr(module, "atomic_writer", stop)
        convert_plainly(dirty.root, tmp_path / "ds", seed=moment)
    assert not (tmp_path / "ds/dataset.json").exists()
    convert_plainly(dirty.root, tmp_path / "ds")
    assert files_of(tmp_path / "ds") == files_of(calm)


def test_an_image_that_could_not_be_read_is_tried_again(tmp_path, monkeypatch):
    corpus = make_corpus(tmp_path / "c")
    read = read_scan.read_image

    def fail(ref):
        if ref.key == "N00001":
            raise ImageError("unreadable_file", "OSError: Input/output error")
        return read(ref)

    with monkeypatch.context() as patch:
        patch.setattr(read_scan, "read_image", fail)
        convert_plainly(corpus.root, tmp_path / "ds")
    assert reasons_of(tmp_path / "ds") == {"N00001": "unreadable_file"}
    convert_plainly(corpus.root, tmp_path / "ds")
    convert_plainly(corpus.root, tmp_path / "calm")
    assert files_of(tmp_path / "ds") == files_of(tmp_path / "calm")


def test_a_disk_that_is_full_ends_the_run_and_leaves_no_partial_file(dirty, tmp_path, monkeypatch):
    real = TarShardWriter.write

    def fail(self, piece):
        real(self, piece)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TarShardWriter, "write", fail)
    with pytest.raises(OSError, match="No space left on device"):
        convert_plainly(dirty.root, tmp_path / "ds")
    assert files_of(tmp_path / "ds") == {}


def test_a_shard_whose_every_record_is_refused_has_no_tar(tmp_path):
    corpus = make_corpus(tmp_path / "c")
    corpus.add_image("N90000", b"")
    manifest = convert_plainly(corpus.root, tmp_path / "ds")
    assert not (tmp_path / "ds/unlisted").exists()
    assert manifest.ledger["unlisted"].quarantined_by_reason == {"empty_file": 1}
    assert [shard.split for shard in open_dataset(str(tmp_path / "ds")).shards()] == ["test", "train"]
    # Once it is mended, it has one; damaged again, none is left over.
    corpus.add_image("N90000")
    convert_plainly(corpus.root, tmp_path / "ds")
    assert (tmp_path / "ds/unlisted/unlisted-00000-of-00001.tar").exists()
    corpus.add_image("N90000", b"")
    convert_plainly(corpus.root, tmp_path / "ds")
    assert list((tmp_path / "ds").rglob("unlisted*.tar")) == []


def test_a_corrected_annotation_makes_its_shard_anew(dirty, tmp_path):
    corpus = tmp_path / "corpus"
    shutil.copytree(dirty.root, corpus)
    convert_plainly(corpus, tmp_path / "ds")
    before = files_of(tmp_path / "ds")
    annotation = next(path for path in sorted((corpus / "Annotation").glob("*.xml")) if b"<xmin>" in path.read_bytes())
    annotation.write_bytes(annotation.read_bytes().replace(b"<object>", b"<object><pose>corrected</pose>", 1))
    convert_plainly(corpus, tmp_path / "ds")
    changed = {name for name, content in files_of(tmp_path / "ds").items() if before.get(name) != content}
    assert len([name for name in changed if name.startswith("samples/")]) == 1


def test_an_unreadable_draft_beside_good_rows_is_removed(dirty, calm, tmp_path):
    shutil.copytree(calm, tmp_path / "ds")
    name = sorted((tmp_path / "ds" / "samples").glob("*.parquet"))[0].name
    (tmp_path / "ds" / "_drafts").mkdir()
    (tmp_path / "ds" / "_drafts" / name).write_bytes(b"PAR1 cut short")
    convert_plainly(dirty.root, tmp_path / "ds")
    assert files_of(tmp_path / "ds") == files_of(calm)


@pytest.mark.parametrize("stops_at", [finish.finish_shard, finish.write_manifest], ids=lambda of: of.__name__)
def test_an_image_that_was_replaced_by_one_of_its_size_between_two_runs_is_read_again(tmp_path, monkeypatch, stops_at):
    corpus = make_corpus(tmp_path / "corpus", num_train=20, num_test=4)
    time.sleep(0.1)  # later than a tick of the file system's clock

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finish, stops_at.__name__, stop)
        convert_plainly(corpus.root, tmp_path / "ds")
    image = min(corpus.root.rglob("*.jpg"))
    old = image.stat()
    flip_byte(image, old.st_size - 5)
    os.utime(image, (old.st_atime, old.st_mtime))  # as `rsync -a` does
    written = stamps_of(tmp_path / "ds")
    convert_plainly(corpus.root, tmp_path / "ds")
    convert_plainly(corpus.root, tmp_path / "fresh")
    assert files_of(tmp_path / "ds") == files_of(tmp_path / "fresh")
    tars = [name for name in written if str(name).endswith(".tar")]
    assert sum(stamps_of(tmp_path / "ds")[name] != written[name] for name in tars) == 1
