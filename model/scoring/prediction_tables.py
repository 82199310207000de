"""Build the Arrow tables of predictions and of scans that could not be scored.

Shapes: B batch  K classes  L levels  N scans of a shard
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from model.scoring.boxes import FoundBoxes
from shards.format.parquet import IMAGE_FIELD, PEAK_TYPE, QUARANTINE_SCHEMA, predictions_schema
from shards.format.shard_reader import Refusal, ScanRow


class BatchScores(NamedTuple):
    """Scores and peaks of a batch, on the CPU."""

    logits_BK: np.ndarray
    """float32, fused."""
    level_logits_LBK: np.ndarray
    peaks_B4K: np.ndarray
    """float32: x and y in pixels of the scan as stored, level, value."""
    image_B2: np.ndarray
    """float32: brightness (0 black, 1 white) and entropy in bits of the network's input."""
    boxes: FoundBoxes | None = None
    """In pixels of the scan as stored; None if none were asked for."""


def predictions_table(scored: Sequence[tuple[list[ScanRow], BatchScores]], classes: Sequence[str]) -> pa.Table:
    """Return the rows of a shard's batches, of `predictions_schema` and `IMAGE_FIELD`."""
    schema = predictions_schema(classes).append(IMAGE_FIELD)
    rows = [row for batch, _ in scored for row in batch]
    if not rows:
        return schema.empty_table()
    logits_NK = np.concatenate([scores.logits_BK for _, scores in scored])
    level_logits_LNK = np.concatenate([scores.level_logits_LBK for _, scores in scored], axis=1)
    peaks_N4K = np.concatenate([scores.peaks_B4K for _, scores in scored])
    columns = {
        "key": pa.array([row.key for row in rows], pa.string()),
        "split": pa.array([row.split for row in rows], pa.string()),
        "logits": _struct_array(schema.field("logits").type, logits_NK),
        "level_logits": _level_array(schema.field("level_logits").type, level_logits_LNK),
        "peaks": _peak_array(schema.field("peaks").type, peaks_N4K),
        "image": _image_array(rows, np.concatenate([scores.image_B2 for _, scores in scored])),
    }
    return pa.table(columns, schema=schema)


def quarantine_table(refused: Sequence[tuple[ScanRow, Refusal]]) -> pa.Table:
    """Return the rows of the scans that could not be scored, of `QUARANTINE_SCHEMA`."""
    rows = [
        {"source_uri": row.source_uri, "key": row.key, "stage": "score"} | refusal._asdict() for row, refusal in refused
    ]
    return pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)


def _image_array(rows: Sequence[ScanRow], image_N2: np.ndarray) -> pa.StructArray:
    sizes = [pa.array([getattr(row, name) for row in rows], pa.int32()) for name in ("width_px", "height_px")]
    figures = [pa.array(np.ascontiguousarray(values_N), pa.float32()) for values_N in image_N2.T]
    return pa.StructArray.from_arrays([*sizes, *figures], fields=list(IMAGE_FIELD.type))


def _struct_array(kind: pa.StructType, values_NK: np.ndarray) -> pa.StructArray:
    columns = [pa.array(np.ascontiguousarray(values_N), pa.float32()) for values_N in values_NK.T]
    return pa.StructArray.from_arrays(columns, fields=list(kind))


def _level_array(kind: pa.ListType, values_LNK: np.ndarray) -> pa.ListArray:
    num_levels, num_scans, num_classes = values_LNK.shape
    flat = _struct_array(kind.value_type, values_LNK.transpose(1, 0, 2).reshape(-1, num_classes))
    offsets = pa.array(np.arange(num_scans + 1, dtype=np.int32) * num_levels)
    return pa.ListArray.from_arrays(offsets, flat, type=kind)


def _peak_array(kind: pa.StructType, values_N4K: np.ndarray) -> pa.StructArray:
    peaks = []
    for values_N4 in values_N4K.transpose(2, 0, 1):
        columns = [
            pa.array(np.ascontiguousarray(values_N), pa.float32()).cast(field.type)
            for values_N, field in zip(values_N4.T, PEAK_TYPE, strict=True)
        ]
        peaks.append(pa.StructArray.from_arrays(columns, fields=list(PEAK_TYPE)))
    return pa.StructArray.from_arrays(peaks, fields=list(kind))
