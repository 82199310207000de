"""Read the samples of a shard from the files of a corpus."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from shards import storage
from shards.corpus.policy import Policy
from shards.corpus.read_scan import Scan, read_scan
from shards.corpus.records import ScanRef
from shards.format.classes import ClassSet
from shards.verify.shard import shard_metadata

_NUM_PLAIN_FIELDS = ScanRef._fields.index("image_place")


@dataclass(frozen=True, slots=True)
class ScanSource:
    """Reads the scans of a corpus for `shards.writing.shard_writer.write_shard`."""

    classes: ClassSet
    policy: Policy = field(default_factory=Policy)
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The fields of the samples' metadata and their types."""
    added: tuple[str, ...] = ()
    """What comes from a scanner is neither projected nor corrected."""

    def read(self, refs: Sequence[ScanRef]) -> list[Scan | dict[str, Any]]:
        """Return the sample of each record, or its quarantine row."""
        fields = tuple(self.metadata)
        return [read_scan(ref, self.classes, self.policy, fields) for ref in refs]

    def digest_plan(self, name: str, refs: Sequence[ScanRef]) -> str:
        """Return a digest of the records and their annotations' bytes, but not of the images' bytes.

        A corrected annotation makes its shard anew. For an image that was replaced by one of the same size see
        `is_settled`; in a store it is not noticed, since every run would have to read the whole corpus.
        """
        annotations = [ref.annotation.digest for ref in refs if ref.annotation]
        # Without places in archives: a stream's images wait in another folder in another run.
        plain = [(*ref[:_NUM_PLAIN_FIELDS], None, None) for ref in refs]
        # Only the options that a sample follows from; the others have shaped the records.
        policy: list[str | bool] = [
            self.policy.on_contradiction,
            self.policy.transcode,
            self.policy.boxes_are_exhaustive,
        ]
        # Newer options only if they are not the default, so that plans of format 1 stay as they are.
        policy += [name for name in (self.policy.on_unknown_class,) if name != "drop"]
        policy += ["strict_decode"] * self.policy.strict_decode
        classes = [self.classes.scored, self.classes.unscored, sorted(self.classes.spellings.items())]
        added = [(ref.key, ref.group, ref.metadata) for ref in refs if ref.group or ref.metadata]
        # Without groups and metadata the digest is that of format 1, so that its conversions can be resumed.
        parts: list[Any] = [classes, policy, plain, annotations]
        parts += [dict(self.metadata), added] if added or self.metadata else []
        text = json.dumps(parts, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest()

    def is_settled(self, table: pa.Table, refs: Sequence[ScanRef], began: float) -> bool:
        """Return whether no record was refused for a file that may be readable now, and no image was replaced since.

        Only images on a local disk that were changed later than they were read, by the time of their inodes, are read
        again and held against the checksums of the rows.
        """
        if shard_metadata(table)["num_retryable"]:
            return False
        known = dict(zip(table["key"].to_pylist(), table["sha256"].to_pylist(), strict=True))
        changed = (ref for ref in refs if not ref.reason and (storage.last_change(ref.bytes_url) or 0) >= began)
        found = ((ref.key, self.read([ref])[0]) for ref in changed)
        # One that was refused and is refused again keeps its row.
        return all(known.get(key) == (scan.row["sha256"] if isinstance(scan, Scan) else None) for key, scan in found)
