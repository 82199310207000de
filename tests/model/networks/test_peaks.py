import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from model.networks.peaks import find_peaks

ODD = st.sampled_from([1, 3, 5, 7, 9])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    sizes=st.lists(st.tuples(ODD, ODD), min_size=1, max_size=3),
    factors=st.tuples(st.sampled_from([3, 5, 7]), st.sampled_from([3, 5, 7])),
)
def test_a_peak_is_the_maximum_of_the_maps_rescaled_to_the_scan(seed, sizes, factors):
    """Section 5.3 done at length: rescale every level's map to the scan, take the highest pixel of all."""
    maps = [torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(seed)) for size in sizes]
    # Odd multiples of each map's sides: then a pixel's centre lies on each cell's centre.
    width = factors[0] * math.lcm(*(columns for _, columns in sizes))
    height = factors[1] * math.lcm(*(rows for rows, _ in sizes))
    peaks = find_peaks(maps, torch.tensor([width]), torch.tensor([height]))
    rescaled = torch.cat(
        [functional.interpolate(m, size=(height, width), mode="bilinear", align_corners=False) for m in maps]
    )
    highest = rescaled.max()
    torch.testing.assert_close(peaks.value_BK[0, 0], highest, rtol=0, atol=1e-5)
    x, y = int(peaks.x_px_BK[0, 0]), int(peaks.y_px_BK[0, 0])
    level = int(peaks.level_BK[0, 0]) - 1
    torch.testing.assert_close(rescaled[level, 0, y, x], highest, rtol=0, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    width=st.integers(20, 300),
    height=st.integers(20, 300),
)
def test_no_pixel_of_a_rescaled_map_exceeds_the_peak_whatever_the_scans_size(seed, rows, columns, width, height):
    heatmap = torch.randn(1, 1, rows, columns, generator=torch.Generator().manual_seed(seed))
    peaks = find_peaks([heatmap], torch.tensor([width]), torch.tensor([height]))
    rescaled = functional.interpolate(heatmap, size=(height, width), mode="bilinear", align_corners=False)
    assert rescaled.max() <= peaks.value_BK[0, 0] + 1e-5
    assert 0 <= peaks.x_px_BK[0, 0] < width
    assert 0 <= peaks.y_px_BK[0, 0] < height


def test_of_equal_responses_the_finest_level_then_the_upper_row_then_the_left_column_wins():
    fine, coarse = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)
    for row, column in ((1, 3), (1, 2), (3, 0)):
        fine[0, 0, row, column] = 1
    coarse[0, 0, 0, 0] = 1
    peaks = find_peaks([fine, coarse], torch.tensor([40]), torch.tensor([80]))
    assert (peaks.level_BK.item(), peaks.x_px_BK.item(), peaks.y_px_BK.item()) == (1, 25.0, 30.0)


def test_each_scan_and_class_has_its_own_peak():
    fine, coarse = torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 2, 2)
    fine[0, 0, 0, 3] = 5
    coarse[0, 1, 1, 0] = 6
    coarse[1, 0, 0, 1] = 7
    fine[1, 1, 3, 3] = 8
    peaks = find_peaks([fine, coarse], torch.tensor([100, 1000]), torch.tensor([100, 500]))
    assert peaks.value_BK.tolist() == [[5, 6], [7, 8]]
    assert peaks.level_BK.tolist() == [[1, 2], [2, 1]]
    assert peaks.x_px_BK.tolist() == [[87.5, 25.0], [750.0, 875.0]]
    assert peaks.y_px_BK.tolist() == [[12.5, 75.0], [125.0, 437.5]]
    assert peaks.x_px_BK.dtype == peaks.value_BK.dtype == torch.float32
