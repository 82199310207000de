"""How do many small records travel between steps as one? Pickled in one piece, and squeezed.

An element a scan in a shuffle costs more than copying the scan, so records travel in batches. A runner keeps what it
shuffles in memory, and the records of one batch are much alike (paths, lists, labels): squeezed they take a few µs
each, and a conversion grows by 0.33 kB a scan instead of 1.8.
"""

import pickle
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

import pyarrow as pa

_CODEC = "zstd"
_LEVEL = 1
_SIZE_BYTES = 8


def pack(items: Iterable[Any]) -> bytes:
    """Return a list of items as bytes."""
    # Named tuples of one kind travel as plain ones: pickled by name each would take three times as long.
    runs = [
        (kind, [tuple(item) for item in run]) if hasattr(kind, "_make") else (None, list(run))
        for kind, run in groupby(items, type)
    ]
    plain = pickle.dumps(runs)
    squeezed: bytes = pa.Codec(_CODEC, compression_level=_LEVEL).compress(plain, asbytes=True)
    return len(plain).to_bytes(_SIZE_BYTES, "little") + squeezed


def unpack(batch: bytes) -> list[Any]:
    """Return the items of what `pack` made."""
    size = int.from_bytes(batch[:_SIZE_BYTES], "little")
    plain = pa.Codec(_CODEC).decompress(memoryview(batch)[_SIZE_BYTES:], size)
    items: list[Any] = []
    for kind, run in pickle.loads(plain):
        items += run if kind is None else map(kind._make, run)
    return items


NUM_PARTITIONS = 256
"""Ranges in which facts meet: 4,000 scans each for the whole of SIXray. No byte of the output depends on it."""


_BATCH_ITEMS = 65_536


def batch_by(items: Iterable[Any], part_of: Callable[[Any], Any]) -> Iterator[tuple[Any, bytes]]:
    """Yield items in batches of one part each, pickled in one piece; memory holds 65,536 items at most.

    One element a scan in a shuffle costs more than copying the scan; Beam's own coder would take each field by itself.
    """
    parts: defaultdict[Any, list[Any]] = defaultdict(list)
    for count, item in enumerate(items, start=1):
        parts[part_of(item)].append(item)
        if count % _BATCH_ITEMS == 0:
            yield from _flush(parts)
    yield from _flush(parts)


def _flush(parts: dict[Any, list[Any]]) -> Iterator[tuple[Any, bytes]]:
    for part, items in parts.items():
        yield part, pack(items)
    parts.clear()
