"""Define the Parquet tables of datasets and predictions; read and write them, with page checksums."""

import hashlib
import io
from collections.abc import Collection, Mapping, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from shards import storage
from shards.format.classes import BOX_EDGES

BOX_TYPE = pa.struct(
    [
        pa.field("class", pa.string(), nullable=False),
        pa.field("xmin_px", pa.float32(), nullable=False),
        pa.field("ymin_px", pa.float32(), nullable=False),
        pa.field("xmax_px", pa.float32(), nullable=False),
        pa.field("ymax_px", pa.float32(), nullable=False),
    ]
)
"""A box in pixels of the image as stored, x to the right, y down."""

PROJECTED_TYPE = pa.struct(
    [
        pa.field("scan", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("class", pa.string()),
        *(pa.field(name, pa.int32(), nullable=False) for name in BOX_EDGES),
        pa.field("occlusion", pa.float32(), nullable=False),
    ]
)
"""What a projected scan is made of: keys of the scan and of the one that the object is of, both of its split; the
object's class (null: no item) and extent; the share of its pixels where the scan alone takes away more light."""

PEAK_TYPE = pa.struct(
    [
        pa.field("x_px", pa.float32(), nullable=False),
        pa.field("y_px", pa.float32(), nullable=False),
        pa.field("level", pa.int8(), nullable=False),
        pa.field("value", pa.float32(), nullable=False),
    ]
)
"""Maximum of a class' heatmap, in pixels of the original image; `level` counts from 1 like the paper's l."""

IMAGE_TYPE = pa.struct(
    [
        pa.field("width_px", pa.int32()),
        pa.field("height_px", pa.int32()),
        pa.field("brightness", pa.float32()),
        pa.field("entropy_bits", pa.float32()),
    ]
)
"""Size of a scan as stored; mean (0 black, 1 white) and entropy of the grey values of the network's input."""
IMAGE_FIELD = pa.field("image", IMAGE_TYPE, metadata={"what": "statistics of the scan; null: not measured"})
"""Column that predictions may have beside those of `predictions_schema`; parts of earlier releases lack it."""

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("source_uri", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False, metadata={"what": "list, read or score"}),
        pa.field("reason", pa.string(), nullable=False, metadata={"what": "a short fixed word"}),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), metadata={"what": "hex digest of the bytes, null where none were read"}),
    ]
)


CORRECTIONS_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False, metadata={"what": "hex digest of the image's bytes"}),
        *(
            pa.field(f"{name}_{when}", pa.string(), nullable=False, metadata={"what": "JSON, as in samples"})
            for name in ("labels", "boxes")
            for when in ("before", "after")
        ),
        pa.field("author", pa.string(), nullable=False),
        pa.field("time", pa.string(), nullable=False, metadata={"what": "ISO 8601"}),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
"""Who changed what in which scan, and why."""

DETECTIONS_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("class", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False, metadata={"what": "in [0, 1]"}),
        pa.field("xmin_px", pa.float64(), nullable=False, metadata={"unit": "pixels"}),
        pa.field("ymin_px", pa.float64(), nullable=False, metadata={"unit": "pixels"}),
        pa.field("xmax_px", pa.float64(), nullable=False, metadata={"unit": "pixels"}),
        pa.field("ymax_px", pa.float64(), nullable=False, metadata={"unit": "pixels"}),
    ]
)
"""The boxes that a model found in the scans of a part: scans in tar order, the highest score of a scan first."""

METADATA_TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}
"""The types of columns of `metadata`, by the names that the manifest has for them."""
PLAIN_TYPES = {"date": pa.int32(), "timestamp": pa.int64()}
"""The types of those values that are neither text nor number as they travel between steps, marshalled or as JSON."""


def samples_schema(
    classes: Sequence[str],
    metadata: Mapping[str, str] | None = None,
    format_version: int = 2,
    *,
    added: Collection[str] = (),
) -> pa.Schema:
    """Return the schema of `samples/*.parquet`: one row per sample, in tar order.

    Args:
        classes: the fields of `labels`.
        metadata: the fields of `metadata` and their types, see `METADATA_TYPES`; without any there is no such column,
            since Parquet has no struct without fields.
        format_version: of the dataset; 1 has neither `group` nor `metadata`.
        added: names of columns that only some datasets have: `projected_from`, null for a scan as a scanner took it;
            `corrected_by`, null for a scan whose labels and boxes are those of its corpus.
    """
    labels = pa.struct([pa.field(name, pa.int8()) for name in classes])
    added = [] if format_version < 2 else _fields_of_format_2(metadata or {}, added)
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("split", pa.string(), nullable=False),
            pa.field("shard", pa.string(), nullable=False, metadata={"what": "file name of the tar"}),
            pa.field("offset_bytes", pa.int64(), nullable=False, metadata={"unit": "bytes", "what": "image in tar"}),
            pa.field("size_bytes", pa.int64(), nullable=False, metadata={"unit": "bytes", "what": "image"}),
            pa.field("sha256", pa.string(), nullable=False, metadata={"what": "hex digest of the image's bytes"}),
            pa.field("width_px", pa.int32(), nullable=False, metadata={"unit": "pixels"}),
            pa.field("height_px", pa.int32(), nullable=False, metadata={"unit": "pixels"}),
            pa.field("labels", labels, nullable=False, metadata={"what": "1 present, 0 absent, null unknown"}),
            # `element`, as it is when read again: else a draft would not equal what is written of its rows.
            pa.field("boxes", pa.list_(pa.field("element", BOX_TYPE)), nullable=False, metadata={"unit": "pixels"}),
            pa.field("source_uri", pa.string(), nullable=False),
            pa.field("duplicate_of", pa.string(), metadata={"what": "first key with the same bytes, else null"}),
            *added,
        ]
    )


