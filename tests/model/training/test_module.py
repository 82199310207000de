"""Train with accumulated batches, several processes and patience, and compare weights and epochs."""

import copy
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from timm.layers import convert_sync_batchnorm
from torch.multiprocessing.spawn import ProcessRaisedException

from model.hardware import detect_hardware
from model.inputs.augmentation import AugmentationConfig
from model.inputs.sample_table import load_sample_table
from model.inputs.sampling import epoch_entries, num_entries_in_step, rank_batches, repeats_of_positives
from model.networks.config import ModelConfig
from model.networks.registry import build_network
from model.training.checkpoints import CheckpointKeeper, read_checkpoint
from model.training.config import Sgd, StepSchedule
from model.training.losses import SoftmaxConfig
from model.training.run_dir import RunDir, claim_run_dir
from model.training.trainer import train
from tests.model.scans import make_dataset
from tests.model.training.test_trainer import FLOAT32, TINY, StopBefore, StoppedError, assert_same_end

# Without batch norms, which see each batch alone; a large rate, so that a wrong gradient shows.
NO_NORMS = replace(
    TINY,
    backbone="test_convnext",
    batch_size=8,
    learning_rate=0.05,
    optimizer=Sgd(),
    schedule=StepSchedule(drops=()),
    layer_decay=0.8,
    ema_decay=0.5,
    augmentation=AugmentationConfig(mixed=0.5),
)


NAMES = ("peaks", "least_loss", "negatives")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("dataset"), num_train=24)


@pytest.fixture(scope="module")
def one_large_batch(dataset, tmp_path_factory):
    return train(dataset, str(tmp_path_factory.mktemp("run")), NO_NORMS, hardware=FLOAT32)


def last_of(result):
    return read_checkpoint(result.model_url.removesuffix("model") + "checkpoints/last.ckpt")


def weights_of(result):
    """The last state, of the weights and of their average: the model may be of an earlier epoch."""
    return last_of(result)["state_dict"]


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)


