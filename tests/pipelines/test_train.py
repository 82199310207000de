import json
import multiprocessing
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from lightning.pytorch import Callback

from model.artifacts.saved_model import load_model
from model.recipes.registry import RECIPES
from model.training.config import split_batch_across_devices
from model.training.losses import LossConfig, SoftmaxConfig
from pipelines.runtime.command_line import OK, STOPPED, WRONG_USAGE
from pipelines.runtime.flags import make_config
from pipelines.train import TrainJobConfig, configure, main, make_parser
from tests.model.scans import make_dataset

FAST = [
    "--recipe",
    "demo",
    "--backbone",
    "test_resnet",
    "--no-pretrained",
    "--image-size",
    "48",
    "--batch-size",
    "4",
    "--positive-repeats",
    "1",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("dataset"), num_train=40)


def configure_by(*words):
    job = make_config(TrainJobConfig, make_parser().parse_args(["--data", "D", "--output", "R", *words]))
    return configure(job.recipe, job.seed, job.overrides)


def test_a_run_ends_with_a_model_and_says_where(dataset, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["--data", dataset.url, "--output", str(run), *FAST, "--max-epochs", "2"]) == OK
    out, err = capsys.readouterr()
    model_id = load_model(str(run / "model")).model_id
    assert out.splitlines()[0].startswith("run finished: epoch ")
    assert "validation mean average precision " in out.splitlines()[0]
    assert " positives in a step of 4 scans (none in " in out.splitlines()[0]
    share = r"\d+%( / \d+%){2}"
    expected = rf"levels, finest first: {share} of peaks, {share} of least losses, {share} of negatives judged"
    assert re.fullmatch(expected, out.splitlines()[1])
    assert out.splitlines()[2:] == [f"model {model_id}", str(run / "model")]
    assert all(f"epoch {epoch} of 2: mean loss " in err for epoch in (1, 2))
    assert "train: " in err and "scans/s" in err
    assert list((run / "logs" / "csv").rglob("metrics.csv"))
    assert list((run / "logs" / "tensorboard").glob("events.*"))
    assert main(["--data", dataset.url, "--output", str(run), *FAST, "--max-epochs", "2"]) == OK
    out, err = capsys.readouterr()
    assert out.startswith("run is finished, nothing to do: ")
    assert err == ""


def test_another_config_over_a_run_is_an_error_that_names_the_difference(dataset, tmp_path, capsys):
    arguments = ["--data", dataset.url, "--output", str(tmp_path), *FAST]
    assert main([*arguments, "--max-epochs", "1"]) == OK
    capsys.readouterr()
    assert main([*arguments, "--max-epochs", "2"]) == WRONG_USAGE
    assert "got one with max_epochs 1 rather than 2" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_killed_outright_goes_on_and_ends_with_the_same_bytes(dataset, tmp_path):
    def words(run):
        return ["--data", dataset.url, "--output", str(run), *FAST, "--max-epochs", "3", "--checkpoint-seconds", "0"]

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    # Not forked from here: what other tests have mapped may be more than the machine would give a second time.
    process = multiprocessing.get_context("forkserver").Process(target=main, args=[words(killed)])
    process.start()
    deadline = time.monotonic() + 120
    while not (killed / "checkpoints" / "last.ckpt").exists():
        assert process.is_alive(), "the run ended without a checkpoint"
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (killed / "model").exists()
    for run in (killed, whole):
        assert main(words(run)) == OK
    assert weights(killed) == weights(whole)


