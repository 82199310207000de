"""How does a record become a sample, or a quarantine row that says why not?"""

import hashlib
from dataclasses import dataclass
from typing import Any

from shards import storage
from shards.classes import ClassSet
from shards.corpus import printable
from shards.images import read_image_size
from shards.jpeg import ImageError
from shards.records import Labels, ScanRef
from shards.voc import MAX_ANNOTATION_BYTES, Annotation, AnnotationError, parse_annotation

MAX_IMAGE_BYTES = 64 * 1024 * 1024
"""Largest file taken as an image; SIXray's largest has half a megabyte."""
RETRYABLE_REASONS = frozenset({"unreadable_file", "vanished_image"})
"""Refusals that the next run tries again: the file may be readable then."""

_BOX_TOLERANCE_PX = 1.0


@dataclass(frozen=True, slots=True)
class Scan:
    """A record that became a sample: its row, still without a place in a tar, and its image's bytes."""

    row: dict[str, Any]
    image: bytes


def read_scan(ref: ScanRef, classes: ClassSet) -> Scan | dict[str, Any]:
    """Read a record's image and annotation; return the sample, or its quarantine row where it must be refused."""
    if ref.reason:
        return _quarantine_row(ref, "list", ref.reason, ref.detail)
    image: bytes | None = None
    try:
        image = _read_image(ref)
        width, height = read_image_size(image)
        annotation = _read_annotation(ref, classes)
        _check_boxes(annotation, width, height)
        labels = merge_labels(ref.labels, annotation, classes)
    except (ImageError, AnnotationError) as error:
        return _quarantine_row(ref, "read", error.reason, error.detail, image)
    row = {
        "key": ref.key,
        "split": ref.split,
        "sha256": hashlib.sha256(image).hexdigest(),
        "width_px": width,
        "height_px": height,
        "labels": labels,
        "boxes": [box.to_row() for box in annotation.boxes] if annotation else [],
        "source_uri": printable(storage.as_uri(ref.source_url)),
        "duplicate_of": None,
    }
    return Scan(row, image)


def merge_labels(listed: Labels | None, annotation: Annotation | None, classes: ClassSet) -> dict[str, int | None]:
    """Return the label of each class, from the list's line and the annotation together.

    A list knows the scored classes, an annotation with boxes knows all. An annotation without any box makes no claim.
    Without a list a box proves that its class is present, and nothing proves absence.

    Raises:
        AnnotationError: label_contradiction, where the two name different scored classes.
    """
    boxed = annotation.class_names if annotation else frozenset()
    labels: dict[str, int | None] = {name: 1 if name in boxed else None for name in classes.all}
    if listed is None:
        return labels
    labels |= dict(zip(classes.scored, listed, strict=True))
    if boxed:
        wrong = [name for name in classes.scored if labels[name] is not None and labels[name] != (name in boxed)]
        if wrong:
            present = sorted(name for name in classes.scored if labels[name] == 1)
            raise AnnotationError(
                "label_contradiction", f"the list says {present}, the annotation says {sorted(boxed)}"
            )
        labels |= {name: int(name in boxed) for name in classes.unscored}
    return labels


def _read_image(ref: ScanRef) -> bytes:
    if ref.size_bytes > MAX_IMAGE_BYTES:
        raise ImageError("oversized_file", f"the file has {ref.size_bytes} bytes, at most {MAX_IMAGE_BYTES} are read")
    try:
        return storage.read_bytes(ref.source_url)
    except FileNotFoundError as error:
        raise ImageError("vanished_image", "the file was there when the corpus was listed, and is gone") from error
    except OSError as error:
        raise ImageError("unreadable_file", f"{type(error).__name__}: {error.strerror or error}") from error


def _read_annotation(ref: ScanRef, classes: ClassSet) -> Annotation | None:
    if ref.annotation_url is None:
        return None
    try:
        # One byte more than is allowed: the parser refuses it, and memory stays bounded.
        with storage.open_reader(ref.annotation_url) as handle:
            text = handle.read(MAX_ANNOTATION_BYTES + 1)
    except OSError as error:
        detail = f"{storage.as_uri(ref.annotation_url)}: {type(error).__name__}: {error.strerror or error}"
        raise AnnotationError("unreadable_file", detail) from error
    return parse_annotation(text, classes.spellings)


def _check_boxes(annotation: Annotation | None, width_px: int, height_px: int) -> None:
    for box in annotation.boxes if annotation else ():
        if box.xmax_px > width_px + _BOX_TOLERANCE_PX or box.ymax_px > height_px + _BOX_TOLERANCE_PX:
            raise AnnotationError("bad_box", f"{box} leaves the image of {width_px} x {height_px} pixels")


def _quarantine_row(ref: ScanRef, stage: str, reason: str, detail: str, image: bytes | None = None) -> dict[str, Any]:
    return {
        "source_uri": printable(storage.as_uri(ref.source_url)),
        "key": ref.key,
        "stage": stage,
        "reason": reason,
        "detail": printable(detail),
        "sha256": hashlib.sha256(image).hexdigest() if image is not None else None,
    }
