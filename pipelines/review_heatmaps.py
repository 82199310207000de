"""Draw the heatmaps of scans under review, each by the model that scored the scan."""

from collections.abc import Iterator, Mapping, Sequence

from model.artifacts.saved_model import is_model
from model.hardware import detect_hardware
from model.inputs.sample_table import load_sample_table
from model.reports.heatmap_overlay import Layer, draw_layer
from model.scoring.heatmap_reader import HeatmapReader, UndrawableError
from model.training.run_dir import RunDir
from model.training.trainer import TRAIN_SPLIT, find_folds
from pipelines.runtime.progress import Progress
from shards import storage
from shards.format.dataset import Dataset
from shards.format.shard_reader import LabelledRow, read_scan_of_row
from shards.predictions.run import Predictions


def draw_layers(
    url: str,
    predictions: Predictions,
    dataset: Dataset,
    samples: Mapping[str, LabelledRow],
    class_of: Mapping[str, str],
) -> tuple[dict[str, Layer], dict[str, str]]:
    """Return the heatmap of a class of each scan, by key, and the reason where there is none.

    Args:
        url: of the run or the model that made the predictions; of scores out of fold, the run of `train --folds`.
        predictions: of the scans.
        dataset: that was scored.
        samples: the scans, by key.
        class_of: name of the class to show of each scan.

    Raises:
        ValueError: there is no model, or another than the one that made the predictions.
    """
    layers, problems = {}, {}
    numbers = {name: k for k, name in enumerate(predictions.run["classes"])}
    hardware = detect_hardware()
    with Progress("heatmaps", total=len(class_of), unit="scans") as progress:
        for folder, model_id, keys in _assign_models(storage.normalise_url(url), predictions, dataset, list(class_of)):
            reader = HeatmapReader(folder, model_id, hardware)
            for key in keys:
                try:
                    maps = reader.read(read_scan_of_row(samples[key].tar_url, samples[key].row))
                    layers[key] = draw_layer(maps.classes_KHW[numbers[class_of[key]]])
                except UndrawableError as error:
                    problems[key] = str(error)
                progress.advance(1, samples[key].row.size_bytes)
    return layers, problems


def _assign_models(
    url: str, predictions: Predictions, dataset: Dataset, keys: Sequence[str]
) -> Iterator[tuple[str, str, list[str]]]:
    """Yield folder and id of each model, and the keys of the scans that it scored.

    What `run.json` of the predictions names decides, since a run may lie in the folder of another.
    """
    out_of_fold = predictions.run.get("out_of_fold")
    if out_of_fold is None:
        folder = RunDir(url).model_url
        yield folder if is_model(folder) else url, predictions.model_id, list(keys)
        return
    table = load_sample_table(dataset, TRAIN_SPLIT)
    fold_of = dict(zip(table.keys.to_pylist(), find_folds(table, out_of_fold["num_folds"]).tolist(), strict=True))
    for model in out_of_fold["models"]:
        own = [key for key in keys if fold_of[key] == model["fold"]]
        if own:
            folder = RunDir(storage.join_url(url, f"fold-{model['fold']}")).model_url
            if not is_model(folder):
                raise ValueError(
                    f"model must be the run of `train --folds` that made the predictions, got no model in {folder} "
                    f"({predictions.url}); name the folder that holds fold-{model['fold']}"
                )
            yield folder, model["model_id"], own
