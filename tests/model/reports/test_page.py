"""The page shows the figures, warns of problems, and loads nothing from elsewhere."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from model.evaluation.comparison import ClassComparison, Comparison, Difference
from model.evaluation.evaluate import evaluate
from model.evaluation.subsets import SubsetFigures
from model.evaluation.top_k import TopKAccuracy
from model.metrics.class_figures import CLASS_FIGURES
from model.metrics.uncertainty.intervals import Interval
from model.reports.charts import draw_figures, inline_svg, precision_recall_file
from model.reports.page import Report, find_paper_tables, render_html, render_markdown
from model.reports.table_rows import list_run_facts
from model.reports.text.caveats import list_caveats, list_warnings
from model.reports.text.sentences import state_verdict, summarise
from shards.predictions.run import open_predictions
from tests.model.written import prediction, sample, write_dataset, write_predictions

VOID = {"meta", "br", "input", "img", "link", "hr"}


@pytest.fixture
def evaluate_rows(tmp_path):
    def evaluate_both(samples, rows, **options):
        dataset = write_dataset(tmp_path / "ds", samples)
        return evaluate(
            open_predictions(write_predictions(tmp_path / "pred", dataset, rows, **options)), dataset, "test"
        )

    return evaluate_both


@pytest.fixture
def good(evaluate_rows):
    gun_box = ("Gun", 10, 10, 30, 30)
    samples = [sample("a", (1, 0), [gun_box]), sample("b", (0, 1)), sample("c", (0, 0)), sample("d", (1, 0))]
    rows = [prediction("a", (3, 0), [(20, 20)] * 2), *(prediction(key, (1, 2)) for key in "bcd")]
    return evaluate_rows(samples, rows)


@pytest.fixture
def bad(evaluate_rows):
    samples = [sample(key, (0, 0)) for key in "abc"] + [sample("d", (1, 0))]
    rows = [prediction("d", (3, 0)), prediction("a", (0, 0))]
    return evaluate_rows(samples, rows, quarantined=[("b", "truncated")])


class Page(HTMLParser):
    """What a browser would see: the elements, their nesting, the text, the ids, and whatever would be loaded."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.loaded, self.words, self.tags = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append((tag, values))
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        for name in ("src", "href", "xlink:href", "action", "data", "srcset"):
            if name in values and not values[name].startswith(("#", "data:")):
                self.loaded.append(values[name])

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def page_of(evaluation):
    return Page(render_html(Report(evaluation=evaluation), draw_figures(evaluation)))


def test_the_page_is_well_formed_and_loads_nothing(good):
    html = render_html(Report(evaluation=good), draw_figures(good))
    page = Page(html)
    assert page.open == []
    assert page.loaded == []
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)


def test_no_id_is_used_twice_and_every_label_is_there(good):
    page = page_of(good)
    assert len(page.ids) == len(set(page.ids))
    named = {values["aria-labelledby"] for _, values in page.tags if "aria-labelledby" in values}
    assert named <= set(page.ids)


def test_every_table_has_a_caption_and_scoped_headers(good):
    page = page_of(good)
    count = [tag for tag, _ in page.tags].count
    assert count("caption") == count("table") >= 2
    assert all(values.get("scope") in ("row", "col") for tag, values in page.tags if tag == "th")


def test_every_chart_has_a_label_for_screen_readers(good):
    charts = [values for tag, values in page_of(good).tags if tag == "svg"]
    assert len(charts) == 1 + 2 + 2
    assert all(values["role"] == "img" and values["aria-label"] for values in charts)


def test_the_page_shows_the_figures_of_each_class(good):
    text = page_of(good).text
    gun = good.classes["Gun"]
    assert f"Gun {gun.rank.average_precision['non_interpolated']:.3f} too few for an interval" in text
    assert "2 0 50.0 % 1 Knife" in text
    assert good.dataset_digest in text
    assert "DALI CPU" in text


def test_the_page_shows_the_intervals_of_classes_that_enough_scans_hold(evaluate_rows):
    samples = [sample(f"s{i}", (int(i < 8), 0)) for i in range(30)]
    evaluation = evaluate_rows(samples, [prediction(f"s{i}", (-(i % 11), 0)) for i in range(30)])
    gun, text = evaluation.classes["Gun"], page_of(evaluation).text
    low, high = gun.intervals.average_precision.low, gun.intervals.average_precision.high
    assert f"{gun.rank.average_precision['non_interpolated']:.3f} {low:.3f}–\u2060{high:.3f}" in text
    assert "too few" not in text


