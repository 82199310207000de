"""Does the page work in a real browser? Slider, sorting, no error, nothing loaded; skipped without Chromium."""

import json
import re
import shutil
import subprocess
from html import unescape

import numpy as np
import pytest

from model.document import metrics_document
from model.evaluation import evaluate
from model.figures import draw_figures
from model.report import render_html
from shards.predictions import open_predictions
from tests.model.written import prediction, sample, write_dataset, write_predictions

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page over 400 scans, and what metrics.json says of them."""
    root = tmp_path_factory.mktemp("browser")
    random = np.random.default_rng(4)
    labels = (random.random((400, 2)) < [0.3, 0.1]).astype(int)
    logits = random.normal(size=(400, 2)) + 1.5 * labels
    samples = [sample(f"P{i:05d}", labels[i].tolist()) for i in range(400)]
    dataset = write_dataset(root / "ds", samples)
    rows = [prediction(f"P{i:05d}", logits[i].tolist()) for i in range(400)]
    url = write_predictions(root / "pred", dataset, rows)
    evaluation = evaluate(open_predictions(url), dataset, "test", num_rounds=50)
    return render_html(evaluation, draw_figures(evaluation)), metrics_document(evaluation)


def run_in_page(html, tmp_path, script):
    """Open the page with `script` behind it; return what the script's function `run` returned, and all errors."""
    probe = """<script>
      const errors = [];
      addEventListener("error", (event) => errors.push(event.message));
      addEventListener("securitypolicyviolation", (event) => errors.push("blocked " + event.blockedURI));
    </script>"""
    ending = f"""<script>
      const run = () => {{ {script} }};
      const found = {{result: run(), errors, loaded: performance.getEntriesByType("resource").map((r) => r.name)}};
      const out = document.createElement("pre");
      out.id = "found"; out.textContent = JSON.stringify(found); document.body.append(out);
    </script></body>"""
    page = html.replace("<head>", "<head>" + probe).replace("</body>", ending)
    path = tmp_path / "page.html"
    path.write_text(page)
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    done = subprocess.run(
        [*command, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match, done.stderr[-2000:]
    return json.loads(unescape(match[1]))


def test_the_page_opens_without_an_error_and_loads_nothing(report, tmp_path):
    found = run_in_page(report[0], tmp_path, "return document.title;")
    assert found == {"result": "chr-resnet18-0123456789ab on test: evaluation", "errors": [], "loaded": []}


def test_the_slider_shows_what_metrics_json_says_at_each_threshold(report, tmp_path):
    html, document = report
    script = """
      const slider = document.getElementById("threshold");
      return [0, 57, Number(slider.max)].map((t) => {
        slider.value = t; slider.dispatchEvent(new Event("input"));
        const rows = [...document.querySelectorAll("#alarm-table tbody tr")];
        return [t, document.getElementById("threshold-score").textContent,
                rows.map((row) => [...row.cells].map((cell) => cell.textContent))];
      });
    """
    points = document["operating_points"]
    names = [*document["classes"], "Any item"]
    for t, score, rows in run_in_page(html, tmp_path, script)["result"]:
        assert float(score) == pytest.approx(points["scores"][t], rel=1e-3)
        for name, row in zip(names, rows, strict=True):
            counts = points["classes"].get(name, points["any_item"])
            sizes = document["classes"].get(name, document["any_item"])
            hits, false = counts["num_true"][t], counts["num_false"][t]
            assert row[0] == name
            assert [row[2], row[3], row[5]] == [str(hits), str(sizes["num_positive"] - hits), str(false)]
            assert float(row[1].removesuffix("\xa0%")) == pytest.approx(100 * hits / sizes["num_positive"], abs=0.051)
            assert float(row[4]) == pytest.approx(1000 * false / sizes["num_negative"], abs=0.51)
            if hits + false:
                assert float(row[6].removesuffix("\xa0%")) == pytest.approx(100 * hits / (hits + false), abs=0.051)
            else:
                assert row[6] == "–"


def test_tables_sort_by_a_click_both_ways_and_say_so(report, tmp_path):
    script = """
      const table = document.getElementById("classes-caption").closest("table");
      const button = table.tHead.rows[0].cells[1].querySelector("button");
      const look = () => [table.tHead.rows[0].cells[1].getAttribute("aria-sort"),
                          [...table.tBodies[0].rows].map((row) => row.cells[0].textContent)];
      const before = look(); button.click(); const down = look(); button.click();
      return [before, down, look()];
    """
    before, down, up = run_in_page(report[0], tmp_path, script)["result"]
    assert before == [None, ["Gun", "Knife"]]
    assert down == ["descending", ["Gun", "Knife"]]
    assert up == ["ascending", ["Knife", "Gun"]]


@pytest.mark.parametrize("width_px", [390, 1280])
def test_the_page_is_never_wider_than_the_window(report, tmp_path, width_px):
    # Headless Chromium has no window below 500 px, a frame within the page may have any width.
    script = f"""
      const frame = document.createElement("iframe");
      frame.style.cssText = "border:0;width:{width_px}px;height:800px"; document.body.append(frame);
      const inner = frame.contentDocument;
      inner.open(); inner.write(window.pageText); inner.close();
      return inner.documentElement.scrollWidth;
    """
    html = report[0]
    held = f"<script>window.pageText = {json.dumps(html).replace('<', chr(92) + 'u003c')};</script>"
    found = run_in_page(html.replace("</main>", "</main>" + held), tmp_path, script)
    assert found["result"] <= width_px
