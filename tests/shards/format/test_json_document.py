"""Test the parsing of JSON documents with a format number."""

import pytest

from shards.format.json_document import DamagedDocumentError, parse_document


def test_a_document_of_the_format_is_returned():
    assert parse_document(b'{"format": 1, "x": [2]}', 1, "run", "u") == {"format": 1, "x": [2]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", r"run must be a JSON document, got Expecting value.* \(u\)"),
        (b"\xff\xfe{}", r"run must be a JSON document, got .* \(u\)"),
        (b"[]", r"run must be a JSON object, got a list \(u\)"),
        pytest.param(
            b"[" * 200_000, r"run must be a JSON document, got maximum recursion depth exceeded.* \(u\)", id="lists"
        ),
        pytest.param(
            b'{"a":' * 200_000,
            r"run must be a JSON document, got maximum recursion depth exceeded.* \(u\)",
            id="objects",
        ),
        (b"{}", r"run must have format 1, got None \(u\); convert it again"),
    ],
)
def test_a_damaged_document_is_refused(text, message):
    with pytest.raises(DamagedDocumentError, match=message):
        parse_document(text, 1, "run", "u", "convert it again")


@pytest.mark.parametrize("remedy", ["", "convert it again"])
def test_another_format_is_not_damage(remedy):
    message = r"run must have format 1, got 2 \(u\)" + (f"; {remedy}" if remedy else "$")
    with pytest.raises(ValueError, match=message) as info:
        parse_document(b'{"format": 2}', 1, "run", "u", remedy)
    assert not isinstance(info.value, DamagedDocumentError)