def test_when_nothing_is_off_there_is_no_warning(good):
    assert list_warnings(good) == []
    assert "Read this first" not in page_of(good).text


def test_the_page_opens_with_what_the_model_catches_and_what_was_rated(good):
    text = page_of(good).text.replace("\xa0", " ")
    text = text[text.index("Evaluation report") :]
    caught = good.alarm_plans[10].joint
    opening = (
        f"Catches {100 * (caught.recall or 0):.1f} % of the bags with a prohibited item at 10 false alarms per 1,000"
    )
    facts = [
        opening,
        f"{caught.num_caught} of 3 bags with an item raise an alarm, and 0 of 1 clean ones do; too few bags for an",
    ]
    facts += ["Dataset ds", "4 bags of split test 3 with an item, 1 clean", "Model " + good.model_id]
    places = [text.index(fact) for fact in [*facts, "Before you trust", "Summary", "Alarms at 10", "Each class"]]
    assert places == sorted(places)


def test_every_link_of_the_contents_leads_to_a_section(good):
    page = page_of(good)
    anchors = [values["href"].removeprefix("#") for tag, values in page.tags if tag == "a"]
    headings = [values["id"] for tag, values in page.tags if tag == "h2" and values["id"] in anchors]
    assert anchors == headings
    assert len(anchors) >= 8


def test_caveats_name_generated_scans_training_data_chance_few_positives_and_bags(good):
    (few, thresholds, bags) = list_caveats(good)
    assert few == "Gun and Knife: fewer than 5 positive scans, too few for an interval."
    assert thresholds.startswith("Thresholds were chosen on the scans they are rated on")
    assert "too narrow" in bags
    grouped = replace(good, dataset=replace(good.dataset, has_groups=True))
    assert bags not in list_caveats(grouped)
    assert "generated" in list_caveats(replace(good, dataset=replace(good.dataset, is_generated=True)))[0]
    assert "called train" in list_caveats(replace(good, split="train"))[0]
    gun = good.classes["Gun"]
    reversed_gun = replace(gun, rank=replace(gun.rank, roc_auc=0.2))
    assert list_caveats(replace(good, classes={"Gun": reversed_gun}))[0] == "Gun is ranked worse than by chance."


@pytest.mark.parametrize(
    ("layout", "is_generated", "has_paper"), [("sixray", False, True), ("sixray", True, False), ("voc", False, False)]
)
def test_the_papers_figures_stand_beside_sixrays_scans_alone(good, layout, is_generated, has_paper):
    names = ("Gun", "Knife", "Wrench", "Pliers", "Scissors")
    facts = replace(good.dataset, layout=layout, is_generated=is_generated)
    evaluation = replace(good, classes=dict.fromkeys(names, good.classes["Gun"]), dataset=facts)
    subset = SubsetFigures(num_listed=4, num_not_rated=0, evaluation=evaluation)
    assert (find_paper_tables(evaluation, {"10": subset}) is not None) is has_paper


def test_missing_quarantined_and_absent_classes_are_warned_of_first(bad):
    text = page_of(bad).text
    assert text.index("Read this first") < text.index("Summary")
    assert "1 scan of 4 has neither a prediction nor a reason why there is none: c." in text
    assert "1 scan of 4 could not be scored (truncated 1)." in text
    assert "No scan holds Knife: the figures of this class are undefined, and the means leave it out." in text


def test_completeness_is_shown_from_the_lists_to_the_figures(bad):
    text = page_of(bad).text
    assert "In the dataset 4 Refused in scoring 1 truncated 1 Missing 1 neither scored nor refused Rated 2" in text


def test_scans_that_another_split_has_too_are_warned_of(good):
    crossing = replace(good.completeness, num_crossing=1, crossing_keys=("a",))
    (warning,) = list_warnings(replace(good, completeness=crossing))
    assert warning.startswith("1 scan of this split is byte for byte in another split as well: a. ")


