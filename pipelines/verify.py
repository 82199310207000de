"""Is what lies on disk what its manifest says? `sixray verify` reads every byte and trusts nothing."""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipelines.runtime import command_line, log, progress
from pipelines.runtime.runners import make_beam_options, make_pipeline
from shards import storage
from shards.format.dataset import Dataset, open_dataset
from shards.format.json_document import DamagedDocumentError
from shards.format.keys import escape_control_characters
from shards.format.manifest import MANIFEST_NAME, ShardInfo
from shards.predictions.run import RUN_NAME, open_predictions
from shards.verify import dataset as audit
from shards.verify.damage import Damage
from shards.verify.dataset import CheckedShard
from shards.verify.predictions import verify_predictions
from shards.verify.quick import verify_quickly

_MADE_AGAIN = "run the same `sixray {command}` again, it rewrites what is damaged"


def verify_dataset(dataset: Dataset, report_url: str, beam_options: Sequence[str] = ()) -> list[Damage]:
    """Read every byte of a dataset; return all that is wrong with it, in the order of the files.

    Args:
        dataset: what to verify.
        report_url: where the job leaves its findings, as JSON; this machine and all workers must reach it.
        beam_options: Beam's own flags.

    Raises:
        ValueError: the findings are not there: a worker elsewhere wrote them to its own disk.
    """
    with (
        progress.Progress("verify", dataset.manifest.num_scans),
        make_pipeline(make_beam_options(beam_options)) as pipeline,
    ):
        audit_dataset(pipeline, dataset, report_url)
    try:
        report = storage.read_bytes(report_url)
    except FileNotFoundError as error:
        raise ValueError(
            f"report must be a file that this machine and all workers reach, got {report_url}; name one by --report"
        ) from error
    return [Damage(**found) for found in json.loads(report)]


def audit_dataset(pipeline: beam.Pipeline, dataset: Dataset, report_url: str) -> beam.PCollection[None]:
    """Add the checks of all shards to a pipeline: bytes, then keys and duplicates across shards, then the ledger."""
    num_ranges = audit.choose_num_ranges(dataset.manifest.num_scans)
    checked = (
        pipeline
        | "CreateShards" >> beam.Create(dataset.manifest.shards)
        | "SpreadShards" >> beam.Reshuffle()
        | "AuditShard" >> beam.ParDo(AuditShard(dataset))
        # CheckedShard
    )
    duplicates = (
        checked
        | "BatchByChecksum" >> beam.FlatMap(audit.batch_rows_by_checksum, num_ranges)
        | "GroupByChecksum" >> beam.GroupByKey()
        | "AuditDuplicates" >> beam.FlatMapTuple(lambda _, batches: audit.verify_duplicates(batches))
    )
    keys = (
        checked
        | "BatchByKey" >> beam.FlatMap(audit.batch_rows_by_key, num_ranges)
        | "GroupByKeyHash" >> beam.GroupByKey()
        | "AuditKeys" >> beam.FlatMapTuple(lambda _, batches: audit.verify_keys(batches))
    )
    ledger = (
        checked
        | "DropRows" >> beam.Map(lambda shard: replace(shard, rows=(), damages=()))
        | "GatherCounts" >> beam.combiners.ToList()
        | "AuditLedger" >> beam.FlatMap(lambda shards: audit.verify_ledger(dataset, shards))
    )
    return (
        (checked | "TakeDamages" >> beam.FlatMap(lambda shard: shard.damages), duplicates, keys, ledger)
        | "FlattenDamages" >> beam.Flatten()
        | "CountDamages" >> beam.Map(count_damage)
        # Damage
        | "GatherDamages" >> beam.combiners.ToList()
        | "WriteReport" >> beam.Map(write_report, report_url)
    )


class AuditShard(beam.DoFn):
    """Reads every byte of a shard; a DoFn for its counters' sake."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.verified_scans = Metrics.counter("verify", "verified-scans")
        self.read_bytes = Metrics.counter("verify", "read-bytes")

    def process(self, info: ShardInfo) -> Iterator[CheckedShard]:
        """Yield what was found in one shard, and report how far the job is."""
        checked = audit.verify_shard(self.dataset, info)
        self.verified_scans.inc(checked.num_rows)
        self.read_bytes.inc(checked.num_read_bytes)
        counts = {"num_scans": checked.num_rows, "num_findings": len(checked.damages)}
        log.note("verified", job="verify", shard=info.name, **counts, read_bytes=checked.num_read_bytes)
        progress.advance("verify", info.num_scans, checked.num_read_bytes)
        yield checked


def count_damage(damage: Damage) -> Damage:
    """Count a finding under its kind, and note it in the worker's log."""
    Metrics.counter("verify", f"{damage.what.replace('_', '-')}-findings").inc()
    log.note(
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
    flags = make_parser().parse_args(words)
    if storage.exists(storage.join_url(flags.folder, RUN_NAME)):
        return _verify_predictions(flags.folder)
    try:
        dataset = open_dataset(flags.folder)
    except DamagedDocumentError as error:
        damage = Damage(MANIFEST_NAME, "", "damaged_manifest", str(error))
        return report_findings([damage], flags.folder, _MADE_AGAIN.format(command="convert"))
    if flags.quick:
        return _verify_quickly(dataset, flags.report)
    with tempfile.TemporaryDirectory() as scratch:
        report_url = flags.report or storage.join_url(scratch, "damages.json")
        damages = verify_dataset(dataset, report_url, beam_options)
    return report_findings(damages, _contents_of(dataset), _remedy_for(dataset))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's own flags."""
    parser = command_line.make_parser(
        "verify", "Read every byte of a dataset or of predictions and name what is wrong."
    )
    parser.add_argument("folder", help="a dataset, or PREDICTIONS/<model-id>")
    parser.add_argument("--report", help="file for the findings as JSON; on a cluster a URL that all workers reach")
    parser.add_argument(
        "--quick", action="store_true", help="a dataset's listing, sizes and footers alone; no byte of a tar is read"
    )
    return parser


def _verify_quickly(dataset: Dataset, report_url: str | None) -> int:
    damages = verify_quickly(dataset)
    if report_url:
        write_report(damages, report_url)
    what = _contents_of(dataset)
    return report_findings(damages, what, _remedy_for(dataset), "files and sizes as the manifest says; bytes not read")


def _contents_of(dataset: Dataset) -> str:
    return f"{dataset.manifest.num_scans:,} scans in {len(dataset.shards())} shards"


def _remedy_for(dataset: Dataset) -> str:
    return _MADE_AGAIN.format(command=dataset.manifest.options.get("command", "convert"))


def _verify_predictions(folder: str) -> int:
    # A few hundred bytes a scan: one process reads a million in seconds, no job is needed.
    predictions = open_predictions(folder)
    damages = verify_predictions(predictions)
    what = f"predictions of {predictions.run['counts']['num_scans']:,} scans"
    return report_findings(damages, what, "remove what is named and run `sixray score` again, it makes what is missing")


def report_findings(
    damages: Sequence[Damage], what: str, remedy: str, proof: str = "every byte as its checksum says"
) -> int:
    """Print one line a finding, and a last one that sums up; return the exit code."""
    for damage in damages:
        print(damage)
    if damages:
        print(f"findings: {len(damages)} in {what}; {remedy}", file=sys.stderr)
        return command_line.FINDINGS
    print(f"whole: {what}, {proof}")
    return command_line.OK


if __name__ == "__main__":
    sys.exit(main())
