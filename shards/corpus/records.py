"""Join the facts of each key to a record of one scan.

Every record ends as a sample or as a quarantine row, so `listed = converted + quarantined` holds by construction.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from shards import storage
from shards.corpus.archives import Place
from shards.corpus.boxes import Repair
from shards.corpus.description import Corpus
from shards.corpus.facts import (
    UNLISTED,
    AnnotationFact,
    Fact,
    ImageFact,
    Inline,
    Labels,
    MetadataFact,
    ProblemFact,
    RowFact,
    SkippedFact,
)
from shards.corpus.policy import Policy
from shards.corpus.side_files import drop_copies, split_side_annotations, split_side_files
from shards.format.classes import Box

SKIPPED = "skipped"
"""The `reason` of what is no record: a file that is counted and passed over."""
METADATA_WITHOUT_SCAN = "metadata_without_scan"
"""Kind of a row of metadata that names no scan of the corpus."""
GUESSED_ENCODING = "guessed_zip_encoding"
OTHER_CASE = "other_case"
"""Kind of a repair: a list or annotation names the image in other upper and lower case."""
_NO_FILE = "a link, not a file; links to folders are not followed: put the folder itself there"
_NO_FILE_IN_TAR = "no file: a device, or a link to a file that is not in the archive"
# One object for all records, so that a pickled batch holds it once.
_UNLISTED_REMARK = ("unlisted_image", "no list names it")


class ReadAnnotation(NamedTuple):
    """What an annotation file says, or why it cannot be trusted."""

    digest: str
    """sha256 of its bytes; `reason` if they cannot be read."""
    boxes: tuple[Box, ...] = ()
    reason: str = ""
    """A fixed word; empty for an annotation that can be trusted."""
    detail: str = ""
    repairs: tuple[Repair, ...] = ()
    size: tuple[float, float] | None = None
    is_relative: bool = False
    """As in `shards.corpus.boxes.Annotation`."""


class ScanRef(NamedTuple):
    """A record: all that is known before its image is read. It never holds image bytes."""

    key: str
    split: str
    source_url: str
    """The image; without one, the list or annotation that names it."""
    size_bytes: int
    labels: Labels | None = None
    """1 present, 0 absent, None doubtful, in the order of the scored classes; None where no list names the scan."""
    annotation_url: str | None = None
    reason: str = ""
    """A fixed word if it is refused already; empty if its image is to be read."""
    detail: str = ""
    remarks: tuple[tuple[str, str], ...] = ()
    """Kind and description of its contradictions, whether it is refused for them or not."""
    presence: str = ""
    image_place: Place | None = None
    annotation_place: Place | Inline | None = None
    """None once the annotation has been read."""
    annotation: ReadAnnotation | None = None
    group: str = ""
    """Scans of one bag have the same; empty for a scan that is alone."""
    metadata: tuple[Any, ...] = ()
    """The values of further columns; dates and times as integers, as Arrow has them. Empty without any."""

    @property
    def bytes_url(self) -> str:
        """The file that holds the image's bytes: its own, or an archive."""
        return self.image_place.url if self.image_place else self.source_url


def join_facts(facts: Iterable[Fact], corpus: Corpus, subset: str, policy: Policy) -> Iterator[ScanRef]:
    """Yield the records of some keys, in the order of the keys.

    `facts` must hold all facts of each key. Records outside `subset` are left out.

    Raises:
        ValueError: an image is unlisted or missing, and the policy says to stop for it.
    """
    by_key: defaultdict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        by_key[fact.key].append(fact)
    spellings = _join_spellings(by_key)
    for key in sorted(by_key):
        yield from _join_key(_sort_facts(key, by_key[key], spellings.get(key, ())), corpus, subset, policy)


def _join_spellings(by_key: dict[str, list[Fact]]) -> dict[str, list[str]]:
    """Move facts to the one image whose key differs in case alone; return the keys that moved to each."""
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for key in by_key:
        alike[key.lower()].append(key)
    moved: dict[str, list[str]] = {}
    for keys in alike.values():
        pictured = [key for key in keys if any(isinstance(fact, ImageFact) for fact in by_key[key])]
        if len(keys) > 1 and len(pictured) == 1:
            moved[pictured[0]] = sorted(key for key in keys if key != pictured[0])
            for key in moved[pictured[0]]:
                by_key[pictured[0]] += (fact._replace(key=pictured[0]) for fact in by_key.pop(key))
    return moved


