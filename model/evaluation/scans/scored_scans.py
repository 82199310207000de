"""Join predictions with the labels of a dataset by key."""

# N scans  K classes  B boxes

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.scans.completeness import Completeness, measure_completeness
from shards.curation.bags import name_bags
from shards.format.classes import BOX_EDGES, UNKNOWN
from shards.format.dataset import Dataset
from shards.format.parquet import read_parquet
from shards.predictions.parts import part_url
from shards.predictions.run import Predictions

UNSCORED = -1e30
"""Logit of a class that imported predictions have no score for: below every other, it never alarms."""

SAMPLE_COLUMNS = ("key", "width_px", "height_px", "labels", "boxes", "duplicate_of")
PREDICTION_COLUMNS = ("key", "split", "logits", "level_logits", "peaks")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredScans:
    """Every scan of a split that has a prediction, in the order of the shards."""

    split: str
    classes: tuple[str, ...]
    """The model's classes, in its order."""
    keys_N: pa.Array
    labels_NK: npt.NDArray[np.int8]
    """1 present, 0 absent, -1 unknown."""
    logits_NK: npt.NDArray[np.floating[Any]]
    """Logits, because a sigmoid in float32 would tie scores that differ; UNSCORED where there is none."""
    level_logits_LNK: npt.NDArray[np.float32]
    """Of each level, the finest first; `logits_NK` fuses them."""
    peaks_NK2: npt.NDArray[np.float32]
    """x and y in pixels where the class' heatmap is highest; NaN for predictions without peaks."""
    sizes_N2: npt.NDArray[np.int32]
    """Width and height in pixels."""
    entropy_bits_N: npt.NDArray[np.float32]
    """Entropy of the grey values of the network's input, in bits; NaN where it was not written when scoring."""
    groups_N: npt.NDArray[np.int32]
    """Scans of one bag, or with the same bytes, share a number, because they are one observation."""
    names_of_groups_N: pa.Array
    """The dataset's `group` of each scan, the scans of one bag; null for a scan alone, or if the dataset has none."""
    metadata_N: pa.StructArray | None
    """The dataset's `metadata` of each scan; None if it has none."""
    box_scan_B: npt.NDArray[np.int64]
    """Row of the scan of each box."""
    box_class_B: npt.NDArray[np.int64]
    """Index into `classes`; -1 for a class that the model does not have."""
    box_edges_B4: npt.NDArray[np.float32]
    """xmin, ymin, xmax, ymax in pixels."""
    completeness: Completeness
    fusion: str | None = None
    """How the scores of a bag's scans became one, where a row is a bag; None: a row is a scan."""

    def column(self, k: int) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.int8]]:
        """Return logits and labels of class `k`; the label is unknown where there is no score to rate."""
        logits_N, labels_N = self.logits_NK[:, k], self.labels_NK[:, k]
        unscored_N = logits_N == UNSCORED
        return logits_N, np.where(unscored_N, np.int8(UNKNOWN), labels_N) if unscored_N.any() else labels_N

    @property
    def has_groups(self) -> bool:
        """Whether the dataset says which scans show one bag."""
        return bool(self.names_of_groups_N.null_count < len(self.names_of_groups_N))

    @property
    def num_groups(self) -> int:
        """Groups of scans that are one observation."""
        return int(self.groups_N.max()) + 1 if len(self.groups_N) else 0


