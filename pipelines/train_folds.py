"""Train a model a fold and gather what each says of the scans that it has not seen: predictions out of fold."""

# N scans

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.artifacts.model_files import ModelFiles, read_model_files
from model.inputs.sample_table import load_sample_table
from model.training.trainer import TRAIN_SPLIT, find_folds
from pipelines.runtime import log
from pipelines.score import ScoreConfig, score_datasets
from pipelines.steps.score_run import finish_run, make_timings
from pipelines.train import TrainJobConfig, train_network
from shards import storage
from shards.curation.folds import Fold
from shards.format.dataset import Dataset, open_dataset
from shards.format.manifest import ShardInfo, count_reasons
from shards.format.parquet import QUARANTINE_SCHEMA, read_parquet
from shards.predictions.parts import quarantine_part_url, read_part, read_part_info, write_part
from shards.predictions.plan import Target, plan_scoring
from shards.predictions.run import Predictions, forget_checksums, open_predictions


def train_folds(config: TrainJobConfig, num_folds: int) -> str:
    """Train a model a fold, score the training split with each, and join the rows out of fold; return a summary.

    RUN_DIR/fold-<n> is the run of a model, with its predictions of the whole split, of which those of the scans that it
    was trained on are left: scoring takes a small part of the time of training. RUN_DIR/predictions/<id> has one row a
    scan, of the model that has not seen its bag. What is finished is not done again.

    Raises:
        ValueError: as `train_network`, there are fewer bags than folds, or the run begins with a model or labels of
            levels, which were made by a model that may have seen every fold.
        OSError: shards could not be read; the same command resumes.
    """
    for name in ("initial_model", "level_labels"):
        if value := getattr(config, name):
            raise ValueError(f"{name} must not be given with folds, got {value}: it may come of scans of every fold")
    dataset = open_dataset(config.data)
    samples = load_sample_table(dataset, TRAIN_SPLIT)
    folds_N = find_folds(samples, num_folds)
    models, parts = [], []
    for number in range(1, num_folds + 1):
        fold, url = Fold(number, num_folds), storage.join_url(config.output, f"fold-{number}")
        log.status(f"train: without {fold}, {int((folds_N == number).sum()):,} of {len(samples):,} scans")
        model = read_model_files(train_network(replace(config, output=url), left_out=fold).model_url)
        models.append(model)
        parts.append(_score(model, dataset, storage.join_url(url, "predictions")))
    run = _join(dataset, models, parts, folds_N, storage.join_url(config.output, "predictions"))
    counts, listed = run["counts"], "".join(f"{model.folder}\n" for model in models)
    url = storage.join_url(config.output, "predictions", run["model_id"])
    return (
        f"{num_folds} models trained, each without one fold:\n{listed}{counts['num_scans']} scans = "
        f"{counts['num_scored']} scored out of fold + {counts['num_quarantined']} quarantined\n{url}\n"
    )


def _score(model: ModelFiles, dataset: Dataset, output: str) -> Predictions:
    """Return what a model says of the training split, scored unless it is."""
    # The same engine for all models: a trial may find another for each, and their scores are ranked together.
    config = ScoreConfig(
        model=model.folder,
        inputs=(dataset.url,),
        output=output,
        split=TRAIN_SPLIT,
        engine="eager",
        dtype="float32",
        num_devices=1,
    )
    if score_datasets(config).num_unread:
        raise OSError(f"shards must be readable to be scored, got some that are not ({dataset.url})")
    return open_predictions(storage.join_url(output, model.model_id))


def _join(
    dataset: Dataset, models: Sequence[ModelFiles], parts: Sequence[Predictions], folds_N: np.ndarray, output: str
) -> dict[str, Any]:
    """Write the rows of each fold by the model that left it out, as far as they are not there; return `run.json`."""
    started = time.monotonic()
    joined = _describe(models, folds_N, output, dataset)
    plan = plan_scoring(joined.folder, joined.model_id, [dataset], TRAIN_SPLIT)
    if plan.tasks:
        storage.sweep_temporaries(joined.folder)
    shards = dataset.shards(TRAIN_SPLIT)
    folds_of = dict(zip(shards, np.split(folds_N, np.cumsum([shard.num_scans for shard in shards])[:-1]), strict=True))
    forget_checksums(joined.folder, {task.shard.name for task in plan.tasks})
    for task in plan.tasks:
        keys = read_parquet(task.samples_url, ["key"])["key"].combine_chunks()
        _join_shard(task.shard, keys, folds_of[task.shard], parts, joined)
    target = Target(joined.folder, (dataset,))
    return finish_run(target, joined, TRAIN_SPLIT, plan.tasks, make_timings(plan.num_scans, time.monotonic() - started))


def _describe(models: Sequence[ModelFiles], folds_N: np.ndarray, output: str, dataset: Dataset) -> ModelFiles:
    """Return what stands for all models in `run.json`; its id depends on theirs, in order."""
    digest = hashlib.sha256("\n".join(model.model_id for model in models).encode()).hexdigest()
    model_id = f"{models[0].model_id.rpartition('-')[0]}-{digest[:12]}"
    listed = [
        {"fold": number, "model_id": model.model_id, "num_scans": int((folds_N == number).sum())}
        for number, model in enumerate(models, 1)
    ]
    # No scan of this dataset is rated by a model that has seen it: of these predictions it is no training data.
    document = models[0].document | {
        "provenance": {"dataset_digest": dataset.manifest.digest, "splits": []},
        "out_of_fold": {"num_folds": len(models), "models": listed},
    }
    return ModelFiles(storage.join_url(output, model_id), model_id, document, b"")


def _join_shard(
    shard: ShardInfo, keys: pa.Array, folds_N: np.ndarray, parts: Sequence[Predictions], joined: ModelFiles
) -> None:
    """Write the part of one shard, its rows in the order of the tar."""
    tables, refused = [], [QUARANTINE_SCHEMA.empty_table()]
    for number, predictions in enumerate(parts, 1):
        predictions.check_bytes([shard.name])
        own = keys.filter(pa.array(folds_N == number))
        tables.append(_choose(read_part(predictions.url, shard.name), own))
        quarantine_url = quarantine_part_url(predictions.url, shard.name)
        if storage.exists(quarantine_url):
            refused.append(_choose(read_parquet(quarantine_url), own))
    scored, quarantine = (_order(pa.concat_tables(found), keys) for found in (tables, refused))
    info = read_part_info(parts[0].url, shard.name)
    assert info is not None
    info = replace(
        info,
        model_id=joined.model_id,
        num_scored=scored.num_rows,
        num_quarantined=quarantine.num_rows,
        quarantined_by_reason=count_reasons(quarantine),
    )
    write_part(joined.folder, scored, quarantine, info)


def _choose(table: pa.Table, keys: pa.Array) -> pa.Table:
    return table.replace_schema_metadata(None).filter(pc.is_in(table["key"], value_set=keys))


def _order(table: pa.Table, keys: pa.Array) -> pa.Table:
    return table.take(pc.sort_indices(pc.index_in(table["key"], value_set=keys))).combine_chunks()
