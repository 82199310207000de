"""Keep the record of watched nights: what each showed, and what bets against no change have won."""

# G bags  N sampled bags  K classes

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from model.metrics.drift import conformal_ranks, conformal_ranks_of_shares, count_ranks, log_wealth
from model.metrics.operating_points import sigmoid
from model.monitoring.label_free import ASSUMPTIONS, estimate
from model.monitoring.observations import ALARMS, QUARANTINE, Observations

FloatArray = npt.NDArray[np.float64]
Document = dict[str, Any]

FORMAT_VERSION = 2
NUM_OF_NIGHT, NUM_OF_REFERENCE = 500, 5000
"""Bags that the test compares: enough to see what matters, and a year of them stays small."""
NUM_OF_VALUE, NUM_OF_REFERENCE_VALUE = 200, 2000
"""The same of each value of the column that nights are divided by."""
MORE_FOR_SHARES = 10
"""Factor by which more bags are compared where only a share counts, such as that of alarms, which may be small."""
MAX_VALUES = 50
QUANTILES = {"p5": 0.05, "p50": 0.5, "p95": 0.95}
STRATUM = "stratum"
"""Column of samples: the value that a row stands for; null: the whole night."""


def start_record(
    reference: Observations, identity: Mapping[str, Any], thresholds_K: FloatArray, calibration: Document | None
) -> tuple[Document, pa.Table]:
    """Return the record of no night yet, and the sample of the reference.

    Args:
        reference: with alarms.
        identity: fields that every later night must share: `model_id`, `reference_digest`, `alpha`, `by`, ….
        thresholds_K: logits of alarms; infinity: never.
        calibration: of `label_free.calibrate`; None without labelled bags.

    Raises:
        ValueError: the column to divide by has more than MAX_VALUES values.
    """
    values = list_values(reference)
    if len(values) > MAX_VALUES:
        raise ValueError(f"by must be a column of at most {MAX_VALUES} values, got {len(values)} in the reference")
    sample = draw_sample(reference, values, NUM_OF_REFERENCE, NUM_OF_REFERENCE_VALUE)
    streams = []
    for value in (None, *values):
        for name, numbers_G in reference.streams.items():
            summary = summarise(name, numbers_G[_is_of(reference, value)])
            if summary is None:
                continue  # unknown of the reference: nothing to compare with
            stream: Document = {
                "name": name,
                "value": value,
                "reference": summary,
                "nights": [],
                "rank_counts": [],
                "log_wealth": [],
            }
            if is_share(name):
                stream["seen"] = _count_true(_draw_share(reference, name, value, is_reference=True))
            streams.append(stream)
    document = {
        "format": FORMAT_VERSION,
        **identity,
        "thresholds": _null_infinity(thresholds_K),
        "reasons": list(reference.reasons),
        "reference": _describe(reference, thresholds_K, calibration),
        "calibration": calibration,
        "assumptions": ASSUMPTIONS if calibration else None,
        "nights": [],
        "streams": streams,
    }
    return document, sample


def add_night(
    document: Document, history: Iterable[pa.Table], night: Observations, about: Mapping[str, Any]
) -> pa.Table:
    """Add a night to a record; return its sample, which is history to the next one.

    Args:
        document: of `start_record`, changed in place.
        history: samples of the reference and of all nights so far.
        night: with alarms.
        about: further fields of the night.
    """
    earlier = pa.concat_tables(history, promote_options="default")
    values = list(dict.fromkeys(stream["value"] for stream in document["streams"] if stream["value"] is not None))
    sample = draw_sample(night, values, NUM_OF_NIGHT, NUM_OF_VALUE)
    number = len(document["nights"])
    strata = {value: (_of_stratum(earlier, value), _of_stratum(sample, value)) for value in (None, *values)}
    for at, stream in enumerate(document["streams"]):
        name, value, seed = stream["name"], stream["value"], (number, at)
        if is_share(name):
            is_true_N = _draw_share(night, name, value, is_reference=False)
            num_true, num_earlier = stream["seen"]
            ranks_N = conformal_ranks_of_shares(num_true, num_earlier, is_true_N, seed)
            stream["seen"] = [old + new for old, new in zip(stream["seen"], _count_true(is_true_N), strict=True)]
        else:
            earlier_R, new_N = (_numbers(table, name) for table in strata[value])
            ranks_N = conformal_ranks(earlier_R, new_N, seed)
        stream["rank_counts"].append(count_ranks(ranks_N).tolist())
        stream["log_wealth"].append(log_wealth(np.array(stream["rank_counts"])))
        stream["nights"].append(summarise(name, night.streams[name][_is_of(night, value)]))
    thresholds_K = read_thresholds(document)
    described = _describe(night, thresholds_K, document["calibration"])
    document["nights"].append({**about, **described})
    return sample


def limit(document: Mapping[str, Any]) -> float:
    """Return the logarithm of the wealth from which on a stream alarms: all streams share alpha."""
    return math.log(len(document["streams"]) / document["alpha"])


