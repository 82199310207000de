import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inputs.batch import Batch, Boxes
from model.inputs.sample_table import load_sample_table
from model.networks.output import NetworkOutput
from model.training.config import LOSSES
from model.training.loss_base import average_precisions, sum_terms, top_accuracy
from model.training.losses import AuthorsLossConfig, LossConfig, SoftmaxConfig, hierarchical_loss, softmax_loss
from model.training.sxmnet_losses import AttentionLossConfig, FusedLossConfig, IntuitiveLabels, MetaLossConfig
from shards.format.classes import UNKNOWN
from tests.model.scans import make_dataset

SETTINGS = {LossConfig: LossConfig(balanced=False), MetaLossConfig: MetaLossConfig(labels=IntuitiveLabels())}
CONFIGS = [SETTINGS.get(loss) or loss() for loss in LOSSES]
SUMS_OF_CROSS_ENTROPIES = LossConfig | AuthorsLossConfig | FusedLossConfig | MetaLossConfig
PADDING = 5


def step_of(rows):
    """Return the output and the batch of some of six scans, each with one item and one box; the last is padding."""
    generator = torch.Generator().manual_seed(0)
    level_logits_LNK, log_weights_NL = (torch.randn(*shape, generator=generator) for shape in ((3, 6, 3), (6, 3)))
    masks_N1hw = torch.rand(6, 1, 4, 4, generator=generator)
    labels_NK = torch.cat([torch.eye(3)[[0, 2, 1, 1, 0]], torch.full((1, 3), float(UNKNOWN))])
    boxed = [place for place, row in enumerate(rows) if row != PADDING]
    shares_M = torch.tensor([(0.01, 0.1, 0.3, 0.05, 0.6)[rows[place]] for place in boxed])
    edges_M4 = torch.stack([0 * shares_M, 0 * shares_M, shares_M.sqrt(), shares_M.sqrt()], dim=1)
    output = NetworkOutput(
        level_logits_LNK[:, rows], (), log_weights_NL[rows].log_softmax(dim=1), attention_B1hw=masks_N1hw[rows]
    )
    boxes = Boxes(edges_M4, shares_M, torch.tensor(boxed), torch.zeros(len(boxed), dtype=torch.int64))
    images_BCHW, no_levels_B = torch.zeros(len(rows), 3, 8, 8), torch.zeros(len(rows), dtype=torch.int64)
    is_void_B = torch.tensor(rows) == PADDING
    return output, Batch(images_BCHW, labels_NK[rows], torch.tensor(rows), boxes, no_levels_B, is_void_B)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_a_loss_is_the_mean_over_scans_so_batches_can_be_weighed_by_their_size(config):
    """Gradient accumulation and several processes rely on it, and on padding adding nothing."""

    def loss_of(*rows):
        return sum_terms(config.terms(*step_of(list(rows))))

    whole = loss_of(0, 1, 2, 3, 4)
    torch.testing.assert_close(whole, (2 * loss_of(0, 1) + 3 * loss_of(2, 3, 4)) / 5)
    torch.testing.assert_close(loss_of(0, 1, 2, 3, 4, PADDING) * 6, whole * 5)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_a_loss_travels_to_other_processes_and_has_a_rating(config):
    loss = pickle.loads(pickle.dumps(config))
    assert loss == config
    output, batch = step_of([*range(6)])
    figures = loss.rate(loss.evidence(output, batch).numpy(), batch.labels_BK.numpy(), ("a", "b", "c"))
    assert 0 < figures[loss.rating] <= 1
    if not isinstance(loss, AttentionLossConfig):
        assert loss.rate(np.eye(3), np.eye(3), ("a", "b", "c"))[loss.rating] == 1.0


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_the_weight_that_a_loss_says_the_top_level_has_is_that_of_its_gradient(config):
    output, batch = step_of([*range(5)])
    logits_LBK = torch.zeros_like(output.level_logits_LBK, requires_grad=True)
    output = replace(output, level_logits_LBK=logits_LBK, log_weights_BL=torch.full((5, 3), math.log(1 / 3)))
    if (stated := config.top_gradient(num_levels=3, num_classes=3)) is not None:
        sum_terms(config.terms(output, batch)).backward()
        assert logits_LBK.grad is not None
        torch.testing.assert_close(logits_LBK.grad[-1], stated * (0.5 - batch.labels_BK) / 5)
    assert stated is not None or not isinstance(config, SUMS_OF_CROSS_ENTROPIES)


