"""Alarms follow from the thresholds, in the right order."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.evaluation.alarms import (
    ALARMS_SCHEMA,
    Threshold,
    find_alarms,
    parse_thresholds,
    rank_alarms,
    read_plan,
    recall_thresholds,
)
from shards.format.parquet import predictions_schema

CLASSES = ("Gun", "Knife")


def rows_of(logits_by_key):
    return pa.Table.from_pylist(
        [
            {
                "key": key,
                "split": "test",
                "logits": dict(zip(CLASSES, logits, strict=True)),
                "level_logits": [],
                "peaks": {
                    name: {"x_px": logit + 1, "y_px": logit + 2, "level": 1, "value": logit}
                    for name, logit in zip(CLASSES, logits, strict=True)
                },
            }
            for key, logits in logits_by_key.items()
        ],
        predictions_schema(CLASSES),
    )


def listed(table):
    return [(row["rank"], row["key"], row["class"]) for row in table.to_pylist()]


def test_scans_come_by_their_highest_score_and_their_classes_with_them():
    rows = rows_of({"a": (1, -9), "b": (3, 2), "c": (2.5, 4), "d": (0.9, 0)})
    alarms = rank_alarms([find_alarms("s", rows, {"Gun": Threshold(0.7), "Knife": Threshold(0.5)})])
    assert listed(alarms) == [
        (1, "c", "Knife"),
        (1, "c", "Gun"),
        (2, "b", "Gun"),
        (2, "b", "Knife"),
        (3, "a", "Gun"),
        (4, "d", "Gun"),
        (4, "d", "Knife"),
    ]
    assert alarms.schema.equals(ALARMS_SCHEMA)
    first = alarms.to_pylist()[0]
    assert first["score"] == pytest.approx(1 / (1 + np.exp(-4)))
    assert (first["x_px"], first["y_px"], first["threshold"], first["source_uri"]) == (5, 6, 0.5, None)


def test_a_score_equal_to_its_threshold_is_an_alarm_and_a_class_without_one_never_is():
    rows = rows_of({"a": (0, 50), "b": (-1e-3, 50)})
    assert listed(rank_alarms([find_alarms("s", rows, {"Gun": Threshold(0.5)})])) == [(1, "a", "Gun")]


def test_equal_scores_are_ordered_by_shard_and_key_whatever_the_order_of_the_parts():
    parts = {"t-1": rows_of({"b": (1, 0), "a": (1, 0)}), "t-0": rows_of({"c": (1, 0), "a": (1, 0)})}
    found = [find_alarms(name, rows, {"Gun": Threshold(0.6)}) for name, rows in parts.items()]
    assert rank_alarms(found).equals(rank_alarms(found[::-1]))
    assert [(row["shard"], row["key"]) for row in rank_alarms(found).to_pylist()] == [
        ("t-0", "a"),
        ("t-0", "c"),
        ("t-1", "a"),
        ("t-1", "b"),
    ]


def test_a_threshold_in_logits_tells_scores_apart_that_are_the_same_number():
    rows = rows_of({"a": (41, 0), "b": (40, 0)})
    assert Threshold(1.0).is_reached(np.array([41, 40], np.float32)).tolist() == [True, True]
    alarms = find_alarms("s", rows, {"Gun": Threshold(1.0, 40.5)})
    assert alarms["key"].to_pylist() == ["a"]


@given(
    st.lists(st.tuples(st.floats(-30, 30, width=32), st.floats(-30, 30, width=32)), max_size=8),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_an_alarm_is_listed_if_and_only_if_its_score_reaches_its_threshold(logits, gun, knife):
    rows = rows_of({f"k{number}": pair for number, pair in enumerate(logits)})
    alarms = rank_alarms([find_alarms("s", rows, {"Gun": Threshold(gun), "Knife": Threshold(knife)})])
    score = [[1 / (1 + np.exp(-np.float64(np.float32(logit)))) for logit in pair] for pair in logits]
    near = 1e-12  # the two sigmoids may round differently
    must = {(f"k{n}", CLASSES[k]) for n, s in enumerate(score) for k, t in ((0, gun), (1, knife)) if s[k] > t + near}
    may = {(f"k{n}", CLASSES[k]) for n, s in enumerate(score) for k, t in ((0, gun), (1, knife)) if s[k] >= t - near}
    found = {(key, name) for _, key, name in listed(alarms)}
    assert must <= found <= may
    scores = alarms["score"].to_pylist()
    firsts = [
        scores[place]
        for place, rank in enumerate(alarms["rank"].to_pylist())
        if rank not in alarms["rank"][:place].to_pylist()
    ]
    assert firsts == sorted(firsts, reverse=True)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"Gun": ""}, "must be CLASS=SCORE with a number in .*, got 'Gun='"),
        ({"Gun": "x"}, "must be CLASS=SCORE with a number in .*, got 'Gun=x'"),
        ({"Sword": "0.5"}, "a class among Gun, Knife, got 'Sword'"),
        ({"Gun": "1.5"}, r"threshold must be a score in \[0, 1\], got 1.5"),
        ({"Gun": "nan"}, r"threshold must be a score in \[0, 1\], got nan"),
    ],
)
def test_what_is_no_threshold_is_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        parse_thresholds(scores, CLASSES)


def test_thresholds_are_read():
    assert parse_thresholds({"Knife": "0.5", "Gun": "0.7"}, CLASSES) == {"Knife": Threshold(0.5), "Gun": Threshold(0.7)}


METRICS = {
    "classes": {
        "Gun": {
            "at_recall": {"0.5": {"threshold": None, "score": None}, "0.95": {"threshold": 2.0, "score": 0.88}},
        },
        "Knife": {"at_recall": {}},
    },
    "alarms": {"10": {"joint": {"num_false": 1}}},
}


def test_a_reports_operating_point_gives_thresholds_by_class():
    assert recall_thresholds(METRICS, "0.950", "m") == {"Gun": Threshold(0.88, 2.0)}
    assert recall_thresholds(METRICS, "0.5", "m") == {"Gun": None}
    with pytest.raises(ValueError, match=r"operating point must be one of \['0.5', '0.95'\] .*, got 0.7 \(m\)"):
        recall_thresholds(METRICS, "0.7", "m")


def test_a_reports_budget_gives_its_plan():
    assert read_plan(METRICS, "10.0", "joint", "m") == {"num_false": 1}
    with pytest.raises(ValueError, match=r"operating point must be among those of the report \(10\), got 7 \(m\)"):
        read_plan(METRICS, "7", "joint", "m")
    with pytest.raises(ValueError, match=r"got one of an earlier release \(m\); evaluate again"):
        read_plan({"classes": {}}, "10", "joint", "m")