@dataclass(slots=True)
class _KeyFacts:
    """All facts of one key, each kind in its order."""

    key: str
    images: list[ImageFact]
    links: list[ImageFact]
    """Images that are no files."""
    annotations: list[AnnotationFact]
    rows: list[RowFact]
    bad_rows: list[RowFact]
    problems: list[ProblemFact]
    skipped: list[SkippedFact]
    metadata: MetadataFact | None
    spellings: Sequence[str]
    """Other keys that lists or annotations write for it."""

    @property
    def split(self) -> str:
        """From the first list, else from the folder."""
        if self.rows:
            return self.rows[0].split
        return next((image.split for image in [*self.images, *self.links] if image.split), UNLISTED)

    @property
    def labels(self) -> Labels | None:
        """From the first list."""
        return next((row.labels for row in self.rows if row.labels), None)


def _sort_facts(key: str, facts: list[Fact], spellings: Sequence[str]) -> _KeyFacts:
    kinds: defaultdict[type[Fact], list[Any]] = defaultdict(list)
    for fact in facts:
        kinds[type(fact)].append(fact)
    images, side_files = split_side_files(kinds[ImageFact])
    annotations, side_annotations = split_side_annotations(kinds[AnnotationFact])
    rows = sorted(kinds[RowFact], key=_row_order)
    return _KeyFacts(
        key,
        [image for image in images if image.size_bytes >= 0],
        [image for image in images if image.size_bytes < 0],
        drop_copies(annotations),
        [row for row in rows if not row.problem],
        [row for row in rows if row.problem],
        sorted(kinds[ProblemFact]),
        sorted([*kinds[SkippedFact], *side_files, *side_annotations]),
        _join_metadata(kinds[MetadataFact]),
        spellings,
    )


def _join_metadata(rows: list[MetadataFact]) -> MetadataFact | None:
    """Return one row with the first value of each column, by the rank of the tables."""
    if not rows:
        return None
    ordered = sorted(rows, key=lambda row: (row.rank, row.url, repr(row[3:])))
    for one, other in pairwise(ordered):
        if one.url == other.url and one != other:
            raise ValueError(
                f"metadata must have one row for each scan, got several for {one.key!r}, such as {one.values} and "
                f"{other.values} ({one.url})"
            )
    first = ordered[0]
    columns = zip(*(row.values for row in ordered), strict=True)
    values = tuple(next((value for value in column if value is not None), None) for column in columns)
    return first._replace(group=next((row.group for row in ordered if row.group), ""), values=values)


def _row_order(row: RowFact) -> tuple[int, str, str, str, str]:
    # Labels last: two lines of one list may differ only in them, and facts come in any order.
    return row.list_rank, row.split, row.list_url, str(row.labels), row.problem


def _join_key(facts: _KeyFacts, corpus: Corpus, subset: str, policy: Policy) -> Iterator[ScanRef]:
    key, split = facts.key, facts.split
    for row in facts.bad_rows:
        yield ScanRef(key, row.split, row.list_url, 0, reason="bad_list_row", detail=row.problem)
    for file in facts.skipped:
        remark = (file.kind, storage.as_uri(file.url))
        yield ScanRef(key, split, file.url, 0, reason=SKIPPED, remarks=(remark,))
    for problem in facts.problems:
        yield ScanRef(key, problem.split, problem.url, 0, reason=problem.reason, detail=problem.detail)
    if not _is_selected(facts, subset):
        return
    for link in facts.links:
        detail = _NO_FILE_IN_TAR if link.url.startswith("tar://") else _NO_FILE
        yield ScanRef(key, split, link.url, 0, reason="not_a_file", detail=detail)
    if not facts.images:
        if not facts.links or policy.on_missing == "stop":
            yield from _join_missing(facts, policy)
        if facts.metadata and not facts.metadata.rank:
            detail = f"{key} in {storage.as_uri(facts.metadata.url)}"
            yield ScanRef(key, split, "", 0, reason=SKIPPED, remarks=((METADATA_WITHOUT_SCAN, detail),))
        return
    yield _join_image(facts, corpus, subset, policy)
    first = facts.images[0]
    for image in facts.images[1:]:
        detail = f"{storage.as_uri(first.url)} has this key already"
        yield ScanRef(key, split, image.url, image.size_bytes, reason="duplicate_key", detail=detail)


