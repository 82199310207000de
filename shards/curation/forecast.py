"""Forecast what a conversion would make of records, from all that is known before an image is read."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from shards.corpus.boxes import UNKNOWN_CLASS, Annotation, AnnotationError
from shards.corpus.policy import Policy, merge_labels
from shards.corpus.records import SKIPPED, ScanRef
from shards.curation.findings import Summary
from shards.format.classes import ClassSet
from shards.shuffle import unpack

MAX_EXAMPLES = 3
Example = tuple[str, str]
"""Key and description."""

REMEDIES = {
    "missing_image": "give the folder that has the images by --images, or take the names out of the lists",
    "duplicate_key": "rename one of the files, or leave one folder out by naming the others with --images",
    "label_contradiction": "--on-contradiction keep-list or keep-boxes",
    "split_contradiction": "take the scan out of one list, or --on-contradiction keep-list",
    "bad_list_row": "mend the line: a name, then 1, -1 or 0 for each class",
    "duplicate_annotation": "remove one of the two files",
    "bad_key": "shorten the name of the file",
    "empty_file": "copy the file again",
    "unreadable_xml": "mend the file, or remove it: its scan is then unlabelled",
    "unreadable_annotation": "mend the file, or remove it: its scan is then unlabelled",
    "bad_box": "mend the box in the annotation",
    "unknown_class": "--classes with all names, --class-map SPELLING=CLASS, or --on-unknown-class drop",
    "unlisted_image": "--on-unlisted keep",
    "not_a_file": "put the file itself there, in place of the link",
    "damaged_archive": "download the archive again",
}
"""What mends each reason for which a scan is refused before its image is read."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would become of the scans of a corpus."""

    summary: Summary = field(default_factory=Summary)
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The first few keys of each reason."""
    repairs: dict[str, tuple[int, Example]] = field(default_factory=dict)
    """Of annotations, as far as they need no image: their number by kind, and the first by key."""


def forecast_records(batch: bytes, classes: ClassSet, policy: Policy) -> Forecast:
    """Return what would become of a batch of records."""
    summary = Summary()
    examples: dict[str, list[str]] = {}
    repairs: dict[str, tuple[int, Example]] = {}
    num_labelled = 0
    for ref in unpack(batch):
        if ref.reason == SKIPPED:
            continue
        labels: dict[str, int | None] = {}
        reason = ref.reason
        try:
            labels = {} if reason else _foresee_labels(ref, classes, policy)
        except AnnotationError as error:
            reason = error.reason
        if reason:
            summary.refused[ref.split, reason] += 1
            examples.setdefault(reason, []).append(ref.key)
            continue
        for kind, detail in ref.annotation.repairs if ref.annotation else ():
            _add_repairs(repairs, kind, 1, (ref.key, detail))
        summary.scans[ref.split] += 1
        num_labelled += any(label is not None for label in labels.values())
        summary.positives.update((ref.split, name) for name, label in labels.items() if label == 1)
    found = Summary(summary.scans, summary.refused, summary.positives, num_labelled)
    return Forecast(found, {reason: _first(keys) for reason, keys in examples.items()}, repairs)


def sum_forecasts(parts: Iterable[Forecast]) -> Forecast:
    """Return the sum."""
    total = Summary()
    examples: dict[str, tuple[str, ...]] = {}
    repairs: dict[str, tuple[int, Example]] = {}
    num_labelled = 0
    for part in parts:
        total.scans.update(part.summary.scans)
        total.refused.update(part.summary.refused)
        total.positives.update(part.summary.positives)
        num_labelled += part.summary.num_labelled
        for reason, keys in part.examples.items():
            examples[reason] = _first([*examples.get(reason, ()), *keys])
        for kind, (count, example) in part.repairs.items():
            _add_repairs(repairs, kind, count, example)
    return Forecast(Summary(total.scans, total.refused, total.positives, num_labelled), examples, repairs)


def _add_repairs(repairs: dict[str, tuple[int, Example]], kind: str, count: int, example: Example) -> None:
    so_far, first = repairs.get(kind, (0, example))
    repairs[kind] = (so_far + count, min(first, example))


def _foresee_labels(ref: ScanRef, classes: ClassSet, policy: Policy) -> dict[str, int | None]:
    if not ref.size_bytes:
        raise AnnotationError("empty_file", "")
    if ref.annotation is None:
        return merge_labels(ref.labels, None, classes, policy)[0]
    said = ref.annotation
    if said.reason:
        raise AnnotationError(said.reason, said.detail)
    annotation = Annotation(said.boxes, said.repairs, said.size, said.is_relative)
    if policy.on_unknown_class == "quarantine" and annotation.unknown_class:
        raise AnnotationError(UNKNOWN_CLASS, annotation.unknown_class)
    return merge_labels(ref.labels, annotation, classes, policy)[0]


def _first(keys: list[str]) -> tuple[str, ...]:
    return tuple(heapq.nsmallest(MAX_EXAMPLES, keys))
