"""What does the reader see? One self-contained page over an evaluation, readable without this software."""

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from model.evaluation.comparison import SIDES_RATE, ClassComparison, Comparison
from model.evaluation.evaluate import MISTAKE_RATE, ClassFigures, Evaluation
from model.evaluation.pointing import TOLERANCES_PX
from model.evaluation.subsets import SubsetFigures
from model.metrics.operating_points import FALSE_ALARM_RATES, RECALLS, OperatingPoint, sigmoid
from model.recipes.paper_tables import PaperTables, load_paper_tables
from model.reports import sentences
from model.reports.charts import inline_svg, precision_recall_file, reliability_file
from model.reports.gallery import Gallery, list_gallery_warnings
from model.reports.metrics_json import operating_points_document
from model.reports.numbers import (
    format_count,
    format_gain,
    format_gain_interval,
    format_interval,
    format_percent,
    format_percent_interval,
    format_rate,
    format_ratio,
    format_score,
)
from model.reports.trend import Entry
from shards.format.classes import load_class_set

ANY_ITEM = "Any item"
DEFINITION_LABELS = {
    "non_interpolated": "Average precision",
    "voc_all_points": "VOC all-points",
    "voc2007_11_point": "VOC2007 11-point",
}

BREAKDOWN_TITLES = {
    "By size of the item, as a share of the image": "by_box_size",
    "By number of labelled items in the bag": "by_num_items",
    "By size of the image": "by_image_size",
}


def render_html(
    evaluation: Evaluation,
    figures: dict[str, str],
    gallery: Gallery | None = None,
    comparison: Comparison | None = None,
    subsets: Mapping[str, SubsetFigures] = MappingProxyType({}),
    history: Sequence[Entry] = (),
) -> str:
    """Return the page. Equal arguments give equal bytes: it holds no time of its own.

    Args:
        evaluation: what it says.
        figures: SVG texts of `model.reports.charts.draw_figures`.
        gallery: scans to look at; None for a page without pictures.
        comparison: with a baseline; None for a page about one model.
        subsets: figures of parts of the scans, by name.
        history: this report and earlier ones; then `figures` hold `history.svg`.
    """
    classes = evaluation.classes
    return (
        _environment(autoescape=True)
        .get_template("report.html.j2")
        .render(
            evaluation=evaluation,
            warnings=sentences.list_warnings(evaluation) + list_gallery_warnings(gallery),
            sentences=sentences.summarise(evaluation),
            summary_rate=sentences.SUMMARY_RATE,
            definition_labels=DEFINITION_LABELS,
            rates=FALSE_ALARM_RATES,
            recalls=RECALLS,
            rows=list_rows(evaluation),
            slider=prepare_slider(evaluation),
            left_out=sentences.describe_omissions(evaluation),
            column_classes=_list_columns(evaluation),
            breakdown_titles=BREAKDOWN_TITLES,
            mistake_rate=MISTAKE_RATE,
            tolerances=TOLERANCES_PX,
            sides_rate=SIDES_RATE,
            overview=_inline(
                figures["average_precision.svg"], "ap", "Average precision of each class beside its prevalence"
            ),
            curves=_inline_classes(figures, precision_recall_file, "pr", "Precision at each recall of", classes),
            reliability=_inline_classes(
                figures, reliability_file, "re", "Share of positives at each score of", classes
            ),
            gallery=gallery,
            comparison=comparison,
            compared=_list_compared(comparison),
            verdict=sentences.state_verdict(comparison) if comparison else None,
            subsets=subsets,
            history=history,
            trend=_inline(figures["history.svg"], "hi", "Mean average precision of each report") if history else None,
            paper=find_paper_tables(evaluation, subsets),
            run_facts=sentences.list_run_facts(evaluation.run),
        )
    )