def test_a_run_that_is_asked_to_end_does_not_pass_for_finished(dataset, tmp_path, capsys):
    words = ["--data", dataset.url, "--output", str(tmp_path), *FAST, "--max-epochs", "1"]

    class Ask(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.train.ShowProgress", Ask)
        assert main(words) == STOPPED
    assert capsys.readouterr().err.startswith(f"error: training was stopped by SIGTERM ({tmp_path}); when that is")
    assert main(words) == OK


@pytest.mark.slow
def test_a_run_that_diverges_is_wrong_usage_and_says_what_to_do(dataset, tmp_path, capsys):
    words = ["--data", dataset.url, "--output", str(tmp_path), *FAST, "--max-epochs", "1", "--learning-rate", "1e30"]
    assert main(words) == WRONG_USAGE
    err = capsys.readouterr().err
    assert "(learning rate 1e+30): training has diverged; begin again with a smaller --learning-rate" in err
    assert "epoch 1 of 1" not in err and "Traceback" not in err
    assert not (tmp_path / "model").exists()


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-epoch", "1"], "unrecognized arguments: --max-epoch 1"),
        (["--recipe", "none"], "invalid choice: 'none'"),
        (["--", "--runner=FlinkRunner"], "unrecognized arguments"),
    ],
)
def test_a_flag_that_is_not_known_is_wrong_usage(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--data", "D", "--output", "R", *words])
    assert stopped.value.code == WRONG_USAGE
    assert message in capsys.readouterr().err


def test_a_folder_that_is_no_dataset_is_wrong_usage(tmp_path, capsys):
    assert main(["--data", str(tmp_path), "--output", str(tmp_path / "run")]) == WRONG_USAGE
    assert "dataset must have a dataset.json" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--batch-size", "0"], ["--max-epochs", "0"], ["--learning-rate", "-1"]])
def test_a_flag_out_of_range_is_wrong_usage(dataset, tmp_path, capsys, flags):
    assert main(["--data", dataset.url, "--output", str(tmp_path), *flags]) == WRONG_USAGE
    assert "must be >" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", ["default", "sxmnet_self_sixray", "sxmnet_attention_sixray"])
def test_a_model_to_start_from_is_refused_where_a_recipe_has_no_use_for_it(dataset, tmp_path, capsys, recipe):
    words = ["--data", dataset.url, "--output", str(tmp_path / "run"), "--recipe", recipe, "--initial-model", "I/model"]
    assert main(words) == WRONG_USAGE
    assert f"must go with a recipe of SXMNet's stage II, got one with {recipe!r}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_random_weights_are_not_frozen(tmp_path, capsys):
    words = ["--data", "D", "--output", str(tmp_path / "run"), "--frozen-stages", "2", "--no-pretrained"]
    assert main(words) == WRONG_USAGE
    message = "frozen_stages must go with weights that were learnt, got 2 stages of random ones; drop --no-pretrained"
    assert message in capsys.readouterr().err


def test_flags_change_the_recipe_they_stand_beside():
    config = configure_by("--recipe", "chr_resnet34_sixray10", "--backbone", "resnet50", "--seed", "7")
    assert (config.recipe, config.backbone, config.seed, config.max_epochs) == (
        "chr_resnet34_sixray10",
        "resnet50",
        7,
        15,
    )


def test_a_printed_recipe_has_the_flags_applied_and_makes_the_same_config(tmp_path, capsys):
    words = ["--recipe", "demo", "--network", "hr", "--no-pretrained", "--seed", "7", "--image-size", "99"]
    assert main([*words, "--print-recipe"]) == OK
    file = tmp_path / "mine.toml"
    file.write_text(capsys.readouterr().out)
    config = configure_by("--recipe", str(file))
    assert config == configure_by(*words)
    assert (config.network, config.pretrained, config.seed, config.image_size_px) == ("hr", False, 7, 99)
    assert configure_by("--recipe", str(file), "--seed", "8") == replace(config, seed=8)


def test_a_file_that_is_no_recipe_is_wrong_usage(tmp_path, capsys):
    file = tmp_path / "mine.toml"
    file.write_text("epochs = 3")
    for name, message in [(file, "got epochs"), (tmp_path / "none.toml", "recipe must be a file, got none")]:
        assert main(["--data", "D", "--output", str(tmp_path / "run"), "--recipe", str(name)]) == WRONG_USAGE
        assert message in capsys.readouterr().err


def test_flags_say_how_a_step_is_made_up_and_when_a_run_ends():
    words = ["--accumulate-batches", "4", "--positive-fraction", "0.5", "--patience", "3"]
    rates = ["--layer-decay", "0.7", "--frozen-stages", "2", "--ema-decay", "0.9"]
    config = configure_by("--recipe", "demo", *words, *rates)
    assert (config.accumulate_batches, config.positive_fraction, config.patience) == (4, 0.5, 3)
    assert (config.layer_decay, config.frozen_stages, config.ema_decay) == (0.7, 2, 0.9)
    assert config.positive_repeats == 1  # the recipe's ten repeats give way to the share that was asked for


@pytest.mark.slow
def test_devices_share_the_batch_so_that_a_step_has_the_recipes_scans(dataset, tmp_path, capsys):
    words = ["--data", dataset.url, "--output", str(tmp_path), *FAST, "--max-epochs", "1", "--devices"]
    assert main([*words, "3"]) == WRONG_USAGE
    message = "batch_size must be a multiple of the number of devices, got 4 for 3 (recipe 'demo'); name --devices or"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run.json").exists()
    assert main([*words, "2"]) == OK
    assert " positives in a step of 4 scans (none in " in capsys.readouterr().out
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["config"]["batch_size"], run["num_devices"]) == (2, 2)


