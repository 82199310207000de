"""Read label lists such as `ImageSet/10/train.csv`, also as spreadsheets and pandas write them."""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, NamedTuple

from shards import storage
from shards.corpus import archives
from shards.format.keys import decode_name

MAX_LINE_BYTES = 4096
"""A line of the release has about 30 bytes; a file without a newline must not be read into memory."""

_PIECE_BYTES = 64 * 1024
_LABEL_OF = {"true": 1, "false": 0, "": None, "nan": None, "na": None, "null": None, "none": None}
_LABEL_OF_NUMBER: dict[float, int | None] = {1: 1, -1: 0, 0: None}
"""0 stands for a doubtful label, which the authors' meter skips; an empty cell is what pandas writes for unknown."""
_NAME_COLUMNS = ("name", "image", "filename", "file_name", "image_name", "file", "img", "image_id", "id", "path", "key")
"""Headers of the column of names; the first of these that is there."""
_SEPARATORS = ",;\t"
_SEPARATOR_LINE = re.compile(rb"sep=.", re.IGNORECASE)
_NO_NAME = re.compile(r"(?:Unnamed: \d+)?")
_EXTENSION = re.compile(r"\.(jpe?g|jfif|jpe|png|bmp|tiff?|webp|gif|xml)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ListRow:
    """One line of a list."""

    name: str
    """Stem of the image file."""
    labels: tuple[int | None, ...]
    """1 present, 0 absent, None doubtful; in the order of the scored classes. Empty in a list without labels."""
    problem: str = ""
    """Why the line cannot be used; empty if it can."""
    further: tuple[str, ...] = ()
    """The cells of `further_columns`."""


class _Columns(NamedTuple):
    separator: str
    num_cells: int
    places: tuple[int, ...]
    """Of the name, then of each class."""
    further: dict[str, int]
    """Other columns and their places."""


def read_list(url: str, classes: Sequence[str], *, member: str = "", has_labels: bool = True) -> Iterator[ListRow]:
    """Yield the rows of a list, one at a time.

    Accepts any line end, UTF-8, UTF-16 and GBK, commas, semicolons or tabs, quotes, columns in any order and beside
    others, any case of the header; labels such as `1`, `1.0` or `True`; names with folders and extension. A line that
    cannot be used is yielded with its `problem`.

    Args:
        url: the file, or the zip that holds it as `member`.
        classes: the columns of its labels.
        member: its name in the zip.
        has_labels: otherwise each line is a name, as in the lists of VOC.

    Raises:
        ValueError: the header has no column for the names or for a class, or no line can be used: the file is no list
            of these classes.
    """
    with archives.open_zip_member(url, member) if member else storage.open_reader(url) as handle:
        lines = _read_lines(handle)
        if not has_labels:
            yield from (_parse_name(line) for line in lines if line.strip())
            return
        columns = _read_header(_first_line(lines), classes, member or url)
        num_used, first_problem = 0, ""
        for line in lines:
            if line.strip():
                row = _parse_row(line, columns)
                num_used += not row.problem
                first_problem = first_problem or row.problem
                yield row
    if first_problem and not num_used:
        raise ValueError(
            f"list must have lines like {','.join(['P00001', '1', *['-1'] * (len(classes) - 1)])!r} under the columns "
            f"{','.join(['name', *classes])!r}, got none; {first_problem} ({member or url})"
        )


def further_columns(url: str, classes: Sequence[str], *, member: str = "") -> tuple[str, ...]:
    """Return the columns of a list that are neither the name nor a class; none if its header cannot be read.

    Those without a name, or with the one that pandas gives these, are numbers of rows.
    """
    with archives.open_zip_member(url, member) if member else storage.open_reader(url) as handle:
        try:
            return tuple(_read_header(_first_line(_read_lines(handle)), classes, url).further)
        except ValueError:
            return ()


def _first_line(lines: Iterator[bytes]) -> bytes:
    """Return the line of columns; Excel may say the separator before it."""
    line = next(lines, b"")
    return next(lines, b"") if _SEPARATOR_LINE.fullmatch(line) else line


def _read_header(line: bytes, classes: Sequence[str], where: str) -> _Columns:
    for separator in _SEPARATORS:
        header = [cell.strip() for cell in _split(line, separator)]
        lowered = [cell.lower() for cell in header]
        no_classes = [cell for cell in lowered if cell not in {name.lower() for name in classes}]
        lone = no_classes[0] if len(no_classes) == 1 else None
        name = next((known for known in _NAME_COLUMNS if known in no_classes), lone)
        wanted = [name, *(of.lower() for of in classes)]
        if all(lowered.count(column) == 1 for column in wanted if column is not None) and name is not None:
            places = tuple(lowered.index(column) for column in wanted if column is not None)
            further: dict[str, int] = {}
            for at, cell in enumerate(header):
                if at not in places and not _NO_NAME.fullmatch(cell):
                    further.setdefault(cell, at)  # of columns with one name the first
            return _Columns(separator, len(header), places, further)
    expected = ",".join(["name", *classes])
    found = ",".join(_split(line, ","))[:200]
    raise ValueError(f"list must begin with the columns {expected!r}, got {found!r} ({where})")


def _parse_name(line: bytes) -> ListRow:
    if len(line) > MAX_LINE_BYTES:
        return ListRow(_printable(line[:40]), (), f"a line must be a name, got {_printable(line[:80])!r}")
    return ListRow(_stem_of(_decode(line.removeprefix(codecs.BOM_UTF8))), ())


def _parse_row(line: bytes, columns: _Columns) -> ListRow:
    cells = _split(line, columns.separator)
    while len(cells) > columns.num_cells and not cells[-1].strip():
        cells.pop()  # a spreadsheet closes rows with separators
    if len(line) > MAX_LINE_BYTES or len(cells) != columns.num_cells:
        detail = f"a line must have {columns.num_cells} cells, got {_printable(line[:80])!r}"
        return ListRow(_printable(line[:40]), (), detail)
    name, *texts = (cells[at].strip() for at in columns.places)
    try:
        labels = tuple(_label_of(text) for text in texts)
    except (KeyError, ValueError):
        labels = ()
    if not labels or not name:
        return ListRow(name or "(no name)", (), f"labels must be 1, -1 or 0, got {_printable(line[:80])!r}")
    return ListRow(_stem_of(name), labels, further=tuple(cells[at].strip() for at in columns.further.values()))


@lru_cache(maxsize=1024)
def _label_of(text: str) -> int | None:
    """Return the label of a cell; KeyError or ValueError if it is none."""
    lowered = text.lower()
    if lowered in _LABEL_OF:
        return _LABEL_OF[lowered]
    return _LABEL_OF_NUMBER[float(lowered.replace(",", ".").replace("\N{MINUS SIGN}", "-"))]


def _stem_of(name: str) -> str:
    # A stem may have dots, so only extensions of images are taken off.
    name = name.strip().replace("\\", "/").rstrip("/").rpartition("/")[2]
    return _EXTENSION.sub("", name) or name


def _read_lines(handle: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file in its own encoding, or in UTF-8 if it is UTF-16; a line over the limit is cut.

    The rest of such a line is passed over a piece at a time: memory stays bounded, and gigabytes of garbage without a
    newline are refused by their beginning.
    """
    pieces = _read_pieces(handle)
    rest = next(pieces, b"")
    end = b"\r" if b"\r" in rest and b"\n" not in rest else b"\n"  # spreadsheets on old Macs
    is_cut = False
    while rest:
        *lines, rest = rest.split(end)
        for line in lines:
            if not is_cut:
                yield line.rstrip(b"\r\n")
            is_cut = False
        if len(rest) > MAX_LINE_BYTES:
            if not is_cut:
                yield rest[: MAX_LINE_BYTES + 1]
            rest, is_cut = b"", True
        piece = next(pieces, b"")
        if not piece:
            break
        rest += piece
    if rest and not is_cut:
        yield rest.rstrip(b"\r\n")


def _read_pieces(handle: IO[bytes]) -> Iterator[bytes]:
    piece = handle.read(_PIECE_BYTES)
    if not piece.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        piece = piece.removeprefix(codecs.BOM_UTF8)
        while piece:
            yield piece
            piece = handle.read(_PIECE_BYTES)
        return
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    while piece:
        if text := decoder.decode(piece):
            yield text.encode("utf-8", "replace")
        piece = handle.read(_PIECE_BYTES)


def _split(line: bytes, separator: str) -> list[str]:
    return next(csv.reader(io.StringIO(_decode(line)), delimiter=separator, skipinitialspace=True), [])


def _printable(line: bytes) -> str:
    return _escape_line(line.decode("utf-8", errors="backslashreplace"))


def _decode(line: bytes) -> str:
    # Bytes that are no text are kept, as in file names, so that the name matches its file.
    return _escape_line(decode_name(line))


def _escape_line(line: str) -> str:
    # The csv module raises on a NUL and on a carriage return inside a line.
    return line.replace("\0", "\\0").replace("\r", "\\r")
