"""Tell the image and the annotation of a key from other files that have its name."""

from typing import Any

from shards.corpus.archives import Place
from shards.corpus.description import UNKNOWN_EXTENSION, extension_of, image_rank, is_no_image, path_within
from shards.corpus.facts import SIDE_FILE, AnnotationFact, ImageFact, SkippedFact


def split_side_files(images: list[ImageFact]) -> tuple[list[ImageFact], list[SkippedFact]]:
    """Return the images, the likeliest first, and the files of their name that are none.

    Nor are files in the same folder that are in a lesser format.
    """
    if len(images) < 2:
        return images, []  # nearly every scan
    first, *others = sorted(images, key=_image_order)
    path = path_within(first.url)
    folder, rank = path.rpartition("/")[0], max(image_rank(path, first.size_bytes), UNKNOWN_EXTENSION)
    kept, skipped = [first], []
    for image in others:
        path = path_within(image.url)
        is_lesser = image_rank(path, image.size_bytes) > rank and image.size_bytes > 0
        if is_no_image(path) or (is_lesser and path.rpartition("/")[0] == folder):
            skipped.append(SkippedFact(image.key, image.url, SIDE_FILE))
        else:
            kept.append(image)
    return kept, skipped


def split_side_annotations(found: list[AnnotationFact]) -> tuple[list[AnnotationFact], list[SkippedFact]]:
    """Return the annotations, and files of their name in another form, such as the JSON that an XML was made from."""
    annotations = sorted(found, key=lambda fact: fact.url)
    extensions = {extension_of(path_within(fact.url)) for fact in annotations}
    if len(extensions) < 2:
        return annotations, []
    best = next((extension for extension in ("xml", "txt", "json") if extension in extensions), "")
    kept = [fact for fact in annotations if extension_of(path_within(fact.url)) == best]
    return kept, [SkippedFact(fact.key, fact.url, SIDE_FILE) for fact in annotations if fact not in kept]


def drop_copies(annotations: list[AnnotationFact]) -> list[AnnotationFact]:
    """Keep one of several annotations that are equal by the checksums of their zips, or their text."""
    if len(annotations) < 2:
        return annotations
    contents = {_content_of(fact) for fact in annotations}
    return annotations[:1] if len(contents) == 1 and None not in contents else annotations


def _image_order(fact: ImageFact) -> tuple[int, str, int]:
    return image_rank(path_within(fact.url), fact.size_bytes), fact.url, fact.size_bytes


def _content_of(fact: AnnotationFact) -> tuple[Any, ...] | None:
    """Return what is equal for equal annotations as far as that is known before they are read, else None."""
    if isinstance(fact.place, Place):
        return fact.place.crc, fact.place.size_bytes
    return fact.place
