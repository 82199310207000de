"""Find the datasets of the inputs and the folders of their predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

from shards import storage
from shards.format.dataset import Dataset, open_dataset
from shards.format.manifest import MANIFEST_NAME


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
