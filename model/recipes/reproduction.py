"""Compare our figures with a paper's: the cells of a table, and notes on what differs."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from model.evaluation.evaluate import Evaluation
from model.recipes.paper_tables import MEAN, PaperColumn, PaperDataset, PaperTable
from model.recipes.registry import RECIPES
from shards import storage
from shards.format.dataset import Dataset
from shards.format.json_document import parse_document

FORMAT_VERSION = 1
FIGURES_NAME = "figures.json"
LEGEND = (
    "Ours / the paper's (the difference), in per cent, on the test split. Settings that a paper does not give are "
    "ours, as the recipes say."
)
_WIDEST = 6
"""Columns of a printed table; a wider one is printed a dataset at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """The figures of one trained network on the test split; `figures.json` of its run."""

    recipe: str
    seed: int
    model_id: str
    dataset_digest: str
    num_scans: dict[str, int]
    """Of the splits `train` and `test`, without quarantined ones."""
    num_unscored: int
    """Scans of the test split without a score."""
    changes: tuple[str, ...]
    """Descriptions of settings that differ from the recipe's."""
    figures: dict[str, dict[str, float | None]]
    """By metric, then by class of the dataset and `mean`; in [0, 1], None if undefined."""

    def to_json(self) -> bytes:
        """Return the text of `figures.json`."""
        return _json({"format": FORMAT_VERSION} | asdict(self))


