import dataclasses
import io
import logging
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model.hardware import detect_hardware
from model.inputs.augment import epoch_augmentations
from model.inputs.augmentation import AugmentationConfig
from model.inputs.feeds import FeedConfig, TrainingFeed, ValidationFeed
from model.inputs.sample_table import SampleTable, load_sample_table
from model.inputs.sampling import epoch_entries, epoch_order, num_batches, rank_batches
from model.networks.config import IMAGENET_MEAN, IMAGENET_STD, InputConfig
from shards.format.classes import UNKNOWN
from tests.model.scans import make_dataset


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return load_sample_table(make_dataset(tmp_path_factory.mktemp("dataset"), num_train=11), "train")


CPU = dataclasses.replace(detect_hardware(), device="cpu", decode_device="cpu", num_cores=2)


def config_of(batch_size=4, size_px=56, **changes):
    return FeedConfig(batch_size=batch_size, input=InputConfig(size_px=size_px), resize_px=64, hardware=CPU, **changes)


def by_row(batches):
    """Return row -> (image, labels) of what weighs something, and check that no row comes twice."""
    found = {}
    for batch in batches:
        is_void_B = batch.is_void_B.tolist()
        for image, labels, row, is_void in zip(
            batch.images_BCHW, batch.labels_BK, batch.rows_B.tolist(), is_void_B, strict=True
        ):
            assert is_void == bool((labels == UNKNOWN).all())
            if not is_void:
                assert row not in found
                found[row] = (image, labels)
    return found


