"""Compare runs with a paper's table, and name every difference in the notes."""

import csv
import io
import json

import pytest

from model.recipes.paper_tables import load_tables
from model.recipes.reproduction import (
    FIGURES_NAME,
    Cell,
    RunFigures,
    compare_with_paper,
    read_figures,
    reproduction_csv,
    reproduction_json,
    reproduction_markdown,
)

METRICS = ("average precision", "pointing accuracy")
CLASSES = ("Gun", "Knife", "Wrench", "Pliers", "Scissors")


def run_figures(recipe, seed=0, value=0.5, absent=(), **other):
    of_classes = {name: None if name in absent else value for name in CLASSES} | {"mean": value}
    fields = {
        "recipe": recipe,
        "seed": seed,
        "model_id": "plain-resnet34-0123456789ab",
        "dataset_digest": "0" * 64,
        "num_scans": {"train": 74_960, "test": 23_259},
        "num_unscored": 0,
        "changes": (),
        "figures": {"average_precision": of_classes, "pointing_accuracy": of_classes | {"mean": value / 2}},
    }
    return RunFigures(**fields | other)


def cell_of(reproduction, row, column):
    return reproduction.cells[row, column]


def other_notes(found):
    assert found.notes[0].startswith("gradients: ")
    return found.notes[1:]


@pytest.mark.parametrize("name", ["chr-2", "chr-3", "chr-4"])
def test_a_table_notes_how_far_the_gradients_of_its_networks_differ(name):
    (note,) = compare_with_paper(load_tables()[name], []).notes
    assert "the top level of ResNet34" in note and " gets 3 times the gradient of that of ResNet34+" in note


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("sxmnet-2", "ResNet50, CHR gets 3 times the gradient of that of ResNet50-FPN, Ours;"),
        ("sxmnet-3", "ResNet-50 gets 3 times the gradient of that of FPN, FPN + Attention, FPN + Meta Fusion, FPN + A"),
        ("sxmnet-8", "CHR gets 3 times the gradient of that of Res50-FPN, Res50-FPN + MF-I, Res50-FPN + MF-N, CHR + M"),
        *((f"sxmnet-{number}", None) for number in (4, 5, 6, 7)),
    ],
)
def test_tables_of_sxmnet_note_it_too(name, factors):
    notes = compare_with_paper(load_tables()[name], []).notes
    assert [f"at the same rate the top level of {factors}" in note for note in notes] == [True] * bool(factors)


def test_a_table_whose_networks_have_as_many_levels_notes_no_gradients():
    table = load_tables()["chr-4"].choose(["ResNet34+H", "ResNet34+CHR"], [])
    assert compare_with_paper(table, []).notes == ()


def test_ours_stands_beside_the_papers_in_per_cent_and_the_rest_is_not_run():
    found = compare_with_paper(load_tables()["chr-4"], [run_figures("h_resnet34_sixray10")])
    cell = cell_of(found, "ResNet34+H", "sixray10/average_precision/mean")
    assert (cell.ours, cell.paper, cell.state) == (50, 74.43, "run")
    assert cell.difference == pytest.approx(-24.43)
    assert str(cell) == "50.00 / 74.43 (-24.43)"
    assert cell_of(found, "ResNet34+H", "sixray10/pointing_accuracy/mean").ours == 25
    others = [cell for key, cell in found.cells.items() if not (key[0] == "ResNet34+H" and "sixray10/" in key[1])]
    assert len(others) == 28
    assert {(cell.ours, cell.difference, cell.state) for cell in others} == {(None, None, "not run")}
    assert str(cell_of(found, "ResNet34+H", "sixray100/average_precision/mean")) == "not run / 53.59"
    assert other_notes(found) == ()


def test_a_network_is_one_run_for_every_table_that_prints_it():
    run = run_figures("chr_resnet34_sixray100", num_scans={"train": 901_829})
    for name, row in (("chr-2", "ResNet34+CHR"), ("chr-3", "ResNet34+CHR"), ("chr-4", "ResNet34+CHR")):
        states = {
            cell.state for key, cell in compare_with_paper(load_tables()[name], [run]).cells.items() if row in key
        }
        assert states == {"run", "not run"}


