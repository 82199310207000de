"""Test the page of drift: it leads with the verdict, says what it does not know, and is accessible."""

import re
import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from model.monitoring.page import render_page
from tests.model.monitoring.test_record import make_night, make_record

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def page():
    nights = [make_night(seed, shift=1.0 if seed > 2 else 0.0, sites=("east", "<b>")) for seed in range(1, 5)]
    return render_page(make_record(nights, make_night(0, sites=("east", "<b>")))[0])


def test_the_verdict_leads_and_the_series_follow(page):
    (title,) = re.findall(r"<h1>(.*?)</h1>", page)
    assert title.startswith("Changed: alarms, score of Gun, score of Knife") and "found in night 3 of 4" in title
    changes, *_ = re.findall(r"<li>(Night .*?)</li>", page)
    assert changes.startswith("Night 3: alarms, score of Gun, score of Knife, ")
    assert page.count("<svg") > 5 and "Not watched, as the reference does not have it: width, height" in page
    assert "<b>" not in page and "&lt;b&gt;" in page


def test_a_quiet_record_and_one_without_nights_say_so():
    quiet = render_page(make_record([make_night(1)])[0])
    assert "<h1>No change is proved in 1 night</h1>" in quiet and "Changed</h2>" not in quiet
    assert "<h1>No change is proved in 0 nights</h1>" in render_page(make_record([])[0])


def test_equal_records_give_equal_pages(page):
    nights = [make_night(seed, shift=1.0 if seed > 2 else 0.0, sites=("east", "<b>")) for seed in range(1, 5)]
    assert render_page(make_record(nights, make_night(0, sites=("east", "<b>")))[0]) == page


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
@pytest.mark.parametrize("width_px", [1440, 390])
def test_the_page_has_no_accessibility_violation_and_fits(page, tmp_path, width_px):
    (tmp_path / "drift.html").write_text(page)
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        shown = browser.new_page(viewport={"width": width_px, "height": 900})
        shown.goto((tmp_path / "drift.html").as_uri())
        assert Axe().run(shown).violations_count == 0
        assert shown.evaluate("document.documentElement.scrollWidth") <= width_px
        browser.close()
