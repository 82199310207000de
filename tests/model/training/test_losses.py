import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inputs.batch import Batch, Boxes
from model.networks.output import NetworkOutput
from model.training.losses import AuthorsLossConfig, LossConfig, class_balanced_weights, hierarchical_loss
from shards.format.classes import UNKNOWN


def loss_in_the_papers_words(level_logits, labels, threshold, balanced):
    """Section 4.3, transcribed with loops; labels None are unknown. Works on floats and on 0-d tensors."""
    num_levels, num_scans, num_classes = len(level_logits), len(labels), len(labels[0])
    total = 0.0
    for n in range(num_scans):
        of_levels = 0.0
        for level in range(num_levels):
            for c in range(num_classes):
                if labels[n][c] is None:
                    continue
                y = sigmoid(level_logits[level][n][c])
                if balanced and not is_considered(level_logits, n, c, level, labels[n][c], threshold):
                    continue
                of_levels = of_levels - log(y if labels[n][c] == 1 else 1 - y)
        total = total + of_levels / num_levels
    return total / num_scans


def is_considered(level_logits, n, c, level, label, threshold):
    """ "True if the judgment returns true, as well as all the higher levels support this"."""
    for here_or_higher in range(level, len(level_logits)):
        judgment = label == 1 or sigmoid(value(level_logits[here_or_higher][n][c])) > threshold
        if not judgment:
            return False
    return True


def value(x):
    return x.item() if isinstance(x, torch.Tensor) else x


def sigmoid(x):
    return torch.sigmoid(x) if isinstance(x, torch.Tensor) else 1 / (1 + math.exp(-x))


def log(x):
    return torch.log(x) if isinstance(x, torch.Tensor) else math.log(x)


@st.composite
def batches(draw):
    num_levels, num_scans, num_classes = (draw(st.integers(1, top)) for top in (4, 4, 3))
    logit = st.floats(-6, 6, allow_nan=False)
    label = st.sampled_from([0, 1, None])
    rows = st.lists(logit, min_size=num_classes, max_size=num_classes)
    level = st.lists(rows, min_size=num_scans, max_size=num_scans)
    logits = draw(st.lists(level, min_size=num_levels, max_size=num_levels))
    row_of_labels = st.lists(label, min_size=num_classes, max_size=num_classes)
    return logits, draw(st.lists(row_of_labels, min_size=num_scans, max_size=num_scans))


def as_tensor(labels):
    return torch.tensor([[UNKNOWN if v is None else float(v) for v in row] for row in labels], dtype=torch.float64)


@settings(max_examples=150, deadline=None)
@given(batch=batches(), threshold=st.floats(0.02, 0.98), balanced=st.booleans())
def test_the_loss_equals_the_papers_words(batch, threshold, balanced):
    logits, labels = batch
    found = hierarchical_loss(
        torch.tensor(logits, dtype=torch.float64),
        as_tensor(labels),
        LossConfig(balanced=balanced, threshold=threshold),
    )
    assert found.item() == pytest.approx(loss_in_the_papers_words(logits, labels, threshold, balanced), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(batch=batches(), threshold=st.floats(0.02, 0.98), balanced=st.booleans())
def test_the_gradient_equals_that_of_the_papers_words(batch, threshold, balanced):
    logits, labels = batch
    fast = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    slow = fast.detach().clone().requires_grad_()
    hierarchical_loss(fast, as_tensor(labels), LossConfig(balanced=balanced, threshold=threshold)).backward()
    expected = loss_in_the_papers_words(slow, labels, threshold, balanced)
    assert fast.grad is not None
    if isinstance(expected, float):  # every label unknown or switched off
        assert torch.count_nonzero(fast.grad) == 0
        return
    expected.backward()
    torch.testing.assert_close(fast.grad, slow.grad, rtol=0, atol=1e-12)


def test_the_gradient_equals_finite_differences_where_no_weight_switches():
    torch.manual_seed(0)
    logits = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1.0, 0.0, UNKNOWN], [0.0, 0.0, 1.0]], dtype=torch.float64)
    config = LossConfig(threshold=0.3)
    assert ((logits.sigmoid() - 0.3).abs() > 1e-3).all()
    assert torch.autograd.gradcheck(lambda x: hierarchical_loss(x, labels, config), (logits,))


