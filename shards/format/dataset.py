"""What does a dataset hold? Its manifest, and readers of its tables."""

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards import storage
from shards.format import dataset as datasets
from shards.format.schemas import samples_schema

FORMAT_VERSION = 1
MANIFEST_NAME = "dataset.json"
_FINDINGS = ("contradictions", "leakage")
"""Fields of the manifest that stand there only where something was found."""
SHARD_NAME = re.compile(r"(?P<split>[a-z0-9_]+)-(?P<index>\d{5,})-of-(?P<num>\d{5,})")


def shard_name(split: str, shard_index: int, num_shards: int) -> str:
    """Return e.g. `train-00007-of-00042`, the stem of the tar, the index and the tables of one shard."""
    return f"{split}-{shard_index:05d}-of-{num_shards:05d}"


class DamagedManifestError(ValueError):
    """A manifest that is there and cannot be true: `sixray verify` reports it like any other damage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardInfo:
    """One shard, as the manifest lists it."""

    name: str
    """`train-00007-of-00042`."""
    split: str
    num_scans: int
    num_quarantined: int
    image_bytes: int
    tar_bytes: int
    digest: str
    """See `shards.format.tar`: sha256 over the tar, each image standing as its own sha256."""
    samples_sha256: str = ""
    """sha256 of the file with the shard's rows."""
    quarantine_sha256: str = ""
    """sha256 of the file with its refused records; empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitLedger:
    """Where the records of one split went: `listed = converted + quarantined`."""

    listed: int
    converted: int
    quarantined: int
    quarantined_by_reason: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetManifest:
    """`dataset.json`."""

    classes: tuple[str, ...]
    scored_classes: tuple[str, ...]
    shards: tuple[ShardInfo, ...]
    ledger: dict[str, SplitLedger]
    """One entry a split."""
    options: dict[str, Any]
    versions: dict[str, str]
    contradictions: dict[str, Any] = field(default_factory=dict)
    """What the corpus' sources disagree on: {kind: {"count": …, "examples": [{"key": …, "detail": …}]}}."""
    leakage: dict[str, Any] = field(default_factory=dict)
    """Groups of equal scans that lie in several splits: see `shards.curation.leakage`."""

    def __post_init__(self) -> None:
        for split, counts in self.ledger.items():
            if counts.listed != counts.converted + counts.quarantined:
                raise DamagedManifestError(
                    f"ledger of split {split!r} must have listed = converted + quarantined, got {counts.listed} = "
                    f"{counts.converted} + {counts.quarantined}; a scan is unaccounted for, run the job again"
                )

    @property
    def digest(self) -> str:
        """sha256 over the names and digests of all shards: one value for all bytes of all tars."""
        lines = sorted(f"{shard.digest}  {shard.name}\n" for shard in self.shards)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def num_scans(self) -> int:
        """Samples in all shards."""
        return sum(shard.num_scans for shard in self.shards)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have shards or refused records."""
        return tuple(sorted({shard.split for shard in self.shards} | set(self.ledger)))

    def to_json(self) -> bytes:
        """Return the text of `dataset.json`: equal manifests give equal bytes."""
        totals = {
            name: sum(getattr(counts, name) for counts in self.ledger.values())
            for name in ("listed", "converted", "quarantined")
        }
        document = {
            "format": FORMAT_VERSION,
            "digest": self.digest,
            "classes": list(self.classes),
            "scored_classes": list(self.scored_classes),
            "splits": {split: self._split_totals(split) for split in self.splits},
            "ledger": totals | {"splits": {split: asdict(self.ledger[split]) for split in sorted(self.ledger)}},
            **{name: found for name in _FINDINGS if (found := getattr(self, name))},
            "options": self.options,
            "versions": self.versions,
            "shards": [asdict(shard) for shard in sorted(self.shards, key=lambda shard: shard.name)],
        }
        return (json.dumps(document, indent=1) + "\n").encode()

    def _split_totals(self, split: str) -> dict[str, int]:
        shards = [shard for shard in self.shards if shard.split == split]
        return {
            "num_scans": sum(shard.num_scans for shard in shards),
            "num_shards": len(shards),
            "image_bytes": sum(shard.image_bytes for shard in shards),
            "tar_bytes": sum(shard.tar_bytes for shard in shards),
        }

    @classmethod
    def from_json(cls, text: bytes, url: str) -> "DatasetManifest":
        """Parse `dataset.json`.

        Raises:
            ValueError: the text is of another format; names `url`.
            DamagedManifestError: it is not what a conversion writes.
        """
        try:
            document = json.loads(text)
            version = document["format"]
            if version != FORMAT_VERSION:
                raise ValueError(
                    f"dataset must have format {FORMAT_VERSION}, got {version!r} ({url}); "
                    f"read it with the release of sixray-pipeline that wrote it, or convert the corpus again"
                )
            manifest = cls(
                classes=tuple(document["classes"]),
                scored_classes=tuple(document["scored_classes"]),
                shards=tuple(ShardInfo(**shard) for shard in document["shards"]),
                ledger={name: SplitLedger(**counts) for name, counts in document["ledger"]["splits"].items()},
                options=document["options"],
                versions=document["versions"],
                **{name: document[name] for name in _FINDINGS if name in document},
            )
            digest = document["digest"]
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DamagedManifestError(
                f"dataset manifest must be a JSON document of format 1, got {error!r} ({url}); "
                f"run `sixray convert` again, it rewrites what is damaged"
            ) from error
        if manifest.digest != digest:
            raise DamagedManifestError(
                f"dataset digest must be that of its shards {manifest.digest}, got {digest} ({url}); "
                f"run `sixray convert` again, it rewrites what is damaged"
            )
        return manifest


@dataclass(frozen=True, slots=True)
class Dataset:
    """A finished dataset: its manifest, and where its files are."""

    url: str
    manifest: DatasetManifest

    def shards(self, split: str | None = None) -> tuple[ShardInfo, ...]:
        """Return the shards of `split`, or all, that hold samples; ValueError where there is no such split.

        A shard whose every record was refused has a quarantine part but no tar: DALI takes no empty one.
        """
        if split is not None and split not in self.manifest.splits:
            raise ValueError(f"split must be one of {list(self.manifest.splits)}, got {split!r} ({self.url})")
        return tuple(s for s in self.manifest.shards if s.num_scans > 0 and split in (None, s.split))

    def tar_url(self, shard: ShardInfo) -> str:
        """Return where the shard's tar is."""
        return storage.join_url(self.url, shard.split, f"{shard.name}.tar")

    def index_url(self, shard: ShardInfo) -> str:
        """Return where DALI's index of the shard is."""
        return storage.join_url(self.url, shard.split, f"{shard.name}.idx")

    def samples_url(self, shard: ShardInfo) -> str:
        """Return where the shard's rows are."""
        return samples_url(self.url, shard.name)

    def read_samples(
        self,
        split: str | None = None,
        columns: Sequence[str] | None = None,
        shards: Iterable[ShardInfo] | None = None,
    ) -> pa.Table:
        """Return the rows of all shards of a split (or of `shards`), in shard and tar order."""
        chosen = self.shards(split) if shards is None else tuple(shards)
        tables = [read_parquet(self.samples_url(shard), columns) for shard in chosen]
        if not tables:
            table = samples_schema(self.manifest.classes).empty_table()
            return table if columns is None else table.select(list(columns))
        return pa.concat_tables(tables).replace_schema_metadata(None)


