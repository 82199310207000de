"""Plan a generated corpus: its scans, their items, and the lists of the subsets."""

# P positive scans, N negative scans

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from shards.format.classes import load_class_set

SUBSETS = ("10", "100", "1000")
SPLITS = ("train", "test")
_TEST_EVERY = 5
"""One scan in five is tested on: 4:1, as Section 3.1 of the CHR paper has it."""
_MAX_POSITIVES, _MAX_NEGATIVES = 99_999, 9_999_999


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusPlan:
    """Which scans a corpus has; equal arguments give equal plans."""

    seed: int
    num_scans: int
    negatives_per_positive: int
    clutter: float = 1.0
    """How full bags are, relative to real ones; below 1 items are easier to find."""

    def __post_init__(self) -> None:
        if self.num_scans < 1:
            raise ValueError(f"num_scans must be >= 1, got {self.num_scans}")
        if self.seed < 0:
            raise ValueError(f"seed must be >= 0, got {self.seed}")
        if self.negatives_per_positive < 0:
            raise ValueError(f"negatives_per_positive must be >= 0, got {self.negatives_per_positive}")
        if not 0 <= self.clutter <= 4:
            raise ValueError(f"clutter must be in [0, 4], got {self.clutter}")
        if self.num_positives > _MAX_POSITIVES or self.num_negatives > _MAX_NEGATIVES:
            raise ValueError(
                f"num_scans must leave at most {_MAX_POSITIVES} positives (P and five digits) and {_MAX_NEGATIVES} "
                f"negatives (N and seven), got {self.num_positives} and {self.num_negatives}"
            )

    @property
    def num_positives(self) -> int:
        """Scans with a prohibited item; at least one."""
        return max(1, round(self.num_scans / (1 + self.negatives_per_positive)))

    @property
    def num_negatives(self) -> int:
        """Scans without."""
        return self.num_scans - self.num_positives

    def names(self) -> Iterator[str]:
        """Yield the name of every scan, positives first."""
        for index in range(self.num_positives):
            yield positive_name(index)
        for index in range(self.num_negatives):
            yield negative_name(index)

    def scan_rng(self, name: str) -> np.random.Generator:
        """Return the random generator of one scan; it depends on the seed and the scan's name alone."""
        return np.random.default_rng(_hash(self.seed, "scan", name))


@dataclass(frozen=True, slots=True)
class ListRow:
    """One line of a list."""

    name: str
    classes: frozenset[str]


def positive_name(index: int) -> str:
    """Return e.g. `P00001` for index 0."""
    return f"P{index + 1:05d}"


def negative_name(index: int) -> str:
    """Return e.g. `N0000001` for index 0."""
    return f"N{index + 1:07d}"


def deal_items(plan: CorpusPlan) -> list[tuple[str, ...]]:
    """Return the classes of the items in each positive scan, at least one; one in twelve items has a twin.

    Classes are dealt by quota: their frequencies among positives are those of the corpus (Table 1 of the CHR paper:
    12,277 labels on 8,929 scans) for any number of scans, and each scored class occurs at least twice if there are
    enough scans.
    """
    rng = np.random.default_rng(_hash(plan.seed, "deal", ""))
    quotas = _class_quotas(plan.num_positives)
    pool = [name for name, quota in quotas.items() for _ in range(quota)]
    # One class a scan first, in proportion; rare classes go first, so that all of them are placed.
    order = [pool[place] for place in rng.permutation(len(pool))]
    rare = set(sorted(quotas, key=lambda name: quotas[name])[:2])
    order.sort(key=lambda name: name not in rare)
    first, rest = order[: plan.num_positives], order[plan.num_positives :]
    scans = [{name} for name in (first[place] for place in rng.permutation(len(first)))]
    for name in rest:
        # The next scan after a random one that can take it; a hammer stays alone, as in the release's lists.
        start = int(rng.integers(len(scans)))
        for step in range(len(scans)):
            scan = scans[(start + step) % len(scans)]
            if name not in scan and "Hammer" not in scan:
                scan.add(name)
                break
    return [_with_twins(sorted(scan), rng) for scan in scans]