def test_scans_with_any_number_of_items_are_trained_by_the_hierarchical_loss():
    config, logits_LBK, labels_BK = LossConfig(), torch.randn(3, 4, 2), torch.tensor([[1.0, 1], [0, 1], [0, 0], [1, 0]])
    output, batch = step_of([*range(4)])
    output, batch = replace(output, level_logits_LBK=logits_LBK), batch._replace(labels_BK=labels_BK)
    found = sum_terms(config.terms(output, batch))
    assert torch.equal(found, hierarchical_loss(logits_LBK, labels_BK, config))


def test_a_class_without_held_out_positives_is_left_out_of_the_mean():
    logits = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]]).numpy()
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [UNKNOWN, 0.0]]).numpy()
    assert average_precisions(logits, labels) == [1.0, None]
    assert LossConfig().rate(logits, labels, ("Gun", "Knife")) == {
        "average_precision/Gun": 1.0,
        "average_precision/Knife": None,
        "mean_average_precision": 1.0,
    }


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), num_levels=st.integers(1, 4), num_scans=st.integers(1, 5), k=st.integers(2, 6))
def test_the_soft_max_loss_and_its_gradient_equal_its_definition(seed, num_levels, num_scans, k):
    """Section 5.5: - log(exp(y_true) / sum exp(y)) of each level, no weights, averaged over levels (Section 4.3)."""
    generator = torch.Generator().manual_seed(seed)
    fast = torch.randn(num_levels, num_scans, k, generator=generator, dtype=torch.float64, requires_grad=True)
    slow = fast.detach().clone().requires_grad_()
    true_B = torch.randint(k, (num_scans,), generator=generator)
    expected = sum(
        -torch.log(slow[level, n, true_B[n]].exp() / slow[level, n].exp().sum())
        for level in range(num_levels)
        for n in range(num_scans)
    ) / (num_levels * num_scans)
    found = softmax_loss(fast, torch.eye(k)[true_B])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    for loss in (found, expected):
        loss.backward()
    torch.testing.assert_close(fast.grad, slow.grad, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), k=st.integers(1, 6))
def test_top_accuracy_is_the_share_of_scans_whose_class_is_among_the_highest(seed, k):
    rng = np.random.default_rng(seed)
    logits_NK, true_N = rng.normal(size=(9, 6)), rng.integers(0, 6, 9)
    highest = np.argsort(-logits_NK, axis=1)[:, :k]
    expected = np.mean([true in row for true, row in zip(true_N, highest, strict=True)])
    assert top_accuracy(logits_NK, np.eye(6)[true_N], k) == pytest.approx(expected)


def test_a_network_that_always_says_the_same_is_never_right():
    assert top_accuracy(np.zeros((3, 4)), np.eye(4)[:3], 1) == 0.0
    assert top_accuracy(np.full((3, 4), np.nan), np.eye(4)[:3], 1) == 0.0
    assert top_accuracy(np.zeros((1, 4)), np.full((1, 4), UNKNOWN), 1) is None


@pytest.mark.parametrize("labels", [(0, 0, 0), (1, 1, 0), (1, UNKNOWN, 0)])
def test_scans_without_exactly_one_known_item_cannot_be_trained_by_a_soft_max(tmp_path, labels):
    samples = load_sample_table(make_dataset(tmp_path, num_train=4, num_shards=1), "train")
    samples.labels_NK[:] = np.eye(3)[[0, 1, 2, 0]]
    SoftmaxConfig().check_samples(samples)
    samples.labels_NK[2] = labels
    with pytest.raises(ValueError, match=r"labels must be one 1 among zeros for a soft-max, got .* \(sample 'P00002'"):
        SoftmaxConfig().check_samples(samples)


def test_a_network_that_diverged_has_no_figures(caplog):
    assert average_precisions(torch.full((2, 1), math.nan).numpy(), torch.ones(2, 1).numpy()) == [None]
    assert "the network has diverged" in caplog.text
