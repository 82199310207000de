"""Render the record of watched nights as one self-contained page."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from model.metrics.operating_points import sigmoid
from model.monitoring import record
from model.monitoring.label_free import ASSUMPTIONS
from model.monitoring.observations import ANY_ITEM
from model.reports.charts import CHANCE, GRID, MUTED, SERIES, SERIES_OF_CLASSES, inline_svg, make_figure, svg_text
from model.reports.text import numbers
from model.reports.text.templates import make_environment
from shards.format.parquet import IMAGE_TYPE

MAX_CHARTS = 40
"""Series that are drawn: those of whole nights, then those of values whose evidence is the strongest."""
MAX_NAMED = len(SERIES_OF_CLASSES)
Document = Mapping[str, Any]
Stream = Mapping[str, Any]


def render_page(document: Document) -> str:
    """Return the page of a record; equal records give equal bytes."""
    streams = document["streams"]
    html = (
        _environment()
        .get_template("drift.html.j2")
        .render(
            document=document,
            nights=document["nights"],
            headline=_state_headline(document),
            caveats=_list_caveats(document),
            changed=_list_changed_by_night(document),
            rows=[_describe(document, stream) for stream in streams if stream["value"] is None],
            value_rows=sorted(
                (
                    _describe(document, stream) | {"value": stream["value"]}
                    for stream in streams
                    if stream["value"] is not None
                ),
                key=lambda row: -row["share"],
            ),
            thresholds=_list_thresholds(document),
            evidence=_inline(_draw_evidence(document), "ev", "Evidence of a change by night")
            if document["nights"]
            else None,
            series=[
                _inline(_draw_series(document, stream), f"s{number}", f"{record.label(stream)} by night")
                for number, stream in enumerate(_choose_streams(document))
            ],
            estimates=_list_estimates(document),
            estimate_charts=_draw_estimates(document),
            assumptions=ASSUMPTIONS,
            any_item=ANY_ITEM,
        )
    )
    return numbers.keep_together(html)


@functools.cache
def _environment() -> jinja2.Environment:
    filters = {"percent": numbers.format_percent, "count": numbers.format_count, "figure": _format_summary}
    return make_environment(filters, "model.monitoring")


def _state_headline(document: Document) -> str:
    changed = record.list_changed(document)
    nights = len(document["nights"])
    if not changed:
        return f"No change is proved in {nights} night{'s' if nights != 1 else ''}"
    shown = ", ".join(changed[:4]) + (f" and {len(changed) - 4} more" if len(changed) > 4 else "")
    first = min(filter(None, (record.alarmed_in(document, stream) for stream in document["streams"])))
    return f"Changed: {shown}, found in night {first} of {nights}"


def _list_changed_by_night(document: Document) -> list[tuple[int, list[str]]]:
    """Return each night in which changes were found, and what they are of."""
    found: dict[int, list[str]] = {}
    for stream in document["streams"]:
        if (night := record.alarmed_in(document, stream)) is not None:
            found.setdefault(night, []).append(record.label(stream))
    return sorted(found.items())


def _list_caveats(document: Document) -> list[str]:
    """Return what to know before trusting the page."""
    found = [
        "A change says that bags are no longer drawn as those of the reference and of the nights before, not "
        "that something is wrong: other travellers on a holiday are a change too. A reference of several weeks has "
        "seen more of what is usual. A change stays; begin a new record when its cause is known.",
    ]
    known = {stream["name"] for stream in document["streams"]}
    images = [f"image.{of.name}" for of in IMAGE_TYPE]
    unknown = [record.label({"name": name, "value": None}) for name in images if name not in known]
    if unknown:
        found.append(
            f"Not watched, as the reference does not have it: {', '.join(unknown)}. Imported predictions and those of "
            f"earlier releases lack it."
        )
    if not document["has_datasets"]:
        found.append(
            "The scored datasets were not at hand: every scan counts as a bag of its own, though scans of one bag are "
            "alike and make false alarms more likely, and what conversion refused is not counted."
        )
    watched = {stream["value"] for stream in document["streams"]}
    new = {value for night in document["nights"] for value in night["num_bags_of_value"] or ()} - watched
    if new:
        found.append(
            f"Values of {document['by']} that the reference does not have are counted in the whole nights alone: "
            f"{', '.join(sorted(new))}."
        )
    return found


def _describe(document: Document, stream: Stream) -> dict[str, Any]:
    """Return a row of the table: reference, last night, and the evidence as a share of an alarm's."""
    limit = record.limit(document)
    highest = max(stream["log_wealth"], default=0.0)
    return {
        "name": stream["name"],
        "label": record.label({**stream, "value": None}),
        "reference": stream["reference"],
        "last": stream["nights"][-1] if stream["nights"] else None,
        "share": min(max(highest / limit, 0.0), 1.0),
        "alarmed_in": record.alarmed_in(document, stream),
    }


