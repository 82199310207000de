import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inputs.batch import Boxes
from model.training.attention_targets import draw_ellipses
from model.training.sxmnet_losses import (
    IntuitiveLabels,
    MetaLossConfig,
    attention_loss,
    classification_loss,
    intuitive_levels,
    selection_loss,
)
from shards.format.classes import UNKNOWN


def make_boxes(edges, scans=None, areas=None):
    edges_M4 = torch.tensor(edges, dtype=torch.float32).reshape(-1, 4)
    scans_M = torch.zeros(len(edges_M4), dtype=torch.int64) if scans is None else torch.tensor(scans)
    areas_M = torch.ones(len(edges_M4)) if areas is None else torch.tensor(areas, dtype=torch.float32)
    return Boxes(edges_M4, areas_M, scans_M, torch.zeros_like(scans_M))


def ellipses_by_pixels(boxes, num_scans, num_rows, num_columns):
    """Section 3.2, "Ground-truth Generation", cell by cell."""
    out = np.zeros((num_scans, 1, num_rows, num_columns))
    for (left, top, right, bottom), scan in zip(boxes.edges_M4.tolist(), boxes.scans_M.tolist(), strict=True):
        centre_x, centre_y = (left + right) / 2, (top + bottom) / 2
        for row in range(num_rows):
            for column in range(num_columns):
                x, y = (column + 0.5) / num_columns, (row + 0.5) / num_rows
                inside = ((x - centre_x) / ((right - left) / 2)) ** 2 + (
                    (y - centre_y) / ((bottom - top) / 2)
                ) ** 2 <= 1
                holds = column == math.floor(centre_x * num_columns) and row == math.floor(centre_y * num_rows)
                out[scan, 0, row, column] = max(out[scan, 0, row, column], inside or holds)
    return out


edges = st.tuples(
    *(st.integers(-60, 130) for _ in range(2)), *(st.integers(1, 150) for _ in range(2)), st.integers(0, 2)
)


@settings(max_examples=100, deadline=None)
@given(drawn=st.lists(edges, max_size=4), num_rows=st.integers(1, 17), num_columns=st.integers(1, 17))
def test_ellipses_equal_the_loop_over_cells(drawn, num_rows, num_columns):
    # Edges are odd multiples of an irrational-looking step, so that no cell's centre lies on an ellipse to the bit.
    step = 0.00937
    boxes = make_boxes(
        [(x * step, y * step, (x + w) * step, (y + h) * step) for x, y, w, h, _ in drawn], [scan for *_, scan in drawn]
    )
    boxes = boxes._replace(scans_M=boxes.scans_M.long())
    found = draw_ellipses(boxes, 3, num_rows, num_columns)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), ellipses_by_pixels(boxes, 3, num_rows, num_columns))


def test_an_ellipse_touches_the_four_sides_of_its_box_and_leaves_its_corners():
    (heatmap,) = draw_ellipses(make_boxes([(0.25, 0.25, 0.75, 0.75)]), 1, 16, 16)[0]
    assert heatmap[4:12, 4:12].sum() == heatmap.sum()
    assert heatmap[4, 7] == heatmap[7, 4] == heatmap[11, 8] == heatmap[8, 11] == 1
    assert heatmap[4, 4] == heatmap[4, 11] == heatmap[11, 4] == heatmap[11, 11] == 0


def test_an_item_smaller_than_a_cell_still_has_one():
    heatmap = draw_ellipses(make_boxes([(0.51, 0.01, 0.52, 0.02)]), 1, 4, 4)[0, 0]
    assert heatmap.nonzero().tolist() == [[0, 2]]


def test_a_box_that_was_cropped_off_leaves_nothing():
    assert draw_ellipses(make_boxes([(1.2, 0.2, 1.6, 0.4), (-0.5, 0.2, -0.1, 0.4)]), 1, 8, 8).sum() == 0
    assert draw_ellipses(make_boxes([]), 2, 8, 8).shape == (2, 1, 8, 8)


