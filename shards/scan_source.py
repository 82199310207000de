"""Where do the samples of a shard come from when a corpus is converted? Its files, each read once and checked."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shards import storage
from shards.classes import ClassSet
from shards.records import ScanRef
from shards.scans import Scan, read_scan


@dataclass(frozen=True, slots=True)
class ScanSource:
    """Reads the scans of a corpus for `shards.writer.write_shard`."""

    classes: ClassSet

    def read(self, refs: Sequence[ScanRef]) -> list[Scan | dict[str, Any]]:
        """Return the sample of each record, or its quarantine row."""
        return [read_scan(ref, self.classes) for ref in refs]

    def digest_plan(self, name: str, refs: Sequence[ScanRef]) -> str:
        """Return what a shard's bytes follow from: the records and their annotations' bytes, but not the images'.

        An annotation that was corrected makes its shard anew; an image that was replaced by one of the same size does
        not, for that would mean to read the whole corpus to find that nothing is to do.
        """
        annotations = [_digest_annotation(ref.annotation_url) for ref in refs if ref.annotation_url]
        text = json.dumps([self.classes.scored, self.classes.unscored, refs, annotations], separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest()


def _digest_annotation(url: str) -> str:
    try:
        return storage.sha256_of(url)
    except OSError as error:  # its record is refused when it is read, and tried again by the next run
        return f"{type(error).__name__}"
