"""Make the table of scans of a report: label, score, verdict and peak of every class, a row a scan.

Shapes: N scans  K classes
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from model.evaluation.pointing import find_pointing_hits
from model.evaluation.scans.scored_scans import UNSCORED, ScoredScans
from model.metrics.bags import NEVER, any_reaches
from model.metrics.calibration import fit_platt
from model.metrics.operating_points import any_item, sigmoid
from model.metrics.ranking import Ranking
from shards.format.classes import ABSENT, PRESENT, UNKNOWN

VERDICTS = ("caught", "missed", "false_alarm", "clear")
"""Of a scan that holds the class and of one that does not, with and without an alarm; null if the label is unknown."""
ANY_ITEM = "any item"
ERROR_FIELDS = ("class", "verdict", "key", "score", "probability", "rank", "threshold", "x_px", "y_px", "hit")
"""Of a row of `list_errors`."""
_CAUGHT, _MISSED, _FALSE_ALARM, _CLEAR = range(4)
_ROWS_OF_GROUP = 100_000
_CLASS_FIELDS = ("label", "score", "probability", "rank", "threshold", "verdict", "peak", "hit")
_PEAK_TYPE = pa.struct([pa.field("x_px", pa.float32()), pa.field("y_px", pa.float32())])
_WHAT = {
    "group": "scans of one bag share it; null: alone",
    "metadata": "of the dataset",
    "label": "1 present, 0 absent, null unknown",
    "score": "sigmoid(logit); null with probability and rank where imported predictions have none",
    "probability": "score after Platt scaling on these scans",
    "rank": "1 is the highest score of the class; tied scans share the first rank",
    "threshold": "score from which on the class raises an alarm; null: it never does, or any item: where a class does",
    "verdict": f"{', '.join(VERDICTS)}; null where the label is unknown or there is no score",
    "peak": "where the class' heatmap is highest, in pixels of the image",
    "hit": "whether the peak lies in a box of the class; null without the class or without a box of it",
}


@dataclass(frozen=True, slots=True)
class ScoreColumn:
    """One score of every scan, and what follows from it: of a class, or of the alarm for any item."""

    name: str
    label_N: npt.NDArray[np.int8]
    logit_N: npt.NDArray[np.float32]
    probability_N: npt.NDArray[np.float64]
    rank_N: npt.NDArray[np.int32]
    threshold: float | None
    """A logit; None if there is none, as for any item: it alarms where a class does."""
    verdict_N: npt.NDArray[np.int8]
    """Index into VERDICTS; -1 unknown."""
    peaks_N2: npt.NDArray[np.float32] | None = None
    hit_N: npt.NDArray[np.int8] | None = None
    """1 in a box, 0 beside it, -1 neither."""

    @property
    def threshold_score(self) -> float | None:
        """The threshold on the scale of scores."""
        return None if self.threshold is None else float(sigmoid(np.float64(self.threshold)))


def rate_columns(
    scans: ScoredScans, rankings: Sequence[Ranking], thresholds_K: npt.NDArray[np.float64]
) -> list[ScoreColumn]:
    """Return the column of each class, and last that of any item.

    Args:
        scans: of one split.
        rankings: of each class, and last of any item.
        thresholds_K: logits of the classes that decide the verdicts; NEVER: no alarm.
    """
    any_logit_N, any_label_N = any_item(scans.logits_NK, scans.labels_NK)
    columns = []
    for k, ranking in enumerate(rankings):
        is_class = k < len(scans.classes)
        logit_N, rated_N = scans.column(k) if is_class else (any_logit_N, any_label_N)
        alarm_N = logit_N >= thresholds_K[k] if is_class else any_reaches(scans.logits_NK, thresholds_K)
        columns.append(
            ScoreColumn(
                name=scans.classes[k] if is_class else ANY_ITEM,
                label_N=scans.labels_NK[:, k] if is_class else any_label_N,
                logit_N=logit_N,
                probability_N=fit_platt(ranking).apply(logit_N),
                rank_N=_rank_of_each(logit_N),
                threshold=float(thresholds_K[k]) if is_class and thresholds_K[k] < NEVER else None,
                verdict_N=_judge(alarm_N, rated_N),
                peaks_N2=scans.peaks_NK2[:, k] if is_class else None,
                hit_N=_hits(scans, k) if is_class else None,
            )
        )
    return columns


def scans_parquet(scans: ScoredScans, columns: Sequence[ScoreColumn]) -> bytes:
    """Return `scans.parquet`: a row a scan in the order of the shards; equal arguments give equal bytes.

    `key`, `split`, `group` and `metadata` are the dataset's. `label`, `score`, … are structs with a field a class, as
    in the dataset and in predictions: read the columns of one class as `score.Gun`. `any_item` is a struct of the same
    figures of the alarm for any item. Written in row groups: the whole of a million scans would take 400 MB.
    """
    out = io.BytesIO()
    first = _slice_table(scans, columns, 0, _ROWS_OF_GROUP)
    with pq.ParquetWriter(out, first.schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(first)
        for start in range(_ROWS_OF_GROUP, len(scans.keys_N), _ROWS_OF_GROUP):
            writer.write_table(_slice_table(scans, columns, start, _ROWS_OF_GROUP))
    return out.getvalue()


def list_errors(scans: ScoredScans, columns: Sequence[ScoreColumn]) -> list[dict[str, Any]]:
    """Return a row for each miss and each false alarm, class by class, the worst first."""
    rows: list[dict[str, Any]] = []
    for column in columns:
        for verdict, sign in ((_MISSED, 1), (_FALSE_ALARM, -1)):
            wrong = np.flatnonzero(column.verdict_N == verdict)
            for n in wrong[np.argsort(sign * column.logit_N[wrong], kind="stable")]:
                rows.append(_error(scans, column, int(n)))
    return rows


def _error(scans: ScoredScans, column: ScoreColumn, n: int) -> dict[str, Any]:
    x, y = (None, None) if column.peaks_N2 is None else (float(of) for of in column.peaks_N2[n])
    hit = -1 if column.hit_N is None else int(column.hit_N[n])
    return {
        "class": column.name,
        "verdict": VERDICTS[column.verdict_N[n]],
        "key": scans.keys_N[n].as_py(),
        "score": float(sigmoid(column.logit_N[n])),
        "probability": float(column.probability_N[n]),
        "rank": int(column.rank_N[n]),
        "threshold": column.threshold_score,
        "x_px": x,
        "y_px": y,
        "hit": None if hit < 0 else hit,
    }


def _judge(alarm_N: npt.NDArray[np.bool_], label_N: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    verdict_N = np.where(alarm_N, _FALSE_ALARM, _CLEAR)
    verdict_N = np.where(label_N == PRESENT, np.where(alarm_N, _CAUGHT, _MISSED), verdict_N)
    return np.where(label_N == UNKNOWN, -1, verdict_N).astype(np.int8)


def _rank_of_each(logit_N: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    # One sort and one pass: looking a million scores up in a million takes four times as long.
    order = np.argsort(-logit_N, kind="stable")
    falling = logit_N[order]
    starts = np.concatenate([[True], falling[1:] != falling[:-1]]) if len(order) else np.zeros(0, bool)
    rank_N = np.empty(len(order), np.int32)
    rank_N[order] = np.maximum.accumulate(np.where(starts, np.arange(1, len(order) + 1), 0))
    return rank_N


def _hits(scans: ScoredScans, k: int) -> npt.NDArray[np.int8]:
    found = find_pointing_hits(scans, k)
    hit_N = np.full(len(scans.keys_N), -1, np.int8)
    hit_N[found.row_S] = found.is_hit_S
    return hit_N


def _slice_table(scans: ScoredScans, columns: Sequence[ScoreColumn], start: int, num: int) -> pa.Table:
    rows = slice(start, min(start + num, len(scans.keys_N)))
    num = rows.stop - rows.start
    *classes, of_any_item = [{name: _array(column, name, rows) for name in _CLASS_FIELDS} for column in columns]
    names = [column.name for column in columns[:-1]]
    arrays: dict[str, pa.Array] = {
        "key": scans.keys_N[rows.start : rows.stop],
        "split": pa.repeat(scans.split, num).dictionary_encode(),
        "group": scans.names_of_groups_N[rows.start : rows.stop],
    }
    if scans.metadata_N is not None:
        arrays["metadata"] = scans.metadata_N[rows.start : rows.stop]
    for name in _CLASS_FIELDS:
        arrays[name] = _struct(names, [of[name] for of in classes])
    kept = [name for name in _CLASS_FIELDS if of_any_item[name] is not None]
    arrays["any_item"] = _struct(kept, [of_any_item[name] for name in kept])
    fields = [
        pa.field(name, array.type, metadata={"what": _WHAT[name]} if name in _WHAT else None)
        for name, array in arrays.items()
    ]
    return pa.Table.from_arrays(list(arrays.values()), schema=pa.schema(fields))


def _array(column: ScoreColumn, name: str, rows: slice) -> pa.Array | None:
    num = rows.stop - rows.start
    unscored = column.logit_N[rows] == UNSCORED
    match name:
        case "label":
            return pa.array(column.label_N[rows], mask=column.label_N[rows] == UNKNOWN)
        case "score":
            return pa.array(sigmoid(column.logit_N[rows]), mask=unscored)
        case "probability":
            return pa.array(column.probability_N[rows], mask=unscored)
        case "rank":
            return pa.array(column.rank_N[rows], mask=unscored)
        case "threshold":
            return pa.repeat(pa.scalar(column.threshold_score, pa.float64()), num)
        case "verdict":
            indices = pa.array(column.verdict_N[rows], mask=column.verdict_N[rows] < 0)
            return pa.DictionaryArray.from_arrays(indices, list(VERDICTS))
        case "peak" if column.peaks_N2 is not None:
            x_N, y_N = column.peaks_N2[rows].T
            missing = np.isnan(x_N)
            parts = [pa.array(np.ascontiguousarray(of), mask=missing) for of in (x_N, y_N)]
            return pa.StructArray.from_arrays(parts, fields=list(_PEAK_TYPE), mask=pa.array(missing))
        case "hit" if column.hit_N is not None:
            return pa.array(column.hit_N[rows] == 1, mask=column.hit_N[rows] < 0)
    return None


def _struct(names: Sequence[str], arrays: Sequence[pa.Array]) -> pa.StructArray:
    return pa.StructArray.from_arrays(list(arrays), names=list(names))


assert (ABSENT, PRESENT) == (0, 1)
