"""Decide the labels of a scan, and what becomes of it where its list and its boxes disagree."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from shards.corpus.boxes import Annotation, AnnotationError
from shards.corpus.facts import Labels
from shards.format.classes import Box, ClassSet

OnContradiction = Literal["quarantine", "keep-list", "keep-boxes"]
OnUnlisted = Literal["keep", "quarantine", "stop"]
OnMissing = Literal["quarantine", "stop"]
OnUnknownClass = Literal["drop", "quarantine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a conversion does when sources conflict."""

    on_contradiction: OnContradiction = "quarantine"
    """A scan whose lists, folder or boxes contradict each other. `keep-list`: the first list decides, and
    boxes that it denies are dropped; `keep-boxes`: the boxes decide."""
    on_unlisted: OnUnlisted = "keep"
    """An image that no list names: kept in the split `unlisted`, quarantined, or a reason to stop."""
    on_missing: OnMissing = "quarantine"
    """A list's line or an annotation without its image."""
    on_unknown_class: OnUnknownClass = "drop"
    """An object of no known class in an annotation. drop: the object is left out and counted, and without a list
    classes that have no box stay unknown; quarantine: its scan is refused."""
    max_contradiction_fraction: float = 0.05
    """Of the scans with a line and boxes; if more contradict each other, the list belongs to another release."""
    strict_decode: bool = False
    """Decode every image once: one whose data ends early or is damaged within is refused."""
    transcode: bool = False
    """Convert images of other formats to JPEG, instead of keeping PNG and refusing the rest."""
    boxes_are_exhaustive: bool = False
    """A class without a box is absent from a scan that has an annotation and no line in a list."""

    def __post_init__(self) -> None:
        for name, kind in (
            ("on_contradiction", OnContradiction),
            ("on_unlisted", OnUnlisted),
            ("on_missing", OnMissing),
            ("on_unknown_class", OnUnknownClass),
        ):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {get_args(kind)}, got {getattr(self, name)!r}")
        if not 0 <= self.max_contradiction_fraction <= 1:
            raise ValueError(f"max_contradiction_fraction must be in [0, 1], got {self.max_contradiction_fraction}")


def compare_labels(
    listed: Labels | None, annotation: Annotation | None, classes: ClassSet
) -> Iterator[tuple[str, str]]:
    """Yield kind and description of each way in which a list's line and an annotation disagree.

    An annotation without boxes claims nothing, nor does a doubtful label; one from which an object was dropped does not
    deny the classes that have no box.
    """
    if listed is None or annotation is None or not annotation.boxes:
        return
    listed_labels = dict(zip(classes.scored, listed, strict=True))
    boxed = annotation.class_names
    present = sorted(name for name, label in listed_labels.items() if label == 1)
    detail = f"the list says {present}, the annotation says {sorted(boxed)}"
    if any(label == 0 and name in boxed for name, label in listed_labels.items()):
        yield "boxed_not_listed", detail
    if not annotation.is_partial and any(label == 1 and name not in boxed for name, label in listed_labels.items()):
        yield "listed_not_boxed", detail


def merge_labels(
    listed: Labels | None, annotation: Annotation | None, classes: ClassSet, policy: Policy
) -> tuple[dict[str, int | None], tuple[Box, ...]]:
    """Return the label of each class and the boxes, from the list's line and the annotation.

    A list labels the scored classes, an annotation with boxes labels all; one without boxes claims nothing. Without a
    list, a box proves that its class is present. Absence is known only if boxes are exhaustive and none was dropped: an
    object of an unknown class may be a misspelt one.

    Raises:
        AnnotationError: label_contradiction, if they name different scored classes and the policy refuses that.
    """
    if annotation is None and listed is None:
        return dict.fromkeys(classes.all), ()
    boxes = annotation.boxes if annotation else ()
    boxed = frozenset(box.class_name for box in boxes)
    is_partial = annotation is not None and annotation.is_partial
    is_exhaustive = annotation is not None and policy.boxes_are_exhaustive and not is_partial
    labels: dict[str, int | None] = {name: 1 if name in boxed else 0 if is_exhaustive else None for name in classes.all}
    if listed is None:
        return labels, boxes
    listed_labels = dict(zip(classes.scored, listed, strict=True))
    disagreement = next(compare_labels(listed, annotation, classes), None)
    if disagreement is not None and policy.on_contradiction == "quarantine":
        raise AnnotationError("label_contradiction", disagreement[1])
    if disagreement is not None and policy.on_contradiction == "keep-boxes":
        denied = 1 if is_partial else 0  # with objects dropped, the list knows of more
        listed_labels = {
            name: None if label is None else 1 if name in boxed else min(label, denied)
            for name, label in listed_labels.items()
        }
    labels |= listed_labels
    if boxed and not is_partial:
        labels |= {name: int(name in boxed) for name in classes.unscored}
    return labels, tuple(box for box in boxes if labels[box.class_name] != 0)
