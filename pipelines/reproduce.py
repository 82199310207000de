"""Do our networks reach what the papers print? `sixray reproduce`: the runs of a table, and ours beside the paper's."""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from model.hardware import Hardware
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
from pipelines.reproduce_runs import Adjust, check_datasets, finish_run, plan_runs
from pipelines.runtime import log
from pipelines.runtime.command_line import OK, make_parser, run_command
from pipelines.train import add_overrides, choose_hardware, configure
from shards import storage
from shards.format.dataset import open_dataset


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


def reproduce(config: ReproduceConfig, adjust: Adjust, hardware: Hardware) -> Reproduction:
    """Train, score and rate what is missing of the chosen cells; return them beside the paper's.

    A run that is finished is not done again, one that was stopped goes on. The files of the table, all its rows and
    columns, are written anew after each run.

    Args:
        config: what to reproduce.
        adjust: gives each run's config.
        hardware: to train on.

    Raises:
        ValueError: a row has no recipe, a dataset lacks a split or a class or is needed and not given, or a batch
            cannot be shared out, before anything is trained; or a run's folder holds another run.
    """
    table = load_tables()[config.table]
    chosen = table.choose(config.rows, config.columns)
    datasets = {name: open_dataset(url) for name, url in config.data.items()}
    check_datasets(table, datasets)
    runs = plan_runs(chosen, datasets, config.output, config.seeds, adjust)
    for run in runs:
        split_batch_across_devices(run.config, hardware.num_devices)  # refused now, not days later
    for paper in chosen.datasets:
        if paper.name not in datasets:
            log.say(f"reproduce: no --data {paper.name}=DATASET is given, its cells are not run")
    folder = storage.join_url(config.output, config.table)
    for number, run in enumerate(runs, start=1):
        log.say(f"reproduce: run {number} of {len(runs)}")
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
