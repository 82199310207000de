"""The fused heatmap agrees with the peaks, and covers the window of the network."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.networks.peaks import find_peaks
from model.scoring.heatmaps import fuse_heatmaps


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    sizes=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=3),
    width=st.integers(20, 200),
    height=st.integers(20, 200),
)
def test_the_fused_heatmap_is_highest_where_the_peak_is(seed, sizes, width, height):
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(1, 2, *size, generator=generator) for size in sizes]
    fused_KHW = fuse_heatmaps(maps, height, width)
    peaks = find_peaks(maps, torch.tensor([width]), torch.tensor([height]))
    assert fused_KHW.shape == (2, height, width)
    for k in range(2):
        assert fused_KHW[k].max() <= peaks.value_BK[0, k] + 1e-5
        # Between a cell's centre and the pixel beside it a map falls by at most its slope over half a pixel.
        at = fused_KHW[k, int(min(peaks.y_px_BK[0, k], height - 1)), int(min(peaks.x_px_BK[0, k], width - 1))]
        slope = max(2 * m.abs().max().item() * (m.shape[-1] / width + m.shape[-2] / height) for m in maps)
        assert at >= fused_KHW[k].max() - slope


def test_a_heatmap_lies_in_the_window_and_is_lowest_elsewhere():
    heatmap = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    found = fuse_heatmaps([heatmap], 40, 80, (0.25, 0.5, 0.75, 1.0))[0]
    assert found.shape == (40, 80)
    np.testing.assert_allclose(found[20:, 20:60], fuse_heatmaps([heatmap], 20, 40)[0])
    outside = np.ones((40, 80), bool)
    outside[20:, 20:60] = False
    assert set(found[outside]) == {1.0}
