"""Choose the objects that are projected into scans: items with boxes, and other objects of scans without an item.

A donor is the place of an object in a scan of a dataset. A bounded number of each kind is drawn by a keyed hash, those
that cannot be cut out are left out, and so are those whose scan lies in another split of the dataset that is projected
into.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from shards import storage
from shards.format.classes import BOX_EDGES
from shards.format.dataset import Dataset
from shards.format.keys import hash_key
from shards.format.manifest import ShardInfo
from shards.images.cutouts import Cutout, Pixels, cut_object, find_dense_objects, find_white
from shards.images.decode import decode_image

MAX_DONORS = 1000
"""Of each class and split; about half of them can be cut out."""
OTHER_OBJECT = ""
"""In place of the class of an object that is no item."""
_NUM_CANDIDATES = 4
_NUM_BUCKETS_BITS = 12
"""Scans of one of 4,096 ranges of hashes share candidates, so that a worker cuts each but a few times."""
_COLUMNS = ["key", "split", "shard", "offset_bytes", "size_bytes", "sha256", "labels", "boxes", "duplicate_of", "group"]


class Donor(NamedTuple):
    """An object that can be projected, by its place."""

    split: str
    class_name: str
    """Or `OTHER_OBJECT`."""
    key: str
    bag: str
    """Of its scan, see `name_bag`."""
    url: str
    """The tar."""
    offset_bytes: int
    size_bytes: int
    sha256: str
    box: tuple[float, ...]
    """Left, top, right, bottom in pixels; empty for another object that is still to be found."""
    white: tuple[int, ...] = ()
    """Of its scan, see `shards.images.cutouts`; empty before it was cut out."""


def name_bag(row: Mapping[str, Any]) -> str:
    """Return a name that all scans of a bag share: a row's group, else one of its own or of its first equal scan."""
    return row["group"] if row["group"] is not None else f"scan {row['duplicate_of'] or row['key']}"


def list_donors(
    dataset: Dataset, info: ShardInfo, classes: Sequence[str], seed: int
) -> Iterator[tuple[tuple[str, str], tuple[int, Donor]]]:
    """Yield ((split, class), (rank, donor)) of a shard: every box of some classes, and each scan without an item.

    The lowest ranks are a random sample that depends on the seed, the keys and the boxes alone.
    """
    scored = dataset.manifest.scored_classes
    for row in dataset.read_samples(columns=_COLUMNS, shards=[info]).to_pylist():
        if row["duplicate_of"] is not None:
            continue
        place = Donor(
            info.split,
            OTHER_OBJECT,
            row["key"],
            name_bag(row),
            dataset.tar_url(info),
            row["offset_bytes"],
            row["size_bytes"],
            row["sha256"],
            (),
        )
        found = [
            place._replace(class_name=box["class"], box=tuple(box[name] for name in BOX_EDGES))
            for box in row["boxes"]
            if box["class"] in classes
        ]
        if OTHER_OBJECT in classes and not row["boxes"] and all(row["labels"][name] == 0 for name in scored):
            found.append(place)
        for number, donor in enumerate(found):
            yield (donor.split, donor.class_name), (hash_text(f"{seed} {donor.key} {number}"), donor)


def find_twins(dataset: Dataset, info: ShardInfo, donors: Iterable[Donor]) -> Iterator[Donor]:
    """Yield the donors whose scan, by key or bytes, lies in this shard, which is of another split."""
    others = [donor for donor in donors if donor.split != info.split]
    if not others:
        return
    table = dataset.read_samples(columns=["key", "sha256"], shards=[info])
    keys, checksums = (set(table[name].to_pylist()) for name in ("key", "sha256"))
    yield from (donor for donor in others if donor.key in keys or donor.sha256 in checksums)


def complete_donor(donor: Donor, seed: int) -> Donor | None:
    """Return a donor with its scan's white, and with a box if it had none; None if there is nothing to cut out."""
    pixels = _read_pixels(donor)
    if pixels is None:
        return None
    white = find_white(pixels)
    boxes: Iterable[tuple[float, ...]] = [donor.box]
    if not donor.box:
        found = find_dense_objects(pixels, white)
        boxes = [found[at] for at in seeded(f"{seed} {donor.key}").permutation(len(found))]
    for left, top, right, bottom in boxes:
        if cut_object(pixels, (left, top, right, bottom), white) is not None:
            return donor._replace(box=(left, top, right, bottom), white=white)
    return None


@lru_cache(maxsize=64)  # some 20 MB: what scans with neighbouring hashes have in common
def cut_donor(donor: Donor) -> Cutout | None:
    """Return the object of a donor; None if its scan is not what it was when it was chosen."""
    pixels = _read_pixels(donor)
    left, top, right, bottom = donor.box
    return None if pixels is None else cut_object(pixels, (left, top, right, bottom))


@dataclass(frozen=True, slots=True)
class DonorPool:
    """The objects that can be projected, by split and class."""

    donors: dict[str, dict[str, list[Donor]]] = field(default_factory=dict)

    def draw(self, split: str, key: str, bag: str, seed: int) -> list[Donor]:
        """Return candidates for a projection, the best ones first: by half items of a random class, else other objects.

        Args:
            split: of the scan.
            key: of the projection.
            bag: of the scan, whose own objects are not projected.
            seed: of the job.
        """
        of_class = self.donors[split]
        rng = seeded(f"{seed} kind {key}")
        items = sorted(name for name in of_class if name != OTHER_OBJECT)
        is_item = rng.random() < 0.5
        name = items[rng.integers(len(items))] if is_item else OTHER_OBJECT
        donors = of_class[name]
        bucket = hash_key(key) >> (64 - _NUM_BUCKETS_BITS)
        order = seeded(f"{seed} {bucket} {name}").permutation(len(donors))
        others = (donors[at] for at in order if donors[at].bag != bag)
        return [donor for donor, _ in zip(others, range(_NUM_CANDIDATES), strict=False)]


def make_pool(splits: Sequence[str], completed: Iterable[Donor], twins: Iterable[Donor]) -> DonorPool:
    """Return the pool of the donors that can be used, in an order that does not depend on that of their arrival.

    Raises:
        ValueError: a split has no item or no other object.
    """
    excluded = {(donor.split, donor.key) for donor in twins}
    donors: dict[str, dict[str, list[Donor]]] = {split: defaultdict(list) for split in splits}
    for donor in sorted(completed):
        if donor.split in donors and (donor.split, donor.key) not in excluded:
            donors[donor.split][donor.class_name].append(donor)
    for split, of_class in donors.items():
        if not of_class.keys() - {OTHER_OBJECT}:
            raise ValueError(
                f"items must have a box in split {split!r} whose item can be cut out, got none; name other --items, "
                f"--classes or --split"
            )
        if OTHER_OBJECT not in of_class:
            raise ValueError(
                f"input must have a scan without an item in split {split!r} with an object that can be cut out, got "
                f"none; else every projection is an item, and projecting alone would tell the label"
            )
    return DonorPool({split: dict(of_class) for split, of_class in donors.items()})


def hash_text(text: str) -> int:
    """Return a 63-bit hash, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def seeded(text: str) -> np.random.Generator:
    """Return random numbers that follow from a text alone."""
    return np.random.default_rng(hash_text(text))


def _read_pixels(donor: Donor) -> Pixels | None:
    data = storage.read_range(donor.url, donor.offset_bytes, donor.size_bytes)
    if hashlib.sha256(data).hexdigest() != donor.sha256:
        return None
    try:
        return np.asarray(decode_image(data).convert("RGB"))
    except (OSError, SyntaxError, ValueError):
        return None
