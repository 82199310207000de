"""Equal and near-equal scans are found, and no others."""

import io
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shards.corpus.records import ScanRef
from shards.curation import near_duplicates
from shards.curation.groups import connect_pairs, find_moves, find_near_equal_leaks
from shards.curation.leakage import BYTE_EQUAL, NEAR_EQUAL
from shards.curation.near_duplicates import Fingerprint, find_pairs, spread_bands
from shards.shuffle import pack
from tests.corpora import jpeg_bytes, png_bytes


def pairs_of(fingerprints):
    batches: dict[int, list[bytes]] = {}
    for part, batch in spread_bands(fingerprints):
        batches.setdefault(part, []).append(batch)
    return [pair for found in batches.values() for pair in find_pairs(found)]


def groups_of(fingerprints):
    return [[item.key for item in group] for group in connect_pairs(pairs_of(fingerprints))]


def seen(key, perceptual, sha256="", split="train"):
    return Fingerprint(key, split, sha256 or f"sha of {key}".replace(" ", "-"), perceptual)


def test_equal_bytes_make_a_group_whatever_they_look_like():
    found = [seen("a", None, "x"), seen("b", None, "x"), seen("c", None, "y"), seen("d", 0, "x")]
    assert groups_of(found) == [["a", "b", "d"]]
    assert {pair.kind for pair in pairs_of(found)} == {BYTE_EQUAL}


@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=6))
def test_hashes_within_the_distance_meet_and_others_do_not(value, flipped):
    other = value
    for bit in flipped:
        other ^= 1 << bit
    expected = [["a", "b"]] if len(flipped) <= near_duplicates.MAX_DISTANCE_BITS else []
    assert groups_of([seen("a", value), seen("b", other)]) == expected


def test_groups_are_those_of_a_plain_comparison_of_all_with_all():
    order = random.Random(0)
    values = [order.getrandbits(64) for _ in range(20)]
    found = [seen(f"{n:03d}", values[n % 20] ^ 1 << order.randrange(64)) for n in range(60)]
    near = {
        frozenset((one.key, other.key))
        for one in found
        for other in found
        if one.key != other.key and (one.perceptual ^ other.perceptual).bit_count() <= near_duplicates.MAX_DISTANCE_BITS
    }
    members = {item.key: {item.key} for item in found}
    for one, other in map(sorted, near):
        merged = members[one] | members[other]
        for key in merged:
            members[key] = merged
    expected = sorted({tuple(sorted(group)) for group in members.values() if len(group) > 1})
    for _ in range(3):
        order.shuffle(found)
        assert groups_of(found) == [list(group) for group in expected]


def test_what_looks_the_same_across_splits_is_named_unless_its_bytes_are_the_same():
    one, two, three = 0x0123456789ABCDEF, 0xFEDCBA9876543210, 0x00FF00FF00FF00FF
    same = [seen("a", one, "x"), seen("b", one, "x", "test")]
    near = [seen("c", two), seen("d", two ^ 1, split="test")]
    inside = [seen("e", three, "p"), seen("f", three ^ 6, "q")]
    found = pairs_of([*same, *near, *inside])
    assert [(m.kind, m.group, m.key, m.split) for m in find_near_equal_leaks(found, {})] == [
        (NEAR_EQUAL, "c", "c", "train"),
        (NEAR_EQUAL, "c", "d", "test"),
    ]
    moves = find_moves(connect_pairs(found))
    assert moves == {"a": "test", "c": "test"}
    assert find_near_equal_leaks(found, moves) == []


def test_scans_of_one_group_move_together_and_are_no_equals():
    bag = [seen("a", 1, "x"), seen("b", 0xFFFF0000FFFF0000, "y", "test"), seen("c", 0x00FFFF0000FFFF00, "z", "test")]
    found = pairs_of([item._replace(group="bag") for item in bag])
    assert find_moves(connect_pairs(found)) == {"a": "test"}
    assert find_near_equal_leaks(found, {}) == []


def test_records_are_read_and_what_cannot_be_read_has_no_fingerprint(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg_bytes(1))
    refs = [
        ScanRef("a", "train", f"{tmp_path}/a.jpg", len(jpeg_bytes(1))),
        ScanRef("gone", "train", f"{tmp_path}/gone.jpg", 1),
        ScanRef("refused", "train", f"{tmp_path}/a.jpg", 1, reason="duplicate_key"),
    ]
    (found,) = near_duplicates.fingerprint_records(pack(refs), with_perceptual=False)
    assert (found.key, found.split, found.perceptual) == ("a", "train", None)


def test_without_the_library_the_message_says_how_to_install_it(monkeypatch):
    def fail():
        raise ImportError

    monkeypatch.setattr(near_duplicates, "_load_library", fail)
    with pytest.raises(ValueError, match=r"near duplicates must have the library ImageHash installed, got none; `pip"):
        near_duplicates.check_library()


def scene(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    pixels = np.full((200, 300, 3), 250, np.uint8)
    for _ in range(8):
        x, y = rng.integers(0, 240), rng.integers(0, 150)
        pixels[y : y + 50, x : x + 60] = rng.integers(0, 200, 3)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def test_a_scan_saved_again_looks_the_same_and_others_do_not():
    near_duplicates.check_library()
    hashes = {seed: near_duplicates.perceptual_hash(encoded(scene(seed), quality=95)) for seed in range(20)}
    for seed, value in hashes.items():
        again = near_duplicates.perceptual_hash(encoded(scene(seed).resize((150, 100)), quality=60))
        assert value is not None and again is not None
        assert (value ^ again).bit_count() <= near_duplicates.MAX_DISTANCE_BITS
    values = [value for value in hashes.values() if value is not None]
    assert (
        min((a ^ b).bit_count() for n, a in enumerate(values) for b in values[n + 1 :])
        > near_duplicates.MAX_DISTANCE_BITS
    )


def test_what_cannot_be_decoded_has_no_hash():
    assert near_duplicates.perceptual_hash(jpeg_bytes(1)[:-50]) is None
    assert near_duplicates.perceptual_hash(b"") is None
    assert near_duplicates.perceptual_hash(png_bytes(1)) is not None
