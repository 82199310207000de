"""Test, night after night, whether numbers are still drawn like those of a reference; false alarms stay rare for ever.

Each new number becomes its rank among all earlier ones, uniform as long as nothing changes, and the ranks are bet
against: the wealth of the bets has mean 1 then, and ever exceeds 1 / alpha with probability alpha at most (Ville).
"""

# R earlier numbers  N new numbers  T nights  B bins of ranks  P priors

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, logsumexp

FloatArray = npt.NDArray[np.float64]
CountArray = npt.NDArray[np.int64]

_TAIL = (0.0, 0.001, 0.01, 0.05)
EDGES = np.array([*_TAIL, *np.linspace(0.1, 0.9, 9), *(1 - np.array(_TAIL[::-1]))])
"""Bins of ranks: narrow at both ends, where alarms and rare events are."""
PRIORS = np.array([10.0, 100.0, 1000.0])
"""Ranks of imagined evidence for no change, spread over the bins by their widths: few learn a large change in a night,
many lose little until they have learnt a small one."""


def conformal_ranks(earlier_R: npt.NDArray[Any], new_N: npt.NDArray[Any], seed: Any = 0) -> FloatArray:
    """Return for each new number, in order, its smoothed rank in [0, 1] among all before it and itself.

    If all are drawn alike the ranks are independent and uniform, whatever the distribution and its ties.

    Args:
        earlier_R: in any order.
        new_N: at most some thousands: each is compared with each.
        seed: of the random numbers that break ties, as `numpy.random.default_rng` takes it.

    Source:
        Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World" (2005), Section 8.2.
    """
    sorted_R = np.sort(earlier_R)
    below_N, upto_N = (np.searchsorted(sorted_R, new_N, side=side) for side in ("left", "right"))
    num_new = len(new_N)
    is_before_NN = np.tri(num_new, k=-1, dtype=bool)
    below_N = below_N + (is_before_NN & (new_N < new_N[:, None])).sum(axis=1)
    equal_N = upto_N - np.searchsorted(sorted_R, new_N, side="left")
    equal_N = equal_N + (is_before_NN & (new_N == new_N[:, None])).sum(axis=1) + 1
    random_N = np.random.default_rng(seed).random(num_new)
    ranks_N: FloatArray = (below_N + random_N * equal_N) / (len(earlier_R) + np.arange(num_new) + 1)
    return ranks_N


def conformal_ranks_of_shares(
    num_true: int, num_earlier: int, new_N: npt.NDArray[np.bool_], seed: Any = 0
) -> FloatArray:
    """Return `conformal_ranks` of false and true, in time linear in their number.

    Args:
        num_true: of the earlier ones.
        num_earlier: of both.
        new_N: in order.
        seed: as there.
    """
    before_N = num_earlier + np.arange(len(new_N))
    true_before_N = num_true + np.cumsum(new_N) - new_N
    false_before_N = before_N - true_before_N
    below_N = np.where(new_N, false_before_N, 0)
    equal_N = np.where(new_N, true_before_N, false_before_N) + 1
    ranks_N: FloatArray = (below_N + np.random.default_rng(seed).random(len(new_N)) * equal_N) / (before_N + 1)
    return ranks_N


def count_ranks(ranks_N: FloatArray) -> CountArray:
    """Return how many ranks of a night lie in each bin (B,)."""
    return np.histogram(ranks_N, EDGES)[0]


def log_wealth(counts_TB: npt.NDArray[Any]) -> float:
    """Return the logarithm of what bets against uniform ranks have made of 1 in all nights so far.

    In the T-th night one more bettor begins, with a share 1 / (T (T + 1)) of the capital; it has seen only the nights
    since, so it learns a change fast, however long all was well before. Each bets by the histogram of the ranks that it
    has seen, as a mixture of Dirichlet priors, whose wins depend on its counts alone. The rest of the capital is idle.
    """
    counts_TB = np.asarray(counts_TB, np.float64).reshape(-1, len(EDGES) - 1)
    num_nights = len(counts_TB)
    since_TB = np.cumsum(counts_TB[::-1], axis=0)[::-1]
    widths_B = np.diff(EDGES)
    prior_PB = PRIORS[:, None] * widths_B
    total_T = since_TB.sum(axis=1)
    wins_PT = gammaln(PRIORS)[:, None] - gammaln(PRIORS[:, None] + total_T)
    wins_PT += (gammaln(prior_PB[:, None] + since_TB) - gammaln(prior_PB)[:, None]).sum(axis=2)
    wins_PT -= since_TB @ np.log(widths_B)
    nights_T = np.arange(1, num_nights + 1)
    bettors_T = logsumexp(wins_PT, axis=0) - np.log(len(PRIORS)) - np.log(nights_T * (nights_T + 1))
    return float(np.logaddexp(-np.log(num_nights + 1), logsumexp(bettors_T) if num_nights else -np.inf))
