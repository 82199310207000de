"""Test the check of JPEG files and the reading of their sizes."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shards.images.jpeg import MAX_PIXELS, ImageError, read_jpeg_size
from tests.corpora import jpeg_bytes, prefixes

END = b"\xff\xd9"


def reason_of(data: bytes) -> str:
    with pytest.raises(ImageError) as error_info:
        read_jpeg_size(data)
    assert str(error_info.value) == f"{error_info.value.reason}: {error_info.value.detail}"
    return error_info.value.reason


def comment(text: bytes) -> bytes:
    return b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text


def with_thumbnail(data: bytes) -> bytes:
    """A whole JPEG inside the header of another, as cameras and viewers write."""
    thumbnail = jpeg_bytes(7, (8, 8))
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    return data[:2] + segment + data[2:]


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    mode=st.sampled_from(["RGB", "L", "CMYK"]),
    quality=st.integers(1, 95),
    progressive=st.booleans(),
    restarts=st.integers(0, 3),
)
def test_the_size_is_the_one_that_pillow_sees(size, mode, quality, progressive, restarts):
    data = jpeg_bytes(1, size, mode, quality=quality, progressive=progressive, restart_marker_rows=restarts)
    assert read_jpeg_size(data) == Image.open(io.BytesIO(data)).size == size


@pytest.mark.parametrize(
    "data",
    [
        jpeg_bytes(1),
        jpeg_bytes(2, progressive=True),
        jpeg_bytes(3, mode="L", restart_marker_rows=1),
        jpeg_bytes(4, comment=b"x" * 300),
        with_thumbnail(jpeg_bytes(5)),
    ],
    ids=["baseline", "progressive", "restarts", "comment", "thumbnail"],
)
def test_no_proper_prefix_of_a_jpeg_is_taken(data):
    for prefix in prefixes(data):
        assert reason_of(prefix) in {"empty_file", "not_jpeg", "truncated_jpeg"}, len(prefix)


def test_an_end_marker_inside_a_comment_ends_nothing():
    whole = jpeg_bytes(1)
    data = whole[:-2] + comment(b"...." + END + b"....") + END
    assert read_jpeg_size(data) == (40, 30)
    cut = data.index(b"....", len(whole) - 2) + 6
    assert data[:cut].endswith(END)
    for length in (cut + 1, cut + 4):
        assert reason_of(data[:length]) == "truncated_jpeg"


@pytest.mark.parametrize("tail", [b"\0", b"\r\n", bytes(2048), b"trailing words", jpeg_bytes(2)[:100]])
def test_bytes_behind_the_end_marker_are_allowed(tail):
    assert read_jpeg_size(jpeg_bytes(1) + tail) == (40, 30)


def test_fill_bytes_before_a_marker_are_allowed():
    data = jpeg_bytes(1)
    assert read_jpeg_size(data[:2] + b"\xff\xff" + data[2:]) == (40, 30)


def frame(width: int, height: int) -> bytes:
    return b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"


SCAN = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00\x00\x3f\x00" + b"\x12\x34" + END


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty_file"),
        (bytes(500), "not_jpeg"),
        (b"\xff", "not_jpeg"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "not_jpeg"),
        (b"<html>404</html>", "not_jpeg"),
        (b"\xff\xd8", "truncated_jpeg"),
        (b"\xff\xd8" + END, "truncated_jpeg"),
        (b"\xff\xd8" + bytes(500), "bad_jpeg"),
        (b"\xff\xd8" + b"garbage" * 9, "bad_jpeg"),
        (b"\xff\xd8\xff\xe0\x00\x01" + frame(9, 9) + SCAN, "bad_jpeg"),
        (b"\xff\xd8\xff\xd9\x00\x09" + bytes(90), "bad_jpeg"),
        (b"\xff\xd8" + SCAN, "bad_jpeg"),
        (b"\xff\xd8\xff\xc0\x00\x02" + SCAN, "bad_jpeg"),
        (b"\xff\xd8" + frame(0, 9) + SCAN, "bad_jpeg"),
        (b"\xff\xd8" + frame(9, 0) + SCAN, "bad_jpeg"),
        (b"\xff\xd8" + frame(65500, 65500) + SCAN, "oversized_image"),
        (b"\xff\xd8" + frame(9, 9) + SCAN[:-2], "truncated_jpeg"),
        (b"\xff\xd8" + frame(9, 9), "truncated_jpeg"),
    ],
)
def test_what_is_no_whole_jpeg_is_refused_by_its_word(data, reason):
    assert reason_of(data) == reason


def test_the_largest_picture_is_named_in_the_refusal():
    assert reason_of(b"\xff\xd8" + frame(10_000, 10_000) + SCAN) == "unsupported_jpeg"  # it lacks tables
    with pytest.raises(ImageError, match=rf"header claims 10001 x 10000 pixels, at most {MAX_PIXELS} are read"):
        read_jpeg_size(b"\xff\xd8" + frame(10_001, 10_000) + SCAN)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_garbage_never_raises_anything_else(data, has_start):
    try:
        read_jpeg_size((b"\xff\xd8" if has_start else b"") + data)
    except ImageError as error:
        assert error.reason in {
            "empty_file",
            "not_jpeg",
            "truncated_jpeg",
            "bad_jpeg",
            "oversized_image",
            "unsupported_jpeg",
            "partial_image",
        }
