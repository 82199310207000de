"""List alarms: scans in which the score of a class reaches its threshold, the highest score first.

Shapes: N rows of a part  K classes  A alarms
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.metrics.operating_points import sigmoid

ALARMS_SCHEMA = pa.schema(
    [
        pa.field("rank", pa.int64(), nullable=False, metadata={"what": "of the scan, from 1; its alarms share it"}),
        pa.field("key", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("class", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False, metadata={"what": "sigmoid(logit)"}),
        pa.field("threshold", pa.float64(), nullable=False, metadata={"what": "on the score; it reaches it"}),
        pa.field("x_px", pa.float32(), nullable=False, metadata={"unit": "pixels", "what": "of the class' peak"}),
        pa.field("y_px", pa.float32(), nullable=False, metadata={"unit": "pixels", "what": "of the class' peak"}),
        pa.field("source_uri", pa.string(), metadata={"what": "of the scan; null where its dataset was not given"}),
    ]
)
"""A row an alarm; a scan with alarms for two classes has two rows in sequence."""
PEAKLESS_SCHEMA = pa.schema(
    [field.with_nullable(True) if field.name in ("x_px", "y_px") else field for field in ALARMS_SCHEMA]
)
"""The same for predictions without peaks."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """The threshold of a class."""

    score: float
    """In [0, 1]."""
    logit: float | None = None
    """If known, compared in place of the score: far from 0 many logits share a score."""

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise ValueError(f"threshold must be a score in [0, 1], got {self.score}")

    def is_reached(self, logits_N: np.ndarray) -> np.ndarray:
        """Return which float32 logits (N,) are equal to the threshold or above it."""
        if self.logit is not None:
            return np.asarray(logits_N >= np.float64(self.logit))
        return np.asarray(sigmoid(logits_N) >= self.score)


def find_alarms(shard: str, rows: pa.Table, thresholds: Mapping[str, Threshold]) -> pa.Table:
    """Return the alarms of one part, unsorted: `ALARMS_SCHEMA` with ranks of 0 and no source.

    Args:
        shard: the part's shard.
        rows: of `shards.format.parquet.predictions_schema`: key, split, logits and peaks.
        thresholds: by class; a class without one raises no alarm.
    """
    schema = PEAKLESS_SCHEMA if any(field.nullable for field in rows["peaks"].type) else ALARMS_SCHEMA
    logits, tables = rows["logits"].combine_chunks(), [schema.empty_table()]
    for name, threshold in thresholds.items():
        places_A = np.flatnonzero(threshold.is_reached(logits.field(name).to_numpy(zero_copy_only=False)))
        tables.append(list_rows(shard, rows, name, places_A, threshold.score).cast(schema))
    return pa.concat_tables(tables)


def list_rows(shard: str, rows: pa.Table, name: str, places_A: np.ndarray, threshold: float) -> pa.Table:
    """Return the rows of some scans of a part for one class: `PEAKLESS_SCHEMA` with ranks of 0 and no source."""
    num, peak = len(places_A), rows["peaks"].combine_chunks().field(name).take(places_A)
    columns = {
        "rank": np.zeros(num, np.int64),
        "key": rows["key"].take(places_A),
        "split": rows["split"].take(places_A),
        "shard": [shard] * num,
        "class": [name] * num,
        "score": sigmoid(rows["logits"].combine_chunks().field(name).to_numpy(zero_copy_only=False)[places_A]),
        "threshold": np.full(num, threshold),
        "x_px": pc.struct_field(peak, "x_px"),
        "y_px": pc.struct_field(peak, "y_px"),
        "source_uri": pa.nulls(num, pa.string()),
    }
    return pa.table(columns, schema=PEAKLESS_SCHEMA)


def rank_alarms(alarms: Sequence[pa.Table]) -> pa.Table:
    """Return all alarms, sorted by the highest score of their scans, then by their own score.

    Equal scores are ordered by shard, key and class, so that equal predictions give equal lists.
    """
    schema = alarms[0].schema if alarms else ALARMS_SCHEMA
    table = pa.concat_tables([schema.empty_table(), *alarms]).combine_chunks()
    scans = table.group_by(["shard", "key"]).aggregate([("score", "max")])
    scans = scans.sort_by([("score_max", "descending"), ("shard", "ascending"), ("key", "ascending")])
    scans = scans.append_column("scan_rank", pa.array(np.arange(1, len(scans) + 1)))
    joined = table.join(scans.drop_columns("score_max"), ["shard", "key"], join_type="inner")
    joined = joined.sort_by([("scan_rank", "ascending"), ("score", "descending"), ("class", "ascending")])
    columns = {name: joined["scan_rank" if name == "rank" else name] for name in schema.names}
    return pa.table(columns, schema=schema)


def parse_thresholds(scores: Mapping[str, str], classes: Sequence[str]) -> dict[str, Threshold]:
    """Return the thresholds of classes, given as text; ValueError if a class is unknown or a score is no number."""
    thresholds: dict[str, Threshold] = {}
    for name, text in scores.items():
        if name not in classes:
            raise ValueError(f"threshold must be of a class among {', '.join(classes)}, got {name!r}")
        try:
            score = float(text)
        except ValueError as error:
            raise ValueError(f"threshold must be CLASS=SCORE with a number in [0, 1], got '{name}={text}'") from error
        thresholds[name] = Threshold(score)
    return thresholds


def read_plan(metrics: Mapping[str, Any], per_1000: str, rule: str, where: str) -> Mapping[str, Any]:
    """Return what a report says of one budget of false alarms: `thresholds` by class, and counts of bags.

    Args:
        metrics: `metrics.json`.
        per_1000: false alarms per 1,000 clean bags, as the report has it, e.g. `10`.
        rule: `joint`, `any_item` or `per_class`.
        where: the document, for errors.

    Raises:
        ValueError: the report has no such budget, or was written before budgets were of bags.
    """
    if "alarms" not in metrics:
        raise ValueError(f"report must have budgets of bags, got one of an earlier release ({where}); evaluate again")
    plans = {_plain(key): plans for key, plans in metrics["alarms"].items()}
    if _plain(per_1000) not in plans:
        known = ", ".join(sorted(plans, key=float)) or "none, as no bag of it is clean"
        raise ValueError(f"operating point must be among those of the report ({known}), got {per_1000} ({where})")
    plan: Mapping[str, Any] = plans[_plain(per_1000)][rule]
    return plan


def recall_thresholds(metrics: Mapping[str, Any], recall: str, where: str) -> dict[str, Threshold | None]:
    """Return the thresholds at which a report's classes have a recall; a class without positives is left out.

    Raises:
        ValueError: no class of the report has this operating point.
    """
    found: dict[str, Threshold | None] = {}
    known: set[str] = set()
    for name, figures in metrics["classes"].items():
        points = {_plain(key): at for key, at in figures["at_recall"].items()}
        known |= points.keys()
        if (at := points.get(_plain(recall))) is not None:
            found[name] = make_threshold(at)
    if not found:
        raise ValueError(
            f"operating point must be one of {sorted(known, key=float)} (at_recall of the report), "
            f"got {recall} ({where})"
        )
    return found


def make_threshold(point: Mapping[str, Any] | None) -> Threshold | None:
    """Return the threshold of a document's `threshold` (a logit) and `score`; None if it has none."""
    return None if point is None or point["threshold"] is None else Threshold(point["score"], point["threshold"])


def _plain(number: str) -> str:
    return f"{float(number):g}"
