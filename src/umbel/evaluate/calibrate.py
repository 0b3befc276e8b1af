"""From logits to probabilities that mean what they say: Platt, isotonic, or linear for numbers; saved as plain JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from umbel.errors import UserError
from umbel.evaluate.rescale import Scaled, Shifted, Tempered

FEWEST_FOR_ISOTONIC = 1000
FEWEST_FOR_LINEAR = 100
FLOOR = 1e-9
_GENTLEST = 1e-3


@runtime_checkable
class Calibrator(Protocol):
    """A function that changes no order, in float64: of the output of a binary or regression task, of the answers of another."""

    kind: ClassVar[str]

    def __call__(self, given: Float[np.ndarray, "rows *answers"], /) -> Float[np.ndarray, "rows *answers"]:
        """Probabilities or predictions."""
        ...


@dataclass(frozen=True, slots=True)
class Platt:
    """`p = sigmoid(slope * logit + intercept)`; slope 1 and intercept 0 is the model's own probability (Platt, 1999)."""

    kind: ClassVar[str] = "platt"
    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, logits: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        """Probabilities, held `FLOOR` away from 0 and 1."""
        return _held(_sigmoid(self.slope * logits.astype(np.float64) + self.intercept))


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Straight lines between the centres of isotonic regression's blocks, and a logistic curve beyond the outermost.

    Plain isotonic regression is flat inside a block and would tie what the model ranks. With one knot at each block's
    mean logit (centred isotonic regression, Oron & Flournoy, 2017) the curve rises strictly. Beyond the outer knots the
    log-odds go on with `slope`.
    """

    kind: ClassVar[str] = "isotonic"
    logit: tuple[float, ...]
    probability: tuple[float, ...]
    slope: float

    def __call__(self, logits: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        """Probabilities, held `FLOOR` away from 0 and 1."""
        x = logits.astype(np.float64)
        p = np.interp(x, self.logit, self.probability)
        for outside, at in ((x < self.logit[0], 0), (x > self.logit[-1], -1)):
            p[outside] = _sigmoid(_logit(self.probability[at]) + self.slope * (x[outside] - self.logit[at]))
        return _held(p)


@dataclass(frozen=True, slots=True)
class Linear:
    """`prediction = slope * output + intercept`, for a regression."""

    kind: ClassVar[str] = "linear"
    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, logits: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        """Predictions in the label's unit."""
        return self.slope * logits.astype(np.float64) + self.intercept


@dataclass(frozen=True, slots=True)
class Identity:
    """The output or the answers as they are, where there are too few rows to mend them."""

    kind: ClassVar[str] = "identity"

    def __call__(self, logits: Float[np.ndarray, "rows *answers"]) -> Float[np.ndarray, "rows *answers"]:
        """The same numbers."""
        return logits.astype(np.float64)


Saved = Platt | Isotonic | Linear | Identity | Scaled | Shifted | Tempered
CALIBRATORS: dict[str, type[Saved]] = {kind.kind: kind for kind in (Platt, Isotonic, Linear, Identity, Scaled, Shifted, Tempered)}


def fit_event(logits: Float[np.ndarray, "rows"], labels: Float[np.ndarray, "rows"]) -> Platt | Isotonic:
    """The calibrator of an event: Platt under 1,000 rows of the rarer class, isotonic from there on.

    With one class, or nothing that ranks, the model's own probability stays.
    """
    positives = int((labels == 1).sum())
    rarer = min(positives, len(labels) - positives)
    if not rarer:
        return Platt()
    return fit_isotonic(logits, labels) if rarer >= FEWEST_FOR_ISOTONIC else fit_platt(logits, labels)


def fit_platt(logits: Float[np.ndarray, "rows"], labels: Float[np.ndarray, "rows"]) -> Platt:
    """Logistic regression on the logit by Newton's method, on Platt's targets `(n+ + 1)/(n+ + 2)` and `1/(n- + 2)`.

    The targets keep the slope finite where the classes are separable. A slope under 0.001 (a model that ranks
    backwards or not at all) is held there, so that calibration never turns the order round.
    """
    positive = labels == 1
    count = positive.sum()
    target = np.where(positive, (count + 1) / (count + 2), 1 / (len(labels) - count + 2))
    x = logits.astype(np.float64)
    slope, intercept = _newton(np.stack([x, np.ones_like(x)], axis=1), target)
    if slope >= _GENTLEST:
        return Platt(float(slope), float(intercept))
    return Platt(_GENTLEST, float(_newton(np.ones((len(x), 1)), target, offset=_GENTLEST * x)[0]))


