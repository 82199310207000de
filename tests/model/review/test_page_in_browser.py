"""Labels are marked on the page of a review and saved as corrections, in Chromium. Skipped without Chromium."""

import io
import json
import shutil
from random import Random

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import sync_playwright

from model.reports.heatmap_overlay import draw_layer
from pipelines import review
from shards.curation.corrections import find_changes, read_corrections
from shards.format.dataset import open_dataset
from tests.model.written import prediction, sample, write_dataset, write_predictions

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
ODD = 'x"><img src=y onerror=alert(1)>,<b>'
"""A key that is markup, and breaks lines and cells."""


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A review of four wrong labels among forty, one of them in a scan with boxes of two classes."""
    root = tmp_path_factory.mktemp("review")
    random, out = Random(1), io.BytesIO()
    Image.new("RGB", (200, 100), (90, 120, 200)).save(out, "JPEG")
    boxes = [("Gun", 10, 10, 60, 60), ("Knife", 100, 10.25, 150, 50)]
    samples = [sample(f"s{n:02d}", (int(n < 18), 0)) for n in range(36)]
    samples += [sample(ODD, (0, 0)), sample("both", (1, 1), boxes), sample("sure", (1, 0)), sample("none", (0, 0))]
    logits = {row["key"]: 4 * (2 * row["labels"]["Gun"] - 1) + random.random() for row in samples}
    logits |= {ODD: 6.0, "both": -5.5, "sure": -5.0, "none": 5.0}
    dataset = write_dataset(root / "ds", samples, images={row["key"]: out.getvalue() for row in samples})
    rows = [
        prediction(key, (logit, 5.0 if key == "both" else -5.0), [(30, 20), (120, 30)]) for key, logit in logits.items()
    ]
    predictions = write_predictions(root / "pred", dataset, rows)
    flags = ["--predictions", predictions, "--data", dataset.url, "--output", str(root / "review"), "--budget", "4"]
    maps = np.outer(np.linspace(-3, 2, 50), np.ones(100)).astype(np.float32)
    layers = {key: draw_layer(maps) for key in (ODD, "both", "sure")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.review_heatmaps.draw_layers", lambda *_: (layers, {"none": "undecodable"}))
        assert review.main([*flags, "--model", str(root / "run")]) == 0
    return root


@pytest.fixture
def page(url):
    """The page, wide and light, with what it said."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        opened.said = []
        opened.on("console", lambda message: opened.said.append(message.text))
        opened.on("pageerror", lambda error: opened.said.append(str(error)))
        opened.on("dialog", lambda dialog: opened.said.append(dialog.message))
        opened.goto((url / "review/review.html").as_uri())
        yield opened
        assert opened.said == []
        browser.close()


def focused(page) -> str:
    return str(page.evaluate("document.activeElement.dataset.key"))


def test_labels_are_marked_by_keys_and_saved_as_corrections_that_apply(page, url, tmp_path):
    keys = page.eval_on_selector_all(".suspect", "cards => cards.map(card => card.dataset.key)")
    assert set(keys) == {ODD, "both", "sure", "none"} and keys[0] == ODD == focused(page)
    mark_of = {ODD: "w", "both": "w", "sure": "r", "none": "u"}
    page.keyboard.press("r")
    assert focused(page) == keys[1]
    page.keyboard.press("z")
    assert focused(page) == ODD and "0 of 4 marked" in page.inner_text("#progress")
    for key in keys:
        assert focused(page) == key
        page.keyboard.press(mark_of[key])
    page.keyboard.press("s")  # refused: nobody says who corrects
    assert page.evaluate("document.activeElement.id") == "author"
    page.keyboard.type("李 wrus")
    page.reload()
    assert page.inner_text("#progress") == "4 of 4 marked: 1 right, 2 wrong, 1 unsure"
    with page.expect_download() as download:
        page.click("#save")
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert file.name == "corrections.csv"
    found = {of.key: of for of in read_corrections(str(file))}
    assert {key: dict(of.labels) for key, of in found.items()} == {
        ODD: {"Gun": 1},
        "both": {"Gun": 0},
        "sure": {},
        "none": {},
    }
    assert {of.author for of in found.values()} == {"李 wrus"}
    assert found["sure"].reason.startswith("right: Gun is labelled present and scores ")
    changes = find_changes([open_dataset(str(url / "ds"))], list(found.values()), str(file))
    assert {row["key"] for row in changes} == {ODD, "both"}
    (both,) = (row for row in changes if row["key"] == "both")
    assert [box["class"] for box in json.loads(both["boxes_after"])] == ["Knife"]


def test_heatmaps_are_shown_and_hidden_by_key_and_button(page):
    layers = page.locator("image.layer")
    assert layers.count() == 3 and not layers.first.is_visible()
    page.keyboard.press("h")
    assert layers.first.is_visible() and page.get_attribute("#heatmaps", "aria-pressed") == "true"
    assert "Heatmap from -3.0 to 2.0 logits" in page.inner_text(".suspect >> nth=0")
    page.keyboard.press("r")  # a mark does not hide them
    assert layers.first.is_visible()
    assert Axe().run(page).response["violations"] == []
    page.click("#heatmaps")
    assert not layers.first.is_visible() and page.get_attribute("#heatmaps", "aria-pressed") == "false"
    page.click("#author")
    page.keyboard.type("h")
    assert not layers.first.is_visible()


def test_the_page_has_every_picture_and_fits_a_phone(page, url):
    assert page.locator(".suspect image:not(.layer)").count() == 4
    assert page.locator("img").count() == 0  # the key is text
    assert Axe().run(page).response["violations"] == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
