"""The gallery shows the worst misses and false alarms at the threshold, with the pictures of the shards."""

import io

import numpy as np
import pytest
from PIL import Image

from model.evaluation.evaluate import evaluate_scans
from model.evaluation.scans.scored_scans import join_predictions
from model.metrics.bags import NEVER
from model.reports import gallery as gallery_module
from model.reports.charts import draw_figures
from model.reports.gallery import LARGE_PX, SMALL_PX, collect_gallery, shrink_picture
from model.reports.page import Report, render_html
from shards.predictions.run import open_predictions
from tests.model.written import prediction, sample, write_dataset, write_predictions

GUN_BOX, KNIFE_BOX = ("Gun", 10, 10, 30, 30), ("Knife", 100, 10, 130, 30)


def jpeg(shade, size=(200, 100)):
    out = io.BytesIO()
    Image.new("RGB", size, (shade, 255 - shade, 128)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def written(tmp_path):
    """Guns g0..g9 score 0..9, of which g1 is a copy of g0; clean bags c0..c9 score 0.5..9.5; one holds a knife."""
    samples = [sample(f"g{i}", (1, 0), [GUN_BOX], duplicate_of="g0" if i == 1 else None) for i in range(10)]
    samples += [sample(f"c{i}", (0, int(i == 3)), [KNIFE_BOX] * (i == 3)) for i in range(10)]
    rows = [prediction(f"g{i}", (float(i), 0.0), [(20.0, 15.0), (0.0, 0.0)]) for i in range(10)]
    rows += [prediction(f"c{i}", (i + 0.5, 0.0), [(5.0, 6.0), (0.0, 0.0)]) for i in range(10)]
    images = {row["key"]: jpeg(10 * n) for n, row in enumerate(samples)}
    dataset = write_dataset(tmp_path / "ds", samples, num_shards=2, images=images)
    return open_predictions(write_predictions(tmp_path / "pred", dataset, rows)), dataset


ALL_GUNS_MISSED, SOME = 100.0, 5.0


def collect(written, num_examples=3, gun=SOME):
    predictions, dataset = written
    thresholds = {"Gun": gun, "Knife": NEVER}
    return collect_gallery(join_predictions(predictions, dataset, "test"), dataset, thresholds, num_examples)


def test_the_lowest_positives_and_the_highest_negatives_come_first_and_copies_once(written):
    gun = collect(written).classes["Gun"]
    assert [example.key for example in gun.misses] == ["g0", "g2", "g3"]
    assert [example.key for example in gun.false_alarms] == ["c9", "c8", "c7"]
    assert [example.num_before for example in gun.misses] == [10, 8, 7]
    assert [example.num_before for example in gun.false_alarms] == [10, 9, 8]


def test_only_misses_and_false_alarms_at_the_threshold_are_shown(written):
    gallery = collect(written, num_examples=20)
    gun, knife = gallery.classes["Gun"], gallery.classes["Knife"]
    assert [example.key for example in gun.misses] == ["g0", "g2", "g3", "g4"]
    assert [example.key for example in gun.false_alarms] == ["c9", "c8", "c7", "c6", "c5"]
    assert [example.key for example in knife.misses] == ["c3"]
    assert knife.false_alarms == ()
    assert gallery.has_examples


def test_an_example_tells_boxes_of_its_class_from_others_and_shows_the_peak(written):
    gallery = collect(written, num_examples=20, gun=1.0)
    miss = gallery.classes["Gun"].misses[0]
    assert (miss.own_boxes, miss.other_boxes, miss.peak_px) == (((10, 10, 30, 30),), (), (20, 15))
    knife = next(example for example in gallery.classes["Gun"].false_alarms if example.key == "c3")
    assert (knife.own_boxes, knife.other_boxes, knife.present) == ((), ((100, 10, 130, 30),), ("Knife",))


def test_pictures_are_the_scans_own_made_small(written):
    gallery = collect(written, num_examples=20, gun=ALL_GUNS_MISSED)
    assert gallery.problems == {}
    for n, key in ((0, "g0"), (5, "g5"), (13, "c3")):
        with Image.open(io.BytesIO(gallery.pictures[key])) as small:
            assert small.size == (200, 100)
            np.testing.assert_allclose(np.asarray(small).mean(axis=(0, 1)), [10 * n, 255 - 10 * n, 128], atol=4)


@pytest.mark.parametrize(("side_px", "size"), [(SMALL_PX, (320, 118)), (LARGE_PX, (720, 266))])
def test_a_large_scan_becomes_small(side_px, size):
    with Image.open(io.BytesIO(shrink_picture(jpeg(50, (3251, 1200)), side_px))) as small:
        assert small.size == size


def test_of_many_pictures_each_is_small(written, monkeypatch):
    monkeypatch.setattr(gallery_module, "MAX_LARGE", 2)
    monkeypatch.setattr(gallery_module, "SMALL_PX", 50)
    with Image.open(io.BytesIO(collect(written).pictures["g0"])) as small:
        assert max(small.size) == 50


def test_a_picture_that_was_changed_since_is_named_not_shown(written, tmp_path):
    tar = tmp_path / "ds" / "test" / "test-00000-of-00002.tar"
    data = bytearray(tar.read_bytes())
    data[600:610] = b"0123456789"
    tar.write_bytes(data)
    gallery = collect(written)
    assert list(gallery.problems) == ["g0"]
    assert "must be as its row says, got" in gallery.problems["g0"]
    assert "g2" in gallery.pictures


def test_without_the_shards_every_picture_is_named_and_the_page_warns_of_it(written, tmp_path):
    for path in (tmp_path / "ds" / "test").iterdir():
        path.unlink()
    predictions, dataset = written
    scans = join_predictions(predictions, dataset, "test")
    gallery = collect_gallery(scans, dataset, {"Gun": SOME})
    assert gallery.pictures == {}
    evaluation = evaluate_scans(scans, predictions, dataset, num_rounds=0)
    html = render_html(Report(evaluation=evaluation), draw_figures(evaluation), gallery)
    assert f"{len(gallery.problems)} pictures of the gallery could not be shown, first g0: " in html
    assert "data:image" not in html


def test_pictures_beyond_the_budget_are_left_out_and_named(written, monkeypatch):
    monkeypatch.setattr(gallery_module, "MAX_TOTAL_BYTES", 2000)
    gallery = collect(written, num_examples=10, gun=ALL_GUNS_MISSED)
    assert sum(map(len, gallery.pictures.values())) <= 2000
    assert gallery.pictures
    assert set(gallery.problems.values()) == {"left out to keep the page small"}


def test_the_page_holds_every_picture_of_the_gallery_with_its_boxes(written):
    predictions, dataset = written
    scans = join_predictions(predictions, dataset, "test")
    evaluation = evaluate_scans(scans, predictions, dataset, num_rounds=0)
    gallery = collect_gallery(scans, dataset, {"Gun": SOME, "Knife": NEVER}, 3)
    html = render_html(Report(evaluation=evaluation), draw_figures(evaluation), gallery)
    section = html[html.index("Gun: misses") : html.index("Knife: misses")]
    assert section.count("data:image/jpeg;base64,") == 6
    assert section.count('class="own" x="10.0" y="10.0" width="20.0" height="20.0"') == 3
    assert 'cx="20.0" cy="15.0"' in section
    assert section.count('aria-label="Open scan') == 6