def _fields_of_format_2(metadata: Mapping[str, str], added: Collection[str]) -> list[pa.Field]:
    group = pa.field("group", pa.string(), metadata={"what": "scans of one bag have the same; null: alone"})
    columns = pa.struct([pa.field(name, METADATA_TYPES[kind]) for name, kind in metadata.items()])
    more = pa.field("metadata", columns, metadata={"what": "further columns, by the user"})
    projected = pa.field("projected_from", PROJECTED_TYPE, metadata={"what": "null: as a scanner took it"})
    corrected = pa.field("corrected_by", pa.string(), metadata={"what": "author of the last correction, else null"})
    return [group, *[more] * bool(metadata), *(field for field in (projected, corrected) if field.name in added)]


def add_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns of a schema, in its order; columns that it lacks are null."""
    # The table's own fields stay: Parquet calls the items of lists `element`, and a table's bytes hold that name.
    own = set(table.column_names)
    fields = [table.schema.field(field.name) if field.name in own else field for field in schema]
    columns = [table[field.name] if field.name in own else pa.nulls(len(table), field.type) for field in fields]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, table.schema.metadata))


def predictions_schema(classes: Sequence[str], is_imported: bool = False) -> pa.Schema:
    """Return the schema of a predictions part: one row per sample of a shard, in tar order.

    Imported predictions may lack the score of a class, which is null, and have no peaks; their logits are float64, so
    that scores which differ in the file differ here.
    """
    kind = pa.float64() if is_imported else pa.float32()
    logits = pa.struct([pa.field(name, kind, nullable=is_imported) for name in classes])
    peaks = pa.struct([pa.field(name, PEAK_TYPE, nullable=is_imported) for name in classes])
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("split", pa.string(), nullable=False),
            pa.field("logits", logits, nullable=False, metadata={"what": "fused; scores are sigmoid(logits)"}),
            pa.field(
                "level_logits",
                pa.list_(logits),
                nullable=False,
                metadata={"what": "level 1 (finest) to level L"},
            ),
            pa.field("peaks", peaks, nullable=False, metadata={"unit": "pixels"}),
        ]
    )


def read_parquet(url: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a Parquet file as a table; ValueError if it is damaged or lacks a column."""
    try:
        with storage.open_reader(url) as handle:
            # pq.read_table would load pyarrow.dataset, and pandas where it is installed: half a second of a command.
            file = pq.ParquetFile(handle, page_checksum_verification=True, pre_buffer=True)
            if columns is None:
                return file.read()
            return file.read(columns=list(columns)).select(columns)
    except KeyError as error:
        raise ValueError(
            f"table must have the columns {list(columns or ())}, got one without: {error} ({url})"
        ) from error
    except (pa.ArrowInvalid, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # absent or unreadable, not damaged
            raise
        raise ValueError(f"table must be a whole Parquet file, got {error} ({url})") from error


def write_parquet(url: str, table: pa.Table) -> None:
    """Write a Parquet file atomically with page checksums; equal tables give equal bytes."""
    with storage.atomic_writer(url) as out:
        _write_table(table, out)


def keep_parquet(url: str, table: pa.Table) -> str:
    """Write a file as `write_parquet` does, unless it has these bytes already; return their sha256."""
    data = parquet_bytes(table)
    if not (storage.exists(url) and storage.read_bytes(url) == data):
        storage.write_bytes(url, data)
    return hashlib.sha256(data).hexdigest()


def parquet_bytes(table: pa.Table) -> bytes:
    """Return the bytes that `write_parquet` writes."""
    out = io.BytesIO()
    _write_table(table, out)
    return out.getvalue()


def _write_table(table: pa.Table, out: IO[bytes]) -> None:
    pq.write_table(table, out, compression="zstd", write_page_checksum=True)