def samples_url(dataset_url: str, name: str) -> str:
    """Return where the rows of the shard called `name` are."""
    return storage.join_url(dataset_url, "samples", f"{name}.parquet")


def quarantine_url(dataset_url: str, name: str) -> str:
    """Return where the refused records of the shard called `name` are, if it has any."""
    return storage.join_url(dataset_url, "quarantine", f"part-{name}.parquet")


def open_dataset(url: str) -> Dataset:
    """Return a finished dataset.

    Raises:
        ValueError: there is no `dataset.json` (unfinished or no dataset), or it cannot be read.
    """
    storage.check_url(url)
    root = storage.normalise_url(url)
    manifest_url = storage.join_url(root, MANIFEST_NAME)
    try:
        text = storage.read_bytes(manifest_url)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"dataset must have a {MANIFEST_NAME}, got none ({root}); the conversion did not finish: "
            f"run the same `sixray convert` command again, it resumes"
        ) from error
    return Dataset(root, DatasetManifest.from_json(text, manifest_url))


def read_parquet(url: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return one Parquet file as a table; ValueError names the file where it is damaged."""
    try:
        with storage.open_reader(url) as handle:
            return pq.read_table(
                handle, columns=list(columns) if columns is not None else None, page_checksum_verification=True
            )
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # absent or not to be read, rather than damaged
            raise
        raise ValueError(f"table must be a whole Parquet file, got {error} ({url})") from error


def write_parquet(url: str, table: pa.Table) -> None:
    """Write one Parquet file atomically, a checksum a page; equal tables give equal bytes."""
    with storage.atomic_writer(url) as out:
        _write_table(table, out)


def parquet_bytes(table: pa.Table) -> bytes:
    """Return the bytes that `write_parquet` writes."""
    out = io.BytesIO()
    _write_table(table, out)
    return out.getvalue()


def _write_table(table: pa.Table, out: IO[bytes]) -> None:
    pq.write_table(table, out, compression="zstd", write_page_checksum=True)


LEAKAGE_NAME = "leakage.parquet"


def count_reasons(quarantine: pa.Table) -> dict[str, int]:
    """Return how many rows of a quarantine table have each reason, in the order of the reasons."""
    return dict(sorted(Counter(quarantine["reason"].to_pylist()).items()))


def expected_files(dataset_url: str, manifest: DatasetManifest) -> dict[str, int | None]:
    """Return the URL of every file that a finished dataset has, with its size in bytes where the manifest knows it."""
    root = storage.normalise_url(dataset_url)
    files: dict[str, int | None] = {storage.join_url(root, datasets.MANIFEST_NAME): None}
    if manifest.leakage:
        files[storage.join_url(root, LEAKAGE_NAME)] = None
    for shard in manifest.shards:
        files[datasets.samples_url(root, shard.name)] = None
        if shard.num_quarantined:
            files[datasets.quarantine_url(root, shard.name)] = None
        if shard.num_scans:
            files[storage.join_url(root, shard.split, f"{shard.name}.tar")] = shard.tar_bytes
            files[storage.join_url(root, shard.split, f"{shard.name}.idx")] = None
    return files
