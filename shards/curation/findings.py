"""Describe the findings of a conversion for people."""

from collections.abc import Iterator
from typing import Any

from shards import storage
from shards.format.dataset import Dataset


def _describe_leakage(leakage: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each kind of scans that lie in several splits."""
    for kind, found in leakage.get("kinds", {}).items():
        groups = ", ".join(found["examples"])
        more = ", …" if found["num_groups"] > len(found["examples"]) else ""
        counts = f"{found['num_groups']} {kind} groups of {found['num_scans']} scans"
        yield f"leakage: {counts} cross splits ({groups}{more})"


def describe_findings(document: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each kind of contradiction, repair and skipped file, and of scans that lie in several splits."""
    for kind, found in document.get("contradictions", {}).items():
        keys = [example["key"] for example in found["examples"]] + ["…"] * (found["count"] > len(found["examples"]))
        yield f"contradictions: {found['count']} {kind} ({', '.join(keys)})"
    for kind, found in document.get("repairs", {}).items():
        first = found["examples"][0]
        yield f"repairs: {found['count']} {kind}, such as {first['key']}: {first['detail']}"
    for kind, found in document.get("skipped", {}).items():
        first = found["examples"][0]["detail"]
        yield f"skipped: {found['count']} {kind}, such as {first}"
    yield from _describe_leakage(document.get("leakage", {}))


def describe_mixed_formats(dataset: Dataset) -> Iterator[str]:
    """Yield a line if the tars hold both JPEG and PNG, by their indexes; they are read until both are found."""
    extensions: set[str] = set()
    for shard in dataset.shards():
        lines = storage.read_bytes(dataset.index_url(shard)).decode().splitlines()[1:]
        extensions |= {line.partition(" ")[0] for line in lines}
        if len(extensions) > 1:
            yield (
                "formats: shards mix JPEG and PNG, which the WebDataset loader of Hugging Face datasets refuses; "
                "convert again with --transcode to make all of them JPEG"
            )
            return
