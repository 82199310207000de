"""Read every byte of a dataset or of predictions and name what is wrong."""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

from pipelines.runtime import command_line, log
from pipelines.runtime.flags import Flag, make_config
from shards import storage
from shards.format.attestation import check_attestation
from shards.format.dataset import Dataset, open_dataset
from shards.format.json_document import DamagedDocumentError
from shards.format.manifest import MANIFEST_NAME
from shards.predictions.attested import check_attested
from shards.predictions.run import RUN_NAME, open_predictions
from shards.verify.dataset import write_report
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
    command_line.check_beam_options(beam_options)
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
    from pipelines.transforms.verify import run_verification

    run_verification(dataset, report_url, beam_options)
    try:
        report = storage.read_bytes(report_url)
    except FileNotFoundError as error:
        raise ValueError(
            f"report must be a file that this machine and all workers reach, got {report_url}; name one by --report"
        ) from error
    return [Damage(**found) for found in json.loads(report)]


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
