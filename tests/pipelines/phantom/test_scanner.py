"""Tests of the simulated scanner: Beer-Lambert attenuation and the colours of materials."""

import colorsys
import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.phantom.imaging.materials import load_materials, mix_elements
from pipelines.phantom.imaging.outlines import ellipse, ellipsoid, points, rectangle, revolved
from pipelines.phantom.imaging.scanner import Beam, encode_jpeg, load_scanners
from pipelines.phantom.imaging.shapes import Part, make_pose

SIZE_PX = 40
POSE = make_pose((SIZE_PX / 2, SIZE_PX / 2), 4.0)
FAMILIES = {
    "water": "orange",
    "polyethylene": "orange",
    "textile": "orange",
    "food": "orange",
    "pvc": "green",
    "aluminium": "green",
    "glass": "green",
    "steel": "blue",
    "stainless": "blue",
    "brass": "blue",
    "copper": "blue",
}
HUES = {"orange": (15, 48), "green": (80, 170), "blue": (195, 250)}

parts = st.builds(
    lambda material, x, y, width, thickness: Part(
        material=material, outlines=(rectangle(x, y, width, 3.0),), thickness_cm=thickness
    ),
    st.sampled_from(sorted(load_materials())),
    st.floats(-6, 6),
    st.floats(-6, 6),
    st.floats(0.5, 9),
    st.floats(0.01, 5),
)


def slab(material: str, thickness_cm: float) -> Part:
    """A sheet over the whole scan."""
    return Part(material=material, outlines=(rectangle(0, 0, 50, 50),), thickness_cm=thickness_cm)


def shine(*items: Part) -> Beam:
    beam = Beam(SIZE_PX, SIZE_PX)
    for item in items:
        beam.add((item,), POSE)
    return beam


def quiet(name: str):
    """A scanner of that look without noise."""
    return dataclasses.replace(
        load_scanners()[name], noise_fraction=0.0, line_noise_fraction=0.0, unevenness=0.0, streaks=(0, 0)
    )