@dataclass(frozen=True, slots=True)
class Cell:
    """Our figure and the paper's, in the unit of the table."""

    paper: float
    by_seed: Mapping[int, float | None]
    """Of every run; None: undefined."""

    @property
    def ours(self) -> float | None:
        """The mean over the runs for which the figure is defined."""
        defined = [value for value in self.by_seed.values() if value is not None]
        return sum(defined) / len(defined) if defined else None

    @property
    def difference(self) -> float | None:
        """Ours less the paper's."""
        return None if self.ours is None else self.ours - self.paper

    @property
    def state(self) -> str:
        """`run`, `not run`, or `undefined` if the class has no positives."""
        if self.ours is None:
            return "undefined" if self.by_seed else "not run"
        return "run"

    def __str__(self) -> str:
        if self.ours is None or self.difference is None:
            return f"{self.state} / {self.paper:.2f}"
        return f"{self.ours:.2f} / {self.paper:.2f} ({self.difference:+.2f})"


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A table with our figures and the paper's."""

    table: PaperTable
    cells: Mapping[tuple[str, str], Cell]
    """By the name of the row and of the column."""
    notes: tuple[str, ...]
    """Differences to know of before comparing our figures with the paper's."""

    def blocks(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Return the printed blocks: title, heads, and lines of cells of each."""
        groups: dict[str, list[PaperColumn]] = {}
        is_wide = len(self.table.columns) > _WIDEST
        for column in self.table.columns:
            groups.setdefault(column.dataset.printed if is_wide else "", []).append(column)
        blocks = []
        for columns in groups.values():
            common, heads = _split_heads(columns)
            lines = [
                [row.name, *(str(self.cells[row.name, str(column)]) for column in columns)] for row in self.table.rows
            ]
            blocks.append((", ".join([self.table.name, *common]), ["system", *heads], lines))
        return blocks


def measure(evaluation: Evaluation, dataset: Dataset, recipe: str, seed: int, changes: Sequence[str]) -> RunFigures:
    """Return the figures of one evaluation for the papers' metrics, for every class of the dataset."""
    return RunFigures(
        recipe=recipe,
        seed=seed,
        model_id=evaluation.model_id,
        dataset_digest=evaluation.dataset_digest,
        num_scans={split: sum(shard.num_scans for shard in dataset.shards(split)) for split in ("train", "test")},
        num_unscored=evaluation.completeness.num_missing + evaluation.completeness.num_quarantined,
        changes=tuple(changes),
        figures={
            # Keyed by the names of metrics in `paper_tables.json`.
            "average_precision": {
                name: of.rank.average_precision["non_interpolated"] for name, of in evaluation.classes.items()
            }
            | {MEAN: evaluation.mean.average_precision["non_interpolated"]},
            "pointing_accuracy": {name: of.pointing.accuracy for name, of in evaluation.classes.items()}
            | {MEAN: evaluation.mean.pointing_accuracy},
        },
    )


def read_figures(run_url: str) -> RunFigures | None:
    """Return the content of a run's `figures.json`, None if there is none yet.

    Raises:
        ValueError: it is of another format.
    """
    url = storage.join_url(run_url, FIGURES_NAME)
    if not storage.exists(url):
        return None
    document = parse_document(storage.read_bytes(url), FORMAT_VERSION, FIGURES_NAME, url, "remove it")
    del document["format"]
    return RunFigures(**document | {"changes": tuple(document["changes"])})


def compare_with_paper(table: PaperTable, runs: Iterable[RunFigures]) -> Reproduction:
    """Return a table with our figures and the paper's.

    Args:
        table: all of it or some rows and columns.
        runs: figures so far; those of recipes that are not in the table are ignored.
    """
    by_recipe: dict[str, list[RunFigures]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        by_recipe.setdefault(run.recipe, []).append(run)
    cells = {
        (row.name, str(column)): Cell(value, _our_values(column, by_recipe.get(row.recipe_for(column.dataset), ())))
        for row in table.rows
        for column, value in zip(table.columns, row.values, strict=True)
    }
    return Reproduction(table, cells, (*_note_on_gradients(table), *_list_notes(table, by_recipe)))


def _note_on_gradients(table: PaperTable) -> Iterable[str]:
    """Yield what differs between rows beside their network: how much the loss weighs each level and class."""
    rows_of: dict[float, list[str]] = {}
    num_classes = len(table.datasets[0].classes)
    for row in table.rows:
        recipe = RECIPES[row.recipe_for(table.datasets[0])]()
        if gradient := recipe.loss.top_gradient(recipe.num_levels, num_classes):
            rows_of.setdefault(gradient, []).append(row.name)
    *more, least = sorted(rows_of, reverse=True)
    if more:
        names = {gradient: ", ".join(rows) for gradient, rows in rows_of.items()}
        factors = " and that of ".join(f"{names[gradient]} gets {gradient / least:g} times" for gradient in more)
        yield (
            f"gradients: losses are means over levels or classes, so at the same rate the top level of {factors} the "
            f"gradient of that of {names[least]}; a difference between them is not of the network alone"
        )


def _our_values(column: PaperColumn, runs: Sequence[RunFigures]) -> dict[int, float | None]:
    values = {run.seed: run.figures[column.metric.name].get(column.scored_class) for run in runs}
    return {seed: None if value is None else 100 * value for seed, value in values.items()}


def _list_notes(table: PaperTable, by_recipe: Mapping[str, Sequence[RunFigures]]) -> Iterable[str]:
    notes: dict[str, list[str]] = {}
    num_run = 0
    for dataset in table.datasets:
        for row in table.rows:
            runs = by_recipe.get(row.recipe_for(dataset), ())
            num_run += bool(runs)
            for note in dict.fromkeys(note for run in runs for note in _notes_on(run, dataset)):
                notes.setdefault(note, []).append(f"{row.name} on {dataset.printed}")
            if len(runs) > 1:
                note = f"mean of {len(runs)} seeds ({', '.join(str(run.seed) for run in runs)})"
                notes.setdefault(note, []).append(f"{row.name} on {dataset.printed}")
    for note, cells in notes.items():
        yield f"{'all of ours' if len(cells) == num_run else ', '.join(cells)}: {note}"


def _notes_on(run: RunFigures, dataset: PaperDataset) -> Iterable[str]:
    num_scans = sum(run.num_scans.values())
    if num_scans != dataset.num_scans:
        yield f"other data, {num_scans:,} scans rather than {dataset.num_scans:,} ({dataset.printed} in the paper)"
    figures = run.figures["average_precision"]
    if absent := [name for name, scored in dataset.classes.items() if figures.get(scored) is None]:
        yield f"no positives of {', '.join(absent)} to test on, the mean is over the other classes"
    if run.num_unscored:
        yield f"{run.num_unscored} scans of the test split could not be scored"
    for change in run.changes:
        yield f"changed setting, {change}"


def _describe(column: PaperColumn) -> tuple[str, str]:
    return column.dataset.printed, column.metric.name.replace("_", " ")


def _split_heads(columns: Sequence[PaperColumn]) -> tuple[list[str], list[str]]:
    """Return the words that all columns of a block share, for its title, and the distinctive ones of each."""
    described = [_describe(column) for column in columns]
    is_shared = [len(set(words)) == 1 for words in zip(*described, strict=True)]
    common = [word for word, shared in zip(described[0], is_shared, strict=True) if shared]
    heads = [
        " ".join([*(word for word, shared in zip(words, is_shared, strict=True) if not shared), column.class_name])
        for words, column in zip(described, columns, strict=True)
    ]
    return common, heads


def reproduction_json(reproduction: Reproduction) -> bytes:
    """Return the text of `reproduction.json`; equal arguments give equal bytes."""
    table = reproduction.table
    return _json(
        {
            "format": FORMAT_VERSION,
            "table": table.name,
            "paper": table.paper,
            "caption": table.caption,
            "unit": table.unit,
            "metrics": {column.metric.name: column.metric.definition for column in table.columns},
            "datasets": {dataset.name: dataset.what for dataset in table.datasets},
            "notes": list(reproduction.notes),
            "cells": list(_list_cells(reproduction)),
        }
    )


def reproduction_csv(reproduction: Reproduction) -> bytes:
    """Return one line a cell, with empty fields for undefined or missing figures."""
    out = io.StringIO()
    cells = [cell | {"by_seed": len(cell["by_seed"])} for cell in _list_cells(reproduction)]
    heads = ["num_seeds" if name == "by_seed" else name for name in cells[0]]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([heads, *(cell.values() for cell in cells)])
    return out.getvalue().encode()


def reproduction_markdown(reproduction: Reproduction) -> bytes:
    """Return the table as GitHub Markdown."""
    table = reproduction.table
    lines = [f"# {table.name}", "", f"{table.paper}. {table.caption}", "", LEGEND]
    for title, heads, rows in reproduction.blocks():
        lines += ["", f"## {title}", "", _markdown_row(heads), _markdown_row(["---"] * len(heads))]
        lines += [_markdown_row(row) for row in rows]
    if reproduction.notes:
        lines += ["", *(f"- {note}" for note in reproduction.notes)]
    return ("\n".join(lines) + "\n").encode()


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _list_cells(reproduction: Reproduction) -> Iterable[dict[str, Any]]:
    for row in reproduction.table.rows:
        for column in reproduction.table.columns:
            cell = reproduction.cells[row.name, str(column)]
            yield {
                "row": row.name,
                "dataset": column.dataset.name,
                "metric": column.metric.name,
                "class": column.class_name,
                "recipe": row.recipe_for(column.dataset),
                "paper": cell.paper,
                "ours": cell.ours,
                "difference": cell.difference,
                "by_seed": {str(seed): value for seed, value in cell.by_seed.items()},
                "state": cell.state,
            }


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()
