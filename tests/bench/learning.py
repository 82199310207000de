"""Summarise learning benchmarks: mean APs over seeds with intervals, and the order of the paper's variants."""

# N scans  K classes  R bootstrap rounds  S seeds

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from model.evaluation.scans.scored_scans import ScoredScans
from model.metrics.ranking import average_precision, mean_of_defined, rank, trace_curve
from model.metrics.uncertainty import bootstrap
from model.metrics.uncertainty.bootstrap import percentile_interval
from model.metrics.uncertainty.intervals import Interval
from model.recipes.paper_tables import MEAN, load_tables

NETWORKS = ("plain", "h", "hr", "ch", "chr")
"""Networks of the CHR paper's Table 4 in display order; `paper_order` sorts them by mean AP."""
NUM_ROUNDS = 1000


@dataclass(frozen=True, slots=True)
class Learned:
    """Results of one network on one corpus."""

    by_seed: tuple[float, ...]
    """Mean AP of each seed's run."""
    rounds_R: npt.NDArray[np.float64]
    """Mean AP of each bootstrap round; rounds resample scans and seeds, with the same scans for all networks."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(self.by_seed))

    @property
    def interval(self) -> Interval:
        """Confidence interval of the mean over scans and seeds."""
        return _interval(self.rounds_R)

    def gain_over(self, other: "Learned") -> Interval:
        """Return the confidence interval of the difference, from paired rounds."""
        return _interval(self.rounds_R - other.rounds_R)


def rate_runs(runs: Sequence[ScoredScans], draw_seed: int) -> Learned:
    """Return the results of one network's runs, one per seed, on the same scans.

    Args:
        runs: of one test split.
        draw_seed: of which runs each round draws; another for every network: what runs of one seed share, the order of
            scans and for some the first weights, is not counted on.
    """
    by_seed, rounds_SR = [], []
    for scans in runs:
        columns = [(scans.logits_NK[:, k], scans.labels_NK[:, k]) for k in range(len(scans.classes))]
        found = mean_of_defined([average_precision(trace_curve(rank(*column))) for column in columns])
        assert found is not None, "a test split has positives"
        by_seed.append(found)
        ranked = [bootstrap.rank_groups(*column, scans.groups_N) for column in columns]
        rounds = bootstrap.resample(ranked, scans.num_groups, (), NUM_ROUNDS)
        rounds_SR.append(bootstrap.mean_rounds([of.average_precision_R for of in rounds]))
    random = np.random.default_rng([draw_seed, len(runs)])
    drawn_RS = random.integers(0, len(runs), (NUM_ROUNDS, len(runs)))
    rounds_R = np.take_along_axis(np.stack(rounds_SR, axis=1), drawn_RS, axis=1).mean(axis=1)
    return Learned(tuple(by_seed), rounds_R)


def say_order(found: Mapping[str, Learned], dataset: str) -> str:
    """Return in words whether the paper's order holds on one of its datasets: which gains are significant."""
    gains = {name: found[name].gain_over(found["plain"]) for name in NETWORKS[1:]}
    better = [name for name, gain in gains.items() if gain.low > 0]
    worse = [name for name, gain in gains.items() if gain.high < 0]
    ranking = sorted(NETWORKS, key=lambda name: found[name].mean)
    if "chr" in better:
        word = "shows" if ranking == paper_order(dataset) else "shows in part: chr is better than plain"
    else:
        word = "is contradicted: chr is worse than plain" if "chr" in worse else "does not show"
    told = [f"better than plain beyond luck: {', '.join(better) or 'none'}", f"worse: {', '.join(worse) or 'none'}"]
    told += [f"by the means: {' < '.join(ranking)}", f"in the paper on {dataset}: {' < '.join(paper_order(dataset))}"]
    return f"the paper's order {word} ({'; '.join(told)})"


def draw_learned(found: Mapping[str, Mapping[str, Learned]]) -> str:
    """Return an SVG chart: a panel per corpus, a line per network, a dot per seed, the interval of the mean."""
    figure = Figure(figsize=(4 * len(found), 3.2), layout="constrained")
    for axes, (corpus, of) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        for place, name in enumerate(NETWORKS):
            learned = of[name]
            axes.plot([learned.interval.low, learned.interval.high], [place, place], color="#0b5cad", linewidth=2)
            axes.plot([learned.mean], [place], "|", color="#0b5cad", markersize=14, markeredgewidth=2)
            axes.plot(learned.by_seed, [place] * len(learned.by_seed), "o", color="#b3480e", markersize=4)
        axes.set_yticks(range(len(NETWORKS)), NETWORKS)
        axes.set_title(corpus, fontsize=10)
        axes.set_xlabel("mean AP (dot: a seed; bar: 95 % of rounds)")
    out = io.StringIO()
    FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return out.getvalue()


def paper_gain(dataset: str, network: str) -> float:
    """Return a network's gain in mean AP over `plain` in the CHR paper's Table 4."""
    table = load_tables()["chr-4"].choose(columns=[f"{dataset}/average_precision/{MEAN}"])
    percent = {row.recipe.partition("_")[0]: row.values[0] for row in table.rows}
    return (percent[network] - percent["plain"]) / 100


def paper_order(dataset: str) -> list[str]:
    """Return the networks in ascending order of mean AP on a dataset in the CHR paper's Table 4."""
    return sorted(NETWORKS, key=lambda name: paper_gain(dataset, name))


def write_note(
    found: Mapping[str, Mapping[str, Learned]], how: Sequence[str], paper_datasets: Mapping[str, str]
) -> str:
    """Return a Markdown page: the method, a table per corpus, and whether the paper's order holds.

    Args:
        found: corpus -> network -> what it learned.
        how: a line each.
        paper_datasets: corpus -> the paper's dataset that it is held against.
    """
    lines = ["# Does CHR learn more than its backbone?", "", *(f"- {line}" for line in how)]
    for corpus, of in found.items():
        dataset = paper_datasets[corpus]
        words = say_order(of, dataset)
        lines += ["", f"## {corpus}", "", f"{words[0].upper()}{words[1:]}.", ""]
        columns = ["network", "mean AP", "95 %", "each seed", "over plain, 95 %", f"paper's over plain ({dataset})"]
        lines += [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
        for name in NETWORKS:
            learned = of[name]
            seeds = ", ".join(f"{value:.3f}" for value in learned.by_seed)
            cells = [name, f"{learned.mean:.3f}", _format(learned.interval, ".3f"), seeds]
            if name == "plain":
                cells += ["", ""]
            else:
                cells += [_format(learned.gain_over(of["plain"]), "+.3f"), f"{paper_gain(dataset, name):+.3f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _format(interval: Interval, form: str) -> str:
    return f"{interval.low:{form}} to {interval.high:{form}}"


def _interval(rounds_R: npt.NDArray[np.float64]) -> Interval:
    found = percentile_interval(rounds_R)
    assert found is not None, "every round draws positives of some class"
    return found
