"""Check that a JPEG is complete and read its size from the markers, without decoding."""

import re
import struct
from typing import NamedTuple

MAX_PIXELS = 100_000_000
"""Largest accepted image. SIXray's largest has 3 million pixels; a larger header is an attack on memory."""
_START_OF_IMAGE = b"\xff\xd8"
_END_OF_IMAGE = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_QUANTISATION_TABLES, _HUFFMAN_TABLES, _RESTART_INTERVAL = 0xDB, 0xC4, 0xDD
_UNSUPPORTED = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "lossless"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "hierarchical"),
    **dict.fromkeys((0xC9, 0xCA), "arithmetic"),
}
"""By frame marker; what is left is baseline, extended (of 8 bits) and progressive, each with Huffman codes."""
_PROGRESSIVE = 0xC2
_FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_STANDALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
_FRAME_BYTES = 8
# Inside a scan ff 00 is a data byte, ff d0 to ff d7 restart it, ff ff fills.
_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")


class ImageError(ValueError):
    """An image that cannot become a sample; `reason` is the fixed word of its quarantine row."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class _Frame(NamedTuple):
    marker: int
    bits: int
    width: int
    height: int
    sampling: bytes
    """A byte a component: horizontal, then vertical factor."""
    has_tables: bool = False


def read_jpeg_size(data: bytes | memoryview) -> tuple[int, int]:
    """Return (width, height) in pixels of a complete JPEG.

    Complete means: the markers can be walked from the start to the first scan, a frame gives the size, an end marker
    follows the scan (bytes after it are allowed), and the scan has no fewer bytes and restart markers than the size
    demands. Damage inside the compressed data is not detected, nor is a file cut right after an ff d9 inside a comment
    that follows the scan: walking the segments after the scan takes ten times as long as the rest, so it is done only
    for files that do not end with the end marker.

    Raises:
        ImageError: empty_file, not_jpeg, truncated_jpeg, bad_jpeg, unsupported_jpeg, partial_image or oversized_image.

    Source:
        ITU-T T.81, Annex B.
    """
    if not data:
        raise ImageError("empty_file", "the file has 0 bytes")
    if data[:2] != _START_OF_IMAGE:
        raise ImageError("not_jpeg", f"the file begins with {data[:8].hex(' ')}, a JPEG begins with ff d8")
    try:
        frame, scan_at, interval = _walk_to_scan(data)
    except (IndexError, struct.error) as error:
        raise ImageError("truncated_jpeg", f"the file ends in its header, after {len(data)} bytes") from error
    if data[max(scan_at, len(data) - 2) :] != _END_OF_IMAGE and not _has_end_marker(data, scan_at):
        raise ImageError("truncated_jpeg", f"no end marker behind the scan, in {len(data)} bytes")
    size = _check_size((frame.width, frame.height))
    _check_kind(frame)
    _check_scan(data, frame, scan_at, interval)
    return size


def _check_kind(frame: _Frame) -> None:
    """Raise ImageError unless every decoder reads such a JPEG: of 8 bits, with its tables, with Huffman codes."""
    if kind := _UNSUPPORTED.get(frame.marker):
        raise ImageError("unsupported_jpeg", f"it is {kind}, expected baseline or progressive with Huffman codes")
    if frame.bits != 8:
        raise ImageError("unsupported_jpeg", f"it has {frame.bits} bits a sample, expected 8")
    if not frame.has_tables:
        raise ImageError("unsupported_jpeg", "there are no quantisation or Huffman tables before the scan")
    if not frame.sampling or not all(factor >> 4 and factor & 15 for factor in frame.sampling):
        raise ImageError("bad_jpeg", f"the components have the sampling factors {frame.sampling.hex(' ')}")


def _check_scan(data: bytes | memoryview, frame: _Frame, scan_at: int, interval: int) -> None:
    """Raise ImageError if the compressed data is too short for the size, however little there is to see.

    A block takes at least one bit for its mean, and in a sequential frame one for the end of its other coefficients.
    """
    factors = [(factor >> 4, factor & 15) for factor in frame.sampling]
    most_x, most_y = max(x for x, _ in factors), max(y for _, y in factors)
    num_blocks = sum(-(-frame.width * x // (8 * most_x)) * -(-frame.height * y // (8 * most_y)) for x, y in factors)
    min_bytes = num_blocks * (1 if frame.marker == _PROGRESSIVE else 2) // 8
    if len(data) - scan_at < min_bytes:
        detail = f"{num_blocks} blocks of pixels take at least {min_bytes} bytes, the file has {len(data) - scan_at}"
        raise ImageError("partial_image", detail)
    if interval and frame.marker != _PROGRESSIVE and data[scan_at - 4 - 2 * len(factors)] == len(factors):
        num_units = -(-frame.width // (8 * most_x)) * -(-frame.height // (8 * most_y))
        num_expected = -(-num_units // interval) - 1
        if len(factors) > 1 and (found := len(_RESTART.findall(data, scan_at))) < num_expected:
            raise ImageError("partial_image", f"the scan must have {num_expected} restart markers, got {found}")


def _has_end_marker(data: bytes | memoryview, scan_at: int) -> bool:
    at = scan_at
    while (found := _MARKER_AFTER_SCAN.search(data, at)) is not None:
        marker_at = found.start()
        if data[marker_at + 1] == _END_OF_IMAGE[1]:
            return True
        # Skip a segment between or after scans, such as a comment: an ff d9 inside it is not the end marker.
        segment_bytes = int.from_bytes(data[marker_at + 2 : marker_at + 4], "big")
        at = marker_at + 2 + segment_bytes
    return False


def _walk_to_scan(data: bytes | memoryview) -> tuple[_Frame, int, int]:
    """Return the frame, where the data of the first scan begins, and the restart interval."""
    frame: _Frame | None = None
    interval = 0
    tables = set()
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
            frame = _parse_frame(data, at, marker)
        elif marker in (_QUANTISATION_TABLES, _HUFFMAN_TABLES):
            tables.add(marker)
        elif marker == _RESTART_INTERVAL:
            (interval,) = struct.unpack_from(">H", data, at + 4)
        elif marker == _START_OF_SCAN:
            if frame is None:
                raise ImageError("bad_jpeg", "the scan comes before any frame header")
            return frame._replace(has_tables=len(tables) == 2), at + 2 + length, interval
        at += 2 + length


def _parse_frame(data: bytes | memoryview, at: int, marker: int) -> _Frame:
    bits, height, width, num_components = struct.unpack_from(">BHHB", data, at + 4)
    sampling = bytes(data[at + 11 : at + 10 + 3 * num_components : 3])
    if len(sampling) < num_components:
        raise IndexError
    return _Frame(marker, bits, width, height, sampling)


def _check_size(size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    if width == 0 or height == 0:
        raise ImageError("bad_jpeg", f"the header claims {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise ImageError(
            "oversized_image", f"the header claims {width} x {height} pixels, at most {MAX_PIXELS} are read"
        )
    return size
