"""Where do the samples of a shard come from when a corpus is converted? Its files, each read once and checked."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from shards.corpus.annotations import AnnotationError
from shards.corpus.policy import Policy
from shards.corpus.read_scan import Scan, read_annotation_text, read_scan
from shards.corpus.records import ScanRef
from shards.format.classes import ClassSet
from shards.verify.shard import shard_metadata


@dataclass(frozen=True, slots=True)
class ScanSource:
    """Reads the scans of a corpus for `shards.writing.shard_writer.write_shard`."""

    classes: ClassSet
    policy: Policy = field(default_factory=Policy)

    def read(self, refs: Sequence[ScanRef]) -> list[Scan | dict[str, Any]]:
        """Return the sample of each record, or its quarantine row."""
        return [read_scan(ref, self.classes, self.policy) for ref in refs]

    def digest_plan(self, name: str, refs: Sequence[ScanRef]) -> str:
        """Return what a shard's bytes follow from: the records and their annotations' bytes, but not the images'.

        An annotation that was corrected makes its shard anew; an image that was replaced by one of the same size does
        not, for that would mean to read the whole corpus to find that nothing is to do.
        """
        annotations = [_digest_annotation(ref) for ref in refs if ref.annotation_url]
        # Not the places within archives: where a stream's images wait is another folder in another run.
        plain = [
            ref._replace(image_place=None, annotation_place=None) if ref.image_place or ref.annotation_place else ref
            for ref in refs
        ]
        # Only the options that a sample follows from; the others have shaped the records.
        policy = [self.policy.on_contradiction, self.policy.transcode, self.policy.boxes_are_exhaustive]
        classes = [self.classes.scored, self.classes.unscored, sorted(self.classes.spellings.items())]
        text = json.dumps([classes, policy, plain, annotations], separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest()

    def is_settled(self, table: pa.Table, refs: Sequence[ScanRef]) -> bool:
        """Say whether no record was refused for a file that may be readable now."""
        return bool(shard_metadata(table)["num_retryable"] == 0)


def _digest_annotation(ref: ScanRef) -> str:
    try:
        return hashlib.sha256(read_annotation_text(ref)).hexdigest()
    except AnnotationError as error:  # its record is refused, and tried again by the next run where that may help
        return error.reason
