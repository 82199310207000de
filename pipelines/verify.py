"""Read every byte of a dataset or of predictions and name what is wrong."""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipelines.runtime import command_line, log, progress
from pipelines.runtime.flags import Flag, make_config
from pipelines.runtime.runners import make_beam_options, make_pipeline
from shards import storage
from shards.format.attestation import check_attestation
from shards.format.dataset import Dataset, open_dataset
from shards.format.json_document import DamagedDocumentError
from shards.format.keys import escape_control_characters
from shards.format.manifest import MANIFEST_NAME, ShardInfo
from shards.predictions.attested import check_attested
from shards.predictions.run import RUN_NAME, open_predictions
from shards.verify import dataset as checks
from shards.verify.dataset import CheckedShard
from shards.verify.predictions import verify_predictions
from shards.verify.quick import verify_quickly
from shards.verify.shard import Damage

_MADE_AGAIN = "run the same `sixray {command}` again, it rewrites what is damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyConfig:
    """What to verify, and how."""

    folder: Annotated[str, Flag("folder")]
    """A dataset, or PREDICTIONS/<model-id>."""
    report: str | None = None
    """File for the findings as JSON; on a cluster a URL that all workers reach."""
    quick: Annotated[bool, Flag(action="store_true")] = False
    """Check a dataset's listing, sizes and footers alone; no byte of a tar is read."""
    attest: Annotated[bool, Flag(action="store_true")] = False
    """Print the Merkle root over all records of a dataset, or all scans and logits of predictions, held against the
    tables; no byte of a tar is read."""
    key: str | None = None
    """With --attest: print the proof that this key was converted, scored or refused, as a line of JSON."""

    def __post_init__(self) -> None:
        if self.attest and (self.quick or self.report):
            raise ValueError("--attest must stand without --quick and --report; verify in a run of its own")
        if self.key is not None and not self.attest:
            raise ValueError(f"--key must stand beside --attest, got --key {self.key!r} alone")


@dataclass(frozen=True, slots=True)
class Verification:
    """What was verified, and what is wrong with it."""

    damages: tuple[Damage, ...]
    """In the order of the files."""
    contents: str
    """What was verified, as text."""
    proof: str
    """What holds if there are no damages, as text."""
    remedy: str
    """What to do about damages, as text."""


def verify_folder(config: VerifyConfig, beam_options: Sequence[str] = ()) -> Verification:
    """Verify a dataset or predictions; return all that is wrong.

    Raises:
        ValueError: the folder is neither of the two, or a worker elsewhere wrote its findings to its own disk.
    """
    if storage.exists(storage.join_url(config.folder, RUN_NAME)):
        return _verify_predictions(config.folder)
    try:
        dataset = open_dataset(config.folder)
    except DamagedDocumentError as error:
        damage = Damage(MANIFEST_NAME, "", "damaged_manifest", str(error))
        return Verification((damage,), config.folder, "", _MADE_AGAIN.format(command="convert"))
    proof = "every byte as its checksum says"
    if config.quick:
        proof = "files and sizes as the manifest says; bytes not read"
        damages = verify_quickly(dataset)
        if config.report:
            write_report(damages, config.report)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            report_url = config.report or storage.join_url(scratch, "damages.json")
            damages = verify_dataset(dataset, report_url, beam_options)
    contents = f"{dataset.manifest.num_scans:,} scans in {len(dataset.shards())} shards"
    remedy = _MADE_AGAIN.format(command=dataset.manifest.options.get("command", "convert"))
    return Verification(tuple(damages), contents, proof, remedy)


def _verify_predictions(folder: str) -> Verification:
    # A few hundred bytes a scan: one process reads a million in seconds, no job is needed.
    predictions = open_predictions(folder)
    return Verification(
        tuple(verify_predictions(predictions)),
        f"predictions of {predictions.run['counts']['num_scans']:,} scans",
        "every byte as its checksum says",
        "remove what is named and run `sixray score` again, it makes what is missing",
    )


def verify_dataset(dataset: Dataset, report_url: str, beam_options: Sequence[str] = ()) -> list[Damage]:
    """Return all that is wrong with a dataset.

    Args:
        dataset: what to verify.
        report_url: where the job leaves its findings, as JSON; this machine and all workers must reach it.
        beam_options: Beam's own flags.
    """
    with (
        progress.Progress("verify", dataset.manifest.num_scans),
        make_pipeline(make_beam_options(beam_options)) as pipeline,
    ):
        add_verification(pipeline, dataset, report_url)
    try:
        report = storage.read_bytes(report_url)
    except FileNotFoundError as error:
        raise ValueError(
            f"report must be a file that this machine and all workers reach, got {report_url}; name one by --report"
        ) from error
    return [Damage(**found) for found in json.loads(report)]


