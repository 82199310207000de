"""Train both stages of SXMNet, stop and resume them, and refuse inputs that do not fit."""

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from lightning.pytorch import Callback

from model.artifacts.saved_model import load_model, save_model, start_from
from model.hardware import detect_hardware
from model.inputs.batch import Batch, Boxes
from model.inputs.sample_table import hold_out, load_sample_table
from model.networks.config import AttentionConfig, ModelConfig
from model.networks.output import NetworkOutput
from model.networks.registry import build_network, fully_connected_parameters
from model.training.attention_targets import draw_ellipses
from model.training.config import Sgd, TrainConfig, complete_document
from model.training.level_labels import LabelsInfo, write_level_labels
from model.training.loss_base import sum_terms
from model.training.optimizer import build_optimizer
from model.training.sxmnet_losses import (
    AttentionLossConfig,
    FusedLossConfig,
    IntuitiveLabels,
    MetaLossConfig,
    NeuralLabels,
)
from model.training.trainer import train
from shards import storage
from shards.format.classes import UNKNOWN
from shards.format.manifest import samples_url
from shards.format.parquet import write_parquet
from tests.model.scans import make_dataset
from tests.model.training.test_trainer import StopBefore, StoppedError

FLOAT32 = replace(detect_hardware(), dtype="float32")
STAGE_ONE = TrainConfig(
    recipe="tiny",
    network="sxmnet",
    attention=AttentionConfig(),
    backbone="test_resnet",
    image_size_px=48,
    resize_px=56,
    batch_size=4,
    max_epochs=2,
    learning_rate=1e-3,
    loss=AttentionLossConfig(),
    validation_fraction=0.2,
)
STAGE_TWO = replace(
    STAGE_ONE,
    fusion="meta",
    learning_rate=0.02,
    classifier_rate=5.0,
    loss=MetaLossConfig(labels=IntuitiveLabels()),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Scans whose coloured squares have boxes; every sixth has none, though it may have an item."""
    dataset = make_dataset(tmp_path_factory.mktemp("dataset"), num_train=30)
    for shard in dataset.shards("train"):
        table = dataset.read_samples(shards=[shard])
        rows = [row | {"boxes": [] if index % 6 == 5 else boxes_of(row)} for index, row in enumerate(table.to_pylist())]
        write_parquet(samples_url(dataset.url, shard.name), pa.Table.from_pylist(rows, schema=table.schema))
    return dataset


def boxes_of(row):
    """Anywhere: tests/model/inputs/test_crop_geometry.py checks that boxes lie on items."""
    names = [name for name, label in row["labels"].items() if label == 1]
    edges = {"xmin_px": 10.0, "ymin_px": 20.0, "xmax_px": 40.0, "ymax_px": 60.0}
    return [{"class": name, **edges} for name in names]


@pytest.fixture(scope="module")
def stage_one(dataset, tmp_path_factory):
    return train(dataset, str(tmp_path_factory.mktemp("one")), STAGE_ONE, hardware=FLOAT32)


@pytest.fixture(scope="module")
def stage_two(dataset, stage_one, tmp_path_factory):
    config = replace(STAGE_TWO, initial_model=stage_one.model_url)
    return train(dataset, str(tmp_path_factory.mktemp("two")), config, hardware=FLOAT32)


def test_stage_one_leaves_heads_as_they_began_and_is_rated_by_its_masks(stage_one):
    torch.manual_seed(STAGE_ONE.seed)
    fresh = build_network(stage_one.model.config).state_dict()
    moved = {
        name.split(".")[0]
        for name, value in stage_one.model.network.state_dict().items()
        if not torch.equal(value, fresh[name]) and not name.endswith("score.bias")  # which starts at the prior
    }
    assert moved == {"backbone", "pyramid", "attention"}
    assert 0 < stage_one.model.provenance["validation_attention_fit"] < 1


def test_stage_one_learns_from_scans_with_boxes_alone(dataset, tmp_path):
    seen = set()

    class Record(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen.update(pl_module.training_samples.keys.take(pa.array(batch.rows_B.numpy())).to_pylist())

    train(
        dataset,
        str(tmp_path),
        replace(STAGE_ONE, max_epochs=1, validation_fraction=0.0),
        hardware=FLOAT32,
        callbacks=[Record()],
    )
    samples = load_sample_table(dataset, "train")
    with_boxes = {key for key, num in zip(samples.keys.to_pylist(), samples.num_boxes_N, strict=True) if num}
    assert seen == with_boxes
    assert len(with_boxes) < 30


@pytest.mark.slow
def test_the_mask_moves_to_the_boxes(dataset, tmp_path):
    config = replace(STAGE_ONE, max_epochs=12, optimizer=Sgd(), learning_rate=2e-4)
    first = train(dataset, str(tmp_path / "a"), replace(config, max_epochs=1), hardware=FLOAT32).model.provenance
    last = train(dataset, str(tmp_path / "b"), config, hardware=FLOAT32).model.provenance
    assert last["validation_attention_fit"] > first["validation_attention_fit"]


def test_stage_two_starts_from_stage_one_and_records_it(dataset, stage_one, stage_two):
    assert stage_two.model.provenance["initial_model_id"] == stage_one.model.model_id
    assert stage_two.model.config.fusion == "meta"
    network = build_network(stage_two.model.config)
    fresh = {name: value.clone() for name, value in network.state_dict().items()}
    start_from(network, stage_two.model.config, stage_one.model_url)
    state, begun = stage_one.model.network.state_dict(), network.state_dict()
    for name, value in begun.items():
        is_head = name.startswith(("classifiers", "selection"))
        assert torch.equal(value, fresh[name] if is_head else state[name]), name


def test_the_terms_of_a_loss_are_logged_apart_and_add_up_to_it(stage_one, stage_two):
    for stage, names in ((stage_one, []), (stage_two, ["classification", "selection"])):
        (path,) = Path(stage.model_url).parent.glob("logs/**/metrics.csv")
        with path.open() as lines:
            rows = [row for row in csv.DictReader(lines) if row["train/loss"]]
        assert [name for name in rows[0] if name.startswith("train/loss/")] == [f"train/loss/{name}" for name in names]
        for row in rows if names else ():
            terms = [float(row[f"train/loss/{name}"]) for name in names]
            assert sum(terms) == pytest.approx(float(row["train/loss"]), rel=1e-4) and min(terms) > 0


@pytest.mark.slow
@pytest.mark.parametrize(("step", "checkpoint_seconds"), [(2, 0.0), (6, 3600.0)])
def test_a_stopped_stage_ends_with_the_same_bytes(dataset, stage_one, stage_two, tmp_path, step, checkpoint_seconds):
    for name, whole, config in (
        ("one", stage_one, STAGE_ONE),
        ("two", stage_two, replace(STAGE_TWO, initial_model=stage_one.model_url)),
    ):
        run = str(tmp_path / name)
        with pytest.raises(StoppedError):
            train(
                dataset,
                run,
                config,
                hardware=FLOAT32,
                callbacks=[StopBefore(step)],
                checkpoint_seconds=checkpoint_seconds,
            )
        assert train(dataset, run, config, hardware=FLOAT32).model.model_id == whole.model.model_id


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")  # of Python 3.12 and later
@pytest.mark.usefixtures("forked_devices")
@pytest.mark.parametrize("stage", [STAGE_ONE, STAGE_TWO])
def test_two_processes_end_a_stage_with_the_weights_of_one(dataset, tmp_path, stage):
    # Without batch norms, which see each batch alone.
    config = replace(stage, backbone="test_convnext", max_epochs=1, validation_fraction=0.1)
    one = train(dataset, str(tmp_path / "one"), replace(config, batch_size=8), hardware=FLOAT32).model.network
    two = train(dataset, str(tmp_path / "two"), config, hardware=replace(FLOAT32, num_devices=2)).model.network
    torch.manual_seed(config.seed)
    fresh = build_network(load_model(str(tmp_path / "one" / "model")).config).state_dict()
    expected = one.state_dict()
    furthest = max(float((value - fresh[name]).abs().max()) for name, value in expected.items())
    for name, value in two.state_dict().items():
        # Sums in another order: the sum over a mask's cells is large.
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-3 * furthest)


def test_labels_of_a_table_reach_the_loss(dataset, tmp_path):
    samples = load_sample_table(dataset, "train")
    table = str(tmp_path / "levels.parquet")
    labels = pa.table({"key": samples.keys, "level": pa.array(np.arange(30) % 4, pa.int8())})
    info = LabelsInfo(
        model_id="m",
        dataset_digest=dataset.manifest.digest,
        split="train",
        num_by_level=(1, 1, 1),
        num_unlabelled=0,
        per_class=True,
        trim_margins=False,
    )
    write_level_labels(table, labels, info)
    seen: dict[str, int] = {}

    class Record(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            keys = pl_module.training_samples.keys.take(pa.array(batch.rows_B.numpy())).to_pylist()
            seen.update(zip(keys, batch.levels_B.tolist(), strict=True))

    config = replace(STAGE_TWO, loss=MetaLossConfig(labels=NeuralLabels(table=table)), max_epochs=1)
    result = train(dataset, str(tmp_path / "run"), config, hardware=FLOAT32, callbacks=[Record()])
    expected = dict(zip(samples.keys.to_pylist(), (np.arange(30) % 4).tolist(), strict=True))
    assert seen == {key: expected[key] for key in seen}
    assert set(seen.values()) == {0, 1, 2, 3}
    assert result.model.provenance["level_labels_sha256"] == storage.sha256_of(table)
    write_level_labels(table, labels, replace(info, model_id="other"))
    with pytest.raises(ValueError, match=r"of the same run, got one with level_labels_sha256 '.*' rather than '.*'"):
        train(dataset, str(tmp_path / "run"), config, hardware=FLOAT32)


def test_another_model_to_start_from_is_another_run(dataset, stage_one, tmp_path):
    first = tmp_path / "first"
    shutil.copytree(stage_one.model_url, first)
    config = replace(STAGE_TWO, initial_model=str(first), max_epochs=1)
    train(dataset, str(tmp_path / "run"), config, hardware=FLOAT32)
    model = load_model(str(first))
    save_model(str(first), model.network, model.config, {"trained": "again"})
    with pytest.raises(ValueError, match=r"of the same run, got one with initial_model_id '.*' rather than '.*'"):
        train(dataset, str(tmp_path / "run"), config, hardware=FLOAT32)


def test_without_a_table_meta_fusion_by_a_network_is_refused(dataset, tmp_path):
    config = replace(STAGE_TWO, loss=MetaLossConfig(labels=NeuralLabels()))
    with pytest.raises(ValueError, match=r"level labels must be given .*`sixray label-levels`.*--level-labels"):
        train(dataset, str(tmp_path), config, hardware=FLOAT32)
    assert not list(tmp_path.iterdir()), "the folder stays free for a run with labels"


def test_a_model_of_another_architecture_is_refused(dataset, stage_one, tmp_path):
    config = replace(STAGE_TWO, attention=AttentionConfig(num_upsamples=2), initial_model=stage_one.model_url)
    with pytest.raises(ValueError, match=r"model to start from must have attention AttentionConfig\(num_upsamples=2"):
        train(dataset, str(tmp_path), config, hardware=FLOAT32)
    assert not list(tmp_path.iterdir()), "the folder stays free for a run with another model"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "got one with seed 0 rather than 1 "),
        ({"validation_fraction": 0.3}, "got one with validation_fraction 0.2 rather than 0.3 "),
        ({"trim_margins": True}, "model to start from must have trim_margins True, got False"),
    ],
)
def test_a_stage_one_trained_on_held_out_scans_or_other_input_is_refused(
    dataset, stage_one, tmp_path, changes, message
):
    config = replace(STAGE_TWO, initial_model=stage_one.model_url, **changes)
    with pytest.raises(ValueError, match=message):
        train(dataset, str(tmp_path), config, hardware=FLOAT32)
    assert not list(tmp_path.iterdir())


def test_a_stage_one_of_another_dataset_and_a_model_of_stage_two_are_refused(dataset, stage_one, stage_two, tmp_path):
    other = make_dataset(tmp_path / "other", num_train=8, seed=1)
    config = replace(STAGE_TWO, initial_model=stage_one.model_url)
    with pytest.raises(
        ValueError, match=r"must be of stage I, of the same scans, got one with dataset_digest '[0-9a-f]+"
    ):
        train(other, str(tmp_path / "run"), config, hardware=FLOAT32)
    config = replace(STAGE_TWO, initial_model=stage_two.model_url)
    message = r"got one with loss 'MetaLossConfig' rather than 'AttentionLossConfig' .*; train stage I with this --data"
    with pytest.raises(ValueError, match=message):
        train(dataset, str(tmp_path / "run"), config, hardware=FLOAT32)


def test_fully_connected_layers_learn_at_a_rate_of_their_own():
    network = build_network(
        ModelConfig(
            network="sxmnet", backbone="test_resnet", classes=("Gun",), fusion="meta", attention=AttentionConfig()
        )
    )
    others, connected = build_optimizer(STAGE_TWO, network).param_groups
    assert (others["lr"], connected["lr"]) == (0.02, pytest.approx(0.1))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = {names[id(parameter)].rsplit(".", 1)[0] for parameter in connected["params"]}
    assert found == {"classifiers.0.score", "classifiers.1.score", "classifiers.2.score", "selection.score"}
    assert len(others["params"]) + len(connected["params"]) == len(names)
    assert len(fully_connected_parameters(network)) == 8
    assert len(build_optimizer(replace(STAGE_TWO, classifier_rate=1.0), network).param_groups) == 1


def make_batch(labels, boxes, levels):
    num_scans = len(labels)
    images_BCHW, not_void_B = torch.zeros(num_scans, 3, 8, 8), torch.zeros(num_scans, dtype=torch.bool)
    return Batch(images_BCHW, labels, torch.arange(num_scans), boxes, levels, not_void_B)


def test_a_loss_is_its_equation_and_padding_adds_nothing():
    torch.manual_seed(0)
    boxes = Boxes(torch.tensor([[0.1, 0.1, 0.9, 0.6]]), torch.tensor([0.4]), torch.tensor([0]), torch.tensor([0]))
    labels = torch.tensor([[1.0, 0.0], [UNKNOWN, UNKNOWN]])
    batch = make_batch(labels, boxes, torch.tensor([2, 0]))
    log_weights, mask = torch.randn(2, 3).log_softmax(dim=1), torch.rand(2, 1, 6, 6)
    output = NetworkOutput(torch.randn(3, 2, 2), (), log_weights, mask)
    errors = (mask - draw_ellipses(boxes, 2, 6, 6)).square()
    attention = AttentionLossConfig()
    torch.testing.assert_close(sum_terms(attention.terms(output, batch)), errors[0].sum() / 2)
    evidence = attention.evidence(output, batch).numpy()
    found = attention.rate(evidence, labels.numpy(), ("Gun", "Knife"))
    assert found == {"attention_fit": pytest.approx(1 - float(errors[0].mean()))}
    assert attention.rate(evidence[1:], labels[1:].numpy(), ("Gun", "Knife")) == {"attention_fit": None}
    bce = torch.nn.functional.binary_cross_entropy_with_logits(output.logits_BK[0], labels[0], reduction="sum") / 4
    torch.testing.assert_close(sum_terms(FusedLossConfig().terms(output, batch)), bce)
    for labels_of, level in ((NeuralLabels(table="t"), 2), (IntuitiveLabels(), 3)):
        meta = sum_terms(MetaLossConfig(labels=labels_of, weight=0.5).terms(output, batch))
        torch.testing.assert_close(meta, bce - 0.5 * log_weights[0, level - 1] / 2)


def test_attention_cannot_be_learnt_from_scans_without_boxes(dataset):
    samples = load_sample_table(dataset, "train")
    with pytest.raises(ValueError, match=r"scans must have boxes to learn attention, got none \(sample 'P000"):
        AttentionLossConfig().check_samples(samples)


def test_a_model_records_the_number_of_scans_that_label_each_level(dataset, stage_one, stage_two):
    training, _ = hold_out(load_sample_table(dataset, "train"), STAGE_TWO.validation_fraction, STAGE_TWO.seed)
    keys, expected = set(training.keys.to_pylist()), Counter[str]()
    for row in dataset.read_samples("train").to_pylist():
        if row["key"] in keys:
            share = 30 * 40 / (row["width_px"] * row["height_px"])  # of every box, see `boxes_of`
            level = "1" if share < 0.02 else "3" if share > 0.2 else "2"
            expected[level if row["boxes"] else "unlabelled"] += 1
    found = stage_two.model.provenance["num_scans_by_level"]
    assert {level: number for level, number in found.items() if number} == expected
    assert expected["unlabelled"] and len(expected) > 1
    assert "num_scans_by_level" not in stage_one.model.provenance


@pytest.mark.parametrize("labels", [IntuitiveLabels(), NeuralLabels(table="t")])
def test_meta_fusion_cannot_be_learnt_from_scans_without_a_level(tmp_path, labels):
    samples = load_sample_table(make_dataset(tmp_path, num_train=4), "train")  # without boxes
    with pytest.raises(
        ValueError, match=r"must have levels, got none of 4 scans with one \(sample 'P0.*; (train|score)"
    ):
        MetaLossConfig(labels=labels).count_levels(samples)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "gated"}, "loss must be FusedLossConfig with fusion 'gated', got MetaLossConfig"),
        ({"fusion": "average"}, "loss must be LossConfig or .* with fusion 'average', got MetaLossConfig"),
        ({"num_levels": 2}, "num_levels must be 3 with IntuitiveLabels, got 2"),
        ({"classifier_rate": 0.0}, "classifier_rate must be > 0, got 0.0"),
        (
            {"fusion": "average", "loss": AttentionLossConfig(), "attention": None},
            "attention must be given to learn it, got none with AttentionLossConfig",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(STAGE_TWO, **changes)


def test_a_run_of_an_earlier_release_goes_on():
    config = TrainConfig(recipe="old", max_epochs=1, learning_rate=0.1)
    later = ("fusion", "attention", "trim_margins", "initial_model", "classifier_rate")
    document = {name: value for name, value in config.to_json().items() if name not in later}
    assert complete_document(json.loads(json.dumps(document))) == config.to_json()


def test_a_trained_model_loads_with_its_mask(stage_two):
    output = load_model(stage_two.model_url).network(torch.rand(1, 3, 48, 48))
    assert output.attention_B1hw.shape == (1, 1, 12, 12)
    assert output.log_weights_BL.exp().sum().item() == pytest.approx(1)