# 18 or 19 scans: the last step of an epoch has fewer, in batches of unequal size
@pytest.mark.parametrize(("batch_size", "accumulate_batches"), [(4, 2), (1, 8), (3, 3)])
def test_accumulated_batches_end_with_the_weights_of_one_large_batch(
    dataset, one_large_batch, tmp_path, batch_size, accumulate_batches
):
    config = replace(NO_NORMS, batch_size=batch_size, accumulate_batches=accumulate_batches)
    found = weights_of(train(dataset, str(tmp_path), config, hardware=FLOAT32))
    if batch_size * accumulate_batches == NO_NORMS.batch_size:
        assert_same(found, weights_of(one_large_batch))
    else:
        large = replace(NO_NORMS, batch_size=batch_size * accumulate_batches)
        assert_same(found, weights_of(train(dataset, str(tmp_path / "large"), large, hardware=FLOAT32)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")  # of Python 3.12 and later
@pytest.mark.usefixtures("forked_devices")
def test_two_processes_end_with_the_weights_of_one_that_takes_their_batches_together(
    dataset, one_large_batch, tmp_path
):
    """Stopped on the way, too: between two epochs, where the next one's order must not be the last one's again."""
    config, two = replace(NO_NORMS, batch_size=4), replace(FLOAT32, num_devices=2)
    with pytest.raises(ProcessRaisedException, match="StoppedError"):
        train(dataset, str(tmp_path), config, hardware=two, callbacks=[StopBefore(3)])
    result = train(dataset, str(tmp_path), config, hardware=two)
    assert_same(weights_of(result), weights_of(one_large_batch))
    one, found = (np.array(last_of(of)["level_counts"]) for of in (one_large_batch, result))
    assert found.sum() > 50 and abs(found - one).sum() <= 2  # a near tie may turn
    provenance = result.model.provenance
    assert provenance["positives_per_step"]["scans_per_step"] == 8
    assert provenance["num_epochs"] == TINY.max_epochs
    assert provenance["validation_mean_average_precision"] > 0
    with pytest.raises(ValueError, match="of the same run, got one with num_devices 2 rather than 1"):
        train(dataset, str(tmp_path), config, hardware=FLOAT32)


def test_ranks_agree_on_what_interrupts_them_once_in_fifty_batches(tmp_path):
    votes: list[int] = []
    loop: Any = SimpleNamespace(batch_idx=-1)
    loop._broadcast_sigterm_tensor = lambda: votes.append(loop.batch_idx)
    rank: Any = SimpleNamespace(world_size=2, fit_loop=SimpleNamespace(epoch_loop=loop))
    CheckpointKeeper(RunDir(str(tmp_path)), 0.0, "validation/any").on_train_start(rank, None)
    for loop.batch_idx in range(-1, 120):
        loop._broadcast_sigterm_tensor()
    assert votes == [-1, 49, 99]


@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_run_that_accumulates_and_was_stopped_anywhere_ends_with_the_same_bytes(dataset, tmp_path, step):
    config = replace(
        TINY,
        batch_size=2,
        accumulate_batches=4,
        ema_decay=0.9,
        layer_decay=0.5,
        frozen_stages=2,
        augmentation=AugmentationConfig(scale=0.2, mixed=0.5),
    )

    class StopWithin(StopBefore):
        """Before the third batch of a step: its gradients so far are in no checkpoint."""

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx % 4 == 2:
                super().on_train_batch_start(trainer, pl_module, batch, batch_idx)

    with pytest.raises(StoppedError):
        train(
            dataset, str(tmp_path / "a"), config, hardware=FLOAT32, callbacks=[StopWithin(step)], checkpoint_seconds=0.0
        )
    stopped = train(dataset, str(tmp_path / "a"), config, hardware=FLOAT32)
    whole = train(dataset, str(tmp_path / "b"), config, hardware=FLOAT32)
    assert stopped.model.model_id == whole.model.model_id
    assert_same_end(stopped, whole)


def rate_as(monkeypatch, ratings):
    ratings = iter(ratings)
    monkeypatch.setattr("model.training.loss_base.average_precisions", lambda logits, labels: [next(ratings)] * 3)


PATIENT = replace(TINY, max_epochs=6, patience=2)


def test_a_run_ends_when_patience_is_lost_and_its_best_epoch_becomes_the_model(dataset, tmp_path, monkeypatch):
    rate_as(monkeypatch, [0.5, 0.7, None, 0.7])
    provenance = train(dataset, str(tmp_path), PATIENT, hardware=FLOAT32).model.provenance
    assert (provenance["epoch"], provenance["num_epochs"]) == (2, 4)


def test_a_run_whose_epochs_cannot_be_rated_runs_them_all(dataset, tmp_path, monkeypatch):
    rate_as(monkeypatch, [None] * 6)
    provenance = train(dataset, str(tmp_path), PATIENT, hardware=FLOAT32).model.provenance
    assert (provenance["epoch"], provenance["num_epochs"]) == (6, 6)


@pytest.mark.slow
@pytest.mark.parametrize("stopped_in", ["epoch 3", "the end"])
def test_patience_is_counted_on_over_a_stop(dataset, tmp_path, monkeypatch, stopped_in):
    class StopAfter(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if stopped_in == "epoch 3" and trainer.current_epoch == 2:
                raise StoppedError

        def on_fit_end(self, trainer, pl_module):
            raise StoppedError

    ratings = [0.5, 0.7, 0.6, 0.6, 0.9, 0.9]
    rate_as(monkeypatch, ratings)
    with pytest.raises(StoppedError):
        train(dataset, str(tmp_path / "a"), PATIENT, hardware=FLOAT32, callbacks=[StopAfter()])
    rate_as(monkeypatch, ratings[2:] if stopped_in == "epoch 3" else [])
    stopped = train(dataset, str(tmp_path / "a"), PATIENT, hardware=FLOAT32)
    rate_as(monkeypatch, ratings)
    whole = train(dataset, str(tmp_path / "b"), PATIENT, hardware=FLOAT32)
    assert stopped.model.model_id == whole.model.model_id
    assert stopped.model.provenance["num_epochs"] == 4


def test_the_log_has_the_mean_loss_of_an_epochs_scans_and_what_its_levels_decided(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("model.training.trainer._LOG_STEPS", 1)
    seen: list[float] = []
    logged, levels = [], []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen.extend([float(trainer.callback_metrics["train/loss"])] * len(batch.rows_B))

        def on_train_epoch_end(self, trainer, pl_module):
            logged.append((float(trainer.callback_metrics["train/loss_epoch"]), np.mean(seen)))
            seen.clear()
            found = trainer.callback_metrics
            levels.append({name: [float(found[f"train/levels/{name}/{at}"]) for at in (1, 2, 3)] for name in NAMES})

    result = train(dataset, str(tmp_path), replace(NO_NORMS, max_epochs=2), hardware=FLOAT32, callbacks=[Watch()])
    for of_epoch in levels:
        assert sum(of_epoch["peaks"]) == pytest.approx(1) == sum(of_epoch["least_loss"])
    provenance = result.model.provenance
    for name, shares in provenance["levels"].items():
        assert shares == pytest.approx(levels[provenance["epoch"] - 1][name])
    assert len(logged) == 2 and logged[0] != logged[1]
    for found, expected in logged:
        assert found == pytest.approx(expected, rel=1e-5)


def test_single_label_scans_are_learnt_by_a_soft_max_and_rated_by_accuracy(dataset, tmp_path, monkeypatch):
    def load_single_label(*args):
        samples = load_sample_table(*args)
        samples.labels_NK[:] = np.eye(3)[np.argmax(samples.labels_NK, axis=1)]
        return samples

    monkeypatch.setattr("model.training.trainer.load_sample_table", load_single_label)
    provenance = train(dataset, str(tmp_path), replace(TINY, loss=SoftmaxConfig()), hardware=FLOAT32).model.provenance
    assert 0 <= provenance["validation_top1_accuracy"] <= 1
    assert provenance["config"]["loss"] == {"name": "SoftmaxConfig"}
    with pytest.raises(ValueError, match=r"mixed must be 0 with SoftmaxConfig, .* got 0.5"):
        replace(TINY, loss=SoftmaxConfig(), augmentation=AugmentationConfig(mixed=0.5))
    assert (tmp_path / "logs" / "csv" / "version_0" / "metrics.csv").read_text().count("validation/top5_accuracy") == 1


def test_a_run_that_an_earlier_release_began_is_resumed(dataset, tmp_path):
    run_json = tmp_path / "run.json"
    claim_run_dir(str(tmp_path), TINY, dataset.manifest.digest, FLOAT32, {})
    document = json.loads(run_json.read_text())
    for name in ("accumulate_batches", "positive_fraction", "patience"):
        del document["config"][name]
    del document["config"]["loss"]["name"], document["num_devices"]
    run_json.write_text(json.dumps(document))
    claim_run_dir(str(tmp_path), TINY, dataset.manifest.digest, FLOAT32, {})
    with pytest.raises(ValueError, match="got one with accumulate_batches 1 rather than 2"):
        claim_run_dir(str(tmp_path), replace(TINY, accumulate_batches=2), dataset.manifest.digest, FLOAT32, {})


@pytest.mark.slow
def test_a_last_batch_of_one_scan_whose_map_is_one_cell_is_learnt_from_and_resumed(dataset, tmp_path):
    """A batch norm refuses it: at 32 px the deepest map of the backbone is 1 x 1."""
    config = replace(TINY, image_size_px=32, resize_px=32, batch_size=23, validation_fraction=0.0)
    stopped, whole = str(tmp_path / "stopped"), str(tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(dataset, stopped, config, hardware=FLOAT32, callbacks=[StopBefore(1)], checkpoint_seconds=0.0)
    resumed = train(dataset, stopped, config, hardware=FLOAT32)
    assert resumed.model.model_id == train(dataset, whole, config, hardware=FLOAT32).model.model_id


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "accumulate_batches"), [(23, 1), (23, 2)])
def test_padding_of_a_single_scan_weighs_nothing(dataset, tmp_path, batch_size, accumulate_batches):
    config = replace(NO_NORMS, batch_size=batch_size, accumulate_batches=accumulate_batches, validation_fraction=0.0)
    assert len(dataset.read_samples("train")) % batch_size == 1
    found = weights_of(train(dataset, str(tmp_path / "padded"), config, hardware=FLOAT32))
    alone = replace(config, batch_size=1, accumulate_batches=batch_size * accumulate_batches)
    assert_same(found, weights_of(train(dataset, str(tmp_path / "alone"), alone, hardware=FLOAT32)))


def test_positives_are_counted_a_step_as_the_feed_yields_them(dataset, tmp_path):
    seen = []

    class Count(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen.append(int((batch.labels_BK == 1).any(dim=1).sum()))

    config = replace(TINY, positive_repeats=2)
    provenance = train(dataset, str(tmp_path), config, hardware=FLOAT32, callbacks=[Count()]).model.provenance
    assert provenance["positives_per_step"] == {
        "mean": pytest.approx(np.mean(seen)),
        "fraction_of_steps_without": np.mean(np.array(seen) == 0),
        "scans_per_step": TINY.batch_size,
    }


@pytest.mark.parametrize(("num_positive", "fraction"), [(3, 0.5), (1, 0.25), (40, 0.3), (99, 0.01)])
def test_the_balanced_sampler_gives_positives_their_share_of_an_epoch(num_positive, fraction):
    labels_NK = np.zeros((100, 2), np.int8)
    labels_NK[:num_positive, 1] = 1
    repeats = repeats_of_positives(labels_NK, fraction)

    def share(repeats):
        rows_E = epoch_entries(labels_NK, repeats)
        assert set(rows_E) == set(range(100))
        return (rows_E < num_positive).mean()

    assert share(repeats) >= fraction
    assert repeats == 1 or share(repeats - 1) < fraction


def test_a_split_without_positives_is_sampled_as_it_is():
    assert repeats_of_positives(np.zeros((4, 2), np.float32), 0.5) == 1


@pytest.mark.parametrize("num_entries", [1, 7, 16, 19])
@pytest.mark.parametrize(("batch_size", "accumulate", "world_size"), [(2, 1, 1), (2, 3, 1), (2, 1, 2), (2, 2, 2)])
def test_a_step_has_the_entries_that_its_batches_have_together(num_entries, batch_size, accumulate, world_size):
    ranks = [rank_batches(np.arange(num_entries), batch_size, rank, world_size) for rank in range(world_size)]
    for number in range(len(ranks[0])):
        step = slice(number // accumulate * accumulate, (number // accumulate + 1) * accumulate)
        expected = sum((entries_B >= 0).sum() for batches in ranks for entries_B in batches[step])
        assert num_entries_in_step(num_entries, batch_size * world_size, accumulate, number) == expected


@pytest.mark.parametrize("backbone", ["test_resnet", "densenet121"])
def test_synchronised_batch_norms_have_the_same_weights_and_output(backbone):
    """The second has norms with an activation inside, which PyTorch's own conversion would lose."""
    torch.manual_seed(0)
    network = build_network(ModelConfig(backbone=backbone, classes=("Gun",), num_levels=2)).eval()
    shared = convert_sync_batchnorm(copy.deepcopy(network))
    assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in shared.modules())
    assert shared.state_dict().keys() == network.state_dict().keys()
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(shared(images).logits_BK, network(images).logits_BK)


def test_hardware_without_a_device_is_refused():
    with pytest.raises(ValueError, match="num_devices must be >= 1, got 0"):
        replace(detect_hardware(), num_devices=0)