def add_verification(pipeline: beam.Pipeline, dataset: Dataset, report_url: str) -> beam.PCollection[None]:
    """Add the checks of all shards to a pipeline: bytes, then keys and duplicates across shards, then the ledger."""
    num_ranges = checks.choose_num_ranges(dataset.manifest.num_scans)
    checked = (
        pipeline
        | "CreateShards" >> beam.Create(dataset.manifest.shards)
        | "SpreadShards" >> beam.Reshuffle()
        | "VerifyShard" >> beam.ParDo(VerifyShard(dataset))
        # CheckedShard
    )
    duplicates = (
        checked
        | "BatchByChecksum" >> beam.FlatMap(checks.batch_rows_by_checksum, num_ranges)
        | "GroupByChecksum" >> beam.GroupByKey()
        | "VerifyDuplicates" >> beam.FlatMapTuple(lambda _, batches: checks.verify_duplicates(batches))
    )
    keys = (
        checked
        | "BatchByKey" >> beam.FlatMap(checks.batch_rows_by_key, num_ranges)
        | "GroupByKeyHash" >> beam.GroupByKey()
        | "VerifyKeys" >> beam.FlatMapTuple(lambda _, batches: checks.verify_keys(batches))
    )
    ledger = (
        checked
        | "DropRows" >> beam.Map(lambda shard: replace(shard, rows=(), damages=()))
        | "GatherCounts" >> beam.combiners.ToList()
        | "VerifyLedger" >> beam.FlatMap(lambda shards: checks.verify_ledger(dataset, shards))
    )
    return (
        (checked | "TakeDamages" >> beam.FlatMap(lambda shard: shard.damages), duplicates, keys, ledger)
        | "FlattenDamages" >> beam.Flatten()
        | "CountDamages" >> beam.Map(count_damage)
        # Damage
        | "GatherDamages" >> beam.combiners.ToList()
        | "WriteReport" >> beam.Map(write_report, report_url)
    )


class VerifyShard(beam.DoFn):
    """Reads every byte of a shard; a DoFn for its counters' sake."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.verified_scans = Metrics.counter("verify", "verified-scans")
        self.read_bytes = Metrics.counter("verify", "read-bytes")

    def process(self, info: ShardInfo) -> Iterator[CheckedShard]:
        """Yield what was found in one shard, and report how far the job is."""
        checked = checks.verify_shard(self.dataset, info)
        self.verified_scans.inc(checked.num_rows)
        self.read_bytes.inc(checked.num_read_bytes)
        counts = {"num_scans": checked.num_rows, "num_findings": len(checked.damages)}
        log.event("verified", job="verify", shard=info.name, **counts, read_bytes=checked.num_read_bytes)
        progress.advance("verify", info.num_scans, checked.num_read_bytes)
        yield checked


def count_damage(damage: Damage) -> Damage:
    """Count a finding under its kind, and note it in the worker's log."""
    Metrics.counter("verify", f"{damage.what.replace('_', '-')}-findings").inc()
    log.event(
        "found",
        job="verify",
        file=escape_control_characters(damage.file),
        key=escape_control_characters(damage.key),
        reason=damage.what,
    )
    return damage


def write_report(damages: Iterable[Damage], report_url: str) -> None:
    """Write what was found as a JSON list, in the order of the files."""
    found = [asdict(damage) for damage in sorted(damages)]
    storage.write_bytes(report_url, json.dumps(found, indent=1).encode())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    words, beam_options = command_line.split_beam_options(argv)
    config = make_config(VerifyConfig, make_parser().parse_args(words))
    if config.attest:
        return print_attestation(config)
    return report_findings(verify_folder(config, beam_options))


def print_attestation(config: VerifyConfig) -> int:
    """Print the root of a dataset or of predictions, and the proof for a key; ValueError if the tables have another."""
    if storage.exists(storage.join_url(config.folder, RUN_NAME)):
        predictions = open_predictions(config.folder)
        num_records = predictions.run["counts"]["num_scans"]
        root, proofs = check_attested(predictions, config.key)
    else:
        dataset = open_dataset(config.folder)
        num_records = sum(counts.listed for counts in dataset.manifest.ledger.values())
        root, proofs = check_attestation(dataset.url, dataset.manifest, config.key)
    print(f"root: {root}, over {num_records:,} records")
    for proof in proofs:
        print(json.dumps({"root": proof.root, **asdict(proof)}))
    return command_line.OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's own flags."""
    return command_line.make_parser(
        "verify", VerifyConfig, "Read every byte of a dataset or of predictions and name what is wrong."
    )


def report_findings(found: Verification) -> int:
    """Print one line a finding, and a last one that sums up; return the exit code."""
    for damage in found.damages:
        print(damage)
    if found.damages:
        log.status(f"findings: {len(found.damages)} in {found.contents}; {found.remedy}", level="warning")
        return command_line.FINDINGS
    print(f"whole: {found.contents}, {found.proof}")
    return command_line.OK


if __name__ == "__main__":
    sys.exit(main())
