"""Read and write run.json, and open finished predictions."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from shards import storage
from shards.format.dataset import Dataset
from shards.format.json_document import parse_document, read_existing
from shards.format.parquet import QUARANTINE_SCHEMA, predictions_schema, read_parquet
from shards.predictions.parts import FORMAT_VERSION, Engine, PartInfo, part_url, quarantine_part_url, read_part

RUN_NAME = "run.json"


@dataclass(frozen=True, slots=True)
class Predictions:
    """Finished predictions of one model: the folder `PREDICTIONS/<model-id>`."""

    url: str
    run: dict[str, Any]
    """`run.json`: at least format, model_id, classes, dataset_digest, parts (a list of shard names), counts."""

    @property
    def model_id(self) -> str:
        """`<network>-<backbone>-<first 12 hex digits of the sha256 over weights and config>`."""
        return str(self.run["model_id"])

    @property
    def schema(self) -> pa.Schema:
        """Schema of the parts."""
        return predictions_schema(self.run["classes"], is_imported="imported" in self.run)

    def read_rows(self, split: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the predictions of a split (or all), in shard and tar order; `image` is null where a part lacks it."""
        names = [name for name in self.run["parts"] if split is None or name.startswith(f"{split}-")]
        if not names:
            raise ValueError(f"predictions must have a part of split {split!r}, got {self.run['parts']} ({self.url})")
        self.check_bytes(names)
        tables = [read_part(self.url, name, columns).replace_schema_metadata(None) for name in names]
        return pa.concat_tables(tables, promote_options="default")

    def check_bytes(self, shard_names: Collection[str]) -> None:
        """Hold the files of some shards against their checksums in `run.json`, before they are read.

        Raises:
            ValueError: a file that has a checksum is missing, or has other bytes than the run wrote.
        """
        wanted = set(shard_names)
        files = [file for file in self.run.get("sha256", {}) if shard_of(file) in wanted]
        with ThreadPoolExecutor(16, thread_name_prefix="checksums") as pool:
            for _ in pool.map(self._check_file, files):
                pass

    def _check_file(self, file: str) -> None:
        url, expected = storage.join_url(self.url, file), self.run["sha256"][file]
        try:
            found = storage.sha256_of(url)
        except FileNotFoundError as error:
            raise ValueError(
                f"predictions must have every file that {RUN_NAME} lists, got no {file} ({url}); "
                f"run the same `sixray score` again, it makes what is missing"
            ) from error
        if found != expected:
            raise ValueError(
                f"predictions must have sha256 {expected}, as {RUN_NAME} says, got {found} ({url}); `sixray verify "
                f"{self.url}` names all such files; remove them and run the same `sixray score` again, it makes them"
            )

    def read_quarantine(self) -> pa.Table:
        """Return the samples that could not be scored, each with its reason."""
        tables = [
            read_parquet(url)
            for url in (quarantine_part_url(self.url, name) for name in self.run["parts"])
            if storage.exists(url)
        ]
        return pa.concat_tables([QUARANTINE_SCHEMA.empty_table(), *tables]).replace_schema_metadata(None)


def open_predictions(url: str) -> Predictions:
    """Return finished predictions.

    Raises:
        ValueError: `run.json` is missing (unfinished, or another folder), damaged or of another format.
    """
    root = storage.normalise_url(url)
    run_url = storage.join_url(root, RUN_NAME)
    text = read_existing(
        run_url,
        f"predictions must have a {RUN_NAME}, got none ({root}); name the folder of one model "
        f"(PREDICTIONS/<model-id>), or run the same `sixray score` again, it resumes",
    )
    return Predictions(root, parse_document(text, FORMAT_VERSION, RUN_NAME, run_url))


def scored_at(run: Mapping[str, Any]) -> str | None:
    """Return when scoring finished, or when scores were imported: ISO 8601, UTC; None if `run.json` does not say."""
    at: str | None = run.get("imported_at") or (run.get("timings") or {}).get("finished_at")
    return at


