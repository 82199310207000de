"""Figures are formatted for readers."""

from model.reports.numbers import format_percent, format_ratio


def test_numbers_are_written_for_readers():
    assert [format_ratio(value) for value in (None, 0.5, 1.0)] == ["–", "0.500", "1.000"]
    assert [format_percent(value) for value in (None, 0.0, 0.123, 0.00012)] == [
        "–",
        "0.0\xa0%",
        "12.3\xa0%",
        "0.012\xa0%",
    ]
