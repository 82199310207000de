"""Join the facts of each key to a record of one scan.

Every record ends as a sample or as a quarantine row, so `listed = converted + quarantined` holds by construction.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from shards import storage
from shards.corpus.archives import Place
from shards.corpus.boxes import Repair
from shards.corpus.description import Corpus
from shards.corpus.facts import Fact, Inline, Labels, RowFact
from shards.corpus.key_facts import KeyFacts, group_facts
from shards.corpus.policy import Policy
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
    for of_key in group_facts(facts):
        yield from _join_key(of_key, corpus, subset, policy)


def _join_key(facts: KeyFacts, corpus: Corpus, subset: str, policy: Policy) -> Iterator[ScanRef]:
    key, split = facts.key, facts.split
    for row in facts.bad_rows:
        yield ScanRef(key, row.split, row.list_url, 0, reason="bad_list_row", detail=row.problem)
    for file in facts.skipped:
        remark = (file.kind, storage.as_uri(file.url))
        yield ScanRef(key, split, file.url, 0, reason=SKIPPED, remarks=(remark,))
    for problem in facts.problems:
        yield ScanRef(key, problem.split, problem.url, 0, reason=problem.reason, detail=problem.detail)
    if not facts.is_in(subset):
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


def _join_missing(facts: KeyFacts, policy: Policy) -> Iterator[ScanRef]:
    named_by = [*(row.list_url for row in facts.rows), *(fact.url for fact in facts.annotations)]
    if not named_by:
        return
    detail = f"no image file has this name; named by {', '.join(storage.as_uri(url) for url in named_by)}"
    if policy.on_missing == "stop":
        raise ValueError(f"every scan must have an image, got none for {facts.key!r}: {detail}; see --on-missing")
    remark = ("missing_image" if facts.rows else "annotation_without_image", detail)
    yield ScanRef(facts.key, facts.split, named_by[0], 0, reason="missing_image", detail=detail, remarks=(remark,))


def _join_image(facts: KeyFacts, corpus: Corpus, subset: str, policy: Policy) -> ScanRef:
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


def _compare_folders(facts: KeyFacts) -> Iterator[tuple[str, str, str]]:
    """Yield kind, reason and description if folders disagree with each other or with the list."""
    first = facts.images[0]
    for image in facts.images[1:]:
        if image.split != first.split and not facts.rows:
            yield "two_splits", "split_contradiction", f"both {first.url} and {image.url} are there"
            break
    if first.presence == "negative" and 1 in (facts.labels or ()):
        yield "folder_disagrees", "label_contradiction", f"{first.url} lies among the negatives, its line names an item"
