"""Plan a scoring run, describe the plan, and write `run.json`."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from model.artifacts.model_files import ModelFiles
from pipelines.runtime import log
from shards import storage
from shards.host import installed_versions
from shards.predictions.attested import attest_parts
from shards.predictions.parts import Engine
from shards.predictions.plan import Found, ScorePlan, ShardTask, Target, existing_parts, plan_scoring, unlisted_parts
from shards.predictions.run import RUN_NAME, checksum_parts, count_scans, read_run, run_document, shard_of, write_run

_VERSIONED = ("apache-beam", "nvidia-dali-cuda130", "onnxruntime", "timm", "torch")
_WHY_AGAIN = {
    "changed": "changed since it was scored",
    "repaired": "repaired since it was scored",
    "boxes": "it has no boxes of the share that is asked for",
    "incomplete": "incomplete since it was scored",
    "unreadable": "whether refused scans of it were repaired cannot be read",
}
_UNFINISHED = "has no dataset.json and is left for a later run"


@dataclass(frozen=True)
class RunPlan:
    """What a run does over all folders of predictions."""

    plans: tuple[tuple[Target, ScorePlan], ...]
    """All that is to be scored, folder by folder."""
    chosen: tuple[ShardTask, ...]
    """What this run scores of it, largest shards first."""

    @functools.cached_property
    def chosen_by_folder(self) -> dict[str, list[ShardTask]]:
        """The same by the folder of predictions that their parts go to."""
        found: dict[str, list[ShardTask]] = {}
        for task in self.chosen:
            found.setdefault(task.predictions_url, []).append(task)
        return found

    @property
    def num_scans(self) -> int:
        """Scans that this run scores."""
        return sum(task.shard.num_scans for task in self.chosen)

    @property
    def num_existing(self) -> int:
        """Shards that are scored already."""
        return sum(plan.num_existing for _, plan in self.plans)

    @property
    def num_left(self) -> int:
        """Shards that are to be scored, and not by this run."""
        return sum(len(plan.tasks) for _, plan in self.plans) - len(self.chosen)

    @property
    def num_existing_scans(self) -> int:
        """Scans in the parts that are there."""
        return sum(plan.num_existing_scans for _, plan in self.plans)

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines of the existing parts, the most frequent first."""
        found = [
            engine for _, plan in sorted(self.plans, key=lambda pair: -pair[1].num_existing) for engine in plan.engines
        ]
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class RunRate:
    """How fast an earlier run was."""

    scans_per_second: float
    source: str
    """Its `run.json`."""


def find_box_share(found: Found) -> float | None:
    """Return the share of the boxes in earlier runs; None if none has boxes."""
    runs = [read_run(target.predictions_url) or {} for target in found.targets]
    return next((run["detections"].get("box_share") for run in runs if "detections" in run), None)


def plan_targets(
    found: Found, model_id: str, split: str | None, box_share: float | None
) -> list[tuple[Target, ScorePlan]]:
    """Return the plan of each folder; ValueError if no dataset has the split."""
    datasets = [dataset for target in found.targets for dataset in target.datasets]
    if split is not None and datasets and not any(split in dataset.manifest.splits for dataset in datasets):
        datasets[0].shards(split)  # says which splits there are
    plans = []
    for target in found.targets:
        has_split = split is None or any(split in dataset.manifest.splits for dataset in target.datasets)
        asked = (target.predictions_url, model_id, target.datasets, split, box_share)
        plans.append((target, plan_scoring(*asked) if has_split else ScorePlan((), 0)))
    return plans


def measured_rate(plan: RunPlan, model_id: str) -> RunRate | None:
    """Return the rate of the longest earlier run: of this model, else of another of the same network and backbone.

    Other models' folders lie beside this one's.
    """
    own = [target.predictions_url for target, _ in plan.plans]
    kind = model_id.rpartition("-")[0]
    parents = {url.rpartition("/")[0] for url in own}
    siblings = [url for parent in sorted(parents) if storage.exists(parent) for url in storage.list_folders(parent)]
    others = [url for url in siblings if storage.base_name(url).rpartition("-")[0] == kind and url not in own]
    for urls in (own, others):
        longest = [(longest, url) for url in urls if (longest := _longest(_known_timings(read_run(url))))]
        if longest:
            timings, url = max(longest, key=lambda pair: pair[0]["num_scans"])
            return RunRate(float(timings["scans_per_second"]), storage.join_url(url, RUN_NAME))
    return None


def _known_timings(run: Mapping[str, Any] | None) -> list[dict[str, Any] | None]:
    return [] if run is None else [run.get("longest_run"), run.get("timings")]


def _longest(runs: Iterable[dict[str, Any] | None]) -> dict[str, Any] | None:
    # A run of a few scans is all start-up: the longest run of a folder predicts the next one best.
    rated = [timings for timings in runs if timings and timings.get("scans_per_second")]
    return max(rated, key=lambda timings: timings["num_scans"], default=None)


def log_plan(plan: RunPlan, found: Found) -> None:
    """Log what the run will do and what it leaves out."""
    log.status(f"score: {_summary(plan)}", event="plan", num_shards=len(plan.chosen), num_scans=plan.num_scans)
    for task in plan.chosen:
        if task.why in _WHY_AGAIN:
            log.status(f"score: {task.shard.name} is scored again: {_WHY_AGAIN[task.why]}", shard=task.shard.name)
    for target, _ in plan.plans:
        if unlisted := unlisted_parts(target.predictions_url, target.datasets):
            log.status(f"score: parts of shards that are not in the input stay, unlisted: {', '.join(unlisted)}")
        if others := _replaced_datasets(target, plan):
            log.status(
                f"findings: {target.predictions_url} held scores of {', '.join(others)}; those of shards with the same "
                f"names are replaced; to keep both, name the folder that holds the datasets as --input, or give each "
                f"an --output of its own",
                level="warning",
            )
    for folder in found.unfinished:
        log.status(f"score: {folder} {_UNFINISHED}", folder=folder)
    for sentence in found.refused:
        log.status(f"findings: {sentence}", level="warning")


