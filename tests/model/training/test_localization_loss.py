"""The localization term draws each class' peaks into its own boxes and leaves everything else alone."""

import math

import pytest
import torch

from model.inputs.batch import Boxes
from model.training.localization_loss import localization_loss

EDGES = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0]])
LABELS_BK = torch.tensor([[1.0, 0.0], [1.0, 1.0], [-1.0, 0.0]])


def make_boxes(scans, classes):
    count = len(scans)
    return Boxes(
        EDGES[:count],
        torch.full((count,), 0.25),
        *(torch.tensor(numbers, dtype=torch.int64) for numbers in (scans, classes)),
    )


def random_maps(size=8):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 2, size // scale, size // scale, generator=generator) for scale in (1, 2)]


def test_it_is_the_share_of_the_soft_max_outside_the_ellipse():
    maps = random_maps()
    found = localization_loss(maps, LABELS_BK, make_boxes([0], [0]))
    expected = []
    for heatmap in maps:
        side = heatmap.shape[-1]
        centres = (torch.arange(side) + 0.5) / side
        inside = ((centres[:, None] - 0.25) / 0.25) ** 2 + ((centres[None, :] - 0.25) / 0.25) ** 2 <= 1
        shares = heatmap[0, 0].flatten().softmax(0).reshape(side, side)
        expected.append(-math.log(float(shares[inside].sum())) / 3)  # one of three scans has a box
    assert float(found) == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_scans_without_boxes_absent_classes_and_other_classes_add_nothing():
    maps = [heatmap.requires_grad_() for heatmap in random_maps()]
    boxes = make_boxes([0, 1, 2], [1, -1, 0])  # absent there, not scored, unknown there
    loss = localization_loss(maps, LABELS_BK, boxes)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(torch.equal(heatmap.grad, torch.zeros_like(heatmap)) for heatmap in maps)
    assert float(localization_loss(random_maps(), LABELS_BK, make_boxes([], []))) == 0


def test_a_box_moves_the_map_of_its_own_class_and_scan_alone():
    maps = [heatmap.requires_grad_() for heatmap in random_maps()]
    localization_loss(maps, LABELS_BK, make_boxes([1, 1], [0, 1])).backward()
    for heatmap in maps:
        moved_BK = heatmap.grad.abs().sum(dim=(2, 3)) > 0
        assert moved_BK.tolist() == [[False, False], [True, True], [False, False]]
        # The level of a map stays: what is added inside is taken outside.
        torch.testing.assert_close(heatmap.grad.sum(dim=(2, 3)), torch.zeros(3, 2), atol=1e-6, rtol=0)
        centre = heatmap.shape[-1] // 4
        assert float(heatmap.grad[1, 0, centre, centre]) < 0 < float(heatmap.grad[1, 0, -1, -1])


def test_two_boxes_of_a_class_count_as_one_place():
    (heatmap, _), boxes = random_maps(), make_boxes([0, 0], [0, 0])
    both = localization_loss([heatmap], LABELS_BK, boxes)
    one = localization_loss([heatmap], LABELS_BK, make_boxes([0], [0]))
    assert 0 < float(both) < float(one)
