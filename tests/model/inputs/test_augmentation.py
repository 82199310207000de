"""Varied scans keep their items where their boxes say, and vary by entry alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.inputs.augmentation import AugmentationConfig, draw_windows, epoch_variations, vary
from model.inputs.batch import Batch, Boxes
from model.networks.config import InputConfig

SIDE = 64
INPUT = InputConfig(size_px=SIDE)
CONFIGS = {
    "scale": AugmentationConfig(scale=0.5),
    "aspect": AugmentationConfig(aspect=0.6),
    "upside down": AugmentationConfig(upside_down=True),
    "quarter turns": AugmentationConfig(quarter_turns=True),
    "all": AugmentationConfig(scale=0.4, aspect=0.3, exposure=0.5, upside_down=True, quarter_turns=True),
}
unit = st.floats(0, 0.999)


def make_batch(edges):
    """Return white scans with one dark rectangle each, whole cells of the given edges, and their boxes."""
    mean, std = torch.tensor(INPUT.mean)[:, None, None], torch.tensor(INPUT.std)[:, None, None]
    images = torch.ones(len(edges), 3, SIDE, SIDE)
    for image, (left, top, right, bottom) in zip(images, edges, strict=True):
        image[:, top:bottom, left:right] = 0.2
    num = len(edges)
    boxes = Boxes(torch.tensor(edges) / SIDE, torch.ones(num), torch.arange(num), torch.zeros(num, dtype=torch.int64))
    zeros_B = torch.zeros(num, dtype=torch.int64)
    return Batch((images - mean) / std, torch.ones(num, 1), zeros_B, boxes, zeros_B, zeros_B.bool())


def transmission_of(batch):
    mean, std = torch.tensor(INPUT.mean)[:, None, None], torch.tensor(INPUT.std)[:, None, None]
    return batch.images_BCHW * std + mean


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@given(draws=st.lists(unit, min_size=7, max_size=7))
def test_the_item_is_where_its_box_is(config, draws):
    batch = make_batch([(20, 8, 44, 24)])
    found = vary(batch, config, np.array([draws]), INPUT)
    dark = transmission_of(found)[0, 0] < 0.6
    left, top, right, bottom = (found.boxes.edges_M4[0].clamp(0, 1) * SIDE).tolist()
    if min(right - left, bottom - top) < 2:  # hardly anything of it is in view
        return
    rows, columns = np.nonzero(dark.numpy())
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(seen, [left, top, right, bottom], atol=1.5)


def test_what_lies_outside_the_scan_is_white():
    config = AugmentationConfig(scale=1.0)
    draws_B7 = np.array([[0.999, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]])
    found = transmission_of(vary(make_batch([(0, 0, SIDE, SIDE)]), config, draws_B7, INPUT))[0]
    assert found[:, 0].min() > 0.99 and found[:, :, 0].min() > 0.99
    assert found[:, SIDE // 2, SIDE // 2].tolist() == pytest.approx([0.2] * 3, abs=1e-3)


@given(draws=st.lists(unit, min_size=7, max_size=7))
def test_a_view_lies_within_the_scan_or_around_it(draws):
    (window,) = draw_windows(AugmentationConfig(scale=0.5, aspect=0.5), np.array([draws]))
    for low, high in (window[[0, 2]], window[[1, 3]]):
        assert (low >= -1e-9 and high <= 1 + 1e-9) or (low <= 1e-9 and high >= 1 - 1e-9)
    assert 0.4 < (window[2] - window[0]) * (window[3] - window[1]) < 2.3


def test_exposure_is_a_power_of_transmission():
    config = AugmentationConfig(exposure=1.0)
    thick, same, thin = (
        float(
            transmission_of(
                vary(make_batch([(8, 8, 40, 40)]), config, np.array([[0.5] * 4 + [draw] + [0.5] * 2]), INPUT)
            )[0, 0, 20, 20]
        )
        for draw in (1.0, 0.5, 0.0)
    )
    assert (thick, same, thin) == pytest.approx((0.2**2, 0.2, 0.2**0.5), rel=1e-4)


def test_nothing_varies_by_default_and_neighbours_do_not_matter():
    batch = make_batch([(20, 8, 44, 24), (4, 30, 30, 60), (0, 0, 10, 10)])
    draws_E7 = epoch_variations(3, seed=3, epoch=1)
    assert vary(batch, AugmentationConfig(), draws_E7, INPUT) is batch
    together = vary(batch, CONFIGS["all"], draws_E7, INPUT)
    alone = vary(make_batch([(4, 30, 30, 60)]), CONFIGS["all"], draws_E7[1:2], INPUT)
    torch.testing.assert_close(together.images_BCHW[1], alone.images_BCHW[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(together.boxes.edges_M4[1], alone.boxes.edges_M4[0])
    assert not np.array_equal(epoch_variations(3, 3, 1), epoch_variations(3, 3, 2))
    assert np.array_equal(epoch_variations(5, 3, 1)[:3], draws_E7)


@pytest.mark.parametrize("field", ["scale", "aspect", "exposure"])
def test_shares_are_checked(field):
    with pytest.raises(ValueError, match=rf"{field} must be in \[0, 4\), got -0.1"):
        AugmentationConfig(**{field: -0.1})  # type: ignore[arg-type]