@given(
    num_samples=st.integers(1, 200),
    batch_size=st.integers(1, 40),
    world_size=st.integers(1, 9),
    seed=st.integers(0, 2**32),
)
def test_every_sample_comes_once_an_epoch_over_all_ranks_in_equal_steps(num_samples, batch_size, world_size, seed):
    order = epoch_order(num_samples, seed, epoch=3)
    ranks = [rank_batches(order, batch_size, rank, world_size) for rank in range(world_size)]
    real = np.concatenate([batch for batches in ranks for batch in batches])
    assert sorted(real[real >= 0].tolist()) == list(range(num_samples))
    shapes = {tuple(len(batch) for batch in batches) for batches in ranks}
    assert len(shapes) == 1, "ranks differ in steps or batch sizes"
    sizes = shapes.pop()
    assert len(sizes) == num_batches(num_samples, batch_size, world_size)
    assert batch_size == 1 or min(sizes) >= 2, "batch norms may not take a single scan"
    is_lonely = batch_size > 1 and -(-num_samples // world_size) % batch_size == 1
    assert (real < 0).sum() == -num_samples % world_size + is_lonely * world_size


@given(num_samples=st.integers(1, 200), batch_size=st.integers(1, 9), world_size=st.integers(1, 4))
def test_the_batches_of_all_ranks_together_are_the_batch_of_one_process(num_samples, batch_size, world_size):
    order = epoch_order(num_samples, seed=0, epoch=0)
    alone = rank_batches(order, batch_size * world_size, 0, 1)
    ranks = [rank_batches(order, batch_size, rank, world_size) for rank in range(world_size)]
    for number, batch in enumerate(alone):
        together = np.concatenate([batches[number] for batches in ranks])
        assert sorted(together[together >= 0].tolist()) == sorted(batch[batch >= 0].tolist())


def test_repeated_positives_come_as_often_as_asked_each_time_seen_otherwise(samples):
    positive = set(np.flatnonzero((samples.labels_NK == 1).any(axis=1)).tolist())
    assert 0 < len(positive) < len(samples)
    batches = list(TrainingFeed(samples, config_of(positive_repeats=3)))
    rows = [row for batch in batches for row in batch.rows_B.tolist()]
    assert {row: rows.count(row) for row in range(11)} == {row: 3 if row in positive else 1 for row in range(11)}
    assert len(batches) == len(TrainingFeed(samples, config_of(positive_repeats=3)))
    images = torch.cat([batch.images_BCHW for batch in batches])
    first = next(iter(positive))
    seen = images[[place for place, row in enumerate(rows) if row == first]]
    assert not torch.equal(seen[0], seen[1])


def test_without_repeats_an_epoch_is_every_row_once():
    labels = np.array([[1, 0], [UNKNOWN, 0], [0, 0], [0, 1]])
    assert epoch_entries(labels, 1).tolist() == [0, 1, 2, 3]
    assert epoch_entries(labels, 2).tolist() == [0, 1, 2, 3, 0, 3]


def test_fewer_than_one_repeat_is_refused():
    with pytest.raises(ValueError, match="positive_repeats must be >= 1, got 0"):
        config_of(positive_repeats=0)


def test_two_epochs_have_different_orders_and_the_same_epoch_the_same():
    assert epoch_order(50, 0, 0).tolist() == epoch_order(50, 0, 0).tolist()
    assert epoch_order(50, 0, 0).tolist() != epoch_order(50, 0, 1).tolist()
    assert epoch_order(50, 0, 0).tolist() != epoch_order(50, 1, 0).tolist()


@pytest.mark.parametrize("mixed", [0.0, 0.5])
def test_a_samples_augmentation_depends_on_neither_batch_size_nor_rank(samples, mixed):
    one, many = (config_of(batch_size=size, augmentation=AugmentationConfig(mixed=mixed)) for size in (11, 2))
    alone = by_row(TrainingFeed(samples, one))
    ranks = by_row(batch for rank in range(3) for batch in TrainingFeed(samples, many, rank=rank, world_size=3))
    assert alone.keys() == ranks.keys() == set(range(11))
    for row, (image, labels) in alone.items():
        assert torch.equal(image, ranks[row][0])
        assert torch.equal(labels, ranks[row][1])


def test_training_images_are_crops_of_the_squashed_scan_mirrored_by_the_table(samples):
    feed = TrainingFeed(samples, config_of(batch_size=11, size_px=48))
    augmentations = epoch_augmentations(11, 0, 0)
    for row, (image, _) in by_row(feed).items():
        crop_x, crop_y, mirror = augmentations[row]
        squashed = squash(samples.read_image(row), 64)
        left, top = round(crop_x * 16), round(crop_y * 16)
        expected = squashed[:, top : top + 48, left : left + 48]
        expected = expected.flip(2) if mirror < 0.5 else expected
        assert_same_picture(image, expected)


def test_validation_images_are_whole_scans_squashed(samples):
    found = by_row(ValidationFeed(samples, config_of(size_px=64)))
    assert list(found) == list(range(11))
    for row, (image, labels) in found.items():
        assert_same_picture(image, squash(samples.read_image(row), 64))
        assert labels.tolist() == samples.labels_NK[row].tolist()
        assert labels.dtype == torch.float32


def assert_same_picture(image, expected):
    # DALI's resampling and Pillow's (8-bit weights) round differently: on noise by up to 5 of 255, far less on average.
    difference = (image - expected).abs() * 255 * torch.tensor(IMAGENET_STD)[:, None, None]
    assert difference.max() < 8
    assert difference.mean() < 0.5


def squash(data, side_px):
    resized = Image.open(io.BytesIO(data)).convert("RGB").resize((side_px, side_px), Image.Resampling.BILINEAR)
    image = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 255
    return (image - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]


def test_a_feed_stopped_at_any_batch_goes_on_with_the_next(samples):
    whole = TrainingFeed(samples, config_of())
    uninterrupted = [batch.rows_B.tolist() for _ in range(2) for batch in whole]
    for stop in range(len(uninterrupted) + 1):
        feed = TrainingFeed(samples, config_of())
        before = [batch.rows_B.tolist() for batch in islice(endlessly(feed), stop)]
        other = TrainingFeed(samples, config_of())
        other.load_state_dict(feed.state_dict())
        after = [batch.rows_B.tolist() for batch in islice(endlessly(other), len(uninterrupted) - stop)]
        assert before + after == uninterrupted


def endlessly(feed):
    while True:
        yield from feed


def test_an_image_that_cannot_be_decoded_weighs_nothing_and_is_named(samples, caplog):
    damaged = with_damage(samples, row=5)
    with caplog.at_level(logging.WARNING):
        found = by_row(TrainingFeed(damaged, config_of()))
    assert found.keys() == set(range(11)) - {5}
    assert "image cannot be decoded and weighs nothing" in caplog.text
    assert repr(samples.keys[5].as_py()) in caplog.text
    unharmed = by_row(TrainingFeed(samples, config_of()))
    assert all(torch.equal(found[row][0], unharmed[row][0]) for row in found)


@pytest.mark.parametrize("feed", [TrainingFeed, ValidationFeed])
def test_a_bad_image_is_tried_and_named_once_and_not_again_in_each_epoch(samples, caplog, feed):
    reads: list[int] = []
    epochs = feed(with_damage(samples, row=5, reads=reads), config_of())
    with caplog.at_level(logging.WARNING):
        found = [by_row(epochs) for _ in range(3)]
    assert caplog.text.count("image cannot be decoded and weighs nothing") == 1
    assert reads.count(5) == 1
    assert all(images.keys() == set(range(11)) - {5} for images in found)


def test_another_image_of_its_batch_takes_the_place_of_a_bad_one_in_training(samples):
    (batch,) = TrainingFeed(with_damage(samples, row=5), config_of(batch_size=11))
    at = batch.rows_B.tolist().index(5)
    assert torch.equal(batch.images_BCHW[at], batch.images_BCHW[1 if at == 0 else 0])


def test_a_batch_without_any_decodable_image_is_an_error(samples):
    with pytest.raises(ValueError, match=r"a batch must have an image that DALI decodes, got 1 bad ones of 1.*'P0"):
        list(TrainingFeed(with_damage(samples, row=5), config_of(batch_size=1)))


def with_damage(samples, row, reads=None):
    class Damaged(SampleTable):
        def read_image(self, asked):
            if reads is not None:
                reads.append(asked)
            return b"\xff\xd8 garbage" if asked == row else samples.read_image(asked)

    return Damaged(*(getattr(samples, name) for name in SampleTable.__dataclass_fields__))


def test_a_shard_that_is_too_short_is_named(tmp_path):
    dataset = make_dataset(tmp_path, num_train=4, num_shards=1)
    path = tmp_path / "train" / "train-00000-of-00001.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"image must have \d+ bytes, got \d+ \(sample 'P0.*train-00000-of-00001.tar"):
        list(TrainingFeed(load_sample_table(dataset, "train"), config_of()))


def test_no_samples_to_train_on_is_an_error(samples):
    with pytest.raises(ValueError, match="samples must be at least 1 scan to train on, got 0"):
        TrainingFeed(samples.take(np.array([], dtype=np.int64)), config_of())


def test_a_crop_larger_than_the_squashed_scan_is_refused():
    with pytest.raises(ValueError, match="resize_px must be >= the input's size_px 65, got 64"):
        config_of(size_px=65)
