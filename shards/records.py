"""Which records does a corpus list, and what is known of each before its image is read?

Listing yields facts (an image file, a line of a list, an annotation file); facts of one key become records. Every
record ends as a sample or as a quarantine row, so `listed = converted + quarantined` holds by construction.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from shards import corpus as corpora
from shards import storage
from shards.corpus import Corpus, ListFile
from shards.lists import read_list

UNLISTED = "unlisted"
"""The split of images that no list names: kept and scored, but in neither train nor test."""

Labels = tuple[int | None, ...]


class ImageFact(NamedTuple):
    """An image file that is there."""

    key: str
    url: str
    size_bytes: int


class RowFact(NamedTuple):
    """A line of a list."""

    key: str
    list_url: str
    list_rank: int
    split: str
    labels: Labels
    problem: str


class AnnotationFact(NamedTuple):
    """An annotation file that is there."""

    key: str
    url: str


Fact = ImageFact | RowFact | AnnotationFact


class ScanRef(NamedTuple):
    """A record: all that is known before its image is read. Image bytes never stand here."""

    key: str
    split: str
    source_url: str
    """The image; for a record without one, the list or annotation that names it."""
    size_bytes: int
    labels: Labels | None = None
    """1 present, 0 absent, None doubtful, in the order of the scored classes; None where no list names the scan."""
    annotation_url: str | None = None
    reason: str = ""
    """Why it is refused already, a fixed word; empty where its image is to be read."""
    detail: str = ""


def list_images(corpus: Corpus) -> Iterator[ImageFact]:
    """Yield a fact for each file among the images."""
    for info in storage.list_files(corpus.images_url):
        yield ImageFact(corpora.make_key(corpus, info.url), info.url, info.size_bytes)


def list_annotations(annotations_url: str) -> Iterator[AnnotationFact]:
    """Yield a fact for each annotation file."""
    for info in storage.list_files(annotations_url):
        yield AnnotationFact(corpora.encode_key(corpora.stem_of(info.url)), info.url)


def list_rows(item: ListFile, classes: Sequence[str]) -> Iterator[RowFact]:
    """Yield a fact for each line of a list."""
    rank = corpora.LISTS_IN_ORDER.index(item.subset)
    for row in read_list(item.url, classes):
        yield RowFact(corpora.encode_key(row.name), item.url, rank, item.split, row.labels, row.problem)


def join_facts(facts: Iterable[Fact], corpus: Corpus, subset: str) -> Iterator[ScanRef]:
    """Yield the records that the facts of some keys make, in the order of their keys.

    The facts of one key must all be among `facts`. What `subset` does not ask for is left out.
    """
    by_key: defaultdict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        by_key[fact.key].append(fact)
    for key in sorted(by_key):
        yield from _join_key(key, by_key[key], corpus, subset)


def _join_key(key: str, facts: list[Fact], corpus: Corpus, subset: str) -> Iterator[ScanRef]:
    images = sorted(fact for fact in facts if isinstance(fact, ImageFact) and fact.size_bytes >= 0)
    links = sorted(fact for fact in facts if isinstance(fact, ImageFact) and fact.size_bytes < 0)
    annotations = sorted(fact for fact in facts if isinstance(fact, AnnotationFact))
    rows = [fact for fact in facts if isinstance(fact, RowFact)]
    for row in sorted(row for row in rows if row.problem):
        yield ScanRef(key, row.split, row.list_url, 0, reason="bad_list_row", detail=row.problem)
    usable = sorted((row for row in rows if not row.problem), key=_sort_key)
    if not _is_selected(usable, bool(images or links or annotations), subset):
        return
    split = usable[0].split if usable else UNLISTED
    labels = usable[0].labels if usable else None
    for link in links:
        detail = "a link to a folder or to nothing; links to folders are not followed: put the folder itself there"
        yield ScanRef(key, split, link.url, 0, reason="not_a_file", detail=detail)
    if not images:
        named_by = [*(row.list_url for row in usable), *(fact.url for fact in annotations)]
        if named_by:
            detail = f"no image file has this name; named by {', '.join(storage.as_uri(url) for url in named_by)}"
            yield ScanRef(key, split, named_by[0], 0, reason="missing_image", detail=detail)
        return
    reason, detail = _find_contradiction(usable, annotations) or _find_bad_key(key)
    yield ScanRef(
        key,
        split,
        images[0].url,
        images[0].size_bytes,
        labels,
        annotations[0].url if annotations else None,
        reason,
        detail,
    )
    for image in images[1:]:
        detail = f"{storage.as_uri(images[0].url)} has this key already"
        yield ScanRef(key, split, image.url, image.size_bytes, reason="duplicate_key", detail=detail)


def _sort_key(row: RowFact) -> tuple[int, str, str, str]:
    # Labels last: two lines of one list may differ in them alone, and facts come in any order.
    return row.list_rank, row.split, row.list_url, str(row.labels)


def _is_selected(rows: Sequence[RowFact], is_there: bool, subset: str) -> bool:
    if subset == "all":
        return bool(rows) or is_there
    if subset == "positives":
        return any(1 in row.labels for row in rows)
    return bool(rows)


def _find_contradiction(rows: Sequence[RowFact], annotations: Sequence[AnnotationFact]) -> tuple[str, str] | None:
    for other in rows[1:]:
        first = rows[0]
        if other.labels != first.labels:
            return "label_contradiction", f"{first.list_url} says {first.labels}, {other.list_url} says {other.labels}"
        if other.list_rank == first.list_rank and other.split != first.split:
            return "split_contradiction", f"named by both {first.list_url} and {other.list_url}"
    if len(annotations) > 1:
        return "duplicate_annotation", f"{annotations[0].url} and {annotations[1].url} have this key"
    return None


def _find_bad_key(key: str) -> tuple[str, str]:
    problem = corpora.key_problem(key)
    return ("bad_key", problem) if problem else ("", "")