def _join_missing(facts: _KeyFacts, policy: Policy) -> Iterator[ScanRef]:
    named_by = [*(row.list_url for row in facts.rows), *(fact.url for fact in facts.annotations)]
    if not named_by:
        return
    detail = f"no image file has this name; named by {', '.join(storage.as_uri(url) for url in named_by)}"
    if policy.on_missing == "stop":
        raise ValueError(f"every scan must have an image, got none for {facts.key!r}: {detail}; see --on-missing")
    remark = ("missing_image" if facts.rows else "annotation_without_image", detail)
    yield ScanRef(facts.key, facts.split, named_by[0], 0, reason="missing_image", detail=detail, remarks=(remark,))


def _join_image(facts: _KeyFacts, corpus: Corpus, subset: str, policy: Policy) -> ScanRef:
    image = facts.images[0]
    annotation = facts.annotations[0] if facts.annotations else None
    contradictions = [*_compare_rows(facts.rows), *_compare_folders(facts)]
    reason, detail = "", ""
    if contradictions and policy.on_contradiction == "quarantine":
        _, reason, detail = contradictions[0]
    remarks = [(kind, detail) for kind, _, detail in contradictions]
    if image.guess:
        remarks.append((GUESSED_ENCODING, f"{storage.as_uri(image.url)} was read as {image.guess}; see --zip-encoding"))
    remarks += [(OTHER_CASE, f"it is written {spelling}") for spelling in facts.spellings]
    if corpus.lists and subset == "all" and not corpus.builds_subset and not facts.rows:
        remarks.append(_UNLISTED_REMARK)
        if policy.on_unlisted == "stop":
            raise ValueError(f"every image must be listed, got one that is not: {image.url}; see --on-unlisted")
        if policy.on_unlisted == "quarantine":
            reason, detail = "unlisted_image", remarks[-1][1]
    if len(facts.annotations) > 1:
        urls = [fact.url for fact in facts.annotations[:2]]
        reason, detail = "duplicate_annotation", f"{urls[0]} and {urls[1]} have this key"
    return ScanRef(
        facts.key,
        facts.split,
        image.url,
        image.size_bytes,
        facts.labels,
        annotation.url if annotation else None,
        reason,
        detail,
        tuple(remarks),
        image.presence,
        image.place,
        annotation.place if annotation else None,
        group=(facts.metadata.group if facts.metadata else "") or image.group,
        metadata=facts.metadata.values if facts.metadata else (),
    )


def _is_selected(facts: _KeyFacts, subset: str) -> bool:
    if subset == "all":
        return bool(facts.rows or facts.images or facts.links or facts.annotations or facts.metadata)
    if subset == "positives":
        return any(1 in row.labels for row in facts.rows)
    return bool(facts.rows)


def _compare_rows(rows: Sequence[RowFact]) -> Iterator[tuple[str, str, str]]:
    """Yield kind, reason and description of each way in which the lists disagree."""
    for other in rows[1:]:
        first = rows[0]
        if other.labels and first.labels and other.labels != first.labels:
            detail = f"{first.list_url} says {_as_listed(first)}, {other.list_url} says {_as_listed(other)}"
            yield "lists_disagree", "label_contradiction", detail
        if other.list_rank == first.list_rank and other.split != first.split:
            yield "two_splits", "split_contradiction", f"named by both {first.list_url} and {other.list_url}"


def _as_listed(row: RowFact) -> str:
    return ",".join("0" if label is None else "1" if label else "-1" for label in row.labels)


def _compare_folders(facts: _KeyFacts) -> Iterator[tuple[str, str, str]]:
    """Yield kind, reason and description if folders disagree with each other or with the list."""
    first = facts.images[0]
    for image in facts.images[1:]:
        if image.split != first.split and not facts.rows:
            yield "two_splits", "split_contradiction", f"both {first.url} and {image.url} are there"
            break
    if first.presence == "negative" and 1 in (facts.labels or ()):
        yield "folder_disagrees", "label_contradiction", f"{first.url} lies among the negatives, its line names an item"
