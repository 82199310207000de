"""Test the encoding, checks and hashing of keys."""

import re
import urllib.parse

from hypothesis import given, settings
from hypothesis import strategies as st

from shards.format.keys import MAX_KEY_BYTES, encode_key, escape_control_characters, hash_key, key_problem, place_in

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


@settings(max_examples=300, deadline=None)
@given(NAMES)
def test_every_key_is_safe_and_names_one_stem_alone(stem):
    key = encode_key(stem)
    assert re.fullmatch(r"[A-Za-z0-9_~()+,=@%-]+", key)
    assert urllib.parse.unquote(key) == stem


@settings(max_examples=100, deadline=None)
@given(st.lists(NAMES, min_size=2, max_size=2, unique=True))
def test_two_stems_never_share_a_key(stems):
    assert encode_key(stems[0]) != encode_key(stems[1])


def test_a_key_that_a_tar_cannot_hold_is_a_problem():
    assert key_problem("k" * MAX_KEY_BYTES) == ""
    assert key_problem("k" * 96) == "a key must have at most 95 bytes, got 96"


def test_the_keyed_hash_is_that_of_format_1():
    # A dataset's shards follow from it: another value is another format.
    assert [hash_key(key) for key in ("P00001", "N0000002")] == [14122169664133593107, 1240745512643056581]


@settings(max_examples=200)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(1, 10_000))
def test_ranges_of_hashes_are_in_order_and_within_bounds(one, other, num_parts):
    low, high = sorted((one, other))
    assert 0 <= place_in(low, num_parts) <= place_in(high, num_parts) < num_parts


def test_ranges_of_hashes_are_equally_full():
    counts = [0] * 8
    for number in range(8000):
        counts[place_in(hash_key(f"N{number:07d}"), 8)] += 1
    assert all(850 < count < 1150 for count in counts)


def test_what_a_terminal_would_obey_is_escaped():
    assert escape_control_characters("a\x1b[2Jb\nc\udce9\x9bä") == "a\\x1b[2Jb\\x0ac\\udce9\\x9bä"
