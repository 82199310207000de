"""Write the files of a command into its folder, over nothing but an earlier output of the same scores."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from shards import storage
from shards.format.json_document import DamagedDocumentError, parse_object


def _listed_files(document: Mapping[str, Any]) -> list[str]:
    """Return the `files` of a document; none if it lists none."""
    names = document.get("files")
    # They lie below the folder; a name that points elsewhere is not ours.
    return [name for name in names if _is_within(name)] if isinstance(names, list) else []


def _is_within(name: object) -> bool:
    return isinstance(name, str) and all(part not in ("", ".", "..") for part in name.split("/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputKind:
    """What a command writes into a folder: a document, which is written last, and the files beside it."""

    noun: str
    """`report`: a message says "a report"."""
    command: str
    """`sixray evaluate`."""
    document_name: str
    """`metrics.json`."""
    marker_name: str
    """Lies in the folder while it is written: whose it is, and the files that a killed run may leave behind."""
    identity: tuple[str, ...]
    """Fields of the document that two outputs share if one may replace the other."""
    list_files: Callable[[Mapping[str, Any]], Collection[str]] = _listed_files
    """Names of the files that belong to a document."""


REPORT = OutputKind(
    noun="report",
    command="sixray evaluate",
    document_name="metrics.json",
    marker_name="unfinished-report.json",
    identity=("model_id", "dataset_digest", "split"),
)


def check_folder(kind: OutputKind, output: str, document: Mapping[str, Any], names: Collection[str] = ()) -> list[str]:
    """Return the files that an earlier run for the same scores left in a folder.

    Args:
        kind: of the output.
        output: the folder.
        document: of the new output; only the fields of `kind.identity` are read.
        names: of the files that are to be written, as far as they are known.

    Raises:
        ValueError: the folder holds an output of other scores, or a file of another program is in the way.
    """
    files: list[str] = []
    for name, list_files in ((kind.marker_name, _listed_files), (kind.document_name, kind.list_files)):
        url = storage.join_url(output, name)
        if not storage.exists(url):
            continue
        found = _parse(kind, storage.read_bytes(url), url)
        for field in kind.identity:
            if found[field] != document[field]:
                raise ValueError(
                    f"output must be empty or hold a {kind.noun} of the same scores, with {field} {document[field]!r}, "
                    f"got a {kind.noun} with {field} {found[field]!r} ({output}); name another folder, or remove that "
                    f"{kind.noun}"
                )
        files += list_files(found)
    earlier = [name for name in dict.fromkeys(files) if name != kind.document_name]
    _refuse_strangers(kind, output, names, earlier)
    return earlier


def claim_folder(kind: OutputKind, output: str, document: Mapping[str, Any], names: Collection[str]) -> list[str]:
    """Write the marker, so that files of these names are known again after a kill; return and raise as
    `check_folder` does.
    """
    earlier = check_folder(kind, output, document, names)
    marker = {name: document[name] for name in kind.identity} | {"files": sorted({*names, *earlier})}
    url = storage.join_url(output, kind.marker_name)
    storage.write_bytes(url, (json.dumps(marker, indent=1) + "\n").encode())
    return earlier


def release_folder(kind: OutputKind, output: str) -> None:
    """Remove the marker: the document is written."""
    storage.remove(storage.join_url(output, kind.marker_name))


def write_output(
    kind: OutputKind, output: str, document: Mapping[str, Any], files: Mapping[str, bytes], text: bytes
) -> None:
    """Write an output: each file whole, the document last. Who waits for it finds the whole output.

    Files that an earlier run for the same scores left and this one does not have are removed. A run that was killed
    leaves a marker beside its files, so the next one may replace them.

    Args:
        kind: of the output.
        output: the folder.
        document: with the fields of `kind.identity`.
        files: all but the document, by name.
        text: of the document.

    Raises:
        ValueError: a file of another output or program is in the way; nothing was written.
    """
    earlier = claim_folder(kind, output, document, files)
    for name in (kind.document_name, *(name for name in earlier if name not in files)):
        storage.remove(storage.join_url(output, name))
    for name, content in files.items():
        storage.write_bytes(storage.join_url(output, name), content)
    storage.write_bytes(storage.join_url(output, kind.document_name), text)
    release_folder(kind, output)


def _parse(kind: OutputKind, text: bytes, url: str) -> dict[str, Any]:
    try:
        found = parse_object(text, kind.document_name, url)
    except DamagedDocumentError:
        found = {}
    if any(name not in found for name in kind.identity):
        raise ValueError(
            f"output must be empty or hold a {kind.noun} of `{kind.command}`, got another program's "
            f"{storage.base_name(url)} ({url}); name another folder"
        )
    return found


def _refuse_strangers(kind: OutputKind, output: str, names: Iterable[str], own: Collection[str]) -> None:
    if not storage.is_folder(output):
        return
    for name in names:
        if name not in own and storage.exists(storage.join_url(output, name)):
            raise ValueError(
                f"output must hold no file of another program, got a {name} that no {kind.noun} of `{kind.command}` "
                f"lists ({output}); name another folder, or move the file away"
            )
