"""Compare the data file of the papers' tables with a second transcription and the papers' own means."""

import copy
import json
import re
from decimal import Decimal
from importlib import resources
from pathlib import Path

import pytest

from model.recipes.paper_tables import MEAN, load_tables, parse_tables
from model.recipes.registry import RECIPES
from shards.format.classes import load_class_set

GOLDEN = Path(__file__).parents[2] / "golden/paper_tables.txt"
TABLES = load_tables()
MEANS_THAT_DO_NOT_FOLLOW = {
    # (table, row, dataset): (printed, what its five classes give)
    ("chr-2", "DenseNet+CHR", "sixray1000"): ("48.36", "48.346"),
    ("sxmnet-2", "ResNet50", "sixray"): ("93.36", "93.106"),
    ("sxmnet-2", "Ours", "opixray"): ("90.83", "90.566"),
}
"""Further off than rounding can be: 0.005 of the mean and 0.005 of the mean of five rounded figures."""
AP, POINTING = "average_precision", "pointing_accuracy"
GAINS = [
    # The text: a gain, of this row over that one, in this column.
    ("8.22", "chr-2", "Inception-v3+CHR", "Inception-v3", f"sixray1000/{AP}/mean"),
    ("9.08", "chr-2", "DenseNet+CHR", "DenseNet", f"sixray1000/{AP}/mean"),
    ("5.61", "chr-3", "DenseNet+CHR", "DenseNet", f"sixray100/{POINTING}/mean"),
    ("9.26", "chr-3", "DenseNet+CHR", "DenseNet", f"sixray1000/{POINTING}/mean"),
    ("16.04", "chr-3", "Inception-v3+CHR", "Inception-v3", f"sixray1000/{POINTING}/Wrench"),
    ("6.52", "chr-4", "ResNet34+HR", "ResNet34", f"sixray100/{POINTING}/mean"),
    ("3.15", "chr-4", "ResNet34+HR", "ResNet34", f"sixray1000/{AP}/mean"),
    ("2.13", "chr-4", "ResNet34+HR", "ResNet34", f"sixray1000/{POINTING}/mean"),
    ("1.00", "chr-4", "ResNet34+CH", "ResNet34+H", f"sixray100/{AP}/mean"),
    ("3.77", "chr-4", "ResNet34+CH", "ResNet34+H", f"sixray100/{POINTING}/mean"),
    ("3.44", "chr-4", "ResNet34+CH", "ResNet34+H", f"sixray1000/{POINTING}/mean"),
    ("2.37", "chr-4", "ResNet34+CHR", "ResNet34", f"sixray100/{AP}/mean"),
    ("7.51", "chr-4", "ResNet34+CHR", "ResNet34", f"sixray100/{POINTING}/mean"),
    ("5.48", "chr-4", "ResNet34+CHR", "ResNet34", f"sixray1000/{AP}/mean"),
    ("5.11", "chr-4", "ResNet34+CHR", "ResNet34", f"sixray1000/{POINTING}/mean"),
    ("2.82", "sxmnet-2", "Ours", "CHR", f"sixray/{AP}/mean"),
    ("3.10", "sxmnet-2", "Ours", "CHR", f"opixray/{AP}/mean"),
    ("2.05", "sxmnet-3", "FPN + Attention", "FPN", f"sixray/{AP}/mean"),
    ("0.40", "sxmnet-3", "FPN + Meta Fusion", "FPN", f"sixray/{AP}/mean"),
    ("1.06", "sxmnet-7", "Attention + raw input image", "Attention", f"sixray/{AP}/mean"),
    ("1.06", "sxmnet-8", "Res50-FPN + MF-N", "Res50-FPN", f"opixray/{AP}/mean"),
    ("0.96", "sxmnet-8", "CHR + MF-I", "CHR", f"opixray/{AP}/mean"),
    ("0.79", "sxmnet-8", "Res50-FPN + MF-I", "Res50-FPN", f"sixray/{AP}/mean"),
]
"""Every difference in the papers' text that follows from a table to the last digit."""
OTHERWISE_IN_THE_TEXT = [
    ("3.10", "3.09", "chr-4", "ResNet34+CH", "ResNet34+H", f"sixray1000/{AP}/mean"),
    ("1", "0.98", "chr-4", "ResNet34+HR", "ResNet34", f"sixray100/{AP}/mean"),
    ("30", "30.09", "chr-2", "DenseNet+CHR", "DenseNet", f"sixray1000/{AP}/Scissors"),
]
"""Differences that the text gives otherwise or as round numbers: what it says, what the table gives."""
TWICE_PRINTED_OTHERWISE = [
    (("chr-3", "ResNet34+CHR", f"sixray1000/{POINTING}/mean"), ("chr-4", "ResNet34+CHR"), ("32.38", "32.28")),
    (("sxmnet-2", "CHR", f"opixray/{AP}/mean"), ("sxmnet-8", "CHR"), ("87.73", "87.33")),
    (("sxmnet-3", "FPN + Meta Fusion", f"sixray/{AP}/mean"), ("sxmnet-8", "Res50-FPN + MF-N"), ("94.26", "94.24")),
]
"""One system's figure in two tables that do not agree."""


