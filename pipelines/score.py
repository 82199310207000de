"""Score the shards of datasets with a model.

One element is one shard: a worker loads the model once, reads the tar in order, and writes one part under its final
name. A retry writes the same part again; a second run finds it and skips the shard.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from model.artifacts.model_files import read_model_files
from model.scoring.engine_selection import DTYPES, ENGINES, EngineRequest
from pipelines.runtime import command_line, log
from pipelines.runtime.flags import Flag, Fraction, make_config, parse_datetime
from pipelines.steps.score_run import (
    RunPlan,
    describe_dry_run,
    find_box_share,
    finish_run,
    log_plan,
    make_timings,
    measured_rate,
    plan_targets,
    sum_counts,
)
from pipelines.steps.score_shards import UNREAD, ScoringJob
from shards import storage
from shards.predictions.plan import Found, choose_tasks, find_targets
from shards.predictions.run import forget_checksums


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreConfig:
    """What to score, with what."""

    model: str
    """Folder of the model: a path or an fsspec URL."""
    inputs: Annotated[tuple[str, ...], Flag("--input")]
    """A dataset, or a folder of datasets; repeatable."""
    output: str
    """Folder of predictions, which go to <model-id> below it; a run that was killed is resumed."""
    split: str | None = None
    """Split to score; all if not given."""
    since: Annotated[datetime | None, Flag(type=parse_datetime, metavar="TIME")] = None
    """Only shards whose tar arrived at this ISO date or time (local if it names no zone) or later, by the clock of its
    store; on a disk a copy arrives when it is made, also by rsync -a. A clock that was wrong then is not noticed."""
    limit_shards: Annotated[int | None, Flag(metavar="N")] = None
    """Score at most so many shards, the rest later."""
    engine: Annotated[str | None, Flag(choices=ENGINES)] = None
    """Force the inference engine; otherwise that of earlier parts, else the fastest in a short trial."""
    dtype: Annotated[str | None, Flag(choices=DTYPES)] = None
    """Force the number format of activations; otherwise chosen like the engine."""
    batch_size: int | None = None
    """Scans that go through the network at once; 256 on a GPU and 64 on a processor if not given."""
    num_devices: Annotated[int | None, Flag("--devices", metavar="N")] = None
    """GPUs (or on a CPU processes) of this machine that score, each other shards; all GPUs if not given."""
    box_share: Annotated[float | None, Flag("--boxes", type=float, metavar="SHARE")] = None
    """Find boxes too: the parts of a class' map above this share of its peak; as in earlier parts if not given."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "limit_shards", "num_devices"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        if self.box_share is not None and not 0 < self.box_share < 1:
            raise ValueError(f"boxes must be a share above 0 and below 1, got {self.box_share}")
        EngineRequest(engine=self.engine, dtype=self.dtype)  # checked before anything is read


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flags(ScoreConfig):
    dry_run: bool = False
    """Print what would be scored and how long it would take; write nothing."""
    max_quarantine_fraction: Fraction = 0.01
    """Exit with 1 if more than this is refused."""
    log_format: Literal["text", "json"] = "text"
    """Format of the lines on stderr."""


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """The outcome of a run."""

    runs: tuple[dict[str, Any], ...]
    """`run.json` of every folder of predictions."""
    refused: tuple[str, ...]
    """One sentence for each dataset of an archive that could not be read."""
    num_unread: int
    """Shards that could not be read; their scans are among the `unscored`."""


