"""Spool the images of a streamed archive to files, so that each can be read by offset.

A split tar.gz can only be read from its start, while a shard takes its scans in the order of their hashes. So the
stream is read once and its images are appended to segments below the drafts of the output. Each segment is renamed
into place and has a table of its images. A stopped run starts the stream again unless it was spooled to its end.
Finishing the dataset removes the segments.
"""

import hashlib
import json
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from shards import storage
from shards.corpus.archives import ArchiveError, Place
from shards.corpus.streams.tars import TarMember, read_pieces, stream_tar
from shards.format.parquet import read_parquet, write_parquet

SPOOL_NAME = r"spool-[0-9a-f]{16}(\.json|-\d{5,}\.(bin|parquet))"
"""Pattern of the names of a spool's files."""
SEGMENT_BYTES = 1024**3
"""Images in one segment, about."""

_SCHEMA = pa.schema(
    [("name", pa.binary()), ("offset_bytes", pa.int64()), ("size_bytes", pa.int64()), ("link", pa.binary())]
)
_MAX_LINKS = 8
"""Of a chain: a link to a link to a file."""


class Spooled(NamedTuple):
    """An image of the stream."""

    name: str
    """Within the archive."""
    size_bytes: int
    """-1 for a link or another thing that is no file."""
    place: Place | None
    """None if its bytes were not kept: it is no file, or larger than an image may be."""


@dataclass(frozen=True, slots=True)
class Spool:
    """The images of a stream, and the problem at its end if there is one."""

    drafts_url: str
    name: str
    num_segments: int
    problem: str

    def images(self) -> Iterator[Spooled]:
        """Yield all images, links as the files that they stand for.

        Memory holds the table of one segment at a time, and all links.
        """
        links = {posixpath.normpath(name): target for name, target, _ in self._rows(only_links=True)}
        targets = {_resolve(target, links) for target in links.values()}
        found: dict[str, Spooled] = {}
        for name, target, image in self._rows():
            if not target:
                yield image
            if image.size_bytes >= 0 and targets and (path := posixpath.normpath(name)) in targets:
                found[path] = image
        for name, target, image in self._rows(only_links=True) if links else ():
            yield found.get(_resolve(target, links), image)._replace(name=name)

    def _rows(self, *, only_links: bool = False) -> Iterator[tuple[str, str, Spooled]]:
        """Yield name, name of the target if it is a link, and image of each member."""
        for number in range(self.num_segments):
            url = _segment_url(self.drafts_url, self.name, number)
            table = read_parquet(f"{url}.parquet")
            if only_links:
                has_links = "link" in table.column_names  # not in what an older release spooled
                table = table.filter(pc.is_valid(table["link"])) if has_links else table.slice(0, 0)
            for row in table.to_pylist():
                name, offset, size = os.fsdecode(row["name"]), row["offset_bytes"], row["size_bytes"]
                place = Place(f"{url}.bin", offset, size) if offset >= 0 else None
                yield name, os.fsdecode(row.get("link") or b""), Spooled(name, size, place)


def _resolve(target: str, links: Mapping[str, str]) -> str:
    for _ in range(_MAX_LINKS):
        target = posixpath.normpath(target)
        if target not in links:
            break
        target = links[target]
    return target


def spool_stream(parts: Sequence[str], drafts_url: str, max_image_bytes: int) -> Spool:
    """Spool the images of a split tar, unless an earlier run spooled all of them."""
    name = f"spool-{_identify(parts)}"
    done_url = storage.join_url(drafts_url, f"{name}.json")
    done = _read_done(drafts_url, name, done_url)
    if done is None:
        done = _write_segments(parts, drafts_url, name, max_image_bytes)
        storage.write_bytes(done_url, json.dumps(done).encode())
    return Spool(drafts_url, name, len(done["sizes"]), done["problem"])


def _identify(parts: Sequence[str]) -> str:
    """Return a name that changes with the archives: a hash of their names, sizes and versions."""
    digest = hashlib.sha256()
    for part in parts:
        fs, inner = storage.filesystem(part)
        path = storage.local_path(part)
        version = f"{path.stat().st_size} {path.stat().st_mtime_ns}" if path is not None else fs.ukey(inner)
        digest.update(f"{part}\n{version}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _read_done(drafts_url: str, name: str, done_url: str) -> dict[str, Any] | None:
    if not storage.exists(done_url):
        return None
    done: dict[str, Any] = json.loads(storage.read_bytes(done_url))
    for number, size_bytes in enumerate(done["sizes"]):
        url = _segment_url(drafts_url, name, number)
        if not storage.exists(f"{url}.parquet") or _size_of(f"{url}.bin") != size_bytes:
            return None
    return done


def _size_of(url: str) -> int:
    fs, inner = storage.filesystem(url)
    return int(fs.info(inner)["size"]) if fs.exists(inner) else -1


def _write_segments(parts: Sequence[str], drafts_url: str, name: str, max_image_bytes: int) -> dict[str, Any]:
    sizes: list[int] = []
    stream = _Members(parts)
    while not stream.is_done:
        url = _segment_url(drafts_url, name, len(sizes))
        with storage.atomic_writer(f"{url}.bin") as out:
            rows = _write_segment(stream, out, max_image_bytes)
            sizes.append(out.tell())
        write_parquet(f"{url}.parquet", pa.Table.from_pylist(rows, schema=_SCHEMA))
    return {"sizes": sizes, "problem": stream.problem}


def _write_segment(stream: "_Members", out: IO[bytes], max_image_bytes: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for member in stream.take(SEGMENT_BYTES):
        is_kept = 0 <= member.size_bytes <= max_image_bytes
        offset = out.tell() if is_kept else -1
        try:
            for piece in read_pieces(member) if is_kept else ():
                out.write(piece)
        except ArchiveError as error:  # the archive ends within this member
            stream.end(error)
            break
        link = os.fsencode(member.link) or None
        name = os.fsencode(member.name)
        rows.append({"name": name, "offset_bytes": offset, "size_bytes": member.size_bytes, "link": link})
    return rows


class _Members:
    """The members of a stream, taken a segment at a time."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._members = stream_tar(parts)
        self.is_done = False
        self.problem = ""

    def take(self, max_bytes: int) -> Iterator[TarMember]:
        """Yield members until they fill `max_bytes` or the stream ends or is damaged."""
        num = 0
        while num < max_bytes:
            try:
                member = next(self._members, None)
            except ArchiveError as error:
                self.end(error)
                return
            if member is None:
                self.is_done = True
                return
            num += max(0, member.size_bytes)
            yield member

    def end(self, error: ArchiveError) -> None:
        """Record that the stream ended too early, and why."""
        self.is_done = True
        self.problem = str(error)


def _segment_url(drafts_url: str, name: str, number: int) -> str:
    return storage.join_url(drafts_url, f"{name}-{number:05d}")
