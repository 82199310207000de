"""Describe a dataset: its manifest and the names of its files."""

import hashlib
import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from shards import storage
from shards.format.json_document import DamagedDocumentError, parse_document
from shards.format.parquet import METADATA_TYPES, samples_schema

FORMAT_VERSION = 2
_OLDEST_VERSION = 1
MANIFEST_NAME = "dataset.json"
_OPTIONAL = (
    "metadata",
    "contradictions",
    "repairs",
    "skipped",
    "leakage",
    "is_projected",
    "projections",
    "corrections",
    "attestation",
)
"""Fields that the manifest has only if they are not empty."""
SHARD_NAME = re.compile(r"(?P<split>[a-z0-9_]+)-(?P<index>\d{5,})-of-(?P<num>\d{5,})")


def shard_name(split: str, shard_index: int, num_shards: int) -> str:
    """Return e.g. `train-00007-of-00042`, the stem of all files of a shard."""
    return f"{split}-{shard_index:05d}-of-{num_shards:05d}"


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
    """sha256 over the tar with each image replaced by its sha256; see `shards.format.tar`."""
    samples_sha256: str = ""
    """sha256 of the file with the shard's rows."""
    quarantine_sha256: str = ""
    """sha256 of the file with its refused records; empty if there are none."""


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
    """By split."""
    options: dict[str, Any]
    versions: dict[str, str]
    contradictions: dict[str, Any] = field(default_factory=dict)
    """Where the corpus' sources disagree: {kind: {"count": …, "examples": [{"key": …, "detail": …}]}}."""
    skipped: dict[str, Any] = field(default_factory=dict)
    """Files that are no scans, in the same form: junk of operating systems, and files beside images."""
    repairs: dict[str, Any] = field(default_factory=dict)
    """What was mended in annotations, like `contradictions`."""
    leakage: dict[str, Any] = field(default_factory=dict)
    """Groups of equal scans in several splits; see `shards.curation.leakage`."""
    metadata: dict[str, str] = field(default_factory=dict)
    """The fields of the rows' `metadata` and their types, see `shards.format.parquet.METADATA_TYPES`."""
    is_projected: bool = False
    """Whether the rows have `projected_from`; see `shards.images.projection`."""
    projections: dict[str, Any] = field(default_factory=dict)
    """The objects that were projected, by class, like `contradictions`."""
    corrections: dict[str, Any] = field(default_factory=dict)
    """Number of corrected scans, and sha256 of the table that says who changed what (`shards.curation.corrections`)."""
    attestation: dict[str, Any] = field(default_factory=dict)
    """Merkle root over all records, and roots by shard, see `shards.format.attestation`; empty in older datasets."""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.metadata.values()) - set(METADATA_TYPES)):
            raise DamagedDocumentError(f"types of metadata must be of {list(METADATA_TYPES)}, got {unknown}")
        for shard in self.shards:
            # Names become paths below outputs: one of a foreign dataset must not lead out of them.
            found = SHARD_NAME.fullmatch(shard.name)
            if found is None or found["split"] != shard.split:
                raise DamagedDocumentError(
                    f"shard must be named {shard_name('SPLIT', 0, 1)} after its split, "
                    f"got {shard.name!r} of split {shard.split!r}"
                )
        for split, counts in self.ledger.items():
            if counts.listed != counts.converted + counts.quarantined:
                raise DamagedDocumentError(
                    f"ledger of split {split!r} must have listed = converted + quarantined, got {counts.listed} = "
                    f"{counts.converted} + {counts.quarantined}; a scan is unaccounted for, run the job again"
                )

    @property
    def digest(self) -> str:
        """sha256 over the names and digests of all shards."""
        lines = sorted(f"{shard.digest}  {shard.name}\n" for shard in self.shards)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def samples_schema(self) -> pa.Schema:
        """The schema of the rows on disk."""
        return samples_schema(self.classes, self.metadata, self.format_version, added=self.added_columns)

    @property
    def read_schema(self) -> pa.Schema:
        """The schema of the rows as they are read: those of an older format have the newer columns, null."""
        return samples_schema(self.classes, self.metadata, added=self.added_columns)

    @property
    def added_columns(self) -> tuple[str, ...]:
        """Columns of the rows that only some datasets have."""
        return (*["projected_from"] * self.is_projected, *["corrected_by"] * bool(self.corrections))

    @property
    def num_scans(self) -> int:
        """Samples in all shards."""
        return sum(shard.num_scans for shard in self.shards)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have shards or refused records."""
        return tuple(sorted({shard.split for shard in self.shards} | set(self.ledger)))

    def to_json(self) -> bytes:
        """Return `dataset.json`: equal manifests give equal bytes."""
        totals = {
            name: sum(getattr(counts, name) for counts in self.ledger.values())
            for name in ("listed", "converted", "quarantined")
        }
        document = {
            "format": self.format_version,
            "digest": self.digest,
            "classes": list(self.classes),
            "scored_classes": list(self.scored_classes),
            "splits": {split: self._split_totals(split) for split in self.splits},
            "ledger": totals | {"splits": {split: asdict(self.ledger[split]) for split in sorted(self.ledger)}},
            **{name: found for name in _OPTIONAL if (found := getattr(self, name))},
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
            ValueError: it has another format.
            DamagedDocumentError: it is not a manifest that a conversion writes.
        """
        try:
            document = parse_document(
                text,
                FORMAT_VERSION,
                "dataset",
                url,
                "read it with the release of sixray-pipeline that wrote it, or convert the corpus again",
                _OLDEST_VERSION,
            )
        except DamagedDocumentError as error:
            raise _malformed(error, url) from error
        try:
            manifest = cls(
                classes=tuple(document["classes"]),
                scored_classes=tuple(document["scored_classes"]),
                shards=tuple(ShardInfo(**shard) for shard in document["shards"]),
                ledger={name: SplitLedger(**counts) for name, counts in document["ledger"]["splits"].items()},
                options=document["options"],
                versions=document["versions"],
                format_version=document["format"],
                **{name: document[name] for name in _OPTIONAL if name in document},
            )
            digest = document["digest"]
        except (AttributeError, KeyError, TypeError) as error:
            raise _malformed(error, url) from error
        if manifest.digest != digest:
            raise DamagedDocumentError(
                f"dataset digest must be that of its shards {manifest.digest}, got {digest} ({url}); "
                f"run `sixray convert` again, it rewrites what is damaged"
            )
        return manifest


