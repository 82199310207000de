"""List what a corpus holds: image files, annotation files and lines of lists."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from shards import storage
from shards.corpus import archives
from shards.corpus.archives import Place
from shards.corpus.description import LISTS_IN_ORDER, Corpus, ListFile, Source, is_junk, is_no_image, make_key
from shards.corpus.label_lists import read_list
from shards.corpus.streams.spool import spool_stream
from shards.corpus.streams.tars import stream_tar
from shards.format.keys import encode_key, stem_of

UNLISTED = "unlisted"
"""The split of images that no list names: kept and scored, but in neither train nor test."""
MAX_IMAGE_BYTES = 64 * 1024 * 1024
"""Largest file taken as an image; SIXray's largest has half a megabyte."""

Labels = tuple[int | None, ...]

JUNK = "junk"
"""Kind of skipped file: made by an operating system or a tool, and no part of the corpus."""
SIDE_FILE = "side_file"
"""Kind of skipped file: it has the name of an image, and is none or is the same image in another format; or it is a
document beside folders of a release whose images lie at the root."""
ARCHIVE = "archive"
"""Kind of skipped file: an archive beside images of a layout that reads none."""


class ImageFact(NamedTuple):
    """An image file."""

    key: str
    url: str
    size_bytes: int
    split: str = ""
    """From its folder; lists take precedence."""
    presence: str = ""
    """What its folder says about prohibited items: `positive`, `negative` or nothing."""
    place: Place | None = None
    """Where its bytes are within an archive; None for a file."""
    group: str = ""
    """Scans of one bag have the same, such as the views of a pair."""
    guess: str = ""
    """Encoding in which its name was read, if the archive does not say it."""


class RowFact(NamedTuple):
    """A line of a list, or what a folder says about a file in it."""

    key: str
    list_url: str
    list_rank: int
    split: str
    labels: Labels
    """Empty if the list has no labels."""
    problem: str


class Inline(NamedTuple):
    """The annotation of one scan, taken from a file that annotates many."""

    text: str


class AnnotationFact(NamedTuple):
    """An annotation file, or the part of one that is about a scan."""

    key: str
    url: str
    place: Place | Inline | None = None


class ProblemFact(NamedTuple):
    """A problem of the corpus itself: a record that is refused in any case."""

    key: str
    url: str
    reason: str
    detail: str
    split: str = UNLISTED


class SkippedFact(NamedTuple):
    """A file that is no part of the corpus: counted, but no record."""

    key: str
    url: str
    kind: str


class MetadataFact(NamedTuple):
    """A row of a table of metadata."""

    key: str
    rank: int
    """Of its table: where several name a scan, the first one's values are taken."""
    url: str
    """The table."""
    group: str
    values: tuple[Any, ...]
    """Of all columns of all tables; None for those that this one has not."""


Fact = ImageFact | RowFact | AnnotationFact | ProblemFact | SkippedFact | MetadataFact


def list_source(source: Source, corpus: Corpus, drafts_url: str) -> Iterator[Fact]:
    """Yield a fact for each file of a source; images of a streamed archive are spooled below `drafts_url`, if any."""
    found = _list_images(source, corpus, drafts_url) if source.kind == "images" else _list_annotations(source)
    for path, fact in found:
        if is_junk(path):
            yield SkippedFact(fact.key, fact.url, JUNK)
        elif source.form == "files" and is_no_image(path):
            yield SkippedFact(fact.key, fact.url, SIDE_FILE)
        else:
            yield fact


FileFact = ImageFact | AnnotationFact | ProblemFact


def _list_annotations(source: Source) -> Iterator[tuple[str, FileFact]]:
    """Yield path below the source and fact of each file."""
    if source.form == "zip":
        for item in archives.list_zip(source.url, source.zip_encoding):
            yield item.name, AnnotationFact(_key_of(item.name), item.uri, item.place)
    else:
        for info in storage.list_files(source.url):
            yield storage.path_below(info.url, source.url), AnnotationFact(_key_of(info.url), info.url)


def _list_images(source: Source, corpus: Corpus, drafts_url: str) -> Iterator[tuple[str, FileFact]]:
    from_folder = (source.split, source.presence)
    if source.form == "zip":
        for item in archives.list_zip(source.url, source.zip_encoding):
            key = make_key(item.name, keeps_folders=corpus.keeps_folders_in_keys)
            yield item.name, ImageFact(key, item.uri, item.size_bytes, *from_folder, item.place, guess=item.guess)
    elif source.form == "tar":
        if not drafts_url:
            yield from _list_stream(source, corpus)
            return
        spool = spool_stream(source.parts or (source.url,), drafts_url, MAX_IMAGE_BYTES)
        for image in spool.images():
            key = make_key(image.name, keeps_folders=corpus.keeps_folders_in_keys)
            uri = f"tar://{image.name}::{storage.as_uri(source.url)}"
            yield image.name, ImageFact(key, uri, image.size_bytes, *from_folder, image.place)
        if spool.problem:
            yield "", ProblemFact(_key_of(source.url), source.url, "damaged_archive", spool.problem)
    else:
        for info in storage.list_files(source.url):
            below = storage.path_below(info.url, source.url)
            if source.form == "folder" or "/" not in below:
                key = make_key(below, keeps_folders=corpus.keeps_folders_in_keys)
                yield below, ImageFact(key, info.url, info.size_bytes, *from_folder)


def _list_stream(source: Source, corpus: Corpus) -> Iterator[tuple[str, FileFact]]:
    """Yield the images of a streamed archive without keeping their bytes."""
    try:
        for member in stream_tar(source.parts or (source.url,)):
            key = make_key(member.name, keeps_folders=corpus.keeps_folders_in_keys)
            uri = f"tar://{member.name}::{storage.as_uri(source.url)}"
            yield member.name, ImageFact(key, uri, member.size_bytes, source.split, source.presence)
    except archives.ArchiveError as error:
        yield "", ProblemFact(_key_of(source.url), source.url, "damaged_archive", str(error))


def list_rows(item: ListFile, classes: Sequence[str]) -> Iterator[RowFact]:
    """Yield a fact for each line of a list."""
    order = [*LISTS_IN_ORDER, ""]
    for row in read_list(item.url, classes, member=item.member, has_labels=item.has_labels):
        key = encode_key(row.name)
        yield RowFact(key, item.uri, order.index(item.subset), item.split, row.labels, row.problem)


def _key_of(name: str) -> str:
    return encode_key(stem_of(name))
