"""Lists are read an element at a time as `json` reads them, and whatever `json` refuses is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.format.json_lists import scan_lists

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(st.sampled_from(["images", "annotations", "info", "x"]), VALUES)


def read(text):
    found: dict[str, list[Any]] = {"images": [], "annotations": []}
    names = scan_lists(text, {name: items.append for name, items in found.items()})
    return names, found


@given(DOCUMENTS, st.lists(VALUES, max_size=4), st.sampled_from([None, 1, "\t"]), st.sampled_from(["", " ", "\r\n"]))
def test_elements_are_those_that_json_finds(document, items, indent, space):
    document |= {"images": items, "annotations": None}
    names, found = read(space + json.dumps(document, indent=indent) + space)
    assert names == {name for name, value in document.items() if value is not None}
    assert found == {"images": items, "annotations": []}


@given(DOCUMENTS, st.data())
def test_a_document_that_is_cut_or_changed_is_read_as_json_reads_it_or_refused(document, data):
    text = json.dumps({"info": 1, "images": [document, 2], "annotations": []})
    at = data.draw(st.integers(0, len(text)))
    text = (
        text[:at]
        + data.draw(st.sampled_from(["", ",", "]", "}", '"', "[", "x"]))
        + data.draw(st.sampled_from([text[at:], text[at + 1 :], ""]))
    )
    try:
        expected = json.loads(text)
        is_object = isinstance(expected, dict)
    except ValueError:
        is_object = False
    if is_object and all(isinstance(expected.get(name, []), list) for name in ("images", "annotations")):
        _, found = read(text)
        assert found == {name: expected.get(name, []) for name in ("images", "annotations")}
    else:
        with pytest.raises(json.JSONDecodeError):
            read(text)


@pytest.mark.parametrize(
    "text", ["", "[]", "1", '{"images": 1}', '{"images": {}}', "{1: 2}", '{"a": 1} x', '{"a": 1,}']
)
def test_what_is_no_object_of_lists_is_refused(text):
    with pytest.raises(json.JSONDecodeError, match=r"Expecting|Extra"):
        read(text)
