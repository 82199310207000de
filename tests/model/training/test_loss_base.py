import math
import pickle

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
from model.training.losses import LossConfig, SoftmaxConfig, hierarchical_loss, softmax_loss
from model.training.sxmnet_losses import AttentionLossConfig, FusedLossConfig, IntuitiveLabels, MetaLossConfig
from tests.model.scans import make_dataset


def batch_of(labels_BK):
    num_scans = len(labels_BK)
    no_boxes = Boxes(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    no_levels = torch.zeros(num_scans, dtype=torch.int64)
    return Batch(torch.zeros(num_scans, 3, 8, 8), labels_BK, torch.arange(num_scans), no_boxes, no_levels)


def output_of(level_logits_LBK):
    return NetworkOutput(level_logits_LBK, tuple(level[..., None, None] for level in level_logits_LBK))


def loss_of(config, level_logits_LBK, labels_BK):
    return sum_terms(config.terms(output_of(level_logits_LBK), batch_of(labels_BK)))


CONFIGS = [LossConfig(balanced=False), SoftmaxConfig()]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_a_loss_is_the_mean_over_scans_so_batches_can_be_weighed_by_their_size(config):
    """Gradient accumulation and several processes rely on it, and on unknown scans adding nothing."""
    logits_LBK, labels_BK = torch.randn(2, 5, 3), torch.eye(3)[[0, 2, 1, 1, 0]]
    whole = loss_of(config, logits_LBK, labels_BK)
    parts = [loss_of(config, logits_LBK[:, of], labels_BK[of]) for of in (slice(0, 2), slice(2, 5))]
    torch.testing.assert_close(whole, (2 * parts[0] + 3 * parts[1]) / 5)
    padded = torch.cat([labels_BK, torch.full((1, 3), math.nan)])
    filled = loss_of(config, torch.cat([logits_LBK, torch.randn(2, 1, 3)], dim=1), padded)
    torch.testing.assert_close(filled * 6, whole * 5)


SXMNET_CONFIGS = [AttentionLossConfig(), FusedLossConfig(), MetaLossConfig(labels=IntuitiveLabels())]


def test_every_loss_is_held_to_the_contract():
    assert {type(config) for config in CONFIGS + SXMNET_CONFIGS} == set(LOSSES)


@pytest.mark.parametrize("config", CONFIGS + SXMNET_CONFIGS, ids=lambda config: type(config).__name__)
def test_a_loss_travels_to_other_processes_and_has_a_rating(config):
    loss = pickle.loads(pickle.dumps(config))
    assert loss == config
    evidence = np.zeros((3, 1)) if isinstance(loss, AttentionLossConfig) else np.eye(3)
    assert loss.rate(evidence, np.eye(3), ("a", "b", "c"))[loss.rating] == 1.0


def test_scans_with_any_number_of_items_are_trained_by_the_hierarchical_loss():
    config, logits_LBK, labels_BK = LossConfig(), torch.randn(3, 4, 2), torch.tensor([[1.0, 1], [0, 1], [0, 0], [1, 0]])
    found = loss_of(config, logits_LBK, labels_BK)
    assert torch.equal(found, hierarchical_loss(logits_LBK, labels_BK, config))


def test_a_class_without_held_out_positives_is_left_out_of_the_mean():
    logits = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]]).numpy()
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [math.nan, 0.0]]).numpy()
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
    assert top_accuracy(np.zeros((1, 4)), np.full((1, 4), np.nan), 1) is None


@pytest.mark.parametrize("labels", [(0.0, 0.0, 0.0), (1.0, 1.0, 0.0), (1.0, math.nan, 0.0)])
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
