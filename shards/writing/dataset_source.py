"""Copy the samples of other datasets.

Image bytes are copied by offset and compared with the checksum of their row; nothing is decoded. A sample whose bytes
differ is refused by itself.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from shards import storage
from shards.corpus.read_scan import Scan
from shards.format.classes import ClassSet
from shards.format.dataset import Dataset
from shards.format.parquet import read_parquet
from shards.format.shard_reader import read_spans
from shards.images.inspect import ImageBytes
from shards.verify.shard import shard_metadata
from shards.writing.dataset_samples import SampleRef, quarantine_row

_ADDED_COLUMNS = ("group", "metadata", "projected_from", "corrected_by")


@dataclass(frozen=True, slots=True)
class SampleSource:
    """Reads the samples of other datasets for `shards.writing.shard_writer.write_shard`."""

    inputs: tuple[Dataset, ...]
    classes: ClassSet
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The fields of the samples' metadata and their types."""
    added: tuple[str, ...] = ()
    """Columns of the samples that only some datasets have: `projected_from`, `corrected_by`."""
    is_corrected_anew: bool = False
    """Whether rows may differ from those of the inputs, though the inputs have the same columns."""

    def read(self, refs: Sequence[SampleRef]) -> list[Scan | dict[str, Any]]:
        """Return the sample of each record from its tar, or its quarantine row."""
        by_tar: defaultdict[str, list[SampleRef]] = defaultdict(list)
        for ref in refs:
            if not ref.reason:
                by_tar[ref.source_url].append(ref)
        # A key has at most one sample: the others were refused when inputs were joined.
        images: dict[str, ImageBytes] = {}
        for url, members in by_tar.items():
            pieces = read_spans(url, [(ref.offset_bytes, ref.size_bytes) for ref in members])
            images |= {ref.key: piece for ref, piece in zip(members, pieces, strict=True)}
        return [ref.row if ref.reason else _check_image(ref, images[ref.key]) for ref in refs]

    def digest_plan(self, name: str, refs: Sequence[SampleRef]) -> str:
        """Return a digest of the rows, or the plan of the input's shard if this one equals it.

        So resharding a dataset with its own settings gives the same bytes.
        """
        if kept := self._kept_plan(name, refs):
            return kept
        # Without groups and metadata the digest is that of format 1, so that its datasets can be resumed.
        rows = [(_without_empty(ref.row), ref.size_bytes) for ref in refs]
        text = json.dumps([self.classes.scored, self.classes.unscored, rows], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def is_settled(self, table: pa.Table, refs: Sequence[SampleRef], _began: float) -> bool:
        """Return whether each sample is present with the checksum of its row: none was refused when copied."""
        wanted = [(ref.key, ref.row["sha256"]) for ref in refs if not ref.reason]
        return wanted == list(zip(table["key"].to_pylist(), table["sha256"].to_pylist(), strict=True))

    def _kept_plan(self, name: str, refs: Sequence[SampleRef]) -> str:
        origins = {(ref.input_index, ref.shard) for ref in refs}
        if len(origins) != 1 or (first := refs[0]).shard != name:
            return ""
        dataset = self.inputs[first.input_index]
        (info,) = (info for info in dataset.manifest.shards if info.name == name)
        num_refused = sum(bool(ref.reason) for ref in refs)
        is_whole = (len(refs) - num_refused, num_refused) == (info.num_scans, info.num_quarantined)
        manifest = dataset.manifest
        own = (self.classes.all, self.classes.scored, self.metadata, self.added)
        its = (manifest.classes, manifest.scored_classes, manifest.metadata, manifest.added_columns)
        if not is_whole or own != its or self.is_corrected_anew:
            return ""
        return str(shard_metadata(read_parquet(dataset.samples_url(info), ["key"]))["plan"])


def _without_empty(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None or name not in _ADDED_COLUMNS}


def _check_image(ref: SampleRef, image: ImageBytes) -> Scan | dict[str, Any]:
    checksum, row = hashlib.sha256(image).hexdigest(), ref.row
    if checksum == row["sha256"]:
        return Scan(row, image)
    where = f"{ref.size_bytes} bytes from {ref.offset_bytes} of {storage.as_uri(ref.source_url)}"
    if len(image) < ref.size_bytes:
        return quarantine_row(ref, "read", "truncated_shard", f"the tar ends within {where}", None)
    detail = f"the row says sha256 {row['sha256']}, {where} have {checksum}"
    return quarantine_row(ref, "read", "checksum_mismatch", detail, checksum)
