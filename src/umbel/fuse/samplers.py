"""Where a search looks next: an evolution strategy, or trees of Parzen estimators; the same points again for a seed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from jaxtyping import Float

from umbel.errors import UserError
from umbel.fuse.space import REACH

Point = Float[np.ndarray, "numbers"]
STEP = 1.0    # of the first generation, in logarithms
WIDEST = 200  # points of a generation


class Sampler(ABC):
    """Asked for some points, told how bad each is; only the order of what it is told matters to it."""

    @abstractmethod
    def ask(self) -> list[Point]:
        """The next points, to be told of together."""

    @abstractmethod
    def tell(self, points: Sequence[Point], losses: Sequence[float]) -> None:
        """How bad they are."""


@final
class Cma(Sampler):
    """Covariance matrix adaptation (Hansen, https://arxiv.org/abs/1604.00772); once it has converged it begins anew with twice the points.

    :raises UserError: if the library is not installed.
    """

    def __init__(self, size: int, seed: int) -> None:
        try:
            import cma
        except ImportError:
            raise UserError("umbel fuse: cma is not installed", mend="pip install 'umbel[fuse]', or use --set method=tpe") from None
        self._library: Any = cma
        self._random = np.random.default_rng(seed)
        self._padded = max(2, size)  # it does not search along a line: a second number that nobody reads
        self._size, self._points = size, 0
        self._begin(np.zeros(self._padded))

    def ask(self) -> list[Point]:
        """A generation."""
        if self._strategy.stop():
            self._points = min(2 * self._points, WIDEST)
            self._begin(self._random.uniform(-REACH / 2, REACH / 2, self._padded))
        self._asked = self._strategy.ask()
        return [np.asarray(one[: self._size]) for one in self._asked]

    def tell(self, points: Sequence[Point], losses: Sequence[float]) -> None:
        """Of a whole generation; of the rest of a budget nothing is learned."""
        if len(losses) == len(self._asked):
            self._strategy.tell(self._asked, list(losses))

    def _begin(self, start: Point) -> None:
        options: dict[str, object] = {"bounds": [-REACH, REACH], "verbose": -9, "verb_log": 0, "seed": np.nan, "randn": self._normal}
        if self._points:
            options["popsize"] = self._points
        self._strategy = self._library.CMAEvolutionStrategy(start, STEP, options)
        self._points = int(self._strategy.popsize)

    def _normal(self, *shape: int) -> Float[np.ndarray, "..."]:
        return self._random.standard_normal(shape)


@final
class Tpe(Sampler):
    """Trees of Parzen estimators (Bergstra et al., https://papers.nips.cc/paper/4443), one point at a time.

    :raises UserError: if the library is not installed.
    """

    def __init__(self, size: int, seed: int) -> None:
        try:
            import optuna
        except ImportError:
            raise UserError("umbel fuse: optuna is not installed", mend="pip install 'umbel[tune]', or use --set method=cma") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, multivariate=False))
        self._names = [str(place) for place in range(size)]
        self._space: dict[str, Any] = {name: optuna.distributions.FloatDistribution(-REACH, REACH) for name in self._names}

    def ask(self) -> list[Point]:
        """One point."""
        self._trial = self._study.ask(self._space)
        return [np.array([self._trial.params[name] for name in self._names])]

    def tell(self, points: Sequence[Point], losses: Sequence[float]) -> None:
        """Of that point."""
        self._study.tell(self._trial, losses[0])


METHODS: Mapping[str, type[Cma] | type[Tpe]] = {"cma": Cma, "tpe": Tpe}
