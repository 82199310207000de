"""Test, night after night, whether numbers are still drawn like those of a reference; false alarms stay rare for ever.

Each new number becomes its rank among all earlier ones, uniform as long as nothing changes, and the ranks are bet
against: the wealth of the bets has mean 1 then, and ever exceeds 1 / alpha with probability alpha at most (Ville).
"""

# R earlier numbers  N new numbers

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

NUM_BINS = 10
BLOCK = 50
"""Ranks that are bet on together, with the histogram of those before them."""
PRIOR = 20.0
"""Ranks of imagined evidence for no change, spread evenly over the bins."""


@dataclass(frozen=True, slots=True)
class Wealth:
    """What bets against unchanged numbers have won so far.

    Each night one more bettor begins, with a share 1 / (n (n + 1)) of the capital: one that has seen only the nights
    since a change learns it fast, however long all was well before.
    """

    log_wealth: float = 0.0
    """Of all bettors together, with the capital of those that have not begun."""
    highest: float = 0.0
    """The highest that `log_wealth` ever was, which decides on the alarm."""
    bettors: tuple[tuple[float, ...], ...] = field(default=())
    """Of each its log wealth, its share included, and its ranks so far by bin."""

    def bet(self, ranks_N: FloatArray) -> "Wealth":
        """Return the wealth after the ranks of one more night."""
        number = len(self.bettors) + 1
        begun = (-float(np.log(number * (number + 1))), *[0.0] * NUM_BINS)
        state = np.array([*self.bettors, begun])
        log_wealth_J, seen_JB = state[:, 0], state[:, 1:]
        bins_N = np.minimum((ranks_N * NUM_BINS).astype(np.int64), NUM_BINS - 1)
        total, highest, idle = self.log_wealth, self.highest, -float(np.log(number + 1))
        for start in range(0, len(bins_N), BLOCK):
            block = np.bincount(bins_N[start : start + BLOCK], minlength=NUM_BINS)
            odds_JB = NUM_BINS * (seen_JB + PRIOR / NUM_BINS) / (seen_JB.sum(axis=1, keepdims=True) + PRIOR)
            log_wealth_J = log_wealth_J + np.log(odds_JB) @ block
            seen_JB = seen_JB + block
            total = float(np.logaddexp(idle, np.logaddexp.reduce(log_wealth_J)))
            highest = max(highest, total)
        return Wealth(total, highest, tuple(map(tuple, np.column_stack([log_wealth_J, seen_JB]).tolist())))

    def is_alarm(self, alpha: float) -> bool:
        """Return whether the wealth ever exceeded 1 / alpha."""
        return self.highest >= float(np.log(1 / alpha))


def conformal_ranks(earlier_R: npt.NDArray[Any], new_N: npt.NDArray[Any], seed: int = 0) -> FloatArray:
    """Return for each new number, in order, its smoothed rank in [0, 1] among all before it and itself.

    If all are drawn alike the ranks are independent and uniform, whatever the distribution and its ties.

    Source:
        Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World" (2005), Section 8.2.
    """
    random = np.random.default_rng(seed)
    below_N = np.searchsorted(np.sort(earlier_R), new_N, side="left")
    upto_N = np.searchsorted(np.sort(earlier_R), new_N, side="right")
    ranks_N = np.empty(len(new_N))
    for n, number in enumerate(new_N):
        before = new_N[:n]
        below = below_N[n] + np.count_nonzero(before < number)
        equal = upto_N[n] - below_N[n] + np.count_nonzero(before == number) + 1
        ranks_N[n] = (below + random.random() * equal) / (len(earlier_R) + n + 1)
    return ranks_N
