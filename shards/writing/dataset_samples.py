"""List, join and select the samples of other datasets, and the records that these refused."""

import hashlib
import io
import marshal
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shards import storage
from shards.corpus.facts import UNLISTED
from shards.curation.corrections import Correction
from shards.curation.sql_filter import choose_rows
from shards.curation.subsets import Census, take_census
from shards.curation.subsets import Selection as SubsetSelection
from shards.format.classes import ClassSet
from shards.format.dataset import Dataset
from shards.format.keys import escape_control_characters
from shards.format.manifest import ShardInfo, quarantine_url
from shards.format.parquet import METADATA_TYPES, PLAIN_TYPES, add_columns, samples_schema
from shards.shuffle import pack, unpack

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
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The fields of the samples' metadata and their types."""
    added: tuple[str, ...] = ()
    """Columns of the samples that only some datasets have: `projected_from`, `corrected_by`."""
    corrections: Mapping[str, Correction] = field(default_factory=dict)
    """By key; applied where the image is the one that was corrected."""
    changes: tuple[dict[str, Any], ...] = ()
    """The rows of the table of corrections for them."""
    keeps_duplicates: bool = False
    """Whether `duplicate_of` is that of the input; else it is left to be found again."""
    splits: tuple[str, ...] = ()
    """Empty: all."""
    condition: str = ""
    """SQL over `samples`; empty: all rows."""
    subset: str = "all"
    """`positives`: only samples with one of the scored classes. `10`, `100`, `1000`: see `shards.curation.subsets`."""
    seed: int = 0
    """Of the samples that a subset of 10, 100 or 1000 draws."""

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
    manifest = dataset.manifest
    schema = samples_schema(manifest.classes, manifest.metadata, added=selection.added)
    table = add_columns(_read_table(dataset.samples_url(info), info.samples_sha256), schema)
    chosen = choose_rows(table, selection.condition) if selection.condition else range(table.num_rows)
    taken = _with_metadata(table.take(pa.array(chosen, pa.int64())), selection.metadata)
    for number, row in zip(chosen, taken.to_pylist(), strict=True):
        labels = {name: row["labels"].get(name) for name in selection.classes.all}
        if selection.subset == "positives" and not any(labels[name] == 1 for name in selection.classes.scored):
            continue
        boxes = [box for box in row["boxes"] if box["class"] in labels]
        place = (row["size_bytes"], row["offset_bytes"])
        row = {name: value for name, value in row.items() if name not in _PLACE_COLUMNS}
        original = row["duplicate_of"] if selection.keeps_duplicates else None
        row |= {"labels": labels, "boxes": boxes, "duplicate_of": original}
        correction = selection.corrections.get(row["key"])
        if correction is not None and correction.sha256 == row["sha256"] and (change := correction.change(row)):
            row |= change | {"corrected_by": correction.author}
        yield SampleRef(row["key"], input_index, info.name, number, "", info.split, *place, tar_url, marshal.dumps(row))
    if info.num_quarantined and selection.takes_all:
        refused = _read_table(quarantine_url(dataset.url, info.name), info.quarantine_sha256)
        for number, row in enumerate(refused.to_pylist()):
            place = (0, 0)
            reason, packed = row["reason"], marshal.dumps(row)
            yield SampleRef(row["key"], input_index, info.name, number, reason, info.split, *place, tar_url, packed)


def _with_metadata(table: pa.Table, kinds: Mapping[str, str]) -> pa.Table:
    """Return rows whose metadata have certain fields; dates and times are integers, as marshal and JSON need."""
    own = table["metadata"].combine_chunks() if "metadata" in table.column_names else None
    others = table.drop_columns(["metadata"]) if own is not None else table
    if not kinds:
        return others
    names = [] if own is None else [own.type.field(at).name for at in range(own.type.num_fields)]
    columns = [
        pc.struct_field(own, name).cast(METADATA_TYPES[kind]).cast(PLAIN_TYPES.get(kind, METADATA_TYPES[kind]))
        if name in names
        else pa.nulls(len(table), PLAIN_TYPES.get(kind, METADATA_TYPES[kind]))
        for name, kind in kinds.items()
    ]
    is_null = own.is_null() if own is not None else pa.array([True] * len(table))
    return others.append_column("metadata", pa.StructArray.from_arrays(columns, names=list(kinds), mask=is_null))


def join_metadata(inputs: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the fields of several datasets' metadata: numbers of two types are double, other differences strings."""
    joined: dict[str, str] = {}
    for kinds in inputs:
        for name, kind in kinds.items():
            known = joined.setdefault(name, kind)
            if known != kind:
                joined[name] = "double" if {known, kind} == {"int64", "double"} else "string"
    return joined


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
        row = quarantine_row(ref, "list", "duplicate_key", detail, ref.row["sha256"])
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


def quarantine_row(ref: SampleRef, stage: str, reason: str, detail: str, sha256: str | None) -> dict[str, Any]:
    """Return the quarantine row of a sample that is refused."""
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