def render_markdown(
    evaluation: Evaluation,
    comparison: Comparison | None = None,
    subsets: Mapping[str, SubsetFigures] = MappingProxyType({}),
) -> str:
    """Return the summary and the main tables as GitHub's Markdown: what a pull request needs."""
    return (
        _environment(autoescape=False)
        .get_template("report.md.j2")
        .render(
            evaluation=evaluation,
            warnings=sentences.list_warnings(evaluation),
            sentences=sentences.summarise(evaluation),
            rows={
                name: of for name, of in list_rows(evaluation).items() if name in {*evaluation.shown_classes, ANY_ITEM}
            },
            left_out=sentences.describe_omissions(evaluation),
            column_classes=_list_columns(evaluation),
            rate=sentences.SUMMARY_RATE,
            subsets=subsets,
            comparison=comparison,
            compared=_list_compared(comparison),
            verdict=sentences.state_verdict(comparison) if comparison else None,
        )
    )


def find_paper_tables(evaluation: Evaluation, subsets: Mapping[str, SubsetFigures]) -> PaperTables | None:
    """Return the paper's tables where a subset is one of theirs and the classes are SIXray's, else None."""
    paper = load_paper_tables()
    sixray = set(load_class_set("sixray").scored)
    return paper if sixray == set(evaluation.classes) and set(subsets) & set(paper.average_precision) else None


def list_rows(evaluation: Evaluation) -> dict[str, ClassFigures]:
    """Return what tables about alarms have a row for: every class, then the alarm for any item."""
    return evaluation.classes | {ANY_ITEM: evaluation.any_item}


def prepare_slider(evaluation: Evaluation) -> dict[str, Any] | None:
    """Return what the threshold slider starts with and moves over; None where no item is known to be anywhere.

    None as well where the classes are too many for its table.

    It starts where the alarm for any item keeps to the summary's false alarms, and moves over the operating
    points of metrics.json.
    """
    swept = evaluation.sweep
    if not len(swept.thresholds_T) or not evaluation.is_in_full:
        return None
    quiet = evaluation.any_item.rank.operation.at_false_alarms.get(sentences.SUMMARY_RATE)
    threshold = quiet.threshold if quiet is not None else None
    last = len(swept.thresholds_T) - 1
    start = last if threshold is None else min(int(np.searchsorted(swept.thresholds_T, threshold)), last)
    rows = list_rows(evaluation)
    points = {
        name: OperatingPoint(
            float(swept.thresholds_T[start]),
            int(swept.num_true_KT[k, start]),
            int(swept.num_false_KT[k, start]),
            figures.rank.ranking.num_positive,
            figures.rank.ranking.num_negative,
        )
        for k, (name, figures) in enumerate(rows.items())
    }
    return {"start": start, "last": last, "points": points, "data": _embed(_slider_data(evaluation))}


def _list_columns(evaluation: Evaluation) -> tuple[str, ...]:
    # Many classes have a row each in one table, and a column in none.
    return tuple(evaluation.classes) if evaluation.is_in_full else ()


def _environment(autoescape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("model.reports"),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ratio": format_ratio,
        "percent": format_percent,
        "count": format_count,
        "gain": format_gain,
        "gain_interval": format_gain_interval,
        "rate": format_rate,
        "score": format_score,
        "sigmoid": sigmoid,
        "cell": lambda text: text.replace("|", "\\|"),
        "base64": lambda data: base64.b64encode(data).decode(),
        "interval": format_interval,
        "percent_interval": format_percent_interval,
    }
    return environment


def _list_compared(comparison: Comparison | None) -> dict[str, ClassComparison]:
    return comparison.classes | {ANY_ITEM: comparison.any_item} if comparison else {}


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
    # No "<" within: a script element ends at "</script" wherever that stands.
    return Markup(json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))


def _inline_classes(
    figures: dict[str, str], file_name: Callable[[str], str], prefix: str, label: str, names: Iterable[str]
) -> list[Markup]:
    return [
        _inline(figures[file_name(name)], f"{prefix}{k}", f"{label} {name}")
        for k, name in enumerate(names)
        if file_name(name) in figures
    ]


def _inline(svg: str, prefix: str, label: str) -> Markup:
    return Markup(inline_svg(svg, prefix, str(Markup.escape(label))))
