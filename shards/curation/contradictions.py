"""How often do the sources of a corpus disagree, in which way, and is one of them the wrong one altogether?

Counted before anything is written, from the records and their annotations: a list that belongs to another release
numbers the same scans otherwise, and contradicts the boxes of half of them.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from shards.corpus.annotations import AnnotationError
from shards.corpus.label_merge import compare_labels
from shards.corpus.policy import Policy
from shards.corpus.read_scan import read_annotation
from shards.corpus.records import ScanRef
from shards.format.classes import ClassSet
from shards.format.keys import escape_control_characters
from shards.shuffle import unpack

MAX_EXAMPLES = 5
MIN_CONTRADICTIONS = 20
"""Fewer are mistakes in a few scans, however small the corpus is."""

_READ_THREADS = 8
Example = tuple[str, str]
"""Key, and what its sources say."""


@dataclass(frozen=True, slots=True)
class Contradictions:
    """What was found when the sources were held against each other."""

    num_compared: int = 0
    """Scans that have a list's line and boxes."""
    num_contradicted: int = 0
    """Scans among them of which the two say different things."""
    counts: dict[str, int] = field(default_factory=dict)
    """How many scans disagree in each way."""
    examples: dict[str, tuple[Example, ...]] = field(default_factory=dict)
    """The first few of each by key, so that they do not depend on who was looked at first."""


def find_contradictions(batch: bytes, classes: ClassSet) -> Contradictions:
    """Return what the sources of a batch of records disagree on; their annotations are read for it."""
    refs: list[ScanRef] = unpack(batch)
    both = [ref for ref in refs if ref.labels and ref.annotation_url and ref.reason != "duplicate_annotation"]
    with ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="compare-labels") as pool:
        compared = list(pool.map(lambda ref: _compare(ref, classes), both))
    said = [(kind, (ref.key, words)) for ref in refs for kind, words in ref.remarks]
    said += [(kind, (key, words)) for _, key, found in compared for kind, words in found]
    counts: dict[str, int] = {}
    examples: dict[str, list[Example]] = {}
    for kind, (key, words) in said:
        counts[kind] = counts.get(kind, 0) + 1
        examples.setdefault(kind, []).append((key, escape_control_characters(words)))
    return Contradictions(
        sum(has_boxes for has_boxes, _, _ in compared),
        sum(bool(found) for _, _, found in compared),
        counts,
        {kind: _first(items) for kind, items in examples.items()},
    )


def _compare(ref: ScanRef, classes: ClassSet) -> tuple[bool, str, list[tuple[str, str]]]:
    try:
        annotation = read_annotation(ref, classes)
    except AnnotationError:  # refused by its own word when it is read for its shard
        return False, ref.key, []
    has_boxes = annotation is not None and bool(annotation.boxes)
    return has_boxes, ref.key, list(compare_labels(ref.labels, annotation, classes))


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


def check_contradictions(found: Contradictions, policy: Policy) -> dict[str, Any]:
    """Return what the manifest says of contradictions, by kind.

    Raises:
        ValueError: lists and boxes contradict each other so often that the lists must be those of another release.
    """
    num, of = found.num_contradicted, found.num_compared
    if num >= MIN_CONTRADICTIONS and num > policy.max_contradiction_fraction * of:
        examples = "; ".join(f"{key}: {words}" for key, words in _label_examples(found))
        raise ValueError(
            f"lists and boxes must agree on most scans, got {num} of {of} ({num / of:.1%}) that contradict, more than "
            f"{policy.max_contradiction_fraction:.1%} ({examples}); the lists belong to another release of the corpus: "
            f"give the right ones by --lists, or take these all the same by --max-contradiction-fraction 1"
        )
    return {
        kind: {
            "count": found.counts[kind],
            "examples": [{"key": key, "detail": words} for key, words in found.examples[kind]],
        }
        for kind in sorted(found.counts)
    }


def add_contradictions(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of what several manifests say of contradictions, by kind."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for part in parts:
        for kind, said in part.items():
            found.setdefault(kind, []).append(said)
    return {
        kind: {
            "count": sum(said["count"] for said in found[kind]),
            "examples": sorted(
                (example for said in found[kind] for example in said["examples"]),
                key=lambda example: (example["key"], example["detail"]),
            )[:MAX_EXAMPLES],
        }
        for kind in sorted(found)
    }


def _label_examples(found: Contradictions) -> Iterator[Example]:
    kinds = ("boxed_not_listed", "listed_not_boxed")
    yield from sorted({example for kind in kinds for example in found.examples.get(kind, ())})[:3]
