"""Find scans with equal bytes or nearly equal images before they are assigned to shards.

Every image is read once more for it, so it is done on request only. Two images count as near-equal if their perceptual
hashes differ in at most four of 64 bits. Such hashes agree in one of five bands, so only scans that share a band are
compared. A fingerprint of each scan is shuffled; the pairs are gathered.
"""

import hashlib
import importlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from PIL import Image

from shards.corpus.read_scan import read_image
from shards.corpus.records import ScanRef
from shards.curation.leakage import BYTE_EQUAL, NEAR_EQUAL
from shards.format.keys import hash_key, place_in
from shards.images.decode import decode_image
from shards.images.jpeg import ImageError
from shards.shuffle import NUM_PARTITIONS, batch_by, unpack

MAX_DISTANCE_BITS = 4
"""Among 904 positives of SIXray, 101 pairs are at distance 0, 48 at 2, 30 at 4, 16 at 6, 14 at 8; different images
begin at 10 (24 pairs) and 12 (77). Half of the bits of a hash are set, so distances are even."""

_BAND_BITS = 13
_NUM_BANDS = 5
_READ_THREADS = 4
_DRAFT_PX = 64
"""A JPEG is decoded at an eighth of its size or so: the hash looks at 32 x 32 pixels."""


class Fingerprint(NamedTuple):
    """The checksum and perceptual hash of a scan."""

    key: str
    split: str
    sha256: str
    perceptual: int | None
    """64 bits; None if not requested, or if the image cannot be decoded."""
    group: str = ""
    """Scans of one bag have the same; empty for a scan that is alone."""


SAME_GROUP = "same_group"
"""Kind of a pair of scans of one group: they need not look alike."""


class Pair(NamedTuple):
    """Two equal or near-equal scans."""

    kind: str
    one: Fingerprint
    other: Fingerprint


def check_library() -> None:
    """Raise ValueError if the library of perceptual hashes is not installed."""
    try:
        _load_library()
    except ImportError as error:
        raise ValueError(
            "near duplicates must have the library ImageHash installed, got none; `pip install 'sixray-pipeline[near]'`"
        ) from error


def _load_library() -> Any:
    return importlib.import_module("imagehash")  # on demand: most conversions need none


def fingerprint_records(batch: bytes, *, with_perceptual: bool) -> list[Fingerprint]:
    """Return the fingerprints of a batch of records. Images that cannot be read have none and are refused later."""
    refs = [ref for ref in unpack(batch) if not ref.reason]
    with ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="fingerprint") as pool:
        found = pool.map(lambda ref: _fingerprint(ref, with_perceptual), refs)
        return [fingerprint for fingerprint in found if fingerprint is not None]


def _fingerprint(ref: ScanRef, with_perceptual: bool) -> Fingerprint | None:
    try:
        data = read_image(ref)
    except ImageError:
        return None
    perceptual = perceptual_hash(data) if with_perceptual else None
    return Fingerprint(ref.key, ref.split, hashlib.sha256(data).hexdigest(), perceptual, ref.group)


def perceptual_hash(data: bytes) -> int | None:
    """Return the 64 bits of ImageHash's `phash`; None if the image cannot be decoded."""
    try:
        return int(str(_load_library().phash(decode_image(data, draft_px=_DRAFT_PX))), 16)
    except (ImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def spread_bands(fingerprints: Iterable[Fingerprint]) -> Iterator[tuple[int, bytes]]:
    """Yield fingerprints in batches by range of what two may share: the checksum, or a band of the hash."""
    items = [(band, fingerprint) for fingerprint in fingerprints for band in _bands_of(fingerprint)]
    return batch_by(items, lambda item: place_in(hash_key(item[0]), NUM_PARTITIONS))


def _bands_of(fingerprint: Fingerprint) -> Iterator[str]:
    yield fingerprint.sha256
    if fingerprint.group:
        yield f"{SAME_GROUP} {fingerprint.group}"
    if fingerprint.perceptual is not None:
        for band in range(_NUM_BANDS):
            yield f"{band} {fingerprint.perceptual >> band * _BAND_BITS & (1 << _BAND_BITS) - 1:x}"


def find_pairs(batches: Iterable[bytes]) -> Iterator[Pair]:
    """Yield the pairs among the scans that share a checksum or a band; a group of n equal ones as n - 1 pairs."""
    members: defaultdict[str, list[Fingerprint]] = defaultdict(list)
    for batch in batches:
        for band, fingerprint in unpack(batch):
            members[band].append(fingerprint)
    for band, found in members.items():
        ordered = sorted(found)
        kind = BYTE_EQUAL if " " not in band else SAME_GROUP if band.startswith(SAME_GROUP) else NEAR_EQUAL
        if kind != NEAR_EQUAL:
            yield from (Pair(kind, ordered[0], other) for other in ordered[1:])
        else:
            yield from _compare(ordered)


def _compare(ordered: list[Fingerprint]) -> Iterator[Pair]:
    first_of: dict[int, Fingerprint] = {}
    for fingerprint in ordered:
        assert fingerprint.perceptual is not None
        first = first_of.setdefault(fingerprint.perceptual, fingerprint)
        if first is not fingerprint:
            yield Pair(NEAR_EQUAL, first, fingerprint)
    hashes = sorted(first_of)
    for place, one in enumerate(hashes):
        for other in hashes[place + 1 :]:
            if (one ^ other).bit_count() <= MAX_DISTANCE_BITS:
                yield Pair(NEAR_EQUAL, first_of[one], first_of[other])
