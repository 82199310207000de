"""Test transcoding of other formats to JPEG."""

import io

import numpy as np
import pytest
from PIL import Image

from shards.images.inspect import read_image_size
from shards.images.jpeg import ImageError
from shards.images.transcode import to_jpeg
from tests.corpora import jpeg_bytes, png_bytes


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_a_picture_keeps_its_size_and_becomes_the_same_bytes_each_time(kind):
    data = encode(opened(png_bytes(3, (64, 48))), kind)
    first = to_jpeg(data)
    assert first == to_jpeg(data)
    assert read_image_size(first) == (64, 48)
    assert opened(first).format == "JPEG"


def test_quality_and_sampling_are_those_of_the_release():
    source = opened(png_bytes(3, (64, 48)))
    assert to_jpeg(encode(source, "PNG")) == encode(source, "JPEG", quality=75, subsampling="4:2:0")


def test_transparency_is_laid_on_white():
    clear = Image.new("RGBA", (16, 16), (200, 0, 0, 0))
    half = Image.new("RGBA", (16, 16), (0, 0, 0, 128))
    assert np.asarray(opened(to_jpeg(encode(clear, "PNG")))).min() >= 254
    assert abs(int(np.asarray(opened(to_jpeg(encode(half, "PNG")))).mean()) - 127) <= 2


def test_a_colour_that_a_palette_declares_transparent_is_laid_on_white():
    image = Image.new("P", (16, 16), 0)
    image.putpalette([9, 9, 9] * 256)
    assert np.asarray(opened(to_jpeg(encode(image, "PNG", transparency=0)))).min() >= 254


def test_sixteen_bits_keep_their_upper_eight_and_grey_stays_grey():
    ramp = np.linspace(0, 65535, 16 * 16).reshape(16, 16).astype(np.uint16)
    found = opened(to_jpeg(encode(Image.fromarray(ramp), "PNG")))
    assert found.mode == "L"
    assert np.abs(np.asarray(found).astype(int) - (ramp >> 8)).max() < 24
    assert opened(to_jpeg(png_bytes(1, mode="1"))).mode == "L"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "unknown_format"),
        (b"<html>", "unknown_format"),
        (jpeg_bytes(1), "unknown_format"),
        (png_bytes(1)[:-40], "undecodable_image"),
        (b"BM" + bytes(60), "undecodable_image"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_word(data, reason):
    with pytest.raises(ImageError) as error_info:
        to_jpeg(data)
    assert error_info.value.reason == reason


def test_a_header_that_claims_too_much_is_refused_before_its_pixels_are_read():
    data = bytearray(encode(Image.new("L", (2, 2)), "BMP"))
    data[18:26] = (20_000).to_bytes(4, "little") * 2
    with pytest.raises(ImageError, match="oversized_image"):
        to_jpeg(bytes(data))
