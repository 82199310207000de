"""Score shards in a pipeline, one element a shard.

Beam's RunInference is not used. Its element is an example: decoded pixels would travel between steps, several times the
bytes of the shard. With a shard as the element it only loads the model once, which `setup` and `Shared` do in a few
lines. And it refuses a failed batch whole, while here a bad scan must cost no more than its own row.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.shared import Shared
from apache_beam.utils.windowed_value import WindowedValue

from pipelines.runtime import progress
from pipelines.runtime.progress import Progress
from pipelines.runtime.runners import make_beam_options, make_pipeline, read_counters
from pipelines.steps.score_on_devices import choose_devices, score_on_devices
from pipelines.steps.score_run import RunPlan
from pipelines.steps.score_shards import UNREAD, Outcome, ScoringJob, load_network, score_tasks
from shards.predictions.parts import PartInfo
from shards.predictions.plan import ShardTask
from shards.prefetch import PushedStream


def run_scoring(
    plan: RunPlan, job: ScoringJob, num_devices: int | None, beam_options: Sequence[str] = ()
) -> dict[str, int]:
    """Score the chosen shards of a plan and write their parts; return the pipeline's counters."""
    options = make_beam_options(beam_options)
    score_shard = ScoreShard(job, choose_devices(num_devices, options))
    with Progress("score", plan.num_scans, "scans"), make_pipeline(options) as pipeline:
        add_scoring(pipeline, plan.chosen, score_shard)
    return read_counters(pipeline, "score")


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
    """Score shards and write their parts, one after the other; a DoFn because of its model and its counters.

    Scoring takes the next shards before it is done with one, so what becomes of a shard comes with a later one, or when
    the bundle ends.
    """

    def __init__(self, job: ScoringJob, num_devices: int = 1) -> None:
        self.job = job
        self.num_devices = num_devices
        self.shared_network = Shared()
        self.scored_scans = Metrics.counter("score", "scored-scans")
        self.quarantined_scans = Metrics.counter("score", "quarantined-scans")
        self.read_bytes = Metrics.counter("score", "read-bytes")
        self.unread_shards = Metrics.counter("score", UNREAD)

    def setup(self) -> None:
        """Load the model, once a process whatever the number of its threads; each thread has its own decoders."""
        if self.num_devices > 1:
            self.score = partial(score_on_devices, self.job, self.num_devices)
            return
        from model.scoring.scorer import Scorer

        network = self.shared_network.acquire(partial(load_network, self.job), tag=self.job)
        report = partial(progress.advance, "score")
        self.score = partial(score_tasks, Scorer(network), self.job.model_id, report=report)

    def start_bundle(self) -> None:
        """Begin to score."""
        self.stream = PushedStream[ShardTask, Outcome](self.score)

    def process(self, task: ShardTask) -> Iterator[PartInfo]:
        """Hand a shard over; yield the parts that were written meanwhile."""
        yield from self._count(self.stream.push(task))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Yield the parts that are left."""
        for part in self._count(self.stream.finish()):
            yield GlobalWindows.windowed_value(part)

    def _count(self, outcomes: Iterable[Outcome]) -> Iterator[PartInfo]:
        for outcome in outcomes:
            if outcome.part is None:
                self.unread_shards.inc()
                continue
            self.scored_scans.inc(outcome.part.num_scored)
            self.quarantined_scans.inc(outcome.part.num_quarantined)
            self.read_bytes.inc(outcome.num_read_bytes)
            yield outcome.part
