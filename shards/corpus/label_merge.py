"""Compare a scan's line in a list with its boxes, and merge them into labels."""

from collections.abc import Iterator

from shards.corpus.boxes import Annotation, AnnotationError
from shards.corpus.facts import Labels
from shards.corpus.policy import Policy
from shards.format.classes import ClassSet
from shards.format.sample_json import Box


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