def _list_thresholds(document: Document) -> str:
    """Return the scores from which on classes alarm; one if it is the same for all."""
    at = [None if threshold is None else float(sigmoid(np.float64(threshold))) for threshold in document["thresholds"]]
    if len(set(at)) == 1:
        return f"from a score of {numbers.format_number(at[0])} on"
    named = zip(document["classes"], at, strict=True)
    return ", ".join(f"{name} {'never' if score is None else numbers.format_number(score)}" for name, score in named)


def _format_summary(summary: Mapping[str, float] | None, name: str) -> Markup:
    """Return the figure of a stream: alarms and refusals per 1,000 bags, else the median with 5 and 95 %."""
    if summary is None:
        return Markup("unknown")
    if record.is_share(name):
        return Markup(numbers.format_rate(1000 * summary["mean"]))
    low, middle, high = (numbers.format_number(summary[quantile]) for quantile in record.QUANTILES)
    return Markup(f"{middle}<small>{low} to {high}</small>")


def _choose_streams(document: Document) -> list[Stream]:
    whole = [stream for stream in document["streams"] if stream["value"] is None]
    parts = [stream for stream in document["streams"] if stream["value"] is not None]
    parts = [stream for stream in parts if record.alarmed_in(document, stream) is not None]
    parts.sort(key=lambda stream: -max(stream["log_wealth"], default=0.0))
    return [*whole, *parts][:MAX_CHARTS] if document["nights"] else []


