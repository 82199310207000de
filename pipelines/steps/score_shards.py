"""Score shards and write their parts."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from model.scoring.engine_selection import EngineRequest
from pipelines.runtime import log
from shards import storage
from shards.format.manifest import count_reasons
from shards.predictions.detections import write_detections
from shards.predictions.parts import Engine, PartBoxes, PartInfo, quarantine_part_url, read_part_info, write_part
from shards.predictions.plan import ShardTask
from shards.prefetch import map_prefetched
from shards.storage import mask_secrets

if TYPE_CHECKING:  # PyTorch and DALI are imported by a process that scores, not by a run that finds nothing to do
    from model.scoring.scorer import Report, Scorer, ShardScores, UnreadShard
    from model.scoring.scoring_network import ScoringNetwork

UNREAD = "unread-shards"
"""The counter of shards that could not be read."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringJob:
    """What a process must know to score any shard of a run."""

    model_url: str
    model_id: str
    """Of the model that the run was planned for."""
    request: EngineRequest
    batch_size: int | None
    """None: what suits the device."""
    box_share: float | None = None
    """Of the peak of a class' map, which its boxes reach; None: no boxes."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a shard."""

    part: PartInfo | None
    """None: it could not be read and stays unscored."""
    num_read_bytes: int = 0


def load_network(job: ScoringJob, device: int | None = None, num_devices: int = 1) -> "ScoringNetwork":
    """Return the model on a device of this machine, by the requested engine or the fastest.

    Args:
        job: names the model.
        device: index of this process among those that share the machine's devices; None: it is alone.
        num_devices: that share the machine; its cores are divided among them.

    Raises:
        ValueError: the model is another than was planned for, or what was asked for cannot run here.
    """
    import torch

    from model.artifacts.saved_model import load_model
    from model.hardware import detect_hardware
    from model.scoring.scoring_network import ScoringNetwork

    model = load_model(job.model_url)
    if model.model_id != job.model_id:
        raise ValueError(
            f"model must be {job.model_id} until all shards are scored, got {model.model_id} ({job.model_url}); "
            f"it was replaced during the run: run the same command again"
        )
    hardware = detect_hardware()
    hardware = replace(hardware, num_cores=max(1, hardware.num_cores // num_devices))
    torch.set_num_threads(min(torch.get_num_threads(), hardware.num_cores))  # PyTorch sees no container's quota
    network = ScoringNetwork(model, hardware, job.request, job.batch_size, job.box_share)
    where = hardware.name if device is None else f"{hardware.name}, device {device} of {num_devices}"
    _logger.info("scoring by %s on %s (%s cores)", network.spec, where, hardware.num_cores)
    return network


def score_tasks(
    scorer: "Scorer", model_id: str, tasks: Iterable[ShardTask], report: "Report | None" = None
) -> Iterator[Outcome]:
    """Score shards, write their parts, and yield what became of each, in order; parts that are there by now are left.

    The next shard is opened and the one before is written while one is scored.

    Raises:
        OSError: a part cannot be written, or memory ended.
        RuntimeError: the decoder or the device fails on sound images.
    """
    from model.scoring.scorer import ShardFiles

    taken: deque[ShardTask] = deque()

    def take() -> Iterator[ShardFiles]:
        look_up = partial(_look_up, model_id, scorer.box_share)
        for task, is_done in map_prefetched(look_up, tasks, num_threads=1, depth=1):
            if not is_done:
                taken.append(task)
                yield ShardFiles(task.tar_url, task.samples_url, task.shard.num_scans)

    def scored() -> Iterator[tuple[ShardTask, "ShardScores | UnreadShard"]]:
        with closing(scorer.score_shards(take(), report)) as found:
            yield from ((taken.popleft(), scores) for scores in found)

    yield from map_prefetched(partial(_write, scorer, model_id), scored(), num_threads=1, depth=1)


def _look_up(model_id: str, box_share: float | None, task: ShardTask) -> tuple[ShardTask, bool]:
    return task, find_part(task, model_id, box_share) is not None


def find_part(task: ShardTask, model_id: str, box_share: float | None = None) -> PartInfo | None:
    """Return a part that was written since the run was planned, by a retry or by another run."""
    if task.why != "unscored":
        return None
    info = read_part_info(task.predictions_url, task.shard.name)
    if info is None or not (info.is_of(task.shard, model_id) and info.has_boxes(box_share)):
        return None
    quarantine_url = quarantine_part_url(task.predictions_url, task.shard.name)
    return info if info.num_quarantined == 0 or storage.exists(quarantine_url) else None


def _write(scorer: "Scorer", model_id: str, found: tuple[ShardTask, "ShardScores | UnreadShard"]) -> Outcome:
    from model.scoring.scorer import UnreadShard

    task, scores = found
    if isinstance(scores, UnreadShard):
        text = mask_secrets(str(scores.error))
        log.status(f"findings: {task.shard.name} cannot be read and stays unscored: {text}", level="warning")
        log.event("unread", job="score", shard=task.shard.name, reason=text)
        return Outcome(None)
    part = write_scores(task, scores, scorer.engine, model_id, scorer.box_share)
    counts = {"num_scored": part.num_scored, "num_quarantined": part.num_quarantined}
    log.event("scored", job="score", shard=part.shard, **counts)
    return Outcome(part, scores.num_read_bytes)


def write_scores(
    task: ShardTask, scores: "ShardScores", engine: Engine, model_id: str, box_share: float | None
) -> PartInfo:
    """Write the part of one shard, before it its boxes; return its contents."""
    boxes = None
    if box_share is not None and scores.detections is not None:
        write_detections(task.predictions_url, task.shard.name, scores.detections)
        boxes = PartBoxes(box_share, scores.detections.num_rows)
    info = PartInfo(
        model_id=model_id,
        shard=task.shard.name,
        shard_digest=task.shard.digest,
        split=task.shard.split,
        num_scored=scores.predictions.num_rows,
        num_quarantined=scores.quarantine.num_rows,
        quarantined_by_reason=count_reasons(scores.quarantine),
        engine=engine,
        boxes=boxes,
    )
    write_part(task.predictions_url, scores.predictions, scores.quarantine, info)
    for row in scores.quarantine.select(["key", "reason"]).to_pylist():
        log.event("refused", job="score", shard=task.shard.name, key=row["key"], reason=row["reason"])
    return info
