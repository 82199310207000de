"""Plan the runs of a paper's table and do what is missing of them: a run for each system, dataset and seed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from model.artifacts.saved_model import LoadedModel, save_model
from model.evaluation.evaluate import evaluate
from model.hardware import Hardware
from model.recipes.paper_tables import PaperTable
from model.recipes.registry import RECIPES
from model.recipes.reproduction import FIGURES_NAME, RunFigures, measure, read_figures
from model.recipes.sxmnet import NEEDS, Needs, with_inputs
from model.training.config import TrainConfig, split_batch_across_devices
from model.training.level_labels import read_labels_info
from model.training.run_dir import list_differences
from model.training.trainer import train
from pipelines.label_levels import LabelLevelsConfig, write_labels
from pipelines.runtime import log
from pipelines.score import ScoreConfig, score_datasets
from pipelines.steps.train_progress import ShowProgress
from shards import storage
from shards.format.dataset import Dataset
from shards.predictions.run import Predictions, open_predictions

Adjust = Callable[[str, int], TrainConfig]
"""Gives the config of a recipe, by name, and a seed: with what the user changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One network to train; all cells of its row and dataset follow from it."""

    recipe: str
    """The name in the table; `config` has another where the user changed the network."""
    url: str
    data: str
    """The paper's name of the dataset."""
    dataset: Dataset
    config: TrainConfig
    """Its batches are of all devices together."""
    changes: tuple[str, ...]
    """Settings other than the recipe's, in words; those of the runs before it too."""
    initial: "PlannedRun | None" = None
    """Trained before: its weights are begun with."""
    labeller: "PlannedRun | None" = None
    """Trained before: it labels the levels of this one's scans."""

    @property
    def model_url(self) -> str:
        """Where its model will be."""
        return storage.join_url(self.url, "model")

    def labels_url(self, data: str) -> str:
        """Where its labels of a dataset's levels will be."""
        return storage.join_url(self.url, "levels", f"{data}.parquet")


def check_datasets(table: PaperTable, datasets: Mapping[str, Dataset]) -> None:
    """Raise ValueError where a dataset lacks a split or a class of the table."""
    for paper in table.datasets:
        if paper.name not in datasets:
            continue
        dataset = datasets[paper.name]
        for split in ("train", "test"):
            dataset.shards(split)
        if absent := sorted(set(paper.classes.values()) - set(dataset.manifest.scored_classes)):
            raise ValueError(f"dataset {paper.name} must score {', '.join(absent)}, got none of them ({dataset.url})")


def plan_runs(
    table: PaperTable, datasets: Mapping[str, Dataset], output: str, seeds: Sequence[int], adjust: Adjust
) -> list[PlannedRun]:
    """Return the runs that the cells of a table need, row by row; nothing is written for it.

    Args:
        table: the chosen rows and columns.
        datasets: by the papers' names; columns of others are not run.
        output: folder of all runs.
        seeds: a run each.
        adjust: see `Adjust`.

    Raises:
        ValueError: a recipe is unknown, or a dataset that another run needs is absent.
    """
    keys = {
        (row.recipe_for(paper), paper.name, seed): None
        for row in table.rows
        for paper in table.datasets
        for seed in seeds
        if paper.name in datasets
    }
    return [_plan_run(datasets, output, adjust, *key) for key in keys]


