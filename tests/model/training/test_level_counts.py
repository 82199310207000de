import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inputs.batch import Batch, Boxes
from model.networks.output import NetworkOutput
from model.networks.peaks import find_peaks
from model.training.level_counts import count_levels, share_levels
from model.training.level_labels import least_loss_levels
from model.training.losses import AuthorsLossConfig, LossConfig, class_balanced_weights
from shards.format.classes import UNKNOWN


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), num_levels=st.integers(1, 4))
def test_levels_are_counted_as_peaks_level_labels_and_the_loss_choose_them(seed, num_levels):
    generator = torch.Generator().manual_seed(seed)
    sizes = [2 ** (num_levels - level) for level in range(num_levels)]
    heatmaps = tuple(4 * torch.randn(5, 3, size, size, generator=generator) for size in sizes)
    logits_LBK = torch.stack([heatmap.mean(dim=(2, 3)) for heatmap in heatmaps])
    labels_BK = torch.randint(-1, 2, (5, 3), generator=generator).float()
    labels_BK[-1] = UNKNOWN  # padding
    rows_B = torch.arange(5)
    boxes = Boxes(torch.zeros(0, 4), torch.zeros(0), rows_B[:0], rows_B[:0])
    batch = Batch(torch.zeros(5, 3, 2, 2), labels_BK, rows_B, boxes, 0 * rows_B, rows_B == 4)
    loss = LossConfig(threshold=0.4)
    found = count_levels(NetworkOutput(logits_LBK, heatmaps), batch, loss).tolist()

    def by_level(levels):
        return np.bincount(np.asarray(levels), minlength=num_levels + 1)[1:].tolist()

    levels_BK = find_peaks(heatmaps, torch.ones(5), torch.ones(5)).level_BK
    assert found[0] == by_level(levels_BK[labels_BK == 1])
    assert found[1] == by_level(least_loss_levels(logits_LBK.numpy(), labels_BK.numpy()))
    weights_LBK = class_balanced_weights(logits_LBK, labels_BK, 0.4)
    assert found[2] == [int(weights_BK[labels_BK == 0].sum()) for weights_BK in weights_LBK]
    num_absent = int((labels_BK == 0).sum())
    assert found[3] == [num_absent] * num_levels
    for of in (LossConfig(balanced=False), AuthorsLossConfig()):
        assert count_levels(NetworkOutput(logits_LBK, heatmaps), batch, of)[2].tolist() == found[3]


def test_a_level_that_never_judges_shows_and_nothing_has_no_share():
    shares = share_levels([[1, 3], [0, 0], [0, 2], [4, 4]])
    assert shares == {"peaks": [0.25, 0.75], "least_loss": [None, None], "negatives": [0.0, 0.5]}
