"""Render an evaluation as one self-contained HTML page, or as Markdown."""

import base64
import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from model.evaluation.alarm_plans import ALARM_RATE
from model.evaluation.comparison import SIDES_RATE, Comparison
from model.evaluation.evaluate import Evaluation, ScoreFigures
from model.evaluation.pointing import TOLERANCES_PX
from model.evaluation.subsets import SubsetFigures
from model.metrics.class_figures import CLASS_FIGURES
from model.metrics.operating_points import FALSE_ALARM_RATES, RECALLS, OperatingPoint, sigmoid
from model.recipes.paper_tables import PaperTables, load_paper_tables
from model.reports.charts import inline_svg, precision_recall_file, reliability_file
from model.reports.gallery import Gallery, list_gallery_warnings
from model.reports.metrics_json import operating_points_document
from model.reports.table_rows import list_breakdowns, list_given_thresholds, list_rules, list_run_facts
from model.reports.text import caveats, numbers, sentences
from model.reports.text.templates import make_environment
from model.reports.trend import Entry
from shards.format.classes import load_class_set
from shards.predictions.run import scored_at

ANY_ITEM = "Any item"
DEFINITION_LABELS = {
    "non_interpolated": "Average precision",
    "voc_all_points": "VOC all-points",
    "voc2007_11_point": "VOC2007 11-point",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a page shows, pictures aside."""

    evaluation: Evaluation
    comparisons: Sequence[Comparison] = ()
    """With each baseline."""
    subsets: Mapping[str, SubsetFigures] = field(default_factory=dict)
    """Figures of parts of the scans, by name."""
    history: Sequence[Entry] = ()
    """This report and earlier ones."""
    thresholds: Mapping[str, Any] | None = None
    """Of `model.reports.threshold_file.rate_thresholds`, if thresholds were given."""


def render_html(report: Report, figures: Mapping[str, str], gallery: Gallery | None = None) -> str:
    """Return the page. Equal arguments give equal bytes: it does not contain the time of writing.

    Args:
        report: what the page shows.
        figures: SVG texts of `model.reports.charts.draw_figures`, and `history.svg` if there is a history.
        gallery: worst mistakes; None for a page without pictures.
    """
    evaluation, classes = report.evaluation, report.evaluation.classes
    trend = _inline(figures["history.svg"], "hi", "Mean average precision of each report") if report.history else None
    overview_label = "Average precision of each class beside its prevalence"
    shown = {*evaluation.shown_classes, ANY_ITEM}
    slider = prepare_slider(evaluation)
    html = _render(
        "report.html.j2",
        report,
        headline=sentences.state_headline(evaluation, report.thresholds),
        scored_at=scored_at(evaluation.run),
        warnings=caveats.list_warnings(evaluation) + list_gallery_warnings(gallery),
        caveats=caveats.list_caveats(evaluation, report.thresholds),
        contents=list_contents(report, figures, gallery, slider is not None),
        # With many classes the printed page has only those that are shown one by one.
        rest=lambda name: "" if name in shown else Markup(' class="rest"'),
        definition_labels=DEFINITION_LABELS,
        class_figures=CLASS_FIGURES,
        rates=FALSE_ALARM_RATES,
        recalls=RECALLS,
        rows=list_rows(evaluation),
        slider=slider,
        rules=list_rules(evaluation),
        given_rows=list_given_thresholds(report.thresholds, ANY_ITEM) if report.thresholds else [],
        breakdowns=list_breakdowns(evaluation),
        errors_at=sentences.describe_alarm_thresholds(evaluation),
        tolerances=TOLERANCES_PX,
        sides_rate=SIDES_RATE,
        overview=_inline(figures["average_precision.svg"], "ap", overview_label),
        tradeoff=[
            _inline(figures[name], prefix, label)
            for name, prefix, label in (
                ("det.svg", "de", "DET curve: misses against false alarms of each class"),
                ("roc.svg", "ro", "ROC curve: recall against false alarms of each class"),
            )
            if name in figures
        ],
        curves=_inline_classes(figures, precision_recall_file, "pr", "Precision at each recall of", classes),
        reliability=_inline_classes(figures, reliability_file, "re", "Share of positives at each score of", classes),
        gallery=gallery,
        history=report.history,
        trend=trend,
        paper=find_paper_tables(evaluation, report.subsets),
        run_facts=list_run_facts(evaluation.run),
    )
    return numbers.keep_together(html)


def render_markdown(report: Report) -> str:
    """Return the summary and the main tables as GitHub's Markdown, for a pull request."""
    shown = {*report.evaluation.shown_classes, ANY_ITEM}
    return _render(
        "report.md.j2",
        report,
        warnings=caveats.list_warnings(report.evaluation),
        rows={name: of for name, of in list_rows(report.evaluation).items() if name in shown},
    )


def _render(template: str, report: Report, **values: Any) -> str:
    """Render a template with `values` and what both templates show."""
    evaluation, comparisons = report.evaluation, report.comparisons
    return (
        _environment(autoescape=template.endswith(".html.j2"))
        .get_template(template)
        .render(
            evaluation=evaluation,
            sentences=sentences.summarise(evaluation),
            summary_rate=ALARM_RATE,
            left_out=caveats.describe_omissions(evaluation),
            # Many classes have a row each in one table, but no columns.
            column_classes=tuple(evaluation.classes) if evaluation.is_in_full else (),
            comparisons=comparisons,
            compared=[of.classes | {ANY_ITEM: of.any_item} for of in comparisons],
            compared_names=[*dict.fromkeys(name for of in comparisons for name in of.classes), ANY_ITEM],
            verdicts=[sentences.state_verdict(comparison) for comparison in comparisons],
            subsets=report.subsets,
            given=report.thresholds,
            is_found_elsewhere=caveats.is_found_elsewhere(report.thresholds),
            **values,
        )
    )


def find_paper_tables(evaluation: Evaluation, subsets: Mapping[str, SubsetFigures]) -> PaperTables | None:
    """Return the paper's tables if scans and classes are SIXray's and a subset is one of theirs, else None."""
    paper = load_paper_tables()
    is_sixray = (
        evaluation.dataset.layout == "sixray"
        and evaluation.dataset.is_generated is False
        and set(load_class_set("sixray").scored) == set(evaluation.classes)
    )
    return paper if is_sixray and set(subsets) & set(paper.average_precision) else None


def list_contents(
    report: Report, figures: Mapping[str, str], gallery: Gallery | None, has_slider: bool
) -> list[tuple[str, str]]:
    """Return anchor and title of every section that the page has, in order."""
    sections = [
        ("comparison-title", "Comparison", bool(report.comparisons)),
        ("rules-title", f"Alarms at {ALARM_RATE} per 1,000", ALARM_RATE in report.evaluation.alarm_plans),
        ("given-title", "Given thresholds", report.thresholds is not None),
        ("alarm-title", "Alarm threshold", has_slider),
        ("classes-title", "Each class", True),
        ("tradeoff-title", "Misses against false alarms", "det.svg" in figures),
        ("curves-title", "Precision and recall", any(name.startswith("precision_recall") for name in figures)),
        ("fails-title", "Failures", has_slider),
        ("gallery-title", "Misses and false alarms in pictures", gallery is not None and gallery.has_examples),
        ("calibration-title", "Calibration", any(name.startswith("reliability") for name in figures)),
        ("subsets-title", "Subsets", bool(report.subsets)),
        ("history-title", "History", bool(report.history)),
        ("coverage-title", "Completeness", True),
        ("definitions-title", "Definitions", True),
        ("identity-title", "Model and dataset", True),
    ]
    return [(anchor, title) for anchor, title, is_shown in sections if is_shown]


def list_rows(evaluation: Evaluation) -> dict[str, ScoreFigures]:
    """Return the rows of tables about alarms: every class, then the alarm for any item."""
    return {**evaluation.classes, ANY_ITEM: evaluation.any_item}


def prepare_slider(evaluation: Evaluation) -> dict[str, Any] | None:
    """Return start, end and data of the threshold slider; None without positives or with too many classes.

    It starts at the threshold where the alarm for any item keeps to the summary's false alarms, and moves over the
    operating points of metrics.json.
    """
    swept = evaluation.sweep
    if not len(swept.thresholds_T) or not evaluation.is_in_full:
        return None
    quiet = evaluation.any_item.rank.operation.at_false_alarms.get(ALARM_RATE)
    threshold = quiet.threshold if quiet is not None else None
    last = len(swept.thresholds_T) - 1
    start = last if threshold is None else min(int(np.searchsorted(swept.thresholds_T, threshold)), last)
    counts = (*swept.classes, swept.any_item)
    points = {
        name: OperatingPoint(
            float(swept.thresholds_T[start]),
            int(of.num_true_T[start]),
            int(of.num_false_T[start]),
            figures.rank.ranking.num_positive,
            figures.rank.ranking.num_negative,
        )
        for (name, figures), of in zip(list_rows(evaluation).items(), counts, strict=True)
    }
    return {"start": start, "last": last, "points": points, "data": _embed(_slider_data(evaluation))}


@functools.cache
def _environment(autoescape: bool) -> jinja2.Environment:
    filters = {
        "ratio": numbers.format_ratio,
        "percent": numbers.format_percent,
        "count": numbers.format_count,
        "gain": numbers.format_gain,
        "gain_interval": numbers.format_gain_interval,
        "p_value": numbers.format_p_value,
        "rate": numbers.format_rate,
        "score": numbers.format_number,
        "sigmoid": sigmoid,
        "cell": lambda text: text.replace("|", "\\|"),
        "base64": lambda data: base64.b64encode(data).decode(),
        "interval": numbers.format_interval,
        "percent_interval": numbers.format_percent_interval,
        "rate_interval": numbers.format_rate_interval,
    }
    return make_environment(filters, autoescape=autoescape)


def _slider_data(evaluation: Evaluation) -> dict[str, Any]:
    document = operating_points_document(evaluation)
    counts = [*document["classes"].values(), document["any_item"]]
    sizes = [figures.rank.ranking for figures in list_rows(evaluation).values()]
    return {
        "scores": document["scores"],
        "rows": [
            of | {"num_positive": size.num_positive, "num_negative": size.num_negative}
            for of, size in zip(counts, sizes, strict=True)
        ],
    }


def _embed(value: Any) -> Markup:
    # Escape "<": "</script" would end the script element.
    return Markup(json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))


def _inline_classes(
    figures: Mapping[str, str], file_name: Callable[[str], str], prefix: str, label: str, names: Iterable[str]
) -> list[Markup]:
    return [
        _inline(figures[file_name(name)], f"{prefix}{k}", f"{label} {name}")
        for k, name in enumerate(names)
        if file_name(name) in figures
    ]


def _inline(svg: str, prefix: str, label: str) -> Markup:
    return Markup(inline_svg(svg, prefix, str(Markup.escape(label))))