def _plan_run(
    datasets: Mapping[str, Dataset], output: str, adjust: Adjust, recipe: str, data: str, seed: int
) -> PlannedRun:
    if recipe not in RECIPES:
        raise ValueError(f"recipe must be one that `sixray train --help` names, got {recipe!r}")
    if data not in datasets:
        raise ValueError(f"--data must name {data} too, got {', '.join(datasets)}; {recipe!r} is trained on it first")
    needs = NEEDS.get(recipe, Needs())
    initial = _plan_run(datasets, output, adjust, needs.initial, data, seed) if needs.initial else None
    labeller = None
    if needs.labeller:
        own_data = needs.labeller.rpartition("_")[2]
        labeller = _plan_run(datasets, output, adjust, needs.labeller, own_data, seed)
    made = {
        "initial_model": initial.model_url if initial else None,
        "level_labels": labeller.labels_url(data) if labeller else None,
    }
    config = with_inputs(adjust(recipe, seed), **made)
    # A seed is no change: the papers name none.
    asked_for = with_inputs(replace(RECIPES[recipe](), seed=seed), **made)
    changes = list_differences(config.to_json(), asked_for.to_json())
    before = [run for run in (initial, labeller) if run is not None]
    return PlannedRun(
        recipe=recipe,
        url=storage.join_url(output, "runs", f"{recipe}-seed-{seed}"),
        data=data,
        dataset=datasets[data],
        config=config,
        changes=(*changes, *(f"{change} ({run.config.recipe})" for run in before for change in run.changes)),
        initial=initial,
        labeller=labeller,
    )


def finish_run(run: PlannedRun, hardware: Hardware) -> RunFigures:
    """Train, score and rate one network, as far as that is not done; `figures.json` is written last."""
    model = train_run(run, hardware)
    found = read_figures(run.url)
    if found is not None and found.model_id == model.model_id:
        return found
    folder = storage.join_url(run.url, "predictions")
    predictions = score_split(run.model_url, model.model_id, run.dataset, "test", folder)
    evaluation = evaluate(predictions, run.dataset, "test", 0)
    figures = measure(evaluation, run.dataset, run.recipe, run.config.seed, run.changes)
    storage.write_bytes(storage.join_url(run.url, FIGURES_NAME), figures.to_json())
    return figures


def train_run(run: PlannedRun, hardware: Hardware) -> LoadedModel:
    """Return the network of a run, trained unless it is; what it needs of other runs is made first."""
    if run.initial is not None:
        train_run(run.initial, hardware)
    if run.labeller is not None:
        label_levels(run, run.labeller, hardware)
    log.status(f"reproduce: {run.config.recipe}, seed {run.config.seed}, on {run.data}")
    config = split_batch_across_devices(run.config, hardware.num_devices)
    return train(run.dataset, run.url, config, hardware=hardware, callbacks=[ShowProgress()]).model


def label_levels(run: PlannedRun, labeller: PlannedRun, hardware: Hardware) -> None:
    """Write the labels of levels that a run learns from, unless the labeller of now wrote those that are there."""
    model_url, model_id = prepare_labeller(run, labeller, hardware)
    url = labeller.labels_url(run.data)
    if storage.exists(url):
        info = read_labels_info(url)
        made = (info.model_id, info.dataset_digest, info.trim_margins)
        if made == (model_id, run.dataset.manifest.digest, run.config.trim_margins):
            return
    folder = storage.join_url(labeller.url, "levels", run.data)
    predictions = score_split(model_url, model_id, run.dataset, "train", folder)
    write_labels(LabelLevelsConfig(predictions=predictions.url, data=run.dataset.url, output=url, split="train"))


def prepare_labeller(run: PlannedRun, labeller: PlannedRun, hardware: Hardware) -> tuple[str, str]:
    """Return folder and id of the model that labels a run's scans: the labeller's, seeing scans as the run's will.

    A labeller of SIXray takes scans whole; those of OPIXray must lose their margins for it, as they do in training,
    else it labels scans that no one learns from.
    """
    model = train_run(labeller, hardware)
    if model.config.input.trim_margins == run.config.trim_margins:
        return labeller.model_url, model.model_id
    url = storage.join_url(labeller.url, "levels", f"{run.data}-model")
    config = replace(model.config, input=replace(model.config.input, trim_margins=run.config.trim_margins))
    return url, save_model(url, model.network, config, model.provenance)


def score_split(model_url: str, model_id: str, dataset: Dataset, split: str, output: str) -> Predictions:
    """Return what a model says of a split, scored unless it is, in a folder of the run that is scored for."""
    score_datasets(
        # A fixed engine, not the fastest on this machine: figures must be reproducible elsewhere.
        ScoreConfig(model=model_url, inputs=(dataset.url,), output=output, split=split, engine="eager", dtype="float32")
    )
    return open_predictions(storage.join_url(output, model_id))
