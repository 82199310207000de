"""Format figures for readers: ratios, percentages, counts and intervals."""

from model.metrics.uncertainty.intervals import Interval

NO_BREAK = "\N{NO-BREAK SPACE}"


def format_ratio(value: float | None) -> str:
    """Return a figure in [0, 1] with three decimals; an en dash if it is undefined."""
    return "–" if value is None else f"{value:.3f}"


def format_percent(value: float | None) -> str:
    """Return a fraction as a percentage with at least two significant digits; an en dash if it is undefined."""
    if value is None:
        return "–"
    digits = f"{100 * value:.1f}" if value == 0 or value >= 0.001 else f"{100 * value:.2g}"
    return f"{digits}{NO_BREAK}%"


def format_count(value: int) -> str:
    """Return a whole number with thousands separators."""
    return f"{value:,}"


def format_interval(interval: Interval | None) -> str:
    """Return a range of figures in [0, 1]; an en dash if it is undefined."""
    return "–" if interval is None else f"{interval.low:.3f}–{interval.high:.3f}"


def format_percent_interval(interval: Interval | None) -> str:
    """Return a range of fractions as percentages; an en dash if it is undefined."""
    return "–" if interval is None else f"{100 * interval.low:.1f}–{100 * interval.high:.1f}{NO_BREAK}%"


def format_gain(value: float | None) -> str:
    """Return a difference of figures in [0, 1] with its sign; an en dash if it is undefined."""
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def format_gain_interval(interval: Interval | None) -> str:
    """Return a range of differences with their signs; an en dash if it is undefined."""
    return "–" if interval is None else f"{format_gain(interval.low)} to {format_gain(interval.high)}"


def format_p_value(value: float | None) -> str:
    """Return a p-value with two significant digits; an en dash if it is undefined."""
    if value is None:
        return "–"
    return f"p{NO_BREAK}<{NO_BREAK}0.001" if value < 0.001 else f"p{NO_BREAK}{value:.2g}"


def format_rate(value: float | None) -> str:
    """Return a number per 1,000 with up to two decimals; an en dash if it is undefined."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 or value == 0 else f"{value:.2f}"


def format_rate_interval(interval: Interval | None) -> str:
    """Return a range of numbers per 1,000; an en dash if it is undefined."""
    return "–" if interval is None else f"{format_rate(interval.low)}–{format_rate(interval.high)}"


def format_score(value: float | None) -> str:
    """Return a score with four significant digits; an en dash if it is undefined."""
    return "–" if value is None else f"{value:.4g}"
