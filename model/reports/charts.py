"""Draw the charts of a report as SVG, for files and for the page."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from model.evaluation.evaluate import MAX_CLASSES_IN_FULL, ClassFigures, Evaluation
from model.metrics.uncertainty.intervals import Interval
from model.reports.trend import Entry

INK, MUTED, GRID, SERIES, CHANCE = "#1f2328", "#59636e", "#d5dae0", "#0b5cad", "#b3480e"
"""Blue and vermilion are distinct with every common colour blindness, and in grey."""
SERIES_OF_CLASSES = ("#2a7fd0", "#c2601b", "#22875f", "#a35cc0", "#c94a68", "#23859a", "#857c12", "#77808a")
"""Lines of several classes; each has a contrast of 3 or more on the light page and on the dark one."""
CSS_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", SERIES: "--series", CHANCE: "--chance"}
"""Within a page a colour follows the page's theme, light or dark."""
MAX_CURVE_POINTS = 400
"""More points are not visible, and a curve of 9,000 positives would have as many."""
_CLASS_MARGINS = {"left": 0.175, "bottom": 0.141, "right": 0.975, "top": 0.904}
"""Of every chart of a class: their labels are equally long, so no layout need be found, a third of the time."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sixray",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.titley": 1.0,  # no title needs to be moved above ticks, which would measure all texts once more
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw_figures(evaluation: Evaluation) -> dict[str, str]:
    """Return every chart of a report as an SVG text, by file name; equal evaluations give equal texts.

    Charts of single classes are left out if there are many classes.
    """
    figures = {"average_precision.svg": draw_average_precisions(evaluation)}
    for name, rated in evaluation.classes.items() if evaluation.is_in_full else ():
        if rated.rank.curve.num_positive:
            figures[precision_recall_file(name)] = draw_precision_recall(name, rated)
            figures[reliability_file(name)] = draw_reliability(name, rated)
    return figures


def precision_recall_file(class_name: str) -> str:
    """Return the file name of a class' precision-recall chart, without the spaces and slashes of the class name."""
    return f"precision_recall_{_file_word(class_name)}.svg"


def reliability_file(class_name: str) -> str:
    """Return the file name of a class' reliability chart."""
    return f"reliability_{_file_word(class_name)}.svg"


def draw_precision_recall(name: str, rated: ClassFigures) -> str:
    """Return one class' precision at every recall; the area below the line is its average precision."""
    precision_T, recall_T = _thin(rated.rank.curve.precision_T), _thin(rated.rank.curve.recall_T)
    prevalence = rated.rank.ranking.prevalence or 0.0
    with make_figure(3.4, 3.0, _CLASS_MARGINS) as (figure, axes):
        x, y = np.concatenate([[0.0], recall_T]), np.concatenate([precision_T[:1], precision_T])
        axes.fill_between(x, y, step="pre", color=SERIES, alpha=0.10, linewidth=0)
        axes.plot(x, y, drawstyle="steps-pre", color=SERIES, linewidth=1.7, solid_joinstyle="round")
        axes.axhline(prevalence, color=CHANCE, linewidth=1.2, dashes=(4, 3))
        axes.set_title(name, loc="left", fontweight="bold", fontsize=11.5, pad=9)
        axes.set_title(
            f"AP {rated.rank.average_precision['non_interpolated']:.3f}, random {_short(prevalence)}",
            loc="right",
            fontsize=9.5,
            pad=9,
        )
        mark_unit_axis(axes, "x")
        mark_unit_axis(axes, "y")
        axes.set_xlabel("Recall: share of the items found")
        axes.set_ylabel("Precision: share of alarms right")
    return svg_text(figure)


