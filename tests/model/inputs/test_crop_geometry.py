"""Trim, crop and mirror scans, and check that boxes stay on their items and peaks on their pixels."""

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model.hardware import Hardware
from model.inputs.augment import crop_windows
from model.inputs.crop_geometry import areas_in, boxes_in_windows, whole_windows
from model.inputs.decoder import BatchDecoder
from model.inputs.feeds import FeedConfig, TrainingFeed, ValidationFeed
from model.inputs.sample_table import SampleTable
from model.networks.config import IMAGENET_MEAN, IMAGENET_STD, InputConfig
from model.networks.peaks import find_peaks

CPU = Hardware(device="cpu", dtype="float32", decode_device="cpu", num_cores=1, name="a processor")
SQUARE = 32
"""Pixels of an item's side."""


def draw(rng, margin):
    """Return a JPEG of a grey bag, a dark square on it, white margins around, and the square's edges as fractions."""
    bag = np.full((240, 320, 3), 170, np.uint8)
    x, y = (8 * int(rng.integers(2, side // 8 - 6)) for side in (320, 240))
    bag[y : y + SQUARE, x : x + SQUARE] = 20
    top, bottom, left, right = (8 * int(side) for side in rng.integers(1, 20, size=4)) if margin else (0, 0, 0, 0)
    image = np.pad(bag, ((top, bottom), (left, right), (0, 0)), constant_values=255)
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=95)
    height, width = image.shape[:2]
    edges = np.array([x + left, y + top, x + left + SQUARE, y + top + SQUARE]) / [width, height, width, height]
    window = np.array([left, top, left + 320, top + 240]) / [width, height, width, height]
    return out.getvalue(), edges, window, (width, height)


def make_samples(tmp_path, margin):
    rng = np.random.default_rng(0)
    drawn = [draw(rng, margin) for _ in range(12)]
    path = tmp_path / "train.tar"  # only offsets matter here
    path.write_bytes(b"".join(image for image, *_ in drawn))
    sizes = np.array([len(image) for image, *_ in drawn])
    keys = pa.array([f"P{number:05d}" for number in range(12)])
    px = np.array([size for *_, size in drawn])
    return SampleTable(
        keys=keys,
        groups=keys,
        shard_urls=(str(path),),
        shards_N=np.zeros(12, np.int32),
        offsets_bytes_N=np.cumsum(sizes) - sizes,
        sizes_bytes_N=sizes,
        widths_px_N=px[:, 0],
        heights_px_N=px[:, 1],
        labels_NK=np.ones((12, 1), np.int8),
        classes=("Gun",),
        boxes_X4=np.array([edges for _, edges, *_ in drawn], np.float32),
        box_classes_X=np.zeros(12, np.int16),
        first_boxes_N=np.arange(12),
        num_boxes_N=np.ones(12, np.int64),
        levels_N=np.arange(12, dtype=np.int8),
    ), drawn


def config_of(trim_margins):
    config = InputConfig(size_px=112, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), trim_margins=trim_margins)
    return FeedConfig(batch_size=5, input=config, resize_px=128, hardware=CPU)


@pytest.mark.parametrize("margin", [False, True])
@pytest.mark.parametrize("feed", [TrainingFeed, ValidationFeed])
def test_a_box_lies_where_the_item_is_seen(tmp_path, feed, margin):
    samples, drawn = make_samples(tmp_path, margin)
    num_seen = 0
    for batch in feed(samples, config_of(margin)):
        assert batch.levels_B.tolist() == batch.rows_B.tolist()
        for edges, area, scan, _ in zip(*(part.tolist() for part in batch.boxes), strict=True):
            row = int(batch.rows_B[scan])
            assert area == pytest.approx(SQUARE**2 / (320 * 240), rel=0.12 if margin else 1e-5)
            rows, columns = np.nonzero(batch.images_BCHW[scan, 0].numpy() < 0.35)
            whole = min(edges) > 0.02 and max(edges) < 0.98
            if not whole:
                continue
            num_seen += 1
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(np.array(edges) * 112, found, atol=2.0, err_msg=f"row {row} {drawn[row][1:]}")
    assert num_seen >= 6


def test_trimmed_margins_are_gone_and_the_window_says_where_they_were(tmp_path):
    config = InputConfig(size_px=64, trim_margins=True)
    drawn = [draw(np.random.default_rng(number), margin=True) for number in range(5)]
    decoder = BatchDecoder(config, CPU, batch_size=8)
    images, errors, windows = decoder.decode([None, *(image for image, *_ in drawn)])
    assert errors == {}
    np.testing.assert_array_equal(windows[0], [0, 0, 1, 1])
    for (_, _, expected, (width, height)), window in zip(drawn, windows[1:].numpy(), strict=True):
        np.testing.assert_allclose(window, expected, atol=9 / min(width, height))  # JPEG blurs by a block at most
    red = images[1:, 0] * IMAGENET_STD[0] + IMAGENET_MEAN[0]
    assert float(red.max()) < 0.95
    plain = BatchDecoder(replace(config, trim_margins=False), CPU, batch_size=8).decode([drawn[0][0]])
    assert float(plain.images_BCHW[0, 0, 0, 0] * IMAGENET_STD[0] + IMAGENET_MEAN[0]) > 0.98
    np.testing.assert_array_equal(plain.windows_B4, [[0, 0, 1, 1]])


def test_a_white_scan_stays_whole():
    out = io.BytesIO()
    Image.new("RGB", (50, 40), "white").save(out, "JPEG")
    config = InputConfig(size_px=32, trim_margins=True)
    decoded = BatchDecoder(config, CPU, batch_size=1).decode([out.getvalue()])
    np.testing.assert_array_equal(decoded.windows_B4, [[0, 0, 1, 1]])


def test_a_peak_comes_back_to_the_pixels_of_the_scan_as_stored():
    heatmap = torch.zeros(1, 1, 4, 4)
    heatmap[0, 0, 1, 2] = 5.0  # its centre: 0.625 and 0.375 of what was seen
    window = torch.tensor([[0.2, 0.4, 0.6, 0.9]])
    peaks = find_peaks([heatmap], torch.tensor([1000]), torch.tensor([100]), window)
    assert peaks.x_px_BK.item() == pytest.approx((0.2 + 0.625 * 0.4) * 1000, rel=1e-5)
    assert peaks.y_px_BK.item() == pytest.approx((0.4 + 0.375 * 0.5) * 100, rel=1e-5)


fractions = st.floats(0, 0.99)


@given(crop=st.tuples(fractions, fractions, fractions), x=st.floats(0, 1), y=st.floats(0, 1))
def test_a_point_box_goes_through_a_window_as_pixels_do(crop, x, y):
    """Margins (0.1, 0.2, 0.9, 0.7), squash to 64, crop 48 at a whole pixel, mirror."""
    trimmed = np.array([[0.1, 0.2, 0.9, 0.7]], np.float32)
    window = crop_windows(trimmed, np.array([crop]), 64, 48)
    corner = [np.floor(np.float32(value) * np.float32(16) + np.float32(0.5)) for value in crop[:2]]
    seen_x = ((x - 0.1) / 0.8 * 64 - corner[0]) / 48
    seen_y = ((y - 0.2) / 0.5 * 64 - corner[1]) / 48
    seen_x = 1 - seen_x if crop[2] < 0.5 else seen_x
    found = boxes_in_windows(np.array([[x, y, x, y]], np.float32), window)[0]
    np.testing.assert_allclose(found, [seen_x, seen_y, seen_x, seen_y], atol=1e-4)


def test_a_box_is_measured_against_what_trimming_left():
    edges = np.array([[0.25, 0.25, 0.75, 0.5]], np.float32)
    assert areas_in(edges, whole_windows(1)).item() == pytest.approx(0.125)
    assert areas_in(edges, np.array([[0.25, 0.0, 0.75, 0.5]], np.float32)).item() == pytest.approx(0.5)
