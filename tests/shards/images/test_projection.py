"""Test the laws of a projection: it only takes light, only where the object is, and only within a bag."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.images.cutouts import Cutout, Extent, cut_object
from shards.images.projection import Projection, find_bags, find_place, measure_occlusion, multiply, project, turn
from tests.painted import BAG, METAL, paint, rectangle, tool

BAG_MASK = rectangle(20, 20, 220, 180)
SCAN = paint((BAG_MASK, BAG), (rectangle(150, 40, 210, 160), METAL), seed=1)
WHITE = (255, 255, 255)


@pytest.fixture(scope="module")
def cutout() -> Cutout:
    found = cut_object(paint((BAG_MASK, BAG), (tool(80, 70), METAL), seed=2), (80, 70, 140, 100))
    assert found is not None
    return found


@given(seed=st.integers(0, 2**32))
def test_a_projection_takes_light_where_the_object_is_and_changes_nothing_else(cutout, seed):
    found = project_with(cutout, seed)
    assert (found.pixels_HWC <= SCAN).all()
    left, top, right, bottom = found.extent
    outside = np.ones(SCAN.shape[:2], bool)
    outside[top:bottom, left:right] = False
    assert (found.pixels_HWC[outside] == SCAN[outside]).all()
    # Never outside the bag, which this test knows.
    changed = (found.pixels_HWC != SCAN).any(axis=2)
    assert not (changed & ~BAG_MASK).any()
    # The box is that of the object. Where it takes what rounds to nothing a pixel is lost.
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert np.abs(np.array(found.extent) - [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).max() <= 1
    assert 0 <= found.occlusion <= 1


@given(seed=st.integers(0, 2**32))
def test_an_object_keeps_off_what_is_taken(cutout, seed):
    found = project_with(cutout, seed, (Extent(20, 20, 120, 180),))
    assert (found.pixels_HWC[:, :120] == SCAN[:, :120]).all()


def project_with(cutout: Cutout, seed: int, taken: tuple[Extent, ...] = ()) -> Projection:
    found = project(SCAN, WHITE, cutout, np.random.default_rng(seed), taken)
    assert found is not None
    return found


def test_the_same_generator_gives_the_same_projection(cutout):
    one, other = (project_with(cutout, 5) for _ in range(2))
    assert one.extent == other.extent and (one.pixels_HWC == other.pixels_HWC).all()
    assert project_with(cutout, 6).extent != one.extent


@pytest.mark.parametrize("scan", [np.full((200, 240, 3), 255, np.uint8), paint((rectangle(20, 20, 50, 45), BAG))])
def test_without_a_bag_that_holds_the_object_there_is_no_projection(cutout, scan):
    assert project(scan, WHITE, cutout, np.random.default_rng(0)) is None


def test_the_bags_of_a_scan_are_found_without_gaps_and_without_the_lines_of_the_belt():
    bag, gap = rectangle(60, 60, 360, 260, (480, 320)), rectangle(120, 100, 300, 220, (480, 320))
    belt = rectangle(0, 300, 480, 303, (480, 320))
    bags = find_bags(paint((bag & ~gap, BAG), (belt, BAG), size=(480, 320)), WHITE)
    assert not (bags & ~bag).any()
    assert (bags & bag).sum() > 0.85 * bag.sum()


@pytest.mark.parametrize("angle", [0.0, math.pi / 2, 1.0, 4.0])
@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("scale", [0.6, 1.0, 1.25])
def test_a_turned_object_has_the_area_and_the_attenuation_of_the_object(cutout, scale, angle, is_mirrored):
    source = cutout.attenuation_HWC
    turned = turn(source, scale, angle, is_mirrored=is_mirrored)
    areas = [(attenuation.max(axis=2) > 0.5).sum() for attenuation in (source, turned)]
    assert areas[1] == pytest.approx(scale**2 * areas[0], rel=0.1)
    assert (turned >= 0).all()
    assert np.median(turned[turned[..., 0] > 1.5], axis=0) == pytest.approx(
        np.median(source[source[..., 0] > 1.5], axis=0), abs=0.05
    )


def test_a_quarter_turn_is_that_of_numpy(cutout):
    turned = turn(cutout.attenuation_HWC, 1.0, math.pi / 2, is_mirrored=False)
    expected = [np.rot90(cutout.attenuation_HWC, k) for k in (1, 3)]
    assert any(turned.shape == of.shape and np.abs(turned - of).max() < 0.02 for of in expected)


def test_products_of_transmissions_commute(cutout):
    both = [(10, 20), (40, 30)]
    one, other = (
        multiply(multiply(SCAN, cutout.attenuation_HWC, *first), cutout.attenuation_HWC, *second).astype(int)
        for first, second in (both, both[::-1])
    )
    assert np.abs(one - other).max() <= 1  # rounded twice


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32))
def test_a_place_is_found_wherever_there_is_one(width, height, seed):
    free = np.zeros((400, 400), bool)
    free[100:300, 50:250] = True
    place = find_place(free, np.ones((height, width), bool), np.random.default_rng(seed))
    if place is None:
        assert max(width, height) > 200 - 2 * 3  # three pixels are one block here
    else:
        x, y = place
        assert free[y : y + height, x : x + width].all()


def test_occlusion_is_the_share_under_what_is_denser():
    own = np.full((10, 10, 3), 1.0, np.float32)
    scan = np.zeros((10, 10, 3), np.float32)
    scan[:, :3] = 1.5
    assert measure_occlusion(own, scan) == pytest.approx(0.3)
    own[:, :5] = 0  # not of the object
    assert measure_occlusion(own, scan) == 0
