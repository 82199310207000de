"""A subset's figures are those of its scans alone; the paper's figures are shown beside them."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from model.evaluation.evaluate import evaluate
from model.evaluation.scans.scored_scans import join_predictions
from model.evaluation.subsets import rate_subsets, select
from model.recipes.paper_tables import load_paper_tables
from shards.predictions.run import open_predictions
from tests.model.written import prediction, sample, write_dataset, write_predictions


@pytest.fixture
def written(tmp_path):
    """100 scans, every fifth with a gun in a box that every second peak hits."""
    samples = [sample(f"P{i:05d}", (int(i % 5 == 0), 0), [("Gun", 5, 5, 20, 20)] * (i % 5 == 0)) for i in range(100)]
    rows = [prediction(f"P{i:05d}", ((i * 37) % 101 / 9, 0.0), [(i % 2 * 10.0, 10.0)] * 2) for i in range(100)]
    dataset = write_dataset(tmp_path / "ds", samples)
    return open_predictions(write_predictions(tmp_path / "pred", dataset, rows)), dataset


def write_list(tmp_path, names, header="name,Gun,Knife"):
    path = tmp_path / "list.csv"
    path.write_text("\n".join([header, *(f"{name},-1,-1" for name in names)]))
    return str(path)


def test_a_subset_is_rated_over_its_scans_alone(written, tmp_path):
    predictions, dataset = written
    rows = [i for i in range(100) if i % 5 == 0 or i % 7 == 0]
    url = write_list(tmp_path, [f"P{i:05d}" for i in rows] + ["P99999"])
    (subset,) = rate_subsets(join_predictions(predictions, dataset, "test"), predictions, dataset, {"10": url}).values()
    assert (subset.num_listed, subset.num_not_rated) == (len(rows) + 1, 1)
    gun = subset.evaluation.classes["Gun"]
    present, scores = [i % 5 == 0 for i in rows], np.array([(i * 37) % 101 / 9 for i in rows], np.float32)
    ours = gun.rank.average_precision["non_interpolated"]
    assert ours == pytest.approx(average_precision_score(present, scores), abs=1e-12)
    assert (gun.pointing.num_hits, gun.pointing.num_evaluable) == (10, 20)


def test_all_scans_selected_are_the_scans_themselves(written):
    predictions, dataset = written
    scans = join_predictions(predictions, dataset, "test")
    same = select(scans, np.arange(100))
    assert same.keys_N.equals(scans.keys_N)
    for field in ("labels_NK", "logits_NK", "level_logits_LNK", "peaks_NK2", "sizes_N2", "groups_N", "box_scan_B"):
        np.testing.assert_array_equal(getattr(same, field), getattr(scans, field))


def test_boxes_follow_their_scans_into_a_selection(written):
    predictions, dataset = written
    scans = select(join_predictions(predictions, dataset, "test"), np.array([3, 5, 20]))
    assert scans.box_scan_B.tolist() == [1, 2]
    assert scans.keys_N.to_pylist() == ["P00003", "P00005", "P00020"]


@pytest.mark.parametrize(
    ("names", "header", "message"),
    [
        (["N0000001"], "name,Gun,Knife", r"list must name scans of split 'test' that have a prediction, got 1 others"),
        (["P00001"], "name,Gun,Blade", r"list must begin with the columns 'name,Gun,Knife', got"),
        (
            ["P00001,-1"],
            "name,Gun,Knife",
            r"list must have a usable line for every scan, got .*a line must have 3 cells",
        ),
    ],
)
def test_a_file_that_is_no_list_of_these_scans_is_refused(written, tmp_path, names, header, message):
    predictions, dataset = written
    scans = join_predictions(predictions, dataset, "test")
    with pytest.raises(ValueError, match=message):
        rate_subsets(scans, predictions, dataset, {"10": write_list(tmp_path, names, header)})


def test_the_means_of_the_papers_tables_are_the_means_of_their_classes():
    paper = load_paper_tables()
    for table in (paper.average_precision, paper.pointing_accuracy):
        assert list(table) == ["10", "100", "1000"]
        for methods in table.values():
            assert len(methods) == 10
            for values in methods.values():
                classes = [value for name, value in values.items() if name != "mean"]
                # Both are printed with two places of a per cent.
                assert values["mean"] == pytest.approx(sum(classes) / 5, abs=0.0002)


def test_a_cell_of_each_table_is_where_the_paper_has_it():
    paper = load_paper_tables()
    assert paper.average_precision["1000"]["DenseNet+CHR"]["Scissors"] == pytest.approx(0.4427)
    assert paper.pointing_accuracy["10"]["ResNet34"]["Gun"] == pytest.approx(0.7160)


def test_a_subset_does_not_change_the_figures_of_the_split(written, tmp_path):
    predictions, dataset = written
    whole = evaluate(predictions, dataset, "test", num_rounds=0)
    url = write_list(tmp_path, [f"P{i:05d}" for i in range(50)])
    part = rate_subsets(join_predictions(predictions, dataset, "test"), predictions, dataset, {"half": url})[
        "half"
    ].evaluation
    assert part.classes["Gun"].rank.ranking.num_positive == 10
    assert whole.classes["Gun"].rank.ranking.num_positive == 20
