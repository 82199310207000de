"""Read the lists of a JSON object an element at a time: parsed whole, a document takes ten times its size."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def scan_lists(text: str, take: Mapping[str, Callable[[Any], object]]) -> set[str]:
    """Call a function with each element of some lists, in their order; return the names of the members of the object.

    Args:
        text: a JSON object.
        take: what to call, by the name of the list; null stands for a list that is not there.

    Raises:
        ValueError: the text is no JSON object, or such a member is no list. What was taken before stands in the text.
    """
    names: set[str] = set()
    at, is_end = _enter(text, 0, "{", "}")
    while not is_end:
        name, at = _DECODER.raw_decode(text, at)
        if not isinstance(name, str):
            raise json.JSONDecodeError("Expecting a name", text, at)
        at, _ = _enter(text, at, ":", "")
        if not text.startswith("null", at):
            names.add(name)
        at = _scan_list(text, at, take[name]) if name in take else _DECODER.raw_decode(text, at)[1]
        at, is_end = _pass_item(text, at, "}")
    if at < len(text):
        raise json.JSONDecodeError("Extra data", text, at)
    return names


def scan_list(text: str, take: Callable[[Any], object]) -> None:
    """Call a function with each element of a text that is a JSON list; ValueError as `scan_lists`."""
    at = _scan_list(text, _skip_space(text, 0), take)
    if at < len(text):
        raise json.JSONDecodeError("Extra data", text, at)


def _scan_list(text: str, at: int, take: Callable[[Any], object]) -> int:
    """Take the elements of the list that begins at a place; return the place behind it."""
    if text.startswith("null", at):
        return at + len("null")
    at, is_end = _enter(text, at, "[", "]")
    while not is_end:
        element, at = _DECODER.raw_decode(text, at)
        take(element)
        at, is_end = _pass_item(text, at, "]")
    return at


def _enter(text: str, at: int, mark: str, end: str) -> tuple[int, bool]:
    """Return the place of what follows a mark, or that behind the end if it follows at once, and whether it does."""
    at = _skip_space(text, at)
    if not text.startswith(mark, at):
        raise json.JSONDecodeError(f"Expecting {mark!r}", text, at)
    at = _skip_space(text, at + 1)
    is_end = bool(end) and text.startswith(end, at)
    return (_skip_space(text, at + 1) if is_end else at), is_end


def _pass_item(text: str, at: int, end: str) -> tuple[int, bool]:
    """Return the place of the next item, or that behind the end, and whether it is the end."""
    at = _skip_space(text, at)
    is_end = text.startswith(end, at)
    if not is_end and not text.startswith(",", at):
        raise json.JSONDecodeError(f"Expecting ',' or {end!r}", text, at)
    return _skip_space(text, at + 1), is_end


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None  # it matches nothing too
    return match.end()
