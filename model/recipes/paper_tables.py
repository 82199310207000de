"""Load the tables of both papers: a cell has a dataset, a metric and a class, a row has a recipe."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

MEAN = "mean"
"""Stands for a class: the mean over all classes."""


@dataclass(frozen=True, slots=True)
class PaperMetric:
    """The definition of a figure."""

    name: str
    definition: str
    """In the paper's words, and how they are read here."""


@dataclass(frozen=True, slots=True)
class PaperDataset:
    """The dataset of a column of figures."""

    name: str
    printed: str
    what: str
    num_scans: int
    """To train and to test on, as the paper counts them."""
    classes: Mapping[str, str]
    """Names in the table -> names in our datasets."""


@dataclass(frozen=True, slots=True)
class PaperColumn:
    """One column of figures."""

    dataset: PaperDataset
    metric: PaperMetric
    class_name: str
    """As the table prints it, or `mean`."""

    def __str__(self) -> str:
        return f"{self.dataset.name}/{self.metric.name}/{self.class_name}"

    @property
    def scored_class(self) -> str:
        """The class as our datasets name it, or `mean`."""
        return self.class_name if self.class_name == MEAN else self.dataset.classes[self.class_name]

    def matches(self, word: str) -> bool:
        """Say whether a word names this column by dataset, metric or class, or several of them joined by `/`."""
        return set(word.split("/")) <= {self.dataset.name, self.metric.name, self.class_name}


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One system."""

    name: str
    """As the table prints it, or made of its ticks."""
    system: str
    """A description."""
    recipe: str
    """With `{dataset}` for the name of a dataset."""
    values: tuple[float, ...]
    """In the unit and the order of columns of the table."""

    def recipe_for(self, dataset: PaperDataset) -> str:
        """Return the name of the recipe that trains this system on a dataset."""
        return self.recipe.format(dataset=dataset.name)


@dataclass(frozen=True, slots=True)
class PaperTable:
    """One table, or some of its rows and columns."""

    name: str
    """`chr-2`: the second of the CHR paper."""
    paper: str
    caption: str
    unit: str
    columns: tuple[PaperColumn, ...]
    rows: tuple[PaperRow, ...]

    @property
    def datasets(self) -> tuple[PaperDataset, ...]:
        """Those of its columns, in their order."""
        return tuple({column.dataset.name: column.dataset for column in self.columns}.values())

    def choose(self, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> "PaperTable":
        """Return the rows with the given names and the columns that any given word names; all if none are given.

        Raises:
            ValueError: a row is not in the table, or a word names no column of it.
        """
        known = [row.name for row in self.rows]
        for name in rows:
            if name not in known:
                raise ValueError(f"row must be one of {', '.join(known)}, got {name!r} (table {self.name})")
        for word in columns:
            if not any(column.matches(word) for column in self.columns):
                raise ValueError(
                    f"column must be named by dataset, metric or class, or several of them joined by '/', as in "
                    f"{self.columns[0]}, got {word!r} (table {self.name})"
                )
        kept = [
            c for c, column in enumerate(self.columns) if not columns or any(column.matches(word) for word in columns)
        ]
        return replace(
            self,
            columns=tuple(self.columns[c] for c in kept),
            rows=tuple(
                replace(row, values=tuple(row.values[c] for c in kept))
                for row in self.rows
                if not rows or row.name in rows
            ),
        )


@cache
def load_tables() -> Mapping[str, PaperTable]:
    """Return every table by its name."""
    return parse_tables(json.loads(resources.files("model.recipes").joinpath("paper_tables.json").read_text()))


def parse_tables(document: Mapping[str, Any]) -> Mapping[str, PaperTable]:
    """Return the tables of a document in the form of `paper_tables.json`.

    Raises:
        ValueError: a table has an undefined name, a row of another length, a duplicate name, or a figure outside 0 to
            100.
    """
    metrics = {name: PaperMetric(name, **of) for name, of in document["metrics"].items()}
    datasets = {name: PaperDataset(name, **of) for name, of in document["datasets"].items()}
    tables = {}
    for name, of in document["tables"].items():
        columns = tuple(_parse_column(text, datasets, metrics, name) for text in of["columns"])
        rows = tuple(PaperRow(**row | {"values": tuple(row["values"])}) for row in of["rows"])
        _check_unique([str(column) for column in columns], "columns", name)
        _check_unique([row.name for row in rows], "rows", name)
        for row in rows:
            _check_row(row, len(columns), name)
        tables[name] = PaperTable(name, document["papers"][of["paper"]], of["caption"], document["unit"], columns, rows)
    return MappingProxyType(tables)


def _parse_column(
    text: str, datasets: Mapping[str, PaperDataset], metrics: Mapping[str, PaperMetric], table: str
) -> PaperColumn:
    parts = text.split("/")
    dataset = datasets.get(parts[0])
    if len(parts) != 3 or dataset is None or parts[1] not in metrics or parts[2] not in {*dataset.classes, MEAN}:
        raise ValueError(f"column must be DATASET/METRIC/CLASS of known names, got {text!r} (table {table})")
    return PaperColumn(dataset, metrics[parts[1]], parts[2])


def _check_unique(names: Sequence[str], what: str, table: str) -> None:
    if len(set(names)) != len(names) or not names:
        raise ValueError(f"{what} must be different names, at least one, got {names} (table {table})")


def _check_row(row: PaperRow, num_columns: int, table: str) -> None:
    if len(row.values) != num_columns:
        raise ValueError(f"row must have {num_columns} values, got {len(row.values)} ({row.name!r}, table {table})")
    for value in row.values:
        if not 0 <= value <= 100:
            raise ValueError(f"value must be a per cent, got {value} ({row.name!r}, table {table})")


@dataclass(frozen=True, slots=True)
class PaperTables:
    """Tables 2 and 3 of the CHR paper: by subset, method and class, in [0, 1]; the class `mean` stands for all."""

    source: str
    average_precision: dict[str, dict[str, dict[str, float]]]
    pointing_accuracy: dict[str, dict[str, dict[str, float]]]


def load_paper_tables() -> PaperTables:
    """Return the figures of Tables 2 and 3 of the CHR paper, its subsets by the names of their lists."""
    tables = load_tables()

    def by_subset(name: str) -> dict[str, dict[str, dict[str, float]]]:
        figures: dict[str, dict[str, dict[str, float]]] = {}
        for row in tables[name].rows:
            for column, value in zip(tables[name].columns, row.values, strict=True):
                subset = column.dataset.name.removeprefix("sixray")
                figures.setdefault(subset, {}).setdefault(row.name, {})[column.scored_class] = value / 100
        return figures

    source = f"{tables['chr-2'].paper}, Tables 2 and 3, in {tables['chr-2'].unit}"
    return PaperTables(source, by_subset("chr-2"), by_subset("chr-3"))