def alarmed_in(document: Mapping[str, Any], stream: Mapping[str, Any]) -> int | None:
    """Return the night, from 1, in which a stream raised its alarm; None if it did not. An alarm stays."""
    reached = [number for number, wealth in enumerate(stream["log_wealth"], 1) if wealth >= limit(document)]
    return reached[0] if reached else None


def list_changed(document: Mapping[str, Any]) -> list[str]:
    """Return the labels of all streams with an alarm."""
    return [label(stream) for stream in document["streams"] if alarmed_in(document, stream) is not None]


def label(stream: Mapping[str, Any]) -> str:
    """Return the name of a stream for readers."""
    name = stream["name"].replace("image.", "").replace("_px", "").replace("_bits", "")
    name = name.replace("score.", "score of ").replace(f"{QUARANTINE}.", f"{QUARANTINE}: ")
    return name if stream["value"] is None else f"{name} ({stream['value']})"


def read_thresholds(document: Mapping[str, Any]) -> FloatArray:
    """Return the logits of alarms; infinity: never."""
    return np.array([np.inf if at is None else at for at in document["thresholds"]], np.float64)


def summarise(name: str, values_G: FloatArray) -> dict[str, float] | None:
    """Return number and mean of what is known of a stream, and quantiles unless it is a share; None if nothing is.

    Scores are summarised as scores, not as logits.
    """
    known_G = values_G[~np.isnan(values_G)]
    if not len(known_G):
        return None
    known_G = sigmoid(known_G) if name.startswith("score.") else known_G
    found = {"num": len(known_G), "mean": float(known_G.mean())}
    if is_share(name):
        return found
    quantiles = np.quantile(known_G, list(QUANTILES.values())).tolist()
    return found | dict(zip(QUANTILES, quantiles, strict=True))


def is_share(name: str) -> bool:
    """Return whether a stream is of zeros and ones."""
    return name == ALARMS or name.startswith(QUARANTINE)


def list_values(night: Observations) -> list[str]:
    """Return the values of the column that a night is divided by, sorted."""
    return [] if night.value_G is None else sorted({value for value in night.value_G if value is not None})


def draw_sample(night: Observations, values: Sequence[str], num: int, num_of_value: int) -> pa.Table:
    """Return the numbers, shares aside, of the first bags of the night, and of the first of each value."""
    chosen = [np.arange(min(num, night.num_bags))]
    chosen += [np.flatnonzero(_is_of(night, value))[:num_of_value] for value in values]
    strata = [stratum for stratum, rows in zip((None, *values), chosen, strict=True) for _ in rows]
    rows = np.concatenate(chosen)
    numbers = {name: of for name, of in night.streams.items() if not is_share(name)}
    columns = {name: pa.array(of[rows], from_pandas=True) for name, of in numbers.items()}
    return pa.table({STRATUM: pa.array(strata, pa.string()), **columns})


def _draw_share(night: Observations, name: str, value: str | None, *, is_reference: bool) -> npt.NDArray[np.bool_]:
    """Return whether each of the first bags, or of those of a value, has what the stream counts."""
    whole, of_value = (NUM_OF_REFERENCE, NUM_OF_REFERENCE_VALUE) if is_reference else (NUM_OF_NIGHT, NUM_OF_VALUE)
    numbers_G = night.streams[name][_is_of(night, value)]
    known_G = numbers_G[~np.isnan(numbers_G)]
    return known_G[: MORE_FOR_SHARES * (whole if value is None else of_value)] > 0


def _count_true(is_true_N: npt.NDArray[np.bool_]) -> list[int]:
    return [int(is_true_N.sum()), len(is_true_N)]


def _is_of(night: Observations, value: str | None) -> npt.NDArray[np.bool_]:
    if value is None:
        return np.ones(night.num_bags, bool)
    assert night.value_G is not None
    return np.asarray(night.value_G == value)


def _of_stratum(table: pa.Table, value: str | None) -> pa.Table:
    column = table[STRATUM].combine_chunks()
    return table.filter(column.is_null() if value is None else pa.compute.equal(column, value))


def _numbers(table: pa.Table, name: str) -> FloatArray:
    if name not in table.column_names:
        return np.empty(0)
    numbers: FloatArray = table[name].combine_chunks().drop_null().cast(pa.float64()).to_numpy()
    return numbers


def _describe(night: Observations, thresholds_K: FloatArray, calibration: Document | None) -> Document:
    alarm_K = (night.logits_GK >= thresholds_K).sum(axis=0).tolist()
    values = list_values(night)
    return {
        "num_bags": night.num_bags,
        "num_alarms_of_class": alarm_K,
        "num_bags_of_value": {value: int(_is_of(night, value).sum()) for value in values} or None,
        "estimates": estimate(night.logits_GK, thresholds_K, calibration) if calibration else None,
    }


def _null_infinity(thresholds_K: FloatArray) -> list[float | None]:
    return [float(at) if np.isfinite(at) else None for at in thresholds_K]
