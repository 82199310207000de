"""Test the webdataset pipeline over the shards of a split, against the rows of `samples`."""

import io

import numpy as np
import pytest
from PIL import Image

import shards
from shards.format.dataset import open_dataset
from shards.format.shard_reader import read_image
from tests.shards.by_hand import make_jpeg, write_dataset

KEYS = [f"P{number:05d}" for number in range(20)]


@pytest.fixture
def root(tmp_path):
    images = [(key, make_jpeg(number)) for number, key in enumerate(KEYS)]
    write_dataset(tmp_path, {f"train-{index:05d}-of-00004": images[5 * index :][:5] for index in range(4)})
    return str(tmp_path)


def keys_of(pipeline):
    return [sample["__key__"] for sample in pipeline]


def test_samples_are_the_rows_in_their_order(root):
    pipeline = shards.open_webdataset(root, "train")
    samples = list(pipeline)
    dataset = open_dataset(root)
    rows = dataset.read_samples("train").to_pylist()
    assert len(pipeline) == len(samples) == len(rows)
    for sample, row in zip(samples, rows, strict=True):
        assert sample["__key__"] == row["key"]
        assert sample["__url__"].endswith(row["shard"])
        assert sample["labels"] == row["labels"]
        assert [box.to_row() for box in sample["boxes"]] == row["boxes"]
        with Image.open(io.BytesIO(read_image(dataset, row["key"]))) as image:
            np.testing.assert_array_equal(sample["image"], np.asarray(image.convert("RGB")))


def test_images_stay_as_they_are_without_decoding(root):
    dataset = open_dataset(root)
    for sample in shards.open_webdataset(root, "train", decode=False):
        assert sample["image"] == read_image(dataset, sample["__key__"])


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("num_workers", [1, 2])
def test_every_sample_comes_once_whatever_the_number_of_workers(root, monkeypatch, num_workers, seed):
    monkeypatch.setenv("NUM_WORKERS", str(num_workers))
    found = []
    for worker in range(num_workers):
        monkeypatch.setenv("WORKER", str(worker))
        mine = keys_of(shards.open_webdataset(root, "train", seed=seed))
        assert len(mine) == len(KEYS) // num_workers
        found += mine
    assert sorted(found) == KEYS


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_data_loader_gets_every_sample_once(root, num_workers):
    data = pytest.importorskip("torch.utils.data")
    pipeline = shards.open_webdataset(root, "train", seed=1)
    loader = data.DataLoader(pipeline, batch_size=None, num_workers=num_workers)
    assert len(loader) == len(KEYS)
    assert sorted(keys_of(loader)) == KEYS


def test_every_node_gets_its_own_shards_and_knows_their_length(root, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    found = []
    for rank, length in enumerate((10, 5, 5)):
        monkeypatch.setenv("RANK", str(rank))
        pipeline = shards.open_webdataset(root, "train")
        mine = keys_of(pipeline)
        assert len(pipeline) == len(mine) == length
        found += mine
    assert sorted(found) == KEYS


def test_the_order_follows_from_seed_and_epoch(root):
    pipeline = shards.open_webdataset(root, "train", seed=1)
    first, second = keys_of(pipeline), keys_of(pipeline)
    assert sorted(first) == sorted(second) == KEYS
    assert first != KEYS and first != second
    assert keys_of(shards.open_webdataset(root, "train", seed=1)) == first
    assert keys_of(shards.open_webdataset(root, "train", seed=1, epoch=1)) == second
    assert keys_of(shards.open_webdataset(root, "train", seed=2)) not in (first, second)


def test_an_image_that_cannot_be_decoded_is_named(tmp_path):
    write_dataset(tmp_path, {"test-00000-of-00001": [("N1", b"\xff\xd8 no image \xff\xd9")]})
    with pytest.raises(ValueError, match=r"image must be a JPEG or PNG that Pillow decodes, got .* \(sample 'N1'"):
        list(shards.open_webdataset(str(tmp_path), "test"))


def test_an_unknown_split_is_refused(root):
    with pytest.raises(ValueError, match="split must be one of"):
        shards.open_webdataset(root, "val")
