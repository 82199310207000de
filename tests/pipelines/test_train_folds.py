"""Models that each leave a fold out, and the scores of each scan by the model that has not seen it."""

import json
import shutil
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from lightning.pytorch import Callback

from model.inputs.sample_table import load_sample_table
from model.scoring.heatmap_reader import HeatmapReader
from model.training.trainer import find_folds
from pipelines import evaluate, review, train, verify
from pipelines.runtime.command_line import OK, WRONG_USAGE
from shards import storage
from shards.predictions.run import open_predictions
from tests.model.scans import make_dataset
from tests.pipelines.test_train import FAST


class Watch(Callback):
    """Keeps which scans each model has learnt from, or was chosen by."""

    seen: ClassVar[list[set[str]]] = []

    def on_train_start(self, trainer, pl_module):
        self.seen.append(
            {key for rows in (pl_module.training_samples, pl_module.held_out) for key in rows.keys.to_pylist()}
        )


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    dataset = make_dataset(folder / "ds", num_train=20)
    words = ["--data", dataset.url, "--output", str(folder / "run"), *FAST, "--max-epochs", "1", "--folds", "2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.train.ShowProgress", Watch)
        assert train.main(words) == OK
    (predictions,) = (folder / "run/predictions").iterdir()
    return dataset, words, predictions


def test_each_scan_is_scored_by_the_model_that_has_not_seen_it(ran):
    dataset, _, predictions = ran
    samples = load_sample_table(dataset, "train")
    rows = open_predictions(str(predictions)).read_rows("train")
    assert rows["key"].to_pylist() == samples.keys.to_pylist()  # every scan once, in the order of the shards
    folds = find_folds(samples, 2)
    run = json.loads((predictions / "run.json").read_text())
    assert run["trained_on"] == {"dataset_digest": dataset.manifest.digest, "splits": []}
    for number, model in enumerate(run["out_of_fold"]["models"], 1):
        own = samples.keys.filter(pa.array(folds == number))
        assert Watch.seen[number - 1] == set(samples.keys.to_pylist()) - set(own.to_pylist())
        assert (model["fold"], model["num_scans"]) == (number, len(own))
        whole = open_predictions(str(predictions.parents[1] / f"fold-{number}/predictions" / model["model_id"]))
        expected, found = (table.filter(pc.is_in(table["key"], own)) for table in (whole.read_rows("train"), rows))
        assert found.equals(expected)


def test_what_rates_predictions_takes_them_and_does_not_call_them_training_data(ran, tmp_path, capsys):
    dataset, _, predictions = ran
    flags = ["--predictions", str(predictions), "--data", dataset.url, "--split", "train", "--output"]
    assert verify.main([str(predictions)]) == OK
    assert evaluate.main([*flags, str(tmp_path / "report")]) == OK
    assert json.loads((tmp_path / "report/metrics.json").read_text())["is_training_data"] is False
    said = "out of fold: each scan by one of 2 models, which has not learnt from its bag"
    assert said in (tmp_path / "report/report.html").read_text()
    capsys.readouterr()
    assert review.main([*flags, str(tmp_path / "review")]) == OK
    assert "has learnt" not in capsys.readouterr().err
    page = (tmp_path / "review/review.html").read_text()
    assert said in page and "has learnt from these labels" not in page


def test_heatmaps_of_a_review_are_each_of_the_model_that_has_not_seen_the_scan(ran, tmp_path, capsys, monkeypatch):
    dataset, _, predictions = ran
    run = predictions.parents[1]
    shutil.copytree(run / "fold-2/model", run / "model")  # a run without folds in the same folder
    drawn: list[tuple[str, str]] = []

    class Reader(HeatmapReader):
        def __init__(self, folder, *more):
            super().__init__(folder, *more)
            self.folder = folder

        def read(self, scan):
            drawn.append((scan.row.key, self.folder))
            return super().read(scan)

    monkeypatch.setattr("pipelines.review_heatmaps.HeatmapReader", Reader)
    words = ["--predictions", str(predictions), "--data", dataset.url, "--split", "train", "--output", str(tmp_path)]
    try:
        assert review.main([*words, "--model", str(run)]) == OK
        assert review.main([*words, "--model", str(run / "fold-1")]) == WRONG_USAGE
    finally:
        shutil.rmtree(run / "model")
    samples = load_sample_table(dataset, "train")
    folds = dict(zip(samples.keys.to_pylist(), find_folds(samples, 2).tolist(), strict=True))
    assert dict(drawn) == {key: f"{run}/fold-{fold}/model" for key, fold in folds.items()}
    assert "model must be the run of `train --folds` that made the predictions, got no model in" in (
        capsys.readouterr().err
    )


def test_the_scores_of_one_fold_are_reviewed_as_those_of_any_run(ran, tmp_path, capsys):
    dataset, _, predictions = ran
    fold = predictions.parents[1] / "fold-1"
    (own,) = (fold / "predictions").iterdir()
    words = ["--predictions", str(own), "--data", dataset.url, "--split", "train", "--output", str(tmp_path)]
    assert review.main([*words, "--model", str(fold)]) == OK
    assert "the model has learnt from these labels" in capsys.readouterr().err
    assert (tmp_path / "review.html").read_text().count('class="layer"') == 20


def test_a_run_that_was_killed_does_what_is_left_and_ends_with_the_same_bytes(ran, capsys):
    _, words, predictions = ran
    before = read_files(predictions.parents[1])
    part = sorted(predictions.glob("*.parquet"))[0]
    for path in (part, predictions / "run.json"):
        path.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.train.ShowProgress", Watch)
        num_trained = len(Watch.seen)
        assert train.main(words) == OK
        assert len(Watch.seen) == num_trained
    after = read_files(predictions.parents[1])
    assert after.keys() == before.keys()
    assert {path for path in before if before[path] != after[path]} <= {predictions / "run.json"}  # its timings
    assert capsys.readouterr().out.endswith(f"20 scans = 20 scored out of fold + 0 quarantined\n{predictions}\n")


def read_files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--folds", "1"], "folds must be 2 to the number of bags, 20, got 1"),
        (["--folds", "2", "--initial-model", "M"], "initial_model must not be given with folds, got M"),
        (["--folds", "3"], "got one with left_out 'fold 1 of 2' rather than 'fold 1 of 3'"),
    ],
)
def test_what_would_let_a_model_see_its_fold_is_refused(ran, flags, message, capsys):
    _, words, predictions = ran
    assert train.main([*words[:-2], *flags]) == WRONG_USAGE
    assert message in capsys.readouterr().err
    assert storage.exists(str(predictions / "run.json"))