def cell(table, row, column):
    """Return a figure as the paper prints it."""
    return cells_of(table)[row, column]


def cells_of(table):
    return {
        (row.name, str(column)): Decimal(str(value)).quantize(Decimal("0.01"))
        for row in TABLES[table].rows
        for column, value in zip(TABLES[table].columns, row.values, strict=True)
    }


def read_golden():
    """Return the lines of each table in the second reading: cells that hold words, and figures in printed order."""
    tables: dict[str, list[tuple[list[str], list[Decimal]]]] = {}
    for line in GOLDEN.read_text().splitlines():
        if match := re.match(r"((?:chr|sxmnet)-\d):", line):
            lines = tables[match.group(1)] = []
        elif tables and line and not line.startswith("#"):
            cells = [part.strip() for part in line.split("|")]
            figures = [Decimal(word) for part in cells for word in part.split() if re.fullmatch(r"\d+\.\d\d", word)]
            lines.append((cells, figures))
    return tables


def test_all_tables_are_there_in_both_readings():
    assert list(TABLES) == list(read_golden()) == ["chr-2", "chr-3", "chr-4", *(f"sxmnet-{n}" for n in range(2, 9))]
    assert sum(len(row.values) for table in TABLES.values() for row in table.rows) == 2 * 180 + 30 + 48 + 30


@pytest.mark.parametrize("name", [name for name in TABLES if name != "sxmnet-2"])
def test_every_row_of_a_table_has_the_figures_of_the_second_reading(name):
    second = [figures for _, figures in read_golden()[name]]
    first = [[Decimal(str(value)) for value in row.values] for row in TABLES[name].rows]
    assert first == second


def test_the_table_that_is_printed_with_systems_as_columns_has_the_figures_of_the_second_reading():
    lines = read_golden()["sxmnet-2"]
    assert [[Decimal(str(value)) for value in row.values] for row in TABLES["sxmnet-2"].rows] == [
        list(system) for system in zip(*(figures for _, figures in lines), strict=True)
    ]
    assert [column.class_name for column in TABLES["sxmnet-2"].columns] == [cells[1] for cells, _ in lines]


def test_rows_have_the_names_of_the_second_reading():
    for name in ("chr-2", "chr-3", "chr-4", "sxmnet-4", "sxmnet-6", "sxmnet-8"):
        assert [row.name for row in TABLES[name].rows] == [cells[0] for cells, _ in read_golden()[name]]


def test_each_printed_mean_follows_from_its_classes_but_for_those_that_are_known_not_to():
    found, num_means = {}, 0
    for name, table in TABLES.items():
        for (row, column), printed in cells_of(name).items():
            dataset, metric, class_name = column.split("/")
            classes = [
                cell(name, row, str(other))
                for other in table.columns
                if (other.dataset.name, other.metric.name) == (dataset, metric) and other.class_name != MEAN
            ]
            if class_name == MEAN and classes:
                num_means += 1
                follows = sum(classes) / len(classes)
                if abs(printed - follows) > Decimal("0.01"):
                    found[name, row, dataset] = (str(printed), str(follows))
    assert num_means == 2 * 30 + 8
    assert found == MEANS_THAT_DO_NOT_FOLLOW


