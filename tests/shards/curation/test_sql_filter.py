"""A condition selects the rows it is true for; anything else is refused."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.curation.sql_filter import check_condition, choose_rows
from shards.format.parquet import samples_schema

CLASSES = ("Gun", "Knife")


def table_of(*labels_and_widths: tuple[int | None, int]) -> pa.Table:
    """Rows that differ in the label of Gun and in width."""
    rows = [
        {
            "key": f"N{number}",
            "split": "train",
            "shard": "train-00000-of-00001.tar",
            "offset_bytes": 512,
            "size_bytes": 9,
            "sha256": "0" * 64,
            "width_px": width,
            "height_px": 30,
            "labels": {"Gun": label, "Knife": 0},
            "boxes": [{"class": "Gun", "xmin_px": 1, "ymin_px": 1, "xmax_px": 5, "ymax_px": 9}] if label else [],
            "source_uri": "file:///x",
            "duplicate_of": None,
        }
        for number, (label, width) in enumerate(labels_and_widths)
    ]
    return pa.Table.from_pylist(rows, samples_schema(CLASSES))


ROWS = ((1, 700), (1, 600), (0, 700), (None, 700))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("labels.Gun = 1 and width_px > 600", [0]),
        ("labels.Gun = 1", [0, 1]),
        ("not labels.Gun = 1", [2]),
        ("labels.Gun is null", [3]),
        ("labels.Gun = 1 or width_px = 700", [0, 1, 2, 3]),
        ("len(boxes) > 0 and boxes[1].class = 'Gun'", [0, 1]),
        ("key in ('N1', 'N3')", [1, 3]),
        ("key like 'N%' -- all of them", [0, 1, 2, 3]),
        ("hash(key) % 2 = 0 or hash(key) % 2 = 1", [0, 1, 2, 3]),
        ("width_px > 1000", []),
        ("false", []),
    ],
)
def test_rows_are_chosen_by_what_they_say(condition, expected):
    check_condition(condition, samples_schema(CLASSES))
    assert choose_rows(table_of(*ROWS), condition) == expected


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("labels.Gub = 1", 'Binder Error: Could not find key "Gub" in struct'),
        ("wdth_px > 1", 'Binder Error: Referenced column "wdth_px" not found'),
        ("width_px >", "syntax error"),
        ("", "Parser Error: SELECT clause without selection list"),
        ("1 = 1) or (1 = 1", "syntax error"),
        ("1 = 1 order by key", "syntax error"),
        ("1 = 1; drop table samples", "syntax error"),
        ("1 = 1 -- )", None),
        ("count(*) > 1", "Binder Error: WHERE clause cannot contain aggregates"),
        ("row_number() over () < 2", "Binder Error: WHERE clause cannot contain window functions"),
        ("key in (select 'N1')", "it must look at each row by itself, without SELECT"),
        ("key in (select column0 from read_csv('/etc/passwd'))", ""),
        ("random() < 0.5", "its answer must always be the same, and that of random is not"),
        ("now() > '2020-01-01'", "its answer must always be the same, and that of now is not"),
        ("localtimestamp > '2020-01-01'", "and that of localtimestamp is not"),
        ("current_date > '2020-01-01'", "and that of current_date is not"),
    ],
)
def test_what_is_no_condition_on_a_row_is_refused_with_the_reason(condition, problem):
    if problem is None:
        check_condition(condition, samples_schema(CLASSES))
        return
    with pytest.raises(
        ValueError, match=rf"condition on rows must be SQL over the columns of samples, got .*{problem}"
    ):
        check_condition(condition, samples_schema(CLASSES))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1, None]), st.integers(1, 3000)), max_size=30), st.integers(1, 3000))
def test_duckdb_chooses_what_python_chooses(rows, width):
    chosen = choose_rows(table_of(*rows), f"labels.Gun = 1 and width_px > {width}")
    assert chosen == [at for at, (label, own) in enumerate(rows) if label == 1 and own > width]