def draw_reliability(name: str, rated: ClassFigures) -> str:
    """Return one class' share of positives at each score; a calibrated score lies on the diagonal."""
    calibration = rated.rank.calibration
    filled_B = calibration.num_scans_B > 0
    # Areas grow with the logarithm of the number of scans.
    sizes_B = 12 + 14 * np.log10(calibration.num_scans_B[filled_B])
    with make_figure(3.4, 3.0, _CLASS_MARGINS) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=CHANCE, linewidth=1.2, dashes=(4, 3))
        x_B, y_B = calibration.mean_score_B[filled_B], calibration.positive_share_B[filled_B]
        axes.plot(x_B, y_B, color=SERIES, linewidth=1.2, alpha=0.5)
        axes.scatter(x_B, y_B, s=sizes_B, color=SERIES, clip_on=False, zorder=3, linewidths=0)
        axes.set_title(name, loc="left", fontweight="bold", fontsize=11.5, pad=9)
        axes.set_title(f"ECE {calibration.expected_error:.3f}", loc="right", fontsize=9.5, pad=9)
        mark_unit_axis(axes, "x")
        mark_unit_axis(axes, "y")
        axes.set_xlabel("Score")
        axes.set_ylabel("Share that holds the item")
    return svg_text(figure)


def draw_average_precisions(evaluation: Evaluation) -> str:
    """Return each shown class' average precision beside its prevalence, the expectation of a random order."""
    shown = [(name, evaluation.classes[name]) for name in evaluation.shown_classes]
    rows: list[tuple[str, float | None, float | None, Interval | None]] = [
        (
            name,
            rated.rank.average_precision["non_interpolated"],
            rated.rank.ranking.prevalence,
            rated.intervals.average_precision if rated.intervals else None,
        )
        for name, rated in shown
    ]
    mean, resampled = evaluation.mean, evaluation.bootstrap
    mean_interval = resampled.mean_average_precision if resampled else None
    rows.append(("Mean", mean.average_precision["non_interpolated"], mean.prevalence, mean_interval))
    with make_figure(5.4, 0.8 + 0.36 * len(rows)) as (figure, axes):
        for y, (_, average_precision, prevalence, interval) in enumerate(rows):
            _plot_average_precision(axes, y, average_precision, prevalence, interval)
        axes.set_yticks(range(len(rows)), [row[0] for row in rows], color=INK)
        axes.get_yticklabels()[-1].set_fontweight("bold")
        axes.axhline(len(rows) - 1.5, color=GRID, linewidth=0.8)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.spines["left"].set_visible(False)
        mark_unit_axis(axes, "x")
        point = Line2D([], [], marker="o", color=SERIES, linestyle="", markersize=7.5, label="average precision")
        line = Line2D([], [], color=SERIES, linewidth=3.5, alpha=0.4, label="95 % interval")
        tick = Line2D(
            [], [], marker="|", color=CHANCE, linestyle="", markersize=12, markeredgewidth=2, label="random order"
        )
        marks = [point, line, tick] if resampled else [point, tick]
        axes.legend(
            handles=marks,
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            ncols=3,
            frameon=False,
            handletextpad=0.4,
            columnspacing=1.2,
            fontsize=9,
        )
    return svg_text(figure)


def _plot_average_precision(
    axes: Axes, y: int, average_precision: float | None, prevalence: float | None, interval: Interval | None
) -> None:
    if average_precision is None or prevalence is None:
        axes.text(0.0, y, "no positives in this split", color=MUTED, va="center", fontsize=9.5)
        return
    axes.plot([prevalence, average_precision], [y, y], color=GRID, linewidth=1.5, zorder=1)
    if interval is not None:
        axes.plot([interval.low, interval.high], [y, y], color=SERIES, linewidth=3.5, alpha=0.4, zorder=2)
    axes.plot(average_precision, y, "o", color=SERIES, markersize=7.5, zorder=3, clip_on=False)
    axes.plot(prevalence, y, "|", color=CHANCE, markersize=12, markeredgewidth=2, zorder=3, clip_on=False)
    axes.annotate(f"{average_precision:.3f}", (1.03, y), color=INK, va="center", fontsize=10, annotation_clip=False)


_MAX_DATES = 7


