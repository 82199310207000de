"""Tests that a stopped job is resumed with the bytes of an undisturbed one.

Processes are killed, a disk is full, a folder loses its permissions, files change and vanish while they are read.
(Failing object stores: `test_object_stores.py`.)
"""

import contextlib
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import convert, reshard, verify
from shards import storage
from shards.writing.shard_writer import write_batches
from shards.writing.sharding import join_batches
from tests.corpora import CorpusWriter, files_of, jpeg_bytes, make_corpus, reasons_of
from tests.processes import NOBODY, run_command, start_command

SHARD_BYTES = 15_000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> CorpusWriter:
    """Scans for more than ten shards, and three refused ones; read-only."""
    corpus = make_corpus(tmp_path_factory.mktemp("corpus"), num_train=170, num_test=30)
    corpus.add_row("N90000")
    corpus.add_image("N90001", b"")
    corpus.add_image("N90002", jpeg_bytes(1)[:-50])
    return corpus


class Job:
    """A command with the output and the duration of an undisturbed run."""

    def __init__(self, module: str, words: list[object], scratch: Path) -> None:
        self.module = module
        self.words = [*words, f"--shard-bytes={SHARD_BYTES}", "--max-quarantine-fraction=1"]
        self.log = scratch / "log.txt"
        run_command(module, ["--help"], self.log)  # the first one starts the server
        started = time.monotonic()
        assert run_command(module, [*self.words, "--output", scratch / "calm"], self.log) == 0, self.log.read_text()
        self.seconds = time.monotonic() - started
        self.calm = files_of(scratch / "calm")
        assert sum(name.endswith(".tar") for name in self.calm) > 10

    def run(self, output: Path, user: int | None = None) -> int:
        """Run it; return the exit code."""
        return run_command(self.module, [*self.words, "--output", output], self.log, user)

    def finish(self, output: Path, user: int | None = None) -> None:
        """Run it again undisturbed; check that the bytes are those of a run that was never disturbed."""
        assert self.run(output, user) == 0, self.log.read_text()
        assert files_of(output) == self.calm

    def check_final_names(self, output: Path) -> None:
        """Check that every file with a final name equals that of an undisturbed run."""
        for name, data in files_of(output).items():
            if not (name.endswith(".tmp") or name.startswith("_drafts/")):
                assert data == self.calm[name], f"{name} is not whole"


@pytest.fixture(scope="module")
def conversion(corpus, tmp_path_factory) -> Job:
    """`sixray convert`."""
    return Job("pipelines.convert", ["--input", corpus.root], tmp_path_factory.mktemp("convert"))


@pytest.fixture(scope="module")
def resharding(conversion, tmp_path_factory) -> Job:
    """`sixray reshard` of the conversion, with a row filter."""
    source = conversion.log.parent / "calm"
    words = ["--input", source, "--where", "hash(key) % 20 > 0"]
    return Job("pipelines.reshard", words, tmp_path_factory.mktemp("reshard"))


@pytest.mark.parametrize(("name", "seed"), [("conversion", 1), ("resharding", 4)])
def test_killed_at_three_random_moments_a_job_goes_on_from_each(request, tmp_path, name, seed):
    job: Job = request.getfixturevalue(name)
    moments = random.Random(seed)
    killed: list[str] = []
    for attempt in range(30):
        # A run that ended before its kill does not count: the next starts in a new folder.
        output = tmp_path / f"after-{attempt - len(killed)}-whole-runs"
        process = start_command(job.module, [*job.words, "--output", output], job.log)
        time.sleep(moments.uniform(0, job.seconds))
        process.kill()
        process.join()
        job.check_final_names(output)
        killed += [output.name] if process.exitcode == -9 else []
        if len(killed) == 3:
            break
    assert len(killed) == 3
    job.finish(output)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a file system of a given size until the block ends."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        made = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no `mount` to make a small disk with")
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(("name", "size"), [("conversion", "60k"), ("resharding", "300k")])
def test_a_full_disk_stops_the_job_with_3_until_there_is_room(request, tmp_path, name, size):
    job: Job = request.getfixturevalue(name)
    with small_disk(tmp_path / "disk", size):
        output = tmp_path / "disk/ds"
        job.log.write_bytes(b"")
        assert job.run(output) == 3
        assert "No space left on device" in job.log.read_text().splitlines()[-1]
        assert not any(path.suffix == ".tmp" for path in output.rglob("*"))
        assert not (output / "dataset.json").exists()
        job.check_final_names(output)
        subprocess.run(["mount", "-o", "remount,size=50m", str(tmp_path / "disk")], check=True)
        job.finish(output)


