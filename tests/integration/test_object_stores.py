"""Tests of the commands on an S3 store: the bytes of a disk, whole objects or none, no secret printed."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pipelines import convert, reshard, verify
from shards import storage
from shards.format.dataset import open_dataset
from shards.format.parquet import read_parquet
from shards.storage import atomic, object_stores
from tests.corpora import files_of, jpeg_bytes, make_corpus, payload_of
from tests.services import ACCESS_KEY, SECRET_KEY, Plan, Server, run_proxy, run_s3

SHARD_BYTES = 7_000


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """A server: moto's, or the one of SIXRAY_S3_SERVER."""
    with run_s3(tmp_path_factory.mktemp("store")) as server:
        yield server


@pytest.fixture
def s3(server, monkeypatch) -> Iterator[str]:
    """An empty bucket, configured by environment variables."""
    with environment(server.url, monkeypatch):
        bucket = f"bucket-{os.urandom(4).hex()}"
        fsspec.filesystem("s3").call_s3("create_bucket", Bucket=bucket)
        yield f"s3://{bucket}"


class environment:  # noqa: N801 (a context manager, written like a function)
    """Set the variables of a store; clear s3fs' cached clients, which keep old settings."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        variables = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        for name, value in (variables | {"AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1"}).items():
            monkeypatch.setenv(name, value)

    def __enter__(self) -> None:
        fsspec.get_filesystem_class("s3").clear_instance_cache()

    def __exit__(self, *error: object) -> None:
        fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Scans, refused ones and a byte-equal pair; read-only."""
    corpus = make_corpus(tmp_path_factory.mktemp("corpus"), num_train=14, num_test=4)
    corpus.add_row("N90000")
    corpus.add_image("N90001", b"")
    corpus.add_image("N90002", jpeg_bytes(1)[:-50])
    corpus.add_image("with (1) dots.in + name%", (corpus.images / "N00001.jpg").read_bytes())
    return corpus


def put(url: str, folder: Path) -> None:
    for name, data in files_of(folder).items():
        storage.write_bytes(storage.join_url(url, name), data)


def stored(url: str) -> dict[str, bytes]:
    return {info.url.removeprefix(f"{url}/"): storage.read_bytes(info.url) for info in storage.list_files(url)}


def payload(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name != "dataset.json"}


def test_convert_verify_and_reshard_give_the_bytes_of_a_disk(s3, corpus, tmp_path, capsys):
    put(f"{s3}/in/corpus", corpus.root)
    words = ["--shard-bytes", str(SHARD_BYTES), "--max-quarantine-fraction=1"]
    assert convert.main(["--input", f"{s3}/in/corpus", "--output", f"{s3}/out", *words]) == 0
    assert convert.main(["--input", str(corpus.root), "--output", str(tmp_path / "disk"), *words]) == 0
    remote, local = stored(f"{s3}/out"), files_of(tmp_path / "disk")
    assert remote.keys() == local.keys()
    tars = [name for name in local if name.endswith((".tar", ".idx"))]
    assert len(tars) >= 6 and all(remote[name] == local[name] for name in tars)
    assert open_dataset(f"{s3}/out").manifest.digest == open_dataset(str(tmp_path / "disk")).manifest.digest
    # From disk into the store, the tables are equal to the last byte too.
    assert convert.main(["--input", str(corpus.root), "--output", f"{s3}/up", *words]) == 0
    assert payload(stored(f"{s3}/up")) == payload_of(tmp_path / "disk")
    for flags in ([], ["--quick"]):
        assert verify.main([f"{s3}/out", *flags]) == 0
    capsys.readouterr()
    assert reshard.main(["--input", f"{s3}/up", "--output", f"{s3}/again", "--max-quarantine-fraction=1"]) == 0
    assert payload(stored(f"{s3}/again")) == payload(stored(f"{s3}/up"))
    assert reshard.main(["--input", f"{s3}/up", "--output", str(tmp_path / "down"), "--where", "labels.Gun = 1"]) == 0
    assert (
        reshard.main(["--input", str(tmp_path / "disk"), "--output", str(tmp_path / "d2"), "--where", "labels.Gun=1"])
        == 0
    )
    assert payload_of(tmp_path / "down") == payload_of(tmp_path / "d2")


