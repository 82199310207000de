"""Read a night's predictions as one row a bag: scores, alarms, quarantine and image statistics."""

# N scans  G bags  K classes

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shards.format.dataset import Dataset
from shards.format.manifest import quarantine_url
from shards.format.parquet import IMAGE_TYPE, read_parquet
from shards.predictions.run import Predictions

FloatArray = npt.NDArray[np.float64]

ANY_ITEM = "any item"
ALARMS, QUARANTINE, OTHER = "alarms", "quarantine", "quarantine.other"
NO_VALUE = "(none)"
"""Value of a scan without one in the column that nights are divided by."""
_METADATA = "metadata."


@dataclass(frozen=True, slots=True)
class Observations:
    """The bags of one night, ordered by a hash of their names: any first part of them is a random sample."""

    streams: Mapping[str, FloatArray]
    """Of each bag (G,), NaN if unknown: `score.CLASS` and `score.any item`, the highest logit of its scans; `alarms`
    and `quarantine`, 1 if any scan raises one or was refused; `quarantine.REASON`; `image.…`, the mean of its scans."""
    value_G: npt.NDArray[np.object_] | None
    """Value of the column that nights are divided by; None for a scan that was refused before it had one."""
    logits_GK: FloatArray
    """Highest logit of each class over the scans of a bag; NaN without a score."""
    reasons: tuple[str, ...]
    """Of refusal, in the streams."""

    @property
    def num_bags(self) -> int:
        """Bags, and refused scans."""
        return len(self.logits_GK)


def observe(
    predictions: Predictions,
    datasets: Sequence[Dataset] | None,
    by: str | None = None,
    reasons: Sequence[str] | None = None,
) -> Observations:
    """Return the bags of predictions, without alarms.

    Args:
        predictions: of one night.
        datasets: that were scored; None if they are not at hand: then each scan is a bag of its own, its size comes
            from the predictions, and what was refused at conversion is not seen.
        by: `metadata.COLUMN`, to divide the night by; None not to.
        reasons: of refusal that have a stream of their own, others share one; None: all that occur.

    Raises:
        ValueError: the datasets have no such column.
    """
    rows = predictions.read_rows(columns=["key", "logits", "image"])
    refused = predictions.read_quarantine()
    keys_N = pa.concat_arrays([*rows["key"].chunks, *refused["key"].chunks])
    columns = {f"score.{name}": values for name, values in _read_logits(rows, predictions.run["classes"]).items()}
    columns |= {f"image.{name}": values for name, values in _read_images(rows).items()}
    num_refused = refused.num_rows
    reason_N = pa.concat_arrays([pa.nulls(rows.num_rows, pa.string()), *refused["reason"].chunks])
    bag_N = pc.binary_join_element_wise("scan", keys_N, " ")
    value_N = None
    if datasets is not None:
        samples, at = _find_samples(datasets, keys_N, by)
        group_N = samples["group"].combine_chunks().take(at)
        bag_N = pc.coalesce(pc.binary_join_element_wise("bag", group_N, " "), bag_N)
        for axis in ("width_px", "height_px"):
            columns[f"image.{axis}"] = _floats(samples[axis].take(at))[: rows.num_rows]
        unread = _read_refusals(datasets, predictions)
        num_refused += unread.num_rows
        names = pc.binary_join_element_wise("file", unread["source_uri"], unread["key"], " ")
        bag_N = pa.concat_arrays([bag_N, *names.chunks])
        reason_N = pa.concat_arrays([reason_N, *unread["reason"].chunks])
        if by is not None:
            value_N = np.array([*samples["value"].take(at).to_pylist(), *[None] * unread.num_rows], object)
    columns = {name: np.r_[values, np.full(num_refused, np.nan)] for name, values in columns.items()}
    found = tuple(sorted(set(reason_N.drop_null().to_pylist()))) if reasons is None else tuple(reasons)
    columns |= _refusal_streams(reason_N, found)
    return _gather_bags(columns, bag_N, value_N, predictions.run["classes"], found)


def add_alarms(night: Observations, thresholds_K: FloatArray) -> Observations:
    """Return a night with the stream `alarms`: whether a logit reaches its class' threshold; infinity: none does."""
    alarm_G = (night.logits_GK >= thresholds_K).any(axis=1)
    unknown_G = np.isnan(night.logits_GK).all(axis=1)
    streams = {ALARMS: np.where(unknown_G, np.nan, alarm_G), **night.streams}
    return Observations(streams, night.value_G, night.logits_GK, night.reasons)


