"""Objects of other scans are multiplied into scans as these are fed, items as often as others, by the entry alone."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from model.inputs.augmentation import AugmentationConfig
from model.inputs.feeds import TrainingFeed
from model.inputs.projecting import epoch_projections
from model.inputs.sample_table import load_sample_table
from model.networks.config import InputConfig
from model.training.config import TrainConfig
from model.training.losses import SoftmaxConfig
from shards.format.classes import UNKNOWN
from shards.format.dataset import open_dataset
from tests.corpora import CorpusWriter
from tests.model.inputs.test_feeds import by_row, config_of
from tests.pipelines.test_project import add_scan
from tests.shards.plain_calls import convert_plainly

ALWAYS = AugmentationConfig(projected=1.0)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    corpus = CorpusWriter(tmp_path_factory.mktemp("corpus"))
    for number in range(18):
        add_scan(corpus, number, (None, "Gun", "Knife")[number % 3], "train")
    output = tmp_path_factory.mktemp("data") / "ds"
    convert_plainly(corpus.root, output, shard_bytes=100_000)
    return load_sample_table(open_dataset(str(output)), "train")


def feed_of(samples, augmentation, batch_size=18, **place):
    config = config_of(batch_size=batch_size, size_px=56, augmentation=augmentation)
    return TrainingFeed(samples, replace(config, resize_px=120, input=InputConfig(size_px=112)), **place)


def test_half_of_the_objects_are_items_with_label_and_box_and_all_only_take_light(samples):
    before, after = feed_of(samples, AugmentationConfig()), feed_of(samples, ALWAYS)
    kinds = []
    for _ in range(4):  # epochs
        (old,), (new,) = list(before), list(after)
        assert torch.equal(old.rows_B, new.rows_B)
        taken_BHW = (old.images_BCHW - new.images_BCHW).amax(dim=1)
        assert (old.images_BCHW - new.images_BCHW).amin() > -1e-5
        num_old = len(old.boxes.scans_M)
        assert torch.equal(new.boxes.edges_M4[:num_old], old.boxes.edges_M4)
        added = dict(zip(new.boxes.scans_M[num_old:].tolist(), range(num_old, 99), strict=False))
        for place, taken_HW in enumerate(taken_BHW):
            if not taken_HW.any():
                continue
            kinds.append(place in added)
            gained_K = new.labels_BK[place] - old.labels_BK[place]
            if place not in added:
                assert not gained_K.any()
                continue
            at = added[place]
            assert new.labels_BK[place, new.boxes.classes_M[at]] == 1
            rows, columns = (taken_HW > 1e-3).any(dim=1).nonzero(), (taken_HW > 1e-3).any(dim=0).nonzero()
            seen = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / 112
            assert (new.boxes.edges_M4[at] - seen).abs().max() < 1.5 / 112
            left, top, right, bottom = (112 / 120 * seen).tolist()
            assert new.boxes.areas_M[at] == pytest.approx((right - left) * (bottom - top), abs=0.01)
    assert len(kinds) > 50
    assert 0.3 < np.mean(kinds) < 0.7
    assert after.state_dict() == {"epoch": 4, "next_batch": 0}


@pytest.mark.parametrize("mixed", [0.0, 0.5])
def test_a_projection_depends_on_neither_batch_size_nor_rank_nor_point_of_resumption(samples, mixed):
    augmentation = AugmentationConfig(projected=0.6, mixed=mixed)
    whole = by_row(feed_of(samples, augmentation))
    ranks = by_row(
        batch for rank in range(2) for batch in feed_of(samples, augmentation, batch_size=4, rank=rank, world_size=2)
    )
    stopped, resumed = (feed_of(samples, augmentation, batch_size=4) for _ in range(2))
    first = [batch for _, batch in zip(range(3), stopped, strict=False)]
    resumed.load_state_dict(stopped.state_dict())
    parts = by_row([*first, *resumed])
    assert whole.keys() == ranks.keys() == parts.keys() == set(range(18))
    for row, (image, labels) in whole.items():
        for image_CHW, labels_K in (ranks[row], parts[row]):
            assert torch.equal(image, image_CHW) and torch.equal(labels, labels_K)


def test_objects_are_of_other_bags_and_scans_without_labels_get_none(samples):
    one_bag = replace(samples, groups=pa.array(["bag"] * len(samples)))
    unlabelled = replace(samples, labels_NK=samples.labels_NK.copy())
    unlabelled.labels_NK[::2] = UNKNOWN
    (plain,) = feed_of(samples, AugmentationConfig())
    (same,), (some,) = feed_of(one_bag, ALWAYS), feed_of(unlabelled, ALWAYS)
    assert torch.equal(same.images_BCHW, plain.images_BCHW)
    changed_B = (some.images_BCHW != plain.images_BCHW).flatten(1).any(dim=1)
    assert changed_B.any() and not changed_B[(unlabelled.labels_NK[some.rows_B] == UNKNOWN).all(axis=1)].any()


def test_other_scans_of_mixed_ones_get_no_object():
    draws_V2 = epoch_projections(50, 100, seed=1, epoch=2)
    assert (draws_V2[:50, 0] < 1).all() and (draws_V2[50:] == 1).all()
    assert (epoch_projections(50, 50, seed=1, epoch=2) == draws_V2[:50]).all()


def test_what_cannot_be_projected_is_refused(samples):
    clean = samples.take(np.flatnonzero(samples.num_boxes_N == 0))
    with pytest.raises(
        ValueError, match=r"must have boxes of scored classes .* got none with a scored class; leave --pr"
    ):
        feed_of(clean, ALWAYS)
    with pytest.raises(ValueError, match="got none with a scan without an item"):
        feed_of(samples.take(np.flatnonzero(samples.num_boxes_N)), ALWAYS)
    config = TrainConfig(recipe="tiny", max_epochs=1, learning_rate=0.1, augmentation=ALWAYS)
    with pytest.raises(ValueError, match=r"projected must be 0 with trim_margins, got 1.0"):
        replace(config, trim_margins=True)
    with pytest.raises(ValueError, match=r"projected must be 0 with SoftmaxConfig, whose scans have one item, got 1.0"):
        replace(config, loss=SoftmaxConfig())
    with pytest.raises(ValueError, match=r"projected must be in \[0, 1\], got 2"):
        AugmentationConfig(projected=2)
