"""Test the recognition of PNG and JPEG files and the reading of their sizes."""

import io
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shards.images.inspect import component_extension, is_jpeg, read_image_size
from shards.images.jpeg import MAX_PIXELS, ImageError
from tests.corpora import jpeg_bytes, png_bytes, prefixes


def reason_of(data: bytes) -> str:
    with pytest.raises(ImageError) as error_info:
        read_image_size(data)
    return error_info.value.reason


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


IDAT, IEND = chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b"")


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
)
def test_the_size_of_a_png_is_the_one_that_pillow_sees(size, mode):
    data = png_bytes(1, size, mode)
    assert read_image_size(data) == Image.open(io.BytesIO(data)).size == size
    assert component_extension(data) == "png" and not is_jpeg(data)


def test_a_jpeg_is_one_whatever_it_is_called():
    assert read_image_size(jpeg_bytes(1)) == (40, 30)
    assert component_extension(jpeg_bytes(1)) == "jpg"


def test_no_proper_prefix_of_a_png_is_taken():
    for prefix in prefixes(png_bytes(1)):
        assert reason_of(prefix) in {"empty_file", "unknown_format", "truncated_png"}, len(prefix)


def test_every_flipped_byte_of_a_png_is_seen():
    data = png_bytes(1, (9, 7))
    for at in range(len(data)):
        flipped = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        assert reason_of(flipped) in {"unknown_format", "truncated_png", "bad_png"}, at


def test_bytes_behind_the_end_chunk_are_allowed():
    assert read_image_size(png_bytes(1) + b"trailing words") == (40, 30)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty_file"),
        (b"GIF89a" + bytes(20), "unknown_format"),
        (b"BM" + bytes(20), "unknown_format"),
        (b"II*\0" + bytes(20), "unknown_format"),
        (b"<html>404</html>", "unknown_format"),
        (png(), "truncated_png"),
        (png(IDAT, IEND), "bad_png"),
        (png(chunk(b"IHDR", b"short"), IDAT, IEND), "bad_png"),
        (png(header(0, 5), IDAT, IEND), "bad_png"),
        (png(header(5, 5, depth=3), IDAT, IEND), "bad_png"),
        (png(header(5, 5, colour=1), IDAT, IEND), "bad_png"),
        (png(header(5, 5), IEND), "bad_png"),
        (png(header(60_000, 60_000), IDAT, IEND), "oversized_image"),
        (png(header(5, 5), struct.pack(">I", 0xFFFFFFFF) + b"IDAT" + bytes(99)), "truncated_png"),
    ],
)
def test_what_is_no_whole_picture_is_refused_by_its_word(data, reason):
    assert reason_of(data) == reason


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04" + bytes(20), "it is an archive: unpack it where it lies"),
        (bytes(257) + b"ustar\0" + bytes(20), "it is an archive"),
        (bytes(128) + b"DICM", "it is DICOM: export its pixels"),
        (b"RIFF\1\2\3\4WEBP", "it is a picture of another format: --transcode"),
        (b"\n<!DOCTYPE html>", "it is a text: it may be an annotation, or the page of a download that failed"),
        (b"\1\2", "the file begins with 01 02, a JPEG begins with ff d8"),
    ],
)
def test_what_is_no_picture_is_called_what_it_is(data, words):
    with pytest.raises(ImageError, match=words):
        read_image_size(data)


def test_the_largest_picture_is_named_in_the_refusal():
    packed = chunk(b"IDAT", bytes(300_000))
    assert read_image_size(png(header(10_000, 10_000), packed, IEND)) == (10_000, 10_000)
    with pytest.raises(ImageError, match=rf"header claims 10001 x 10000 pixels, at most {MAX_PIXELS} are read"):
        read_image_size(png(header(10_001, 10_000), IDAT, IEND))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_behind_the_signature_never_raises_anything_else(data):
    try:
        width, height = read_image_size(png(data))
    except ImageError as error:
        assert error.reason in {"truncated_png", "bad_png", "oversized_image"}
    else:
        assert width > 0 and height > 0
