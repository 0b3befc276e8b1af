"""A recommender that reads a user's support before it answers the query: what training sees is a model like any other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from umbel.data.shots import KNOWN, QUERY_PRIOR, Shots, divided, parted
from umbel.nn.losses import Denominator, Labelled
from umbel.nn.offset import raised
from umbel.nn.recommender import Recommender
from umbel.schema import Schema


@dataclass(frozen=True, slots=True)
class Episode:
    """A batch of users as an adapter reads it: the table and the places of query and support rows, fields, and what happened.

    `user` names the field of user ids, whose codes are all unknown here: a new user has none.
    """

    model: Recommender
    rows: Mapping[str, Tensor]
    query: Mapping[str, Tensor]
    support: Shots
    query_prior: Float[Tensor, "users shots outputs"]
    user: str | None = None

    @property
    def query_shape(self) -> tuple[int, int]:
        """Users, and query rows of each."""
        return self.query_prior.shape[0], self.query_prior.shape[1]

    @property
    def support_shape(self) -> tuple[int, int]:
        """Users, and support rows of each."""
        return self.support.labels.shape[0], self.support.labels.shape[1]

    def seen(self) -> tuple[Float[Tensor, "users support views fields dim"], Float[Tensor, "users query views fields dim"]]:
        """Support and query as the model's views see them."""
        plain = [field.name for field in self.model.schema.fields if not field.coded]
        both = {name: torch.cat([self.query[name], self.support.fields[name].flatten(0, 1)]) for name in plain}
        found = self.model.views(self.rows, both)  # in one go, since many small steps cost more than large ones
        rows = len(found) - self.support_shape[0] * self.support_shape[1]
        return divided(found[rows:], self.support_shape), divided(found[:rows], self.query_shape)

    def asked(self) -> Float[Tensor, "users query views fields dim"]:
        """The query alone, as the model's views see it."""
        return divided(self.model.views({**self.rows, "place": self._places()[1]}, self.query), self.query_shape)

    def told(self) -> Float[Tensor, "users support views fields dim"]:
        """The support alone, as the model's views see it."""
        flat = {name: column.flatten(0, 1) for name, column in self.support.fields.items()}
        return divided(self.model.views({**self.rows, "place": self._places()[0]}, flat), self.support_shape)

    def placed(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Support and query as places in the table, beside their fields."""
        support, query = self._places()
        own = {name: divided(column, self.query_shape) for name, column in self.query.items()}
        return ({**self.support.fields, "place": divided(support, self.support_shape)},
                {**own, "place": divided(query, self.query_shape)})

    def own_rows(self) -> Float[Tensor, "touched 1"]:
        """1 at the table row that stands for the user, 0 elsewhere."""
        return own_rows(self.model, self.rows, self.user)

    def _places(self) -> tuple[Tensor, Tensor]:
        place = self.rows["place"]
        count = place.shape[0] - self.support_shape[0] * self.support_shape[1]
        return place[count:], place[:count]


def own_rows(model: Recommender, rows: Mapping[str, Tensor], user: str | None) -> Float[Tensor, "touched 1"]:
    """1 at the table rows that a field of user ids reads, 0 elsewhere; of a new user that is the unknown row."""
    slots = [field.name for field in model.places.fields for _ in range(field.size)]
    mask = rows["table"].new_zeros(len(rows["table"]), 1)
    return mask.index_fill(0, rows["place"][:, slots.index(user)], 1.0) if user in slots else mask


class Adapter(nn.Module, ABC):
    """How the support changes what a model answers; `costs` says whether a last column of its answer is paid beside the losses."""

    costs: bool = False

    @abstractmethod
    def forward(self, model: Recommender, episode: Episode) -> Float[Tensor, "users shots outputs"]:
        """Logits of the query, prior included; after them, if it `costs`, what each row costs."""


@final
class Untouched(Adapter):
    """The model as it is, whatever the support says."""

    def forward(self, model: Recommender, episode: Episode) -> Float[Tensor, "users shots outputs"]:
        """The model's own logits."""
        query = episode.asked()
        return raised(divided(model.beyond(query.flatten(0, 1)), episode.query_shape), episode.query_prior)


@final
class Learner(nn.Module):
    """A recommender and an adapter, as one model over episode batches (`umbel.data.shots`): it trains in the one loop.

    `user` is the field of user ids, read as unknown; but for users whom the batch says are `:known`.
    """

    def __init__(self, model: Recommender, adapter: Adapter, *, user: str | None = None) -> None:
        super().__init__()
        self.model, self.adapter, self.user = model, adapter, user

    @property
    def schema(self) -> Schema:
        """The model's."""
        return self.model.schema

    @property
    def table(self) -> nn.Parameter:
        """The model's."""
        return self.model.table

    def rows(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The table, and the places of query rows and then of support rows."""
        support, query = parted(fields)
        flat = {name: column.flatten(0, 1) for name, column in support.fields.items()}
        places = [self.model.rows(self._new(one, fields))["place"] for one in (query, flat)]
        return {"table": self.model.table, "place": torch.cat(places)}

    def score(self, rows: Mapping[str, Tensor], fields: Mapping[str, Tensor]) -> Float[Tensor, "rows outputs"]:
        """Logits of the query rows, each by its user's own model."""
        logits: Tensor = self.adapter(self.model, self.episode(rows, fields))
        return logits.flatten(0, 1)

    def episode(self, rows: Mapping[str, Tensor], fields: Mapping[str, Tensor]) -> Episode:
        """An episode batch as adapters read it."""
        support, query = parted(fields)
        users = support.labels.shape[0]
        prior = fields[QUERY_PRIOR]
        return Episode(self.model, rows, query, support, prior.view(users, -1, prior.shape[1]), self.user)

    def forward(self, fields: Mapping[str, Tensor]) -> Float[Tensor, "rows outputs"]:
        """Logits of the query rows of an episode batch."""
        return self.score(self.rows(fields), fields)

    def losses(self, logits: Float[Tensor, "rows outputs"], batch: Labelled, *, denominator: Denominator) -> Float[Tensor, "tasks"]:
        """The model's losses on the query, and in equal shares what the adapter costs."""
        if not self.adapter.costs:
            return self.model.losses(logits, batch, denominator=denominator)
        losses = self.model.losses(logits[:, :-1], batch, denominator=denominator)
        return losses + logits[:, -1].mean() / len(losses)

    def paid(self, batch: Labelled) -> Bool[Tensor, "rows tasks"]:
        """The model's, of the query."""
        return self.model.paid(batch)

    def dense_parameters(self) -> list[nn.Parameter]:
        """Every parameter that is trained, but the table."""
        return [one for name, one in self.named_parameters() if name != "table" and one.requires_grad]

    def named_parameters(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter by name, the model's table as `table`."""
        for name, one in super().named_parameters(prefix, recurse, remove_duplicate):
            yield ("table" if one is self.model.table else name), one

    def _new(self, rows: Mapping[str, Tensor], fields: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Rows of a user nobody knows; where users are known, their own."""
        if self.user is None:
            return rows
        codes = rows[self.user]
        known = fields.get(KNOWN)
        new = torch.zeros_like(codes)
        return {**rows, self.user: new if known is None else torch.where(known.repeat_interleave(len(codes) // len(known)), codes, new)}
