"""Test the headers and padding of ustar members."""

import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.format.ustar import make_header, padding


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("abzAZ019_-~()+,=@%."), min_size=1, max_size=100), st.integers(0, 64 * 1024 * 1024))
def test_a_header_is_the_one_that_tarfile_makes(name, size_bytes):
    info = tarfile.TarInfo(name)
    info.size, info.mode = size_bytes, 0o644
    assert make_header(name, size_bytes) == info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(("size_bytes", "expected"), [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)])
def test_padding_fills_the_last_block(size_bytes, expected):
    assert padding(size_bytes) == bytes(expected)
