"""Say which samples of which datasets a resharding takes, and how it lays them out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pipelines.runtime.flags import NAMES, Flag
from pipelines.steps.dataset_inputs import describe_inputs, list_corrected, recorded_shard_bytes
from pipelines.steps.dataset_plan import DEFAULT_SHARD_BYTES, DatasetPlan
from shards import storage
from shards.curation.contradictions import add_contradictions
from shards.curation.corrections import find_changes, read_corrections
from shards.curation.sql_filter import check_condition
from shards.format.classes import ClassSet
from shards.format.dataset import Dataset
from shards.format.manifest import SHARD_NAME
from shards.format.parquet import samples_schema
from shards.writing.dataset_samples import Selection, join_metadata
from shards.writing.dataset_source import SampleSource

Subset = Literal["all", "positives", "10", "100", "1000"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReshardConfig:
    """Which samples to take from where, and how to lay them out."""

    inputs: Annotated[tuple[str, ...], Flag("--input")]
    """A dataset; repeatable, several become one."""
    output: str
    """Folder of the new dataset; an unfinished one is resumed."""
    shard_bytes: int | None = None
    """Image bytes in a shard on average; if not given as the inputs were made, and splits that are taken whole from one
    input keep their number of shards."""
    subset: Subset = "all"
    """Samples to take, by their labels."""
    seed: int = 0
    """Seed of the samples that a subset of 10, 100 or 1000 draws."""
    splits: Annotated[tuple[str, ...], Flag("--split", **NAMES.settings)] = ()
    """Splits to take; all if not given."""
    classes: Annotated[tuple[str, ...], NAMES] = ()
    """Classes to keep in labels and boxes; all if not given, then all inputs must have the same."""
    where: Annotated[tuple[str, ...], Flag(metavar="SQL")] = ()
    """SQL condition over the columns of samples, e.g. "labels.Gun = 1 and metadata.site = 'A'"; of several all must be
    true."""
    corrections: str | None = None
    """File of corrected labels and boxes, as `sixray annotate import` writes it."""
    overwrite: bool = False
    """Replace the output if it is the dataset of other inputs or options; else that is refused."""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError("inputs must be at least one dataset, got none")
        if self.subset not in get_args(Subset):
            raise ValueError(f"subset must be one of {get_args(Subset)}, got {self.subset!r}")
        if self.shard_bytes is not None and self.shard_bytes < 1:
            raise ValueError(f"shard_bytes must be >= 1, got {self.shard_bytes}")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must be named once each, got {self.classes}")


def plan_dataset(config: ReshardConfig, inputs: tuple[Dataset, ...], selection: Selection) -> DatasetPlan:
    """Return what a resharding writes where."""
    shard_bytes = config.shard_bytes or recorded_shard_bytes(inputs) or DEFAULT_SHARD_BYTES
    # What was found when the inputs were converted still holds where every record of theirs comes along.
    is_whole = selection.takes_all and not selection.splits and not config.classes
    return DatasetPlan(
        label="reshard",
        output=storage.normalise_url(config.output),
        source=SampleSource(
            inputs, selection.classes, selection.metadata, selection.added, bool(selection.corrections)
        ),
        shard_bytes=shard_bytes,
        options_record=_describe(config, inputs, selection, shard_bytes),
        findings={
            name: add_contradictions(getattr(item.manifest, name) for item in inputs) if is_whole else {}
            for name in ("contradictions", "repairs", "skipped")
        },
        kept_num_shards=_keep_num_shards(inputs, selection, shard_bytes),
        corrected_rows=[*list_corrected(inputs), *selection.changes],
    )


def make_selection(config: ReshardConfig, inputs: Sequence[Dataset]) -> Selection:
    """Return the selection of the config, checked against the inputs.

    Raises:
        ValueError: no input has a split or class that is asked for, inputs differ in classes and none are named, or
            the condition is none.
    """
    known = sorted({split for dataset in inputs for split in dataset.manifest.splits})
    if absent := sorted(set(config.splits) - set(known)):
        raise ValueError(f"split must be one of {known}, got {', '.join(absent)} ({', '.join(config.inputs)})")
    corrections = read_corrections(config.corrections) if config.corrections else []
    changes = find_changes(inputs, corrections, config.corrections or "")
    added = {name for dataset in inputs for name in dataset.manifest.added_columns}
    added |= {"corrected_by"} if changes else set()
    for condition in config.where:
        for dataset in inputs:
            manifest = dataset.manifest
            schema = samples_schema(manifest.classes, manifest.metadata, added=added)
            check_condition(condition, schema)
    return Selection(
        classes=_choose_classes(config.classes, inputs),
        metadata=join_metadata(dataset.manifest.metadata for dataset in inputs),
        added=tuple(name for name in ("projected_from", "corrected_by") if name in added),
        corrections={of.key: of for of in corrections} if changes else {},
        changes=tuple(changes),
        splits=tuple(sorted(config.splits)),
        condition=_join_conditions(config.where),
        subset=config.subset,
        seed=config.seed,
    )


def _join_conditions(conditions: Sequence[str]) -> str:
    # On a line of its own, so that a comment at the end of a condition ends with it.
    return conditions[0] if len(conditions) == 1 else " and ".join(f"({condition}\n)" for condition in conditions)


def _choose_classes(names: tuple[str, ...], inputs: Sequence[Dataset]) -> ClassSet:
    manifests = [dataset.manifest for dataset in inputs]
    if not names:
        if len({(manifest.classes, manifest.scored_classes) for manifest in manifests}) > 1:
            found = " and ".join(sorted({", ".join(manifest.classes) for manifest in manifests}))
            raise ValueError(f"inputs must have the same classes, got {found}; say by --classes which to keep")
        names = manifests[0].classes
    known = {name for manifest in manifests for name in manifest.classes}
    if absent := sorted(set(names) - known):
        raise ValueError(f"classes must be of {sorted(known)}, got {', '.join(absent)}")
    unscored = {name for manifest in manifests for name in manifest.classes if name not in manifest.scored_classes}
    return ClassSet(
        tuple(name for name in names if name not in unscored), tuple(name for name in names if name in unscored)
    )


def _keep_num_shards(inputs: Sequence[Dataset], selection: Selection, shard_bytes: int) -> dict[str, int]:
    """Return the number of shards of each split if one dataset is resharded with its own settings.

    It would not follow from the bytes: `convert` counted those of scans that it then refused.
    """
    if len(inputs) > 1 or not selection.takes_all or shard_bytes != recorded_shard_bytes(inputs):
        return {}
    return {
        found["split"]: int(found["num"])
        for info in inputs[0].manifest.shards
        if (found := SHARD_NAME.fullmatch(info.name))
    }


def _describe(
    config: ReshardConfig, inputs: Sequence[Dataset], selection: Selection, shard_bytes: int
) -> dict[str, Any]:
    return {
        "command": "reshard",
        "inputs": describe_inputs(inputs),
        "shard_bytes": shard_bytes,
        "subset": config.subset,
        "seed": config.seed,
        "splits": list(selection.splits),
        "classes": list(config.classes),
        "where": _join_conditions(config.where),
        **({"corrections": storage.sha256_of(config.corrections)} if config.corrections else {}),
    }