def join_predictions(predictions: Predictions, dataset: Dataset, split: str) -> ScoredScans:
    """Return the scans of a split with their labels and predictions.

    Raises:
        ValueError: the predictions are of another dataset, name a class or a key that it does not have, name a
            key twice, hold a number that is not finite, or a table is damaged, lacks a column or is not the one whose
            checksum the run recorded.
    """
    classes = _check_identity(predictions, dataset)
    optional = [name for name in ("group", "metadata") if name in dataset.manifest.samples_schema.names]
    samples = dataset.read_samples(split, [*SAMPLE_COLUMNS, *optional]).combine_chunks()
    names = {shard.name for shard in dataset.shards(split)}
    rows = _read_predictions(predictions, split, names)
    sample_keys, row_keys = samples["key"].combine_chunks(), rows["key"].combine_chunks()
    _check_keys(sample_keys, row_keys, split, predictions.url)
    row_of_sample = pc.index_in(sample_keys, value_set=row_keys)
    scored = pc.is_valid(row_of_sample)
    completeness = measure_completeness(samples, scored, predictions, dataset, split)
    samples, rows = samples.filter(scored), rows.take(row_of_sample.filter(scored)).combine_chunks()
    logits_NK, peaks_NK2 = _read_numbers(rows, classes, predictions.url)
    box_scan_B, box_class_B, box_edges_B4 = _read_boxes(samples["boxes"].combine_chunks(), classes)
    labels = _fields(samples["labels"].combine_chunks())
    return ScoredScans(
        split=split,
        classes=classes,
        keys_N=samples["key"].combine_chunks(),
        labels_NK=_stack([labels[name].fill_null(UNKNOWN) for name in classes], np.int8),
        logits_NK=logits_NK,
        level_logits_LNK=_read_levels(rows["level_logits"].combine_chunks(), classes, predictions.url),
        peaks_NK2=peaks_NK2,
        sizes_N2=_stack([samples["width_px"], samples["height_px"]], np.int32),
        entropy_bits_N=_read_entropy(rows),
        groups_N=_number_groups(samples),
        names_of_groups_N=_column(samples, "group", pa.nulls(len(samples), pa.string())),
        metadata_N=_column(samples, "metadata", None),
        box_scan_B=box_scan_B,
        box_class_B=box_class_B,
        box_edges_B4=box_edges_B4,
        completeness=completeness,
    )


def _check_identity(predictions: Predictions, dataset: Dataset) -> tuple[str, ...]:
    for field in ("model_id", "dataset_digest", "classes", "parts"):
        if field not in predictions.run:
            raise ValueError(f"run.json must have {field!r}, got {sorted(predictions.run)} ({predictions.url})")
    # A run over several datasets names each of them.
    scored_digests = [predictions.run["dataset_digest"], *(d["digest"] for d in predictions.run.get("datasets", ()))]
    if dataset.manifest.digest not in scored_digests:
        raise ValueError(
            f"predictions must be of the dataset with digest {dataset.manifest.digest}, got predictions of "
            f"{predictions.run['dataset_digest']} ({predictions.url}, {dataset.url}); score this dataset first"
        )
    classes = tuple(predictions.run["classes"])
    unknown = sorted(set(classes) - set(dataset.manifest.classes))
    if unknown or not classes:
        raise ValueError(
            f"classes of the predictions must be among the dataset's {list(dataset.manifest.classes)}, "
            f"got {list(classes)} ({predictions.url})"
        )
    return classes


def _read_predictions(predictions: Predictions, split: str, shard_names: set[str]) -> pa.Table:
    names = [name for name in predictions.run["parts"] if name in shard_names]
    if not names:
        raise ValueError(
            f"predictions must have a part of split {split!r}, got parts {predictions.run['parts']} "
            f"({predictions.url}); score the split first"
        )
    predictions.check_bytes(names)
    expected = predictions.schema
    tables = []
    for name in names:
        url = part_url(predictions.url, name)
        try:
            table = read_parquet(url)
        except FileNotFoundError as error:
            raise ValueError(
                f"predictions must have every part that run.json lists, got no {name}.parquet ({url}); "
                f"run the same `sixray score` again, it makes what is missing"
            ) from error
        _check_columns(table.schema, expected, url)
        tables.append(table.select([name for name in (*PREDICTION_COLUMNS, "image") if name in table.column_names]))
    return pa.concat_tables(tables, promote_options="permissive")


def _check_columns(schema: pa.Schema, expected: pa.Schema, url: str) -> None:
    for name in PREDICTION_COLUMNS:
        found = schema.field(name).type if name in schema.names else None
        if found is None or not _is_alike(found, expected.field(name).type):
            raise ValueError(
                f"predictions must have a column {name!r} of type {expected.field(name).type}, "
                f"got {found if found is not None else 'none'} ({url})"
            )


def _is_alike(found: pa.DataType, expected: pa.DataType) -> bool:
    """Say whether two types have the same fields and leaves, whatever their order and nullability."""
    if pa.types.is_list(expected):
        return pa.types.is_list(found) and _is_alike(found.value_type, expected.value_type)
    if not pa.types.is_struct(expected):
        return bool(found == expected)
    if not pa.types.is_struct(found) or {f.name for f in found} != {f.name for f in expected}:
        return False
    return all(_is_alike(found.field(field.name).type, field.type) for field in expected)


