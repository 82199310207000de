"""Read and parse the annotations of records, so that a conversion opens each of them once."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from shards import storage
from shards.corpus.annotations import MAX_ANNOTATION_BYTES
from shards.corpus.archives import ArchiveError, Place, read_place
from shards.corpus.boxes import Annotation, AnnotationError
from shards.corpus.facts import Inline
from shards.corpus.records import ReadAnnotation, ScanRef

_READ_THREADS = 8

Parser = Callable[[bytes, Mapping[str, str]], Annotation]


def read_annotations(
    refs: Iterable[ScanRef], parse: Parser, class_of: Mapping[str, str], max_bytes: int = MAX_ANNOTATION_BYTES
) -> list[ScanRef]:
    """Return the records, each with what its annotation says or why that cannot be trusted.

    Args:
        refs: records as they were joined.
        parse: of the corpus' layout.
        class_of: class name by spelling in lower case, see `shards.format.classes.ClassSet.spellings`.
        max_bytes: of an annotation; of a larger one `parse` is given a byte more, to refuse it.
    """
    records = list(refs)
    places = [at for at, ref in enumerate(records) if ref.annotation_url]
    read = partial(_read_annotation, parse=parse, class_of=class_of, max_bytes=max_bytes)
    with ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="read-annotations") as pool:
        for at, annotation in zip(places, pool.map(read, [records[at] for at in places]), strict=True):
            records[at] = records[at]._replace(annotation=annotation, annotation_place=None)
    return records


def _read_annotation(ref: ScanRef, parse: Parser, class_of: Mapping[str, str], max_bytes: int) -> ReadAnnotation:
    digest = ""
    try:
        assert ref.annotation_url is not None
        text = read_text(ref.annotation_url, ref.annotation_place, max_bytes)
        digest = hashlib.sha256(text).hexdigest()
        found = parse(text, class_of)
        return ReadAnnotation(
            digest, found.boxes, repairs=found.repairs, size=found.size, is_relative=found.is_relative
        )
    except AnnotationError as error:
        return ReadAnnotation(digest or error.reason, (), error.reason, error.detail)


def read_text(url: str, place: Place | Inline | None, max_bytes: int = MAX_ANNOTATION_BYTES) -> bytes:
    """Return the bytes of an annotation, one more than allowed at most: memory stays bounded."""
    if isinstance(place, Inline):
        return place.text.encode("utf-8", "surrogatepass")
    try:
        if place is not None:
            return read_place(place, max_bytes + 1)
        with storage.open_reader(url) as handle:
            return handle.read(max_bytes + 1)
    except ArchiveError as error:
        raise AnnotationError("damaged_archive", str(error)) from error
    except ConnectionError:
        raise  # the store cannot be reached: not this annotation's fault
    except OSError as error:
        detail = f"{storage.as_uri(url)}: {type(error).__name__}: {error.strerror or error}"
        raise AnnotationError("unreadable_file", detail) from error
