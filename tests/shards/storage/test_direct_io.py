"""Test direct writing of files, its fallback and its errors."""

import errno
import fcntl
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards import storage
from shards.storage import direct_io
from shards.storage.direct_io import DirectWriter

BLOCK_BYTES = 4096


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(direct_io, "_BLOCK_BYTES", BLOCK_BYTES)


def refuse_flag(real):
    def set_flags(handle, command, flags=0):
        if command == fcntl.F_SETFL and flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(handle, command, flags)

    return set_flags


def refuse_writes(real):
    def write(descriptor, data, offset):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(descriptor, data, offset)

    return write


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.binary(max_size=9000) | st.none(), max_size=12))
@pytest.mark.parametrize("system", ["direct", "refuses the flag", "refuses to write", "takes a part"])
def test_chunks_are_written_one_after_the_other_flushed_between_or_not(tmp_path, system, chunks):
    with pytest.MonkeyPatch.context() as patch:
        if system == "refuses the flag":
            patch.setattr(fcntl, "fcntl", refuse_flag(fcntl.fcntl))
        if system == "refuses to write":
            patch.setattr(os, "pwrite", refuse_writes(os.pwrite))
        if system == "takes a part":
            real = os.pwrite
            patch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[: max(512, len(data) // 2)], at))
        with storage.atomic_writer(tmp_path / "f") as out:
            out.write(b"first")
            for chunk in chunks:
                out.flush() if chunk is None else out.writelines([chunk])
            content = b"first" + b"".join(chunk for chunk in chunks if chunk is not None)
            assert out.tell() == len(content)
            out.write(b"last")
    assert (tmp_path / "f").read_bytes() == content + b"last"


def test_full_blocks_pass_the_page_cache_if_the_file_system_allows_it(tmp_path, monkeypatch):
    direct = []
    real = os.pwrite

    def note(descriptor, data, offset):
        direct.append((bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT), len(data)))
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", note)
    with DirectWriter(tmp_path / "f") as out:
        is_possible = out._is_direct
        out.write(bytes(3 * BLOCK_BYTES + 7))
        out.flush()
    assert direct == [(is_possible, BLOCK_BYTES)] * 3 + [(False, 7)]


@pytest.mark.parametrize("num_bytes", [BLOCK_BYTES, 10 * BLOCK_BYTES, 10 * BLOCK_BYTES + 1])
def test_bytes_that_could_not_be_written_leave_no_file(tmp_path, monkeypatch, num_bytes):
    def fail(*args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(OSError, match="Input/output error"), storage.atomic_writer(tmp_path / "f") as out:
        out.write(bytes(num_bytes))
    assert list(tmp_path.iterdir()) == []


def test_a_closed_file_takes_no_bytes_and_an_existing_one_is_not_replaced(tmp_path):
    out = DirectWriter(tmp_path / "f")
    out.close()
    with pytest.raises(ValueError, match="closed file"):
        out.write(b"x")
    with pytest.raises(FileExistsError):
        DirectWriter(tmp_path / "f")


def test_another_error_of_the_flag_is_raised(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "fcntl", fail)
    with pytest.raises(OSError, match="Bad file descriptor"), storage.atomic_writer(tmp_path / "f") as out:
        out.write(bytes(2 * BLOCK_BYTES))