@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
def test_every_recipe_can_be_shared_by_the_gpus_of_one_machine(num_devices):
    for recipe in RECIPES.values():
        whole, part = recipe(), split_batch_across_devices(recipe(), num_devices)
        assert part == replace(whole, batch_size=part.batch_size)
        assert part.batch_size * num_devices == whole.batch_size


@pytest.mark.parametrize(
    ("words", "network", "num_levels", "balanced"),
    [
        (["--network", "plain"], "plain", 1, False),
        (["--network", "h"], "h", 3, False),
        (["--network", "ch", "--num-levels", "2"], "ch", 2, True),
        (["--num-levels", "4"], "chr", 4, True),
        (["--recipe", "plain_resnet34_sixray10", "--network", "hr"], "hr", 3, False),
        (["--recipe", "plain_resnet34_sixray10"], "plain", 1, False),
    ],
)
def test_a_system_of_the_papers_table_can_be_named(words, network, num_levels, balanced):
    config = configure_by(*words)
    assert (config.network, config.num_levels) == (network, num_levels)
    assert config.loss == LossConfig(balanced=balanced)


def test_another_network_keeps_a_soft_max():
    assert configure_by("--recipe", "chr_resnet18_ilsvrc2012", "--network", "h").loss == SoftmaxConfig()


@pytest.mark.parametrize(("network", "same"), [("ch", "h"), ("chr", "hr")])
def test_a_network_whose_name_promises_weights_is_refused_over_a_soft_max(network, same):
    message = f"network must be plain, h or hr with SoftmaxConfig.* got '{network}' .*; '{same}' is the same network"
    with pytest.raises(ValueError, match=message):
        configure_by("--recipe", "plain_resnet18_ilsvrc2012", "--network", network)
    own = configure_by("--recipe", "chr_resnet18_ilsvrc2012", "--network", "chr")
    assert own == configure_by("--recipe", "chr_resnet18_ilsvrc2012")


def test_the_recorded_name_shows_another_network():
    assert configure_by("--network", "plain").recipe == "default --network plain"
    assert configure_by("--network", "chr").recipe == "default"
    assert configure_by("--recipe", "chr_resnet34_sixray10", "--network", "hr").recipe.endswith("10 --network hr")


def test_a_network_is_refused_where_the_recipe_has_a_loss_of_sxmnet():
    message = "network must be given for a recipe with LossConfig or SoftmaxConfig, got 'chr' for 'sxmnet_self_sixray'"
    with pytest.raises(ValueError, match=message):
        configure_by("--recipe", "sxmnet_self_sixray", "--network", "chr")


def test_the_margin_of_the_crop_follows_the_image_size():
    assert configure_by("--image-size", "112").resize_px == 128
    assert configure_by().resize_px == 256


def test_weights_from_a_file_ask_for_pretraining_and_no_pretrained_forbids_it(capsys):
    assert configure_by("--backbone-weights", "w.safetensors").pretrained
    assert not configure_by("--recipe", "chr_resnet34_sixray10", "--no-pretrained").pretrained
    assert not configure_by("--recipe", "chr_resnet18_ilsvrc2012").pretrained
    assert configure_by("--recipe", "chr_resnet18_ilsvrc2012", "--backbone", "tf_efficientnet_lite0").pretrained
    with pytest.raises(ValueError, match="backbone_weights must go with pretrained"):
        configure_by("--backbone-weights", "w.safetensors", "--no-pretrained")
