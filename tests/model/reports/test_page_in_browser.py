"""The page works in Chromium: slider, sorting, print, accessibility. Skipped without Chromium."""

import re
import shutil
from datetime import date, timedelta
from importlib import resources

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from model.evaluation.evaluate import evaluate
from model.reports.charts import draw_figures
from model.reports.metrics_json import metrics_document
from model.reports.page import Report, render_html
from pipelines.evaluate import write_report
from shards.predictions.run import open_predictions
from tests.model.reports.test_many_classes import write_scans
from tests.model.written import prediction, sample, write_dataset, write_predictions

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
SCRIPT = resources.files("model.reports").joinpath("templates/report.js").read_text()
PRINTABLE_PX = 695
"""A4 less the two margins of 13 mm that the page asks for, at 96 pixels an inch."""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page over 400 scans as a file, and what metrics.json says of them."""
    root = tmp_path_factory.mktemp("browser")
    random = np.random.default_rng(4)
    labels = (random.random((400, 2)) < [0.3, 0.1]).astype(int)
    logits = random.normal(size=(400, 2)) + 1.5 * labels
    days = [date(2026, 1, 1) + timedelta(days=i % 5) for i in range(400)]
    metadata = [{"site": ["north", "south", "west"][i % 3], "day": days[i]} for i in range(400)]
    samples = [sample(f"P{i:05d}", labels[i].tolist(), metadata=metadata[i]) for i in range(400)]
    dataset = write_dataset(root / "ds", samples, metadata={"site": "string", "day": "date"})
    rows = [prediction(f"P{i:05d}", logits[i].tolist()) for i in range(400)]
    url = write_predictions(root / "pred", dataset, rows)
    evaluation = evaluate(open_predictions(url), dataset, "test", num_rounds=50)
    page = root / "report.html"
    page.write_text(render_html(Report(evaluation=evaluation), draw_figures(evaluation)))
    return page, metrics_document(evaluation)


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium; Playwright brings none of its own here."""
    flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(report, browser):
    """Return a function that opens the page at a width and a colour scheme, with what it said and asked for."""
    contexts = []

    def open_at(width_px=1280, color_scheme="light"):
        context = browser.new_context(viewport={"width": width_px, "height": 900}, color_scheme=color_scheme)
        contexts.append(context)
        page = context.new_page()
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(report[0].as_uri())
        return page

    yield open_at
    for context in contexts:
        context.close()


def test_the_page_opens_without_an_error_and_loads_nothing(open_page, report):
    page = open_page()
    assert page.title() == "chr-resnet18-0123456789ab on test: evaluation"
    assert page.said == []
    assert page.asked == [report[0].as_uri()]


def test_the_slider_shows_the_counts_of_metrics_json_at_each_threshold(open_page, report):
    page, document = open_page(), report[1]
    points = document["operating_points"]
    names = [*document["classes"], "Any item"]
    for t in (0, 57, len(points["scores"]) - 1):
        page.locator("#threshold").fill(str(t))
        assert float(page.locator("#threshold-score").inner_text()) == pytest.approx(points["scores"][t], rel=1e-3)
        for name, row in zip(names, page.locator("#alarm-table tbody tr").all(), strict=True):
            cells = row.locator("th, td").all_text_contents()
            counts = points["classes"].get(name, points["any_item"])
            sizes = document["classes"].get(name, document["any_item"])
            hits, false = counts["num_true"][t], counts["num_false"][t]
            assert cells[0] == name
            assert [cells[2], cells[3], cells[5]] == [str(hits), str(sizes["num_positive"] - hits), str(false)]
            assert float(cells[1].removesuffix("\xa0%")) == pytest.approx(100 * hits / sizes["num_positive"], abs=0.051)
            assert float(cells[4]) == pytest.approx(1000 * false / sizes["num_negative"], abs=0.51)
            if hits + false:
                assert float(cells[6].removesuffix("\xa0%")) == pytest.approx(100 * hits / (hits + false), abs=0.051)
            else:
                assert cells[6] == "–"


def test_the_slider_moves_by_the_keyboard(open_page):
    page = open_page()
    before = page.locator("#threshold-score").inner_text()
    page.locator("#threshold").focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    assert page.locator("#threshold-score").inner_text() != before


def test_tables_sort_by_a_click_in_both_directions_and_announce_it(open_page):
    page = open_page()
    table = page.locator("table", has=page.locator("#classes-caption"))
    header = table.locator("thead th").nth(1)

    def look():
        return header.get_attribute("aria-sort"), table.locator("tbody tr > :first-child").all_text_contents()

    assert look() == (None, ["Gun", "Knife"])
    header.locator("button").click()
    assert look() == ("descending", ["Gun", "Knife"])
    header.locator("button").click()
    assert look() == ("ascending", ["Knife", "Gun"])


@pytest.mark.parametrize("width_px", [390, 1280])
def test_the_page_is_never_wider_than_the_window(open_page, width_px):
    assert open_page(width_px).evaluate("document.documentElement.scrollWidth") <= width_px


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [390, 1280])
def test_an_accessibility_checker_finds_nothing(open_page, color_scheme, width_px):
    violations = Axe().run(open_page(width_px, color_scheme)).response["violations"]
    assert [(found["id"], found["nodes"][0]["html"][:200]) for found in violations] == []


