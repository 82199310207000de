"""Do our networks reach what the papers print? `sixray reproduce`: the runs of a table, and ours beside the paper's."""

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from model.evaluation import evaluate
from model.hardware import Hardware
from model.paper_tables import PaperTable, load_tables
from model.recipes import RECIPES
from model.reproduction import (
    FIGURES_NAME,
    LEGEND,
    Reproduction,
    RunFigures,
    compare_with_paper,
    measure,
    read_figures,
    reproduction_csv,
    reproduction_json,
    reproduction_markdown,
)
from model.run_dir import list_differences
from model.train import train
from model.train_config import TrainConfig
from pipelines import log
from pipelines.options import OK, make_parser, run_command
from pipelines.score import ScoreConfig, score
from pipelines.train import ShowProgress, add_overrides, choose_hardware, configure
from shards import storage
from shards.dataset import Dataset, open_dataset
from shards.predictions import open_predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproduceConfig:
    """What to reproduce, and on what."""

    table: str
    """`chr-2` … `sxmnet-8`."""
    data: Mapping[str, str]
    """Datasets by the papers' names for them; columns of the others are not run."""
    output: str
    """Folder of the runs, which tables share, and of a folder a table."""
    rows: Sequence[str] = ()
    """Of the table; all where there are none."""
    columns: Sequence[str] = ()
    """Words that name columns, see `PaperColumn.matches`; all where there are none."""
    seeds: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        if self.table not in load_tables():
            raise ValueError(f"table must be one of {', '.join(load_tables())}, got {self.table!r}")
        known = [dataset.name for dataset in load_tables()[self.table].datasets]
        if unknown := sorted(self.data.keys() - known):
            raise ValueError(f"data must be of {', '.join(known)}, got {', '.join(unknown)} (table {self.table})")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be different numbers, at least one, got {list(self.seeds)}")


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One network to train and to score; all cells of its row and dataset follow from it."""

    url: str
    dataset: Dataset
    config: TrainConfig
    changes: tuple[str, ...]
    """Settings other than the recipe's, in words."""


def reproduce(
    config: ReproduceConfig, adjust: Callable[[str, int], TrainConfig], hardware: Hardware | None = None
) -> Reproduction:
    """Train, score and rate what is missing of the chosen cells; return them beside the paper's.

    A run that is finished is not done again, one that was stopped goes on. The files of the table, all its rows and
    columns, are written anew after each run.

    Args:
        config: what to reproduce.
        adjust: gives the config of a recipe, by name, and a seed: with what the user changed.
        hardware: to train on; what this machine has by default.

    Raises:
        ValueError: a row has no recipe, a dataset lacks a split or a class, or a run's folder holds another run;
            before anything is trained.
    """
    table = load_tables()[config.table]
    chosen = table.choose(config.rows, config.columns)
    runs = plan_runs(config, chosen, adjust)
    folder = storage.join_url(config.output, config.table)
    for number, run in enumerate(runs, start=1):
        log.say(f"reproduce: run {number} of {len(runs)}, {run.config.recipe}, seed {run.config.seed}")
        finish_run(run, hardware)
        write_reproduction(folder, compare_with_paper(table, read_all_figures(config.output)))
    found = read_all_figures(config.output)
    write_reproduction(folder, compare_with_paper(table, found))
    return compare_with_paper(chosen, found)


def plan_runs(
    config: ReproduceConfig, chosen: PaperTable, adjust: Callable[[str, int], TrainConfig]
) -> list[PlannedRun]:
    """Return the runs that the chosen cells need, row by row; nothing is written for it."""
    datasets = {name: open_dataset(url) for name, url in config.data.items()}
    for paper in chosen.datasets:
        if paper.name not in datasets:
            log.say(f"reproduce: no --data {paper.name}=DATASET is given, its cells are not run")
            continue
        dataset = datasets[paper.name]
        for split in ("train", "test"):
            dataset.shards(split)
        if absent := sorted(set(paper.classes.values()) - set(dataset.manifest.scored_classes)):
            raise ValueError(f"dataset {paper.name} must score {', '.join(absent)}, got none of them ({dataset.url})")
    keys = {
        (row.recipe_for(paper), paper.name, seed): None
        for row in chosen.rows
        for paper in chosen.datasets
        for seed in config.seeds
        if paper.name in datasets
    }
    if missing := sorted({recipe for recipe, _, _ in keys} - RECIPES.keys()):
        raise ValueError(f"recipes must be known, got {', '.join(missing)} (table {chosen.name})")
    return [_plan_run(config.output, datasets[name], adjust(recipe, seed), recipe, seed) for recipe, name, seed in keys]