def split_positives(plan: CorpusPlan, items: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the split of each positive scan: 4:1 within the scans that share their rarest class.

    A class in two or more scans thus occurs in both splits.
    """
    quotas = _class_quotas(plan.num_positives)
    splits = ["train"] * len(items)
    carry = 0.0
    for members in _by_rarest_class(items, quotas).values():
        carry += len(members) / _TEST_EVERY
        num_test = min(max(math.floor(carry + 0.5), 1 if len(members) > 1 else 0), len(members))
        carry -= num_test
        for index in sorted(members, key=lambda index: _hash(plan.seed, "split", positive_name(index)))[:num_test]:
            splits[index] = "test"
    return splits


def split_negatives(plan: CorpusPlan) -> list[str]:
    """Return the split of each negative scan: 4:1, shuffled by the seed."""
    order = np.random.default_rng(_hash(plan.seed, "split", "negatives")).permutation(plan.num_negatives)
    splits = np.full(plan.num_negatives, "train", dtype="U5")
    splits[order[: round(plan.num_negatives / _TEST_EVERY)]] = "test"
    return [str(split) for split in splits]


def make_lists(plan: CorpusPlan, items: Sequence[tuple[str, ...]]) -> dict[tuple[str, str], list[ListRow]]:
    """Return the rows of the list of each (subset, split), as Section 3.1 of the CHR paper builds them.

    10 and 100 hold all positives and 10 or 100 times as many negatives (at most all); 1000 holds the paper's share of
    the positives (1,000 of 8,929) and all negatives. A scan is in the same split in all subsets.
    """
    positive_splits, negative_splits = split_positives(plan, items), split_negatives(plan)
    chosen = _choose_for_1000(plan, items, positive_splits)
    lists = {}
    for subset in SUBSETS:
        for split in SPLITS:
            positives = [index for index, its in enumerate(positive_splits) if its == split]
            negatives = [index for index, its in enumerate(negative_splits) if its == split]
            if subset == "1000":
                positives = [index for index in positives if index in chosen]
            else:
                wanted = int(subset) * plan.num_positives
                num_test = round(wanted / _TEST_EVERY)
                negatives = negatives[: num_test if split == "test" else wanted - num_test]
            rows = [ListRow(positive_name(index), frozenset(items[index])) for index in positives]
            lists[subset, split] = rows + [ListRow(negative_name(index), frozenset()) for index in negatives]
    return lists


def format_list(rows: Sequence[ListRow]) -> bytes:
    """Return a list as CSV in the release's format: 1 present, -1 absent, a column per scored class."""
    classes = load_class_set("sixray").scored
    lines = [",".join(["name", *classes])]
    lines += [",".join([row.name, *("1" if name in row.classes else "-1" for name in classes)]) for row in rows]
    return ("\n".join(lines) + "\n").encode()


def load_census() -> Mapping[str, Any]:
    """Return how many scans of the released corpus hold each class, in all and in SIXray1000."""
    return dict(json.loads(resources.files("pipelines.phantom").joinpath("census.json").read_text()))


def _class_quotas(num_positives: int) -> dict[str, int]:
    census = load_census()
    share = num_positives / census["num_positives"]
    scored = load_class_set("sixray").scored
    at_least = 2 if num_positives >= 2 * len(scored) else 1
    quotas = {name: round(count * share) for name, count in census["classes"].items()}
    return {name: max(quota, at_least if name in scored else 0) for name, quota in quotas.items()}


def _by_rarest_class(items: Sequence[tuple[str, ...]], quotas: Mapping[str, int]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {name: [] for name in sorted(quotas, key=lambda name: (quotas[name], name))}
    for index, names in enumerate(items):
        groups[min(names, key=lambda name: (quotas[name], name))].append(index)
    return {name: members for name, members in groups.items() if members}


def _choose_for_1000(plan: CorpusPlan, items: Sequence[tuple[str, ...]], splits: Sequence[str]) -> set[int]:
    census = load_census()
    share = census["num_positives_of_1000"] / census["num_positives"]
    chosen: set[int] = set()
    for split in SPLITS:
        here = [index for index in range(len(items)) if splits[index] == split]
        groups = _by_rarest_class([items[index] for index in here], _class_quotas(plan.num_positives))
        for members in groups.values():
            order = sorted(members, key=lambda place: _hash(plan.seed, "1000", positive_name(here[place])))
            chosen.update(here[place] for place in order[: math.ceil(len(members) * share)])
    return chosen


def _with_twins(names: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
    return tuple(name for name in names for _ in range(2 if rng.random() < 1 / 12 else 1))


def _hash(seed: int, purpose: str, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{name}".encode()).digest()[:16], "big")
