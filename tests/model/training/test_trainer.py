import math
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Callback

from model.artifacts.saved_model import load_model
from model.hardware import detect_hardware
from model.inputs.sample_table import load_sample_table
from model.recipes.chr import authors
from model.training.checkpoints import read_checkpoint
from model.training.config import CosineSchedule, StepSchedule, TrainConfig
from model.training.losses import LossConfig
from model.training.module import DivergedError, TrainingModule
from model.training.run_dir import claim_run_dir
from model.training.trainer import train
from shards import storage
from shards.format.classes import UNKNOWN
from tests.model.scans import make_dataset

FLOAT32 = replace(detect_hardware(), dtype="float32")
# timm's smallest residual network: half a million parameters, so that a checkpoint takes milliseconds.
TINY = TrainConfig(
    recipe="tiny",
    backbone="test_resnet",
    image_size_px=48,
    resize_px=56,
    batch_size=4,
    max_epochs=2,
    learning_rate=0.05,
    validation_fraction=0.2,
)


class StoppedError(Exception):
    pass


class StopBefore(Callback):
    """Stops a run as a killed machine would, before the step with this number, counted over all epochs."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            raise StoppedError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("dataset"), num_train=24)


@pytest.fixture(scope="module")
def uninterrupted(dataset, tmp_path_factory):
    return train(dataset, str(tmp_path_factory.mktemp("run")), TINY, hardware=FLOAT32)


# 18 or 19 of 24 scans in batches of 4, two epochs: steps 0-4 and 5-9
@pytest.mark.parametrize(
    ("step", "checkpoint_seconds"),
    [(1, 0.0), (3, 0.0), (5, 0.0), (8, 0.0), (3, 3600.0), (7, 3600.0)],
)
def test_a_run_stopped_at_any_step_ends_with_the_same_bytes(dataset, uninterrupted, tmp_path, step, checkpoint_seconds):
    stopped = [StopBefore(step)]
    with pytest.raises(StoppedError):
        train(
            dataset,
            str(tmp_path),
            TINY,
            hardware=FLOAT32,
            callbacks=stopped,
            checkpoint_seconds=checkpoint_seconds,
        )
    resumed = train(dataset, str(tmp_path), TINY, hardware=FLOAT32)
    assert not resumed.was_finished
    assert resumed.model.model_id == uninterrupted.model.model_id
    assert_same_end(resumed, uninterrupted)


def test_the_authors_chr_trains_with_doubtful_labels_and_resumes(dataset, tmp_path, monkeypatch):
    def load_doubtful(*args):
        samples = load_sample_table(*args)
        samples.labels_NK[::5] = UNKNOWN
        return samples

    monkeypatch.setattr("model.training.trainer.load_sample_table", load_doubtful)
    small = {name: getattr(TINY, name) for name in ("backbone", "image_size_px", "resize_px", "batch_size")}
    config = replace(authors(), pretrained=False, max_epochs=1, accumulate_batches=2, **small)
    whole = train(dataset, str(tmp_path / "whole"), config, hardware=FLOAT32).model
    with pytest.raises(StoppedError):
        stopped = [StopBefore(2)]
        train(dataset, str(tmp_path / "run"), config, hardware=FLOAT32, callbacks=stopped, checkpoint_seconds=0.0)
    found = train(dataset, str(tmp_path / "run"), config, hardware=FLOAT32).model
    assert found.model_id == whole.model_id and found.model_id.startswith("chr_authors-test_resnet-")
    with torch.inference_mode():
        output = found.network(torch.rand(2, 3, 48, 48))
    assert torch.equal(output.logits_BK, output.level_logits_LBK[-1])


class StopInValidation(Callback):
    """Stops a run as a killed machine would, after the last step of an epoch and before the epoch is rated."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_validation_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            raise StoppedError


