"""Test atomic writing and the removal of what killed writers left."""

import errno
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest

from shards import storage


def test_an_error_leaves_neither_a_file_nor_a_temporary_one(tmp_path):
    with pytest.raises(KeyError), storage.atomic_writer(tmp_path / "a.tar") as out:
        out.write(b"half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("num_bytes", [1, 5_000_000])
def test_bytes_that_did_not_reach_the_disk_leave_no_file(tmp_path, monkeypatch, num_bytes):
    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        storage.write_bytes(tmp_path / "a.tar", bytes(num_bytes))
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_file_that_was_there(tmp_path):
    storage.write_bytes(tmp_path / "a.tar", b"old")
    with pytest.raises(KeyboardInterrupt), storage.atomic_writer(tmp_path / "a.tar") as out:
        out.write(b"half")
        raise KeyboardInterrupt
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    with storage.atomic_writer(tmp_path / "a.tar") as out:
        out.write(b"half")
        out.flush()
        (temporary,) = tmp_path.iterdir()
        assert temporary.name.startswith(".a.tar.") and temporary.name.endswith(".tmp")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_an_upload_that_fails_is_discarded(memory, monkeypatch):
    discarded = []
    monkeypatch.setattr(fsspec.implementations.memory.MemoryFile, "discard", lambda self: discarded.append(self.path))
    with pytest.raises(KeyError), storage.atomic_writer("memory://x/a") as out:
        out.write(b"half")
        raise KeyError
    assert discarded == ["/x/a"]


def leave_temporary(
    folder: Path, *, host: str | None = None, writer: str | None = None, age_seconds: float = 0
) -> Path:
    """Return a temporary file as a killed writer leaves it; by default its process has ended."""
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    host = socket.gethostname().replace(".", "-") if host is None else host
    writer = f"{int(ended.stdout)}-12345" if writer is None else writer
    path = folder / f".train-00000-of-00001.tar.{host}.{writer}.0a1b2c3d.tmp"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age_seconds,) * 2)
    return path


def test_leftovers_of_a_dead_writer_are_swept(tmp_path):
    leftovers = [leave_temporary(tmp_path), leave_temporary(tmp_path / "deep/er")]
    assert storage.sweep_temporaries(tmp_path) == 2
    assert not any(path.exists() for path in leftovers)
    assert storage.sweep_temporaries(tmp_path) == 0


def test_a_writer_that_lives_keeps_its_file(tmp_path):
    with storage.atomic_writer(tmp_path / "a.tar") as out:
        assert storage.sweep_temporaries(tmp_path) == 0
        out.write(b"whole")
    assert (tmp_path / "a.tar").read_bytes() == b"whole"


def test_a_process_that_has_only_the_id_of_the_dead_one_does_not_save_its_file(tmp_path):
    # A container that starts again gives its processes the ids they had before.
    leftover = leave_temporary(tmp_path, writer=f"{os.getpid()}-1")
    assert storage.sweep_temporaries(tmp_path) == 1
    assert not leftover.exists()


def test_a_killed_child_that_nobody_waited_for_is_dead(tmp_path):
    script = (
        "import os, sys; from shards import storage\n"
        "with storage.atomic_writer(sys.argv[1]) as out: os.kill(os.getpid(), 9)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "a.tar")]) as child:
        deadline = time.monotonic() + 30
        while "\nState:\tZ" not in Path(f"/proc/{child.pid}/status").read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(list(tmp_path.iterdir())) == 1
        assert storage.sweep_temporaries(tmp_path) == 1


def test_on_another_host_a_writer_counts_as_gone_after_a_day(tmp_path):
    fresh = leave_temporary(tmp_path, host="elsewhere", age_seconds=3600)
    old = leave_temporary(tmp_path, host="elsewhere", writer="9-9", age_seconds=25 * 3600)
    assert storage.sweep_temporaries(tmp_path) == 1
    assert fresh.exists() and not old.exists()


@pytest.mark.parametrize("name", ["a.tmp", ".a.tmp", ".a.tar.host.x.0a.tmp", ".vimrc.swp", "a.host.1-2.0a.tmp"])
def test_files_of_others_are_never_swept(tmp_path, name):
    path = tmp_path / name
    path.touch()
    os.utime(path, (0, 0))
    assert storage.sweep_temporaries(tmp_path) == 0
    assert path.exists()


def test_there_is_nothing_to_sweep_in_a_store_or_an_absent_folder(tmp_path, memory):
    assert storage.sweep_temporaries("memory://x") == 0
    assert storage.sweep_temporaries(tmp_path / "absent") == 0


def test_two_writers_of_one_name_do_not_meet(tmp_path):
    with storage.atomic_writer(tmp_path / "a") as one, storage.atomic_writer(tmp_path / "a") as other:
        one.write(b"one")
        other.write(b"other")
        assert len({re.sub(r".*\.", "", path.name) for path in tmp_path.iterdir()}) == 1
        assert len(list(tmp_path.iterdir())) == 2
    assert (tmp_path / "a").read_bytes() == b"one"
