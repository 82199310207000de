"""Group facts by key, and sort those of one key by their kind."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from shards.corpus.facts import (
    UNLISTED,
    AnnotationFact,
    Fact,
    ImageFact,
    Labels,
    MetadataFact,
    ProblemFact,
    RowFact,
    SkippedFact,
)
from shards.corpus.side_files import drop_copies, split_side_annotations, split_side_files


@dataclass(slots=True)
class KeyFacts:
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

    def is_in(self, subset: str) -> bool:
        """Return whether lists, files or labels choose the scan for a subset."""
        if subset == "all":
            return bool(self.rows or self.images or self.links or self.annotations or self.metadata)
        if subset == "positives":
            return any(1 in row.labels for row in self.rows)
        return bool(self.rows)


def group_facts(facts: Iterable[Fact]) -> Iterator[KeyFacts]:
    """Yield the facts of each key, in the order of the keys; of keys that differ in case alone, those of their image.

    Raises:
        ValueError: a table of metadata has several rows for one scan.
    """
    by_key: defaultdict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        by_key[fact.key].append(fact)
    spellings = _join_spellings(by_key)
    for key in sorted(by_key):
        yield _sort_facts(key, by_key[key], spellings.get(key, ()))


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


def _sort_facts(key: str, facts: list[Fact], spellings: Sequence[str]) -> KeyFacts:
    kinds: defaultdict[type[Fact], list[Any]] = defaultdict(list)
    for fact in facts:
        kinds[type(fact)].append(fact)
    images, side_files = split_side_files(kinds[ImageFact])
    annotations, side_annotations = split_side_annotations(kinds[AnnotationFact])
    rows = sorted(kinds[RowFact], key=_row_order)
    return KeyFacts(
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