@pytest.mark.parametrize(("epoch", "max_epochs"), [(0, 1), (0, 2), (1, 2)])
def test_a_run_stopped_in_validation_rates_that_epoch_when_resumed(dataset, tmp_path, epoch, max_epochs):
    config = replace(TINY, max_epochs=max_epochs)
    stopped, whole = str(tmp_path / "stopped"), str(tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(
            dataset,
            stopped,
            config,
            hardware=FLOAT32,
            callbacks=[StopInValidation(epoch)],
            checkpoint_seconds=0.0,
        )
    found = train(dataset, stopped, config, hardware=FLOAT32).model
    expected = train(dataset, whole, config, hardware=FLOAT32).model
    assert found.provenance == expected.provenance  # the best epoch and its rating among it
    assert found.model_id == expected.model_id
    last = [read_checkpoint(f"{run}/checkpoints/last.ckpt")["state_dict"] for run in (stopped, whole)]
    assert all(torch.equal(value, last[1][name]) for name, value in last[0].items())


def assert_same_end(one, other):
    """The model is that of the best epoch, which may lie before the stop: the last state says more."""
    states = [
        read_checkpoint(result.model_url.removesuffix("model") + "checkpoints/last.ckpt") for result in (one, other)
    ]
    (found, expected), feeds = [state["state_dict"] for state in states], [state["feed"] for state in states]
    assert feeds[0] == feeds[1] == {"epoch": TINY.max_epochs, "next_batch": 0}
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_a_run_takes_no_step_twice_after_it_was_stopped_within_an_epoch(dataset, tmp_path):
    seen = []

    class Record(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen.append((trainer.current_epoch, tuple(batch.rows_B.tolist())))

    with pytest.raises(StoppedError):
        train(
            dataset,
            str(tmp_path),
            TINY,
            hardware=FLOAT32,
            callbacks=[StopBefore(3), Record()],
            checkpoint_seconds=0.0,
        )
    train(dataset, str(tmp_path), TINY, hardware=FLOAT32, callbacks=[Record()])
    rows = sorted(row for epoch, batch in seen for row in batch if epoch == 0)
    assert rows == list(range(len(rows)))
    second = [batch for epoch, batch in seen if epoch == 1]
    assert sorted(row for batch in second for row in batch) == rows
    assert second != [batch for epoch, batch in seen if epoch == 0]  # each epoch has an order of its own


def test_the_result_is_a_model_folder_with_its_provenance(dataset, uninterrupted):
    model = load_model(uninterrupted.model_url)
    assert model.config.classes == dataset.manifest.scored_classes
    assert model.config.input.size_px == TINY.image_size_px
    assert model.provenance["dataset_digest"] == dataset.manifest.digest
    assert model.provenance["config"] == TINY.to_json()
    assert 1 <= model.provenance["epoch"] <= TINY.max_epochs


def test_a_finished_run_does_nothing(dataset, uninterrupted):
    run = uninterrupted.model_url.removesuffix("/model")
    again = train(dataset, run, TINY, hardware=FLOAT32, callbacks=[StopBefore(0)])
    assert again.was_finished
    assert again.model.model_id == uninterrupted.model.model_id


def test_a_folder_of_another_run_is_refused_with_what_differs(dataset, uninterrupted):
    run = uninterrupted.model_url.removesuffix("/model")
    with pytest.raises(
        ValueError, match=r"run folder must be new or of the same run, got one with seed 0 rather than 1"
    ):
        train(dataset, run, replace(TINY, seed=1), hardware=FLOAT32)
    with pytest.raises(ValueError, match=r"schedule.warmup_fraction 0.1 rather than 0.5.*name another --output"):
        train(dataset, run, replace(TINY, schedule=CosineSchedule(warmup_fraction=0.5)), hardware=FLOAT32)


def test_a_folder_of_a_run_on_another_dataset_is_refused(uninterrupted, tmp_path):
    other = make_dataset(tmp_path, num_train=8, seed=1)
    with pytest.raises(ValueError, match=r"got one with dataset_digest '[0-9a-f]{64}' rather than"):
        train(other, uninterrupted.model_url.removesuffix("/model"), TINY, hardware=FLOAT32)


def test_the_best_epoch_becomes_the_model_not_the_last(dataset, tmp_path, monkeypatch):
    ratings = iter([0.9, 0.1])
    monkeypatch.setattr("model.training.loss_base.average_precisions", lambda logits, labels: [next(ratings)] * 3)
    after_first = {}

    class Keep(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 0:
                after_first.update({name: value.clone() for name, value in pl_module.network.state_dict().items()})

    result = train(dataset, str(tmp_path), TINY, hardware=FLOAT32, callbacks=[Keep()])
    assert result.model.provenance["epoch"] == 1
    assert result.model.provenance["validation_mean_average_precision"] == pytest.approx(0.9)
    assert all(torch.equal(value, after_first[name]) for name, value in result.model.network.state_dict().items())


def test_without_held_out_scans_the_last_epoch_becomes_the_model(dataset, tmp_path):
    result = train(dataset, str(tmp_path), replace(TINY, validation_fraction=0.0), hardware=FLOAT32)
    assert result.model.provenance["epoch"] == TINY.max_epochs
    assert result.model.provenance["validation_mean_average_precision"] is None


def test_a_run_in_another_store_is_resumed_there(dataset):
    run = "memory://runs/one"
    with pytest.raises(StoppedError):
        train(dataset, run, TINY, hardware=FLOAT32, callbacks=[StopBefore(3)], checkpoint_seconds=0.0)
    result = train(dataset, run, TINY, hardware=FLOAT32)
    assert result.model_url == "memory://runs/one/model"
    assert storage.exists("memory://runs/one/model/model.safetensors")


@pytest.mark.parametrize("damage", ["pickle", "half"])
def test_a_checkpoint_that_is_damaged_or_holds_a_pickled_object_is_not_loaded(dataset, tmp_path, damage):
    with pytest.raises(StoppedError):
        train(dataset, str(tmp_path), TINY, hardware=FLOAT32, callbacks=[StopBefore(3)], checkpoint_seconds=0.0)
    path = tmp_path / "checkpoints" / "last.ckpt"
    if damage == "pickle":
        torch.save({"state_dict": {}, "harm": StoppedError()}, path)
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"checkpoint must be whole and hold plain tensors.*last.ckpt"):
        train(dataset, str(tmp_path), TINY, hardware=FLOAT32)


def test_a_run_that_is_refused_leaves_its_folder_free(dataset, tmp_path):
    missing = replace(TINY, pretrained=True, backbone_weights=str(tmp_path / "none.safetensors"))
    with pytest.raises(ValueError, match=r"none\.safetensors"):
        train(dataset, str(tmp_path / "run"), missing, hardware=FLOAT32)
    assert not (tmp_path / "run").exists()
    train(dataset, str(tmp_path / "run"), replace(TINY, max_epochs=1), hardware=FLOAT32)


def test_a_folder_that_another_run_claims_while_this_one_is_checked_is_refused(dataset, tmp_path, monkeypatch):
    def load_slowly(*args):
        claim_run_dir(str(tmp_path), replace(TINY, seed=1), dataset.manifest.digest, FLOAT32, {})
        return load_sample_table(*args)

    monkeypatch.setattr("model.training.trainer.load_sample_table", load_slowly)
    with pytest.raises(
        ValueError, match="run folder must be new or of the same run, got one with seed 1 rather than 0"
    ):
        train(dataset, str(tmp_path), TINY, hardware=FLOAT32)


def test_a_split_that_is_absent_is_named(tmp_path):
    dataset = make_dataset(tmp_path / "data", num_train=0, num_test=4)
    with pytest.raises(ValueError, match="samples must be at least 1 scan to train on, got 0"):
        train(dataset, str(tmp_path / "run"), TINY, hardware=FLOAT32)


@pytest.mark.slow
def test_the_network_learns_what_the_classes_look_like(tmp_path):
    dataset = make_dataset(tmp_path / "data", num_train=160)
    config = replace(TINY, max_epochs=6, batch_size=8, validation_fraction=0.25)
    found = train(dataset, str(tmp_path / "run"), config, hardware=FLOAT32).model.provenance
    assert found["validation_mean_average_precision"] > 0.75  # the prevalence is 0.4


def test_the_cosine_schedule_warms_up_and_ends_at_nothing():
    schedule = CosineSchedule(warmup_fraction=0.25)
    assert [schedule.factor(p) for p in (0.0, 0.25, 0.625, 1.0)] == pytest.approx([0.1, 1.0, 0.5, 0.0])


def test_the_step_schedule_divides_at_its_points():
    schedule = StepSchedule(drops=(0.5, 0.8), divisor=10)
    assert [schedule.factor(p) for p in (0.0, 0.49, 0.5, 0.8)] == pytest.approx([1, 1, 0.1, 0.01])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size and max_epochs must be >= 1, got 0 and 2"),
        ({"positive_repeats": 0}, "positive_repeats must be >= 1, got 0"),
        ({"accumulate_batches": 0}, "accumulate_batches must be >= 1, got 0"),
        ({"positive_fraction": 1.0}, r"positive_fraction must be in \[0, 1\), got 1.0"),
        ({"positive_fraction": 0.5, "positive_repeats": 2}, "must go without positive_repeats, got 0.5 and 2"),
        ({"patience": 0}, "patience must be >= 1 and go with held-out scans, got 0"),
        ({"patience": 2, "validation_fraction": 0.0}, "patience .* got 2 with validation_fraction 0.0"),
        ({"learning_rate": math.nan}, "learning_rate must be > 0, got nan"),
        ({"validation_fraction": 1.0}, r"validation_fraction must be in \[0, 1\), got 1.0"),
        ({"image_size_px": 57}, "image_size_px must be in 32..resize_px, got 57 with resize_px 56"),
        ({"backbone_weights": "w.safetensors"}, "backbone_weights must go with pretrained"),
    ],
)
def test_a_config_that_cannot_be_run_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")  # of Python 3.12 and later
@pytest.mark.usefixtures("forked_devices")
@pytest.mark.parametrize(("num_devices", "validation_fraction"), [(1, 0.2), (1, 0.0), (2, 0.0)])
def test_a_run_that_diverges_is_refused_and_leaves_no_model(dataset, tmp_path, num_devices, validation_fraction):
    config = replace(TINY, learning_rate=1e30, validation_fraction=validation_fraction)
    message = (
        r"must be finite, got NaN or infinity by step \d+, in epoch 1 \(learning rate 1e\+30\).*smaller --learning"
    )
    hardware = replace(FLOAT32, num_devices=num_devices)
    # A second run fails alike: no state that is not finite was saved.
    for _ in range(2 if num_devices == 1 else 1):
        with pytest.raises(DivergedError, match=message):
            train(dataset, str(tmp_path), config, hardware=hardware, checkpoint_seconds=0.0)
    assert not (tmp_path / "model").exists()
    checkpoints = list((tmp_path / "checkpoints").glob("*"))
    assert all(value.isfinite().all() for url in checkpoints for value in read_checkpoint(url)["state_dict"].values())


def test_the_mean_loss_of_an_epoch_and_the_output_for_held_out_scans_must_be_finite(dataset, tmp_path, monkeypatch):
    whole = LossConfig.terms
    with monkeypatch.context() as patch:
        patch.setattr(LossConfig, "terms", lambda *of: {"a": whole(*of)["classification"].detach() / 0})
        patch.setattr(TrainingModule, "backward", lambda *of: None)
        with pytest.raises(DivergedError, match="mean loss must be finite, got NaN or infinity by step 5, in epoch 1"):
            train(dataset, str(tmp_path / "a"), TINY, hardware=FLOAT32)
    monkeypatch.setattr(LossConfig, "evidence", lambda self, output, batch: output.logits_BK / 0)
    with pytest.raises(DivergedError, match="output for held-out scans must be finite"):
        train(dataset, str(tmp_path / "b"), TINY, hardware=FLOAT32)
    assert not list(tmp_path.rglob("*.ckpt"))
