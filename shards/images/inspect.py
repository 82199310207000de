"""Recognise and check image files by their bytes, not their names."""

import re
from typing import Literal

from shards.images.jpeg import ImageError, read_jpeg_size
from shards.images.png import PNG_START, read_png_size

Extension = Literal["jpg", "png"]
ImageBytes = bytes | memoryview
"""A file's bytes, possibly a view into a larger buffer."""
EXTENSIONS: tuple[Extension, ...] = ("jpg", "png")
"""Extensions of images in a tar: `<key>.jpg` or `<key>.png`."""

_JPEG_START = b"\xff\xd8"
_SNIFF_BYTES = 264
_OTHERS = {
    "an archive": (
        re.compile(
            rb"PK\x03\x04|PK\x05\x06|Rar!|7z\xbc\xaf|\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar", re.DOTALL
        ),
        "unpack it where it lies",
    ),
    "DICOM": (re.compile(rb".{128}DICM", re.DOTALL), "export its pixels as PNG"),
    "a picture of another format": (
        re.compile(rb"GIF8|BM|II\*\0|MM\0\*|RIFF.{4}WEBP|.{4}ftyp(?:avif|heic|mif1)|\0\0\0\x0cjP|\xff\x0a", re.DOTALL),
        "--transcode makes a JPEG of BMP, TIFF, WebP and GIF",
    ),
    "a text": (re.compile(rb"\s*[<{\[]"), "it may be an annotation, or the page of a download that failed"),
}
"""What else a file may be by its first bytes, and what to do about it."""


def component_extension(data: ImageBytes) -> Extension:
    """Return the extension of an image in a tar.

    It depends on the bytes alone, so that a tar can be compared with its rows, which do not hold it.
    """
    return "png" if data[: len(PNG_START)] == PNG_START else "jpg"


def is_jpeg(data: ImageBytes) -> bool:
    """Return whether these bytes begin like a JPEG."""
    return data[: len(_JPEG_START)] == _JPEG_START


def read_image_size(data: ImageBytes) -> tuple[int, int]:
    """Return (width, height) in pixels of a complete JPEG or PNG, without decoding.

    Raises:
        ImageError: empty_file, unknown_format, oversized_image, or truncated_ or bad_ with jpeg or png.
    """
    if not data:
        raise ImageError("empty_file", "the file has 0 bytes")
    if is_jpeg(data):
        return read_jpeg_size(data)
    if data[: len(PNG_START)] == PNG_START:
        return read_png_size(data)
    raise ImageError("unknown_format", _describe_other(bytes(data[:_SNIFF_BYTES])))


def _describe_other(start: bytes) -> str:
    for kind, (pattern, remedy) in _OTHERS.items():
        if pattern.match(start):
            return f"it is {kind}: {remedy}"
    return f"the file begins with {start[:8].hex(' ')}, a JPEG begins with ff d8, a PNG with 89 50 4e 47"
