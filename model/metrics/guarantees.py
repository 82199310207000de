"""Find thresholds with a guarantee: a rate of false alarms or misses that holds on new scans with a stated confidence.

The scans must be drawn like those that the thresholds are used on, and not be the ones that the model was trained on.
Nothing is assumed about the scores: the bounds are exact binomial ones (Clopper-Pearson) on bags.
"""

# G bags  K classes  n bags of a promise  k of them wrong

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from model.metrics.bags import NEVER, Bags, apply_thresholds
from model.metrics.joint_thresholds import plan_jointly

FloatArray = npt.NDArray[np.float64]

FALSE_ALARMS = "false_alarms_per_1000"
"""The subject of a promise of false alarms."""
LEARN_FROM = 4
"""A part of the bags is given to learning if this many times as many are clean as the promise needs at least. It costs
a tenth to a fifth of the recall where the scores of classes have one scale, and gains as much where they differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One rate that stays below its limit on new scans with the stated confidence, if `thresholds_K` hold one."""

    subject: str
    """`false_alarms_per_1000`, or the class whose misses are limited."""
    max_rate: float
    """Limit of the rate, in [0, 1]."""
    num_bags: int
    """Bags that the promise was tested on: clean ones, or such that hold the class."""
    num_wrong: int | None
    """Of these with a false alarm, or missed; None if no threshold keeps the promise."""
    upper_bound: float | None
    """Upper bound of the rate at the confidence."""
    num_needed: int
    """Bags that it takes at least, with none of them wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """Thresholds, NEVER for a class without one, and what is promised of them."""

    thresholds_K: FloatArray
    rule: str
    """`joint` (learnt on a part of the bags, tested on the others), `any_item` or `per_class`."""
    promises: tuple[Promise, ...]

    @property
    def is_kept(self) -> bool:
        """Whether every promise has its threshold."""
        return all(promise.num_wrong is not None for promise in self.promises)


def limit_false_alarms(bags: Bags, max_rate: float, confidence: float, learn_G: npt.NDArray[np.bool_]) -> Guarantee:
    """Return thresholds with at most `max_rate` of clean bags alarmed, by any class, with the stated confidence.

    With many clean bags the distances between the classes' thresholds are learnt jointly on the bags of `learn_G`, and
    all are raised or lowered together on the others, as far as the bound allows. Else one threshold for all classes is
    found on all bags. Either way one number is chosen, by an order statistic, so the bound needs no correction.

    Source:
        Bates et al., "Distribution-Free, Risk-Controlling Prediction Sets" (2021); learning on other bags than are
        tested: Angelopoulos et al., "Learn then Test" (2021), Section 4.
    """
    needed = count_needed(max_rate, confidence)
    is_scored_K = (bags.logits_GK > -np.inf).any(axis=0)
    rule, tested, shape_K = "any_item", bags, np.where(is_scored_K, 0.0, NEVER)
    if np.count_nonzero(bags.is_clean_G) >= LEARN_FROM * needed and bags.logits_GK.shape[1] > 1:
        learnt_K = plan_jointly(_select(bags, learn_G), 1000 * max_rate).thresholds_K
        if (learnt_K < NEVER).any():
            rule, tested, shape_K = "joint", _select(bags, ~learn_G), learnt_K
    num_clean = int(np.count_nonzero(tested.is_clean_G))
    allowed = count_allowed(num_clean, max_rate, confidence)
    thresholds_K = shift_thresholds(shape_K, tested, allowed)
    num_false = apply_thresholds(tested, thresholds_K).num_false if allowed >= 0 else None
    promise = _promise(FALSE_ALARMS, max_rate, confidence, num_clean, num_false)
    return Guarantee(thresholds_K=thresholds_K, rule=rule, promises=(promise,))


def shift_thresholds(shape_K: FloatArray, bags: Bags, allowed: int) -> FloatArray:
    """Return thresholds at the distances of `shape_K`, as low as at most `allowed` clean bags alarm; -1: NEVER."""
    used_K = shape_K < NEVER
    excess_G = (bags.logits_GK[:, used_K] - shape_K[used_K]).max(axis=1)
    thresholds_K = shape_K + threshold_of_highest(excess_G, excess_G[bags.is_clean_G], allowed)
    while allowed >= 0 and apply_thresholds(bags, thresholds_K).num_false > allowed:
        thresholds_K = np.nextafter(thresholds_K, np.inf)  # the sum was rounded down onto a score
    return thresholds_K


def limit_misses(bags: Bags, max_rates: Mapping[int, float], confidence: float) -> Guarantee:
    """Return for each class the highest threshold with at most this share of its bags missed.

    The confidence is that all promises hold together: each is tested at a share of the error (Bonferroni).

    Args:
        bags: with known labels.
        max_rates: limits by class index; the other classes have no threshold.
        confidence: of all promises.
    """
    thresholds_K = np.full(bags.logits_GK.shape[1], NEVER)
    each = 1 - (1 - confidence) / len(max_rates)
    promises = []
    for k, max_rate in max_rates.items():
        scores_P = np.sort(bags.logits_GK[bags.present_GK[:, k], k].astype(np.float64))
        allowed = count_allowed(len(scores_P), max_rate, each)
        num_missed = None
        if 0 <= allowed < len(scores_P) and scores_P[allowed] > -np.inf:  # a bag without a score is always missed
            thresholds_K[k] = _between_lower(bags.logits_GK[:, k], scores_P[allowed])
            num_missed = int(np.count_nonzero(scores_P < thresholds_K[k]))
        promises.append(_promise(str(k), max_rate, each, len(scores_P), num_missed))
    return Guarantee(thresholds_K=thresholds_K, rule="per_class", promises=tuple(promises))


def count_needed(max_rate: float, confidence: float) -> int:
    """Return how many bags, none of them wrong, it takes to promise a rate."""
    return int(np.ceil(np.log(1 - confidence) / np.log1p(-max_rate) - 1e-9))


def count_allowed(num_bags: int, max_rate: float, confidence: float) -> int:
    """Return how many of the bags may be wrong so that their rate's upper bound is at most `max_rate`; -1: none."""
    from scipy.stats import binom  # half a second, and a report without a promise does without

    # The largest k with P(Binomial(n, max_rate) <= k) <= 1 - confidence.
    k = int(binom.ppf(1 - confidence, num_bags, max_rate))
    while k >= 0 and binom.cdf(k, num_bags, max_rate) > 1 - confidence:
        k -= 1
    return k


