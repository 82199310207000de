"""Images are decoded alike everywhere, and held against their own data."""

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shards.images.decode import check_decodable, decode_image, without_alpha
from shards.images.inspect import read_image_size
from shards.images.jpeg import ImageError
from tests.corpora import jpeg_bytes, png_bytes
from tests.shards.images.test_inspect import IEND, chunk, png
from tests.shards.images.test_jpeg import END

RAMP = np.linspace(0, 65535, 64 * 4).astype(np.uint16).reshape(4, 64)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def reason_of(data: bytes) -> str:
    try:
        check_decodable(data)
    except ImageError as error:
        return error.reason
    return ""


def test_sixteen_bits_are_scaled_to_eight_and_transparency_becomes_white():
    assert np.array_equal(np.asarray(decode_image(encode(Image.fromarray(RAMP)))), np.rint(RAMP / 257))
    clear = Image.new("RGBA", (9, 9), (200, 0, 0, 0))
    assert np.asarray(decode_image(encode(clear))).min() == 255
    seen = np.asarray(Image.open(io.BytesIO(without_alpha(encode(clear)))))
    assert seen.shape == (9, 9, 3) and seen.min() == 255


@pytest.mark.parametrize("data", [jpeg_bytes(1), png_bytes(1), png_bytes(1, mode="I;16"), b"", b"\x89PNG", b"x" * 99])
def test_an_image_without_transparency_is_passed_on_as_it_is(data):
    assert without_alpha(data) is data


def test_a_draft_has_at_least_the_size_asked_for():
    assert decode_image(jpeg_bytes(1, (800, 600)), draft_px=64).size == (100, 75)
    assert decode_image(png_bytes(1, (80, 60)), draft_px=64).size == (80, 60)


def test_drafts_are_made_in_one_place_behind_the_check_of_the_header():
    """Pillow's `draft` corrupts the heap on a lossless JPEG, and its `thumbnail` of an opened file calls it."""
    root = Path(__file__).parents[3]
    sources = {
        path: path.read_text() for room in ("shards", "model", "pipelines") for path in (root / room).rglob("*.py")
    }
    assert [path.name for path, text in sources.items() if re.search(r"\bdraft\(", text)] == ["decode.py"]
    opened = {path.name for path, text in sources.items() if "Image.open(" in text}
    assert not opened & {path.name for path, text in sources.items() if ".thumbnail(" in text}


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC9, 0xCB])
def test_no_draft_is_made_of_a_jpeg_of_another_kind(marker):
    data = jpeg_bytes(1).replace(b"\xff\xc0", bytes([0xFF, marker]), 1)
    with pytest.raises(ImageError, match="unsupported_jpeg: it is"):
        decode_image(data, draft_px=64)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"mode": "L"}, {"mode": "CMYK"}, {"optimize": True}])
def test_a_whole_jpeg_decodes_to_its_end_and_one_that_was_cut_or_blanked_does_not(options):
    data = jpeg_bytes(1, (400, 300), **options)
    half = len(data) // 2
    assert reason_of(data) == reason_of(data + b"tail") == ""
    for damaged in (data[:half] + END, data[:-40] + END, data[:half] + bytes(half - 2) + END):
        assert reason_of(damaged) == "partial_image"
    assert reason_of(data[:-2] + b"\xff\xff" + END) == ""


def test_a_png_with_a_short_stream_or_another_is_found():
    whole = png_bytes(1, (60, 50))
    assert reason_of(whole) == reason_of(png_bytes(2, mode="I;16")) == ""
    rows = Image.open(io.BytesIO(png_bytes(1, (60, 20))))
    short = encode(rows)
    assert reason_of(short[:8] + chunk(b"IHDR", whole[16:29]) + short[33:]) == "partial_image"


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("interlace", [0, 1])
def test_a_png_that_ends_after_any_of_its_rows_is_found(depth, interlace):
    header = struct.pack(">IIBBBBB", 21, 13, depth, 0, 0, 0, interlace)
    rows = [-(-(13 - top) // down) for top, down in ((0, 8), (0, 8), (4, 8), (0, 4), (2, 4), (0, 2), (1, 2))]
    columns = [-(-(21 - left) // across) for left, across in ((0, 8), (4, 8), (0, 4), (2, 4), (0, 2), (1, 2), (0, 1))]
    passes = zip(rows, columns, strict=True) if interlace else [(13, 21)]
    row_bytes = [1 + -(-width * depth // 8) for num, width in passes for _ in range(num)]
    for num in range(1, len(row_bytes) + 1):
        data = png(chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(sum(row_bytes[:num])))), IEND)
        assert reason_of(data) == ("" if num == len(row_bytes) else "partial_image")


WHITE = [(1, 1), (8, 8), (9, 17), (640, 480), (4000, 3000)]


@pytest.mark.parametrize("size", WHITE)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}, {"quality": 1, "optimize": True}])
def test_a_white_jpeg_of_any_size_has_bytes_enough(size, mode, options):
    assert read_image_size(encode(Image.new(mode, size, "white"), "JPEG", **options)) == size


@pytest.mark.parametrize("size", WHITE)
@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "I;16"])
def test_a_white_png_of_any_size_has_bytes_enough(size, mode):
    assert read_image_size(encode(Image.new(mode, size), compress_level=9)) == size


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.integers(1, 95),
    st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    st.integers(0, 9),
)
def test_no_jpeg_that_pillow_writes_is_refused(size, quality, subsampling, restart):
    image = Image.new("RGB", size, (250, 250, 250))
    for progressive in (False, True):
        options = {"restart_marker_blocks": restart} if restart else {}
        data = encode(
            image, "JPEG", quality=quality, subsampling=subsampling, optimize=True, progressive=progressive, **options
        )
        assert read_image_size(data) == size
        assert reason_of(data) == ""


def test_a_jpeg_with_far_too_few_bytes_is_found_without_decoding():
    data = jpeg_bytes(1, (1600, 1200))
    scan_at = data.rindex(b"\xff\xda")
    with pytest.raises(ImageError, match="partial_image: 45000 blocks of pixels take at least 11250 bytes"):
        read_image_size(data[: scan_at + 2000] + END)


def test_a_jpeg_that_lacks_restart_markers_is_found_without_decoding():
    data = jpeg_bytes(1, (400, 300), restart_marker_rows=1)
    with pytest.raises(ImageError, match="partial_image: the scan must have 18 restart markers, got"):
        read_image_size(data[: len(data) * 2 // 3] + END)


def test_a_png_with_far_too_few_bytes_is_found_without_decoding():
    small = encode(Image.new("L", (10, 10)))
    data = encode(Image.new("L", (3000, 3000)))
    header = data[:33]
    with pytest.raises(ImageError, match="partial_image"):
        read_image_size(header + small[33:])