def _malformed(error: Exception, url: str) -> DamagedDocumentError:
    return DamagedDocumentError(
        f"dataset manifest must be a JSON document of format 1 or 2, got {error!r} ({url}); "
        f"run `sixray convert` again, it rewrites what is damaged"
    )


def samples_url(dataset_url: str, name: str) -> str:
    """Return the URL of the rows of the shard `name`."""
    return storage.join_url(dataset_url, "samples", f"{name}.parquet")


def quarantine_url(dataset_url: str, name: str) -> str:
    """Return the URL of the refused records of the shard `name`."""
    return storage.join_url(dataset_url, "quarantine", f"part-{name}.parquet")


LEAKAGE_NAME = "leakage.parquet"


def corrections_url(dataset_url: str) -> str:
    """Return the URL of the table that says who corrected what."""
    return storage.join_url(dataset_url, "corrections", "part-00000.parquet")


def count_reasons(quarantine: pa.Table) -> dict[str, int]:
    """Return the number of quarantine rows per reason, sorted by reason."""
    return dict(sorted(Counter(quarantine["reason"].to_pylist()).items()))


_NAME = re.sub(r"\?P<\w+>", "?:", SHARD_NAME.pattern)
DATASET_FILE = re.compile(
    rf"dataset\.json|{re.escape(LEAKAGE_NAME)}|samples/{_NAME}\.parquet|quarantine/part-{_NAME}\.parquet"
    r"|corrections/part-\d{5}\.parquet"
    rf"|[a-z0-9_]+/{_NAME}\.(?:tar|idx)"
)
"""The paths of all files that any finished dataset may have, below its folder; see also `expected_files`."""


CARD_FILES = ("README.md", "croissant.json")
"""Files that `sixray card` writes into a finished dataset; no checksum of the manifest holds them."""


def expected_files(dataset_url: str, manifest: DatasetManifest) -> dict[str, int | None]:
    """Return the URL of every file of a finished dataset, with its size in bytes if the manifest has it."""
    root = storage.normalise_url(dataset_url)
    files: dict[str, int | None] = {storage.join_url(root, MANIFEST_NAME): None}
    if manifest.leakage:
        files[storage.join_url(root, LEAKAGE_NAME)] = None
    if manifest.corrections:
        files[corrections_url(root)] = None
    for shard in manifest.shards:
        files[samples_url(root, shard.name)] = None
        if shard.num_quarantined:
            files[quarantine_url(root, shard.name)] = None
        if shard.num_scans:
            files[storage.join_url(root, shard.split, f"{shard.name}.tar")] = shard.tar_bytes
            files[storage.join_url(root, shard.split, f"{shard.name}.idx")] = None
    return files
