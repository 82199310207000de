"""Check PNG files by their chunks, and that their pixels are all there."""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from shards.images.jpeg import MAX_PIXELS, ImageError

PNG_START = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 13
_CHUNK_EDGE_BYTES = 12
# Valid bit depths of each colour type: grey, RGB, palette, grey with alpha, RGBA.
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_MAX_DEFLATE_RATIO = 1032
"""258 bytes, the longest match, take at least two bits."""
_PIECE_BYTES = 1024 * 1024
_WHOLE = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of each pass: first column, first row, and steps from one to the next."""


class _Header(NamedTuple):
    width: int
    height: int
    bits_per_pixel: int
    is_interlaced: bool

    @property
    def num_bytes(self) -> int:
        """Of the pixels with the byte of the filter that each row begins with, before they are packed."""
        total = 0
        for left, top, across, down in _ADAM7 if self.is_interlaced else _WHOLE:
            columns, rows = -(-(self.width - left) // across), -(-(self.height - top) // down)
            total += rows * (1 + -(-columns * self.bits_per_pixel // 8)) if columns > 0 and rows > 0 else 0
        return total


def read_png_size(data: bytes | memoryview) -> tuple[int, int]:
    """Return the size of a PNG after checking that every chunk is complete and matches its checksum.

    Raises:
        ImageError: truncated_png, bad_png, oversized_image, or partial_image if it has too few bytes for its size.

    Source:
        Portable Network Graphics (W3C, third edition), Sections 5 and 11.2.
    """
    chunks = _chunks(data)
    header = _parse_header(*next(chunks))
    num_packed = sum(len(body) for kind, body in chunks if kind == b"IDAT")
    min_bytes = header.num_bytes // _MAX_DEFLATE_RATIO
    if not num_packed:
        raise ImageError("bad_png", "there is no IDAT chunk: the picture has no pixels")
    if num_packed < min_bytes:
        detail = f"{header.width} x {header.height} pixels take at least {min_bytes} bytes, the file has {num_packed}"
        raise ImageError("partial_image", detail)
    return header.width, header.height


def check_png_pixels(data: bytes | memoryview) -> None:
    """Unpack the pixels of a PNG, and raise ImageError (partial_image) if there are fewer than its header says.

    Pillow takes a stream that ends after some of the rows for a whole one, and leaves the rest black.
    """
    chunks = _chunks(data)
    header = _parse_header(*next(chunks))
    num_bytes = header.num_bytes
    stream = zlib.decompressobj()
    num_found = 0
    try:
        for kind, body in chunks:
            rest: bytes | memoryview = body if kind == b"IDAT" else b""
            while rest and num_found < num_bytes and not stream.eof:
                num_found += len(stream.decompress(rest, _PIECE_BYTES))
                rest = stream.unconsumed_tail
        num_found += len(stream.flush())
    except zlib.error as error:
        raise ImageError("undecodable_image", f"its pixels cannot be unpacked: {error}") from error
    if num_found < num_bytes:
        raise ImageError("partial_image", f"its pixels take {num_bytes} bytes, the file has {num_found}")


def _chunks(data: bytes | memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield kind and body of each chunk."""
    at = len(PNG_START)
    while True:
        kind, body = _read_chunk(data, at)
        yield kind, body
        if kind == b"IEND":
            return
        at += _CHUNK_EDGE_BYTES + len(body)


def _read_chunk(data: bytes | memoryview, at: int) -> tuple[bytes, memoryview]:
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


def _parse_header(kind: bytes, body: memoryview) -> _Header:
    if kind != b"IHDR" or len(body) != _HEADER_BYTES:
        raise ImageError("bad_png", f"the first chunk is {kind!r} of {len(body)} bytes, expected IHDR of 13")
    width, height, depth, colour, _, _, interlace = struct.unpack_from(">IIBBBBB", body)
    if width == 0 or height == 0 or depth not in _DEPTHS.get(colour, ()):
        raise ImageError(
            "bad_png", f"the header claims {width} x {height} pixels of {depth} bits and colour type {colour}"
        )
    if width * height > MAX_PIXELS:
        raise ImageError(
            "oversized_image", f"the header claims {width} x {height} pixels, at most {MAX_PIXELS} are read"
        )
    return _Header(width, height, depth * _CHANNELS[colour], interlace == 1)
