"""Measure how well neighbouring scans that look alike are known to be one bag, and what that costs.

`neighbours_by_eye.csv` says which of the sample's positives show one bag, as seen on contact sheets before anything was
computed; pairs of bags with the same `doubt` could not be told, or are one bag packed otherwise, and do not count.
Pairs are of scans whose numbers differ by at most 60. The sample has one in fourteen of the release's numbers, so that
longer gaps break runs; `direct` are the pairs within reach of each other. SIXRAY_SAMPLE names the folder of the scans.
"""

import csv
import os
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from unittest.mock import patch

from shards import storage
from shards.corpus.description import make_key
from shards.corpus.records import ScanRef
from shards.curation import neighbours
from shards.curation.bags import connect_keys
from shards.curation.neighbours import MAX_GAP, MIN_LIKENESS, Look
from shards.shuffle import pack
from tests.bench.measure import Measurement, time_in_turn

_MAX_DISTANCE = 60


def run(_scratch: Path) -> Iterator[Measurement]:
    """Compare groups with those by eye at several thresholds; time the look at all scans beside reading them."""
    sample = os.environ.get("SIXRAY_SAMPLE")
    if not sample:
        print("neighbours: SIXRAY_SAMPLE names no folder of real scans", file=sys.stderr)
        return
    infos = list(storage.list_files(str(Path(sample) / "JPEGImage")))
    refs = [ScanRef(make_key(info.url, keeps_folders=False), "", info.url, info.size_bytes) for info in infos]
    batch = pack(refs)
    looks = neighbours.look_at_records(batch)
    with (Path(__file__).parent / "neighbours_by_eye.csv").open(newline="") as handle:
        seen = {row["key"]: row for row in csv.DictReader(handle)}
    for threshold in (0.55, 0.6, MIN_LIKENESS, 0.7, 0.75):
        with patch.object(neighbours, "MIN_LIKENESS", threshold):
            yield from _compare(looks, seen, threshold)
    seconds = time_in_turn(
        {
            "look": lambda: neighbours.look_at_records(batch),
            "read": lambda: [storage.read_bytes(ref.source_url) for ref in refs],
        }
    )
    yield Measurement("look at a scan", 1e3 * seconds["look"] / len(refs), "ms", f"{len(refs)} scans, 4 threads")
    yield Measurement("read a scan", 1e3 * seconds["read"] / len(refs), "ms", "one thread, files cached")


def _compare(looks: list[Look], seen: dict[str, dict[str, str]], threshold: float) -> Iterator[Measurement]:
    batches: dict[int, list[bytes]] = {}
    for part, batch in neighbours.spread_looks(looks):
        batches.setdefault(part, []).append(batch)
    first_of = connect_keys(link for found in batches.values() for link in neighbours.find_links(found))
    known = [look for look in looks if look.key in seen]
    counts: Counter[tuple[bool, bool, bool]] = Counter()
    for one, other in combinations(sorted(known, key=lambda look: look.number), 2):
        first, second = seen[one.key], seen[other.key]
        is_doubtful = first["doubt"] and first["doubt"] == second["doubt"] and first["bag"] != second["bag"]
        if (distance := other.number - one.number) <= _MAX_DISTANCE and not is_doubtful:
            is_found = first_of.get(one.key, one.key) == first_of.get(other.key, other.key)
            counts[distance <= MAX_GAP, first["bag"] == second["bag"], is_found] += 1
    for name, nears in (("pairs", (True, False)), ("direct pairs", (True,))):
        found, false, missed = (
            sum(counts[near, *key] for near in nears) for key in ((True, True), (False, True), (True, False))
        )
        yield Measurement(f"precision of {name} at {threshold}", found / (found + false), "", f"{false} false")
        yield Measurement(f"recall of {name} at {threshold}", found / (found + missed), "", f"{missed} missed")
    num_bags = len({first_of.get(look.key, look.key) for look in known})
    by_eye = len({row["bag"] for row in seen.values()})
    yield Measurement(f"bags at {threshold}", num_bags, "", f"{by_eye} by eye, in {len(known)} scans")
    negatives = Counter(first_of[look.key] for look in looks if look.key not in seen and look.key in first_of)
    yield Measurement(
        f"negatives in groups at {threshold}",
        negatives.total(),
        "",
        f"{max(negatives.values(), default=0)} in the largest",
    )
