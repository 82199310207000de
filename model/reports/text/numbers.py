"""Format figures for readers: ratios, percentages, counts and intervals."""

import re
from decimal import ROUND_HALF_UP, Decimal

from model.metrics.uncertainty.intervals import Interval

NO_BREAK = "\N{NO-BREAK SPACE}"


def keep_together(html: str) -> str:
    """Return a page whose lines break neither before a percent sign nor within a range of numbers."""
    return re.sub(r"(?<=\d)–(?=\d)", "–\N{WORD JOINER}", re.sub(r"(?<=\d) %", f"{NO_BREAK}%", html))


def format_ratio(value: float | None) -> str:
    """Return a figure in [0, 1] with three decimals; an en dash if it is undefined."""
    return "–" if value is None else f"{value:.3f}"


def format_percent(value: float | None, space: str = NO_BREAK) -> str:
    """Return a fraction as a percentage with at least two significant digits; an en dash if it is undefined.

    In a terminal, whose lines are not filled, the `space` before the sign is a plain one.
    """
    if value is None:
        return "–"
    return f"{_percent_digits(value)}{space}%"


def format_count(value: int) -> str:
    """Return a whole number with thousands separators."""
    return f"{value:,}"


def format_interval(interval: Interval | None) -> str:
    """Return a range of figures in [0, 1]; an en dash if it is undefined."""
    return "–" if interval is None else f"{interval.low:.3f}–{interval.high:.3f}"


def format_percent_interval(interval: Interval | None) -> str:
    """Return a range of fractions as percentages; an en dash if it is undefined."""
    if interval is None:
        return "–"
    if interval.high < 0.01:
        return f"{_percent_digits(interval.low)}–{_percent_digits(interval.high)}{NO_BREAK}%"
    return f"{_round(100 * interval.low, 1)}–{_round(100 * interval.high, 1)}{NO_BREAK}%"


def format_gain(value: float | None) -> str:
    """Return a difference of figures in [0, 1] with its sign; an en dash if it is undefined."""
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def format_gain_interval(interval: Interval | None) -> str:
    """Return a range of differences with their signs; an en dash if it is undefined."""
    return "–" if interval is None else f"{format_gain(interval.low)}{NO_BREAK}to{NO_BREAK}{format_gain(interval.high)}"


def format_p_value(value: float | None) -> str:
    """Return a p-value with two significant digits; an en dash if it is undefined."""
    if value is None:
        return "–"
    return f"p{NO_BREAK}<{NO_BREAK}0.001" if value < 0.001 else f"p{NO_BREAK}{value:.2g}"


def format_rate(value: float | None) -> str:
    """Return a number per 1,000 with up to two decimals; an en dash if it is undefined."""
    if value is None:
        return "–"
    return _round(value, 0 if value >= 100 else 1 if value >= 10 or value == 0 else 2)


def format_rate_interval(interval: Interval | None) -> str:
    """Return a range of numbers per 1,000; an en dash if it is undefined."""
    return "–" if interval is None else f"{format_rate(interval.low)}–{format_rate(interval.high)}"


def format_number(value: float | None) -> str:
    """Return a score or a size with four significant digits, never with an exponent; an en dash if it is undefined."""
    if value is None:
        return "–"
    return format_count(round(value)) if abs(value) >= 1000 else f"{Decimal(f'{value:.4g}'):f}"


def _percent_digits(value: float) -> str:
    if value == 0 or value >= 0.01:
        return _round(100 * value, 1)
    return f"{Decimal(f'{100 * value:.2g}'):f}"


def _round(value: float, digits: int) -> str:
    """Return a number with fixed decimals; a half goes up, as in `report.js`: 5 of 16 are 31.3 % in both."""
    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))
