"""Boosted trees for every kind of task: which models a kind needs, and what they answer as the outputs of that kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from umbel.kinds import Binary, LogNormal, MultiClass, Ordinal, Poisson, Quantile, Regression, TaskKind, Tweedie, ZeroInflated

TREES = 500      # at most; early stopping on validation finds how many
PATIENCE = 20    # trees without a gain
LEAVES = 31      # at most, in each tree
TINY = 1e-9      # the least chance, mean or gap between quantiles
Matrix = Float[np.ndarray, "rows columns"]
Outputs = Float[np.ndarray, "rows outputs"]


@dataclass(frozen=True, slots=True)
class Forest:
    """What a task's trees make of rows, as outputs of its kind, and how many trees they are."""

    outputs: Callable[[Matrix], Outputs]
    trees: int


@dataclass(frozen=True, slots=True)
class Rows:
    """One task's rows to learn from and to stop by, which columns hold categories, and how to grow."""

    x: Matrix
    y: Float[np.ndarray, "rows"]
    x_valid: Float[np.ndarray, "held columns"]
    y_valid: Float[np.ndarray, "held"]
    categories: Bool[np.ndarray, "columns"]
    rate: float
    seed: int

    def classes(self) -> Any:  # noqa: ANN401
        """scikit-learn's classifier of the labels."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        return self._grown(HistGradientBoostingClassifier, {})

    def numbers(self, loss: str = "squared_error", *, quantile: float | None = None) -> Any:  # noqa: ANN401
        """scikit-learn's regressor of the labels."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        return self._grown(HistGradientBoostingRegressor, {"loss": loss, "quantile": quantile})

    def where(self, own: Callable[[Float[np.ndarray, "some"]], Bool[np.ndarray, "some"]]) -> Rows:
        """The rows whose labels are so."""
        one, other = own(self.y), own(self.y_valid)
        return replace(self, x=self.x[one], y=self.y[one], x_valid=self.x_valid[other], y_valid=self.y_valid[other])

    def told(self, label: Callable[[Float[np.ndarray, "some"]], Float[np.ndarray, "some"]]) -> Rows:
        """The same rows with another label, made of theirs."""
        return replace(self, y=label(self.y), y_valid=label(self.y_valid))

    def _grown(self, make: Any, how: Mapping[str, object]) -> Any:  # noqa: ANN401
        model = make(learning_rate=self.rate, categorical_features=self.categories, random_state=self.seed, max_iter=TREES,
                     max_leaf_nodes=LEAVES, early_stopping=True, n_iter_no_change=PATIENCE, **how)
        return model.fit(self.x, self.y, X_val=self.x_valid, y_val=self.y_valid)


@singledispatch
def forest(kind: TaskKind, rows: Rows) -> Forest:
    """The trees of a task of that kind.

    :raises NotImplementedError: for a kind that has none here.
    """
    raise NotImplementedError(kind.name)


@forest.register(Binary)
def _(kind: Binary, rows: Rows) -> Forest:
    """Log-odds."""
    model = rows.classes()
    return Forest(lambda x: model.decision_function(x)[:, None], model.n_iter_)


@forest.register(Regression)
def _(kind: Regression, rows: Rows) -> Forest:
    """The mean."""
    model = rows.numbers()
    return Forest(lambda x: model.predict(x)[:, None], model.n_iter_)


@forest.register(Poisson)
@forest.register(Tweedie)
def _(kind: Poisson | Tweedie, rows: Rows) -> Forest:
    """The logarithm of the mean, by Poisson's deviance: scikit-learn's trees have no Tweedie's, and means are asked for."""
    model = rows.numbers("poisson")
    return Forest(lambda x: np.log(np.maximum(model.predict(x), TINY))[:, None], model.n_iter_)


@forest.register(LogNormal)
def _(kind: LogNormal, rows: Rows) -> Forest:
    """The mean of the logarithm, and one spread for all: that of what validation leaves over."""
    logs = rows.told(np.log)
    model = logs.numbers()
    spread = _unsoftened(np.sqrt(np.mean((logs.y_valid - model.predict(logs.x_valid)) ** 2, keepdims=True)))
    return Forest(lambda x: np.stack([model.predict(x), np.repeat(spread, len(x))], 1), model.n_iter_)


@forest.register(ZeroInflated)
def _(kind: ZeroInflated, rows: Rows) -> Forest:
    """Log-odds of being above 0, and there a log-normal."""
    above = forest(Binary(), rows.told(lambda y: (y > 0).astype(np.float64)))
    amount = forest(LogNormal(), rows.where(lambda y: y > 0))
    return Forest(lambda x: np.concatenate([above.outputs(x), amount.outputs(x)], 1), above.trees + amount.trees)


@forest.register(Quantile)
def _(kind: Quantile, rows: Rows) -> Forest:
    """A regressor a level, put in order where they cross."""
    models = [rows.numbers("quantile", quantile=level) for level in kind.levels]

    def outputs(x: Matrix) -> Outputs:
        levels = np.maximum.accumulate(np.stack([model.predict(x) for model in models], 1), axis=1)
        return np.concatenate([levels[:, :1], _unsoftened(np.diff(levels))], 1)

    return Forest(outputs, sum(model.n_iter_ for model in models))


@forest.register(MultiClass)
def _(kind: MultiClass, rows: Rows) -> Forest:
    """Logarithms of chances; next to none for a class that no training row has."""
    model = rows.classes()
    return Forest(lambda x: np.log(_chances(model, x, kind.classes)), model.n_iter_ * kind.classes)


@forest.register(Ordinal)
def _(kind: Ordinal, rows: Rows) -> Forest:
    """Logits of being above each grade but the last, of a classifier of grades."""
    model = rows.classes()

    def outputs(x: Matrix) -> Outputs:
        above = np.clip(1 - np.cumsum(_chances(model, x, kind.grades), axis=1)[:, :-1], TINY, 1 - TINY)
        logits = np.log(above) - np.log1p(-above)
        return np.concatenate([logits[:, :1], _unsoftened(-np.diff(logits))], 1)

    return Forest(outputs, model.n_iter_ * kind.grades)


def _chances(model: Any, x: Matrix, classes: int) -> Float[np.ndarray, "rows classes"]:  # noqa: ANN401
    found = np.full((len(x), classes), TINY)
    found[:, model.classes_.astype(int)] = np.maximum(model.predict_proba(x), TINY)
    chances: Float[np.ndarray, "rows classes"] = found / found.sum(axis=1, keepdims=True)
    return chances


def _unsoftened(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """z such that `softplus(z) = x`."""
    least = np.maximum(x, TINY)
    z: Float[np.ndarray, "*shape"] = least + np.log(-np.expm1(-least))
    return z