def test_a_figure_that_does_not_exist_is_a_dash(bad):
    dashes = " –" * (4 + len(CLASS_FIGURES))
    assert f"Knife{dashes} 0 0 0.0 %" in page_of(bad).text


def test_without_positives_the_summary_calls_every_figure_undefined(evaluate_rows):
    evaluation = evaluate_rows([sample("a", (0, 0))], [prediction("a", (0, 0))])
    assert summarise(evaluation) == [
        "Every figure is undefined: no scan with a prediction is known to hold a prohibited item."
    ]
    assert page_of(evaluation).open == []


def test_the_summary_names_chance_the_best_class_and_thin_evidence(good):
    text = " ".join(summarise(good))
    assert "4 scans give a mean average precision of" in text
    assert f"a random order would give {good.mean.prevalence:.3f}" in text
    assert "Gun and Knife have fewer than 200 positive scans" in text


@pytest.fixture
def single_label(evaluate_rows):
    samples = [sample(key, (1, 0) if key != "b" else (0, 1)) for key in "abcdefgh"]
    return evaluate_rows(samples, [prediction(key, (1, 0)) for key in "abcdefgh"])


def test_where_every_scan_has_one_class_the_page_opens_with_top_k_accuracy(single_label):
    page = page_of(single_label)
    low, high = single_label.top_k_accuracy[1].interval.low, single_label.top_k_accuracy[1].interval.high
    interval = f"{100 * low:.1f}–\u2060{100 * high:.1f} %"
    assert f"Top-1 accuracy 87.5 % 95 % interval {interval} the highest score is of the scan's class" in page.text
    assert "Top-5 accuracy 100.0 % always so with 2 classes" in page.text
    assert (
        f"Every scan has one of 2 classes: that one has the highest score in 87.5 % (95 % interval {interval}) of"
        in page.text
    )
    assert "Top-1 and Top-5 accuracy How often the class of a scan is among the k highest scores: 1 − the" in page.text
    assert "Bags with an item caught" not in page.text
    assert "highest score in 87.5" in render_markdown(Report(evaluation=single_label))


def test_among_more_classes_both_accuracies_are_said_and_without_a_bootstrap_no_interval(single_label):
    of_class = single_label.classes["Gun"]
    of_many = {f"n{number}": of_class for number in range(1000)}
    accuracies = {1: TopKAccuracy(0.73, None), 5: TopKAccuracy(0.9378, None)}
    sentence, *_ = summarise(replace(single_label, classes=of_many, top_k_accuracy=accuracies))
    assert sentence.replace("\xa0", " ") == (
        "Every scan has one of 1,000 classes: that one has the highest score in 73.0 % and is among the 5 highest in "
        "93.8 % of the scans."
    )


def test_a_sentence_counts_the_classes_that_are_too_many_to_name(single_label):
    of_many = {f"n{number}": single_label.classes["Gun"] for number in range(1000)}
    assert (
        "1,000 of 1,000 classes have fewer than 200 positive scans"
        in summarise(replace(single_label, classes=of_many))[-1]
    )


def test_where_a_scan_has_another_number_of_classes_the_page_has_no_top_k_accuracy(good, bad):
    for evaluation in (good, bad):
        text = page_of(evaluation).text
        assert "Top-" not in text
        assert "Every scan has one of" not in text
        assert "Bags with an item caught" in text


def test_the_summary_opens_with_what_an_alarm_catches(good):
    caught = good.alarm_plans[10].joint
    assert caught.num_with_item == 3
    expected = (
        f"clean bags raise an alarm of any class, the model catches {100 * (caught.recall or 0):.1f} % of the bags"
    )
    assert expected in summarise(good)[0].replace("\xa0", " ")


def test_without_a_bootstrap_the_page_has_no_intervals(tmp_path):
    dataset = write_dataset(tmp_path / "ds", [sample("a", (1, 1)), sample("b", (0, 0))])
    url = write_predictions(tmp_path / "pred", dataset, [prediction("a", (1, 1)), prediction("b", (0, 0))])
    evaluation = evaluate(open_predictions(url), dataset, "test", num_rounds=0)
    assert "95 % interval" not in page_of(evaluation).text


