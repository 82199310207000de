"""Read label lists such as `ImageSet/10/train.csv`."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from shards import storage
from shards.corpus import archives

MAX_LINE_BYTES = 4096
"""A line of the release has about 30 bytes; a file without a newline must not be read into memory."""

_SKIP_BYTES = 64 * 1024
_LABEL_OF = {"1": 1, "-1": 0, "0": None}
"""0 stands for a doubtful label, which the authors' meter skips."""


@dataclass(frozen=True, slots=True)
class ListRow:
    """One line of a list."""

    name: str
    """Stem of the image file."""
    labels: tuple[int | None, ...]
    """1 present, 0 absent, None doubtful; in the order of the scored classes. Empty in a list without labels."""
    problem: str = ""
    """Why the line cannot be used; empty if it can."""


def read_list(url: str, classes: Sequence[str], *, member: str = "", has_labels: bool = True) -> Iterator[ListRow]:
    """Yield the rows of a list, one at a time.

    Accepts LF or CRLF, a byte-order mark, a missing last newline and columns in any order. A line that cannot be used
    is yielded with its `problem`.

    Args:
        url: the file, or the zip that holds it as `member`.
        classes: the columns of its labels.
        member: its name in the zip.
        has_labels: otherwise each line is a name, as in the lists of VOC.

    Raises:
        ValueError: the header is not `name` and one column a class: the file is no list of these classes.
    """
    with archives.open_zip_member(url, member) if member else storage.open_reader(url) as handle:
        lines = _read_lines(handle)
        if not has_labels:
            yield from (_parse_name(line) for line in lines if line.strip())
            return
        header = _split(next(lines, b"").removeprefix(b"\xef\xbb\xbf"))
        if sorted(header) != sorted(["name", *classes]):
            expected = ",".join(["name", *classes])
            raise ValueError(
                f"list must begin with the columns {expected!r}, got {','.join(header)[:200]!r} ({member or url})"
            )
        order = [header.index(column) for column in ("name", *classes)]
        for line in lines:
            if line.strip():
                yield _parse_row(line, order)


def _parse_name(line: bytes) -> ListRow:
    if len(line) > MAX_LINE_BYTES:
        return ListRow(_printable(line[:40]), (), f"a line must be a name, got {_printable(line[:80])!r}")
    return ListRow(_decode(line.removeprefix(b"\xef\xbb\xbf").strip(), "surrogateescape"), ())


def _parse_row(line: bytes, order: Sequence[int]) -> ListRow:
    cells = _split(line)
    if len(line) > MAX_LINE_BYTES or len(cells) != len(order):
        return ListRow(_printable(line[:40]), (), f"a line must have {len(order)} cells, got {_printable(line[:80])!r}")
    name, *texts = (cells[at].strip() for at in order)
    unknown = [text for text in texts if text not in _LABEL_OF]
    if unknown or not name:
        return ListRow(name or "(no name)", (), f"labels must be 1, -1 or 0, got {_printable(line[:80])!r}")
    return ListRow(name, tuple(_LABEL_OF[text] for text in texts))


def _read_lines(handle: IO[bytes]) -> Iterator[bytes]:
    # A line over the limit is cut, and its rest is skipped only when the next line is asked for: memory stays bounded,
    # and gigabytes of garbage without a newline are refused by their beginning.
    while line := handle.readline(MAX_LINE_BYTES + 1):
        yield line.rstrip(b"\r\n")
        is_whole = line.endswith(b"\n") or len(line) <= MAX_LINE_BYTES
        while not is_whole:
            rest = handle.readline(_SKIP_BYTES)
            is_whole = rest.endswith(b"\n") or not rest


def _split(line: bytes) -> list[str]:
    # Bytes that are not UTF-8 are kept, as in file names, so that the name matches its file.
    return next(csv.reader(io.StringIO(_decode(line, "surrogateescape"))), [])


def _printable(line: bytes) -> str:
    return _decode(line, "backslashreplace")


def _decode(line: bytes, errors: str) -> str:
    # A NUL and a carriage return inside a line are escaped: the csv module raises on them.
    return line.decode("utf-8", errors=errors).replace("\0", "\\0").replace("\r", "\\r")
