"""`[episodes]` of a run file: the model is trained to adapt to users it has never seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field, model_validator

from umbel.data.episodes import Protocol
from umbel.run.section import Section

Chosen = str | dict[str, str | int | float | bool | list[int | float | str | list[str]]]  # see `umbel.chosen`


class EpisodeSection(Section):
    """`[episodes]`: which cold-start method, and how users' rows become support and query.

    `method` is a name of `umbel.coldstart.methods.METHODS`, or `{ name = "...", parameter = ... }`. `support` rows come first and the last
    `query` are judged; leave one out and it is the rest, leave both out and ten are the support. Users of `history` rows are episodes;
    `by_time` keeps their order. With `longer` users of more rows train, too, by so many of them, drawn anew every epoch. `users` make a
    training step. In a share `forget` of the training episodes all items are new, in a share `ids` the user is known by id. `prior`
    starts from an item's shrunk mean label, or from the mean of all. `curve` are sizes of the support that test users are shown at;
    `relevant` is the least rating that counts as relevant; `groups` are fields by which users are compared.
    """

    method: Chosen = "melu"
    support: int | None = Field(10, ge=0)
    query: int | None = Field(None, ge=1)
    history: tuple[int, int] = (13, 100)
    longer: bool = False
    by_time: bool = False
    users: int = Field(32, ge=1)
    forget: float = Field(0.3, ge=0, lt=1)
    ids: float = Field(0.0, ge=0, lt=1)
    prior: Literal["item", "mean"] = "item"
    curve: tuple[int, ...] = (0, 1, 3, 5, 10, 20)
    curve_history: tuple[int, int] = (30, 100)
    relevant: float = 4.0
    groups: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _rest(cls, given: object) -> object:
        """Beside a query the support is the rest, unless it is given."""
        return {"support": None, **given} if isinstance(given, dict) and given.get("query") is not None else given

    def protocol(self) -> Protocol:
        """How users' rows are divided; :raises UserError: where the sizes do not go together."""
        return Protocol(self.support, self.query, history=self.history, by_time=self.by_time)

    def training(self) -> Protocol:
        """The same for users who train."""
        return replace(self.protocol(), longer=self.longer)

    def at(self, shots: int) -> Protocol:
        """The same with that many support rows, before a query that is one for all sizes of `curve`."""
        return Protocol(shots, None, skip=max(self.curve, default=0), history=self.curve_history, by_time=self.by_time)
