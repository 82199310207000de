"""Draw misses against false alarms of all classes in one chart: DET and ROC."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from model.evaluation.evaluate import ScoreFigures
from model.reports.charts import CHANCE, GRID, INK, SERIES_OF_CLASSES, make_figure, mark_unit_axis, svg_text

MAX_POINTS = 160
MAX_CLASSES = 8
"""More lines cannot be told apart: of more classes the charts show the alarm for any item alone."""
_LEGEND: Any = {"frameon": False, "loc": "outside lower center", "ncols": 2, "fontsize": 9, "labelcolor": INK}
"""Below the axes: inside them it covers curves, wherever it stands."""
_DASHES = ((), (5, 2), (2, 1.5))


def draw_tradeoffs(rated: Mapping[str, ScoreFigures], any_item: str) -> dict[str, str]:
    """Return `det.svg` and `roc.svg`; none if no score has both positives and negatives.

    Args:
        rated: figures of each class and of the alarm for any item.
        any_item: name of the latter, which is drawn boldly.
    """
    shown = {name: of for name, of in rated.items() if of.rank.curve.num_positive and of.rank.curve.num_negative}
    if len(shown) > MAX_CLASSES + 1:
        shown = {name: of for name, of in shown.items() if name == any_item}
    return {"det.svg": _draw_det(shown, any_item), "roc.svg": _draw_roc(shown, any_item)} if shown else {}


def _draw_det(shown: Mapping[str, ScoreFigures], any_item: str) -> str:
    least = min(0.5 / of.rank.curve.num_negative for of in shown.values())
    fewest = min(0.5 / of.rank.curve.num_positive for of in shown.values())
    with make_figure(5.4, 4.6) as (figure, axes):
        for k, (name, of) in enumerate(shown.items()):
            style = _style(k, name == any_item)
            false_T, miss_T = _steps(of)
            axes.plot(1000 * np.maximum(false_T, least), np.maximum(miss_T, fewest), label=name, **style)
            _draw_intervals(axes, of, fewest, style["color"], offset=1 + 0.035 * (k - len(shown) / 2))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(1000 * least, 1000)
        axes.set_ylim(fewest, 1)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(numticks=12))
            axis.set_minor_locator(NullLocator())
            axis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}\N{NO-BREAK SPACE}%"))
        axes.grid(True, color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_xlabel("False alarms per 1,000 clean scans")
        axes.set_ylabel("Misses: share of the items not found")
        axes.set_title("DET", loc="left", fontweight="bold", fontsize=11.5, pad=9)
        figure.legend(**_LEGEND)
    return svg_text(figure)


def _draw_intervals(axes: Axes, of: ScoreFigures, fewest: float, colour: str, offset: float) -> None:
    if of.intervals is None:
        return
    for rate, interval in of.intervals.recall_at_false_alarms.items():
        if interval is not None:
            bounds = np.maximum([1 - interval.high, 1 - interval.low], fewest)
            axes.plot([rate * offset] * 2, bounds, color=colour, linewidth=3, alpha=0.35, solid_capstyle="butt")


def _draw_roc(shown: Mapping[str, ScoreFigures], any_item: str) -> str:
    with make_figure(5.4, 4.6) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=CHANCE, linewidth=1.2, dashes=(4, 3))
        for k, (name, of) in enumerate(shown.items()):
            false_T, miss_T = _steps(of)
            interval = of.intervals.roc_auc if of.intervals else None
            note = f" ({interval.low:.3f}–{interval.high:.3f})" if interval else ""
            axes.plot(false_T, 1 - miss_T, label=f"{name} {of.rank.roc_auc:.3f}{note}", **_style(k, name == any_item))
        mark_unit_axis(axes, "x")
        mark_unit_axis(axes, "y")
        axes.set_xlabel("False alarms: share of the clean scans")
        axes.set_ylabel("Recall: share of the items found")
        axes.set_title("ROC", loc="left", fontweight="bold", fontsize=11.5, pad=9)
        title = "area" if all(of.intervals is None for of in shown.values()) else "area (95 % interval)"
        figure.legend(**_LEGEND, title=title, title_fontsize=9)
    return svg_text(figure)


def _style(k: int, is_any_item: bool) -> dict[str, Any]:
    if is_any_item:
        return {"color": INK, "linewidth": 2.2}
    dashes = _DASHES[k // len(SERIES_OF_CLASSES) % len(_DASHES)]
    return {"color": SERIES_OF_CLASSES[k % len(SERIES_OF_CLASSES)], "linewidth": 1.5, "dashes": dashes or (None, None)}


def _steps(of: ScoreFigures) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the shares of false alarms and of misses at each threshold, thinned; the curve falls in steps."""
    curve = of.rank.curve
    true_T = np.concatenate([[0], curve.num_true_T])
    false_T = np.concatenate([[0], curve.num_false_T])
    # A corner before each gain: false alarms rise first, then an item is found.
    false = np.concatenate([np.stack([false_T[1:], false_T[1:]], axis=1).ravel(), [curve.num_negative]])
    true = np.concatenate([np.stack([true_T[:-1], true_T[1:]], axis=1).ravel(), [curve.num_positive]])
    if len(false) > 2 * MAX_POINTS:
        kept = 2 * np.unique(np.linspace(0, len(curve.num_true_T) - 1, MAX_POINTS).round().astype(int))
        kept = np.concatenate([np.stack([kept, kept + 1], axis=1).ravel(), [len(false) - 1]])
        false, true = false[kept], true[kept]
    return false / curve.num_negative, 1 - true / curve.num_positive
