"""Scans are multiplied by others of their epoch, chosen by entry alone, with the labels and boxes of both."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.inputs.augment import epoch_augmentations
from model.inputs.augmentation import AugmentationConfig
from model.inputs.batch import Batch, Boxes
from model.inputs.feeds import TrainingFeed
from model.inputs.mixing import epoch_partners, mix, with_partners
from model.inputs.sample_table import load_sample_table
from model.networks.config import IMAGENET_MEAN, IMAGENET_STD, InputConfig
from model.training.module import TrainingModule
from shards.format.classes import UNKNOWN
from tests.model.inputs.test_feeds import assert_same_picture, config_of, squash
from tests.model.scans import make_dataset

INPUT = InputConfig()


@given(num_entries=st.integers(1, 300), fraction=st.floats(0, 1), seed=st.integers(0, 2**32), epoch=st.integers(0, 9))
def test_an_entry_is_never_mixed_with_itself(num_entries, fraction, seed, epoch):
    partners_E = epoch_partners(num_entries, fraction, seed, epoch)
    assert ((partners_E >= -1) & (partners_E < num_entries)).all()
    assert (partners_E != np.arange(num_entries)).all()


def test_the_share_that_was_asked_for_is_mixed_and_others_are_drawn_alike():
    partners_E = epoch_partners(20_000, 0.3, seed=1, epoch=2)
    assert (partners_E >= 0).mean() == pytest.approx(0.3, abs=0.02)
    counts, _ = np.histogram(partners_E[partners_E >= 0], bins=10, range=(0, 20_000))
    assert counts == pytest.approx([600] * 10, rel=0.2)
    assert (epoch_partners(20_000, 0.3, seed=1, epoch=3) != partners_E).any()


def make_batch(transmissions, labels, boxes, levels):
    mean, std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]
    images = torch.stack([torch.full((3, 4, 4), value) for value in transmissions])
    edges_M4 = torch.tensor([[0.1 * at, 0.0, 0.5, 0.5] for at in range(len(boxes))])
    scans_M = torch.tensor([scan for scan, _ in boxes])
    found = Boxes(edges_M4, torch.ones(len(boxes)), scans_M, torch.tensor([name for _, name in boxes]))
    rows_B, not_void_B = torch.arange(len(labels)), torch.zeros(len(labels), dtype=torch.bool)
    return Batch((images - mean) / std, torch.tensor(labels), rows_B, found, torch.tensor(levels), not_void_B)


def test_a_mixed_scan_is_the_product_with_the_labels_and_boxes_of_both():
    u = float(UNKNOWN)
    partners_E = np.array([5, -1, 4, 3, 1, 0])
    coded_B = np.array([0, 1, 2, 3, -1 - 4])  # the last is padding
    assert with_partners(coded_B, partners_E).tolist() == [0, 1, 2, 3, -5, 6, 8, 9]
    batch = make_batch(
        [0.5, 0.6, 0.7, 0.8, 0.9, 0.5, 0.4, 0.3],
        [
            *([1, 0, u, 0, u], [0, 1, 0, 0, 0], [u] * 5, [0, 0, 1, 0, 0], [u] * 5),
            *([0, 1, 1, u, u], [1, 0, 0, 0, 0], [u] * 5),  # of the scans 0, 2 and 3
        ],
        [(0, 0), (1, 1), (3, 2), (5, 1), (5, 2), (6, 0)],
        [1, 2, 0, 3, 0, 2, 1, 0],
    )
    found = mix(batch, coded_B, partners_E, INPUT)
    # The second has no other; the third, the fourth's other and padding have no known label.
    assert found.labels_BK.tolist() == [[1, 1, 1, u, u], [0, 1, 0, 0, 0], [u] * 5, [0, 0, 1, 0, 0], [u] * 5]
    mean, std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]
    transmissions_B = (found.images_BCHW * std + mean).mean(dim=(1, 2, 3))
    assert transmissions_B.tolist() == pytest.approx([0.25, 0.6, 0.7, 0.8, 0.9], abs=1e-6)
    assert found.boxes.scans_M.tolist() == [0, 1, 3, 0, 0]
    assert found.boxes.classes_M.tolist() == [0, 1, 2, 1, 2]
    torch.testing.assert_close(found.boxes.edges_M4, batch.boxes.edges_M4[:5])
    assert found.levels_B.tolist() == [0, 2, 0, 3, 0]
    assert found.rows_B.tolist() == [0, 1, 2, 3, 4]


def test_a_feed_multiplies_scans_by_others_that_are_mirrored_for_themselves(tmp_path):
    samples = load_sample_table(make_dataset(tmp_path, num_train=11), "train")
    config = config_of(batch_size=11, size_px=64, augmentation=AugmentationConfig(mixed=0.6))
    (batch,) = TrainingFeed(samples, config)
    partners, mean, std = (
        epoch_partners(11, 0.6, 0, 0),
        *(torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD)),
    )
    mirrors = [epoch_augmentations(11, 0, 0)[:, 2], epoch_augmentations(11, 0, 0, stream=4)[:, 2]]

    def scan(row, mirror):
        image = squash(samples.read_image(row), 64)
        return image.flip(2) if mirror < 0.5 else image

    assert {(partners >= 0).any(), (partners < 0).any()} == {True}
    for image, labels, row in zip(batch.images_BCHW, batch.labels_BK, batch.rows_B.tolist(), strict=True):
        expected, present = scan(row, mirrors[0][row]), samples.labels_NK[row] == 1
        if partners[row] >= 0:
            other = scan(partners[row], mirrors[1][row])
            expected = ((expected * std + mean) * (other * std + mean) - mean) / std
            present |= samples.labels_NK[partners[row]] == 1
        assert_same_picture(image, expected)
        assert (labels == 1).tolist() == present.tolist()


def test_classifiers_begin_at_the_prior_of_mixed_scans():
    rng = np.random.default_rng(0)
    labels_NK = rng.choice([0, 1], p=[0.9, 0.1], size=(40_000, 2))
    partners_E = epoch_partners(len(labels_NK), 0.5, seed=0, epoch=0)
    mixed_NK = np.where(partners_E[:, None] >= 0, np.maximum(labels_NK, labels_NK[partners_E]), labels_NK)
    module: Any = SimpleNamespace(
        training_samples=SimpleNamespace(labels_NK=labels_NK),
        positive_repeats=1,
        config=SimpleNamespace(augmentation=AugmentationConfig(mixed=0.5)),
    )
    share_K = mixed_NK.mean(axis=0)
    np.testing.assert_allclose(TrainingModule.log_prior_K(module), np.log(share_K / (1 - share_K)), atol=0.03)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_of_mixed_scans_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match=rf"mixed must be in \[0, 1\], got {share}"):
        AugmentationConfig(mixed=share)
