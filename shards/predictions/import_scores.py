"""Write scores of another program as predictions of a dataset, with every scan and every row accounted for."""

# N rows of the table  K classes  S scans of a shard

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shards import storage
from shards.format.dataset import Dataset
from shards.format.manifest import ShardInfo
from shards.format.parquet import PEAK_TYPE, QUARANTINE_SCHEMA, predictions_schema, read_parquet, write_parquet
from shards.host import installed_versions
from shards.predictions.attested import attest_parts
from shards.predictions.detections import DETECTIONS, write_detections
from shards.predictions.parts import Engine, PartInfo, write_part
from shards.predictions.run import checksum_parts, read_run, run_document, write_run
from shards.predictions.score_table import ScoreTable

UNMATCHED_FILE = "quarantine/unmatched-rows.parquet"
"""Rows of the file that belong to no scan."""
ENGINE = Engine("none", "none", "float64", 0, "imported")
STAGE = "import"


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the rows and the scans."""

    predictions_url: str
    run: dict[str, Any]
    num_unmatched: int
    """Rows that belong to no scan."""


def write_imported(
    table: ScoreTable, dataset: Dataset, predictions_url: str, model_id: str, origin: Mapping[str, Any]
) -> Imported:
    """Write predictions of every split that the table has a row of; equal arguments give equal bytes.

    Only `imported_at` in `run.json` is the time of the first import.

    A scan without a usable row is quarantined by key, a row without a scan by the key that it names.

    Args:
        table: of all the dataset's scored classes.
        dataset: whose scans the keys name.
        predictions_url: PREDICTIONS/<model-id>.
        model_id: of the other program's model.
        origin: where the scores come from; kept in `run.json` as `imported`.

    Raises:
        ValueError: no key is a scan of the dataset, or the folder holds other predictions.
    """
    earlier = read_run(predictions_url)
    document = {"imported": dict(origin), "dataset_digest": dataset.manifest.digest}
    if earlier is not None and any(earlier.get(name) != value for name, value in document.items()):
        raise ValueError(
            f"output must not hold other predictions, got those of {earlier.get('imported') or earlier['model_id']} "
            f"({predictions_url}); remove the folder or give another --model-name"
        )
    shards = dataset.shards()
    keys = [read_parquet(dataset.samples_url(shard), ["key"])["key"].combine_chunks() for shard in shards]
    row_of_scan = pc.index_in(pa.chunked_array(keys, pa.string()).combine_chunks(), value_set=table.keys_N)
    if row_of_scan.null_count == len(row_of_scan):
        examples = [array[0].as_py() if len(array) else None for array in (table.keys_N, *keys[:1])]
        raise ValueError(
            f"keys must be those of the dataset's samples, such as {examples[-1]!r}, got none of them in "
            f"{len(table.keys_N)} rows, the first {examples[0]!r} ({origin['url']}, {dataset.url})"
        )
    rows_N = pc.fill_null(row_of_scan, -1).to_numpy()
    refusals = _refuse_rows(table)
    ends = np.cumsum([len(array) for array in keys])
    places = [rows_N[end - len(array) : end] for array, end in zip(keys, ends, strict=True)]
    named = {shard.split for shard, rows_S in zip(shards, places, strict=True) if (rows_S >= 0).any()}
    written = [
        _write_shard(table, refusals, dataset, shard, rows_S, predictions_url, model_id)
        for shard, rows_S in zip(shards, places, strict=True)
        if shard.split in named
    ]
    infos = [info for info, _ in written]
    unmatched = _list_unmatched(table, rows_N, str(origin["url"]))
    extra = {}
    if unmatched.num_rows:
        url = storage.join_url(predictions_url, UNMATCHED_FILE)
        write_parquet(url, unmatched)
        extra[UNMATCHED_FILE] = storage.sha256_of(url)
    model = {"model_id": model_id, "classes": dataset.manifest.scored_classes, "num_levels": 0}
    run = run_document(model, [dataset], infos, None) | document
    if table.detections is not None:
        run |= {DETECTIONS: {"num_detections": sum(num for _, num in written)}}
    checksums = checksum_parts(predictions_url, infos, {}, table.detections is not None)
    checksums = dict(sorted((checksums | extra).items()))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    run |= {"imported_at": (earlier or {}).get("imported_at", now)}
    run |= {"num_unmatched_rows": unmatched.num_rows, "sha256": checksums, "versions": installed_versions()}
    run |= {"attestation": attest_parts(predictions_url, infos, run["classes"], {})}
    write_run(predictions_url, run)
    return Imported(predictions_url, run, unmatched.num_rows)


def _refuse_rows(table: ScoreTable) -> dict[str, tuple[str, str]]:
    """Return reason and detail by the key of each row that cannot be used."""
    keys = table.keys_N.take(pa.array(list(table.problems), pa.int64())).to_pylist()
    refusals = dict(zip(keys, table.problems.values(), strict=True))
    counts = pc.value_counts(table.keys_N)
    for item in counts.filter(pc.greater(counts.field("counts"), 1)).to_pylist():
        refusals[item["values"]] = ("duplicate_row", f"{item['counts']} rows have this key")
    return refusals


def _write_shard(
    table: ScoreTable,
    refusals: Mapping[str, tuple[str, str]],
    dataset: Dataset,
    shard: ShardInfo,
    rows_S: npt.NDArray[np.int64],
    predictions_url: str,
    model_id: str,
) -> tuple[PartInfo, int]:
    """Write the part of a shard, before it the detections; return it, and their number."""
    samples = read_parquet(dataset.samples_url(shard), ["key", "source_uri"])
    keys = samples["key"].combine_chunks()
    refused_S = rows_S < 0
    if refusals:
        refused_S |= pc.is_in(keys, value_set=pa.array(list(refusals), pa.string())).to_numpy(zero_copy_only=False)
    refused = [
        {"source_uri": row["source_uri"], "key": row["key"], "stage": STAGE, "reason": reason, "detail": detail}
        for row in samples.filter(pa.array(refused_S)).to_pylist()
        for reason, detail in [refusals.get(row["key"], ("missing_row", "the file has no row of this key"))]
    ]
    kept, used_S = keys.filter(pa.array(~refused_S)), rows_S[~refused_S]
    part = _make_part(kept, shard.split, table, used_S, dataset)
    reasons = Counter(row["reason"] for row in refused)
    info = PartInfo(
        model_id=model_id,
        shard=shard.name,
        shard_digest=shard.digest,
        split=shard.split,
        num_scored=part.num_rows,
        num_quarantined=len(refused),
        quarantined_by_reason=dict(sorted(reasons.items())),
        engine=ENGINE,
    )
    boxes = table.detections.make_table(used_S, kept, shard.split) if table.detections else None
    if boxes is not None:
        write_detections(predictions_url, shard.name, boxes)
    write_part(predictions_url, part, pa.Table.from_pylist(refused, QUARANTINE_SCHEMA), info)
    return info, 0 if boxes is None else boxes.num_rows


def _make_part(
    keys: pa.Array, split: str, table: ScoreTable, rows_S: npt.NDArray[np.int64], dataset: Dataset
) -> pa.Table:
    schema = predictions_schema(dataset.manifest.scored_classes, is_imported=True)
    num = len(keys)
    fields = list(schema.field("logits").type)
    columns = [pa.array(logits_N, from_pandas=True) for logits_N in table.logits_NK[rows_S].T]  # NaN becomes null
    peak_fields = list(schema.field("peaks").type)
    no_peaks_SK3 = np.full((num, len(peak_fields), 3), np.nan)
    peaks_SK3 = no_peaks_SK3 if table.peaks_NK3 is None else table.peaks_NK3[rows_S]
    arrays = [
        keys,
        pa.repeat(split, num),
        pa.StructArray.from_arrays(columns, fields=fields),
        pa.array([[]] * num, schema.field("level_logits").type),
        pa.StructArray.from_arrays([_make_peaks(peaks_SK3[:, k]) for k in range(len(peak_fields))], fields=peak_fields),
    ]
    return pa.table(arrays, schema=schema)


def _make_peaks(peaks_S3: npt.NDArray[np.float64]) -> pa.Array:
    """Return the peaks of a class from x, y and value, null as a whole where these are NaN: level 1."""
    absent_S = np.isnan(peaks_S3[:, 0])
    x_S, y_S, value_S = np.where(absent_S[:, None], 0.0, peaks_S3).T
    columns = (x_S, y_S, np.ones(len(peaks_S3)), value_S)
    fields = [pa.array(of, field.type, safe=False) for of, field in zip(columns, PEAK_TYPE, strict=True)]
    return pa.StructArray.from_arrays(fields, fields=list(PEAK_TYPE), mask=pa.array(absent_S))


def _list_unmatched(table: ScoreTable, rows_N: npt.NDArray[np.int64], url: str) -> pa.Table:
    unmatched_N = np.ones(len(table.keys_N), bool)
    unmatched_N[rows_N[rows_N >= 0]] = False
    known = table.keys_N.take(pa.array(rows_N[rows_N >= 0]))
    rows = np.flatnonzero(unmatched_N & ~pc.is_in(table.keys_N, value_set=known).to_numpy(zero_copy_only=False))
    found = [
        (key, "unknown_key", f"row {row + 1} is of no sample of the dataset")
        for row, key in zip(rows.tolist(), table.keys_N.take(pa.array(rows)).to_pylist(), strict=True)
    ]
    found += [("", "bad_row", line) for line in table.bad_lines]
    names: Sequence[str] = ("key", "reason", "detail")
    rows_found = [dict(zip(names, row, strict=True)) | {"source_uri": url, "stage": STAGE} for row in found]
    return pa.Table.from_pylist(rows_found, QUARANTINE_SCHEMA)