def _replaced_datasets(target: Target, plan: RunPlan) -> list[str]:
    """Return the datasets, all of them others, whose parts this run writes over."""
    url = target.predictions_url
    if not any(task.why == "changed" for task in plan.chosen_by_folder.get(url, [])):
        return []
    before = [dataset["url"] for dataset in (read_run(url) or {}).get("datasets", [])]
    return before if set(before).isdisjoint(dataset.url for dataset in target.datasets) else []


def describe_dry_run(plan: RunPlan, found: Found, rate: RunRate | None) -> Iterator[str]:
    """Yield the lines that `--dry-run` prints: every shard, the sum, how long it would take, and what is left out."""
    for task in plan.chosen:
        yield f"{task.predictions_url}  {task.shard.name}  {task.shard.num_scans} scans  {task.why}"
    yield _summary(plan)
    if plan.chosen and rate is None:
        yield f"{plan.num_scans} scans; no earlier run of this model or its kind shows how long they take"
    elif plan.chosen and rate is not None:
        minutes, seconds = divmod(round(plan.num_scans / rate.scans_per_second), 60)
        hours, minutes = divmod(minutes, 60)
        took = f"about {hours}:{minutes:02}:{seconds:02} at {rate.scans_per_second:.1f} scans/s"
        yield f"{plan.num_scans} scans, {took}, the rate of {rate.source}"
    yield from (f"{folder} {_UNFINISHED}" for folder in found.unfinished)
    yield from (f"findings: {sentence}" for sentence in found.refused)


def _summary(plan: RunPlan) -> str:
    reasons: dict[str, int] = {}
    for task in plan.chosen:
        reasons[task.why] = reasons.get(task.why, 0) + 1
    by_reason = ", ".join(f"{num} {why}" for why, num in sorted(reasons.items()))
    todo = f"{len(plan.chosen)} shards to score ({by_reason})" if plan.chosen else "no shard to score"
    left = f", {plan.num_left} left for a later run" if plan.num_left else ""
    return f"{todo}, {plan.num_existing} scored before{left}"


def finish_run(
    target: Target, model: ModelFiles, split: str | None, tasks: Sequence[ShardTask], timings: dict[str, Any]
) -> dict[str, Any]:
    """Write a folder's `run.json` from what lies on disk, unless it is up to date; return it.

    Args:
        target: the folder, and what was to be scored into it.
        model: that scored.
        split: that was asked for, None for all.
        tasks: of this folder that the run did.
        timings: of the whole run.
    """
    url, datasets = target.predictions_url, target.datasets
    parts = existing_parts(url, model.model_id, datasets)
    state = run_document(model.document | {"model_id": model.model_id}, datasets, parts, split)
    before = read_run(url)
    written = {task.shard.name for task in tasks}
    kept = (before or {}).get("sha256", {}).items()
    known = {file: checksum for file, checksum in kept if shard_of(file) not in written}
    state["sha256"] = checksum_parts(url, parts, known)
    roots = (before or {}).get("attestation", {}).get("shards", {})
    unchanged = {shard: root for shard, root in roots.items() if f"{shard}.parquet" in known}
    if tasks or roots or before is None:  # runs of earlier releases do without: complete ones stay untouched
        state["attestation"] = attest_parts(url, parts, state["classes"], unchanged)
    if before is not None and not tasks:
        added = {"trained_on"} - before.keys()  # as above
        if {name: value for name, value in state.items() if name not in added}.items() <= before.items():
            return before
        # What is no longer, or newly, among the inputs: the parts are as they were, and so is how they were made.
        last = {name: before.get(name) for name in ("timings", "longest_run", "versions")}
    else:
        longest = _longest([*_known_timings(before), timings])
        last = {"timings": timings, "longest_run": longest, "versions": installed_versions(*_VERSIONED)}
    document = state | last
    write_run(url, document)
    if tasks and existing_parts(url, model.model_id, datasets) != parts:
        return finish_run(target, model, split, tasks, timings)  # another run has written parts in the meantime
    return document


def make_timings(num_scans: int, seconds: float) -> dict[str, Any]:
    """Return the `timings` of a run that ends now, loading the model included; no rate where nothing was scored."""
    rate = num_scans / seconds if num_scans else None
    finished_at = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "finished_at": finished_at,
        "seconds": round(seconds, 3),
        "num_scans": num_scans,
        "scans_per_second": rate,
    }


def sum_counts(runs: Sequence[dict[str, Any]], split: str | None) -> dict[str, Any]:
    """Return the counts over the runs' parts, of a split or all."""
    every = [run["counts"] if split is None else run["splits"].get(split, count_scans([])) for run in runs]
    reasons: dict[str, int] = {}
    for counts in every:
        for reason, num in counts["quarantined_by_reason"].items():
            reasons[reason] = reasons.get(reason, 0) + num
    names = ("num_scans", "num_scored", "num_quarantined")
    return {name: sum(counts[name] for counts in every) for name in names} | {
        "quarantined_by_reason": dict(sorted(reasons.items()))
    }
