"""Open a dataset: its manifest, the URLs of its files and its tables."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from shards import storage
from shards.format.json_document import read_existing
from shards.format.keys import find_unsafe_key
from shards.format.manifest import MANIFEST_NAME, DatasetManifest, ShardInfo, samples_url
from shards.format.parquet import add_columns, read_parquet


@dataclass(frozen=True, slots=True)
class Dataset:
    """A finished dataset: its manifest and the URLs of its files."""

    url: str
    manifest: DatasetManifest

    def shards(self, split: str | None = None) -> tuple[ShardInfo, ...]:
        """Return the shards of `split`, or all, that hold samples; ValueError if the split does not exist.

        A shard whose records were all refused has a quarantine part but no tar, since DALI rejects an empty one.
        """
        if split is not None and split not in self.manifest.splits:
            raise ValueError(f"split must be one of {list(self.manifest.splits)}, got {split!r} ({self.url})")
        return tuple(s for s in self.manifest.shards if s.num_scans > 0 and split in (None, s.split))

    def tar_url(self, shard: ShardInfo) -> str:
        """Return the URL of the shard's tar."""
        return storage.join_url(self.url, shard.split, f"{shard.name}.tar")

    def index_url(self, shard: ShardInfo) -> str:
        """Return the URL of the shard's DALI index."""
        return storage.join_url(self.url, shard.split, f"{shard.name}.idx")

    def samples_url(self, shard: ShardInfo) -> str:
        """Return the URL of the shard's rows."""
        return samples_url(self.url, shard.name)

    def read_samples(
        self,
        split: str | None = None,
        columns: Sequence[str] | None = None,
        shards: Iterable[ShardInfo] | None = None,
    ) -> pa.Table:
        """Return the rows of all shards of a split (or of `shards`), in shard and tar order.

        Those of a dataset of format 1 have columns of format 2 too, null; `metadata` is there only if it has
        fields, `projected_from` and `corrected_by` only if the dataset has projected or corrected scans.
        """
        chosen = self.shards(split) if shards is None else tuple(shards)
        absent = {"group", "metadata", "projected_from", "corrected_by"} - set(self.manifest.samples_schema.names)
        stored = None if columns is None else [name for name in columns if name not in absent]
        tables = [read_samples_table(self.samples_url(shard), stored) for shard in chosen]
        schema = self.manifest.read_schema
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns if name in schema.names])
        if not tables:
            return schema.empty_table()
        return add_columns(pa.concat_tables(tables).replace_schema_metadata(None), schema)

    def find_samples(
        self, keys: Iterable[str], columns: Sequence[str], split: str | None = None
    ) -> Iterator[tuple[ShardInfo, pa.Table]]:
        """Yield each shard of a split (or all) with its rows of some keys, in tar order; unknown keys are left out."""
        wanted = pa.array(keys, pa.string())
        for shard in self.shards(split):
            table = self.read_samples(columns=columns, shards=[shard])
            yield shard, table.filter(pc.is_in(table["key"], value_set=wanted))


def read_samples_table(url: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of a shard; ValueError if a key could lead out of a folder when it names a file."""
    table = read_parquet(url, columns)
    if "key" in table.column_names and (key := find_unsafe_key(table["key"])) is not None:
        raise ValueError(
            f"key must not be empty, begin with a dot, or hold separators of folders or control characters, "
            f"got {key!r} ({url}); the dataset is not one that `sixray convert` wrote"
        )
    return table


def open_dataset(url: str) -> Dataset:
    """Return a finished dataset.

    Raises:
        ValueError: `dataset.json` is missing (unfinished or no dataset) or cannot be read.
    """
    storage.check_url(url)
    root = storage.normalise_url(url)
    manifest_url = storage.join_url(root, MANIFEST_NAME)
    text = read_existing(
        manifest_url,
        f"dataset must have a {MANIFEST_NAME}, got none ({root}); the conversion did not finish: "
        f"run the same `sixray convert` command again, it resumes",
    )
    return Dataset(root, DatasetManifest.from_json(text, manifest_url))
