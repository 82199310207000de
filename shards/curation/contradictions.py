"""Count the contradictions between the sources of a corpus, before anything is written.

A list of another release numbers the same scans differently and contradicts the boxes of half of them.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from shards.corpus.boxes import Annotation
from shards.corpus.facts import ARCHIVE, JUNK, SIDE_FILE
from shards.corpus.policy import Policy, compare_labels
from shards.corpus.records import GUESSED_ENCODING, METADATA_WITHOUT_SCAN, OTHER_CASE, ScanRef
from shards.format.classes import ClassSet
from shards.format.keys import escape_control_characters
from shards.shuffle import unpack

MAX_EXAMPLES = 5
MIN_CONTRADICTIONS = 20
"""Fewer are mistakes in single scans, however small the corpus is."""

Example = tuple[str, str]
"""Key and description."""


@dataclass(frozen=True, slots=True)
class Contradictions:
    """Counts and examples of contradictions."""

    num_compared: int = 0
    """Scans with a line in a list and boxes."""
    num_contradicted: int = 0
    """Those of them whose line and boxes differ."""
    counts: dict[str, int] = field(default_factory=dict)
    """Scans by kind of contradiction."""
    examples: dict[str, tuple[Example, ...]] = field(default_factory=dict)
    """The first few of each kind by key, so that they do not depend on the order of work."""


def find_contradictions(batch: bytes, classes: ClassSet) -> Contradictions:
    """Return what the sources of a batch of records disagree on."""
    num_compared = num_contradicted = 0
    counts: dict[str, int] = {}
    examples: dict[str, list[Example]] = {}
    for ref in unpack(batch):
        contradictions = list(ref.remarks)
        if _is_comparable(ref):
            found = list(compare_labels(ref.labels, Annotation(ref.annotation.boxes, ref.annotation.repairs), classes))
            num_compared += bool(ref.annotation.boxes)
            num_contradicted += bool(found)
            contradictions += found
        for kind, detail in contradictions:
            counts[kind] = counts.get(kind, 0) + 1
            examples.setdefault(kind, []).append((ref.key, escape_control_characters(detail)))
    return Contradictions(
        num_compared, num_contradicted, counts, {kind: _first(items) for kind, items in examples.items()}
    )


def _is_comparable(ref: ScanRef) -> bool:
    # An annotation that cannot be trusted is refused for its own reason when its scan is read.
    is_sound = ref.annotation is not None and not ref.annotation.reason
    return bool(ref.labels) and is_sound and ref.reason != "duplicate_annotation"


def sum_contradictions(parts: Iterable[Contradictions]) -> Contradictions:
    """Return the sum."""
    num_compared, num_contradicted = 0, 0
    counts: dict[str, int] = {}
    examples: dict[str, tuple[Example, ...]] = {}
    for part in parts:
        num_compared += part.num_compared
        num_contradicted += part.num_contradicted
        for kind, count in part.counts.items():
            counts[kind] = counts.get(kind, 0) + count
            examples[kind] = _first([*examples.get(kind, ()), *part.examples[kind]])
    return Contradictions(num_compared, num_contradicted, counts, examples)


def _first(items: list[Example]) -> tuple[Example, ...]:
    return tuple(heapq.nsmallest(MAX_EXAMPLES, items))


def make_findings(found: Contradictions, policy: Policy, num_metadata_rows: int = 0) -> dict[str, Any]:
    """Return what the manifest says about contradictions and about files that were passed over, each by kind.

    Raises:
        ValueError: no row of the metadata, if there are any, names a scan; or see `check_contradictions`.
    """
    num_unknown = found.counts.get(METADATA_WITHOUT_SCAN, 0)
    if num_metadata_rows and num_unknown >= num_metadata_rows:
        (_, example), *_ = found.examples[METADATA_WITHOUT_SCAN]
        raise ValueError(
            f"metadata must name scans of the corpus by key, file name or path, got {num_unknown} rows that name none, "
            f"such as {example}; the names must be in a column called key, name or path, or in the first one"
        )
    kinds = check_contradictions(found, policy)
    skipped = {kind: kinds.pop(kind) for kind in (JUNK, ARCHIVE, SIDE_FILE, METADATA_WITHOUT_SCAN) if kind in kinds}
    repairs = {kind: kinds.pop(kind) for kind in (GUESSED_ENCODING, OTHER_CASE) if kind in kinds}
    return {"contradictions": kinds, "repairs": repairs, "skipped": skipped}


def check_contradictions(found: Contradictions, policy: Policy) -> dict[str, Any]:
    """Return what the manifest says about contradictions, by kind.

    Raises:
        ValueError: lists and boxes contradict each other so often that the lists belong to another release.
    """
    num, of = found.num_contradicted, found.num_compared
    if num >= MIN_CONTRADICTIONS and num > policy.max_contradiction_fraction * of:
        examples = "; ".join(f"{key}: {detail}" for key, detail in _label_examples(found))
        raise ValueError(
            f"lists and boxes must agree on most scans, got {num} of {of} ({num / of:.1%}) that contradict, more than "
            f"{policy.max_contradiction_fraction:.1%} ({examples}); the lists belong to another release of the corpus: "
            f"give the right ones by --lists, or take these all the same by --max-contradiction-fraction 1"
        )
    return {
        kind: {
            "count": found.counts[kind],
            "examples": [{"key": key, "detail": detail} for key, detail in found.examples[kind]],
        }
        for kind in sorted(found.counts)
    }


def count_kinds(found: Iterable[tuple[str, str, str]]) -> dict[str, Any]:
    """Return what the manifest says about findings, given as kind, key and description."""
    by_kind: dict[str, list[Example]] = {}
    for kind, key, detail in found:
        by_kind.setdefault(kind, []).append((key, escape_control_characters(detail)))
    return {
        kind: {
            "count": len(items),
            "examples": [{"key": key, "detail": detail} for key, detail in _first(items)],
        }
        for kind, items in sorted(by_kind.items())
    }


def add_contradictions(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the contradictions of several manifests, summed by kind."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for part in parts:
        for kind, entry in part.items():
            found.setdefault(kind, []).append(entry)
    return {
        kind: {
            "count": sum(entry["count"] for entry in found[kind]),
            "examples": sorted(
                (example for entry in found[kind] for example in entry["examples"]),
                key=lambda example: (example["key"], example["detail"]),
            )[:MAX_EXAMPLES],
        }
        for kind in sorted(found)
    }


def _label_examples(found: Contradictions) -> Iterator[Example]:
    kinds = ("boxed_not_listed", "listed_not_boxed")
    yield from sorted({example for kind in kinds for example in found.examples.get(kind, ())})[:3]
