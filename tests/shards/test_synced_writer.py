"""Are all bytes written, in order, in however many calls, and is an error of an early sync told?"""

import errno
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards import storage, synced_writer


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.binary(max_size=3000), max_size=30), batch=st.integers(1, 5))
def test_many_chunks_are_written_as_one_after_the_other(tmp_path, monkeypatch, chunks, batch):
    monkeypatch.setattr(synced_writer, "_CHUNKS_A_CALL", batch)
    monkeypatch.setattr(synced_writer, "_SYNC_BYTES", 1000)
    with storage.atomic_writer(tmp_path / "f") as out:
        out.write(b"first")
        out.writelines(chunks)
        out.write(b"last")
    assert (tmp_path / "f").read_bytes() == b"first" + b"".join(chunks) + b"last"


def test_a_chunk_that_the_system_takes_in_part_is_written_whole(tmp_path, monkeypatch):
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, chunks: real(fd, [memoryview(chunks[0])[:3]]))
    with storage.atomic_writer(tmp_path / "f") as out:
        out.writelines([b"0123456789", b"", b"ab"])
    assert (tmp_path / "f").read_bytes() == b"0123456789ab"


def test_bytes_that_could_not_be_synced_on_the_way_leave_no_file(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(synced_writer, "_SYNC_BYTES", 10)
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OSError, match="Input/output error"), storage.atomic_writer(tmp_path / "f") as out:
        out.write(bytes(100))
    assert list(tmp_path.iterdir()) == []
