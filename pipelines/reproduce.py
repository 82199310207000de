"""Train and score what a table of a paper holds, and print our figures beside the paper's."""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from rich.console import Console
from rich.table import Table

from model.recipes.paper_tables import load_tables
from model.recipes.reproduction import (
    LEGEND,
    Reproduction,
    RunFigures,
    compare_with_paper,
    read_figures,
    reproduction_csv,
    reproduction_json,
    reproduction_markdown,
)
from model.training.config import split_batch_across_devices
from pipelines.reproduce_runs import check_datasets, finish_run, plan_runs
from pipelines.runtime import command_line, log
from pipelines.runtime.flags import Flag, make_config
from pipelines.train import Overrides, choose_hardware, configure
from shards import storage
from shards.format.dataset import open_dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproduceConfig:
    """What to reproduce, and on what."""

    table: Annotated[str, Flag("table", metavar="TABLE", choices=sorted(load_tables()))]
    """Table of a paper: chr-2, ..., sxmnet-8."""
    data: Annotated[Mapping[str, str], Flag(metavar="NAME=DATASET")] = field(default_factory=dict)
    """Dataset in the place of one of the table's: sixray10, sixray100, sixray1000, sixray (positives alone), opixray;
    repeatable; columns of the others are not run."""
    output: str
    """Folder of all runs, shared by tables, and of the tables."""
    rows: Annotated[tuple[str, ...], Flag("--row", metavar="NAME")] = ()
    """Row to run; repeatable; all if not given."""
    columns: Annotated[tuple[str, ...], Flag("--column", metavar="WORD")] = ()
    """Only columns of this dataset, metric or class, or of several of them joined by /; repeatable."""
    seeds: Annotated[tuple[int, ...], Flag(nargs="+")] = (0,)
    """Seeds of runs; ours is the mean over them."""
    overrides: Overrides = field(default_factory=Overrides)

    def __post_init__(self) -> None:
        if self.table not in load_tables():
            raise ValueError(f"table must be one of {', '.join(load_tables())}, got {self.table!r}")
        known = [dataset.name for dataset in load_tables()[self.table].datasets]
        if unknown := sorted(self.data.keys() - known):
            raise ValueError(f"data must be of {', '.join(known)}, got {', '.join(unknown)} (table {self.table})")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be different numbers, at least one, got {list(self.seeds)}")


def reproduce_table(config: ReproduceConfig) -> Reproduction:
    """Train, score and rate what is missing of the chosen cells; return them beside the paper's.

    A finished run is not done again, a stopped one is resumed. The files of the table, all its rows and columns, are
    written anew after each run.

    Raises:
        ValueError: a row has no recipe, a dataset lacks a split or a class or is needed and not given, or a batch
            cannot be split across the devices, before anything is trained; or a run's folder holds another run.
    """
    # As for `sixray train`: what matters is in run.json.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    hardware = choose_hardware(config.overrides.num_devices)
    table = load_tables()[config.table]
    chosen = table.choose(config.rows, config.columns)
    datasets = {name: open_dataset(url) for name, url in config.data.items()}
    check_datasets(table, datasets)
    runs = plan_runs(
        chosen,
        datasets,
        config.output,
        config.seeds,
        lambda recipe, seed: configure(recipe, seed, config.overrides),
    )
    for run in runs:
        split_batch_across_devices(run.config, hardware.num_devices)  # refused now, not days later
    for paper in chosen.datasets:
        if paper.name not in datasets:
            log.status(f"reproduce: no --data {paper.name}=DATASET is given, its cells are not run")
    folder = storage.join_url(config.output, config.table)
    for number, run in enumerate(runs, start=1):
        log.status(f"reproduce: run {number} of {len(runs)}")
        finish_run(run, hardware)
        write_reproduction(folder, compare_with_paper(table, read_all_figures(config.output)))
    found = read_all_figures(config.output)
    write_reproduction(folder, compare_with_paper(table, found))
    return compare_with_paper(chosen, found)


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
    """Run the command; return its exit code."""
    return command_line.run_command(_main, argv)


def _main(argv: Sequence[str]) -> int:
    config = make_config(ReproduceConfig, make_parser().parse_args(argv))
    _print(reproduce_table(config))
    print(storage.join_url(config.output, config.table))
    return command_line.OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    return command_line.make_parser(
        "reproduce",
        ReproduceConfig,
        "Train and score the systems of a paper's table, and print ours beside the paper's. The same command again "
        "resumes where it was stopped. Flags of `sixray train` change recipes, which is noted beside the table.",
    )


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