def run_document(
    model: Mapping[str, Any], datasets: Sequence[Dataset], parts: Sequence[PartInfo], split: str | None
) -> dict[str, Any]:
    """Return the content of `run.json` that describes the parts: equal for equal parts, however they were made.

    Args:
        model: model_id, and from its `config.json` classes, num_levels and optionally trim_margins and provenance; of
            several models also `out_of_fold`, see shards/README.md.
        datasets: that were scored.
        parts: of these datasets' shards.
        split: that was requested, None for all.
    """
    ordered = sorted(parts, key=lambda part: part.shard)
    engines = sorted({part.engine for part in ordered}, key=lambda engine: tuple(map(str, asdict(engine).values())))
    requested = [shard for dataset in datasets for shard in dataset.manifest.shards if split in (None, shard.split)]
    existing = {part.shard for part in ordered}
    left = [shard for shard in requested if shard.num_scans and shard.name not in existing]
    # Parts usually share one engine; fields that differ, as after a move to another machine, are null.
    values = {name: {getattr(engine, name) for engine in engines} for name in Engine.__dataclass_fields__}
    common: dict[str, Any] = {name: found.pop() if len(found) == 1 else None for name, found in values.items()}
    return {
        "format": FORMAT_VERSION,
        "model_id": model["model_id"],
        "classes": list(model["classes"]),
        "num_levels": model["num_levels"],
        "dataset_digest": datasets_digest(datasets),
        "datasets": [{"url": dataset.url, "digest": dataset.manifest.digest} for dataset in datasets],
        "split": split,
        "parts": [part.shard for part in ordered],
        "counts": count_scans(ordered),
        "unscored": {"num_shards": len(left), "num_scans": sum(shard.num_scans for shard in left)},
        "splits": {
            name: count_scans([part for part in ordered if part.split == name])
            for name in sorted({part.split for part in ordered})
        },
        **Engine(**common).to_json(),
        "engines": [engine.to_json() for engine in engines],
        "trim_margins": model.get("trim_margins", False),
        **_detections(ordered),
        **_trained_on(model.get("provenance", {})),
        **({"out_of_fold": model["out_of_fold"]} if "out_of_fold" in model else {}),
    }


def _detections(parts: Sequence[PartInfo]) -> dict[str, Any]:
    """Return `detections`, the share and number of all boxes; nothing unless every part has boxes of one share."""
    shares = {None if part.boxes is None else part.boxes.share for part in parts}
    if len(shares) != 1 or shares == {None}:
        return {}
    num = sum(part.boxes.num for part in parts if part.boxes is not None)
    return {"detections": {"num_detections": num, "box_share": shares.pop()}}


def _trained_on(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return `trained_on`: digest, splits and a sample of the checksums of the training data, see
    `shards.predictions.trained_on`; nothing if the model does not name the dataset.
    """
    digest = provenance.get("dataset_digest")
    if not digest:
        return {}
    checksums = {"checksums": provenance["scan_checksums"]} if "scan_checksums" in provenance else {}
    return {"trained_on": {"dataset_digest": digest, "splits": provenance.get("splits", ["train"]), **checksums}}


def count_scans(parts: Sequence[PartInfo]) -> dict[str, Any]:
    """Return how many scans the parts hold: scored, quarantined, and by reason."""
    reasons: Counter[str] = Counter()
    for part in parts:
        reasons.update(part.quarantined_by_reason)
    return {
        "num_scans": sum(part.num_scans for part in parts),
        "num_scored": sum(part.num_scored for part in parts),
        "num_quarantined": sum(part.num_quarantined for part in parts),
        "quarantined_by_reason": dict(sorted(reasons.items())),
    }


def checksum_parts(
    predictions_url: str, parts: Sequence[PartInfo], known: Mapping[str, str], has_detections: bool = False
) -> dict[str, str]:
    """Return the sha256 of every file of the parts, and of their boxes (`has_detections`: imported ones), by path.

    The `known` checksum of an unchanged file is kept, not computed again: otherwise a part that was damaged meanwhile
    would pass as whole.
    """
    files = [storage.base_name(part_url(predictions_url, part.shard)) for part in parts]
    files += [f"quarantine/{part.shard}.parquet" for part in parts if part.num_quarantined]
    files += [f"detections/{part.shard}.parquet" for part in parts if has_detections or part.boxes is not None]
    return {
        file: known.get(file) or storage.sha256_of(storage.join_url(predictions_url, file)) for file in sorted(files)
    }


def datasets_digest(datasets: Sequence[Dataset]) -> str:
    """Return the digest of one dataset, or a joint digest of several, independent of their order."""
    digests = sorted(dataset.manifest.digest for dataset in datasets)
    return digests[0] if len(digests) == 1 else _sha256("".join(f"{digest}\n" for digest in digests))


def read_run(predictions_url: str) -> dict[str, Any] | None:
    """Return `run.json`; None if it is missing or damaged and must be written again."""
    try:
        return open_predictions(predictions_url).run
    except ValueError:
        return None


def forget_checksums(predictions_url: str, shard_names: Container[str]) -> None:
    """Remove the checksums of some shards' files from `run.json`, before the files are rewritten.

    Otherwise a run that is killed in between would leave a checksum that no file has.
    """
    run = read_run(predictions_url)
    if run is None:
        return
    kept = {file: checksum for file, checksum in run["sha256"].items() if shard_of(file) not in shard_names}
    if len(kept) < len(run["sha256"]):
        write_run(predictions_url, run | {"sha256": kept})


def shard_of(file: str) -> str:
    """Return the shard of a part or of a quarantine part."""
    return storage.base_name(file).removesuffix(".parquet")


def write_run(predictions_url: str, document: Mapping[str, Any]) -> None:
    """Write `run.json`."""
    text = json.dumps(dict(document), indent=1, allow_nan=False) + "\n"
    storage.write_bytes(storage.join_url(predictions_url, RUN_NAME), text.encode())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
