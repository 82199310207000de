import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inputs.sample_table import load_sample_table
from model.training.level_labels import (
    METADATA_KEY,
    label_levels,
    least_loss_levels,
    level_labels_sha256,
    read_labels_info,
    read_level_labels,
    write_level_labels,
)
from pipelines.label_levels import main
from shards.format.classes import UNKNOWN
from shards.format.dataset import Dataset
from shards.format.parquet import predictions_schema, write_parquet
from shards.predictions.run import open_predictions
from tests.model.written import MODEL_ID, prediction, sample, write_dataset, write_predictions


def minimal_loss_level(logits, labels):
    """Section 3.2: the "pyramid level yielding the minimal classification loss"; logits [level][class]."""
    if all(label == UNKNOWN for label in labels):
        return 0
    losses = []
    for level in logits:
        loss = 0.0
        for x, label in zip(level, labels, strict=True):
            if label != UNKNOWN:
                y = 1 / (1 + math.exp(-x))
                loss -= math.log(y if label == 1 else 1 - y)
        losses.append(loss)
    return 1 + min(range(len(losses)), key=losses.__getitem__)


@settings(max_examples=150, deadline=None)
@given(
    labels=st.lists(st.sampled_from([0, 1, UNKNOWN]), min_size=1, max_size=4),
    num_levels=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_label_is_the_level_with_the_least_loss(labels, num_levels, seed):
    logits = np.random.default_rng(seed).normal(scale=3, size=(num_levels, 1, len(labels)))
    found = least_loss_levels(logits, np.array([labels]))
    assert found.tolist() == [minimal_loss_level(logits[:, 0].tolist(), labels)]
    assert found.dtype == np.int8


def test_of_equal_levels_the_finest_is_the_label():
    assert least_loss_levels(np.zeros((3, 2, 2)), np.array([[1, 0], [UNKNOWN, UNKNOWN]])).tolist() == [1, 0]


SCANS = [sample("a", (1, 0)), sample("b", (0, 1)), sample("c", (None, None)), sample("d", (1, 0))]
LEVELS = {
    "a": [(3.0, -3.0), (0.0, 0.0), (0.0, 0.0)],
    "b": [(0.0, 0.0), (0.0, 0.0), (-2.0, 4.0)],
    "c": [(9.0, 9.0)] * 3,
    # "d" was not scored
}


def predictions_of(dataset, tmp_path, classes=("Gun", "Knife")):
    rows = [
        prediction(key, (0.0, 0.0), classes=classes)
        | {"split": "train", "level_logits": [dict(zip(classes, level, strict=True)) for level in levels]}
        for key, levels in reversed(LEVELS.items())
    ]
    return write_predictions(tmp_path, dataset, rows, schema=predictions_schema(classes), classes=list(classes))


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return write_dataset(tmp_path / "data", SCANS, split="train")


def test_labels_follow_the_keys_and_come_back_to_the_samples(dataset, tmp_path, capsys):
    url, table = predictions_of(dataset, tmp_path), str(tmp_path / "levels.parquet")
    assert main(["--predictions", url, "--data", dataset.url, "--output", table]) == 0
    out = capsys.readouterr().out
    assert "loss of each class" in out
    assert "level 1: 1, level 2: 0, level 3: 1; without a label: 2" in out
    samples = read_level_labels(
        table, load_sample_table(dataset, "train"), 3, dataset.manifest.digest, trim_margins=False
    )
    assert dict(zip(samples.keys.to_pylist(), samples.levels_N.tolist(), strict=True)) == {
        "a": 1,
        "b": 3,
        "c": 0,
        "d": 0,
    }
    first = (tmp_path / "levels.parquet").read_bytes()
    assert main(["--predictions", url, "--data", dataset.url, "--output", table]) == 0
    assert (tmp_path / "levels.parquet").read_bytes() == first


def test_a_model_of_other_classes_labels_by_whether_there_is_any_item(dataset, tmp_path):
    url = predictions_of(dataset, tmp_path, classes=("Folding_Knife", "Scissor"))
    labels, info = label_levels(open_predictions(url), dataset, "train")
    assert info.per_class is False
    # a and b have an item: the level whose highest logit is highest; of c nothing is known
    assert labels.to_pylist() == [{"key": "a", "level": 1}, {"key": "b", "level": 3}]


def test_predictions_of_another_dataset_are_refused(dataset, tmp_path):
    url = write_predictions(tmp_path, dataset, [], dataset_digest="0" * 64)
    with pytest.raises(ValueError, match=r"predictions must be of the dataset with digest .*score split 'train'"):
        label_levels(open_predictions(url), dataset, "train")


def test_tables_that_do_not_fit_are_refused(dataset, tmp_path):
    samples, table = load_sample_table(dataset, "train"), str(tmp_path / "levels.parquet")
    digest = dataset.manifest.digest
    with pytest.raises(ValueError, match="level labels must be a Parquet file that `sixray label-levels` wrote"):
        read_level_labels(table, samples, 3, digest, trim_margins=False)
    with pytest.raises(ValueError, match="level labels must be a Parquet file that `sixray label-levels` wrote"):
        level_labels_sha256(table)
    write_parquet(table, pa.table({"key": ["a"], "level": [1]}))
    with pytest.raises(ValueError, match=r"level labels must have format 1, got None .*write them with"):
        read_level_labels(table, samples, 3, digest, trim_margins=False)
    labels, info = label_levels(open_predictions(predictions_of(dataset, tmp_path)), dataset, "train")
    write_level_labels(table, labels, info)
    assert read_labels_info(table) == info
    with pytest.raises(ValueError, match=rf"must be of the dataset with digest 0+, got {digest} .*label-levels` again"):
        read_level_labels(table, samples, 3, "0" * 64, trim_margins=False)
    with pytest.raises(ValueError, match=r"level labels must be of 2 levels, got 3"):
        read_level_labels(table, samples, 2, digest, trim_margins=False)
    write_level_labels(table, labels.set_column(0, "key", pa.array(["x", "y"])), info)
    with pytest.raises(ValueError, match=r"must name scans of the training split, got none of them .*split 'train'"):
        read_level_labels(table, samples, 3, digest, trim_margins=False)


@pytest.mark.parametrize("trimmed", [True, False])
def test_labels_by_a_model_that_saw_other_margins_are_refused(dataset, tmp_path, trimmed):
    samples, table = load_sample_table(dataset, "train"), str(tmp_path / "levels.parquet")
    url = predictions_of(dataset, tmp_path)
    run = json.loads((Path(url) / "run.json").read_text())
    (Path(url) / "run.json").write_text(json.dumps(run | {"trim_margins": trimmed}))
    labels, info = label_levels(open_predictions(url), dataset, "train")
    write_level_labels(table, labels, info)
    read_level_labels(table, samples, 3, dataset.manifest.digest, trim_margins=trimmed)
    message = rf"by a model with trim_margins {not trimmed}, as the recipe, got one with {trimmed} .*copy of {MODEL_ID}"
    with pytest.raises(ValueError, match=message):
        read_level_labels(table, samples, 3, dataset.manifest.digest, trim_margins=not trimmed)


def test_a_table_of_an_earlier_release_counts_as_of_whole_scans(dataset, tmp_path):
    table = str(tmp_path / "levels.parquet")
    labels, info = label_levels(open_predictions(predictions_of(dataset, tmp_path)), dataset, "train")
    document = {name: value for name, value in asdict(info).items() if name != "trim_margins"} | {"format": 1}
    write_parquet(table, labels.replace_schema_metadata({METADATA_KEY: json.dumps(document)}))
    assert read_labels_info(table) == info
    assert not info.trim_margins
