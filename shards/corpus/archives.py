"""Read the archives of a release in place: zips by member, split tars as one stream."""

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

from shards import storage
from shards.format.ustar import BLOCK_BYTES

_PIECE_BYTES = 1024 * 1024
_LOCAL_HEADER_BYTES = 30
_HEADER_SLACK_BYTES = 512
"""Read in the same request as a member: its name and extra fields precede its data."""


class ArchiveError(ValueError):
    """An archive, or a member of one, that cannot be read to its end."""


class Place(NamedTuple):
    """The range of a file that holds the bytes of a packed file."""

    url: str
    offset_bytes: int
    size_bytes: int
    """As packed."""
    method: int = -1
    """Of a zip: 0 stored, 8 deflated, after a local header; -1: plain bytes."""
    crc: int = 0


class Packed(NamedTuple):
    """A file within a zip."""

    name: str
    uri: str
    size_bytes: int
    """Unpacked, as the zip claims."""
    place: Place


def list_zip(url: str) -> Iterator[Packed]:
    """Yield the files of a zip; ArchiveError if it is none, e.g. a download that stopped half-way.

    Memory holds the zip's table of contents, 9,000 entries for the release.
    """
    try:
        with storage.open_reader(url) as handle, zipfile.ZipFile(handle) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    place = Place(url, info.header_offset, info.compress_size, info.compress_type, info.CRC)
                    uri = f"zip://{info.filename}::{storage.as_uri(url)}"
                    yield Packed(info.filename, uri, info.file_size, place)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise ArchiveError(f"archive must be a whole zip, got {error} ({url}); download it again") from error


@contextmanager
def open_zip_member(url: str, name: str) -> Iterator[IO[bytes]]:
    """Yield one file of a zip as a stream."""
    with storage.open_reader(url) as handle, zipfile.ZipFile(handle) as archive, archive.open(name) as member:
        yield member


def read_place(place: Place, limit_bytes: int) -> bytes:
    """Return the unpacked bytes at a place, at most `limit_bytes`: a small archive may hold a huge file.

    Raises:
        ArchiveError: the range does not hold what the archive's table says.
    """
    if place.method < 0:
        return storage.read_range(place.url, place.offset_bytes, min(place.size_bytes, limit_bytes))
    if place.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(f"a member must be stored or deflated, got method {place.method} ({place.url})")
    packed = _read_member(place)
    if place.method == zipfile.ZIP_STORED:
        data = packed[:limit_bytes]
    else:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, limit_bytes)
        except zlib.error as error:
            raise ArchiveError(f"a member must be whole, got {error} ({place.url} at {place.offset_bytes})") from error
    if len(data) < limit_bytes and zlib.crc32(data) != place.crc:
        raise ArchiveError(f"a member must have the bytes of its checksum, got others ({place.url})")
    return data


def _read_member(place: Place) -> bytes:
    piece = storage.read_range(
        place.url, place.offset_bytes, _LOCAL_HEADER_BYTES + _HEADER_SLACK_BYTES + place.size_bytes
    )
    if piece[:4] != b"PK\x03\x04" or len(piece) < _LOCAL_HEADER_BYTES:
        raise ArchiveError(f"a member must begin with its header, got none ({place.url} at {place.offset_bytes})")
    start = _LOCAL_HEADER_BYTES + int.from_bytes(piece[26:28], "little") + int.from_bytes(piece[28:30], "little")
    if start + place.size_bytes > len(piece):
        return storage.read_range(place.url, place.offset_bytes + start, place.size_bytes)
    return piece[start : start + place.size_bytes]


def check_parts(urls: Sequence[str]) -> tuple[str, ...]:
    """Return the files of a split tar in order; ValueError if one in the middle is missing."""
    ordered = sorted(urls)
    if len(ordered) > 1 or ordered[0][-2:].isdigit():
        present = {int(url[-2:]) for url in ordered if url[-2:].isdigit()}
        missing = [f"{number:02d}" for number in range(max(present, default=0) + 1) if number not in present]
        if missing or len(present) != len(ordered):
            raise ValueError(
                f"parts of a split archive must be numbered from 00 without a gap, got none numbered "
                f"{', '.join(missing) or '(some without a number)'} beside {ordered[-1]}; download what is missing"
            )
    return tuple(ordered)


class TarMember(NamedTuple):
    """A member of a tar that is read as a stream; `data` must be read before the next member is."""

    name: str
    size_bytes: int
    """-1 for a link or another thing that is no file."""
    data: IO[bytes] | None
    archive: str = ""
    """The last file of the archive, for messages."""


def stream_tar(parts: Sequence[str]) -> Iterator[TarMember]:
    """Yield the members of a tar, plain or gzipped, that may be split into several files.

    Raises:
        ArchiveError: the stream ends early or is damaged; the members yielded before are sound.
    """
    last = ""
    with (
        _as_archive_error(lambda: f"behind {last or 'its start'!r} ({parts[-1]})"),
        _JoinedFiles(parts) as joined,
        io.BufferedReader(joined, 1024 * 1024) as buffered,
        _gunzipped(buffered) as plain,
        tarfile.open(fileobj=plain, mode="r|", tarinfo=_WatchedInfo) as tar,
    ):
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # else a million of them stay in memory
            last = member.name
            if not member.isdir():
                data = tar.extractfile(member) if member.isreg() else None
                yield TarMember(member.name, member.size if data is not None else -1, data, parts[-1])
        _check_end(tar)
        plain.read(BLOCK_BYTES)  # makes gzip check the checksum at its end


def read_pieces(member: TarMember) -> Iterator[bytes]:
    """Yield the bytes of a file in a stream, a piece at a time; ArchiveError if the stream ends within it."""
    with _as_archive_error(lambda: f"in {member.name!r} ({member.archive})"):
        while piece := member.data.read(_PIECE_BYTES) if member.data is not None else b"":
            yield piece


@contextmanager
def _as_archive_error(where: Callable[[], str]) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ArchiveError(f"archive must be a whole tar, got {error} {where()}; download it again") from error


def _gunzipped(stream: Any) -> Any:
    # Not tarfile's own "r|gz": it takes a stream that was cut for one that ended.
    is_gzip = stream.peek(2)[:2] == b"\x1f\x8b"
    return gzip.GzipFile(fileobj=stream) if is_gzip else stream


class _WatchedInfo(tarfile.TarInfo):
    """Records how the headers of a tar ended: tarfile takes garbage or nothing behind a member for its end."""

    @classmethod
    def fromtarfile(cls, tarfile_: Any) -> "_WatchedInfo":
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            tarfile_.header_error = error
            raise


def _check_end(tar: tarfile.TarFile) -> None:
    error = getattr(tar, "header_error", None)
    if type(error).__name__ != "EOFHeaderError":  # two blocks of zeros
        raise tarfile.ReadError(f"no end mark ({error})")


class _JoinedFiles(io.RawIOBase):
    """Several files read as one."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = list(urls)
        self._handle: IO[bytes] | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            if self._handle is None:
                if not self._urls:
                    return 0
                self._handle = storage.open_reader(self._urls.pop(0))
            data = self._handle.read(len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
            self._handle.close()
            self._handle = None

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()
        super().close()