def fit_isotonic(logits: Float[np.ndarray, "rows"], labels: Float[np.ndarray, "rows"]) -> Isotonic | Platt:
    """Isotonic regression by scikit-learn, one knot at each block's centre; outer blocks of 0 or 1 are drawn in.

    An outer block of n rows without a positive is given `0.5 / (n + 1)`, or half of the next block's rate if that is
    less. The slope beyond the knots is Platt's on the same rows; where nothing rises, so that there is one block, Platt's
    curve is all.
    """
    from sklearn.isotonic import isotonic_regression

    x, place = np.unique(logits.astype(np.float64), return_inverse=True)
    weight = np.bincount(place).astype(np.float64)
    rate = np.bincount(place, labels.astype(np.float64)) / weight
    fitted = np.asarray(isotonic_regression(rate, sample_weight=weight, y_min=0.0, y_max=1.0), dtype=np.float64)
    block = np.cumsum(np.append(0, np.diff(fitted) > 0))
    size = np.bincount(block, weight)
    knots = np.bincount(block, weight * x) / size
    rates = fitted[np.searchsorted(block, np.arange(len(size)))]
    tails = fit_platt(logits, labels)
    if len(rates) < 2:
        return tails
    if rates[0] <= 0:
        rates[0] = min(0.5 / (size[0] + 1), rates[1] / 2)
    if rates[-1] >= 1:
        rates[-1] = max(1 - 0.5 / (size[-1] + 1), (1 + rates[-2]) / 2)
    return Isotonic(tuple(knots.tolist()), tuple(rates.tolist()), tails.slope)


def fit_linear(outputs: Float[np.ndarray, "rows"], labels: Float[np.ndarray, "rows"]) -> Linear | Identity:
    """A least-squares line from 100 rows on, through the means.

    Where it does not rise (a model that ranks backwards, or says one number) it is held at a slope by which predictions vary a
    thousandth as much as outputs or labels do, so that calibration never turns the order round and the mean is right all the same.
    """
    x, y = outputs.astype(np.float64), labels.astype(np.float64)
    if len(x) < FEWEST_FOR_LINEAR or not np.isfinite(x).all():
        return Identity()
    spread, own = float(x.std()) if np.ptp(x) else 0.0, float(y.std())
    slope = float((x - x.mean()) @ (y - y.mean())) / (len(x) * spread**2) if spread else 0.0
    if not slope > 0:
        slope = _GENTLEST * min(1.0, own / spread) if spread and own else _GENTLEST
    return Linear(slope, float(y.mean() - slope * x.mean()))


def to_json(calibrator: Calibrator) -> dict[str, object]:
    """The calibrator as plain JSON; floats keep every bit, so a reloaded one answers the same."""
    assert isinstance(calibrator, Saved)
    return {"kind": calibrator.kind, **asdict(calibrator)}


def from_json(saved: Mapping[str, object]) -> Calibrator:
    """The calibrator `to_json` wrote; :raises UserError: on another kind or other keys."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in saved.items() if key != "kind"}
    make: Callable[..., Calibrator] | None = CALIBRATORS.get(str(saved.get("kind")))
    if make is None:
        raise UserError(f"calibrator: unknown kind {saved.get('kind')!r}", mend=f"known: {', '.join(sorted(CALIBRATORS))}")
    try:
        return make(**values)
    except TypeError as error:
        raise UserError(f"calibrator {saved.get('kind')!r}: {error}", mend="fit it again") from error


def _newton(
    design: Float[np.ndarray, "rows columns"], target: Float[np.ndarray, "rows"], *, offset: Float[np.ndarray, "rows"] | float = 0.0
) -> Float[np.ndarray, "columns"]:
    """Maximum likelihood of a logistic model with soft targets; halves a step that makes the likelihood worse."""
    weights: Float[np.ndarray, "columns"] = np.zeros(design.shape[1])
    ridge = 1e-12 * np.eye(len(weights)) * max(1.0, float(np.square(design).sum()))
    loss = _loss(design @ weights + offset, target)
    for _ in range(100):
        p = _sigmoid(design @ weights + offset)
        slope = design.T @ (target - p)
        step: Float[np.ndarray, "columns"] = np.linalg.solve(design.T @ (design * (p * (1 - p))[:, None]) + ridge, slope)
        if np.abs(step).max() < 1e-12 * (1 + np.abs(weights).max()):
            break
        scale = 1.0
        while (new := _loss(design @ (weights + scale * step) + offset, target)) > loss and scale > 1e-6:
            scale /= 2
        if new > loss:
            break
        weights, loss = weights + scale * step, new
    return weights


def _loss(logits: Float[np.ndarray, "rows"], target: Float[np.ndarray, "rows"]) -> float:
    return float((np.logaddexp(0.0, logits) - target * logits).sum())


def _sigmoid(x: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
    chance: Float[np.ndarray, "rows"] = np.exp(-np.logaddexp(0.0, -x))
    return chance


def _logit(p: float) -> float:
    return float(np.log(p) - np.log1p(-p))


def _held(p: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
    """Squeezed into the open interval; cutting off would tie the surest rows."""
    return FLOOR + (1 - 2 * FLOOR) * p
