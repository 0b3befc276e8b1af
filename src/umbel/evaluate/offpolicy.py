"""What another policy would have earned, from the log of one that drew with known chances; refused where that log cannot say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
from jaxtyping import Bool, Float, Int

from umbel.evaluate.intervals import Interval, Sampled, resample, resampled_sums, user_sums
from umbel.evaluate.metrics import Undefined

CLIP = 10.0           # the greatest weight of clipped IPS
FEWEST, SHARE = 100, 0.01  # the least effective sample: so many decisions, and this share of them
APART = 0.1           # the mean weight may be so far from 1
OUTSIDE = 0.01        # the target's chance, on the average, of what the log can never show
UNKNOWN = 0.5         # the share of decisions that may be left out
Terms = tuple[Float[np.ndarray, "decisions parts"], Float[np.ndarray, "decisions parts"]]


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the reward: of what was shown at each position, and the mean over what the target would show there given what is above."""

    shown: Float[np.ndarray, "decisions positions"]
    expected: Float[np.ndarray, "decisions positions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """Decisions, position by position: the reward, and the chance of what was shown given what stands above, under both policies.

    A decision without an order has one position. Where a list ends early its reward is 0 and both chances are 1. NaN is an unknown
    chance or reward: the decision is left out and counted. `outside` is the chance that the target shows something which the logging
    policy never would (0 where it is not given).
    """

    reward: Float[np.ndarray, "decisions positions"]
    logging: Float[np.ndarray, "decisions positions"]
    target: Float[np.ndarray, "decisions positions"]
    user: Int[np.ndarray, "decisions"]
    model: Model | None = None
    outside: Float[np.ndarray, "decisions"] | None = None

    def whole(self) -> Logged:
        """Every list as one action: a reward may then depend on all that is shown, at the price of greater weights. Without a model."""
        reward, logging, target = self.reward.sum(1), self.logging.prod(1), self.target.prod(1)
        return Logged(
            reward=reward[:, None], logging=logging[:, None], target=target[:, None], user=self.user, outside=self.outside
        )  # fmt: skip

    def where(self, rows: Bool[np.ndarray, "decisions"]) -> Logged:
        """Some of the decisions."""
        model = None if self.model is None else Model(self.model.shown[rows], self.model.expected[rows])
        outside = None if self.outside is None else self.outside[rows]
        return Logged(
            reward=self.reward[rows], logging=self.logging[rows], target=self.target[rows], user=self.user[rows], model=model,
            outside=outside,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Weighed:
    """Decisions with their importance weights: of the list down to each position, and of what stands above it."""

    reward: Float[np.ndarray, "decisions positions"]
    weight: Float[np.ndarray, "decisions positions"]
    above: Float[np.ndarray, "decisions positions"]
    model: Model | None
    clip: float

    @staticmethod
    def of(logged: Logged, clip: float) -> Weighed:
        """The weights `w_k = prod_{j <= k} target_j / logging_j`."""
        weight = np.cumprod(logged.target / logged.logging, axis=1)
        above = np.concatenate([np.ones((len(weight), 1)), weight[:, :-1]], axis=1)
        return Weighed(logged.reward, weight, above, logged.model, clip)


@dataclass(frozen=True, slots=True)
class Weights:
    """How far a log carries: decisions used and left out (why), effective sample, mean and greatest weight of a list, clipped share."""

    used: int
    excluded: Mapping[str, int]
    effective: float
    mean: Interval
    largest: float
    clipped: float


@dataclass(frozen=True, slots=True)
class OffPolicy:
    """Estimates of the target's value by name, with 95 % over users, or why there are none; `logging` is what the log itself earned.

    `draws` are the resampled values behind them, for differences draw by draw.
    """

    estimates: Mapping[str, Interval | Undefined]
    weights: Weights
    draws: Mapping[str, Sampled]


def estimate(logged: Logged, *, resamples: int = 200, seed: int = 0, clip: float = CLIP) -> OffPolicy:
    """The value of the target, the mean over decisions of the rewards summed over positions, by every estimator there is.

    Position k weighs by the chances of the list down to it: unbiased where a reward does not depend on what stands below
    (McInerney et al., KDD 2020, https://arxiv.org/abs/2007.12986); `logged.whole()` drops that. All estimators are refused together:

    - fewer than 10 users, or more than half of the decisions without chances or rewards;
    - a chance that is none;
    - on the average more than 1 % of the target's chance on what the log never shows;
    - an effective sample `(sum w)^2 / sum w^2` under 100, or under 1 % of the decisions;
    - a mean weight further than .1 from 1, where its interval does not hold 1: the chances are not those of what was shown.

    Example
    -------
    >>> draw = np.random.default_rng(1)
    >>> shown = draw.random((4000, 1)) < 0.5
    >>> same = Logged(reward=1.0 * shown, logging=np.full((4000, 1), 0.5), target=np.where(shown, 0.8, 0.2), user=np.arange(4000))
    >>> round(estimate(same).estimates["snips"].value, 2)
    0.8
    """
    known, excluded = _known(logged)
    kept = logged.where(known)
    refused = _refused_before(kept, known)
    if refused is not None:
        nothing = Weights(int(known.sum()), excluded, 0.0, Interval(0.0, None, None, refused.reason), 0.0, 0.0)
        return OffPolicy(dict.fromkeys((*ESTIMATORS, LOGGING), refused), nothing, {})
    weighed, by = Weighed.of(kept, clip), resample(kept.user, resamples=resamples, seed=seed)
    last = weighed.weight[:, -1:]

    def follow(terms: Terms) -> Sampled:
        above, below = (resampled_sums(user_sums(list(one.T), by), by) for one in terms)
        with np.errstate(invalid="ignore", divide="ignore"):
            return Sampled(_value(terms), (above / below).sum(1), by.users)

    mean = follow((last, np.ones_like(last))).interval()
    effective = effective_sample(last[:, 0])
    weights = Weights(len(last), excluded, effective, mean, float(last.max()), float((last > clip).mean()))
    refused = _refused(kept, weights)
    draws = {} if refused else {name: follow(one(weighed)) for name, one in ESTIMATORS.items() if kept.model or name not in MODELLED}
    draws[LOGGING] = follow(_logging(weighed))
    lacking = refused or Undefined("no model of the reward")
    answers = {name: draws[name].interval() if name in draws else lacking for name in (*ESTIMATORS, LOGGING)}
    return OffPolicy(answers, weights, draws)


def value(logged: Logged, name: str, *, clip: float = CLIP) -> float:
    """One estimator's value of decisions without NaN, with no question asked: for a search, whose outcome `estimate` then judges."""
    return _value(ESTIMATORS[name](Weighed.of(logged, clip)))


def deviations(weighed: Weighed, name: str) -> Float[np.ndarray, "decisions"]:
    """How much each decision moves an estimator's value, by its linear approximation: their sum has the value's standard error."""
    above, below = ESTIMATORS[name](weighed)
    total = below.sum(0)
    moved: Float[np.ndarray, "decisions"] = ((above - below * (above.sum(0) / total)) / total).sum(1)
    return moved


def effective_sample(weight: Float[np.ndarray, "decisions"]) -> float:
    """How many decisions of weight 1 would tell as much: `(sum w)^2 / sum w^2`."""
    most = weight.max(initial=0.0)
    if not most:
        return 0.0
    share = weight / most  # the squares of weights below 1e-162 would all be 0
    return float(share.sum() ** 2 / np.square(share).sum())


def _ips(one: Weighed) -> Terms:
    """Inverse propensity: `mean_n sum_k w_k r_k`, unbiased where the target shows nothing that the log never does."""
    return _mean((one.weight * one.reward).sum(1))


def _clipped_ips(one: Weighed) -> Terms:
    """Weights are held at `clip`: less variance, and a bias towards 0 of what was cut off."""
    return _mean((np.minimum(one.weight, one.clip) * one.reward).sum(1))


def _snips(one: Weighed) -> Terms:
    """Self-normalised (Swaminathan & Joachims, NIPS 2015): `sum_k (sum_n w_k r_k / sum_n w_k)`; a constant in rewards comes out exactly."""
    return one.weight * one.reward, one.weight


def _dm(one: Weighed) -> Terms:
    """What the model says: `mean_n sum_k w_{k-1} E[q_k]`, of one position without any weight; as wrong as the model is."""
    assert one.model is not None
    return _mean((one.above * one.model.expected).sum(1))


def _dr(one: Weighed) -> Terms:
    """Doubly robust (Dudik et al., ICML 2011): the model, and the weighted error of it; unbiased if chances or model are right."""
    assert one.model is not None
    return _mean((one.above * one.model.expected + one.weight * (one.reward - one.model.shown)).sum(1))


def _logging(one: Weighed) -> Terms:
    return _mean(one.reward.sum(1))


ESTIMATORS: Mapping[str, Callable[[Weighed], Terms]] = {
    "ips": _ips, "clipped_ips": _clipped_ips, "snips": _snips, "dm": _dm, "dr": _dr,
}  # fmt: skip
MODELLED = frozenset({"dm", "dr"})
LOGGING = "logging"


def _mean(values: Float[np.ndarray, "decisions"]) -> Terms:
    return values[:, None], np.ones((len(values), 1))


def _value(terms: Terms) -> float:
    above, below = (one.sum(0) for one in terms)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float((above / below).sum())


def _known(logged: Logged) -> tuple[Bool[np.ndarray, "decisions"], dict[str, int]]:
    """The decisions that can be used, and why the others cannot."""
    drawn = ~np.isnan(logged.logging).any(1)
    rewarded = ~np.isnan(logged.reward).any(1)
    counts = {"no propensity": int((~drawn).sum()), "no reward": int((drawn & ~rewarded).sum())}
    return drawn & rewarded, {reason: count for reason, count in counts.items() if count}


def _refused_before(kept: Logged, known: Bool[np.ndarray, "decisions"]) -> Undefined | None:
    """Why no weight can be made, with the number that says so."""
    if not len(known):
        return Undefined("no decision")
    lost = int((~known).sum())
    if lost > UNKNOWN * len(known):
        return Undefined(f"{lost:,} of {len(known):,} decisions have no propensity or reward (at most {UNKNOWN:.0%} may lack one)")
    for name, chances, wrong in (
        ("logging", kept.logging, ~((kept.logging > 0) & (kept.logging <= 1))),
        ("target", kept.target, ~((kept.target >= 0) & (kept.target <= 1))),
    ):
        if wrong.any():
            return Undefined(f"{int(wrong.sum()):,} {name} propensities are none, such as {chances[wrong][0]:g}")
    return None


def too_few(effective: float, decisions: int) -> Undefined | None:
    """Why an effective sample of so many decisions does not carry; None where it does."""
    least = max(FEWEST, SHARE * decisions)
    if effective >= least:
        return None
    return Undefined(f"effective sample size {effective:,.0f} of {decisions:,} decisions (at least {least:,.0f})")


def _refused(kept: Logged, weights: Weights) -> Undefined | None:
    """Why weights do not carry, with the number that says so."""
    if kept.outside is not None and kept.outside.mean() > OUTSIDE:
        what = f"support: on the average {kept.outside.mean():.1%} of the target's chance is on what the log never shows"
        return Undefined(f"{what} (at most {OUTSIDE:.0%})")
    if (refused := too_few(weights.effective, weights.used)) is not None:
        return refused
    mean = weights.mean
    if mean.low is None or mean.high is None:
        return Undefined(mean.reason)
    if abs(mean.value - 1) > APART and not mean.low <= 1 <= mean.high:
        what = f"mean weight {mean.value:.3f} ({mean.low:.3f} to {mean.high:.3f}), not 1"
        return Undefined(f"{what}: the chances are not those of what was shown")
    return None


def standard_error(moved: Float[np.ndarray, "decisions"], user: Int[np.ndarray, "decisions"]) -> float:
    """The standard error of a sum of such deviations, users independent of each other."""
    _, code = np.unique(user, return_inverse=True)
    sums = np.bincount(code.reshape(-1), moved)
    return sqrt(float(np.square(sums).sum()))