def develop_centre(scanner, *items: Part) -> tuple[int, int, int]:
    picture = scanner.develop(shine(*items), np.random.default_rng(0))
    red, green, blue = np.asarray(picture)[SIZE_PX // 2, SIZE_PX // 2].tolist()
    return red, green, blue


@given(st.lists(parts, min_size=2, max_size=5), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_objects_does_not_matter(items, shuffler):
    shuffled = list(items)
    shuffler.shuffle(shuffled)
    first, second = shine(*items), shine(*shuffled)
    np.testing.assert_allclose(first.low_HW, second.low_HW, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(first.high_HW, second.high_HW, rtol=1e-5, atol=1e-5)


@given(st.lists(parts, min_size=1, max_size=4))
@settings(deadline=None)
def test_transmissions_multiply(items):
    together = np.exp(-shine(*items).low_HW.astype(np.float64))
    one_by_one = np.prod([np.exp(-shine(item).low_HW.astype(np.float64)) for item in items], axis=0)
    np.testing.assert_allclose(together, one_by_one, rtol=1e-4)


@given(st.sampled_from(sorted(load_materials())), st.floats(0.01, 4), st.floats(1.05, 3))
@settings(deadline=None)
def test_thicker_lets_less_through_at_both_energies(material, thickness, factor):
    thin, thick = shine(slab(material, thickness)), shine(slab(material, thickness * factor))
    assert (thick.low_HW > thin.low_HW).all()
    assert (thick.high_HW > thin.high_HW).all()


def test_a_slab_attenuates_by_its_material_and_thickness():
    beam = shine(slab("aluminium", 2.0))
    np.testing.assert_allclose(beam.low_HW, 2.0 * 2.7 * 0.2778, rtol=1e-6)
    np.testing.assert_allclose(beam.high_HW, 2.0 * 2.7 * 0.1704, rtol=1e-6)


@pytest.mark.parametrize("look", ["white", "grey", "dim"])
@pytest.mark.parametrize("material", sorted(FAMILIES))
def test_a_pure_slab_has_the_colour_of_its_family(look, material):
    scanner = quiet(look)
    # As thick as takes away three quarters of the low energy: thin enough that no family is near black.
    red, green, blue = develop_centre(scanner, slab(material, 1.4 / load_materials()[material].low_per_cm))
    hue, saturation, _ = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    low, high = HUES[FAMILIES[material]]
    assert low <= hue * 360 <= high
    assert saturation > 0.25


@pytest.mark.parametrize("look", ["white", "grey", "dim"])
@pytest.mark.parametrize("material", ["water", "aluminium", "steel"])
def test_thicker_is_never_brighter(look, material):
    scanner = quiet(look)
    attenuations = [0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0]
    thicknesses = [value / load_materials()[material].low_per_cm for value in attenuations]
    luma = [np.dot((0.299, 0.587, 0.114), develop_centre(scanner, slab(material, value))) for value in thicknesses]
    assert all(after < before for before, after in itertools.pairwise(luma))


def test_thick_metal_is_impenetrable():
    assert max(develop_centre(quiet("white"), slab("steel", 4.0))) < 60


def test_an_empty_belt_has_the_background_of_its_look():
    for look, background in (("white", (255, 255, 255)), ("grey", (226, 225, 224)), ("dim", (195, 197, 194))):
        picture = load_scanners()[look].develop(Beam(33, 21), np.random.default_rng(3))
        assert picture.size == (33, 21)
        # A line that is off calibration may show; all others are clean.
        assert np.median(np.asarray(picture).reshape(-1, 3), axis=0).tolist() == list(background)


def test_lines_and_bodies_of_one_shape_attenuate_alike():
    line = Part(material="steel", strokes=((points((-3, 0.5), (3, 0.5)), 1.0),), thickness_cm=0.5)
    body = Part(material="steel", outlines=(rectangle(0, 0.5, 6.0, 1.0),), thickness_cm=0.5)
    as_line, as_body = shine(line), shine(body)
    assert as_line.low_HW.max() == pytest.approx(as_body.low_HW.max(), rel=1e-6)
    assert as_line.low_HW.sum() == pytest.approx(as_body.low_HW.sum(), rel=0.2)


@given(st.floats(0.5, 2.5), st.floats(1, 8))
@settings(deadline=None)
def test_a_revolved_body_has_the_volume_of_its_solid(radius, length):
    rod = revolved("water", (-length / 2, length / 2), (radius, radius))
    beam = Beam(400, 400)
    beam.add((rod,), make_pose((200.0, 200.0), 30.0, 0.3))
    volume = beam.low_HW.sum() / load_materials()["water"].low_per_cm / 30.0**2
    assert volume == pytest.approx(np.pi * radius**2 * length, rel=0.05)


def test_a_tilted_item_keeps_its_mass():
    ball = ellipsoid("food", 3, 3, 4)
    masses = []
    for foreshortening in (1.0, 0.7):
        beam = Beam(200, 200)
        beam.add((ball,), make_pose((100.0, 100.0), 15.0, 0.4, foreshortening=foreshortening))
        masses.append(beam.low_HW.sum())
    assert masses[1] == pytest.approx(masses[0], rel=0.02)


def test_a_hole_lets_everything_through():
    plate = Part(material="steel", outlines=(rectangle(0, 0, 8, 8),), holes=(ellipse(0, 0, 2),), thickness_cm=1.0)
    beam = shine(plate)
    assert beam.low_HW[SIZE_PX // 2, SIZE_PX // 2] == 0
    assert beam.low_HW[SIZE_PX // 2, SIZE_PX // 2 + 12] > 0


@given(st.floats(-30, 30), st.floats(-30, 30))
@settings(deadline=None)
def test_what_lies_outside_the_scan_is_cut_off(x, y):
    beam = Beam(20, 30)
    beam.add((ellipsoid("water", 4, 4, 2), rectangle_outline()), make_pose((x, y), 3.0, 0.5))
    assert np.isfinite(beam.low_HW).all()
    assert (beam.low_HW >= 0).all()


def rectangle_outline() -> Part:
    return Part(material="steel", strokes=((rectangle(0, 0, 6, 4), 0.5),), thickness_cm=0.3)


def test_the_mixture_rule_weighs_by_mass():
    elements = {"A": {"low": 1.0, "high": 0.5}, "B": {"low": 3.0, "high": 1.0}}
    mixed = mix_elements("ab", 2.0, {"A": 0.25, "B": 0.75}, elements)
    assert (mixed.low_per_cm, mixed.high_per_cm) == pytest.approx((5.0, 1.75))


def test_mass_fractions_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match=r"mass fractions must add up to 1, got 0.9 \(material 'x'\)"):
        mix_elements("x", 1.0, {"A": 0.9}, {"A": {"low": 1.0, "high": 1.0}})


def test_an_unknown_element_is_refused():
    with pytest.raises(ValueError, match=r"element must be one of \['A'\], got \['Q'\] \(material 'x'\)"):
        mix_elements("x", 1.0, {"Q": 1.0}, {"A": {"low": 1.0, "high": 1.0}})


def test_the_ratio_of_attenuations_rises_with_the_atomic_number():
    ratios = [load_materials()[name].ratio for name in ("polyethylene", "water", "pvc", "steel", "copper")]
    assert ratios == sorted(ratios)
    assert load_materials()["aluminium"].ratio == pytest.approx(1.63, abs=0.01)


def test_the_same_randomness_gives_the_same_picture():
    pictures = [
        encode_jpeg(load_scanners()["grey"].develop(shine(slab("food", 2.0)), np.random.default_rng(seed)))
        for seed in (1, 1, 2)
    ]
    assert pictures[0] == pictures[1] != pictures[2]
