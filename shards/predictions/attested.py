"""Attest the scans of a run: a Merkle root over every scan that was scored or refused, with its logits."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from shards.format.attestation import Proof, attest, prove_key, record_text, refused_texts
from shards.format.merkle import tree_root
from shards.format.parquet import read_parquet
from shards.predictions.parts import PartInfo, part_url, quarantine_part_url
from shards.predictions.run import Predictions


def record_texts(predictions_url: str, shard: str, has_refused: bool, classes: Sequence[str]) -> list[str]:
    """Return a text for each scan of a part, sorted.

    A JSON list without spaces: `["scored",split,key,logits]`, the logits in the order of the run's classes,
    null where an import has no score, or `["refused",split,key,stage,reason,sha256]`.
    """
    split = shard.partition("-")[0]
    rows = read_parquet(part_url(predictions_url, shard), ["key", "logits"])
    pairs = zip(rows["key"].to_pylist(), rows["logits"].to_pylist(), strict=True)
    texts = [record_text("scored", split, key, [logits[name] for name in classes]) for key, logits in pairs]
    if has_refused:
        texts += refused_texts(quarantine_part_url(predictions_url, shard), split)
    return sorted(texts)


def attest_parts(
    predictions_url: str, parts: Sequence[PartInfo], classes: Sequence[str], known: Mapping[str, str]
) -> dict[str, Any]:
    """Return `attestation` of `run.json`; the `known` roots of shards whose parts are unchanged are kept."""

    def root(part: PartInfo) -> str:
        found = known.get(part.shard)
        return found or tree_root(record_texts(predictions_url, part.shard, part.num_quarantined > 0, classes))

    with ThreadPoolExecutor(2, thread_name_prefix="attest") as pool:
        return attest(dict(zip((part.shard for part in parts), pool.map(root, parts), strict=True)))


def check_attested(predictions: Predictions, key: str | None = None) -> tuple[str, list[Proof]]:
    """Return the root that the parts on disk have, and a proof for each scan of a key, if one is given.

    Raises:
        ValueError: `run.json` has no attestation, the parts have another root, or no scan has the key.
    """
    run = predictions.run
    checksums = run.get("sha256", {})
    texts = (
        (name, record_texts(predictions.url, name, f"quarantine/{name}.parquet" in checksums, run["classes"]))
        for name in run["parts"]
    )
    command = "import" if "imported" in run else "score"
    again = f"an earlier release wrote it: {command} into a new folder"
    return prove_key("predictions", predictions.url, run.get("attestation", {}), texts, key, again)