def _read_logits(rows: pa.Table, classes: Sequence[str]) -> dict[str, FloatArray]:
    fields = rows["logits"].combine_chunks().flatten()
    logits = {name: _floats(field) for name, field in zip(classes, fields, strict=True)}
    return logits | {ANY_ITEM: np.fmax.reduce([*logits.values()], axis=0)}


def _read_images(rows: pa.Table) -> dict[str, FloatArray]:
    image = rows["image"].combine_chunks()
    return {field.name: _floats(pc.struct_field(image, field.name)) for field in IMAGE_TYPE}


def _find_samples(datasets: Sequence[Dataset], keys_N: pa.Array, by: str | None) -> tuple[pa.Table, pa.Array]:
    """Return rows of the scored datasets with `key`, `group`, sizes and `value`, and the row of each key."""
    tables = []
    for dataset in datasets:
        wanted = ["key", "group", "width_px", "height_px", *(["metadata"] if by else [])]
        table = dataset.read_samples(columns=wanted)
        if by is not None:
            column = by.removeprefix(_METADATA)
            if not by.startswith(_METADATA) or column not in dataset.manifest.metadata:
                known = ", ".join(f"{_METADATA}{name}" for name in dataset.manifest.metadata) or "none"
                raise ValueError(f"by must be a column of the dataset's metadata ({known}), got {by!r} ({dataset.url})")
            values = pc.struct_field(table["metadata"], column).cast(pa.string())
            table = table.drop_columns("metadata").append_column("value", pc.fill_null(values, NO_VALUE))
        tables.append(table)
    samples = pa.concat_tables(tables).combine_chunks()
    at = pc.index_in(keys_N, value_set=samples["key"].combine_chunks())
    if at.null_count:
        key = keys_N.filter(at.is_null())[0].as_py()
        raise ValueError(
            f"predictions must be of samples of the dataset, got {key!r} ({', '.join(of.url for of in datasets)})"
        )
    return samples, at


def _read_refusals(datasets: Sequence[Dataset], predictions: Predictions) -> pa.Table:
    """Return what conversion refused of the splits that were scored."""
    splits = predictions.run["splits"]
    tables = [
        read_parquet(quarantine_url(dataset.url, shard.name), ["source_uri", "key", "reason"])
        for dataset in datasets
        for shard in dataset.manifest.shards
        if shard.num_quarantined and shard.split in splits
    ]
    schema = pa.schema([(name, pa.string()) for name in ("source_uri", "key", "reason")])
    return pa.concat_tables([schema.empty_table(), *(table.cast(schema) for table in tables)])


def _refusal_streams(reason_N: pa.Array, reasons: Sequence[str]) -> dict[str, FloatArray]:
    def is_in(names: Sequence[str]) -> FloatArray:
        return _floats(pc.is_in(reason_N, value_set=pa.array(list(names), pa.string())).cast(pa.int8()))

    streams = {QUARANTINE: _floats(reason_N.is_valid().cast(pa.int8()))}
    streams |= {f"{QUARANTINE}.{name}": is_in([name]) for name in reasons}
    return streams | {OTHER: streams[QUARANTINE] - is_in(reasons)}


def _gather_bags(
    columns: Mapping[str, FloatArray],
    bag_N: pa.Array,
    value_N: npt.NDArray[np.object_] | None,
    classes: Sequence[str],
    reasons: tuple[str, ...],
) -> Observations:
    """Return bags in the order of a hash of their names."""
    encoded = bag_N.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    hashes = [hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest() for name in names]
    place_of_bag = np.empty(len(names), np.int64)
    place_of_bag[sorted(range(len(names)), key=hashes.__getitem__)] = np.arange(len(names))
    place_N = place_of_bag[encoded.indices.to_numpy()]
    order_N = np.argsort(place_N, kind="stable")
    starts_G = np.flatnonzero(np.diff(place_N[order_N], prepend=-1))
    streams = {}
    for name, values_N in columns.items():
        values_N = values_N[order_N]
        if name.startswith("image."):
            is_known_N = np.isfinite(values_N)
            num_G = np.add.reduceat(is_known_N.astype(np.float64), starts_G)
            sum_G = np.add.reduceat(np.where(is_known_N, values_N, 0.0), starts_G)
            streams[name] = np.divide(sum_G, num_G, out=np.full(len(starts_G), np.nan), where=num_G > 0)
        else:
            streams[name] = np.fmax.reduceat(values_N, starts_G)
    logits_GK = np.stack([streams[f"score.{name}"] for name in classes], axis=1)
    return Observations(streams, None if value_N is None else value_N[order_N][starts_G], logits_GK, reasons)


def _floats(values: Any) -> FloatArray:
    """Return numbers of Arrow as float64, NaN where null."""
    floats: FloatArray = values.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
    return floats
