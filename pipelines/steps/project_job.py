"""Say which items a projection draws for which scans, and what it writes."""

from dataclasses import dataclass
from typing import Annotated, Any

from pipelines.runtime.flags import NAMES, Flag
from pipelines.steps.dataset_inputs import describe_inputs, list_corrected, recorded_shard_bytes
from pipelines.steps.dataset_plan import DEFAULT_SHARD_BYTES, DatasetPlan
from shards import storage
from shards.format.classes import ClassSet
from shards.format.dataset import Dataset
from shards.writing.dataset_samples import Selection
from shards.writing.dataset_source import SampleSource
from shards.writing.projected_samples import ProjectionSource


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectConfig:
    """Which items to project into which scans."""

    items: str
    """A dataset whose boxes hold the items; may be the input."""
    input: str
    """A dataset; into its scans items are projected."""
    output: str
    """Folder of the new dataset; an unfinished one is resumed."""
    per_scan: int = 1
    """Projections of each scan, each with one object."""
    classes: Annotated[tuple[str, ...], NAMES] = ()
    """Classes of the items; all scored ones of the input if not given."""
    splits: Annotated[tuple[str, ...], Flag("--split", **NAMES.settings)] = ("train",)
    """Splits to project in: scans and items of one are never of another."""
    seed: int = 0
    """Seed of the choice of items and of their size, angle and place."""
    shard_bytes: int | None = None
    """Image bytes in a shard on average; if not given as the input was made."""
    overwrite: bool = False
    """Replace the output if it is the dataset of other inputs or options; else that is refused."""

    def __post_init__(self) -> None:
        if self.per_scan < 1:
            raise ValueError(f"per_scan must be >= 1, got {self.per_scan}")
        if self.shard_bytes is not None and self.shard_bytes < 1:
            raise ValueError(f"shard_bytes must be >= 1, got {self.shard_bytes}")
        if not self.splits:
            raise ValueError("splits must be at least one, got none")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectJob:
    """What is projected into what."""

    items: Dataset
    scans: Dataset
    classes: tuple[str, ...]
    """Of the items."""
    splits: tuple[str, ...]
    per_scan: int
    seed: int

    @property
    def selection(self) -> Selection:
        """The samples of the output that are those of the input."""
        manifest = self.scans.manifest
        unscored = tuple(name for name in manifest.classes if name not in manifest.scored_classes)
        return Selection(
            classes=ClassSet(manifest.scored_classes, unscored),
            metadata=manifest.metadata,
            added=("projected_from", *manifest.added_columns),
            keeps_duplicates=True,
        )


def find_job(config: ProjectConfig, items: Dataset, scans: Dataset) -> ProjectJob:
    """Return what is projected into what, checked against the datasets.

    Raises:
        ValueError: a dataset has projections already, or lacks a split or class that is asked for.
    """
    classes = _choose_classes(config, items, scans)
    return ProjectJob(
        items=items, scans=scans, classes=classes, splits=config.splits, per_scan=config.per_scan, seed=config.seed
    )


def plan_dataset(config: ProjectConfig, job: ProjectJob) -> DatasetPlan:
    """Return what a projection writes where."""
    selection, manifest = job.selection, job.scans.manifest
    source = SampleSource((job.scans,), selection.classes, selection.metadata, selection.added)
    shard_bytes = config.shard_bytes or recorded_shard_bytes([job.scans]) or DEFAULT_SHARD_BYTES
    return DatasetPlan(
        label="project",
        output=storage.normalise_url(config.output),
        source=ProjectionSource(source),
        shard_bytes=shard_bytes,
        options_record=_describe(job, shard_bytes),
        findings={name: getattr(manifest, name) for name in ("contradictions", "repairs")},
        corrected_rows=list_corrected((job.scans,)),
    )


def _choose_classes(config: ProjectConfig, items: Dataset, scans: Dataset) -> tuple[str, ...]:
    for dataset in (items, scans):
        if dataset.manifest.is_projected:
            raise ValueError(
                f"dataset must be of scans as a scanner took them, got one with projections ({dataset.url}); "
                f"take the one that it was made of"
            )
        if absent := sorted(set(config.splits) - set(dataset.manifest.splits)):
            known = list(dataset.manifest.splits)
            raise ValueError(f"split must be one of {known}, got {', '.join(absent)} ({dataset.url})")
    known = [name for name in scans.manifest.classes if name in items.manifest.classes]
    if absent := sorted(set(config.classes) - set(known)):
        raise ValueError(f"classes must be of those of both datasets, {known}, got {', '.join(absent)}")
    names = config.classes or tuple(name for name in known if name in scans.manifest.scored_classes)
    if not names:
        raise ValueError(f"items and input must have a class in common, got {items.manifest.classes} and {known}")
    return tuple(sorted(names))


def _describe(job: ProjectJob, shard_bytes: int) -> dict[str, Any]:
    return {
        "command": "project",
        "inputs": describe_inputs([job.scans, job.items]),
        "shard_bytes": shard_bytes,
        "per_scan": job.per_scan,
        "classes": list(job.classes),
        "splits": sorted(job.splits),
        "seed": job.seed,
    }
