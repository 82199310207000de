"""Test how tables of scores are read."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.metrics.operating_points import sigmoid
from shards.predictions.score_table import LARGEST_LOGIT, read_scores, to_logits

CLASSES = ("Gun", "Knife")


def read(tmp_path, text, are_logits=False):
    path = tmp_path / "s.csv"
    path.write_text(text)
    return read_scores(str(path), "csv", CLASSES, are_logits)


@given(st.lists(st.floats(0, 1), min_size=1))
def test_logits_keep_the_order_of_scores_and_lead_back_to_them(scores):
    scores = np.sort(np.array(scores))
    logits = to_logits(scores)
    assert np.isfinite(logits).all() and (np.diff(logits) >= 0).all()
    np.testing.assert_allclose(sigmoid(logits), scores, rtol=1e-12, atol=0)


def test_scores_of_0_and_1_are_beyond_all_others():
    logits = to_logits(np.array([0, np.nextafter(0, 1), np.nextafter(1, 0), 1]))
    assert logits[0] == -LARGEST_LOGIT < logits[1] < logits[2] < logits[3] == LARGEST_LOGIT
    assert sigmoid(logits).tolist()[::3] == [0.0, 1.0]


def test_a_csv_and_a_parquet_table_say_the_same(tmp_path):
    found = read(tmp_path, "knife, Gun ,key,site\n0.25,0.5,007,A\n,1,b,B\n")
    pq.write_table(pa.table({"key": ["007", "b"], "Gun": [0.5, 1], "Knife": [0.25, None]}), tmp_path / "s.parquet")
    same = read_scores(str(tmp_path / "s.parquet"), "parquet", CLASSES, False)
    assert found.keys_N.to_pylist() == same.keys_N.to_pylist() == ["007", "b"]
    np.testing.assert_array_equal(found.logits_NK, same.logits_NK)
    assert np.isnan(found.logits_NK).tolist() == [[False, False], [False, True]]
    assert (found.unused_columns, found.problems) == (("site",), {})


def test_rows_that_cannot_be_used_are_named_with_their_reason(tmp_path):
    found = read(tmp_path, "key,Gun,Knife\na,1.5,0\nb,x,0\nc,nan,0\nd,,\ne,0.1\nf,0.1,0.2\n")
    reasons = {found.keys_N[row].as_py(): reason for row, (reason, _) in found.problems.items()}
    assert reasons == {"a": "out_of_range", "b": "not_a_number", "c": "not_a_number", "d": "no_score"}
    assert found.bad_lines == ("line 6 has 2 cells, not 3: e,0.1",)
    assert read(tmp_path, "key,Gun\na,inf\nb,-3\n", are_logits=True).problems.keys() == {0}


@pytest.mark.parametrize("text", ["", "key,Sword\na,1\n", "name,Gun\na,1\n", "key,Gun,gun\na,1,1\n"])
def test_what_is_no_table_of_scores_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match="scores must"):
        read(tmp_path, text)
