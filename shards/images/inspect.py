"""Recognise and check image files by their bytes, not their names."""

import re
import struct
import zlib
from typing import Literal

from shards.images.jpeg import MAX_PIXELS, ImageError, read_jpeg_size

Extension = Literal["jpg", "png"]
ImageBytes = bytes | memoryview
"""A file's bytes, possibly a view into a larger buffer."""
EXTENSIONS: tuple[Extension, ...] = ("jpg", "png")
"""Extensions of images in a tar: `<key>.jpg` or `<key>.png`."""

_JPEG_START = b"\xff\xd8"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 13
_CHUNK_EDGE_BYTES = 12
# Valid bit depths of each colour type: grey, RGB, palette, grey with alpha, RGBA.
_PNG_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}

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
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_MAX_DEFLATE_RATIO = 1032
"""258 bytes, the longest match, take at least two bits."""


def component_extension(data: ImageBytes) -> Extension:
    """Return the extension of an image in a tar.

    It depends on the bytes alone, so that a tar can be compared with its rows, which do not hold it.
    """
    return "png" if data[: len(_PNG_START)] == _PNG_START else "jpg"


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
    if data[: len(_PNG_START)] == _PNG_START:
        return _read_png_size(data)
    raise ImageError("unknown_format", _describe_other(bytes(data[:_SNIFF_BYTES])))


def _describe_other(start: bytes) -> str:
    for kind, (pattern, remedy) in _OTHERS.items():
        if pattern.match(start):
            return f"it is {kind}: {remedy}"
    return f"the file begins with {start[:8].hex(' ')}, a JPEG begins with ff d8, a PNG with 89 50 4e 47"


def _read_png_size(data: ImageBytes) -> tuple[int, int]:
    """Return the size of a PNG after checking that every chunk is complete and matches its checksum.

    Source:
        Portable Network Graphics (W3C, third edition), Sections 5 and 11.2.
    """
    size: tuple[int, int] | None = None
    num_packed = 0
    at = len(_PNG_START)
    while True:
        kind, body = _read_chunk(data, at)
        if size is None:
            size, min_bytes = _parse_header(kind, body)
        num_packed += len(body) if kind == b"IDAT" else 0
        if kind == b"IEND":
            break
        at += _CHUNK_EDGE_BYTES + len(body)
    if not num_packed:
        raise ImageError("bad_png", "there is no IDAT chunk: the picture has no pixels")
    if num_packed < min_bytes:
        detail = f"{size[0]} x {size[1]} pixels take at least {min_bytes} bytes, the file has {num_packed}"
        raise ImageError("partial_image", detail)
    return size


def _read_chunk(data: ImageBytes, at: int) -> tuple[bytes, memoryview]:
    end = len(data)
    if at + _CHUNK_EDGE_BYTES > end:
        raise ImageError("truncated_png", f"the file ends before its IEND chunk, after {end} bytes")
    (length,) = struct.unpack_from(">I", data, at)
    if at + _CHUNK_EDGE_BYTES + length > end:
        raise ImageError("truncated_png", f"the chunk at byte {at} claims {length} bytes, the file has {end}")
    view = memoryview(data)
    (expected,) = struct.unpack_from(">I", data, at + 8 + length)
    if zlib.crc32(view[at + 4 : at + 8 + length]) != expected:
        raise ImageError("bad_png", f"the chunk at byte {at} is not what its checksum says")
    return bytes(view[at + 4 : at + 8]), view[at + 8 : at + 8 + length]


def _parse_header(kind: bytes, body: memoryview) -> tuple[tuple[int, int], int]:
    """Return the size, and the fewest bytes that its pixels can be packed in."""
    if kind != b"IHDR" or len(body) != _HEADER_BYTES:
        raise ImageError("bad_png", f"the first chunk is {kind!r} of {len(body)} bytes, expected IHDR of 13")
    width, height, depth, colour = struct.unpack_from(">IIBB", body)
    if width == 0 or height == 0 or depth not in _PNG_DEPTHS.get(colour, ()):
        raise ImageError(
            "bad_png", f"the header claims {width} x {height} pixels of {depth} bits and colour type {colour}"
        )
    if width * height > MAX_PIXELS:
        raise ImageError(
            "oversized_image", f"the header claims {width} x {height} pixels, at most {MAX_PIXELS} are read"
        )
    num_bytes = height * (width * depth * _PNG_CHANNELS[colour] // 8)
    return (width, height), num_bytes // _MAX_DEFLATE_RATIO