def test_ours_is_the_mean_over_seeds_and_the_number_is_said():
    runs = [run_figures("ch_resnet34_sixray10", seed, value) for seed, value in ((2, 0.4), (0, 0.7))]
    found = compare_with_paper(load_tables()["chr-4"], runs)
    cell = cell_of(found, "ResNet34+CH", "sixray10/average_precision/mean")
    assert cell.ours == pytest.approx(55)
    assert list(cell.by_seed) == [0, 2]
    assert other_notes(found) == ("all of ours: mean of 2 seeds (0, 2)",)


def test_what_was_measured_otherwise_is_said_of_the_cells_it_touches():
    runs = [
        run_figures("plain_resnet34_sixray10", num_scans={"train": 240, "test": 60}, num_unscored=2),
        run_figures("h_resnet34_sixray10", absent=("Pliers", "Scissors"), changes=("max_epochs 1 rather than 30",)),
    ]
    assert other_notes(compare_with_paper(load_tables()["chr-4"], runs)) == (
        "ResNet34 on SIXray10: other data, 300 scans rather than 98,219 (SIXray10 in the paper)",
        "ResNet34 on SIXray10: 2 scans of the test split could not be scored",
        "ResNet34+H on SIXray10: no positives of Pliers, Scissors to test on, the mean is over the other classes",
        "ResNet34+H on SIXray10: changed setting, max_epochs 1 rather than 30",
    )


def test_a_class_without_positives_is_undefined_and_not_nought():
    found = compare_with_paper(load_tables()["chr-2"], [run_figures("plain_resnet34_sixray10", absent=("Pliers",))])
    cell = cell_of(found, "ResNet34", "sixray10/average_precision/Pliers")
    assert (cell.ours, cell.state, str(cell)) == (None, "undefined", "undefined / 83.50")
    assert Cell(83.5, {0: None, 1: 80.0}).ours == 80


def test_json_csv_and_markdown_say_the_same():
    found = compare_with_paper(load_tables()["chr-4"], [run_figures("h_resnet34_sixray10", num_unscored=1)])
    document = json.loads(reproduction_json(found))
    rows = list(csv.DictReader(io.StringIO(reproduction_csv(found).decode())))
    assert len(document["cells"]) == len(rows) == 30
    for cell, row in zip(document["cells"], rows, strict=True):
        assert {name: "" if value is None else str(value) for name, value in cell.items() if name != "by_seed"} == {
            name: value for name, value in row.items() if name != "num_seeds"
        }
        assert int(row["num_seeds"]) == len(cell["by_seed"])
    assert sum(cell["state"] == "run" for cell in document["cells"]) == 2
    text = reproduction_markdown(found).decode()
    assert "| ResNet34+H | 50.00 / 74.43 (-24.43) | 25.00 / 49.91 (-24.91) | not run / 53.59 |" in text
    assert text.endswith("- all of ours: 1 scans of the test split could not be scored\n")
    assert document["metrics"].keys() == {"average_precision", "pointing_accuracy"}


def test_a_wide_table_is_printed_a_dataset_at_a_time_and_each_line_has_a_cell_a_head():
    titles = [title for title, _, _ in compare_with_paper(load_tables()["chr-2"], []).blocks()]
    assert titles == [f"chr-2, SIXray{ratio}, average precision" for ratio in (10, 100, 1000)]
    (block,) = compare_with_paper(load_tables()["chr-4"], []).blocks()
    assert block[0] == "chr-4" and block[1][:3] == ["system", *(f"SIXray10 {m} mean" for m in METRICS)]
    for name, num_blocks in (("chr-2", 3), ("chr-4", 1), ("sxmnet-2", 2), ("sxmnet-8", 1)):
        blocks = compare_with_paper(load_tables()[name], []).blocks()
        assert len(blocks) == num_blocks
        for _, heads, rows in blocks:
            assert len(set(heads)) == len(heads)
            assert {len(row) for row in rows} == {len(heads)}


def test_figures_at_rest_are_read_back_as_they_were(tmp_path):
    run = run_figures("h_resnet34_sixray10", absent=("Gun",), changes=("seed 1 rather than 0",))
    assert read_figures(str(tmp_path)) is None
    (tmp_path / FIGURES_NAME).write_bytes(run.to_json())
    assert read_figures(str(tmp_path)) == run


def test_figures_of_another_format_are_refused(tmp_path):
    (tmp_path / FIGURES_NAME).write_text('{"format": 9}')
    with pytest.raises(ValueError, match=r"figures.json must have format 1, got 9 \(.*\); remove it"):
        read_figures(str(tmp_path))
