"""Read tars as one stream, plain or compressed, whole or split into parts."""

import bz2
import gzip
import io
import lzma
import posixpath
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import pyarrow as pa

from shards import storage
from shards.corpus.archives import ArchiveError
from shards.format.tar import BLOCK_BYTES

_PIECE_BYTES = 1024 * 1024
TAR_NAME = re.compile(
    r"(?P<base>.+\.(?:tar(?:\.(?:gz|bz2|xz|zst))?|tgz|tbz2?|txz|tzst))"
    r"(?P<part>[._-]?(?:part)?[._-]?(?:\d{1,4}|[a-z]{2}|a[a-z]{2}))?",
    re.IGNORECASE,
)
"""Name of a tar, or of a part of one as `split` and others number it: 00, .001, aa, .part00."""
_FROM_ONE = re.compile(r"\D*001|\D*part\D*0*1|\D*1", re.IGNORECASE)
"""First part of those that programs count from 1, not 0: .001, .part1, _part_01, .1."""
_NO_PART = re.compile(r"\.(gz|bz|xz|zst|lz|lzo|br|sig|asc|md|sha|txt|log|idx|bak|tmp|old|csv|xml)", re.IGNORECASE)


def split_tar_name(name: str) -> tuple[str, str] | None:
    """Return the name of a whole tar and the suffix of the part, empty for a whole one; None for another file."""
    match = TAR_NAME.fullmatch(name)
    if match is None or _NO_PART.fullmatch(match["part"] or ""):
        return None
    return match["base"], match["part"] or ""


def check_parts(urls: Sequence[str]) -> tuple[str, ...]:
    """Return the files of a split tar in order; ValueError if one in the middle is missing."""
    suffixes = {url: (split_tar_name(storage.base_name(url)) or ("", url[-2:]))[1] for url in urls}
    if set(suffixes.values()) == {""}:
        return tuple(urls)
    ordered = sorted(urls, key=lambda url: (len(suffixes[url]), suffixes[url]))
    numbers = [_number_of(suffixes[url]) for url in ordered]
    present = {number for number in numbers if number is not None}
    first = 1 if _FROM_ONE.fullmatch(suffixes[ordered[0]]) else 0
    missing = [f"{number:02d}" for number in range(first, max(present, default=0) + 1) if number not in present]
    if missing or len(present) != len(ordered):
        raise ValueError(
            f"parts of a split archive must be numbered from 00 without a gap, got none numbered "
            f"{', '.join(missing) or '(some without a number)'} beside {ordered[-1]}; download what is missing"
        )
    return tuple(ordered)


def _number_of(suffix: str) -> int | None:
    """Return the number of a part from its suffix: digits, or letters as `split` counts: aa, ab, …, ba."""
    letters = re.sub("^[._-]?(part)?[._-]?", "", suffix.lower())
    if letters.isdigit():
        return int(letters)
    if not letters.isalpha():
        return None
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("a")
    return number


class TarMember(NamedTuple):
    """A member of a tar that is read as a stream; `data` must be read before the next member is."""

    name: str
    size_bytes: int
    """-1 for a link or another thing that is no file."""
    data: IO[bytes] | None
    archive: str = ""
    """The last file of the archive, for messages."""
    link: str = ""
    """Of a link: the name of the member that it stands for."""


def stream_tar(parts: Sequence[str]) -> Iterator[TarMember]:
    """Yield the members of a tar, plain or compressed, that may be split into several files.

    Tars that follow each other are read as one: two that were joined, or whole ones that are numbered like parts.

    Raises:
        ArchiveError: the stream ends early or is damaged; the members yielded before are sound.
    """
    last = ""
    with (
        _as_archive_error(lambda: f"behind {last or 'its start'!r} ({parts[-1]})"),
        _JoinedFiles(parts) as joined,
        io.BufferedReader(joined, 1024 * 1024) as buffered,
        _unpacked(buffered) as plain,
    ):
        stream: Any = _Blocks(plain)
        while True:
            # Whole blocks are asked for, so that nothing behind the end of this tar is read with it.
            tar = tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK_BYTES, tarinfo=_WatchedInfo)  # noqa: SIM115
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # else a million of them stay in memory
                last = member.name
                if not member.isdir():
                    data = tar.extractfile(member) if member.isreg() else None
                    size = member.size if data is not None else -1
                    yield TarMember(member.name, size, data, parts[-1], _target_of(member))
            _check_end(tar)
            if not stream.skip_zeros():
                return


def _target_of(member: tarfile.TarInfo) -> str:
    if member.issym():
        return posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
    return member.linkname if member.islnk() else ""


class _Blocks:
    """A stream that can be read on behind the end of a tar."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._rest = io.BytesIO()
        """Read already by `skip_zeros`."""

    def read(self, size: int) -> bytes:
        data: bytes = self._rest.read(size) or self._stream.read(size)
        return data

    def skip_zeros(self) -> bool:
        """Read on to the next block that is not all zeros; return whether there is one. Reads a checksum at the end."""
        while piece := self.read(_PIECE_BYTES):
            num_zeros = len(piece) - len(piece.lstrip(b"\0"))
            if num_zeros < len(piece):
                start = num_zeros // BLOCK_BYTES * BLOCK_BYTES
                self._rest = io.BytesIO(piece[start:] + self._rest.read())
                return True
        return False


def read_pieces(member: TarMember) -> Iterator[bytes]:
    """Yield the bytes of a file in a stream, a piece at a time; ArchiveError if the stream ends within it."""
    with _as_archive_error(lambda: f"in {member.name!r} ({member.archive})"):
        while piece := member.data.read(_PIECE_BYTES) if member.data is not None else b"":
            yield piece


@contextmanager
def _as_archive_error(where: Callable[[], str]) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile) and error.errno is not None:
            raise  # of the disk or store
        raise ArchiveError(f"archive must be a whole tar, got {error} {where()}; download it again") from error


def _unpacked(stream: Any) -> Any:
    # tarfile's own "r|gz" takes a stream that was cut off for one that ended.
    start = stream.peek(6)[:6]
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stream)
    if start.startswith(b"BZh"):
        return bz2.BZ2File(stream)
    if start.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(stream)
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return pa.input_stream(pa.PythonFile(stream, mode="r"), compression="zstd")
    return stream


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
