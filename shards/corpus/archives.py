"""Read the members of a zip in place."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

from shards import storage
from shards.format.keys import decode_chinese

_UTF_8_FLAG = 0x800
_ENCRYPTED = 1000
"""In place of the method of packing."""
_METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 98: "PPMd"}
_LOCAL_HEADER = b"PK\x03\x04"
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
    """Folders are separated by slashes, whatever the zip has."""
    uri: str
    size_bytes: int
    """Unpacked, as the zip claims."""
    place: Place
    guess: str = ""
    """Encoding in which the name was read, if the zip does not say it."""


def list_zip(url: str, encoding: str = "") -> Iterator[Packed]:
    """Yield the files of a zip.

    Memory holds the zip's table of contents, 9,000 entries for the release.

    Args:
        url: of the zip.
        encoding: of the names that are not marked as UTF-8; empty: UTF-8 or GBK where they are that, else CP437.

    Raises:
        ArchiveError: it is no whole zip, e.g. a download that stopped half-way, or nearly all of it is encrypted or
            packed by a method that cannot be read.
    """
    try:
        with storage.open_reader(url) as handle, zipfile.ZipFile(handle) as archive:
            infos = [info for info in archive.infolist() if not _is_folder(info)]
            handle.seek(0)
            has_more = handle.read(len(_LOCAL_HEADER)) == _LOCAL_HEADER and 0 not in _offsets_of(archive)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        remedy = f"join its parts: zip -s 0 {url} --out whole.zip" if "span" in str(error) else "download it again"
        raise ArchiveError(f"archive must be a whole zip, got {error} ({url}); {remedy}") from error
    if has_more:
        raise ArchiveError(
            f"archive must be one zip, got another before it, whose files its table does not have ({url}); unpack both "
            f"and name the folder by --images or --annotations"
        )
    problems = [problem for info in infos if (problem := _problem_of(info.flag_bits & 1, info.compress_type))]
    if problems and 2 * len(problems) > len(infos):
        raise ArchiveError(
            f"archive must be a zip that can be read in place, got {len(problems)} of {len(infos)} files {problems[0]} "
            f"({url}); unpack it (7z x) and name the folder by --images or --annotations"
        )
    for info in infos:
        name, guess = _name_of(info, encoding, url)
        name = name or "(no name)"
        method = _ENCRYPTED if info.flag_bits & 1 else info.compress_type
        place = Place(url, info.header_offset, info.compress_size, method, info.CRC)
        yield Packed(name, f"zip://{name}::{storage.as_uri(url)}", info.file_size, place, guess)


def _offsets_of(archive: zipfile.ZipFile) -> set[int]:
    return {info.header_offset for info in archive.infolist()} or {0}


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return info.filename.endswith("/") or (info.filename.endswith("\\") and info.file_size == 0)


def _name_of(info: zipfile.ZipInfo, encoding: str, url: str) -> tuple[str, str]:
    """Return the name of a member, and the encoding that was guessed for it."""
    if info.filename.isascii() or info.flag_bits & _UTF_8_FLAG:
        return info.filename.replace("\\", "/"), ""
    try:
        raw = info.filename.encode("cp437")
    except UnicodeEncodeError:  # the zip has the name in Unicode beside it
        return info.filename.replace("\\", "/"), ""
    name, guess = _guess_name(raw)
    if encoding:
        try:
            name, guess = raw.decode(encoding), ""
        except UnicodeDecodeError as error:
            raise ArchiveError(f"names must be {encoding}, got {raw!r} ({url}); see --zip-encoding") from error
    return name.replace("\\", "/"), guess


def _guess_name(raw: bytes) -> tuple[str, str]:
    try:
        return raw.decode(), "UTF-8"
    except UnicodeDecodeError:
        text = decode_chinese(raw)
        return (text, "GBK") if text else (raw.decode("cp437"), "CP437")


def _problem_of(is_encrypted: int, method: int) -> str:
    """Return why a member cannot be read in place, in words that follow "files"; empty if it can."""
    if is_encrypted:
        return "encrypted with a password"
    if method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return ""
    return f"packed by {_METHODS.get(method, f'method {method}')}"


@contextmanager
def open_zip_member(url: str, name: str) -> Iterator[IO[bytes]]:
    """Yield one file of a zip as a stream, by its name in `list_zip`."""
    with storage.open_reader(url) as handle, zipfile.ZipFile(handle) as archive:
        info = next(info for info in archive.infolist() if _name_of(info, "", url)[0] == name)
        if problem := _problem_of(info.flag_bits & 1, info.compress_type):
            raise ArchiveError(f"a member must be stored or deflated, got one {problem} ({name} in {url}); unpack it")
        with archive.open(info) as member:
            yield member


def read_place(place: Place, limit_bytes: int) -> bytes:
    """Return the unpacked bytes at a place, at most `limit_bytes`: a small archive may hold a huge file.

    Raises:
        ArchiveError: the range does not hold what the archive's table says.
    """
    if place.method < 0:
        return storage.read_range(place.url, place.offset_bytes, min(place.size_bytes, limit_bytes))
    if problem := _problem_of(place.method == _ENCRYPTED, place.method):
        raise ArchiveError(f"a member must be stored or deflated, got one {problem} ({place.url}); unpack the archive")
    if place.offset_bytes < 0:
        raise ArchiveError(f"a member must lie in its archive, got one before its start ({place.url})")
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
    if piece[:4] != _LOCAL_HEADER or len(piece) < _LOCAL_HEADER_BYTES:
        raise ArchiveError(f"a member must begin with its header, got none ({place.url} at {place.offset_bytes})")
    start = _LOCAL_HEADER_BYTES + int.from_bytes(piece[26:28], "little") + int.from_bytes(piece[28:30], "little")
    if start + place.size_bytes > len(piece):
        return storage.read_range(place.url, place.offset_bytes + start, place.size_bytes)
    return piece[start : start + place.size_bytes]
