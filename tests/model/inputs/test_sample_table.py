import numpy as np
import pyarrow as pa
import pytest

from model.inputs.sample_table import hold_out, load_sample_table
from shards.format.classes import UNKNOWN
from shards.format.manifest import samples_url
from shards.format.parquet import write_parquet
from tests.model.scans import make_dataset


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path, num_train=60)


def edit_rows(dataset, change):
    """Rewrite the rows of the first training shard."""
    url = samples_url(dataset.url, dataset.shards("train")[0].name)
    table = dataset.read_samples(shards=dataset.shards("train")[:1])
    write_parquet(url, pa.Table.from_pylist([change(row) for row in table.to_pylist()], schema=table.schema))


def test_each_row_leads_to_its_image_and_labels(dataset):
    samples = load_sample_table(dataset, "train")
    rows = dataset.read_samples("train").to_pylist()
    assert samples.keys.to_pylist() == [row["key"] for row in rows]
    for number, row in enumerate(rows):
        assert len(samples.read_image(number)) == row["size_bytes"]
        assert samples.read_image(number).startswith(b"\xff\xd8\xff")
        assert samples.labels_NK[number].tolist() == [row["labels"][name] for name in samples.classes]


def test_only_scored_classes_are_learned(dataset):
    assert load_sample_table(dataset, "train").classes == ("Gun", "Knife", "Wrench")


def test_boxes_of_all_classes_are_where_attention_is_to_look(dataset):
    """Hammer is not scored, and yet no background."""
    edges = {"xmin_px": 8.0, "ymin_px": 16.0, "xmax_px": 24.0, "ymax_px": 40.0}
    edit_rows(dataset, lambda row: row | {"boxes": [{"class": name, **edges} for name in ("Hammer", "Gun")]})
    samples = load_sample_table(dataset, "train")
    boxes_M4, places_M, classes_M = samples.boxes_of(np.array([1, 40]))
    assert places_M.tolist() == [0, 0]  # row 40 is of the other shard
    assert classes_M.tolist() == [-1, 0]
    sides = np.tile([samples.widths_px_N[1], samples.heights_px_N[1]], 2)
    assert boxes_M4 == pytest.approx(np.array([[8, 16, 24, 40]] * 2) / sides)


def test_an_unknown_label_is_minus_one(dataset):
    edit_rows(dataset, lambda row: row | {"labels": row["labels"] | {"Knife": None}})
    labels = load_sample_table(dataset, "train").labels_NK
    assert (labels[:30, 1] == UNKNOWN).all()
    assert (labels[:, [0, 2]] != UNKNOWN).all()
    assert labels.dtype == np.int8


def test_held_out_and_training_scans_make_up_the_split(dataset):
    samples = load_sample_table(dataset, "train")
    training, held_out = hold_out(samples, 0.3, seed=0)
    assert sorted(training.keys.to_pylist() + held_out.keys.to_pylist()) == sorted(samples.keys.to_pylist())
    assert 8 <= len(held_out) <= 28
    assert hold_out(samples, 0.3, seed=1)[1].keys != held_out.keys


def test_a_scan_keeps_its_side_when_others_are_added(tmp_path):
    few = load_sample_table(make_dataset(tmp_path / "few", num_train=30), "train")
    many = load_sample_table(make_dataset(tmp_path / "many", num_train=60), "train")
    held_of_few, held_of_many = (set(hold_out(each, 0.3, seed=0)[1].keys.to_pylist()) for each in (few, many))
    assert held_of_few == held_of_many & set(few.keys.to_pylist())


def test_scans_with_the_same_bytes_stand_on_one_side(dataset):
    edit_rows(dataset, lambda row: row | {"duplicate_of": "P00001"})  # P00001 is in the other shard
    training, held_out = hold_out(load_sample_table(dataset, "train"), 0.3, seed=0)
    sides = [{"P00001", "P00000", "P00002"} <= set(side.keys.to_pylist()) for side in (training, held_out)]
    assert sorted(sides) == [False, True]


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_a_fraction_that_leaves_nothing_or_is_none_is_refused(dataset, fraction):
    with pytest.raises(ValueError, match=r"validation_fraction must be in \[0, 1\), got"):
        hold_out(load_sample_table(dataset, "train"), fraction, seed=0)
