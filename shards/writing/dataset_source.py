"""List, select and copy the samples of other datasets.

Image bytes are copied by offset and compared with the checksum of their row; nothing is decoded. A sample whose bytes
differ is refused by itself. Records that the inputs refused are carried over.
"""

import hashlib
import io
import json
import marshal
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from shards import storage
from shards.corpus.facts import UNLISTED
from shards.corpus.read_scan import Scan
from shards.curation.sql_filter import choose_rows
from shards.curation.subsets import Census, take_census
from shards.curation.subsets import Selection as SubsetSelection
from shards.format.classes import ClassSet
from shards.format.dataset import Dataset
from shards.format.keys import escape_control_characters
from shards.format.manifest import ShardInfo, quarantine_url
from shards.format.parquet import read_parquet
from shards.images.inspect import ImageBytes
from shards.shuffle import pack, unpack
from shards.verify.shard import shard_metadata

_MAX_GAP_BYTES = 64 * 1024
"""Reading this much in vain is cheaper than a second request to an object store."""
_PLACE_COLUMNS = ("shard", "offset_bytes", "size_bytes")


class SampleRef(NamedTuple):
    """A sample of an input, or a record that the input refused, by reference."""

    key: str
    input_index: int
    """If inputs share a key, the first wins."""
    shard: str
    row_index: int
    reason: str
    """Why it is refused, a fixed word; empty for a sample."""
    split: str
    size_bytes: int
    offset_bytes: int
    source_url: str
    """The tar."""
    packed_row: bytes
    """Its row of `samples` without the place in the tar, or its row of `quarantine`, marshalled."""

    @property
    def bytes_url(self) -> str:
        """The tar."""
        return self.source_url

    @property
    def row(self) -> dict[str, Any]:
        """The row; unpacked at each access."""
        row: dict[str, Any] = marshal.loads(self.packed_row)
        return row


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which samples and classes of the inputs to take."""

    classes: ClassSet
    splits: tuple[str, ...] = ()
    """Empty: all."""
    condition: str = ""
    """SQL over `samples`; empty: all rows."""
    subset: str = "all"
    """`positives`: only samples with one of the scored classes. `10`, `100`, `1000`: see `shards.curation.subsets`."""

    @property
    def takes_all(self) -> bool:
        """Whether all rows of the splits are taken; then refused records are carried over too."""
        return not self.condition and self.subset == "all"


def list_samples(dataset: Dataset, input_index: int, info: ShardInfo, selection: Selection) -> Iterator[SampleRef]:
    """Yield the selected samples of one shard and, if all are selected, its refused records.

    Raises:
        ValueError: a table is not the one that the manifest names.
    """
    if selection.splits and info.split not in selection.splits:
        return
    tar_url = dataset.tar_url(info)
    table = _read_table(dataset.samples_url(info), info.samples_sha256)
    chosen = choose_rows(table, selection.condition) if selection.condition else range(table.num_rows)
    for number, row in zip(chosen, table.take(pa.array(chosen, pa.int64())).to_pylist(), strict=True):
        labels = {name: row["labels"].get(name) for name in selection.classes.all}
        if selection.subset == "positives" and not any(labels[name] == 1 for name in selection.classes.scored):
            continue
        boxes = [box for box in row["boxes"] if box["class"] in labels]
        place = (row["size_bytes"], row["offset_bytes"])
        row = {name: value for name, value in row.items() if name not in _PLACE_COLUMNS}
        row |= {"labels": labels, "boxes": boxes, "duplicate_of": None}
        yield SampleRef(row["key"], input_index, info.name, number, "", info.split, *place, tar_url, marshal.dumps(row))
    if info.num_quarantined and selection.takes_all:
        refused = _read_table(quarantine_url(dataset.url, info.name), info.quarantine_sha256)
        for number, row in enumerate(refused.to_pylist()):
            place = (0, 0)
            reason, packed = row["reason"], marshal.dumps(row)
            yield SampleRef(row["key"], input_index, info.name, number, reason, info.split, *place, tar_url, packed)


def join_samples(batches: Iterable[bytes]) -> bytes:
    """Return the records of some keys, packed; if samples share a key, all but the first input's are refused.

    All records of a key must be in `batches`.
    """
    by_key: defaultdict[str, list[SampleRef]] = defaultdict(list)
    for batch in batches:
        for ref in unpack(batch):
            by_key[ref.key].append(ref)
    return pack([ref for key in sorted(by_key) for ref in _refuse_all_but_first(sorted(by_key[key]))])


def _refuse_all_but_first(refs: Sequence[SampleRef]) -> Iterator[SampleRef]:
    first: SampleRef | None = None
    for ref in refs:
        if ref.reason or first is None:
            first = first if ref.reason else ref
            yield ref
            continue
        detail = f"{storage.as_uri(first.source_url)} has a sample with this key already"
        row = _quarantine_row(ref, "list", "duplicate_key", detail, ref.row["sha256"])
        yield ref._replace(reason="duplicate_key", packed_row=marshal.dumps(row))


def census_of_samples(batch: bytes, scored_classes: Sequence[str], seed: int) -> Census:
    """Return the candidates for a subset in a batch: samples whose scored labels are known."""
    kinds = ((ref.key, _holds_item(ref, scored_classes)) for ref in unpack(batch) if not ref.reason)
    return take_census(((key, kind) for key, kind in kinds if kind is not None), seed)


def select_samples(batch: bytes, chosen: SubsetSelection, scored_classes: Sequence[str]) -> bytes:
    """Return the samples of a batch that belong to a subset.

    A sample in train, val or test stays there, so that no test scan is trained on; others get the subset's split.
    """
    selected = []
    for ref in unpack(batch):
        kind = None if ref.reason else _holds_item(ref, scored_classes)
        split = None if kind is None else chosen.split_of(ref.key, kind)
        if split is not None:
            split = split if ref.split == UNLISTED else ref.split
            packed = marshal.dumps(ref.row | {"split": split})
            selected.append(ref._replace(split=split, packed_row=packed))
    return pack(selected)


def _holds_item(ref: SampleRef, scored_classes: Sequence[str]) -> bool | None:
    labels = ref.row["labels"]
    scored = [labels[name] for name in scored_classes]
    return True if 1 in scored else None if None in scored else False


@dataclass(frozen=True, slots=True)
class SampleSource:
    """Reads the samples of other datasets for `shards.writing.shard_writer.write_shard`."""

    inputs: tuple[Dataset, ...]
    classes: ClassSet

    def read(self, refs: Sequence[SampleRef]) -> list[Scan | dict[str, Any]]:
        """Return the sample of each record from its tar, or its quarantine row."""
        by_tar: defaultdict[str, list[SampleRef]] = defaultdict(list)
        for ref in refs:
            if not ref.reason:
                by_tar[ref.source_url].append(ref)
        images = {key: image for url, members in by_tar.items() for key, image in _read_images(url, members)}
        # A key has at most one sample: the others were refused when inputs were joined.
        return [ref.row if ref.reason else _check_image(ref, images[ref.key]) for ref in refs]

    def digest_plan(self, name: str, refs: Sequence[SampleRef]) -> str:
        """Return a digest of the rows, or the plan of the input's shard if this one equals it.

        So resharding a dataset with its own settings gives the same bytes.
        """
        if kept := self._kept_plan(name, refs):
            return kept
        rows = [(ref.row, ref.size_bytes) for ref in refs]
        text = json.dumps([self.classes.scored, self.classes.unscored, rows], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def is_settled(self, table: pa.Table, refs: Sequence[SampleRef]) -> bool:
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
        if not is_whole or (manifest.classes, manifest.scored_classes) != (self.classes.all, self.classes.scored):
            return ""
        return str(shard_metadata(read_parquet(dataset.samples_url(info), ["key"]))["plan"])


def _read_images(tar_url: str, refs: Sequence[SampleRef]) -> Iterator[tuple[str, ImageBytes]]:
    """Yield key and bytes of each sample; neighbours are read in one request."""
    for run in _runs(sorted(refs, key=lambda ref: ref.offset_bytes)):
        start = run[0].offset_bytes
        end = max(ref.offset_bytes + ref.size_bytes for ref in run)
        piece = memoryview(storage.read_range(tar_url, start, end - start))
        for ref in run:
            at = ref.offset_bytes - start
            yield ref.key, piece[at : at + ref.size_bytes]


def _runs(refs: Sequence[SampleRef]) -> Iterator[list[SampleRef]]:
    run: list[SampleRef] = []
    for ref in refs:
        if run and ref.offset_bytes - (run[-1].offset_bytes + run[-1].size_bytes) > _MAX_GAP_BYTES:
            yield run
            run = []
        run.append(ref)
    if run:
        yield run


def _check_image(ref: SampleRef, image: ImageBytes) -> Scan | dict[str, Any]:
    checksum, row = hashlib.sha256(image).hexdigest(), ref.row
    if checksum == row["sha256"]:
        return Scan(row, image)
    where = f"{ref.size_bytes} bytes from {ref.offset_bytes} of {storage.as_uri(ref.source_url)}"
    if len(image) < ref.size_bytes:
        return _quarantine_row(ref, "read", "truncated_shard", f"the tar ends within {where}", None)
    detail = f"the row says sha256 {row['sha256']}, {where} have {checksum}"
    return _quarantine_row(ref, "read", "checksum_mismatch", detail, checksum)


def _quarantine_row(ref: SampleRef, stage: str, reason: str, detail: str, sha256: str | None) -> dict[str, Any]:
    return {
        "source_uri": ref.row["source_uri"],
        "key": ref.key,
        "stage": stage,
        "reason": reason,
        "detail": escape_control_characters(detail),
        "sha256": sha256,
    }


def _read_table(url: str, sha256: str) -> pa.Table:
    data = storage.read_bytes(url)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ValueError(
            f"table must have sha256 {sha256} as the manifest says, got {found} ({url}); run `sixray verify` on the "
            f"dataset, and convert it again"
        )
    return pq.read_table(io.BytesIO(data))
