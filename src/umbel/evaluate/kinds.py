"""What judges each kind of task: its metrics, the one number that stops training, and whether and how it is calibrated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, singledispatch

import numpy as np
import torch
from jaxtyping import Float

from umbel.evaluate import amounts, classes, metrics
from umbel.evaluate.calibrate import Calibrator, fit_event, fit_linear
from umbel.evaluate.figures import METRICS, REGRESSION_METRICS, Figures, Rows, binary_figures, regression_figures
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.rescale import fit_scaled, fit_shifted, fit_tempered
from umbel.evaluate.spread import (
    AMOUNTS,
    CLASSES,
    COUNTS,
    GRADES,
    QUANTILES,
    amount_figures,
    class_figures,
    count_figures,
    grade_figures,
    quantile_figures,
)
from umbel.kinds import Binary, LogNormal, MultiClass, Ordinal, Poisson, Quantile, Regression, TaskKind, Tweedie, ZeroInflated
from umbel.nn.kinds import link

Labels = Float[np.ndarray, "rows"]
Answers = Float[np.ndarray, "rows *answers"]


@dataclass(frozen=True, slots=True)
class Measures:
    """What judges a kind, on answers before calibration or after.

    `metrics` are the names of what `figures` finds, the one to judge by first; `primary` is the number that training is
    stopped by, higher is better and without a unit; `fit` finds the calibrator on validation. `linked` says whether
    calibration starts from the answers of the kind's link (a kind of one answer gives a plain column) or from its output.
    """

    metrics: tuple[str, ...]
    figures: Callable[[Rows], Figures]
    primary: Callable[[Labels, Answers], float | Undefined]
    fit: Callable[[Answers, Labels], Calibrator]
    linked: bool = True


@singledispatch
def measures(kind: TaskKind) -> Measures:
    """What judges this kind; :raises NotImplementedError: for a kind that nothing judges here."""
    raise NotImplementedError(kind.name)


def answers(kind: TaskKind, outputs: Float[np.ndarray, "rows outputs"]) -> Answers:
    """What calibration of this kind starts from: a column where the kind has one answer, else a column an answer; float64."""
    if not measures(kind).linked:
        return outputs[:, 0]
    found: Float[np.ndarray, "rows answers"] = link(kind, torch.from_numpy(outputs.astype(np.float64))).numpy()
    return found[:, 0] if found.shape[1] == 1 else found


@measures.register
def _(kind: Binary) -> Measures:
    """AUC first; Platt or isotonic on the logit."""
    return Measures(METRICS, binary_figures, metrics.auc, fit_event, linked=False)


@measures.register
def _(kind: Regression) -> Measures:
    """RMSE first; training is stopped by R2; a line on the output."""
    return Measures(REGRESSION_METRICS, regression_figures, metrics.r2, fit_linear, linked=False)


@measures.register(LogNormal)
@measures.register(ZeroInflated)
def _(kind: LogNormal | ZeroInflated) -> Measures:
    """The normalised Gini; the expectation is scaled."""
    return Measures(AMOUNTS, amount_figures, amounts.gini, fit_scaled)


@measures.register
def _(kind: Poisson) -> Measures:
    """Explained Poisson deviance; the mean is scaled."""
    return Measures(COUNTS, partial(count_figures, power=1.0), partial(amounts.explained_deviance, power=1.0), fit_scaled)


@measures.register
def _(kind: Tweedie) -> Measures:
    """Explained deviance of its own power; the mean is scaled."""
    own = partial(amounts.explained_deviance, power=kind.power)
    return Measures(COUNTS, partial(count_figures, power=kind.power), own, fit_scaled)


@measures.register
def _(kind: Quantile) -> Measures:
    """Explained pinball loss; each quantile is shifted until its level holds."""
    own = partial(amounts.explained_pinball, levels=kind.levels)
    return Measures(QUANTILES, partial(quantile_figures, levels=kind.levels), own, partial(fit_shifted, levels=kind.levels))


@measures.register
def _(kind: Ordinal) -> Measures:
    """Explained log-loss; chances are tempered."""
    return Measures(GRADES, grade_figures, classes.explained_logloss, fit_tempered)


@measures.register
def _(kind: MultiClass) -> Measures:
    """Explained log-loss; chances are tempered."""
    return Measures(CLASSES, class_figures, classes.explained_logloss, fit_tempered)
