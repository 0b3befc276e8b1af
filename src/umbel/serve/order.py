"""From fused scores to an order, position by position: a softmax over what is left, with the exact chance of each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float, Int

from umbel.errors import UserError

COLDEST = 1e-6  # of a temperature that is not 0


class Drawn(NamedTuple):
    """Places of candidates from the top, and the exact chance of each given those above it."""

    places: Int[np.ndarray, "positions"]
    propensities: Float[np.ndarray, "positions"]


@final
@dataclass(frozen=True, slots=True)
class Order:
    """At position k, of the candidates not yet shown, one is drawn with chance `softmax((s_i - penalty n_i) / temperature)`.

    `s_i` is the fused score, `n_i` how many of the items above are of the candidate's kind. Temperature 0 takes the greatest
    each time, of equal ones the first, with chance 1. Without a penalty the order is Plackett and Luce's.

    :raises UserError: for a temperature that is neither 0 nor from 1e-6 on, or a negative penalty.

    Example
    -------
    >>> Order(penalty=0.3).draw(np.array([0.9, 0.8, 0.7]), 3, seed=0, kinds=np.array([5, 5, 6])).places.tolist()
    [0, 2, 1]
    """

    temperature: float = 0.0
    penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.temperature != 0 and not COLDEST <= self.temperature < np.inf:
            raise UserError(f"temperature = {self.temperature:g}", mend=f"give 0, or a number from {COLDEST:g} on")
        if not 0 <= self.penalty < np.inf:
            raise UserError(f"penalty = {self.penalty:g}", mend="give 0 or more")

    def draw(
        self, fused: Float[np.ndarray, "candidates"], count: int, *, seed: int, kinds: Int[np.ndarray, "candidates"] | None = None,
    ) -> Drawn:
        """The first `count` positions (fewer where there are fewer candidates), the same ones for a seed."""
        count = min(count, len(fused))
        if self.penalty and kinds is not None:
            return self._stepwise(fused, count, seed=seed, kinds=kinds)
        if not self.temperature:
            return Drawn(np.argsort(-fused, kind="stable")[:count], np.ones(count))
        logits = fused / self.temperature
        # Scores with Gumbel noise, sorted, are a draw of Plackett and Luce (Yellott, 1977, https://doi.org/10.1016/0022-2496(77)90026-8).
        order = np.argsort(-(logits + np.random.default_rng(seed).gumbel(size=len(logits))), kind="stable")
        ranked = logits[order]
        left = np.logaddexp.accumulate(ranked[::-1])[::-1]
        return Drawn(order[:count], np.exp(ranked - left)[:count])

    def _stepwise(
        self, fused: Float[np.ndarray, "candidates"], count: int, *, seed: int, kinds: Int[np.ndarray, "candidates"],
    ) -> Drawn:
        _, kind = np.unique(kinds, return_inverse=True)
        shown = np.zeros(kind.max(initial=0) + 1)
        left = np.ones(len(fused), dtype=bool)
        draws = np.random.default_rng(seed).random(count)
        places, chances = np.empty(count, np.int64), np.ones(count)
        for position in range(count):
            score = np.where(left, fused - self.penalty * shown[kind], -np.inf)
            if self.temperature:
                chance = np.exp((score - score.max()) / self.temperature)
                chance /= chance.sum()
                places[position] = _pick(chance, draws[position])
                chances[position] = chance[places[position]]
            else:
                places[position] = score.argmax()
            left[places[position]] = False
            shown[kind[places[position]]] += 1
        return Drawn(places, chances)


def _pick(chance: Float[np.ndarray, "candidates"], at: float) -> int:
    """The candidate in whose share of [0, 1) a number falls: never one without a share."""
    ends = np.cumsum(chance)
    return int(np.searchsorted(ends, at * ends[-1], side="right").clip(max=np.flatnonzero(chance)[-1]))