def test_attention_loss_is_equation_3_summed_over_cells():
    torch.manual_seed(0)
    mask, target = torch.rand(3, 1, 4, 5, dtype=torch.float64), torch.rand(3, 1, 4, 5, dtype=torch.float64).round()
    known = torch.tensor([True, False, True])
    total = 0.0
    for scan in (0, 2):
        for row in range(4):
            for column in range(5):
                total += (mask[scan, 0, row, column].item() - target[scan, 0, row, column].item()) ** 2
    assert attention_loss(mask, target, known).item() == pytest.approx(total / 3, rel=1e-12)
    mask.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: attention_loss(x, target, known), (mask,))


@st.composite
def batches(draw):
    num_scans, num_classes, num_levels = (draw(st.integers(1, top)) for top in (4, 3, 4))
    numbers = st.floats(-6, 6, allow_nan=False)

    def table(values, width):
        row = st.lists(values, min_size=width, max_size=width)
        return draw(st.lists(row, min_size=num_scans, max_size=num_scans))

    levels = draw(st.lists(st.integers(0, num_levels), min_size=num_scans, max_size=num_scans))
    labels = table(st.sampled_from([0.0, 1.0, UNKNOWN]), num_classes)
    return table(numbers, num_classes), labels, table(numbers, num_levels), levels


def equation_4(logits, labels, scores, levels, weight):
    """L_II = L_cls + λ L_meta with loops; scores before the soft-max, levels from 1, 0 unknown."""
    l_cls = l_meta = 0.0
    for n in range(len(logits)):
        for c in range(len(logits[n])):
            if labels[n][c] != UNKNOWN:
                y = 1 / (1 + math.exp(-logits[n][c]))
                l_cls -= math.log(y if labels[n][c] == 1 else 1 - y) / len(logits[n])
        if levels[n]:
            w = math.exp(scores[n][levels[n] - 1]) / sum(math.exp(score) for score in scores[n])
            l_meta -= math.log(w)
    return (l_cls + weight * l_meta) / len(logits)


@settings(max_examples=100, deadline=None)
@given(batch=batches(), weight=st.floats(0.01, 1))
def test_the_loss_of_stage_two_is_equation_4(batch, weight):
    logits, labels, scores, levels = batch
    found = classification_loss(torch.tensor(logits, dtype=torch.float64), torch.tensor(labels)) + weight * (
        selection_loss(torch.tensor(scores, dtype=torch.float64).log_softmax(dim=1), torch.tensor(levels))
    )
    assert found.item() == pytest.approx(equation_4(logits, labels, scores, levels, weight), abs=1e-12)


def test_the_gradients_of_stage_two_equal_finite_differences():
    torch.manual_seed(0)
    labels, levels = torch.tensor([[1.0, 0.0], [UNKNOWN, 1.0]]), torch.tensor([2, 0])
    logits = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    scores = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: classification_loss(x, labels), (logits,))
    assert torch.autograd.gradcheck(lambda x: selection_loss(x.log_softmax(dim=1), levels), (scores,))


def test_unknown_labels_and_scans_without_a_level_have_no_gradient():
    logits, scores = torch.randn(2, 2, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    classification_loss(logits, torch.tensor([[UNKNOWN, UNKNOWN], [UNKNOWN, 1.0]])).backward()
    selection_loss(scores.log_softmax(dim=1), torch.tensor([0, 3])).backward()
    assert logits.grad is not None and scores.grad is not None
    assert torch.count_nonzero(logits.grad[0]) == 0 and torch.count_nonzero(logits.grad[1]) == 1
    assert torch.count_nonzero(scores.grad[0]) == 0 and torch.count_nonzero(scores.grad[1]) == 3


@pytest.mark.parametrize(
    ("areas", "level"),
    [([0.0199], 1), ([0.02], 2), ([0.1], 2), ([0.2], 2), ([0.2001], 3), ([0.9, 0.3, 0.01], 1), ([0.9, 0.21], 3)],
)
def test_intuition_goes_by_the_smallest_box_under_2_per_cent_up_to_20_and_above(areas, level):
    boxes = make_boxes([(0, 0, 1, 1)] * len(areas), [0] * len(areas), areas)
    assert intuitive_levels(boxes, 2, IntuitiveLabels()).tolist() == [level, 0]


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"fractions must be 0 < small <= large < 1, got 0.3 and 0.2"):
        IntuitiveLabels(small_fraction=0.3)
    with pytest.raises(ValueError, match=r"weight must be > 0, got 0; without L_meta the loss is FusedLossConfig"):
        MetaLossConfig(labels=IntuitiveLabels(), weight=0)
