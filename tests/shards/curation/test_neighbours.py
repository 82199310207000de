"""Scans of one bag are grouped by their numbers and their looks, however the bag is turned, and others are not."""

import io
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from shards.corpus.records import ScanRef
from shards.curation import neighbours
from shards.curation.bags import connect_keys
from shards.curation.neighbours import MAX_GAP, MIN_LIKENESS, NUM_BINS, Look
from shards.shuffle import pack, unpack

COLOURS = ((240, 150, 60), (60, 160, 60), (40, 70, 190), (20, 20, 40), (250, 210, 160))


def bag(seed: int, *, turn: float = 0) -> Image.Image:
    """Return a scan of a bag with items of its own."""
    order = random.Random(seed)
    image = Image.new("RGB", (640, 480), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = order.randrange(120, 420), order.randrange(100, 300)
        draw.rectangle((x, y, x + order.randrange(20, 140), y + order.randrange(20, 90)), fill=order.choice(COLOURS))
    return image.rotate(turn, fillcolor="white")


def look(key: str, image: Image.Image) -> Look:
    match = neighbours._NUMBERED.fullmatch(key)
    assert match is not None
    counts = neighbours.count_colours(image, image.width * image.height).tobytes()
    return Look(key, match["series"], int(match["number"]), counts)


def groups_of(looks: list[Look], num_batches: int = 1) -> set[frozenset[str]]:
    parts: dict[int, list[bytes]] = {}
    for at in range(num_batches):
        for part, batch in neighbours.spread_looks(looks[at::num_batches]):
            parts.setdefault(part, []).append(batch)
    links = [link for batches in parts.values() for link in neighbours.find_links(batches)]
    groups: dict[str, set[str]] = {}
    for key, first in connect_keys(links).items():
        groups.setdefault(first, set()).add(key)
    return {frozenset(keys) for keys in groups.values()}


@pytest.mark.parametrize("change", ["turned", "mirrored", "moved", "grey background"])
def test_a_bag_is_known_again(change):
    image = bag(1)
    again = {
        "turned": bag(1, turn=40),
        "mirrored": image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "moved": image.transform(image.size, Image.Transform.AFFINE, (1, 0, -60, 0, 1, 40), fillcolor="white"),
        "grey background": image.point(lambda value: value * 0.92),
    }[change]
    assert groups_of([look("P00001", image), look("P00002", again)]) == {frozenset({"P00001", "P00002"})}


def test_other_bags_and_far_numbers_and_other_series_stay_alone():
    image = bag(1)
    looks = [look("P00001", image), look("P00002", bag(2)), look(f"P{MAX_GAP + 2:05d}", image), look("N00002", image)]
    assert groups_of(looks) == set()


def test_scans_without_a_bag_are_no_group():
    assert groups_of([look(f"P{n}", Image.new("RGB", (64, 64), "white")) for n in range(3)]) == set()


def test_bags_scanned_in_turn_are_a_group_each_also_across_the_end_of_a_block():
    start = neighbours._BLOCK - 5
    looks = [look(f"P{start + n:05d}", bag(n % 2, turn=7 * n)) for n in range(12)]
    keys = [found.key for found in looks]
    assert groups_of(looks) == {frozenset(keys[::2]), frozenset(keys[1::2])}


@given(st.lists(st.tuples(st.integers(4080, 4110), st.integers(0, 3)), max_size=12, unique_by=lambda item: item[0]),
       st.integers(1, 4))  # fmt: skip
def test_groups_are_those_of_a_plain_comparison_in_whatever_batches_they_come(scans, num_batches):
    rows = np.random.default_rng(3).integers(1, 900, (4, NUM_BINS)).astype(np.uint16)
    rows[2] = rows[1] + 3
    looks = [Look(f"P{number}", "P", number, rows[kind].tobytes()) for number, kind in scans]
    links = [
        (one.key, other.key)
        for one in looks
        for other in looks
        if 0 < other.number - one.number <= MAX_GAP and _likeness(one, other) >= MIN_LIKENESS
    ]
    expected: dict[str, set[str]] = {}
    for key, first in connect_keys(links).items():
        expected.setdefault(first, set()).add(key)
    assert groups_of(looks, num_batches) == {frozenset(keys) for keys in expected.values()}


def _likeness(one: Look, other: Look) -> float:
    first, second = (np.frombuffer(item.counts, np.uint16).astype(float) for item in (one, other))
    return float(np.minimum(first, second).sum() / np.maximum(first, second).sum())


@pytest.mark.parametrize("options", [{"format": "JPEG", "quality": 90}, {"format": "PNG"}])
def test_a_scan_looks_the_same_at_whatever_size_it_was_decoded(tmp_path, options):
    small, large = bag(5), bag(5).resize((2560, 1920))
    counts = []
    for image in (small, large):
        out = io.BytesIO()
        image.save(out, **options)
        (tmp_path / "P1.img").write_bytes(out.getvalue())
        refs = [ScanRef("P1", "train", str(tmp_path / "P1.img"), len(out.getvalue()))]
        (found,) = neighbours.look_at_records(pack(refs))
        counts.append(np.frombuffer(found.counts, np.uint16).astype(float))
    assert counts[1].sum() == pytest.approx(16 * counts[0].sum(), rel=0.03)


def test_unreadable_refused_and_unnumbered_scans_have_no_look(tmp_path):
    (tmp_path / "P1.jpg").write_bytes(b"no image")
    refs = [
        ScanRef("P1", "train", str(tmp_path / "P1.jpg"), 8),
        ScanRef("P2", "train", str(tmp_path / "gone.jpg"), 8),
        ScanRef("P3", "train", str(tmp_path / "P1.jpg"), 8, reason="duplicate_key"),
        ScanRef("cover", "train", str(tmp_path / "P1.jpg"), 8),
    ]
    assert neighbours.look_at_records(pack(refs)) == []


def test_a_group_that_is_known_already_stays():
    refs = [
        ScanRef("P1", "train", "a", 1),
        ScanRef("P2", "train", "b", 1, group="pair"),
        ScanRef("P3", "train", "c", 1),
    ]
    found = unpack(neighbours.group_records(pack(refs), {"P1": "P1", "P2": "P1"}))
    assert [ref.group for ref in found] == ["P1", "pair", ""]
