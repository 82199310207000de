"""Tests of generated scans: boxes fit the items, and nothing else tells positives from negatives."""

import io

import numpy as np
import pytest
from PIL import Image

from pipelines.phantom import scene
from pipelines.phantom.imaging.outlines import ellipse, points, revolved
from pipelines.phantom.imaging.scanner import Beam, Scanner
from pipelines.phantom.imaging.shapes import Part, extent_px, make_pose, map_points, move_item
from pipelines.phantom.items import bags, clutter, threats

MAKERS = [(name, maker) for name, makers in threats.THREATS.items() for maker in dict.fromkeys(makers)]


@pytest.mark.parametrize(("name", "maker"), MAKERS, ids=lambda value: getattr(value, "__name__", value))
def test_every_subtype_is_metal_of_a_hands_size(name, maker):
    for seed in range(5):
        item = maker(np.random.default_rng(seed))
        xmin, ymin, xmax, ymax = extent_px(item, make_pose((0.0, 0.0), 1.0))
        assert 9 < np.hypot(xmax - xmin, ymax - ymin) < 40
        beam = Beam(500, 500)
        beam.add(item, make_pose((250.0, 250.0), 10.0))
        # Steel of a millimetre takes away more than half of the beam: no subtype is a sheet of plastic.
        assert (beam.low_HW > 0.9).sum() > 400


@pytest.mark.parametrize(("name", "maker"), MAKERS, ids=lambda value: getattr(value, "__name__", value))
def test_the_box_is_tight_around_the_shadow(name, maker):
    item = maker(np.random.default_rng(1))
    pose = make_pose((300.0, 280.0), 9.0, 0.7, mirrored=True, foreshortening=0.8)
    beam = Beam(600, 600)
    beam.add(item, pose)
    rows, columns = np.flatnonzero(beam.low_HW.any(axis=1)), np.flatnonzero(beam.low_HW.any(axis=0))
    shadow = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert extent_px(item, pose) == pytest.approx(shadow, abs=4.0)


@pytest.mark.slow
def test_nothing_but_its_items_tells_a_positive_scan_from_a_negative_one(monkeypatch):
    beams = []

    def record(scanner, beam, rng):
        beams.append((scanner.name, beam.low_HW))
        return Image.new("RGB", (beam.width_px, beam.height_px))

    monkeypatch.setattr(Scanner, "develop", record)
    for seed in range(20):
        scene.make_scan((), np.random.default_rng(seed))
        boxes = scene.make_scan(("Gun", "Pliers"), np.random.default_rng(seed)).boxes
        (look, without_HW), (look_with, with_items_HW) = beams[-2:]
        assert look == look_with
        outside_HW = np.ones(without_HW.shape, dtype=bool)
        for box in boxes:
            top, bottom = max(0, int(box.ymin_px) - 3), int(box.ymax_px) + 4
            outside_HW[top:bottom, max(0, int(box.xmin_px) - 3) : int(box.xmax_px) + 4] = False
        np.testing.assert_array_equal(without_HW[outside_HW], with_items_HW[outside_HW])
        assert not np.array_equal(without_HW, with_items_HW)


@pytest.mark.slow
def test_boxes_lie_within_the_scan_and_keep_most_of_the_item():
    for seed in range(30):
        scan = scene.make_scan(("Knife", "Scissors", "Wrench"), np.random.default_rng(seed))
        assert Image.open(io.BytesIO(scan.jpeg)).size == (scan.width_px, scan.height_px)
        assert [box.name for box in scan.boxes] == ["Knife", "Scissors", "Wrench"]
        for box in scan.boxes:
            assert 0 <= box.xmin_px < box.xmax_px <= scan.width_px
            assert 0 <= box.ymin_px < box.ymax_px <= scan.height_px


@pytest.mark.slow
def test_an_item_darkens_its_box():
    darker = 0
    for seed in range(12):
        without, with_item = (
            np.asarray(Image.open(io.BytesIO(scan.jpeg)).convert("L"), dtype=np.float64)
            for scan in (scene.make_scan(names, np.random.default_rng(seed)) for names in ((), ("Pliers",)))
        )
        box = scene.make_scan(("Pliers",), np.random.default_rng(seed)).boxes[0]
        window = np.s_[int(box.ymin_px) : int(box.ymax_px) + 1, int(box.xmin_px) : int(box.xmax_px) + 1]
        darker += with_item[window].mean() < without[window].mean() - 3
    assert darker >= 10


def test_an_unknown_class_is_refused():
    with pytest.raises(ValueError, match=r"class must be one of \['Gun', .*\], got 'Spoon'"):
        threats.make_threat("Spoon", np.random.default_rng(0))


@pytest.mark.parametrize("kind", sorted(bags.BAGS))
def test_every_bag_can_be_drawn(kind):
    bag = bags.BAGS[kind][0](np.random.default_rng(2))
    beam = Beam(700, 500)
    beam.add(bag.item, make_pose((350.0, 250.0), 8.0))
    assert beam.low_HW[250 - 40 : 250 + 40, 350 - 40 : 350 + 40].min() > 0


@pytest.mark.parametrize("maker", list(clutter.CLUTTER), ids=lambda maker: maker.__name__)
def test_every_thing_in_a_bag_can_be_drawn(maker):
    for seed in range(4):
        item = maker(np.random.default_rng(seed))
        beam = Beam(600, 600)
        beam.add(item, make_pose((300.0, 300.0), 8.0, seed))
        assert np.isfinite(beam.low_HW).all()
        assert (beam.low_HW >= -1e-5).all()
        assert beam.low_HW.max() > 0.02


def test_a_moved_item_casts_the_same_shadow_elsewhere():
    item = (revolved("water", (-3, 0, 3), (1.0, 2.0, 0.5)), Part(material="steel", outlines=(ellipse(1, 1, 1),)))
    first, second = Beam(300, 300), Beam(300, 300)
    first.add(item, make_pose((150.0, 150.0), 10.0, 0.9))
    second.add(move_item(item, angle=0.9), make_pose((150.0, 150.0), 10.0))
    np.testing.assert_allclose(first.low_HW, second.low_HW, atol=1e-3)
    third = Beam(300, 300)
    third.add(move_item(item, dx=4.0, dy=-2.0), make_pose((110.0, 170.0), 10.0))
    fourth = Beam(300, 300)
    fourth.add(item, make_pose((150.0, 150.0), 10.0))
    np.testing.assert_allclose(third.low_HW, fourth.low_HW, atol=1e-3)


def test_vertices_change_and_profiles_refuse_to():
    moved = map_points((Part(material="steel", strokes=((points((1, 2), (3, 4)), 0.5),)),), lambda p: p * 2)
    assert moved[0].strokes[0][0].tolist() == [[2, 4], [6, 8]]
    with pytest.raises(AssertionError, match="a profile does not follow the vertices"):
        map_points((revolved("water", (0, 1), (1, 1)),), lambda p: p)
