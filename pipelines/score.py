"""How do shards become predictions? `sixray score`.

One element is one shard: a worker loads the model once, reads the tar in order, and writes one part under its final
name. A retry writes the same part again, a second run finds it and does nothing.

Beam's RunInference is not used. Its element is an example, which it groups into batches: either decoded pixels travel
between steps (several times the bytes of the shard), or an element is a shard after all and nothing of it is left but
loading a model once, which `setup` and `Shared` do in a few lines. And what it does with a failed batch, refuse it
whole, is what must not happen here: a bad scan costs its own row.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from model.identity import ModelFiles, read_model_files
from pipelines import options, progress
from pipelines.beam import make_beam_options, make_pipeline
from pipelines.progress import Progress
from shards import predictions, storage
from shards.dataset import Dataset, open_dataset
from shards.finish import count_reasons
from shards.predictions import PartInfo, write_part
from shards.resume import ScorePlan, ShardTask, held_parts, plan_scoring, unlisted_parts
from shards.scan_reader import read_rows
from shards.versions import installed_versions

if TYPE_CHECKING:  # PyTorch and DALI are imported by a worker that scores, not by a run that finds nothing to do
    from model.scorer import Scorer, ScoringNetwork

_VERSIONED = ("apache-beam", "nvidia-dali-cuda130", "timm", "torch")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreConfig:
    """What to score, with what."""

    model: str
    inputs: tuple[str, ...]
    output: str
    """PREDICTIONS; the model's id is the folder below it."""
    split: str | None = None
    """None: all."""
    batch_size: int = 64
    """Scans that go through the network at once."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {self.batch_size}")


def score(config: ScoreConfig, beam_options: Sequence[str] = ()) -> dict[str, Any]:
    """Score what has no predictions of this model yet; return `run.json`, which is written last.

    Raises:
        ValueError: the model or a dataset cannot be read, or two datasets have shards of the same name.
    """
    pipeline_options = make_beam_options(beam_options)
    model = read_model_files(config.model)
    datasets = [open_dataset(url) for url in config.inputs]
    url = storage.join_url(config.output, model.model_id)
    storage.sweep_temporaries(url)
    plan = plan_scoring(url, model.model_id, datasets, config.split)
    _say_plan(plan, unlisted_parts(url, datasets))
    started = time.monotonic()
    if plan.tasks:
        with Progress("score", plan.num_scans, "scans"), make_pipeline(pipeline_options) as pipeline:
            score_shards(pipeline, plan.tasks, ScoreShard(config.model, model.model_id, url, config.batch_size))
    return _finish_run(url, model, datasets, config, plan, time.monotonic() - started)


def score_shards(
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
    """Scores a shard and writes its part; a DoFn for its model's and its counters' sake."""

    def __init__(self, model_url: str, model_id: str, predictions_url: str, batch_size: int) -> None:
        self.model_url = model_url
        self.model_id = model_id
        self.predictions_url = predictions_url
        self.batch_size = batch_size
        self.shared_network = Shared()
        self.scored_scans = Metrics.counter("score", "scored-scans")
        self.quarantined_scans = Metrics.counter("score", "quarantined-scans")
        self.read_bytes = Metrics.counter("score", "read-bytes")

    def setup(self) -> None:
        """Load the model, once a process whatever the number of its threads; each thread has its own decoder."""
        from model.scorer import Scorer

        network = self.shared_network.acquire(partial(load_network, self.model_url, self.model_id), tag=self.model_id)
        self.scorer = Scorer(network, self.batch_size)

    def process(self, task: ShardTask) -> Iterator[PartInfo]:
        """Score one shard, write its part, and tell what is in it."""
        part, num_read_bytes = score_task(self.scorer, task, self.model_id, self.predictions_url)
        self.scored_scans.inc(part.num_scored)
        self.quarantined_scans.inc(part.num_quarantined)
        self.read_bytes.inc(num_read_bytes)
        yield part


def load_network(model_url: str, model_id: str) -> "ScoringNetwork":
    """Return the model on the best device of this machine; ValueError where it is another than was planned for."""
    from model.hardware import detect_hardware
    from model.scorer import ScoringNetwork
    from model.store import load_model

    model = load_model(model_url)
    if model.model_id != model_id:
        raise ValueError(
            f"model must be {model_id} until all shards are scored, got {model.model_id} ({model_url}); "
            f"it was exchanged during the run: run the same command again"
        )
    return ScoringNetwork(model, detect_hardware())


def score_task(scorer: "Scorer", task: ShardTask, model_id: str, predictions_url: str) -> tuple[PartInfo, int]:
    """Score one shard and write its part; return what is in it, and how many bytes of images were read."""
    rows = read_rows(task.samples_url, task.shard.num_scans)
    scores = scorer.score_shard(task.tar_url, rows, report=partial(progress.advance, "score"))
    info = PartInfo(
        model_id=model_id,
        shard=task.shard.name,
        shard_digest=task.shard.digest,
        split=task.shard.split,
        num_scored=scores.predictions.num_rows,
        num_quarantined=scores.quarantine.num_rows,
        quarantined_by_reason=count_reasons(scores.quarantine),
        engine=scorer.engine,
    )
    write_part(predictions_url, scores.predictions, scores.quarantine, info)
    return info, scores.num_read_bytes


def _finish_run(
    url: str, model: ModelFiles, datasets: Sequence[Dataset], config: ScoreConfig, plan: ScorePlan, seconds: float
) -> dict[str, Any]:
    """Write `run.json` from what lies on disk, unless it says so already."""
    facts = {"model_id": model.model_id} | {name: model.document[name] for name in ("classes", "num_levels")}
    parts = held_parts(url, model.model_id, datasets)
    state = predictions.run_document(facts, datasets, parts, config.split)
    before = predictions.read_run(url)
    written = {task.shard.name for task in plan.tasks}
    kept = (before or {}).get("sha256", {}).items()
    known = {file: checksum for file, checksum in kept if _shard_of(file) not in written}
    state["sha256"] = predictions.checksum_parts(url, parts, known)
    if before is not None and not plan.tasks:
        if state.items() <= before.items():
            return before
        # What is no longer, or newly, among the inputs: the parts are as they were, and so is how they were made.
        last = {name: before.get(name) for name in ("timings", "versions")}
    else:
        rate = plan.num_scans / seconds if plan.tasks else None
        timings = {"seconds": round(seconds, 3), "num_scans": plan.num_scans, "scans_per_second": rate}
        last = {"timings": timings, "versions": installed_versions(*_VERSIONED)}
    document = state | last
    predictions.write_run(url, document)
    return document


def _shard_of(file: str) -> str:
    return storage.base_name(file).removesuffix(".parquet")


def _say_plan(plan: ScorePlan, unlisted: Sequence[str]) -> None:
    reasons = ", ".join(f"{num} {why}" for why, num in plan.num_by_reason.items())
    todo = f"{len(plan.tasks)} shards to score ({reasons})" if plan.tasks else "no shard to score"
    print(f"score: {todo}, {plan.num_held} scored before", file=sys.stderr)
    for task in plan.tasks:
        if task.why in ("changed", "repaired", "incomplete"):
            print(f"score: {task.shard.name} is scored again: {task.why} since it was scored", file=sys.stderr)
    if unlisted:
        print(
            f"score: parts of shards that are not in the input stay, unlisted: {', '.join(unlisted)}", file=sys.stderr
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return options.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    words, beam_options = options.split_beam_options(argv)
    parser = options.make_parser("score", "Score the scans of datasets with a model; what is scored already stays.")
    parser.add_argument("--model", required=True, help="folder of the model: a path or an fsspec URL")
    parser.add_argument("--input", required=True, action="append", help="folder of a dataset; may be given repeatedly")
    parser.add_argument("--output", required=True, help="folder of predictions; a run that was killed is resumed")
    parser.add_argument("--split", help="score this split alone; all otherwise")
    parser.add_argument("--batch-size", type=int, default=64, help="scans that go through the network at once")
    parser.add_argument(
        "--max-quarantine-fraction", type=options.fraction, default=0.01, help="exit 1 if more is refused than this"
    )
    flags = parser.parse_args(words)
    config = ScoreConfig(
        model=flags.model,
        inputs=tuple(flags.input),
        output=flags.output,
        split=flags.split,
        batch_size=flags.batch_size,
    )
    run = score(config, beam_options)
    counts = run["counts"] if flags.split is None else run["splits"].get(flags.split, predictions.count_scans([]))
    _print_counts(run, counts)
    if counts["num_quarantined"] > flags.max_quarantine_fraction * counts["num_scans"]:
        share = f"{counts['num_quarantined']} of {counts['num_scans']} scans"
        print(f"findings: {share} are in quarantine, more than {flags.max_quarantine_fraction:.2%}", file=sys.stderr)
        return options.FINDINGS
    return options.OK


def _print_counts(run: dict[str, Any], counts: dict[str, Any]) -> None:
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts["quarantined_by_reason"].items())
    line = f"{counts['num_scans']} scans = {counts['num_scored']} scored + {counts['num_quarantined']} quarantined"
    print(f"{run['model_id']}: {line}" + (f" ({reasons})" if reasons else ""))


if __name__ == "__main__":
    sys.exit(main())
