"""From a request to a ranked answer: fields put together, predicted, calibrated, fused, ordered; less and less of it as time runs out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float, Int

from umbel.errors import UserError
from umbel.fusion import Fusion
from umbel.serve.order import Order
from umbel.serve.records import Candidates, Decision, Rung, Shown, Value
from umbel.serve.served import Served

CHUNK = 256      # candidates scored between two looks at the clock
ANSWERS = 4_096  # earlier answers kept
Raw = Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request to rank, with all that is known of its user and items: `user` is None where nobody is to be known.

    `shared` holds the raw fields of user and context by column, `own` those of each item; `deadline` is a moment of `clock`.
    """

    request: str
    user: str | None
    time: int
    shared: Raw
    items: tuple[str, ...]
    own: tuple[Raw, ...]
    deadline: float
    count: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What stands between predictions and an order: the fusion, the order, and the column of items whose equal values are one kind."""

    fusion: Fusion
    order: Order = field(default_factory=Order)
    diversity: str | None = None

    @property
    def name(self) -> str:
        """The fusion by name and version."""
        return f"{self.fusion.name}@{self.fusion.version}"


class Ranked(NamedTuple):
    """A decision, and what each task adds to the fused score of each position (none where nothing was predicted)."""

    decision: Decision
    contributions: Float[np.ndarray, "positions tasks"]


class _Scored(NamedTuple):
    predictions: Float[np.ndarray, "candidates columns"]
    contributions: Float[np.ndarray, "candidates tasks"]
    fused: Float[np.ndarray, "candidates"]


@final
class Ranker:
    """One bundle under one policy; `clock` is what deadlines are of.

    The ladder: all candidates scored; those that there was time for, in the order sent; an earlier whole answer to this user for
    these items; popularity in training. A failure of the model leads down it too, and is told to `failed`.

    :raises UserError: if the policy names a task that the bundle does not predict.
    """

    def __init__(
        self, served: Served, policy: Policy, *, clock: Callable[[], float] = monotonic, failed: Callable[[Exception], None] | None = None,
        arm: str = "stable",
    ) -> None:
        self.served, self.policy, self.arm = served, policy, arm
        self._places = policy.fusion.places(served.bundle.columns)
        self._clock, self._failed = clock, failed
        self._earlier: OrderedDict[tuple[str, tuple[str, ...]], tuple[Shown, ...]] = OrderedDict()

    def rank(self, asked: Asked) -> Ranked:
        """The answer; :raises UserError: for a field that cannot be read, or no items."""
        if not asked.items:
            raise UserError("items: none", mend="send at least one to rank")
        scored = self._scored(asked)
        if scored is None:
            return Ranked(self._unscored(asked), np.empty((0, len(self._places))))
        drawn = self.policy.order.draw(scored.fused, asked.count, seed=asked.seed, kinds=self._kinds(asked, len(scored.fused)))
        full = len(scored.fused) == len(asked.items)
        chances = drawn.propensities.tolist() if full else [None] * len(drawn.places)
        rows = scored.predictions[drawn.places].tolist()
        fused = scored.fused[drawn.places].tolist()
        shown = tuple([
            Shown(item=asked.items[place], fused=score, propensity=chance, predictions=tuple(row), fields=asked.own[place])
            for place, score, chance, row in zip(drawn.places.tolist(), fused, chances, rows, strict=True)
        ])  # fmt: skip
        decision = self._decision(asked, Rung.FULL if full else Rung.FEWER, shown, scored=scored if full else None)
        if full and asked.user is not None:
            self._keep(asked, shown)
        return Ranked(decision, scored.contributions[drawn.places])

    def _scored(self, asked: Asked) -> _Scored | None:
        """As many candidates as there is time for, in the order sent; None where there is none, or the model fails."""
        found: list[Float[np.ndarray, "candidates columns"]] = []
        try:
            for start in range(0, len(asked.items), CHUNK):
                if self._clock() >= asked.deadline:
                    break
                found.append(self.served.reader.predict(asked.shared, asked.own[start : start + CHUNK]))
        except UserError:
            raise
        except Exception as error:  # whatever it is, there is an answer without the model
            if self._failed is not None:
                self._failed(error)
        if not found:
            return None
        predictions = np.concatenate(found)
        contributions = self.policy.fusion.contributions(predictions[:, self._places])
        return _Scored(predictions, contributions, contributions.sum(1))

    def _unscored(self, asked: Asked) -> Decision:
        earlier = self._earlier.get((asked.user, asked.items)) if asked.user is not None else None
        if earlier is not None:
            return self._decision(asked, Rung.CACHED, earlier[: asked.count])
        order = np.argsort(-self.served.popularity(asked.items), kind="stable")[: asked.count]
        return self._decision(asked, Rung.POPULAR, tuple(Shown(item=asked.items[place], fields=asked.own[place]) for place in order))

    def _keep(self, asked: Asked, shown: Sequence[Shown]) -> None:
        """Remember a whole answer, without its chances: shown again, it is no draw."""
        key = (str(asked.user), asked.items)
        kept = tuple([Shown(item=one.item, fused=one.fused, predictions=one.predictions, fields=one.fields) for one in shown])
        self._earlier[key] = kept
        self._earlier.move_to_end(key)
        if len(self._earlier) > ANSWERS:
            self._earlier.popitem(last=False)

    def _kinds(self, asked: Asked, count: int) -> Int[np.ndarray, "candidates"] | None:
        """The number of each candidate's kind; None where kinds do not matter."""
        if self.policy.diversity is None or not self.policy.order.penalty:
            return None
        values = [repr(own.get(self.policy.diversity)) for own in asked.own[:count]]
        numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
        return np.array([numbers[value] for value in values])

    def _decision(self, asked: Asked, rung: Rung, shown: tuple[Shown, ...], *, scored: _Scored | None = None) -> Decision:
        order = self.policy.order
        chosen = None
        if scored is not None:
            chosen = Candidates(
                items=asked.items, predictions=scored.predictions.astype(np.float32), fused=scored.fused.astype(np.float32)
            )
        return Decision(
            request=asked.request, user=asked.user, time=asked.time, bundle=self.served.name, fusion=self.policy.name, rung=rung,
            shown=shown, outputs=self.served.bundle.columns if rung is not Rung.POPULAR else (), fields=asked.shared, candidates=chosen,
            temperature=order.temperature if scored is not None else None,
            policy={"penalty": order.penalty, "diversity": self.policy.diversity} if order.penalty else {}, arm=self.arm,
        )  # fmt: skip