def upper_bound(num_wrong: int, num_bags: int, confidence: float) -> float:
    """Return the one-sided upper bound of Clopper and Pearson."""
    return 1.0 if num_wrong >= num_bags else float(special.betaincinv(num_wrong + 1, num_bags - num_wrong, confidence))


def threshold_of_highest(values_G: npt.NDArray[np.floating], scores_M: npt.NDArray[np.floating], allowed: int) -> float:
    """Return the lowest threshold at which at most `allowed` of the scores alarm, between two of `values_G`."""
    if allowed < 0:
        return NEVER
    if allowed >= len(scores_M):
        return float(values_G.min())
    limit = float(np.partition(scores_M, len(scores_M) - allowed - 1)[len(scores_M) - allowed - 1])
    above_G = values_G[values_G > limit]
    if not len(above_G):
        return float(np.nextafter(np.float64(limit), np.inf))
    return _middle(limit, float(above_G.min()))


def _select(bags: Bags, chosen_G: npt.NDArray[np.bool_]) -> Bags:
    return Bags(bags.logits_GK[chosen_G], bags.present_GK[chosen_G], bags.is_clean_G[chosen_G])


def _promise(subject: str, max_rate: float, confidence: float, num_bags: int, num_wrong: int | None) -> Promise:
    return Promise(
        subject=subject,
        max_rate=max_rate,
        num_bags=num_bags,
        num_wrong=num_wrong,
        upper_bound=None if num_wrong is None else upper_bound(num_wrong, num_bags, confidence),
        num_needed=count_needed(max_rate, confidence),
    )


def _between_lower(values_G: npt.NDArray[np.floating], score: float) -> float:
    below_G = values_G[values_G < score]
    return _middle(float(below_G.max()), score) if len(below_G) and score < NEVER else score


def _middle(low: float, high: float) -> float:
    middle = low + (high - low) / 2 if low > -np.inf else high
    return middle if low < middle else high
