"""Pack samples into the tar of a shard, with its DALI index and digest.

A shard is an uncompressed POSIX ustar file: for each sample `<key>.jpg` (or `.png`, by the image's first bytes), then
`<key>.json`. Owner, mode and time are fixed, so equal samples give equal bytes. Its digest is the sha256 over the tar
with each image replaced by its own sha256 (32 bytes): it depends on every byte, yet every byte is hashed only once. The
DALI index has a line for each sample: extension, offset, size and name of both components.
"""

import hashlib
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

from shards.format.classes import sample_json
from shards.images.inspect import Extension, ImageBytes, component_extension

BLOCK_BYTES = 512
END_OF_ARCHIVE = bytes(2 * BLOCK_BYTES)
INDEX_VERSION = "v1.2"


@dataclass(slots=True)
class TarPiece:
    """Neighbouring samples as members of a tar, at any offset."""

    chunks: list[ImageBytes] = field(default_factory=list)
    """The bytes: images alternating with everything between them, so that no image is copied."""
    size_bytes: int = 0
    image_bytes: int = 0
    digested: bytes = b""
    """The bytes that enter the shard's digest."""
    samples: list["PlacedSample"] = field(default_factory=list)


class PlacedSample(NamedTuple):
    """The place of a sample in a piece."""

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
        rest = padding(len(image)) + make_member(f"{row['key']}.json", text)
        piece.samples.append(PlacedSample(row, extension, piece.size_bytes + BLOCK_BYTES, len(image), len(text)))
        piece.size_bytes += len(header) + len(image) + len(rest)
        piece.image_bytes += len(image)
        digested += (header, bytes.fromhex(row["sha256"]), rest)
    piece.chunks.append(rest)
    piece.digested = b"".join(digested)
    return piece


@dataclass(slots=True)
class TarShardWriter:
    """Writes pieces to an open file and collects the index lines and the digest."""

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
            join_index_fields(of.row["key"], of.extension, offset, of.image_bytes, of.text_bytes)
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
        """Return the DALI index of the samples written."""
        return join_index(self._index_lines)


def json_member(row: dict[str, Any]) -> bytes:
    """Return header, text and padding of `<key>.json` for a row."""
    return make_member(f"{row['key']}.json", sample_json(row))


def index_line(row: dict[str, Any], extension: Extension = "jpg") -> str:
    """Return the index line of a row: extension, offset, size and name of both components."""
    return join_index_fields(row["key"], extension, row["offset_bytes"], row["size_bytes"], len(sample_json(row)))


def join_index_fields(key: str, extension: Extension, offset: int, image_bytes: int, text_bytes: int) -> str:
    """Return the line of a sample whose image starts at `offset`."""
    text_offset = offset + image_bytes + len(padding(image_bytes)) + BLOCK_BYTES
    return f"{extension} {offset} {image_bytes} {key}.{extension} json {text_offset} {text_bytes} {key}.json"


def join_index(lines: Sequence[str]) -> bytes:
    """Return the index file with the given lines."""
    return "\n".join([f"{INDEX_VERSION} {len(lines)}", *lines, ""]).encode()


def make_header(name: str, size_bytes: int) -> bytes:
    """Return the 512 bytes that open a member, equal to those of Python's `tarfile`.

    Patches a header that `tarfile` made: building one from scratch takes 16 us, this takes 2.
    """
    name_field, size_field = name.encode(), b"%011o" % size_bytes
    # The checksum is the sum of all bytes, with its own field as spaces; the constant part is summed once.
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
    """Return the zeros that complete a member's last block."""
    return bytes(-size_bytes % BLOCK_BYTES)


def make_member(name: str, text: bytes) -> bytes:
    """Return header, content and padding of a small member."""
    return make_header(name, len(text)) + text + padding(len(text))
