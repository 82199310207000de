"""Write tables, chart and figures of the experiment."""

import io
from collections.abc import Iterator, Mapping, Sequence

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from model.metrics.uncertainty.bootstrap import percentile_interval
from model.metrics.uncertainty.intervals import Interval
from tests.bench.experiment.compositions import RATIOS
from tests.bench.experiment.rating import Contrast, Learned, contrast, growth, judge
from tests.bench.experiment.runs import COMMON, RARE, SEEDS, Cell, Results
from tests.bench.experiment.training import SYSTEMS
from tests.bench.measure import Measurement

PRIMARY = growth("chr", "plain")
_BASELINES = {name: ("plain",) if name != "plain" else () for name in SYSTEMS} | {
    "chr": tuple(name for name in SYSTEMS if name != "chr")
}
_COLOURS = ("#555555", "#999999", "#0b5cad", "#6aa5dc", "#3a7d34", "#93c48b", "#d98c1f", "#b3480e")


def write_tables(results: Results) -> str:
    """Return the tables in Markdown, and the verdict where the primary figure is there."""
    ratios = [f"1:{ratio}" for ratio in RATIOS]
    systems = [name for name in SYSTEMS if _grows(results.learned, name)]
    others = [name for name in systems if name != "plain"]
    rows = [[name, *(_of(results.learned.get((name, ratio))) for ratio in RATIOS)] for name in systems]
    lines = _table(["mean AP", *ratios], rows)
    rows = [[name, *_gains(results.learned, name, "plain"), _growth(results, name, "plain")] for name in others]
    lines += ["", *_table(["over `plain`", *ratios, "growth"], rows)]
    rows = [[name, *_gains(results.at_rare, name, "plain")] for name in others]
    lines += ["", *_table([f"over `plain`, tested at 1:{RARE}", *(f"trained at {name}" for name in ratios)], rows)]
    rows = [
        [name, *_gains(results.among_items, name, "plain"), str(contrast(results.among_items, growth(name, "plain")))]
        for name in others
    ]
    lines += ["", *_table(["over `plain`, among items", *ratios, "growth"], rows)]
    rows = [[name, *(_of(results.among_items.get((name, ratio))) for ratio in RATIOS)] for name in systems]
    lines += ["", *_table(["mean AP among items", *ratios], rows)]
    if "chr" in systems:
        compared = [name for name in others if name != "chr"]
        rows = [[name, *_gains(results.learned, "chr", name), _growth(results, "chr", name)] for name in compared]
        lines += ["", *_table(["`chr` over", *ratios, "growth"], rows)]
        primary = contrast(results.learned, PRIMARY)
        lines += ["", f"Primary: {primary}: {judge(primary)}."]
    return "\n".join(lines) + "\n"


def measure(results: Results) -> Iterator[Measurement]:
    """Yield every figure."""
    for (name, ratio), learned in results.learned.items():
        low_high = f"95 % {_interval(learned).low:.4f} to {_interval(learned).high:.4f}"
        yield Measurement(f"{name}, 1:{ratio}", learned.mean, "mean AP", low_high)
        for seed, value in zip(SEEDS, learned.by_seed, strict=True):
            yield Measurement(f"{name}, 1:{ratio}, seed {seed}", value, "mean AP")
        for fold, rate in enumerate(results.chosen[name, ratio]):
            yield Measurement(f"{name}, 1:{ratio}, fold {fold}", rate, "learning rate")
        for level, share in enumerate(results.counted[name, ratio], start=1):
            yield Measurement(f"{name}, 1:{ratio}, level {level} of its own", share, "share of negatives counted")
        for other in _BASELINES[name]:
            if (other, ratio) in results.learned:
                yield _measured(f"{name} - {other}, 1:{ratio}", _gain(results.learned, name, other, ratio))
            if ratio == RARE and _grows(results.learned, name) and _grows(results.learned, other):
                yield _measured(f"growth of {name} - {other}", contrast(results.learned, growth(name, other)))
        yield Measurement(f"{name}, 1:{ratio}, among items", results.among_items[name, ratio].mean, "mean AP")
        if name != "plain":
            found = _gain(results.among_items, name, "plain", ratio)
            yield _measured(f"{name} - plain, 1:{ratio}, among items", found)
            if ratio == RARE and _grows(results.learned, name):
                found = contrast(results.among_items, growth(name, "plain"))
                yield _measured(f"growth of {name} - plain, among items", found)
        if name != "plain" and ratio != RARE:
            found = _gain(results.at_rare, name, "plain", ratio)
            yield _measured(f"{name} - plain, trained at 1:{ratio}, tested at 1:{RARE}", found)
    yield Measurement("mean transmission, scans with an item above those without", results.light_auc, "AUC")


def draw(results: Results) -> str:
    """Return an SVG chart: mean AP by ratio, and the gains over `plain` with their intervals."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    of_ap, of_gain = figure.subplots(1, 2)
    for number, (name, colour) in enumerate(zip(SYSTEMS, _COLOURS, strict=True)):
        there = [place for place, ratio in enumerate(RATIOS) if (name, ratio) in results.learned]
        means = [results.learned[name, RATIOS[place]].mean for place in there]
        of_ap.plot(there, means, "o-", color=colour, label=name, markersize=3)
        if name == "plain":
            continue
        gains = [_gain(results.learned, name, "plain", RATIOS[place]) for place in there]
        moved = [place + (number - 4) * 0.08 for place in there]
        lows, highs = [gain.interval.low for gain in gains], [gain.interval.high for gain in gains]
        of_gain.vlines(moved, lows, highs, color=colour)
        of_gain.plot(moved, [gain.value for gain in gains], "o", color=colour, markersize=4)
    of_gain.axhline(0, color="black", linewidth=0.8)
    for axes, title in ((of_ap, "mean AP"), (of_gain, "mean AP over plain (95 %)")):
        axes.set_xticks(range(len(RATIOS)), [f"1:{ratio}" for ratio in RATIOS])
        axes.set_xlabel("positives to negatives")
        axes.set_title(title, fontsize=10)
    of_ap.legend(fontsize=7)
    out = io.StringIO()
    FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return out.getvalue()


def _grows(learned: Mapping[Cell, Learned], name: str) -> bool:
    return (name, COMMON) in learned and (name, RARE) in learned


def _growth(results: Results, name: str, other: str) -> str:
    return str(contrast(results.learned, growth(name, other)))


def _gains(learned: Mapping[Cell, Learned], name: str, other: str) -> list[str]:
    return [str(_gain(learned, name, other, ratio)) if (name, ratio) in learned else "not run" for ratio in RATIOS]


def _gain(learned: Mapping[Cell, Learned], name: str, other: str, ratio: int) -> Contrast:
    return contrast(learned, {(name, ratio): 1, (other, ratio): -1})


def _measured(what: str, found: Contrast) -> Measurement:
    return Measurement(what, found.value, "mean AP", f"95 % {found.interval.low:+.4f} to {found.interval.high:+.4f}")


def _of(learned: Learned | None) -> str:
    if learned is None:
        return "not run"
    interval = _interval(learned)
    return f"{learned.mean:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _interval(learned: Learned) -> Interval:
    interval = percentile_interval(learned.rounds_R)
    assert interval is not None
    return interval


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]
