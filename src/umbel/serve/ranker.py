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
from umbel.serve.records import Adapted, Candidates, Decision, Rung, Shown, Value
from umbel.serve.served import Served
from umbel.serve.states import Personal

CHUNK = 256      # candidates scored between two looks at the clock
ANSWERS = 1_024  # earlier answers kept
Raw = Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request to rank, with all that is known of its user and items: `user` is None where nobody is to be known.

    `shared` holds the raw fields of user and context by column, `own` those of each item; `deadline` is a moment of `clock`. `personal`
    is what of a bundle is the user's own: other bundles answer without. `sources` say of an item what brought it, where it was not sent.
    `seeded` is whether whoever asks chose the seed: the order is not drawn then, and its chances are not known.
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
    seeded: bool = False
    personal: Personal | None = None
    sources: Mapping[str, Sequence[str]] = field(default_factory=dict)


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


class _Scored(NamedTuple):
    predictions: Float[np.ndarray, "rows columns"]
    contributions: Float[np.ndarray, "rows tasks"]
    fused: Float[np.ndarray, "rows"]

    def at(self, places: Int[np.ndarray, "positions"]) -> _Scored:
        return _Scored(self.predictions[places], self.contributions[places], self.fused[places])


@final
@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """An answer: places among the items asked for, from the top, what was found of those shown, and, on the full rung, of all.

    `shown` is None where nothing was predicted, `chances` where they are not known.
    """

    ranker: Ranker
    asked: Asked
    rung: Rung
    places: Int[np.ndarray, "positions"]
    shown: _Scored | None = None
    chances: Float[np.ndarray, "positions"] | None = None
    every: _Scored | None = None
    adapted: Adapted | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of its predictions."""
        return self.ranker.served.bundle.columns if self.shown is not None else ()

    @property
    def contributions(self) -> Float[np.ndarray, "positions tasks"]:
        """What each task adds to the fused score of each position; no row where nothing was predicted."""
        return self.shown.contributions if self.shown is not None else np.empty((0, len(self.ranker.policy.fusion.terms)))

    def columns(self) -> tuple[list[str], list[float | None], list[float | None], list[list[float]]]:
        """Position by position: the item, its fused score, its chance, its predictions."""
        items = [self.asked.items[place] for place in self.places.tolist()]
        nothing: list[float | None] = [None] * len(items)
        fused = nothing if self.shown is None else self.shown.fused.tolist()
        chances = nothing if self.chances is None else self.chances.tolist()
        return items, fused, chances, [[] for _ in items] if self.shown is None else self.shown.predictions.tolist()

    @property
    def decision(self) -> Decision:
        """What is to be kept of it."""
        asked, ranker = self.asked, self.ranker
        own = [asked.own[place] for place in self.places.tolist()]
        shown = tuple([
            Shown(
                item=item, fused=fused, propensity=chance, predictions=tuple(row), fields=fields,
                sources=tuple(asked.sources.get(item, ())),
            )
            for item, fused, chance, row, fields in zip(*self.columns(), own, strict=True)
        ])  # fmt: skip
        order, chosen = ranker.policy.order, None
        if self.every is not None:
            scored = (one.astype(np.float32) for one in (self.every.predictions, self.every.fused))
            chosen = Candidates(items=asked.items, predictions=next(scored), fused=next(scored))
        return Decision(
            request=asked.request, user=asked.user, time=asked.time, bundle=ranker.served.name, fusion=ranker.fusion, rung=self.rung,
            shown=shown, outputs=self.outputs, fields=asked.shared, candidates=chosen,
            temperature=order.temperature if self.every is not None else None,
            policy={"penalty": order.penalty, "diversity": ranker.policy.diversity} if order.penalty else {}, arm=ranker.arm,
            adapted=self.adapted,
        )  # fmt: skip


Earlier = tuple[Int[np.ndarray, "positions"], _Scored, Adapted | None]


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
        self.fusion = policy.name  # worked out once, since it is a checksum
        self._places = policy.fusion.places(served.bundle.columns)
        self._clock, self._failed = clock, failed
        self._earlier: OrderedDict[tuple[str, tuple[str, ...]], Earlier] = OrderedDict()

    @property
    def overridden(self) -> str | None:
        """The bundle's own policy, where another one ranks."""
        own = self.served.bundle.fusion
        return None if own is None or (name := Policy(fusion=own).name) == self.fusion else name

    def rank(self, asked: Asked) -> Ranked:
        """The answer; :raises UserError: for a field that cannot be read, or no items."""
        if not asked.items:
            raise UserError("items: none", mend="send at least one to rank")
        scored = self._scored(asked)
        if scored is None:
            return self._unscored(asked)
        drawn = self.policy.order.draw(scored.fused, asked.count, seed=asked.seed, kinds=self._kinds(asked, len(scored.fused)))
        shown, adapted = scored.at(drawn.places), None if (own := self._personal(asked)) is None else own.adapted
        if len(scored.fused) < len(asked.items):
            return Ranked(self, asked, Rung.FEWER, drawn.places, shown, adapted=adapted)
        if asked.user is not None:
            self._keep(asked.user, asked.items, (drawn.places, shown, adapted))
        chances = None if asked.seeded else drawn.propensities
        return Ranked(self, asked, Rung.FULL, drawn.places, shown, chances, scored, adapted)

    def forget(self) -> None:
        """Forget all earlier answers."""
        self._earlier.clear()

    def _personal(self, asked: Asked) -> Personal | None:
        return asked.personal if asked.personal is not None and asked.personal.bundle == self.served.name else None

    def _scored(self, asked: Asked) -> _Scored | None:
        """As many candidates as there is time for, in the order sent; None where there is none, or the model fails."""
        found: list[Float[np.ndarray, "candidates columns"]] = []
        state = None if (own := self._personal(asked)) is None else own.state
        try:
            for start in range(0, len(asked.items), CHUNK):
                if self._clock() >= asked.deadline:
                    break
                found.append(self.served.reader.predict(asked.shared, asked.own[start : start + CHUNK], state))
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

    def _unscored(self, asked: Asked) -> Ranked:
        earlier = self._earlier.get((asked.user, asked.items)) if asked.user is not None else None
        if earlier is not None:
            places = earlier[0][: asked.count]
            return Ranked(self, asked, Rung.CACHED, places, earlier[1].at(np.arange(len(places))), adapted=earlier[2])
        return Ranked(self, asked, Rung.POPULAR, np.argsort(-self.served.popularity(asked.items), kind="stable")[: asked.count])

    def _keep(self, user: str, items: tuple[str, ...], answer: Earlier) -> None:
        """Remember a whole answer; its chances are those of that draw, and not shown again."""
        self._earlier[user, items] = answer
        self._earlier.move_to_end((user, items))
        if len(self._earlier) > ANSWERS:
            self._earlier.popitem(last=False)

    def _kinds(self, asked: Asked, count: int) -> Int[np.ndarray, "candidates"] | None:
        """The number of each candidate's kind; None where kinds do not matter."""
        if self.policy.diversity is None or not self.policy.order.penalty:
            return None
        values = [repr(own.get(self.policy.diversity)) for own in asked.own[:count]]
        numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
        return np.array([numbers[value] for value in values])