def score_datasets(config: ScoreConfig, beam_options: Sequence[str] = ()) -> ScoreResult:
    """Score the shards that have no predictions of this model yet; `run.json` of each folder is written last.

    A shard that cannot be read does not keep others from being scored.

    Raises:
        ValueError: the model or a dataset cannot be read, or two datasets have shards of the same name.
    """
    command_line.check_beam_options(beam_options)
    model = read_model_files(config.model)
    found = find_targets(config.inputs, config.output, model.model_id)
    for target in found.targets:
        storage.sweep_temporaries(target.predictions_url)
    plan = plan_run(config, found, model.model_id)
    log_plan(plan, found)
    started = time.monotonic()
    counted: dict[str, dict[str, int]] = {}
    if plan.chosen:
        from pipelines.transforms.score import run_scoring

        for url, tasks in plan.chosen_by_folder.items():
            forget_checksums(url, {task.shard.name for task in tasks})
        request = EngineRequest(
            engine=config.engine,
            dtype=config.dtype,
            earlier=plan.engines,
            num_earlier_scans=plan.num_existing_scans,
            num_scans=plan.num_scans,
        )
        job = ScoringJob(
            model_url=config.model,
            model_id=model.model_id,
            request=request,
            batch_size=config.batch_size,
            box_share=config.box_share or find_box_share(found),  # a new part has what earlier ones have
        )
        counted["counters"] = run_scoring(plan, job, config.num_devices, beam_options)
    timings = make_timings(plan.num_scans, time.monotonic() - started) | counted
    runs = [
        finish_run(target, model, config.split, plan.chosen_by_folder.get(target.predictions_url, []), timings)
        for target in found.targets
    ]
    num_unread = counted.get("counters", {}).get(UNREAD, 0)
    return ScoreResult(tuple(runs), found.refused, num_unread)


def plan_run(config: ScoreConfig, found: Found, model_id: str) -> RunPlan:
    """Return what a run does; nothing is written for it."""
    plans = plan_targets(found, model_id, config.split, config.box_share)
    tasks = [task for _, plan in plans for task in plan.tasks]
    tasks.sort(key=lambda task: -task.shard.num_scans)  # so that the last worker does not end alone
    return RunPlan(tuple(plans), tuple(choose_tasks(tasks, config.since, config.limit_shards)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    words, beam_options = command_line.split_beam_options(argv)
    flags = make_config(_Flags, make_parser().parse_args(words))
    log.use_format(flags.log_format)
    # How the scores are computed, and what the trial found; for machines every shard and refused scan too.
    for name in ("pipelines", "model", *(["sixray"] if log.is_json() else [])):
        logging.getLogger(name).setLevel(logging.INFO)
    if flags.dry_run:
        return _print_dry_run(flags)
    return _report(score_datasets(flags, beam_options), flags.split, flags.max_quarantine_fraction)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's own flags."""
    return command_line.make_parser(
        "score", _Flags, "Score the scans of datasets with a model; what is scored already stays."
    )


def _print_dry_run(config: ScoreConfig) -> int:
    model = read_model_files(config.model)
    found = find_targets(config.inputs, config.output, model.model_id)
    plan = plan_run(config, found, model.model_id)
    for line in describe_dry_run(plan, found, measured_rate(plan, model.model_id)):
        print(line)
    return command_line.FINDINGS if found.refused else command_line.OK


def _report(result: ScoreResult, split: str | None, max_quarantine_fraction: float) -> int:
    if result.refused:
        log.status(f"findings: {len(result.refused)} datasets could not be read, see above", level="warning")
    if not result.runs:
        return command_line.FINDINGS
    counts = sum_counts(result.runs, split)
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts["quarantined_by_reason"].items())
    line = f"{counts['num_scans']} scans = {counts['num_scored']} scored + {counts['num_quarantined']} quarantined"
    print(f"{result.runs[0]['model_id']}: {line}" + (f" ({reasons})" if reasons else ""))
    too_many = counts["num_quarantined"] > max_quarantine_fraction * counts["num_scans"]
    if too_many:
        share = f"{counts['num_quarantined']} of {counts['num_scans']} scans"
        log.status(f"findings: {share} are in quarantine, more than {max_quarantine_fraction:.2%}", level="warning")
    if result.num_unread:
        log.status(f"error: {result.num_unread} shards could not be read; run the same command again", level="error")
        return command_line.STOPPED
    return command_line.FINDINGS if too_many or result.refused else command_line.OK


if __name__ == "__main__":
    sys.exit(main())