def _check_keys(sample_keys: pa.Array, row_keys: pa.Array, split: str, url: str) -> None:
    for what, keys in (("samples", sample_keys), ("predictions", row_keys)):
        if pc.count_distinct(keys).as_py() != len(keys):
            counts = pc.value_counts(keys)
            twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
            raise ValueError(f"{what} must name each key once, got {twice[0].as_py()!r} twice or more ({url})")
    surplus = row_keys.filter(pc.invert(pc.is_in(row_keys, value_set=sample_keys)))
    if len(surplus):
        raise ValueError(
            f"predictions must be of samples of split {split!r}, got {len(surplus)} others, the first "
            f"{surplus[0].as_py()!r} ({url}); the parts were mixed up, score again into an empty folder"
        )


def _read_numbers(
    rows: pa.Table, classes: Sequence[str], url: str
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.float32]]:
    logits, peaks = _fields(rows["logits"].combine_chunks()), _fields(rows["peaks"].combine_chunks())
    dtype = np.float64 if pa.types.is_float64(logits[classes[0]].type) else np.float32
    logits_NK = _stack([pc.fill_null(logits[name], UNSCORED) for name in classes], dtype)
    axes = [[_fields(peaks[name])[axis] for name in classes] for axis in ("x_px", "y_px")]
    peaks_NK2 = np.stack([_stack(columns, np.float32) for columns in axes], axis=-1)
    finite_peak_NK = np.isfinite(peaks_NK2).all(axis=-1)
    for k, name in enumerate(classes):
        if peaks[name].null_count:
            finite_peak_NK[:, k] |= peaks[name].is_null().to_numpy(zero_copy_only=False)
    for what, finite_NK in (("logits", np.isfinite(logits_NK)), ("peaks", finite_peak_NK)):
        if not finite_NK.all():
            row, k = (int(index[0]) for index in np.nonzero(~finite_NK))
            value = (logits_NK if what == "logits" else peaks_NK2)[row, k]
            key = rows["key"][row].as_py()
            raise ValueError(f"{what} must be finite, got {value} (sample {key!r}, class {classes[k]!r}, {url})")
    return logits_NK, peaks_NK2


def _read_levels(levels: pa.ListArray, classes: Sequence[str], url: str) -> npt.NDArray[np.float32]:
    lengths = pc.unique(pc.list_value_length(levels)).to_pylist()
    if len(lengths) > 1:
        raise ValueError(f"level logits must have one number of levels, got {sorted(lengths)} ({url})")
    flat = _fields(pc.list_flatten(levels))
    shape = (len(levels), lengths[0] if lengths else 0)
    columns = [flat[name].to_numpy(zero_copy_only=False).reshape(shape).T for name in classes]
    level_logits_LNK = np.stack(columns, axis=-1)
    if not np.isfinite(level_logits_LNK).all():
        raise ValueError(f"level logits must be finite, got NaN or infinity ({url}); score again into an empty folder")
    return level_logits_LNK


def _read_entropy(rows: pa.Table) -> npt.NDArray[np.float32]:
    if "image" not in rows.column_names:
        return np.full(len(rows), np.nan, np.float32)
    entropy_bits: npt.NDArray[np.float32] = pc.struct_field(rows["image"], "entropy_bits").to_numpy()
    return entropy_bits.astype(np.float32)


def _read_boxes(
    boxes: pa.ListArray, classes: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    flat = pc.list_flatten(boxes)
    box_class_B = pc.index_in(pc.struct_field(flat, "class"), value_set=pa.array(list(classes), pa.string()))
    edges = [pc.struct_field(flat, name) for name in BOX_EDGES]
    return (
        pc.list_parent_indices(boxes).to_numpy(zero_copy_only=False).astype(np.int64),
        box_class_B.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64),
        _stack(edges, np.float32),
    )


def _column(samples: pa.Table, name: str, default: Any) -> Any:
    return samples[name].combine_chunks() if name in samples.column_names else default


def _number_groups(samples: pa.Table) -> npt.NDArray[np.int32]:
    numbers: npt.NDArray[np.int32] = name_bags(samples).dictionary_encode().indices.to_numpy()
    return numbers


def _fields(column: pa.StructArray) -> dict[str, pa.Array]:
    # All at once: Arrow's `struct_field` is linear in the number of fields.
    return {field.name: values for field, values in zip(column.type, column.flatten(), strict=True)}


def _stack(columns: Sequence[pa.Array | pa.ChunkedArray], dtype: Any) -> npt.NDArray[Any]:
    # Column order, because every figure reads the scores of one class.
    out = np.empty((len(columns[0]), len(columns)), dtype, order="F")
    for k, column in enumerate(columns):
        out[:, k] = column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)
    return out
