"""Read JSON documents and check their format number."""

import json
from typing import Any

from shards import storage


def read_existing(url: str, refusal: str) -> bytes:
    """Return a file; ValueError with the text `refusal` if it does not exist."""
    try:
        return storage.read_bytes(url)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(refusal) from error


class DamagedDocumentError(ValueError):
    """A document that cannot be what was written: `sixray verify` reports it like any other damage."""


def parse_document(
    text: bytes, version: int, subject: str, url: str, remedy: str = "", oldest: int | None = None
) -> dict[str, Any]:
    """Return a JSON object whose `format` is `version`, or from `oldest` on.

    Args:
        text: of the document.
        version: the newest format that is read.
        subject: what the document describes, for messages: `dataset`, `run.json`.
        url: of the document, for messages.
        remedy: what to do about another format.
        oldest: the oldest format that is read, if not `version`.

    Raises:
        DamagedDocumentError: the text is not a JSON object, or has no format number.
        ValueError: it has another format.
    """
    document = parse_object(text, subject, url)
    check_format(document, version, subject, url, remedy, oldest)
    return document


def parse_object(text: bytes, subject: str, url: str) -> dict[str, Any]:
    """Return a JSON object of any format; DamagedDocumentError if the text is something else."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:  # no JSON, no Unicode, or nested too deeply
        raise DamagedDocumentError(f"{subject} must be a JSON document, got {error} ({url})") from error
    if not isinstance(document, dict):
        raise DamagedDocumentError(f"{subject} must be a JSON object, got a {type(document).__name__} ({url})")
    return document


def check_format(
    document: dict[str, Any], version: int, subject: str, url: str, remedy: str = "", oldest: int | None = None
) -> None:
    """Raise ValueError unless the `format` of a document is `version`, or from `oldest` on."""
    found = document.get("format")
    known = range(version if oldest is None else oldest, version + 1)
    if found not in known:
        expected = " or ".join(map(str, known))
        error = ValueError if "format" in document else DamagedDocumentError
        raise error(f"{subject} must have format {expected}, got {found!r} ({url})" + (f"; {remedy}" if remedy else ""))