def test_names_from_the_data_cannot_break_out_of_the_page(evaluate_rows):
    hostile = "<script>alert(1)</script>"
    evaluation = evaluate_rows([sample("a", (1, 0))], [prediction("a", (0, 0))], decoder=hostile)
    html = render_html(Report(evaluation=evaluation), draw_figures(evaluation))
    assert hostile not in html
    assert "&lt;script&gt;" in html


def test_equal_evaluations_give_equal_bytes(good):
    first, second = draw_figures(good), draw_figures(good)
    assert first == second
    assert render_html(Report(evaluation=good), first) == render_html(Report(evaluation=good), second)


def test_each_figure_is_a_valid_svg_without_a_date(good):
    figures = draw_figures(good)
    kinds = [f"{kind}_{name}.svg" for kind in ("precision_recall", "reliability") for name in ("Gun", "Knife")]
    assert sorted(figures) == ["average_precision.svg", *kinds]
    for text in figures.values():
        assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert not re.search(r"20\d\d-\d\d-\d\d", text)


def test_a_class_without_positives_has_no_curve(bad):
    assert precision_recall_file("Knife") not in draw_figures(bad)


@pytest.mark.slow
def test_a_curve_of_many_points_stays_a_small_file(evaluate_rows):
    samples = [sample(f"{i:05d}", (i % 2, 0)) for i in range(6000)]
    evaluation = evaluate_rows(samples, [prediction(f"{i:05d}", ((i * 7919) % 6007, 0)) for i in range(6000)])
    assert len(evaluation.classes["Gun"].rank.curve.thresholds_T) == 3000
    assert len(draw_figures(evaluation)["precision_recall_Gun.svg"]) < 120_000


def test_a_class_name_with_a_slash_makes_a_plain_file_name():
    assert precision_recall_file("Pliers / Tongs") == "precision_recall_Pliers_Tongs.svg"


def test_a_chart_within_a_page_takes_the_pages_colours_and_its_own_ids(good):
    drawn = draw_figures(good)["precision_recall_Gun.svg"]
    inner = inline_svg(drawn, "x", "a label")
    assert "var(--series)" in inner
    assert "#0b5cad" not in inner
    targets = re.findall(r'(?:url\(#|href="#)([^)"]+)', inner)
    assert targets
    assert all(target.startswith("x-") and f'id="{target}"' in inner for target in targets)


def test_nested_facts_of_a_run_get_dotted_names():
    run = {"model_id": "shown elsewhere", "versions": {"torch": "2.11"}, "sizes": [1, 2], "started": None}
    assert list_run_facts(run) == [("versions.torch", "2.11"), ("sizes", "1, 2"), ("started", "–")]


def test_several_engines_of_a_run_are_all_named_and_a_single_one_once():
    one, two = {"decoder": "dali-cpu"}, {"decoder": "dali-mixed"}
    assert list_run_facts({"decoder": "dali-cpu", "engines": [one]}) == [("decoder", "dali-cpu")]
    facts = list_run_facts({"decoder": None, "engines": [one, two]})
    assert facts == [("decoder", "–"), ("engines.1.decoder", "dali-cpu"), ("engines.2.decoder", "dali-mixed")]


@pytest.mark.parametrize(
    ("low", "high", "opening"),
    [
        (0.01, 0.05, "This model is better than old"),
        (-0.05, -0.01, "This model is worse than old"),
        (-0.01, 0.05, "These scans do not show a difference between this model and old"),
    ],
)
def test_a_verdict_follows_the_interval_of_the_difference(low, high, opening):
    difference = Difference(new=0.6, baseline=0.57, interval=Interval(low, high))
    same = Difference(new=0.5, baseline=0.5, interval=Interval(-0.1, 0.1))
    of_class = ClassComparison(average_precision=same, roc_auc=same, recall=same, sides=None)
    comparison = Comparison(
        model_id="new",
        baseline_id="old",
        num_scans=10,
        num_only_new=0,
        num_only_baseline=0,
        left_out_classes=(),
        mean_average_precision=difference,
        classes={"Gun": of_class, "Knife": of_class},
        any_item=of_class,
    )
    sentence = state_verdict(comparison)
    assert sentence.startswith(f"{opening}: mean average precision 0.600 against 0.570, 95 % interval")
    assert "found" not in sentence
