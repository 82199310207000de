"""What a shard is written from: records, and a source that reads their samples."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from shards.corpus.read_scan import Scan
from shards.format.classes import ClassSet


class Ref(Protocol):
    """A record without its image bytes: a named tuple for a scan of a corpus or a sample of another dataset."""

    @property
    def key(self) -> str:
        """Its keyed hash decides its place in the shard."""
        ...

    @property
    def size_bytes(self) -> int:
        """Of the image."""
        ...

    @property
    def reason(self) -> str:
        """Why it is refused already; empty if its image is to be read."""
        ...

    @property
    def bytes_url(self) -> str:
        """The file that holds the image's bytes, perhaps an archive."""
        ...

    def __lt__(self, other: Any, /) -> bool:
        """Orders records of one key, so that bytes do not depend on the order of arrival."""
        ...


AnyRef = TypeVar("AnyRef", bound=Ref)
InRef = TypeVar("InRef", bound=Ref, contravariant=True)
Refused = dict[str, Any]
"""A row of quarantine, perhaps with `remarks` of its scan."""
FoundInScan = tuple[str, str, str, str]
"""`repairs` or `contradictions`, kind, key and description."""


class Source(Protocol[InRef]):
    """Reads the samples of records."""

    @property
    def classes(self) -> ClassSet:
        """The fields of the samples' labels."""
        ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """The fields of the samples' metadata and their types."""
        ...

    @property
    def added(self) -> tuple[str, ...]:
        """Columns of the samples that only some datasets have: `projected_from`, `corrected_by`."""
        ...

    def read(self, refs: Sequence[InRef], /) -> Sequence[Scan | Refused]:
        """Return the sample or quarantine row of each of some neighbouring records. Must be thread-safe."""
        ...

    def digest_plan(self, name: str, refs: Sequence[InRef], /) -> str:
        """Return a digest of everything a shard follows from; it is kept in the metadata of its rows."""
        ...

    def is_settled(self, table: pa.Table, refs: Sequence[InRef], began: float, /) -> bool:
        """Return whether the rows of an earlier run for the same plan leave nothing to try again.

        `began` is when that run began to read the records, in seconds since 1970.
        """
        ...
