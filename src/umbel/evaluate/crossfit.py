"""The calibrator a task gets on validation, and figures on those same rows that do not praise themselves."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from umbel.evaluate.calibrate import Calibrator
from umbel.evaluate.kinds import measures
from umbel.kinds import BINARY, TaskKind


def fit_calibrator(
    answers: Float[np.ndarray, "rows *answers"], labels: Float[np.ndarray, "rows"], *, kind: TaskKind = BINARY
) -> Calibrator:
    """The calibrator of these rows, as their kind has it; fitted on no rows where the model ran away (NaN)."""
    measured = measures(kind)
    if np.isnan(answers).any():
        return measured.fit(answers[:0], labels[:0])
    return measured.fit(answers, labels)


def cross_fitted(
    answers: Float[np.ndarray, "rows *answers"],
    labels: Float[np.ndarray, "rows"],
    groups: Int[np.ndarray, "rows"],
    *,
    use: Bool[np.ndarray, "rows"] | None = None,
    kind: TaskKind = BINARY,
    folds: int = 5,
) -> Float[np.ndarray, "rows *answers"]:
    """Each row calibrated by what was fitted on other users' rows: validation figures that do not praise themselves.

    Users are dealt to `folds` folds in rising raw id after a fixed shuffle. `use` marks the rows that may be fitted on
    (label seen, sample space holds); every row is calibrated.
    """
    users, code = np.unique(groups, return_inverse=True)
    fold = (np.random.default_rng(0).permutation(len(users)) % folds)[code.reshape(-1)]
    fit_on = np.ones(len(labels), dtype=bool) if use is None else use
    result = np.empty(answers.shape)
    for number in range(folds):
        held, rest = fold == number, (fold != number) & fit_on
        result[held] = fit_calibrator(answers[rest], labels[rest], kind=kind)(answers[held])
    return result
