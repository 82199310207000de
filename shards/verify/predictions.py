"""Verify predictions against their run: every file, row and count."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shards import storage
from shards.format.parquet import DETECTIONS_SCHEMA, QUARANTINE_SCHEMA, read_parquet
from shards.predictions import parts
from shards.predictions.detections import DETECTIONS, detections_url, has_detections
from shards.predictions.parts import PartInfo
from shards.predictions.run import RUN_NAME, Predictions, count_scans
from shards.verify.shard import Damage


def verify_predictions(predictions: Predictions) -> list[Damage]:
    """Read every byte of one model's predictions; return all that is wrong, in the order of the files."""
    damages = _check_checksums(predictions) + _find_surplus(predictions)
    infos: list[PartInfo] = []
    seen: Counter[str] = Counter()
    for name in predictions.run["parts"]:
        found, info, keys = _verify_part(predictions, name)
        damages += found
        infos += [info] if info is not None else []
        seen.update(keys)
    damages += [
        Damage(RUN_NAME, key, "key_twice", f"{count} rows have this key") for key, count in seen.items() if count > 1
    ]
    counts = count_scans(infos)
    if not damages and counts != predictions.run["counts"]:
        detail = f"the parts hold {counts}, the run says {predictions.run['counts']}"
        damages.append(Damage(RUN_NAME, "", "count_mismatch", detail))
    return sorted(set(damages))


def _verify_part(predictions: Predictions, name: str) -> tuple[list[Damage], PartInfo | None, list[str]]:
    file = f"{name}.parquet"
    info = parts.read_part_info(predictions.url, name)
    if info is None:
        return [Damage(file, "", "unreadable_part", "the part is missing, damaged or not of format 1")], None, []
    try:
        table = read_parquet(parts.part_url(predictions.url, name))
        refused = _read_quarantine(predictions.url, info)
    except (FileNotFoundError, ValueError) as error:
        return [Damage(file, "", "unreadable_part", str(error))], info, []
    schema = predictions.schema
    known = [field for field in table.schema if field.name in schema.names]  # more columns may stand beside them
    if pa.schema(known) != schema.remove_metadata():
        detail = f"columns must be {schema.names} with classes {predictions.run['classes']}, got {table.schema.names}"
        return [Damage(file, "", "schema_mismatch", detail)], info, []
    damages = _check_part(predictions.run, info, table, refused, file)
    damages += _check_detections(predictions, name, table["key"]) if has_detections(predictions) else []
    return damages, info, table["key"].to_pylist() + refused["key"].to_pylist()


def _read_quarantine(url: str, info: PartInfo) -> pa.Table:
    if not info.num_quarantined:
        return QUARANTINE_SCHEMA.empty_table()
    return read_parquet(parts.quarantine_part_url(url, info.shard))


def _check_part(run: dict[str, Any], info: PartInfo, table: pa.Table, refused: pa.Table, file: str) -> list[Damage]:
    pairs = {
        "model": (info.model_id, run["model_id"]),
        "shard": (f"{info.shard}.parquet", file),
        "rows": (table.num_rows, info.num_scored),
        "refused scans": (refused.num_rows, info.num_quarantined),
        "split": (set(table["split"].to_pylist()) or {info.split}, {info.split}),
    }
    damages = [
        Damage(file, "", "part_mismatch", f"{what}: the table has {found}, expected {expected}")
        for what, (found, expected) in pairs.items()
        if found != expected
    ]
    # A null is a score that an imported file does not have, not a NaN.
    logits_KN = [pc.fill_null(field, 0.0).to_numpy() for field in table["logits"].combine_chunks().flatten()]
    not_finite = ~np.isfinite(np.stack(logits_KN)).all(axis=0) if table.num_rows else np.zeros(0, bool)
    keys = table["key"].filter(pa.array(not_finite)).to_pylist()
    return damages + [Damage(file, key, "logit_not_finite", "a logit is NaN or infinite") for key in keys]


def _check_detections(predictions: Predictions, name: str, keys: pa.ChunkedArray) -> list[Damage]:
    file = f"{DETECTIONS}/{name}.parquet"
    try:
        table = read_parquet(detections_url(predictions.url, name))
    except (FileNotFoundError, ValueError) as error:
        return [Damage(file, "", "unreadable_part", str(error))]
    if table.schema.remove_metadata() != DETECTIONS_SCHEMA.remove_metadata():
        return [Damage(file, "", "schema_mismatch", f"columns must be {DETECTIONS_SCHEMA.names}, got {table.schema}")]
    of_part = pc.is_in(table["key"], keys.combine_chunks())
    is_known = pc.and_(of_part, pc.is_in(table["class"], pa.array(predictions.run["classes"], pa.string())))
    return [
        Damage(file, key, "part_mismatch", "a detection is of no scan of the part, or of no class of the run")
        for key in pc.unique(table.filter(pc.invert(is_known))["key"]).to_pylist()
    ]


def _check_checksums(predictions: Predictions) -> list[Damage]:
    damages = []
    for file, expected in predictions.run["sha256"].items():
        try:
            found = storage.sha256_of(storage.join_url(predictions.url, file))
        except FileNotFoundError:
            damages.append(Damage(file, "", "missing_file", "the run says it is there"))
            continue
        if found != expected:
            damages.append(
                Damage(file, "", "checksum_mismatch", f"the file has sha256 {found}, the run says {expected}")
            )
    return damages


def _find_surplus(predictions: Predictions) -> list[Damage]:
    expected: Sequence[str] = [RUN_NAME, *predictions.run["sha256"]]
    found = (storage.path_below(info.url, predictions.url) for info in storage.list_files(predictions.url))
    return [Damage(name, "", "surplus_file", "the run does not list it") for name in sorted(set(found) - set(expected))]
