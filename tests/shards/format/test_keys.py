"""Test the encoding, checks and hashing of keys."""

import re
import unicodedata
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.format.keys import MAX_KEY_BYTES, decode_chinese, encode_key, escape_control_characters, hash_key, place_in

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


@settings(max_examples=300, deadline=None)
@given(NAMES)
def test_every_key_is_safe_and_names_one_stem_alone(stem):
    key = encode_key(stem)
    assert re.fullmatch(r"[A-Za-z0-9_~()+,=@%-]+", key)
    assert len(key) <= MAX_KEY_BYTES
    if "~" not in key:
        assert urllib.parse.unquote(key) == unicodedata.normalize("NFC", stem)


@settings(max_examples=100, deadline=None)
@given(st.lists(NAMES, min_size=2, max_size=2, unique=True))
def test_two_stems_never_share_a_key(stems):
    forms = {unicodedata.normalize("NFC", stem) for stem in stems}
    assert len({encode_key(stem) for stem in stems}) == len(forms)


def test_a_key_that_a_tar_cannot_hold_keeps_its_beginning_and_ends_in_a_hash_of_the_whole():
    assert encode_key("k" * MAX_KEY_BYTES) == "k" * MAX_KEY_BYTES
    assert re.fullmatch("k{78}~[0-9a-f]{16}", encode_key("k" * 96))
    assert encode_key("k" * 96) != encode_key("k" * 97)
    key = encode_key("行李箱" * 9 + "1")
    assert len(key) <= MAX_KEY_BYTES and key != encode_key("行李箱" * 9 + "2")
    assert re.fullmatch("(行李箱)+行?李?~[0-9a-f]{16}", urllib.parse.unquote(key))


def test_normal_forms_and_encodings_of_a_name_have_one_key():
    assert encode_key(unicodedata.normalize("NFD", "Gepäck")) == encode_key("Gepäck") == "Gep%C3%A4ck"
    for name in ("扫描一", "行李 (12)", "安检图像_0001"):
        as_listed = name.encode("gbk").decode("utf-8", "surrogateescape")
        assert encode_key(as_listed) == encode_key(name)


@pytest.mark.parametrize(
    "name", ["ger\xe4t", "Gep\xe4ck", "\xdcbergr\xf6\xdfe", "ma\xf1ana", "\xe4", "caf\xe9 \xe0 la"]
)
def test_a_western_name_is_not_taken_for_chinese(name):
    raw = name.encode("latin-1")
    assert decode_chinese(raw) == ""
    assert encode_key(raw.decode("utf-8", "surrogateescape")) == urllib.parse.quote(raw).replace(".", "%2E")


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