def test_damage_in_a_bucket_is_named_and_mended(s3, corpus, capsys):
    words = ["--input", str(corpus.root), "--output", f"{s3}/ds", f"--shard-bytes={SHARD_BYTES}"]
    convert.main([*words, "--max-quarantine-fraction=1"])
    before = stored(f"{s3}/ds")
    hit, gone, cut = [name for name in sorted(before) if name.endswith(".tar")][:3]
    storage.write_bytes(f"{s3}/ds/{hit}", before[hit][:700] + b"x" + before[hit][701:])
    storage.remove(f"{s3}/ds/{gone}")
    storage.write_bytes(f"{s3}/ds/{cut}", before[cut][:2000])
    storage.write_bytes(f"{s3}/ds/notes.txt", b"hello")
    capsys.readouterr()
    assert verify.main([f"{s3}/ds"]) == 1
    found = {line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()}
    assert found == {hit, gone, cut, "notes.txt"}
    assert verify.main([f"{s3}/ds", "--quick"]) == 1
    found = {line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()}
    assert found == {gone, cut, "notes.txt"}
    # A truncated tar loses the samples beyond its end, even if none is left to read.
    reshard.main(["--input", f"{s3}/ds", "--output", f"{s3}/copy", "--max-quarantine-fraction=1"])
    storage.remove(f"{s3}/ds/notes.txt")
    convert.main([*words, "--max-quarantine-fraction=1"])
    assert stored(f"{s3}/ds") == before


