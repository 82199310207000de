"""Run the experiment in a folder: what is finished is kept, so a stopped run resumes.

Shapes: M scans of a test  R rounds  K classes  S seeds  F folds  L levels
"""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from tests.bench.experiment import rating
from tests.bench.experiment.compositions import (
    HELD_OUT,
    NUM_FOLDS,
    RATIOS,
    TEST,
    Compositions,
    IntArray,
    Sizes,
    Sources,
    compose,
    multiply,
)
from tests.bench.experiment.features import Features, read_sources
from tests.bench.experiment.training import RATES, SYSTEMS, Data, Run, score, train

SEEDS = (0, 1, 2)
COMMON, RARE = RATIOS[0], RATIOS[-1]
Cell = tuple[str, int]
"""A system and a ratio."""
FIRST = [(system, ratio) for system in SYSTEMS if SYSTEMS[system].is_cheap for ratio in RATIOS]
"""What is trained before the power is known."""
CELLS = FIRST + [
    (system, ratio) for ratios in ((COMMON, RARE), RATIOS[1:-1]) for system in ("chr", "hr") for ratio in ratios
]
"""In the order of training: what the primary figure needs comes first."""


@dataclass(frozen=True, slots=True)
class Results:
    """All figures of the experiment."""

    learned: Mapping[Cell, rating.Learned]
    """By system and ratio of training and test."""
    at_rare: Mapping[Cell, rating.Learned]
    """By system and ratio of training, all tested at the highest ratio."""
    among_items: Mapping[Cell, rating.Learned]
    """By system and ratio; the negatives of a class are the items of the others."""
    chosen: Mapping[Cell, tuple[float, ...]]
    """The rate of each fold."""
    counted: Mapping[Cell, tuple[float, ...]]
    """The share of negative labels that the loss counted at each level, finest first."""
    light_auc: float
    """What the mean transmission by itself says of whether a scan has an item: above 0.5 those with one are lighter."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Data, and the folder of the runs."""

    folder: Path
    sources: Sources
    data: Data
    light_M: npt.NDArray[np.float64]
    """The mean transmission of the scans of all tests; NaN elsewhere."""

    @classmethod
    def open(cls, corpus: Path, folder: Path, sizes: Sizes | None = None) -> "Bench":
        """Read, compose and cache what is missing; ValueError if the folder is of other scans."""
        sources, images_NHWC = read_sources(corpus, folder)
        plan = compose(sources, sizes or Sizes())
        _check_plan(folder / "plan.npz", plan)
        features = Features.compute(folder / "features", images_NHWC, plan)
        light_M = np.full(len(plan.class_M), np.nan)
        for row in np.flatnonzero(plan.split_M == TEST):
            light_M[row] = multiply(images_NHWC, plan, np.array([row])).mean() / 255
        (folder / "runs").mkdir(exist_ok=True)
        return cls(folder, sources, Data(plan, features), light_M)

    def train(self, cells: Iterable[Cell], deadline: float = float("inf")) -> list[Cell]:
        """Train what is missing of systems and ratios, on all folds with all seeds; return those that are complete.

        Args:
            cells: in this order.
            deadline: of `time.monotonic`; after it nothing more is trained.
        """
        complete: list[Cell] = []
        for system, ratio in cells:
            for fold in range(NUM_FOLDS):
                for seed in SEEDS:
                    rates = RATES[system] if seed == SEEDS[0] else [self.chosen_rate(system, fold, ratio)]
                    for run in (Run(system, fold, ratio, seed, rate) for rate in rates):
                        if time.monotonic() > deadline and not self._path(run).exists():
                            return complete
                        self._finish(run)
            complete.append((system, ratio))
        return complete

    def chosen_rate(self, system: str, fold: int, ratio: int) -> float:
        """Return the rate with which the first seed has the highest mean AP on the held-out scans."""
        runs = [self._finish(Run(system, fold, ratio, SEEDS[0], rate)) for rate in RATES[system]]
        return RATES[system][int(np.argmax([of["held_out"] for of in runs]))]

    def rate(self, cells: Iterable[Cell]) -> Results:
        """Rate systems at ratios, all in the same rounds."""
        learned, at_rare, among_items, chosen, counted = {}, {}, {}, {}, {}
        classes = [self.data.plan.class_M[self._test_rows(fold)] for fold in range(NUM_FOLDS)]
        counts = [self._draw(fold) for fold in range(NUM_FOLDS)]
        for cell in cells:
            system, ratio = cell
            chosen[cell] = tuple(self.chosen_rate(system, fold, ratio) for fold in range(NUM_FOLDS))
            runs = [
                [self._finish(Run(system, fold, ratio, seed, rate)) for seed in SEEDS]
                for fold, rate in enumerate(chosen[cell])
            ]
            counted[cell] = tuple(np.mean([of["counted_L"] for row in runs for of in row], axis=0).tolist())
            logits = [np.stack([of["logits_MK"] for of in row]) for row in runs]
            learned[cell] = _rate(logits, classes, counts, ratio)
            at_rare[cell] = learned[cell] if ratio == RARE else _rate(logits, classes, counts, RARE)
            rated = [rating.rate_among_items(*of_fold, ratio) for of_fold in zip(logits, classes, counts, strict=True)]
            among_items[cell] = rating.pool_folds(np.stack(rated), seed=0)
        return Results(learned, at_rare, among_items, chosen, counted, self._light_auc())

    def _draw(self, fold: int) -> rating.FloatArray:
        rows = self._test_rows(fold)
        return rating.draw_bags(self.data.plan, rows, self.sources, 1 + rating.NUM_ROUNDS, seed=fold)

    def _test_rows(self, fold: int) -> IntArray:
        return self.data.plan.rows(fold, TEST)

    def _light_auc(self) -> float:
        plan = self.data.plan
        aucs = [
            roc_auc_score(plan.class_M[rows] >= 0, self.light_M[rows])
            for rows in map(self._test_rows, range(NUM_FOLDS))
        ]
        return float(np.mean(aucs))

    def _path(self, run: Run) -> Path:
        return self.folder / "runs" / f"{run}.npz"

    def _finish(self, run: Run) -> Mapping[str, Any]:
        """Return mean AP on held-out scans, logits of the test, counted labels and seconds of a run."""
        path = self._path(run)
        if not path.exists():
            started = time.monotonic()
            trained, plan = train(run, self.data), self.data.plan
            held_out = plan.rows(run.fold, HELD_OUT)
            logits_MK = score(run, trained.head, self.data, held_out)
            once_RM = rating.at_prevalence(np.ones((1, len(held_out))), plan.class_M[held_out], run.ratio)
            found = rating.rate(logits_MK[None], plan.class_M[held_out], once_RM)[0, 0]
            figures = {
                "held_out": found,
                "logits_MK": score(run, trained.head, self.data, self._test_rows(run.fold)),
                "counted_L": trained.counted_L,
                "seconds": time.monotonic() - started,
            }
            temporary = path.with_suffix(".tmp.npz")
            np.savez(temporary, **figures)  # type: ignore[arg-type]
            temporary.rename(path)
            print(f"{run}: held-out mean AP {found:.3f}, {figures['seconds']:.0f} s", file=sys.stderr, flush=True)
        with np.load(path) as file:
            return dict(file)


def _rate(
    logits: Sequence[npt.NDArray[Any]], classes: Sequence[IntArray], counts: Sequence[rating.FloatArray], ratio: int
) -> rating.Learned:
    rated = [
        rating.rate(logits_SMK, class_M, rating.at_prevalence(counts_RM, class_M, ratio))
        for logits_SMK, class_M, counts_RM in zip(logits, classes, counts, strict=True)
    ]
    return rating.pool_folds(np.stack(rated), seed=0)


def _check_plan(path: Path, plan: Compositions) -> None:
    """Keep the plan of a new folder; ValueError if an old folder has another."""
    if not path.exists():
        np.savez(path, **asdict(plan))
    with np.load(path) as file:
        if any(not np.array_equal(file[name], value) for name, value in asdict(plan).items()):
            raise ValueError(f"the scans of an experiment must be those that it began with, got others ({path.parent})")