def draw_history(history: Sequence[Entry]) -> str:
    """Return the mean average precision of each report with its interval, and faintly that of each class.

    Lines of single classes are left out if there are many.
    """
    numbers = range(1, len(history) + 1)
    with make_figure(6.8, 3.0) as (figure, axes):
        last = {name: value for name, value in history[-1].average_precision.items() if value is not None}
        last = last if len(history[-1].average_precision) <= MAX_CLASSES_IN_FULL else {}
        for name, label_y in _spread(last, gap=0.075).items():
            values = [_nan_if_none(entry.average_precision.get(name)) for entry in history]
            axes.plot(numbers, values, color=MUTED, linewidth=1, alpha=0.5)
            axes.text(len(history) + 0.08, label_y, name, color=MUTED, va="center", fontsize=9)
        for number, entry in zip(numbers, history, strict=True):
            if entry.interval is not None:
                axes.plot(
                    [number] * 2, [entry.interval.low, entry.interval.high], color=SERIES, linewidth=3.5, alpha=0.4
                )
        means = [_nan_if_none(entry.mean) for entry in history]
        axes.plot(numbers, means, "o-", color=SERIES, linewidth=1.8, markersize=6.5, clip_on=False, zorder=3)
        axes.set_xlim(0.7, len(history) + 0.3)
        shown = numbers[:: -(-len(numbers) // _MAX_DATES)]
        axes.set_xticks(list(shown), [(history[number - 1].scored_at or str(number))[:10] for number in shown])
        mark_unit_axis(axes, "y")
        axes.set_xlabel("Scored on" if all(entry.scored_at for entry in history) else "Report, in the order named")
        axes.set_ylabel("Average precision")
        axes.set_title("Mean, with 95 % interval", loc="left", color=SERIES, fontsize=10, pad=9)
    return svg_text(figure)


def inline_svg(svg: str, prefix: str, label: str) -> str:
    """Return an SVG for embedding in a page: colours follow the theme, ids are unique.

    Args:
        svg: drawn by a function of this module.
        prefix: of every id.
        label: for screen readers.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", body))
    body = re.sub(r' id="([^"]+)"', lambda match: f' id="{prefix}-{match[1]}"' if match[1] in used else "", body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", body)
    for colour, variable in CSS_VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    size = re.compile(r'<svg [^>]*?viewBox="(?P<box>[^"]+)"[^>]*>', re.DOTALL)
    opening = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="\\g<box>" role="img" aria-label="{label}">'
    return size.sub(opening, body, count=1)


@contextmanager
def make_figure(
    width_inches: float, height_inches: float, margins: Mapping[str, float] | None = None
) -> Iterator[tuple[Figure, Axes]]:
    """Give a figure with one pair of axes in the style of reports; without margins they follow from the texts."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width_inches, height_inches), layout=None if margins else "constrained")
        if margins:
            figure.subplots_adjust(**margins)
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        yield figure, axes


def svg_text(figure: Figure) -> str:
    """Return a figure as SVG; equal figures give equal texts."""
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE):
        canvas: Any = FigureCanvasSVG(figure)  # whose measures of texts the layout takes
        # `savefig` draws all for the layout, discards it, and draws again: a third of the time.
        if (layout := figure.get_layout_engine()) is not None:
            layout.execute(figure)
            figure.set_layout_engine("none")
        # No date, so that equal figures are equal bytes.
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def mark_unit_axis(axes: Axes, which: str) -> None:
    """Let the axis `x` or `y` go from 0 to 1, with a grid in quarters."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xlim if which == "x" else axes.set_ylim)(0.0, 1.0)
    axis.set_major_locator(FixedLocator([0.0, 0.25, 0.5, 0.75, 1.0]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(True, axis=which, color=GRID, linewidth=0.7)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def _file_word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text)


def _thin(values_T: np.ndarray) -> np.ndarray:
    if len(values_T) <= MAX_CURVE_POINTS:
        return values_T
    kept: np.ndarray = values_T[np.linspace(0, len(values_T) - 1, MAX_CURVE_POINTS).round().astype(int)]
    return kept


def _spread(values: Mapping[str, float], gap: float) -> dict[str, float]:
    """Return heights of labels, lowest first: each at its value, or higher if it would overlap the one below."""
    heights: dict[str, float] = {}
    for name in sorted(values, key=lambda name: values[name]):
        heights[name] = max([values[name], *(height + gap for height in heights.values())])
    return heights


def _nan_if_none(value: float | None) -> float:
    return float("nan") if value is None else value


def _short(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"
