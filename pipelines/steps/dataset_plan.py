"""Plan a dataset that a job writes, find out whether it is finished, and print its ledger."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.runtime import command_line, log
from shards import storage
from shards.format.manifest import DatasetManifest
from shards.writing.output_folder import find_finished
from shards.writing.source import Source

DEFAULT_SHARD_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPlan:
    """What is written where, and by which command."""

    label: str
    """Of the progress and the counters: the command's name."""
    output: str
    """Folder of the dataset, normalised."""
    source: Source[Any]
    """Makes samples of records."""
    shard_bytes: int
    """Image bytes in a shard on average."""
    options_record: dict[str, Any]
    """What the manifest says of how the dataset was made."""
    findings: Mapping[str, Any] = field(default_factory=dict)
    """What the manifest says of contradictions and repairs, as far as it is known before the job runs."""
    kept_num_shards: Mapping[str, int] = field(default_factory=dict)
    """The number of shards of splits that must not follow from their bytes."""
    corrected_rows: Sequence[Mapping[str, Any]] = ()
    """Of the table of corrections; those of scans that are not in the dataset are left out."""


def find_finished_dataset(
    plan: DatasetPlan, newest_input: Callable[[], float | None], *, overwrite: bool
) -> DatasetManifest | None:
    """Return the manifest of the dataset if it is finished and no input has changed since, and say so; else None.

    Raises:
        ValueError: the output is the dataset of another job, and must not be replaced.
    """
    storage.sweep_temporaries(plan.output)
    finished = find_finished(plan.output, plan.options_record, newest_input, overwrite=overwrite)
    if finished is not None:
        log.status(f"{plan.label}: nothing to do, the dataset is finished and its input has not changed since")
    return finished


def report_ledger(manifest: DatasetManifest, max_quarantine_fraction: float) -> int:
    """Print the ledger of each split; return the exit code: FINDINGS if too many records were refused."""
    for split, counts in manifest.ledger.items():
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.quarantined_by_reason.items())
        line = f"{split}: {counts.listed} listed = {counts.converted} converted + {counts.quarantined} quarantined"
        print(f"{line} ({reasons})" if reasons else line)
    print(f"digest {manifest.digest}")
    quarantined, listed = (sum(getattr(c, n) for c in manifest.ledger.values()) for n in ("quarantined", "listed"))
    if quarantined <= max_quarantine_fraction * listed:
        return command_line.OK
    share = f"{quarantined} of {listed} scans"
    log.status(f"findings: {share} are in quarantine, more than {max_quarantine_fraction:.2%}", level="warning")
    return command_line.FINDINGS
