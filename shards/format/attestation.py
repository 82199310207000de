"""Attest records by shard: a Merkle root over every scan of a dataset that was listed, converted or refused."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from shards.format.manifest import DatasetManifest, ShardInfo, quarantine_url, samples_url
from shards.format.merkle import Step, follow, prove, tree_root
from shards.format.parquet import read_parquet


def record_texts(dataset_url: str, shard: ShardInfo) -> list[str]:
    """Return a text for each record of a shard, sorted.

    A JSON list without spaces: `["converted",split,key,sha256]`, or `["refused",split,key,stage,reason,sha256]`, whose
    sha256 is null if no bytes were read.
    """
    texts: list[str] = []
    if shard.num_scans:
        rows = read_parquet(samples_url(dataset_url, shard.name), ["key", "sha256"])
        pairs = zip(rows["key"].to_pylist(), rows["sha256"].to_pylist(), strict=True)
        texts += [record_text("converted", shard.split, key, sha256) for key, sha256 in pairs]
    if shard.num_quarantined:
        texts += refused_texts(quarantine_url(dataset_url, shard.name), shard.split)
    return sorted(texts)


def record_text(*record: Any) -> str:
    """Return the text of a record: a JSON list without spaces."""
    return json.dumps(record, separators=(",", ":"))


def refused_texts(quarantine_url: str, split: str) -> list[str]:
    """Return the text of each refused record of a quarantine table."""
    columns = ["key", "stage", "reason", "sha256"]
    rows = read_parquet(quarantine_url, columns).to_pylist()
    return [record_text("refused", split, *(row[name] for name in columns)) for row in rows]


def records_root(dataset_url: str, shard: ShardInfo) -> str:
    """Return the Merkle root over the records of a shard."""
    return tree_root(record_texts(dataset_url, shard))


def attest(shard_roots: Mapping[str, str]) -> dict[str, Any]:
    """Return `attestation` of `dataset.json`: the root over `<shard> <root>` in order, and the roots by shard."""
    roots = dict(sorted(shard_roots.items()))
    return {"root": tree_root(_lines(roots)), "shards": roots}


def _lines(roots: Mapping[str, str]) -> list[str]:
    return [f"{name} {root}" for name, root in sorted(roots.items())]


@dataclass(frozen=True, slots=True)
class Proof:
    """That a record is one of those under a dataset's root."""

    record: str
    """Its text, see `record_texts`."""
    path: tuple[Step, ...]
    """From the record to the root of its shard."""
    shard: str
    shard_path: tuple[Step, ...]
    """From `<shard> <root of the shard>` to the root of the dataset."""

    @property
    def root(self) -> str:
        """The root that the record and both paths lead to."""
        return follow(f"{self.shard} {follow(self.record, self.path)}", self.shard_path)


def check_attestation(dataset_url: str, manifest: DatasetManifest, key: str | None = None) -> tuple[str, list[Proof]]:
    """Return the root that the tables on disk have, and a proof for each record of a key, if one is given.

    Raises:
        ValueError: the manifest has no attestation, the tables have another root, or no record has the key.
    """
    texts = ((shard.name, record_texts(dataset_url, shard)) for shard in manifest.shards)
    again = "an earlier release wrote it: reshard or convert it into a new folder"
    return prove_key("dataset", dataset_url, manifest.attestation, texts, key, again)


def prove_key(
    what: str,
    url: str,
    expected: Mapping[str, Any],
    texts_by_shard: Iterable[tuple[str, list[str]]],
    key: str | None,
    again: str,
) -> tuple[str, list[Proof]]:
    """Hold records by shard against an attestation; return their root, and a proof for each of a key.

    The records are not asked for unless there is an attestation.

    Raises:
        ValueError: there is no attestation (`again` says what to do), the root is another, or no record has the key.
    """
    if not expected:
        raise ValueError(f"{what} must have an attestation, got none ({url}); {again}")
    texts = dict(texts_by_shard)
    found = attest({name: tree_root(of) for name, of in texts.items()})
    if found != expected:
        roots = expected.get("shards", {})
        others = sorted(name for name, root in found["shards"].items() if roots.get(name) != root)
        raise ValueError(
            f"{what} must have root {expected.get('root')}, as its manifest says, got {found['root']} "
            f"from its tables ({url}, shards {others}); `sixray verify {url}` names what is damaged"
        )
    lines, names = _lines(found["shards"]), sorted(texts)
    proofs = [
        Proof(text, tuple(prove(of, at)), name, tuple(prove(lines, names.index(name))))
        for name, of in texts.items()
        for at, text in enumerate(of)
        if key is not None and json.loads(text)[2] == key
    ]
    if key is not None and not proofs:
        raise ValueError(f"key must be one that was listed, got {key!r} ({url})")
    return found["root"], proofs
