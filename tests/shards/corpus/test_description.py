"""Does every file name get a key that readers of tars understand, and every key its place?"""

import re
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.corpus.description import (
    encode_key,
    hash_key,
    key_problem,
    make_key,
    place_in,
    printable,
)
from shards.format.tar import MAX_KEY_BYTES

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("P00001.jpg", "P00001"),
        ("P00001.JPG", "P00001"),
        ("P00001.jfif", "P00001"),
        ("a.003.jpg", "a%2E003"),
        ("a b (1).jpg", "a%20b%20(1)"),
        ("100%.jpg", "100%25"),
        (".jpg", "%2Ejpg"),
        ("..jpg", "%2E"),
        ("noextension", "noextension"),
        ("Gerät.jpg", "Ger%C3%A4t"),
        ("tab\tnew\nline\x1b[0m.jpg", "tab%09new%0Aline%1B%5B0m"),
        ("x_-~()+,=@.jpg", "x_-~()+,=@"),
        ("\udce9t\udce9.jpg", "%E9t%E9"),
        ("a\\b.jpg", "a%5Cb"),
    ],
)
def test_a_file_name_gets_a_key_of_safe_characters(name, key):
    assert make_key("sixray", f"7/{name}") == key
    assert make_key("images", name) == key


def test_in_plain_images_the_folder_is_part_of_the_key():
    assert make_key("images", "a/b.x/1.jpg") == "a%2Fb%2Ex%2F1"
    assert make_key("images", "a%2Fb/1.jpg") == "a%252Fb%2F1"


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
    assert printable("a\x1b[2Jb\nc\udce9\x9bä") == "a\\x1b[2Jb\\x0ac\\udce9\\x9bä"
