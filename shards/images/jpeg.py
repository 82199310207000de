"""Check that a JPEG is complete and read its size from the markers, without decoding."""

import re
import struct

from shards.images.errors import MAX_PIXELS, ImageError

_START_OF_IMAGE = b"\xff\xd8"
_END_OF_IMAGE = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_STANDALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
_FRAME_BYTES = 8
# Inside a scan ff 00 is a data byte, ff d0 to ff d7 restart it, ff ff fills.
_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def read_jpeg_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) in pixels of a complete JPEG.

    Complete means: the markers can be walked from the start to the first scan, a frame gives the size, and an end
    marker follows the scan (bytes after it are allowed). Damage inside the compressed data is not detected, nor is a
    file cut right after an ff d9 inside a comment that follows the scan: walking the segments after the scan takes ten
    times as long as the rest, so it is done only for files that do not end with the end marker.

    Raises:
        ImageError: empty_file, not_jpeg, truncated_jpeg, bad_jpeg or oversized_image.

    Source:
        ITU-T T.81, Annex B.
    """
    if not data:
        raise ImageError("empty_file", "the file has 0 bytes")
    if data[:2] != _START_OF_IMAGE:
        raise ImageError("not_jpeg", f"the file begins with {data[:8].hex(' ')}, a JPEG begins with ff d8")
    try:
        size, scan_at = _walk_to_scan(data)
    except (IndexError, struct.error) as error:
        raise ImageError("truncated_jpeg", f"the file ends in its header, after {len(data)} bytes") from error
    if not (data.endswith(_END_OF_IMAGE, scan_at) or _has_end_marker(data, scan_at)):
        raise ImageError("truncated_jpeg", f"no end marker behind the scan, in {len(data)} bytes")
    return _check_size(size)


def _has_end_marker(data: bytes, scan_at: int) -> bool:
    at = scan_at
    while (found := _MARKER_AFTER_SCAN.search(data, at)) is not None:
        marker_at = found.start()
        if data[marker_at + 1] == _END_OF_IMAGE[1]:
            return True
        # Skip a segment between or after scans, such as a comment: an ff d9 inside it is not the end marker.
        segment_bytes = int.from_bytes(data[marker_at + 2 : marker_at + 4], "big")
        at = marker_at + 2 + segment_bytes
    return False


def _walk_to_scan(data: bytes) -> tuple[tuple[int, int], int]:
    size: tuple[int, int] | None = None
    at = 2
    while True:
        if data[at] != 0xFF:
            raise ImageError("bad_jpeg", f"byte {at} is {data[at]:#04x}, expected a marker")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _STANDALONE_MARKERS:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if length < (_FRAME_BYTES if marker in _FRAME_MARKERS else 2) or marker == 0xD9:
            raise ImageError("bad_jpeg", f"marker {marker:#04x} at byte {at} has length {length}")
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = (width, height)
        if marker == _START_OF_SCAN:
            if size is None:
                raise ImageError("bad_jpeg", "the scan comes before any frame header")
            return size, at + 2 + length
        at += 2 + length


def _check_size(size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    if width == 0 or height == 0:
        raise ImageError("bad_jpeg", f"the header claims {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise ImageError(
            "oversized_image", f"the header claims {width} x {height} pixels, at most {MAX_PIXELS} are read"
        )
    return size