def _draw_evidence(document: Document) -> str:
    """Return the wealth of every stream by night; the line of an alarm is dashed."""
    limit = record.limit(document)
    top, bottom = 1.6 * limit, -0.4 * limit
    ranked = sorted(document["streams"], key=lambda stream: -max(stream["log_wealth"]))
    named = [stream for stream in ranked if record.alarmed_in(document, stream) is not None][:MAX_NAMED]
    with make_figure(5.4, 2.9 + 0.1 * len(named)) as (figure, axes):
        for stream in ranked:
            if stream not in named:
                _plot_wealth(axes, stream, bottom, top, color=MUTED, alpha=0.35, linewidth=1)
        for stream, colour in zip(named, SERIES_OF_CLASSES, strict=False):
            _plot_wealth(axes, stream, bottom, top, color=colour, linewidth=1.8, label=record.label(stream))
        axes.axhline(limit / np.log(10), color=CHANCE, linestyle="--", linewidth=1.2)
        axes.annotate(
            "change proved",
            (0, limit / np.log(10)),
            xytext=(2, 3),
            textcoords="offset points",
            color=CHANCE,
            fontsize=9,
        )
        axes.set_ylim(bottom / np.log(10), top / np.log(10))
        _mark_nights(axes, len(document["nights"]))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda power, _: f"{10.0**power:,.0f} : 1" if power >= 0 else ""))
        axes.grid(True, axis="y", color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_title("Odds against no change", loc="left", fontsize=10.5, pad=9)
        if named:
            figure.legend(frameon=False, loc="outside lower center", ncols=2, fontsize=8.5)
    return svg_text(figure)


def _plot_wealth(axes: Axes, stream: Stream, bottom: float, top: float, **style: Any) -> None:
    wealth = np.clip([0.0, *stream["log_wealth"]], bottom, top) / np.log(10)
    axes.plot(range(len(wealth)), wealth, **style)


def _draw_series(document: Document, stream: Stream) -> str:
    """Return the series of a stream: rates per 1,000 bags, or medians with 5 to 95 %; the reference is dashed."""
    per = 1000.0 if record.is_share(stream["name"]) else 1.0
    middle = "mean" if record.is_share(stream["name"]) else "p50"
    alarmed = record.alarmed_in(document, stream)
    nights = np.arange(1, len(stream["nights"]) + 1)

    def values(figure: str) -> list[float]:
        return [np.nan if night is None else per * night[figure] for night in stream["nights"]]

    with make_figure(3.5, 2.0) as (figure, axes):
        if middle == "p50":
            axes.fill_between(nights, values("p5"), values("p95"), color=SERIES, alpha=0.15, linewidth=0)
        axes.axhline(per * stream["reference"][middle], color=MUTED, linestyle="--", linewidth=1)
        axes.plot(nights, values(middle), "o-", color=SERIES, linewidth=1.5, markersize=3 if len(nights) < 40 else 0)
        if alarmed is not None:
            axes.axvline(alarmed, color=CHANCE, linewidth=1.5)
        _mark_nights(axes, len(nights))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        if per > 1:
            axes.set_ylim(bottom=0)
        axes.grid(True, axis="y", color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_title(record.label(stream), loc="left", fontsize=10, pad=8)
        if per > 1:
            axes.set_ylabel("per 1,000 bags")
        elif alarmed is not None:
            axes.set_title("changed", loc="right", fontsize=9, color=CHANCE, pad=8)
    return svg_text(figure)


def _mark_nights(axes: Axes, num_nights: int) -> None:
    axes.set_xlim(0.0, max(num_nights, 1) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("Night")


def _list_estimates(document: Document) -> list[dict[str, Any]]:
    """Return a row for each class and any item: on the labelled bags, and in the last night under each assumption."""
    if document["calibration"] is None:
        return []
    last = document["nights"][-1]["estimates"] if document["nights"] else None
    return [
        {"name": name, "labelled": of, "last": last[name] if last else None}
        for name, of in document["calibration"].items()
    ]


def _draw_estimates(document: Document) -> list[Markup]:
    found = []
    for number, (name, of) in enumerate((document["calibration"] or {}).items()):
        if of["refused"] or not document["nights"]:
            continue
        rows = [night["estimates"][name]["if_calibrated"] for night in document["nights"]]
        if any(row["recall"] is not None for row in rows):
            found.append(_inline(_draw_estimate(name, rows), f"e{number}", f"Estimates of {name} by night"))
    return found


def _draw_estimate(name: str, rows: Sequence[Mapping[str, float | None]]) -> str:
    nights = range(1, len(rows) + 1)
    with make_figure(3.5, 2.0) as (figure, axes):
        for what, colour in (("recall", SERIES), ("precision", CHANCE)):
            values = [np.nan if (value := row[what]) is None else value for row in rows]
            axes.plot(
                nights, values, "o-", color=colour, linewidth=1.5, markersize=3 if len(rows) < 40 else 0, label=what
            )
        axes.set_ylim(0, 1)
        _mark_nights(axes, len(rows))
        axes.grid(True, axis="y", color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_title(name, loc="left", fontsize=10, pad=8)
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.97), fontsize=8.5, ncols=2)
    return svg_text(figure)


def _inline(svg: str, prefix: str, label: str) -> Markup:
    return Markup(inline_svg(svg, prefix, str(Markup.escape(label))))
