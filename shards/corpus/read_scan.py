"""Read the image of a record and make a sample of it, or a quarantine row that says why not."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shards import storage
from shards.corpus.archives import ArchiveError, read_place
from shards.corpus.boxes import UNKNOWN_CLASS, Annotation, AnnotationError, fit_boxes
from shards.corpus.facts import MAX_IMAGE_BYTES
from shards.corpus.policy import Policy, merge_labels
from shards.corpus.records import ScanRef
from shards.format.classes import ClassSet
from shards.format.keys import escape_control_characters
from shards.images.decode import check_decodable
from shards.images.inspect import ImageBytes, is_jpeg, read_image_size
from shards.images.jpeg import ImageError
from shards.images.transcode import to_jpeg

RETRYABLE_REASONS = frozenset({"changed_image", "unreadable_file", "vanished_image"})
"""Refusals that the next run tries again, because the file may be readable then."""

SIZE_MISMATCH = "size_mismatch"
Remark = tuple[str, str, str]
"""`repairs` or `contradictions`, kind and description: what was found when a scan was read."""
_DEFAULT_POLICY = Policy()


@dataclass(frozen=True, slots=True)
class Scan:
    """A sample: its row, still without its place in a tar, and the bytes of its image."""

    row: dict[str, Any]
    image: ImageBytes
    remarks: tuple[Remark, ...] = ()


def read_scan(
    ref: ScanRef, classes: ClassSet, policy: Policy = _DEFAULT_POLICY, metadata_fields: Sequence[str] = ()
) -> Scan | dict[str, Any]:
    """Read a record's image; return the sample, or its quarantine row, perhaps with `remarks`, if it is refused."""
    if ref.reason:
        return _quarantine_row(ref, "list", ref.reason, ref.detail)
    image: bytes | None = None
    try:
        image = read_image(ref)
        if policy.transcode and image and not is_jpeg(image):
            image = to_jpeg(image)
        width, height = read_image_size(image)
        if policy.strict_decode:
            check_decodable(image)
        annotation, misfit = _check_annotation(ref, width, height, policy)
        labels, boxes = merge_labels(ref.labels, annotation, classes, policy)
    except (ImageError, AnnotationError) as error:
        row = _quarantine_row(ref, "read", error.reason, error.detail, image)
        is_contradiction = error.reason == SIZE_MISMATCH
        return row | {"remarks": (("contradictions", error.reason, error.detail),)} if is_contradiction else row
    row = {
        "key": ref.key,
        "split": ref.split,
        "sha256": hashlib.sha256(image).hexdigest(),
        "width_px": width,
        "height_px": height,
        "labels": labels,
        "boxes": [box.to_row() for box in boxes],
        "source_uri": escape_control_characters(storage.as_uri(ref.source_url)),
        "duplicate_of": None,
        "group": ref.group or None,
    }
    if metadata_fields:
        row["metadata"] = dict(zip(metadata_fields, ref.metadata, strict=True)) if ref.metadata else None
    repairs = annotation.repairs if annotation else ()
    remarks = [("repairs", kind, detail) for kind, detail in repairs]
    if misfit:
        remarks.append(("contradictions", SIZE_MISMATCH, misfit))
    return Scan(row, image, tuple(remarks))


def read_image(ref: ScanRef) -> bytes:
    """Return the bytes of a record's image; ImageError says why they cannot be read."""
    if ref.size_bytes > MAX_IMAGE_BYTES:
        raise ImageError("oversized_file", f"the file has {ref.size_bytes} bytes, at most {MAX_IMAGE_BYTES} are read")
    try:
        if ref.image_place is not None:
            return _read_packed_image(ref)
        # One byte more than was listed, to notice a file that has grown without reading all of it.
        image = storage.read_range(ref.source_url, 0, ref.size_bytes + 1)
    except ConnectionError:
        raise  # the store cannot be reached: every scan that is left would be refused
    except FileNotFoundError as error:
        raise ImageError("vanished_image", "the file was there when the corpus was listed, and is gone") from error
    except OSError as error:
        raise ImageError("unreadable_file", f"{type(error).__name__}: {error.strerror or error}") from error
    if len(image) != ref.size_bytes:
        found = "more" if len(image) > ref.size_bytes else f"{len(image)}"
        raise ImageError("changed_image", f"the file had {ref.size_bytes} bytes when it was listed, and has {found}")
    return image


def _read_packed_image(ref: ScanRef) -> bytes:
    assert ref.image_place is not None
    try:
        data = read_place(ref.image_place, MAX_IMAGE_BYTES + 1)
    except ArchiveError as error:
        raise ImageError("damaged_archive", str(error)) from error
    if len(data) != ref.size_bytes:
        raise ImageError("damaged_archive", f"the archive says {ref.size_bytes} bytes, it holds {len(data)} or more")
    return data


def _check_annotation(ref: ScanRef, width_px: int, height_px: int, policy: Policy) -> tuple[Annotation | None, str]:
    """Return the annotation, fitted to the image, and why it belongs to one of another size; empty if it does not."""
    if ref.annotation is None:
        return None, ""
    if ref.annotation.reason:
        raise AnnotationError(ref.annotation.reason, ref.annotation.detail)
    said = ref.annotation
    annotation = Annotation(said.boxes, said.repairs, said.size, said.is_relative)
    if policy.on_unknown_class == "quarantine" and annotation.unknown_class:
        raise AnnotationError(UNKNOWN_CLASS, annotation.unknown_class)
    annotation, misfit = fit_boxes(annotation, width_px, height_px)
    if misfit and policy.on_contradiction == "quarantine":
        raise AnnotationError(SIZE_MISMATCH, misfit)
    if misfit and policy.on_contradiction == "keep-list":
        return None, misfit
    return annotation, misfit


def _quarantine_row(ref: ScanRef, stage: str, reason: str, detail: str, image: bytes | None = None) -> dict[str, Any]:
    return {
        "source_uri": escape_control_characters(storage.as_uri(ref.source_url)),
        "key": ref.key,
        "stage": stage,
        "reason": reason,
        "detail": escape_control_characters(detail),
        "sha256": hashlib.sha256(image).hexdigest() if image is not None else None,
    }