def test_a_missing_table_is_missing_and_no_damaged_one(s3):
    with pytest.raises(FileNotFoundError, match="No such file"):
        read_parquet(f"{s3}/samples/train-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=r"dataset must have a dataset\.json, got none"):
        open_dataset(f"{s3}/absent")


def test_reading_beyond_the_end_gives_what_a_disk_gives(s3):
    storage.write_bytes(f"{s3}/a", b"0123456789")
    assert storage.read_range(f"{s3}/a", 8, 99) == b"89"
    assert storage.read_range(f"{s3}/a", 10, 5) == storage.read_range(f"{s3}/a", 99, 5) == b""
    with storage.open_reader(f"{s3}/a") as handle:
        assert (handle.read(3), handle.tell(), handle.seek(8), handle.read()) == (b"012", 3, 8, b"89")


def test_a_listing_is_streamed_page_by_page(s3, monkeypatch):
    fs, _ = storage.filesystem(s3)
    names = [f"deep/{number % 7}/{number:05d}.jpg" for number in range(120)]
    _put_many(s3, names)
    storage.write_bytes(f"{s3}/other/x", b"1")
    storage.write_bytes(f"{s3}/deep-not/x", b"1")
    pages = []
    real = type(fs).call_s3

    def count(self, method, *rest, **request):
        pages.append(method)
        return real(self, method, *rest, **request, MaxKeys=100)  # a thousand of S3's own pages take seconds to fill

    monkeypatch.setattr(type(fs), "call_s3", count)
    listing = storage.list_files(f"{s3}/deep")
    first = next(listing)
    assert pages == ["list_objects_v2"]
    found = [first, *listing]
    assert pages == ["list_objects_v2"] * 2
    assert sorted(info.url for info in found) == sorted(f"{s3}/{name}" for name in names)
    assert {info.size_bytes for info in found} == {3}


def _put_many(s3: str, names: list[str]) -> None:
    fs, root = storage.filesystem(s3)
    fs.pipe({f"{root}/{name}": b"abc" for name in names})


def test_odd_names_are_listed_as_they_are_and_can_be_read(s3):
    names = ["a b.jpg", "ü/(1).jpg", "x+y&z=1%20.jpg", "twice//named.jpg", "q?.jpg", "#1.jpg"]
    for name in names:
        fs, root = storage.filesystem(s3)
        fs.pipe_file(f"{root}/in/{name}", name.encode())
    found = {
        info.url.removeprefix(f"{s3}/in/"): storage.read_bytes(info.url) for info in storage.list_files(f"{s3}/in")
    }
    if storage.base_name(s3).startswith("bucket") and "twice/named.jpg" in found:  # a store of files has no empty names
        names[3] = "twice/named.jpg"
        found["twice/named.jpg"] = b"twice/named.jpg"
    assert found == {name: name.encode() for name in names}


def test_an_upload_of_several_parts_appears_when_it_is_whole(s3):
    fs, _ = storage.filesystem(s3)
    with storage.atomic_writer(f"{s3}/ds/big") as out:
        for _ in range(52):
            out.write(bytes(1024 * 1024))
        assert len(uploads_in(s3)) == 1
        assert not storage.exists(f"{s3}/ds/big")
    assert fs.size(f"{s3}/ds/big") == 52 * 1024 * 1024
    assert uploads_in(s3) == []


@pytest.mark.parametrize("num_megabytes", [1, 52])
def test_an_upload_that_fails_leaves_nothing_and_the_object_that_was_there(s3, num_megabytes):
    storage.write_bytes(f"{s3}/ds/a", b"old")
    for name in ("a", "b"):
        with pytest.raises(KeyError), storage.atomic_writer(f"{s3}/ds/{name}") as out:
            out.write(bytes(num_megabytes * 1024 * 1024))
            raise KeyError
        del out
        gc.collect()  # a forgotten handle must not send what it holds
    assert stored(f"{s3}/ds") == {"a": b"old"}
    assert uploads_in(s3) == []


def uploads_in(s3: str) -> list[str]:
    fs, bucket = storage.filesystem(s3)
    return [item["Key"] for item in fs.call_s3("list_multipart_uploads", Bucket=bucket).get("Uploads") or []]


def test_what_a_killed_writer_sent_is_swept_once_it_is_a_day_old(s3, monkeypatch):
    script = (
        "import os, sys; from shards import storage\n"
        "with storage.atomic_writer(sys.argv[1]) as out: out.write(bytes(51 << 20)); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, f"{s3}/ds/train/a.tar"], check=False, stderr=subprocess.DEVNULL)
    assert not storage.exists(f"{s3}/ds/train/a.tar")
    assert uploads_in(s3) == ["ds/train/a.tar"]
    # Not after a day: moto dates all uploads to 2010.
    monkeypatch.setattr(atomic, "_ABANDONED_AFTER_SECONDS", 10**10)
    assert storage.sweep_temporaries(f"{s3}/ds") == 0
    monkeypatch.setattr(atomic, "_ABANDONED_AFTER_SECONDS", -5)
    assert storage.sweep_temporaries(f"{s3}/other") == 0
    assert storage.sweep_temporaries(f"{s3}/ds") == 1
    assert uploads_in(s3) == []


@pytest.mark.parametrize(
    "url", ["s3://key:secret@{}/x", "s3://{}/x?X-Amz-Signature=abcdef", "s3://{}/x?AWSAccessKeyId=a&Signature=abcdef"]
)
@pytest.mark.parametrize("flag", ["--input", "--output"])
def test_urls_with_credentials_are_refused_without_being_repeated(s3, corpus, capsys, url, flag):
    url = url.format(s3.removeprefix("s3://"))
    words = {"--input": str(corpus.root), "--output": f"{s3}/ds"} | {flag: url}
    assert convert.main([word for pair in words.items() for word in pair]) == 2
    printed = "".join(capsys.readouterr())
    assert "URL must be without credentials, got s3://" in printed
    assert "secret" not in printed and "abcdef" not in printed


def test_no_secret_is_in_what_is_written_or_said(s3, server, corpus, tmp_path, capsys):
    put(f"{s3}/in", corpus.root)
    out = tmp_path / "ds"
    convert.main(["--input", f"{s3}/in", "--output", str(out)])
    storage.remove(f"{s3}/in/JPEGImage/N00001.jpg")
    convert.main(["--input", f"{s3}/absent", "--output", str(out / "x")])
    said = "".join(capsys.readouterr())
    written = b"".join(files_of(out).values()) + said.encode()
    assert ACCESS_KEY.encode() not in written and SECRET_KEY.encode() not in written
    assert json.loads((out / "dataset.json").read_text())["options"]["input"] == f"{s3}/in"


def test_secrets_are_masked_wherever_they_stand(monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "tokenvalue")
    text = "https://me:pw@host/a?X-Amz-Signature=abc&x=1 with tokenvalue, s3://key:secret@b/c?sig=z"
    assert (
        object_stores.mask_secrets(text) == "https://***@host/a?X-Amz-Signature=***&x=1 with ***, s3://***@b/c?sig=***"
    )
    plain = "s3://bucket/a@b:c.jpg?really and /tmp/x?sign=1"
    assert object_stores.mask_secrets(plain) == plain
    assert storage.as_uri("s3://key:secret@b/c") == "s3://***@b/c"


def test_a_store_that_is_not_there_ends_the_run_with_3_and_one_line(corpus, tmp_path, capsys, monkeypatch):
    with environment("http://127.0.0.1:9", monkeypatch):
        fs, _ = storage.filesystem("s3://bucket/x")
        monkeypatch.setattr(type(fs), "retries", 1)
        assert convert.main(["--input", str(corpus.root), "--output", "s3://bucket/ds"]) == 3
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "Could not connect to the endpoint" in line and "run the same command again, it resumes" in line
    assert SECRET_KEY not in line


TROUBLES = {
    "slow, and 503 a while": Plan(let_pass=30, answer_503=3, delay_seconds=0.003),
    "503 for good": Plan(let_pass=60, answer_503=-1),
    "cut in answers": Plan(let_pass=20, cut_after_bytes=900, cuts_left=3),
    "refused": Plan(let_pass=25, refuse_connections=True),
}


@pytest.fixture(scope="module")
def calm(server, corpus) -> Iterator[tuple[list[str], dict[str, bytes]]]:
    """The arguments of a conversion in a bucket, and the files of an undisturbed run."""
    with pytest.MonkeyPatch.context() as patch, environment(server.url, patch):
        fsspec.filesystem("s3").call_s3("create_bucket", Bucket="calm-corpus")
        put("s3://calm-corpus/in", corpus.root)
        words = ["--input", "s3://calm-corpus/in", f"--shard-bytes={SHARD_BYTES}", "--max-quarantine-fraction=1"]
        convert.main([*words, "--output", "s3://calm-corpus/out"])
        yield words, stored("s3://calm-corpus/out")


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_store_in_trouble_costs_a_run_at_most_and_no_byte(s3, server, calm, capsys, monkeypatch, trouble):
    """The next run completes the job; until then no unfinished file has a final name."""
    words, whole = calm
    plan = TROUBLES[trouble]
    with run_proxy(server.url, plan) as url, environment(url, monkeypatch):
        fs, _ = storage.filesystem(s3)
        monkeypatch.setattr(type(fs), "retries", 2)
        code = convert.main([*words, "--output", f"{s3}/stormy"])
    with environment(server.url, monkeypatch):
        assert code in ({3} if "for good" in trouble else {0, 3}), capsys.readouterr().err
        assert set(plan.seen) > {"pass"}
        if code == 3:
            left = stored(f"{s3}/stormy") if storage.exists(f"{s3}/stormy") else {}
            assert "dataset.json" not in left
            assert all(whole[name] == data for name, data in left.items() if not name.startswith("_drafts/"))
            assert convert.main([*words, "--output", f"{s3}/stormy"]) == 0
        assert stored(f"{s3}/stormy") == whole
        assert uploads_in(s3) == []
