"""Score the shards of datasets with a model.

One element is one shard: a worker loads the model once, reads the tar in order, and writes one part under its final
name. A retry writes the same part again; a second run finds it and skips the shard.

Beam's RunInference is not used. Its element is an example: decoded pixels would travel between steps, several times the
bytes of the shard. With a shard as the element it only loads the model once, which `setup` and `Shared` do in a few
lines. And it refuses a failed batch whole, while here a bad scan must cost no more than its own row.
"""

import argparse
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from model.artifacts.model_files import read_model_files
from model.scoring.engine_selection import DTYPES, ENGINES, EngineRequest
from pipelines.runtime import command_line, log, progress
from pipelines.runtime.flags import Flag, Fraction, make_config, parse_datetime
from pipelines.runtime.progress import Progress
from pipelines.runtime.runners import make_beam_options, make_pipeline, read_counters
from pipelines.steps.score_run import (
    RunPlan,
    describe_dry_run,
    finish_run,
    log_plan,
    make_timings,
    measured_rate,
    plan_targets,
    sum_counts,
)
from shards import storage
from shards.format.manifest import count_reasons
from shards.format.shard_reader import read_rows
from shards.predictions.parts import Engine, PartInfo, quarantine_part_url, read_part_info, write_part
from shards.predictions.plan import ShardTask, choose_tasks
from shards.predictions.run import forget_checksums
from shards.predictions.targets import Found, find_targets
from shards.storage import mask_secrets

if TYPE_CHECKING:  # PyTorch and DALI are imported by a worker that scores, not by a run that finds nothing to do
    from model.scoring.scorer import Scorer, ScoringNetwork, ShardScores

UNREAD = "unread-shards"
"""The counter of shards that could not be read."""

