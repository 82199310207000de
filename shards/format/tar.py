"""How do samples become a tar and its DALI index?

A shard is a POSIX ustar file, uncompressed: for each sample `<key>.jpg` (or `.png`, by the image's first bytes), then
`<key>.json`. Owner, mode and time are fixed, so equal samples give equal bytes. Its digest is the sha256 over the tar's
bytes in which each image stands as its own sha256 (32 bytes): it depends on every byte, yet every byte is hashed only
once.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import IO, Any, NamedTuple

import numpy as np

from shards.images.inspect import Extension, ImageBytes, component_extension

BLOCK_BYTES = 512
END_OF_ARCHIVE = bytes(2 * BLOCK_BYTES)
INDEX_VERSION = "v1.2"
MAX_KEY_BYTES = 100 - len(".json")
"""ustar holds 100 bytes of a name without a folder."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box in pixels of the image as stored, x to the right, y down."""

    class_name: str
    xmin_px: float
    ymin_px: float
    xmax_px: float
    ymax_px: float

    def to_row(self) -> dict[str, Any]:
        """Return the box with float32 coordinates, as `samples` and `<key>.json` hold it."""
        coordinates = {name: _as_float32(getattr(self, name)) for name in _COORDINATES}
        return {"class": self.class_name, **coordinates}


_COORDINATES = ("xmin_px", "ymin_px", "xmax_px", "ymax_px")


def sample_json(row: dict[str, Any]) -> bytes:
    """Return the bytes of `<key>.json` for a row of `samples`: labels and boxes for users of the tar alone."""
    boxes = [{"class": box["class"]} | {name: _as_float32(box[name]) for name in _COORDINATES} for box in row["boxes"]]
    labels_text = _encode_labels(tuple(row["labels"].items()))
    return (
        f'{{"key":{_encode(row["key"])},"width_px":{row["width_px"]},"height_px":{row["height_px"]}'
        f',"labels":{labels_text},"boxes":{_encode(boxes) if boxes else "[]"}}}'
    ).encode()


_encode = json.JSONEncoder(separators=(",", ":")).encode


@lru_cache(maxsize=4096)
def _encode_labels(labels: tuple[tuple[str, int | None], ...]) -> str:
    # A million scans have a few hundred combinations of labels, and their text is most of the work.
    return _encode(dict(labels))


def make_header(name: str, size_bytes: int) -> bytes:
    """Return the 512 bytes that open a member, equal to those of Python's `tarfile`.

    Patched into a header that `tarfile` made: building each from scratch takes 16 us, this takes 2.
    """
    name_field, size_field = name.encode(), b"%011o" % size_bytes
    # The checksum is the sum of all bytes, its own field taken as spaces; what does not change is summed once.
    checksum = _HEADER_SUM + sum(name_field) + sum(size_field)
    return b"".join(
        (
            name_field.ljust(100, b"\0"),
            _HEADER[100:124],
            size_field,
            _HEADER[135:148],
            b"%06o" % checksum,
            _HEADER[154:],
        )
    )


def _make_header_template() -> bytes:
    info = tarfile.TarInfo("")
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


_HEADER = _make_header_template()
_HEADER_SUM = sum(_HEADER[:124]) + sum(_HEADER[135:148]) + 8 * ord(" ") + sum(_HEADER[156:])


def padding(size_bytes: int) -> bytes:
    """Return the zeros that fill a member's last block."""
    return bytes(-size_bytes % BLOCK_BYTES)


@dataclass(slots=True)
class TarPiece:
    """Neighbouring samples as members of a tar, wherever in it they will stand."""

    chunks: list[ImageBytes] = field(default_factory=list)
    """The bytes: images, and in turn with them all that stands before, between and behind. No image is copied."""
    size_bytes: int = 0
    image_bytes: int = 0
    digested: bytes = b""
    """What enters the shard's digest."""
    samples: list["PlacedSample"] = field(default_factory=list)


class PlacedSample(NamedTuple):
    """Where a sample's image stands in a piece, and how long its components are."""

    row: dict[str, Any]
    extension: Extension
    offset_bytes: int
    image_bytes: int
    text_bytes: int


def pack_samples(samples: Iterable[tuple[dict[str, Any], ImageBytes]]) -> TarPiece:
    """Return the members of neighbouring samples: rows (with their sha256) and images."""
    piece = TarPiece()
    digested: list[bytes] = []
    rest = b""
    for row, image in samples:
        extension = component_extension(image)
        header = make_header(f"{row['key']}.{extension}", len(image))
        text = sample_json(row)
        piece.chunks += (rest + header, image)
        rest = padding(len(image)) + _make_member(f"{row['key']}.json", text)
        piece.samples.append(PlacedSample(row, extension, piece.size_bytes + BLOCK_BYTES, len(image), len(text)))
        piece.size_bytes += len(header) + len(image) + len(rest)
        piece.image_bytes += len(image)
        digested += (header, bytes.fromhex(row["sha256"]), rest)
    piece.chunks.append(rest)
    piece.digested = b"".join(digested)
    return piece


@dataclass(slots=True)
class TarShardWriter:
    """Writes pieces into an open file one behind the other, keeping index lines and the digest as it goes."""

    out: IO[bytes]
    size_bytes: int = 0
    image_bytes: int = 0
    _index_lines: list[str] = field(default_factory=list)
    _digest: Any = field(default_factory=hashlib.sha256)

    def write(self, piece: TarPiece) -> list[int]:
        """Append a piece; return the offset of each of its images in the tar, in bytes."""
        offsets = [self.size_bytes + sample.offset_bytes for sample in piece.samples]
        self.out.writelines(piece.chunks)
        self._digest.update(piece.digested)
        self._index_lines += [
            _join_index_fields(of.row["key"], of.extension, offset, of.image_bytes, of.text_bytes)
            for of, offset in zip(piece.samples, offsets, strict=True)
        ]
        self.size_bytes += piece.size_bytes
        self.image_bytes += piece.image_bytes
        return offsets

    def finish(self) -> str:
        """Write the end of the archive; return the digest of the shard in hex."""
        self.out.write(END_OF_ARCHIVE)
        self._digest.update(END_OF_ARCHIVE)
        self.size_bytes += len(END_OF_ARCHIVE)
        return str(self._digest.hexdigest())

    def index(self) -> bytes:
        """Return DALI's index of what was written."""
        return join_index(self._index_lines)


def index_line(row: dict[str, Any], extension: Extension = "jpg") -> str:
    """Return the line of DALI's index for a row: extension, offset, size and name of both components."""
    return _join_index_fields(row["key"], extension, row["offset_bytes"], row["size_bytes"], len(sample_json(row)))


def _join_index_fields(key: str, extension: Extension, offset: int, image_bytes: int, text_bytes: int) -> str:
    text_offset = offset + image_bytes + len(padding(image_bytes)) + BLOCK_BYTES
    return f"{extension} {offset} {image_bytes} {key}.{extension} json {text_offset} {text_bytes} {key}.json"


def join_index(lines: Sequence[str]) -> bytes:
    """Return a whole index file of the given lines."""
    return "\n".join([f"{INDEX_VERSION} {len(lines)}", *lines, ""]).encode()


def json_member(row: dict[str, Any]) -> bytes:
    """Return header, text and padding of `<key>.json` for a row."""
    return _make_member(f"{row['key']}.json", sample_json(row))


def _make_member(name: str, text: bytes) -> bytes:
    return make_header(name, len(text)) + text + padding(len(text))


def _as_float32(value: float) -> float:
    # The shortest decimal that names the float32: 17.318, not 17.31800079345703.
    return float(str(np.float32(value)))