@pytest.mark.parametrize(("gain", "table", "row", "over", "column"), GAINS)
def test_a_gain_that_the_text_states_is_that_of_the_table(gain, table, row, over, column):
    assert cell(table, row, column) - cell(table, over, column) == Decimal(gain)


@pytest.mark.parametrize(("said", "follows", "table", "row", "over", "column"), OTHERWISE_IN_THE_TEXT)
def test_a_gain_that_the_text_gives_otherwise_is_known(said, follows, table, row, over, column):
    assert cell(table, row, column) - cell(table, over, column) == Decimal(follows) != Decimal(said)


def test_a_system_has_one_figure_wherever_it_is_printed_but_for_those_that_are_known():
    figures: dict[tuple[str, str], set[str]] = {}
    for name, table in TABLES.items():
        for row in table.rows:
            for column in table.columns:
                key = (row.recipe_for(column.dataset), str(column))
                figures.setdefault(key, set()).add(str(cell(name, row.name, str(column))))
    expected = {}
    for (name, row_name, column_name), (other, other_row), printed in TWICE_PRINTED_OTHERWISE:
        assert (cell(name, row_name, column_name), cell(other, other_row, column_name)) == tuple(map(Decimal, printed))
        (row,) = TABLES[name].choose([row_name]).rows
        (column,) = (column for column in TABLES[name].columns if str(column) == column_name)
        expected[row.recipe_for(column.dataset), column_name] = set(printed)
    assert {key: values for key, values in figures.items() if len(values) > 1} == expected


def test_classes_are_those_of_our_datasets():
    sixray, opixray = (set(load_class_set(name).scored) for name in ("sixray", "opixray"))
    for table in TABLES.values():
        for dataset in table.datasets:
            assert set(dataset.classes.values()) == (opixray if dataset.name == "opixray" else sixray)


@pytest.mark.parametrize("name", TABLES)
def test_every_row_has_a_recipe_of_that_name(name):
    for row in TABLES[name].rows:
        for dataset in TABLES[name].datasets:
            assert RECIPES[row.recipe_for(dataset)]().recipe == row.recipe_for(dataset)


def test_some_rows_and_columns_keep_their_figures():
    table = TABLES["chr-4"].choose(["ResNet34+CH"], [f"sixray100/{POINTING}"])
    assert [(row.name, row.values) for row in table.rows] == [("ResNet34+CH", (42.47,))]
    assert [str(column) for column in table.columns] == [f"sixray100/{POINTING}/mean"]
    assert TABLES["chr-4"].choose() == TABLES["chr-4"]


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (["VGG"], [], r"row must be one of ResNet34, ResNet34\+H, .*, got 'VGG' \(table chr-4\)"),
        ([], ["sixray10/Gun"], r"column must be named by dataset, metric or class, .*, got 'sixray10/Gun'"),
    ],
)
def test_rows_and_columns_that_a_table_lacks_are_refused(rows, columns, message):
    with pytest.raises(ValueError, match=message):
        TABLES["chr-4"].choose(rows, columns)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["columns"].append("sixray9/average_precision/mean"), r"column must be DATASET/METRIC/CLASS of"),
        (lambda t: t["columns"].append("sixray/average_precision"), r"column must be DATASET/METRIC/CLASS of known"),
        (lambda t: t["columns"].append(t["columns"][0]), r"columns must be different names, at least one, got"),
        (lambda t: t["rows"].append(t["rows"][0]), r"rows must be different names, at least one, got"),
        (lambda t: t["rows"].clear(), r"rows must be different names, at least one, got \[\] \(table sxmnet-4\)"),
        (lambda t: t["rows"][1]["values"].pop(), r"row must have 2 values, got 1 \('Our MF-I', table sxmnet-4\)"),
        (lambda t: t["rows"][1]["values"].__setitem__(0, 963.3), r"value must be a per cent, got 963.3 \('Our MF-I'"),
    ],
)
def test_a_damaged_table_is_refused(change, message):
    document = json.loads(resources.files("model.recipes").joinpath("paper_tables.json").read_text())
    document["tables"] = {"sxmnet-4": copy.deepcopy(document["tables"]["sxmnet-4"])}
    change(document["tables"]["sxmnet-4"])
    with pytest.raises(ValueError, match=message):
        parse_tables(document)