def test_a_class_switched_off_at_a_level_stays_off_at_all_lower_levels():
    # one scan, one negative class; level 1 is first and finest
    logits = torch.tensor([4.0, 4.0, -4.0, 4.0]).reshape(4, 1, 1)
    weights = class_balanced_weights(logits, torch.zeros(1, 1), threshold=0.5)
    assert weights.flatten().tolist() == [0, 0, 0, 1]


def test_a_positive_label_counts_at_every_level_whatever_the_prediction():
    weights = class_balanced_weights(torch.full((3, 1, 1), -20.0), torch.ones(1, 1), threshold=0.5)
    assert weights.flatten().tolist() == [1, 1, 1]


def test_a_score_equal_to_the_threshold_does_not_count():
    weights = class_balanced_weights(torch.zeros(1, 1, 1), torch.zeros(1, 1), threshold=0.5)
    assert weights.item() == 0


def test_unknown_labels_weigh_nothing():
    logits = torch.randn(3, 2, 2, requires_grad=True)
    labels = torch.tensor([[UNKNOWN, 1.0], [UNKNOWN, UNKNOWN]])
    hierarchical_loss(logits, labels, LossConfig()).backward()
    assert logits.grad is not None
    assert torch.count_nonzero(logits.grad[:, 0, 0]) == 0
    assert torch.count_nonzero(logits.grad[:, 1]) == 0
    assert torch.count_nonzero(logits.grad[:, 0, 1]) == 3


def test_a_threshold_that_is_no_probability_is_refused():
    with pytest.raises(ValueError, match=r"threshold must be in \(0, 1\), got -20"):
        LossConfig(threshold=-20)


def loss_of_the_authors(level_logits, labels):
    """Return what `on_start_batch` and `on_forward` of CHR/engine.py compute; labels are 1, 0 (doubtful) and -1."""
    target = np.where(labels == -1, 0, np.where(labels == 0, 1, labels))
    loss = 0.0
    for output in level_logits:
        n_data = np.ones_like(output)
        n_data[np.where(output < -20)] = 0
        mask = 1 - (1 - n_data) * (1 - target)
        score = 1 / (1 + np.exp(-output))
        loss += np.mean(mask * -(target * np.log(score + 1e-10) + (1 - target) * np.log(1 - score + 1e-10)))
    return loss


def batch_of(labels, is_void):
    no_boxes = Boxes(torch.zeros(0, 4), *(torch.zeros(0, dtype=torch.int64) for _ in range(3)))
    rows = torch.arange(len(labels))
    return Batch(torch.zeros(len(labels), 3, 2, 2), labels, rows, no_boxes, 0 * rows, torch.tensor(is_void))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), far=st.sampled_from([3.0, 30.0]))
def test_the_authors_loss_is_that_of_their_code_and_padding_adds_nothing(seed, far):
    generator = np.random.default_rng(seed)
    logits_LBK, theirs_BK = generator.normal(0, far / 2, (3, 4, 5)).clip(-far, 15), generator.integers(-1, 2, (4, 5))
    ours_BK = torch.tensor(np.select([theirs_BK == 1, theirs_BK == 0], [1.0, UNKNOWN], 0.0))
    expected = loss_of_the_authors(logits_LBK[:, :3], theirs_BK[:3])
    output = NetworkOutput(torch.tensor(logits_LBK), ())
    found = AuthorsLossConfig().terms(output, batch_of(ours_BK, [False, False, False, True]))["classification"]
    if (logits_LBK[:, :3][np.broadcast_to(theirs_BK[:3] >= 0, (3, 3, 5))] > -15).all():  # where 1e-10 is nothing
        assert 4 / 3 * found.item() == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_a_negative_far_below_is_dropped_at_its_own_level_alone():
    """The paper's threshold drops it at all lower levels too."""
    logits_LBK = torch.tensor([[[-19.0]], [[-21.0]], [[-20.0]]], requires_grad=True)
    AuthorsLossConfig().terms(NetworkOutput(logits_LBK, ()), batch_of(torch.zeros(1, 1), [False]))[
        "classification"
    ].backward()
    assert logits_LBK.grad is not None
    assert (logits_LBK.grad.flatten() > 0).tolist() == [True, False, True]