def test_printed_pages_are_a4_and_nothing_is_cut_at_the_side(open_page):
    page = open_page()
    pdf = page.pdf(prefer_css_page_size=True)
    boxes = {tuple(map(float, found)) for found in re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)}
    assert boxes, "the PDF names no page size"
    assert all(abs(width - 595) < 2 and abs(height - 842) < 2 for width, height in boxes)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": PRINTABLE_PX, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= PRINTABLE_PX
    regions = page.locator(".scroll").evaluate_all(
        "all => all.map(one => [one.innerText, one.scrollWidth, one.clientWidth])"
    )
    assert [text[:60] for text, needed, given in regions if needed > given] == []
    assert count_pages(pdf) <= 6


@pytest.mark.slow
def test_a_report_of_1000_classes_prints_on_at_most_20_pages(browser, tmp_path):
    write_report(write_scans(tmp_path, 1000))
    page = browser.new_page()
    page.goto((tmp_path / "report/report.html").as_uri())
    assert count_pages(page.pdf(prefer_css_page_size=True)) <= 20
    page.close()


def count_pages(pdf):
    return len(re.findall(rb"/Type /Page\b(?!s)", pdf))


def test_cells_sort_by_value_a_typographic_minus_and_dates_included(open_page):
    page = open_page()
    page.set_content(
        f"""<table class="sortable"><thead><tr><th>Date</th><th class="n">Gain</th></tr></thead><tbody>
        <tr><td>2026-11-25 22:10</td><td class="n">+0.010</td></tr>
        <tr><td>2026-02-01 09:00</td><td class="n">−0.200</td></tr>
        <tr><td>2025-12-31 23:59</td><td class="n">−0.030</td></tr><tr><td>–</td><td class="n">1,000</td></tr>
        </tbody></table><script>{SCRIPT}</script>"""
    )

    def sort(column):
        page.locator("thead th").nth(column).locator("button").click()
        return [row.locator("td").nth(column).inner_text() for row in page.locator("tbody tr").all()]

    assert sort(1) == ["1,000", "+0.010", "−0.030", "−0.200"]
    assert sort(1) == ["−0.200", "−0.030", "+0.010", "1,000"]
    assert sort(0) == ["2026-11-25 22:10", "2026-02-01 09:00", "2025-12-31 23:59", "–"]
    assert sort(0) == ["2025-12-31 23:59", "2026-02-01 09:00", "2026-11-25 22:10", "–"]


def test_a_picture_opens_large(open_page):
    page = open_page()
    page.set_content(
        f"""<button class="zoom"><svg viewBox="0 0 9 9"></svg></button><p>P00001</p>
        <dialog id="large"><form method="dialog"><button>Close</button></form></dialog><script>{SCRIPT}</script>"""
    )
    dialog = page.locator("dialog")
    assert not dialog.is_visible()
    page.locator(".zoom").click()
    assert dialog.locator("svg").count() == 1
    assert "P00001" in dialog.inner_text()
    dialog.locator("button").click()
    assert not dialog.is_visible()


def test_on_a_phone_the_first_column_stays_and_the_main_figure_is_in_view(open_page):
    page = open_page(390)
    region = page.locator(".scroll", has=page.locator("#classes-caption"))
    name, figure = region.locator("tbody tr > *").nth(0), region.locator("tbody tr > *").nth(1)
    assert figure.bounding_box()["x"] + figure.bounding_box()["width"] <= 390
    before = name.bounding_box()["x"]
    region.evaluate("region => { region.scrollLeft = 200; }")
    assert name.bounding_box()["x"] == before


def test_on_a_phone_the_table_of_rules_shows_what_is_caught_and_no_word_is_broken(open_page):
    page = open_page(390)
    caught = page.locator(".scroll", has=page.locator("#rules-caption")).locator("tbody td:nth-child(2)")
    assert all(box["x"] + box["width"] <= 390 for box in (cell.bounding_box() for cell in caught.all()))
    words = page.locator(".counts td:last-child").evaluate_all(
        """cells => cells.map(cell => {
            const span = document.createElement("span");
            span.style.cssText = "position: absolute; white-space: nowrap";
            document.body.append(span);
            const widths = cell.innerText.split(/\\s+/).map(word => (span.textContent = word, span.offsetWidth));
            span.remove();
            return Math.max(...widths) <= cell.clientWidth;
        })"""
    )
    assert len(words) == 8 and all(words)


def test_no_header_of_a_printed_table_is_broken_inside_a_word_and_small_print_is_smallest(open_page):
    page = open_page()
    page.emulate_media(media="print")
    page.set_viewport_size({"width": PRINTABLE_PX, "height": 900})
    cells = page.locator("thead th").evaluate_all("cells => cells.map(cell => getComputedStyle(cell).overflowWrap)")
    assert set(cells) == {"normal"}
    sizes = page.evaluate(
        "['td small', 'td', 'body'].map(name => parseFloat(getComputedStyle(document.querySelector(name)).fontSize))"
    )
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3


def test_no_page_ends_between_a_heading_and_what_it_is_of(open_page):
    page = open_page()
    page.emulate_media(media="print")
    parted = page.locator("section > :is(h2, h3, h2 + p, h3 + p)").evaluate_all(
        "all => all.filter(one => getComputedStyle(one).breakAfter !== 'avoid').map(one => one.innerText)"
    )
    assert parted == []
