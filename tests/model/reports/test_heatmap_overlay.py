"""A picture shows a scan with its boxes, heatmap, peak and attention mask."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image, ImageColor

from model.reports.charts import CHANCE, SERIES
from model.reports.heatmap_overlay import PANEL_PX, Marks, draw_layer, draw_overlay, format_range

MARKS = Marks(
    title="P00042   Gun: score 0.870, labelled present",
    class_name="Gun",
    peak_px=(150.0, 60.0),
    own_boxes=((100.0, 20.0, 180.0, 90.0),),
    other_boxes=((10.0, 10.0, 50.0, 50.0),),
)
SCAN = Image.new("RGB", (200, 120), (240, 240, 240))
HEATMAP = np.linspace(-3, 5, 200 * 120, dtype=np.float32).reshape(120, 200)


def open_page(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def has_colour(pixels, colour):
    return bool((pixels == ImageColor.getrgb(colour)).all(axis=-1).any())


def test_a_picture_shows_scan_and_heatmap_side_by_side_with_boxes_and_peak():
    page = open_page(draw_overlay(SCAN, HEATMAP, MARKS))
    left, right = page[50:170, 10:210], page[50:170, 220:420]
    assert has_colour(left, SERIES) and has_colour(right, SERIES)
    assert has_colour(right, CHANCE) and not has_colour(left, CHANCE)
    y, x = np.argwhere((right == ImageColor.getrgb(CHANCE)).all(axis=-1)).mean(axis=0)
    assert (x, y) == pytest.approx((150, 60), abs=1.5)


def test_the_heatmap_is_darker_where_it_is_low_and_brighter_where_it_is_high():
    bare = Marks(title="", class_name="Gun", peak_px=(0, 0), own_boxes=(), other_boxes=())
    right = open_page(draw_overlay(SCAN, HEATMAP, bare))[50:170, 220:420]
    assert right[100, 100, 0] > right[60, 100, 0] + 10  # inferno's red rises with the value


def test_an_attention_mask_makes_a_third_panel():
    attention = np.zeros((120, 200), np.float32)
    attention[:, 100:] = 1
    two, three = (open_page(draw_overlay(SCAN, HEATMAP, MARKS, mask)) for mask in (None, attention))
    assert three.shape[1] == 3 * 210 + 10 > two.shape[1]
    mask = three[50:170, 430:630]
    assert mask[60, 150, 0] > mask[60, 50, 0]
    brightest = ImageColor.getrgb(to_hex(colormaps["inferno"](1.0)))
    assert [int((page[-30:-10] == brightest).all(axis=-1).any(axis=0).sum()) for page in (two, three)] == [2, 4]


def test_a_large_scan_is_made_smaller_and_its_marks_with_it():
    marks = Marks(title="", class_name="Gun", peak_px=(1500.0, 900.0), own_boxes=(), other_boxes=())
    page = open_page(draw_overlay(Image.new("RGB", (2000, 1200)), np.eye(1200, 2000, dtype=np.float32), marks))
    panel = page[50 : 50 + round(PANEL_PX * 0.6), 20 + PANEL_PX : 20 + 2 * PANEL_PX]
    y, x = np.argwhere((panel == ImageColor.getrgb(CHANCE)).all(axis=-1)).mean(axis=0)
    assert (x, y) == pytest.approx((0.75 * PANEL_PX, 0.45 * PANEL_PX), abs=2)


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((-3.0, 5.0), ("-3.0", "5.0")),
        ((-0.0131, 0.0352), ("-0.013", "0.035")),
        ((-0.004, 5.0), ("0.0", "5.0")),
        ((5.1231, 5.1239), ("5.12310", "5.12390")),
        ((-250.0, 1200.0), ("-250", "1200")),
        ((-0.00123, -0.00123), ("-0.00123", "-0.00123")),
        ((-np.inf, 1.0), ("-inf", "1")),
        ((np.nan, np.nan), ("nan", "nan")),
    ],
)
def test_the_ends_of_a_scale_have_different_labels(ends, text):
    assert format_range(*ends) == text


@given(lowest=st.floats(-1e3, 1e3), span=st.floats(1e-5, 1e3))
def test_the_labels_of_a_scale_are_accurate_to_a_twentieth_of_its_length(lowest, span):
    first, last = map(float, format_range(lowest, lowest + span))
    assert first < last
    assert max(abs(first - lowest), abs(last - lowest - span)) <= 0.05 * span * 1.01


def test_a_long_title_widens_the_page():
    marks = replace(MARKS, title="P00042   Gun: score 0.870, labelled present, levels weigh " + "0.33 " * 20)
    assert (
        open_page(draw_overlay(SCAN, HEATMAP, marks)).shape[1] > open_page(draw_overlay(SCAN, HEATMAP, MARKS)).shape[1]
    )


def test_equal_arguments_give_equal_bytes_and_a_flat_map_can_be_drawn():
    flat = np.zeros((120, 200), np.float32)
    assert draw_overlay(SCAN, flat, MARKS) == draw_overlay(SCAN, flat, MARKS)


def test_a_layer_is_clear_at_the_lowest_value_and_densest_at_the_highest():
    layer = draw_layer(HEATMAP)
    pixels = np.asarray(Image.open(io.BytesIO(layer.png)).convert("RGBA")).astype(int)
    assert pixels.shape == (108, 180, 4) and (layer.lowest, layer.highest) == ("-3.0", "5.0")
    opacity_HW = pixels[..., 3]
    assert opacity_HW[0, 0] == 0 and opacity_HW[-1, -1] == opacity_HW.max() > 180
    assert np.all(np.diff(opacity_HW.reshape(-1)) >= 0)
    assert draw_layer(HEATMAP) == layer
    flat = np.asarray(Image.open(io.BytesIO(draw_layer(np.full((3, 900), 2.0, np.float32)).png)).convert("RGBA"))
    assert flat.shape == (1, 180, 4) and not flat[..., 3].any()
