"""Join counts and names to parts of a sentence."""

from collections.abc import Sequence

from model.reports.text.numbers import format_count

MAX_NAMES = 6
"""A sentence names at most this many classes, and counts more."""


def count_scans(number: int) -> str:
    """Return a number of scans in words."""
    return f"{format_count(number)} {'scan' if number == 1 else 'scans'}"


def inflect(number: int, singular: str, plural: str) -> str:
    """Return the form of a word for one or several."""
    return singular if number == 1 else plural


def list_first(keys: Sequence[str], number: int) -> str:
    """Return the first keys of a number of them."""
    return ", ".join(keys) + (", …" if number > len(keys) else "")


def name_classes(names: list[str]) -> str:
    """Return the names of classes, or how many they are."""
    return join_names(names) if len(names) <= MAX_NAMES else f"{format_count(len(names))} classes"


def join_names(names: list[str], word: str = "and") -> str:
    """Return names as a list in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
