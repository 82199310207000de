"""Find the datasets to score and plan which of their shards must be, by comparing existing parts with them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from shards import storage
from shards.format.dataset import Dataset, open_dataset
from shards.format.manifest import MANIFEST_NAME, ShardInfo
from shards.format.parquet import read_parquet
from shards.format.shard_reader import ShardReader, read_rows
from shards.predictions.detections import detections_url
from shards.predictions.parts import Engine, PartInfo, part_url, quarantine_part_url, read_part_infos


@dataclass(frozen=True, slots=True)
class Target:
    """A folder of predictions and the datasets it covers."""

    predictions_url: str
    """PREDICTIONS/<model-id>, or PREDICTIONS/<dataset>/<model-id> for a dataset of an archive."""
    datasets: tuple[Dataset, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """The datasets found in the inputs."""

    targets: tuple[Target, ...]
    unfinished: tuple[str, ...]
    """Folders of archives without a `dataset.json`."""
    refused: tuple[str, ...]
    """Why datasets of archives cannot be read, one message each."""


def find_targets(inputs: Sequence[str], output: str, model_id: str) -> Found:
    """Return the datasets to score and the folders of their predictions.

    An input is a dataset, or an archive: a folder of datasets. Datasets given directly share PREDICTIONS/<model-id>. A
    dataset of an archive always has PREDICTIONS/<dataset>/<model-id>: nightly conversions have equal shard names, and
    adding a dataset must not move existing predictions. Unfinished or unreadable datasets of an archive are skipped.

    Raises:
        ValueError: an input is neither, a dataset given directly cannot be read, or two datasets of archives have the
            same name.
    """
    named: list[Dataset] = []
    below: dict[str, Dataset] = {}
    unfinished: list[str] = []
    refused: list[str] = []
    for url in inputs:
        folders = _folders_of_archive(url)
        if not folders:
            named.append(open_dataset(url))
        for folder in folders:
            if not _is_dataset(folder):
                unfinished.append(folder)
                continue
            try:
                dataset = open_dataset(folder)
            except (ValueError, OSError) as error:
                refused.append(str(error))
                continue
            _add(below, dataset)
    targets = [Target(storage.join_url(output, model_id), tuple(named))] if named else []
    targets += [Target(storage.join_url(output, name, model_id), (below[name],)) for name in sorted(below)]
    return Found(tuple(targets), tuple(unfinished), tuple(refused))


def _folders_of_archive(url: str) -> list[str]:
    """Return the folders of an archive; none if the URL is a dataset or contains none."""
    if _is_dataset(url) or not storage.is_folder(url):
        return []
    folders = storage.list_folders(url)
    return folders if any(_is_dataset(folder) for folder in folders) else []


def _is_dataset(url: str) -> bool:
    return storage.exists(storage.join_url(url, MANIFEST_NAME))


def _add(below: dict[str, Dataset], dataset: Dataset) -> None:
    name = storage.base_name(dataset.url)
    if name in below and below[name].url != dataset.url:
        raise ValueError(
            f"datasets of archives must have different names, got {below[name].url} and {dataset.url}; "
            f"score each archive to an --output of its own"
        )
    below[name] = dataset


@dataclass(frozen=True, slots=True)
class ShardTask:
    """A shard to score."""

    shard: ShardInfo
    tar_url: str
    samples_url: str
    predictions_url: str
    """PREDICTIONS/<model-id>, the folder of its part."""
    why: str
    """A fixed word: unscored, changed (its digest), incomplete (no quarantine or boxes beside the part), boxes (it has
    none of the share that is asked for), repaired, or unreadable (whether it was repaired cannot be determined)."""


@dataclass(frozen=True, slots=True)
class ScorePlan:
    """What must be scored, and what exists."""

    tasks: tuple[ShardTask, ...]
    """Shards to score, largest first, so that all workers finish at about the same time."""
    num_existing: int
    """Requested shards that need no scoring."""
    engines: tuple[Engine, ...] = ()
    """Engines of the existing parts of this model, most frequent first."""
    num_existing_scans: int = 0
    """Scans in the existing parts."""

    @property
    def num_scans(self) -> int:
        """Scans to score."""
        return sum(task.shard.num_scans for task in self.tasks)

    @property
    def num_by_reason(self) -> dict[str, int]:
        """Number of shards to score by reason."""
        return dict(sorted(Counter(task.why for task in self.tasks).items()))


def plan_scoring(
    predictions_url: str,
    model_id: str,
    datasets: Sequence[Dataset],
    split: str | None,
    box_share: float | None = None,
) -> ScorePlan:
    """Return what must be scored so that every shard of a split (or all) has a part of this model.

    Args:
        predictions_url: PREDICTIONS/<model-id>.
        model_id: of the model that scores.
        datasets: with distinct shard names.
        split: None for all.
        box_share: of the boxes that every part must have; None: as they are.

    Raises:
        ValueError: two datasets have a shard of the same name, or no dataset has the split.
    """
    check_names(datasets)
    shards = [(dataset, shard) for dataset in datasets for shard in _choose(dataset, datasets, split)]
    infos = read_part_infos(predictions_url, [shard.name for _, shard in shards])

    def reason(pair: tuple[Dataset, ShardInfo]) -> str | None:
        dataset, shard = pair
        return _why(predictions_url, model_id, dataset, shard, infos[shard.name], box_share)

    with ThreadPoolExecutor(16, thread_name_prefix="plan-scoring") as pool:
        reasons = list(pool.map(reason, shards))
    tasks = [
        ShardTask(shard, dataset.tar_url(shard), dataset.samples_url(shard), predictions_url, why)
        for (dataset, shard), why in zip(shards, reasons, strict=True)
        if why is not None
    ]
    tasks.sort(key=lambda task: (-task.shard.num_scans, task.shard.name))
    existing = [info for info in infos.values() if info is not None and info.model_id == model_id]
    engines = Counter(info.engine for info in existing)
    return ScorePlan(
        tuple(tasks),
        len(shards) - len(tasks),
        tuple(engine for engine, _ in engines.most_common()),
        sum(info.num_scans for info in existing),
    )


def choose_tasks(tasks: Sequence[ShardTask], since: datetime | None, limit: int | None) -> list[ShardTask]:
    """Return the tasks of a partial run, in their order.

    Args:
        tasks: of `plan_scoring`.
        since: only shards whose tar was written, copied or renamed into place then or later, see
            `storage.arrived_at`. A missing tar is kept, so that its scans are quarantined.
        limit: maximum number of shards; None for all.
    """
    chosen = list(tasks)
    if since is not None:
        with ThreadPoolExecutor(16, thread_name_prefix="arrived-at") as pool:
            times = list(pool.map(lambda task: storage.arrived_at(task.tar_url), tasks))
        chosen = [task for task, time in zip(tasks, times, strict=True) if time is None or time >= since]
    return chosen[:limit]


def existing_parts(predictions_url: str, model_id: str, datasets: Sequence[Dataset]) -> list[PartInfo]:
    """Return the existing parts for the current shards of these datasets, of all splits."""
    shards = {shard.name: shard for dataset in datasets for shard in dataset.shards()}
    infos = read_part_infos(predictions_url, shards)
    return [info for name, info in infos.items() if info is not None and info.is_of(shards[name], model_id)]


def unlisted_parts(predictions_url: str, datasets: Sequence[Dataset]) -> list[str]:
    """Return the names of parts of no shard of these datasets, left by an earlier conversion."""
    known = {part_url(predictions_url, shard.name) for dataset in datasets for shard in dataset.shards()}
    root = storage.normalise_url(predictions_url)
    urls = [info.url for info in storage.list_files(predictions_url)] if storage.exists(predictions_url) else []
    names = [storage.path_below(url, root) for url in urls if url not in known]
    return sorted(name.removesuffix(".parquet") for name in names if name.endswith(".parquet") and "/" not in name)


def check_names(datasets: Sequence[Dataset]) -> None:
    """Raise ValueError if two datasets have a shard of the same name: their parts would overwrite each other."""
    owners: dict[str, str] = {}
    for dataset in datasets:
        for shard in dataset.shards():
            if shard.name in owners:
                raise ValueError(
                    f"shard names must differ between datasets of one folder of predictions, got {shard.name} in "
                    f"{owners[shard.name]} and in {dataset.url}; name the folder that holds both as --input (each "
                    f"dataset then has a folder of its own), or score each to an --output of its own"
                )
            owners[shard.name] = dataset.url


def _choose(dataset: Dataset, datasets: Sequence[Dataset], split: str | None) -> Iterable[ShardInfo]:
    # At least one of several datasets must have the split.
    if split is None or split in dataset.manifest.splits or not any(split in d.manifest.splits for d in datasets):
        return dataset.shards(split)
    return ()


def _why(
    predictions_url: str,
    model_id: str,
    dataset: Dataset,
    shard: ShardInfo,
    info: PartInfo | None,
    box_share: float | None,
) -> str | None:
    if info is None:
        return "unscored"
    if not info.is_of(shard, model_id):
        return "changed"
    if not info.has_boxes(box_share):
        return "boxes"
    if info.boxes is not None and not storage.exists(detections_url(predictions_url, shard.name)):
        return "incomplete"
    if info.num_quarantined == 0:
        return None
    try:
        quarantine = read_parquet(quarantine_part_url(predictions_url, shard.name), ["key", "sha256"])
    except (FileNotFoundError, ValueError):
        return "incomplete"
    if quarantine.num_rows != info.num_quarantined:
        return "incomplete"
    try:
        return "repaired" if _was_repaired(dataset, shard, quarantine.to_pydict()) else None
    except (OSError, ValueError):
        return "unreadable"  # scoring reports the cause


def _was_repaired(dataset: Dataset, shard: ShardInfo, quarantine: dict[str, list[str | None]]) -> bool:
    """Return whether the bytes of refused scans have changed; reads only those scans."""
    refused = dict(zip(quarantine["key"], quarantine["sha256"], strict=True))
    reader = ShardReader(dataset.tar_url(shard))
    rows = [row for row in read_rows(dataset.samples_url(shard), shard.num_scans) if row.key in refused]
    for row in rows:
        (scan,) = reader.read([row])
        found = row.sha256 if scan.refusal is None else scan.refusal.sha256
        if found != refused[row.key]:
            return True
    return False
