"""Select the scans of SIXray10, SIXray100 and SIXray1000, and their test splits, if no list does.

The paper's definition, from keys and presence alone: a keyed hash of the key and the seed decides. Counts are exact,
because each threshold is the hash of a candidate.
"""

# N candidates

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from shards.corpus.records import SKIPPED, ScanRef
from shards.shuffle import pack, unpack

NEGATIVES_A_POSITIVE = {"10": 10, "100": 100}
POSITIVES_OF_1000 = 1000
_TEST_SHARE = 5
"""One in five is for testing: the paper's 4 : 1, among positives and negatives alike."""

_HASH_KEY = b"sixray subsets format 1"
_POSITIVE_ID, _NEGATIVE_ID = re.compile(r"P\d{5}"), re.compile(r"N\d{6,7}")


@dataclass(frozen=True, slots=True)
class Census:
    """The hashes of some candidates, uint64 (N, 2): the one that chooses, and the one that splits."""

    positives_N2: np.ndarray
    negatives_N2: np.ndarray


_NO_CENSUS = Census(*(np.empty((0, 2), np.uint64),) * 2)


def take_census(candidates: Iterable[tuple[str, bool]], seed: int) -> Census:
    """Return the hashes of candidates: (key, whether it holds a prohibited item)."""
    hashes: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    for key, is_positive in candidates:
        hashes[is_positive].append(_hash(key, seed))
    return Census(
        *(np.array(hashes[kind], dtype=np.uint64).reshape(-1, 2) for kind in (True, False)),
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """The largest hashes that are selected, and that are in test; -1 selects none."""

    seed: int
    max_positive: int
    max_negative: int
    max_positive_test: int
    max_negative_test: int

    def split_of(self, key: str, is_positive: bool) -> str | None:
        """Return `train`, `test`, or None for a scan that is not selected."""
        choosing, splitting = _hash(key, self.seed)
        if choosing > (self.max_positive if is_positive else self.max_negative):
            return None
        return "test" if splitting <= (self.max_positive_test if is_positive else self.max_negative_test) else "train"


def choose_subset(censuses: Iterable[Census], subset: str, seed: int) -> Selection:
    """Return which of the candidates belong to a subset, and which of those to its test split.

    Holds 16 bytes a candidate: 17 MB for the whole of SIXray, 1.6 GB for 100 million scans.

    Args:
        censuses: all candidates, in parts.
        subset: its name; see `_count_chosen`.
        seed: of the hashes in `censuses`.

    Raises:
        ValueError: there are too few candidates.
    """
    parts = [_NO_CENSUS, *censuses]
    kinds = [
        np.concatenate([part.positives_N2 for part in parts]),
        np.concatenate([part.negatives_N2 for part in parts]),
    ]
    nums = _count_chosen(len(kinds[0]), len(kinds[1]), subset)
    (positive, positive_test), (negative, negative_test) = map(_find_thresholds, kinds, nums)
    return Selection(seed, positive, negative, positive_test, negative_test)


def _count_chosen(num_positives: int, num_negatives: int, subset: str) -> tuple[int, int]:
    """Return how many positives and how many negatives belong to a subset.

    `10` and `100`: all positives, and 10 or 100 times as many negatives; `1000`: 1,000 positives and all negatives;
    `positives`: all positives.

    Source:
        "SIXray: A Large-scale Security Inspection X-ray Benchmark", CVPR 2019, Section 3.1.
    """
    wanted = {
        "positives": (num_positives, 0),
        "1000": (POSITIVES_OF_1000, num_negatives),
        **{name: (num_positives, ratio * num_positives) for name, ratio in NEGATIVES_A_POSITIVE.items()},
    }[subset]
    if not 0 < wanted[0] <= num_positives or not wanted[1] <= num_negatives:
        raise ValueError(
            f"subset {subset!r} must have {max(1, wanted[0]):,} positives and {wanted[1]:,} negatives, got "
            f"{num_positives:,} and {num_negatives:,} in the corpus; give the release's lists by --lists, or more scans"
        )
    return wanted


def _find_thresholds(hashes_N2: np.ndarray, num: int) -> tuple[int, int]:
    """Return the largest choosing hash of the `num` chosen, and the largest splitting hash of one in five of those."""
    max_choosing = _find_smallest(hashes_N2[:, 0], num)
    splitting_N = hashes_N2[hashes_N2[:, 0] <= max_choosing, 1] if num else hashes_N2[:0, 1]
    return max_choosing, _find_smallest(splitting_N, (len(splitting_N) + _TEST_SHARE // 2) // _TEST_SHARE)


def _find_smallest(hashes_N: np.ndarray, num: int) -> int:
    """Return the `num`-th smallest hash, from 1 on; -1 for none."""
    return int(np.partition(hashes_N, num - 1)[num - 1]) if num else -1


def _hash(key: str, seed: int) -> tuple[int, int]:
    salt = seed.to_bytes(16, "big", signed=True)
    digest = hashlib.blake2b(key.encode(), key=_HASH_KEY, salt=salt, digest_size=16).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")


def census_of_records(batch: bytes, seed: int) -> Census:
    """Return the candidates in a batch of records: those whose image will be read."""
    refs: list[ScanRef] = unpack(batch)
    return take_census(((ref.key, holds_item(ref)) for ref in refs if not ref.reason), seed)


def select_records(batch: bytes, selection: Selection, num_classes: int) -> bytes:
    """Return the records of a batch that are chosen, with their split; a negative without a line has all labels 0.

    Problems of the corpus itself are kept, and what is no record.
    """
    chosen: list[ScanRef] = []
    for ref in unpack(batch):
        if ref.reason in ("damaged_archive", SKIPPED):
            chosen.append(ref)
        if ref.reason:
            continue
        is_positive = holds_item(ref)
        split = selection.split_of(ref.key, is_positive)
        if split is not None:
            labels = ref.labels if is_positive or ref.labels else (0,) * num_classes
            chosen.append(ref._replace(split=split, labels=labels))
    return pack(chosen)


def holds_item(ref: ScanRef) -> bool:
    """Return whether a scan holds a prohibited item, by its line, folder, id in the release or annotation."""
    if ref.labels:
        return 1 in ref.labels
    if ref.presence:
        return ref.presence == "positive"
    if _NEGATIVE_ID.fullmatch(ref.key):
        return False
    return bool(_POSITIVE_ID.fullmatch(ref.key)) or ref.annotation_url is not None