_logger = logging.getLogger(__name__)


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
    """Only shards whose tar was last written at this ISO date or time (local if it names no zone) or later, by the
    clock of its store."""
    limit_shards: Annotated[int | None, Flag(metavar="N")] = None
    """Score at most so many shards, the rest later."""
    engine: Annotated[str | None, Flag(choices=ENGINES)] = None
    """Force the inference engine; otherwise that of earlier parts, else the fastest in a short trial."""
    dtype: Annotated[str | None, Flag(choices=DTYPES)] = None
    """Force the number format of activations; otherwise chosen like the engine."""
    batch_size: int = 64
    """Scans that go through the network at once."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {self.batch_size}")
        if self.limit_shards is not None and self.limit_shards < 1:
            raise ValueError(f"limit_shards must be >= 1, got {self.limit_shards}")
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
    pipeline_options = make_beam_options(beam_options)
    model = read_model_files(config.model)
    found = find_targets(config.inputs, config.output, model.model_id)
    for target in found.targets:
        storage.sweep_temporaries(target.predictions_url)
    plan = plan_run(config, found, model.model_id)
    log_plan(plan, found)
    started = time.monotonic()
    counted: dict[str, dict[str, int]] = {}
    if plan.chosen:
        for url, tasks in plan.chosen_by_folder.items():
            forget_checksums(url, {task.shard.name for task in tasks})
        request = EngineRequest(
            engine=config.engine,
            dtype=config.dtype,
            earlier=plan.engines,
            num_earlier_scans=plan.num_existing_scans,
            num_scans=plan.num_scans,
        )
        with Progress("score", plan.num_scans, "scans"), make_pipeline(pipeline_options) as pipeline:
            add_scoring(pipeline, plan.chosen, ScoreShard(config.model, model.model_id, request, config.batch_size))
        counted["counters"] = read_counters(pipeline, "score")
    timings = make_timings(plan.num_scans, time.monotonic() - started) | counted
    runs = [
        finish_run(target, model, config.split, plan.chosen_by_folder.get(target.predictions_url, []), timings)
        for target in found.targets
    ]
    num_unread = counted.get("counters", {}).get(UNREAD, 0)
    return ScoreResult(tuple(runs), found.refused, num_unread)


def plan_run(config: ScoreConfig, found: Found, model_id: str) -> RunPlan:
    """Return what a run does; nothing is written for it."""
    plans = plan_targets(found, model_id, config.split)
    tasks = [task for _, plan in plans for task in plan.tasks]
    tasks.sort(key=lambda task: -task.shard.num_scans)  # so that the last worker does not end alone
    return RunPlan(tuple(plans), tuple(choose_tasks(tasks, config.since, config.limit_shards)))


def add_scoring(
    pipeline: beam.Pipeline, tasks: Sequence[ShardTask], score_shard: "ScoreShard"
) -> beam.PCollection[PartInfo]:
    """Add the scoring of shards to a pipeline."""
    return (
        pipeline
        | "CreateTasks" >> beam.Create(tasks)
        # ShardTask: where a shard is; its bytes are read by the worker that scores it
        | "SpreadTasks" >> beam.Reshuffle()
        | "ScoreShard" >> beam.ParDo(score_shard)
        # PartInfo
    )


class ScoreShard(beam.DoFn):
    """Score a shard and write its part; a DoFn because of its model and its counters."""

    def __init__(self, model_url: str, model_id: str, request: EngineRequest, batch_size: int) -> None:
        self.model_url = model_url
        self.model_id = model_id
        self.request = request
        self.batch_size = batch_size
        self.shared_network = Shared()
        self.scored_scans = Metrics.counter("score", "scored-scans")
        self.quarantined_scans = Metrics.counter("score", "quarantined-scans")
        self.read_bytes = Metrics.counter("score", "read-bytes")
        self.unread_shards = Metrics.counter("score", UNREAD)

    def setup(self) -> None:
        """Load the model, once a process whatever the number of its threads; each thread has its own decoder."""
        from model.scoring.scorer import Scorer

        load = partial(load_network, self.model_url, self.model_id, self.request)
        network = self.shared_network.acquire(load, tag=(self.model_id, self.request))
        self.scorer = Scorer(network, self.batch_size)

    def process(self, task: ShardTask) -> Iterator[PartInfo]:
        """Score one shard, write its part and yield its contents; yield nothing if the shard cannot be read."""
        if (held := find_part(task, self.model_id)) is not None:
            yield held
            return
        try:
            scores = read_and_score(self.scorer, task)
        except (OSError, ValueError) as error:
            text = mask_secrets(str(error))
            log.status(f"findings: {task.shard.name} cannot be read and stays unscored: {text}", level="warning")
            log.event("unread", job="score", shard=task.shard.name, reason=text)
            self.unread_shards.inc()
            return
        part = write_scores(task, scores, self.scorer.engine, self.model_id)
        self.scored_scans.inc(part.num_scored)
        self.quarantined_scans.inc(part.num_quarantined)
        self.read_bytes.inc(scores.num_read_bytes)
        counts = {"num_scored": part.num_scored, "num_quarantined": part.num_quarantined}
        log.event("scored", job="score", shard=part.shard, **counts)
        yield part


def load_network(model_url: str, model_id: str, request: EngineRequest) -> "ScoringNetwork":
    """Return the model on the best device of this machine, by the requested engine or the fastest.

    Raises:
        ValueError: the model is another than was planned for, or what was asked for cannot run here.
    """
    import torch

    from model.artifacts.saved_model import load_model
    from model.hardware import detect_hardware
    from model.scoring.scorer import ScoringNetwork

    model = load_model(model_url)
    if model.model_id != model_id:
        raise ValueError(
            f"model must be {model_id} until all shards are scored, got {model.model_id} ({model_url}); "
            f"it was replaced during the run: run the same command again"
        )
    hardware = detect_hardware()
    torch.set_num_threads(min(torch.get_num_threads(), hardware.num_cores))  # PyTorch sees no container's quota
    network = ScoringNetwork(model, hardware, request)
    _logger.info("scoring by %s on %s (%s cores)", network.spec, hardware.name, hardware.num_cores)
    return network


def find_part(task: ShardTask, model_id: str) -> PartInfo | None:
    """Return a part that was written since the run was planned, by a retry or by another run."""
    if task.why != "unscored":
        return None
    info = read_part_info(task.predictions_url, task.shard.name)
    if info is None or not info.is_of(task.shard, model_id):
        return None
    quarantine_url = quarantine_part_url(task.predictions_url, task.shard.name)
    return info if info.num_quarantined == 0 or storage.exists(quarantine_url) else None


def read_and_score(scorer: "Scorer", task: ShardTask) -> "ShardScores":
    """Return the scores of one shard.

    Raises:
        OSError: the shard is there but cannot be read now.
        ValueError: its table of samples is not what the manifest says.
        RuntimeError: the decoder or the device fails on sound images.
    """
    rows = read_rows(task.samples_url, task.shard.num_scans)
    return scorer.score_shard(task.tar_url, rows, report=partial(progress.advance, "score"))


def write_scores(task: ShardTask, scores: "ShardScores", engine: Engine, model_id: str) -> PartInfo:
    """Write the part of one shard; return its contents."""
    info = PartInfo(
        model_id=model_id,
        shard=task.shard.name,
        shard_digest=task.shard.digest,
        split=task.shard.split,
        num_scored=scores.predictions.num_rows,
        num_quarantined=scores.quarantine.num_rows,
        quarantined_by_reason=count_reasons(scores.quarantine),
        engine=engine,
    )
    write_part(task.predictions_url, scores.predictions, scores.quarantine, info)
    for row in scores.quarantine.select(["key", "reason"]).to_pylist():
        log.event("refused", job="score", shard=task.shard.name, key=row["key"], reason=row["reason"])
    return info


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    words, beam_options = command_line.split_beam_options(argv)
    flags = make_config(_Flags, make_parser().parse_args(words))
    log.use_format(flags.log_format)
    # How the scores are computed, and what the trial found; for machines every shard and refused scan too.
    for name in (__name__, "model", *(["sixray"] if log.is_json() else [])):
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