def test_a_permission_lost_half_way_stops_the_job_with_3_until_it_is_back(corpus, conversion, tmp_path):
    """Permissions do not bind root: run by root, the job runs as nobody."""
    user = NOBODY if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory() as scratch:
        for folder in (scratch, *corpus.root.parents, corpus.root):
            # Not those that all may enter already: /tmp must stay open for writing to the job's user.
            if Path(folder).owner() == "root" and Path(folder).stat().st_mode & 0o005 != 0o005:
                Path(folder).chmod(0o755)
        output = Path(scratch) / "ds"
        (output / "train").mkdir(parents=True)
        log = Path(scratch) / "log.txt"
        log.touch(0o666)
        for path in (output, output / "train", log):
            os.chown(path, *((user, user) if user is not None else (-1, -1)))
        words = [*conversion.words, "--output", output]
        process = start_command(conversion.module, words, log, user)
        while process.is_alive() and not list(output.glob("train/*.tar")):
            time.sleep(0.001)
        (output / "train").chmod(0o555)
        process.join()
        assert process.exitcode == 3, log.read_text()
        assert "PermissionError: [Errno 13] Permission denied" in log.read_text().splitlines()[-1]
        assert 0 < len(list(output.glob("train/*.tar"))) < sum(name.endswith(".tar") for name in conversion.calm)
        conversion.check_final_names(output)
        (output / "train").chmod(0o755)
        assert run_command(conversion.module, words, log, user) == 0, log.read_text()
        assert files_of(output) == conversion.calm


def test_files_that_change_and_go_while_they_are_read_cost_their_rows_until_the_next_run(corpus, tmp_path, monkeypatch):
    root = tmp_path / "corpus"
    shutil.copytree(corpus.root, root)
    words = ["--input", str(root), "--output", str(tmp_path / "ds"), f"--shard-bytes={SHARD_BYTES}"]
    images = root / "JPEGImage"
    longer = jpeg_bytes(4711, size=(80, 60))
    whole = (images / "N00004.jpg").read_bytes()
    happened: list[bool] = []

    def disturb(*args):
        """Change files between the listing and the first read."""
        if not happened:
            happened.append(True)
            (images / "N00001.jpg").rename(tmp_path / "moved.jpg")
            (images / "N00002.jpg").write_bytes(longer)
            (images / "N00004.jpg").write_bytes(whole[:300])
        return write_batches(*args)

    def disturb_annotation(*args):
        """Remove an annotation between the listing and its only read."""
        (root / "Annotation/P00003.xml").unlink(missing_ok=True)
        return join_batches(*args)

    with monkeypatch.context() as patch:
        patch.setattr("shards.writing.sharding.join_batches", disturb_annotation)
        patch.setattr("pipelines.transforms.write_dataset.write_batches", disturb)
        assert convert.main([*words, "--max-quarantine-fraction=1"]) == 0
    before = {"N90000": "missing_image", "N90001": "empty_file", "N90002": "truncated_jpeg"}
    assert reasons_of(tmp_path / "ds") == before | {
        "N00001": "vanished_image",
        "N00002": "changed_image",
        "N00004": "changed_image",
        "P00003": "unreadable_file",
    }
    assert verify.main([str(tmp_path / "ds")]) == 0
    # One comes back, one keeps its new bytes, one was half written, one had been moved away.
    (tmp_path / "moved.jpg").rename(images / "N00001.jpg")
    (images / "N00004.jpg").write_bytes(whole)
    shutil.copy(corpus.root / "Annotation/P00003.xml", root / "Annotation/P00003.xml")
    assert convert.main([*words, "--max-quarantine-fraction=1"]) == 0
    assert reasons_of(tmp_path / "ds") == before
    calm = ["--input", str(root), "--output", str(tmp_path / "calm"), f"--shard-bytes={SHARD_BYTES}"]
    assert convert.main([*calm, "--max-quarantine-fraction=1"]) == 0
    assert files_of(tmp_path / "ds") == files_of(tmp_path / "calm")


def test_a_shard_of_the_input_that_goes_while_it_is_copied_stops_the_job(conversion, resharding, tmp_path, monkeypatch):
    source = tmp_path / "source"
    shutil.copytree(conversion.log.parent / "calm", source)
    tar = sorted(source.glob("train/*.tar"))[-1]
    read_range = storage.read_range

    def disturb(url, *rest):
        if Path(url) == tar and tar.exists():
            tar.rename(tmp_path / "moved.tar")
        return read_range(url, *rest)

    words = ["--input", str(source), "--output", str(tmp_path / "ds"), f"--shard-bytes={2 * SHARD_BYTES}"]
    with monkeypatch.context() as patch:
        patch.setattr(storage, "read_range", disturb)
        assert reshard.main([*words, "--max-quarantine-fraction=1"]) in (2, 3)
    assert not (tmp_path / "ds/dataset.json").exists()
    (tmp_path / "moved.tar").rename(tar)
    assert reshard.main([*words, "--max-quarantine-fraction=1"]) == 0
    words[3] = str(tmp_path / "calm")
    assert reshard.main([*words, "--max-quarantine-fraction=1"]) == 0
    assert files_of(tmp_path / "ds") == files_of(tmp_path / "calm")
