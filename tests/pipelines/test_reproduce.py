"""Test that a table comes out of real runs, that none is done twice, and that bad requests are refused first."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.artifacts.saved_model import load_model
from model.hardware import detect_hardware
from model.recipes.paper_tables import load_tables
from model.recipes.registry import RECIPES
from model.training.level_labels import read_labels_info, write_level_labels
from pipelines import convert, reproduce, reproduce_runs
from pipelines import score as score_command
from pipelines.runtime.command_line import OK, STOPPED, WRONG_USAGE
from pipelines.runtime.flags import make_config
from pipelines.train import configure
from shards.format.dataset import open_dataset
from shards.format.parquet import read_parquet
from tests.corpora import make_corpus, stamps_of
from tests.model.scans import make_dataset

FLOAT32 = replace(detect_hardware(), dtype="float32")
SMALL = ["--max-epochs", "1", "--no-pretrained", "--backbone", "test_resnet", "--image-size", "32"]
ROWS = ["--row", "ResNet34", "--row", "ResNet34+CH"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("reproduce")
    make_corpus(root / "corpus", num_train=30, num_test=15)
    assert convert.main(["--input", str(root / "corpus"), "--output", str(root / "dataset")]) == OK
    return str(root / "dataset")


def cells_of(output, table):
    document = json.loads((output / table / "reproduction.json").read_text())
    return {(cell["row"], cell["dataset"], cell["metric"]): cell for cell in document["cells"]}, document["notes"]


def test_a_table_is_run_stopped_gone_on_with_and_shared_with_other_tables(dataset, tmp_path, capsys, monkeypatch):
    words = ["chr-4", "--data", f"sixray10={dataset}", "--output", str(tmp_path), *ROWS, *SMALL]
    num_scored = 0

    def score_once(*arguments):
        nonlocal num_scored
        num_scored += 1
        if num_scored == 2:
            raise OSError("no space left")
        return score_command.score_datasets(*arguments)

    monkeypatch.setattr(reproduce_runs, "score_datasets", score_once)
    assert reproduce.main(words) == STOPPED
    cells, _ = cells_of(tmp_path, "chr-4")
    assert cells["ResNet34", "sixray10", "average_precision"]["state"] == "run"
    assert cells["ResNet34+CH", "sixray10", "average_precision"]["state"] == "not run"
    stamps = stamps_of(tmp_path / "runs/plain_resnet34_sixray10-seed-0")
    capsys.readouterr()

    assert reproduce.main(words) == OK
    out = capsys.readouterr().out
    assert num_scored == 3
    assert stamps_of(tmp_path / "runs/plain_resnet34_sixray10-seed-0") == stamps
    cells, notes = cells_of(tmp_path, "chr-4")
    ran = {key: cell for key, cell in cells.items() if cell["state"] != "not run"}
    assert set(ran) == {
        (row, "sixray10", metric)
        for row in ("ResNet34", "ResNet34+CH")
        for metric in ("average_precision", "pointing_accuracy")
    }
    for cell in ran.values():
        assert 0 <= cell["ours"] <= 100
        assert f"{cell['ours']:.2f} / {cell['paper']:.2f} ({cell['difference']:+.2f})" in out
    assert "all of ours: changed setting, backbone 'test_resnet' rather than 'resnet34.tv_in1k'" in notes
    num_epochs = RECIPES["plain_resnet34_sixray10"]().max_epochs
    assert f"all of ours: changed setting, max_epochs 1 rather than {num_epochs}" in notes
    assert "all of ours: other data, 45 scans rather than 98,219 (SIXray10 in the paper)" in notes
    assert notes.pop(0).startswith("gradients: ")  # of all rows; what is printed is of those that were chosen
    assert "the top level of ResNet34 gets 3 times the gradient of that of ResNet34+CH;" in out
    assert all(note in out for note in notes)
    assert not any("levels" in note or "network" in note for note in notes)
    assert "not run / 52.74" in out and "53.59" not in out, "other columns are shown, other rows not"
    assert (tmp_path / "chr-4/reproduction.csv").exists() and (tmp_path / "chr-4/reproduction.md").exists()

    words[0] = "chr-3"
    assert reproduce.main([*words[:5], "--row", "ResNet34", *SMALL]) == OK
    assert num_scored == 3, "the run is that of chr-4"
    cells, _ = cells_of(tmp_path, "chr-3")
    assert cells["ResNet34", "sixray10", "pointing_accuracy"]["ours"] is not None


def test_other_settings_over_finished_runs_are_refused_by_name(dataset, tmp_path, capsys):
    words = ["chr-4", "--data", f"sixray10={dataset}", "--output", str(tmp_path), "--row", "ResNet34", *SMALL]
    assert reproduce.main(words) == OK
    assert reproduce.main([*words, "--learning-rate", "0.5"]) == WRONG_USAGE
    assert "got one with learning_rate 0.01 rather than 0.5" in capsys.readouterr().err


def test_without_data_nothing_is_run_and_the_papers_figures_are_shown(tmp_path, capsys):
    assert reproduce.main(["chr-4", "--output", str(tmp_path), "--column", "sixray10/pointing_accuracy"]) == OK
    out, err = capsys.readouterr()
    assert "not run / 51.45" in out and "not run / 52.23" in out and "74.83" not in out
    assert "no --data sixray10=DATASET is given, its cells are not run" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "sixray10"], "--data must be NAME=DATASET with each name once, got 'sixray10'"),
        (["--data", "sixray=D"], "data must be of sixray10, sixray100, sixray1000, got sixray (table chr-4)"),
        (["--seeds", "1", "1"], "seeds must be different numbers, at least one, got [1, 1]"),
        (["--row", "VGG"], "row must be one of ResNet34, ResNet34+H,"),
        (["--column", "Gun"], "column must be named by dataset, metric or class,"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, capsys, words, message):
    assert reproduce.main(["chr-4", "--output", str(tmp_path / "out"), *words]) == WRONG_USAGE
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_data_without_a_class_of_the_table_is_refused_before_anything_is_run(tmp_path, capsys):
    other = make_dataset(tmp_path / "dataset")  # Gun, Knife and Wrench
    words = ["chr-4", "--data", f"sixray10={other.url}", "--output", str(tmp_path / "out"), *SMALL]
    assert reproduce.main(words) == WRONG_USAGE
    assert "dataset sixray10 must score Pliers, Scissors, got none of them" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_row_without_a_recipe_is_refused_before_anything_is_run(dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(reproduce_runs, "RECIPES", {name: RECIPES[name] for name in ("default", "demo")})
    words = ["chr-4", "--data", f"sixray10={dataset}", "--output", str(tmp_path / "out"), "--row", "ResNet34+H"]
    assert reproduce.main(words) == WRONG_USAGE
    assert "recipe must be one that `sixray train --help` names, got 'h_resnet34_sixray10'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_batch_that_devices_cannot_share_is_refused_before_anything_is_run(dataset, tmp_path, capsys):
    words = ["chr-4", "--data", f"sixray10={dataset}", "--output", str(tmp_path / "out"), "--devices", "3", *SMALL]
    assert reproduce.main(words) == WRONG_USAGE
    assert "got 160 for 3 (recipe 'plain_resnet34_sixray10'); name --devices" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_stages_and_labels_of_levels_are_made_first_and_shared(dataset, tmp_path, capsys):
    words = ["sxmnet-4", "--data", f"sixray={dataset}", "--output", str(tmp_path), *SMALL]
    assert reproduce.main([*words, "--row", "Our MF-I"]) == OK
    first = stamps_of(tmp_path / "runs/sxmnet_attention_sixray-seed-0")
    assert reproduce.main(words) == OK
    assert stamps_of(tmp_path / "runs/sxmnet_attention_sixray-seed-0") == first, "one stage I for all three fusions"
    cells, notes = cells_of(tmp_path, "sxmnet-4")
    states = {(row, dataset): cell["state"] for (row, dataset, _), cell in cells.items()}
    rows = ("Gated Fusion", "Our MF-I", "Our MF-N")
    assert states == {
        (row, data): "run" if data == "sixray" else "not run" for row in rows for data in ("sixray", "opixray")
    }
    labels = tmp_path / "runs/chr_authors_resnet101_sixray-seed-0/levels/sixray.parquet"
    config = json.loads((tmp_path / "runs/sxmnet_sixray-seed-0/run.json").read_text())["config"]
    assert config["loss"]["labels"]["table"] == str(labels) and labels.exists()
    assert config["initial_model"] == str(tmp_path / "runs/sxmnet_attention_sixray-seed-0/model")
    stage_one = RECIPES["sxmnet_attention_sixray"]().max_epochs
    changed = [note for note in notes if f"max_epochs 1 rather than {stage_one} (sxmnet_attention_sixray)" in note]
    assert len(changed) == 1 and not any("initial_model" in note or "table" in note for note in notes)


def test_a_row_that_is_run_with_another_network_keeps_its_place_and_says_so(dataset, tmp_path):
    words = ["chr-4", "--output", str(tmp_path), "--network", "hr", *SMALL]
    config = make_config(reproduce.ReproduceConfig, reproduce.make_parser().parse_args(words))
    (run,) = reproduce_runs.plan_runs(
        load_tables()["chr-4"].choose(["ResNet34"], []),
        {"sixray10": open_dataset(dataset)},
        str(tmp_path),
        (0,),
        lambda recipe, seed: configure(recipe, seed, config.overrides),
    )
    assert (run.recipe, run.config.recipe) == ("plain_resnet34_sixray10", "plain_resnet34_sixray10 --network hr")
    assert "network 'hr' rather than 'plain'" in run.changes


@pytest.fixture
def labelled(dataset, tmp_path):
    """Return a run on OPIXray's place whose labels are of a network of SIXray's place, the labels made."""
    words = ["sxmnet-8", "--output", str(tmp_path), *SMALL]
    config = make_config(reproduce.ReproduceConfig, reproduce.make_parser().parse_args(words))
    (run,) = reproduce_runs.plan_runs(
        load_tables()["sxmnet-8"].choose(["Res50-FPN + MF-N"], ["opixray"]),
        dict.fromkeys(("sixray", "opixray"), open_dataset(dataset)),
        str(tmp_path),
        (0,),
        lambda recipe, seed: configure(recipe, seed, config.overrides),
    )
    assert run.labeller is not None
    reproduce_runs.label_levels(run, run.labeller, FLOAT32)
    return run


def test_a_labeller_of_other_data_sees_scans_trimmed_as_the_network_will_that_learns_from_it(labelled):
    levels = Path(labelled.labeller.url) / "levels"
    whole, trimmed = load_model(labelled.labeller.model_url), load_model(str(levels / "opixray-model"))
    assert not whole.config.input.trim_margins
    assert (
        trimmed.config == replace(whole.config, input=replace(whole.config.input, trim_margins=True))
        and labelled.config.trim_margins
    )
    assert all(
        torch.equal(value, whole.network.state_dict()[name]) for name, value in trimmed.network.state_dict().items()
    )
    assert read_labels_info(str(levels / "opixray.parquet")).model_id == trimmed.model_id
    assert [folder.name for folder in (levels / "opixray").iterdir()] == [trimmed.model_id]


def test_labels_of_another_model_or_of_other_data_are_made_anew(labelled):
    url = labelled.labeller.labels_url("opixray")
    good, table, info = Path(url).read_bytes(), read_parquet(url), read_labels_info(url)
    assert info.trim_margins
    for stale in (
        replace(info, model_id="chr-of-yesterday"),
        replace(info, dataset_digest="0" * 64),
        replace(info, trim_margins=False),
    ):
        write_level_labels(url, table, stale)
        reproduce_runs.label_levels(labelled, labelled.labeller, FLOAT32)
        assert Path(url).read_bytes() == good
    stamp = Path(url).stat().st_mtime_ns
    reproduce_runs.label_levels(labelled, labelled.labeller, FLOAT32)
    assert Path(url).stat().st_mtime_ns == stamp


def test_data_that_labels_levels_must_be_given_too(dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(reproduce, "check_datasets", lambda table, datasets: None)  # no scan of OPIXray is needed
    words = ["sxmnet-4", "--data", f"opixray={dataset}", "--output", str(tmp_path / "out"), *SMALL]
    assert reproduce.main([*words, "--row", "Our MF-N"]) == WRONG_USAGE
    message = "--data must name sixray too, got opixray; 'chr_authors_resnet101_sixray' is trained on it first"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_table_of_another_name_is_refused():
    with pytest.raises(ValueError, match=r"table must be one of chr-2, .*, sxmnet-8, got 'chr-9'"):
        reproduce.ReproduceConfig(table="chr-9", data={}, output="out")
