"""Figures are formatted for readers."""

from hypothesis import given
from hypothesis import strategies as st

from model.metrics.uncertainty.intervals import Interval
from model.reports.text.numbers import (
    format_number,
    format_percent,
    format_percent_interval,
    format_rate,
    format_ratio,
    keep_together,
)


def test_numbers_are_written_for_readers():
    assert [format_ratio(value) for value in (None, 0.5, 1.0)] == ["–", "0.500", "1.000"]
    assert [format_percent(value) for value in (None, 0.0, 0.123, 0.00108, 0.00012, 0.000_000_5)] == [
        "–",
        "0.0\xa0%",
        "12.3\xa0%",
        "0.11\xa0%",
        "0.012\xa0%",
        "0.00005\xa0%",
    ]
    numbers = [format_number(value) for value in (None, 0.0, 4.664e-05, 0.51234, 5.0, 640.5, 1024.0, 123_456.7)]
    assert numbers == ["–", "0", "0.00004664", "0.5123", "5", "640.5", "1,024", "123,457"]


def test_a_half_is_rounded_up_in_every_percentage_and_rate():
    assert format_percent(5 / 16) == "31.3\xa0%"
    assert format_percent_interval(Interval(1 / 16, 5 / 16)) == "6.3–31.3\xa0%"
    assert format_percent_interval(Interval(0.0004, 0.0025)) == "0.04–0.25\xa0%"
    assert [format_rate(rate) for rate in (0.125, 12.25, 100.5)] == ["0.13", "12.3", "101"]


@given(st.integers(0, 999), st.integers(1, 999))
def test_a_percentage_is_within_half_a_step_of_its_value(part, whole):
    share = min(part / whole, 1.0)
    assert abs(float(format_percent(share).removesuffix("\xa0%")) - 100 * share) <= 0.05 + 1e-9


def test_lines_break_neither_before_a_percent_sign_nor_within_a_range():
    assert keep_together("95 % of 0.1–0.2, and – 3 %") == "95\xa0% of 0.1–\u20600.2, and – 3\xa0%"