def _plan_run(output: str, dataset: Dataset, config: TrainConfig, recipe: str, seed: int) -> PlannedRun:
    # A seed is no change: the papers name none.
    changes = list_differences(config.to_json(), replace(RECIPES[recipe](), seed=seed).to_json())
    return PlannedRun(storage.join_url(output, "runs", f"{recipe}-seed-{seed}"), dataset, config, tuple(changes))


def finish_run(run: PlannedRun, hardware: Hardware | None = None) -> RunFigures:
    """Train, score and rate one network, as far as that is not done; `figures.json` is written last."""
    model = train(run.dataset, run.url, run.config, hardware=hardware, callbacks=[ShowProgress()])
    found = read_figures(run.url)
    if found is not None and found.model_id == model.model.model_id:
        return found
    predictions = storage.join_url(run.url, "predictions")
    score(
        # Not what a trial found faster on this machine: a figure is to be had again elsewhere.
        ScoreConfig(
            model=model.model_url,
            inputs=(run.dataset.url,),
            output=predictions,
            split="test",
            engine="eager",
            dtype="float32",
        )
    )
    scored = open_predictions(storage.join_url(predictions, model.model.model_id))
    evaluation = evaluate(scored, run.dataset, "test", num_rounds=0)
    figures = measure(evaluation, run.dataset, run.config.recipe, run.config.seed, run.changes)
    storage.write_bytes(storage.join_url(run.url, FIGURES_NAME), figures.to_json())
    return figures


def read_all_figures(output: str) -> list[RunFigures]:
    """Return the figures of every finished run below a folder, whichever table it was for."""
    folder = storage.join_url(output, "runs")
    urls = storage.list_folders(folder) if storage.exists(folder) else []
    return [figures for url in sorted(urls) if (figures := read_figures(url)) is not None]


def write_reproduction(folder: str, reproduction: Reproduction) -> None:
    """Write `reproduction.json`, and the same as CSV and Markdown."""
    for name, content in (
        ("reproduction.csv", reproduction_csv(reproduction)),
        ("reproduction.md", reproduction_markdown(reproduction)),
        ("reproduction.json", reproduction_json(reproduction)),
    ):
        storage.write_bytes(storage.join_url(folder, name), content)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `sixray reproduce`; repeated after a kill it goes on, over a finished table it prints it again."""
    return run_command(_run, argv)


def _run(argv: Sequence[str]) -> int:
    flags = _parser().parse_args(argv)
    config = ReproduceConfig(
        table=flags.table,
        data=_parse_data(flags.data),
        output=flags.output,
        rows=flags.row,
        columns=flags.column,
        seeds=flags.seeds,
    )
    # As for `sixray train`: what matters is in run.json.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    reproduction = reproduce(
        config,
        lambda recipe, seed: configure(argparse.Namespace(**vars(flags), recipe=recipe, seed=seed)),
        choose_hardware(flags.devices),
    )
    _print(reproduction)
    print(storage.join_url(flags.output, flags.table))
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "reproduce",
        "Train and score the systems of a paper's table, and print ours beside the paper's. The same command again "
        "goes on where it was stopped. The flags of `sixray train` change recipes; it is said beside the table.",
    )
    parser.add_argument("table", metavar="TABLE", choices=sorted(load_tables()), help=", ".join(load_tables()))
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="NAME=DATASET",
        help="what stands for one of the table's datasets: sixray10, sixray100, sixray1000, sixray (positives alone), "
        "opixray; may be repeated",
    )
    parser.add_argument("--output", required=True, help="folder of all runs, shared by tables, and of the tables")
    parser.add_argument("--row", action="append", default=[], metavar="NAME", help="this row alone; may be repeated")
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="WORD",
        help="only columns of this dataset, metric or class, or of several of them joined by /; may be repeated",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="a run each; ours is the mean over them")
    add_overrides(parser)
    return parser


def _parse_data(words: Sequence[str]) -> dict[str, str]:
    data: dict[str, str] = {}
    for word in words:
        name, equals, url = word.partition("=")
        if not (name and equals and url) or name in data:
            raise ValueError(f"--data must be NAME=DATASET with each name once, got {word!r}")
        data[name] = url
    return data


def _print(reproduction: Reproduction) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    for title, heads, rows in reproduction.blocks():
        table = Table(title=title, title_justify="left")
        for number, head in enumerate(heads):
            table.add_column(head, justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(LEGEND)
    for note in reproduction.notes:
        console.print(f"- {note}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
