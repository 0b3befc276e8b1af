"""CCML without umbel, for comparison: a user at a time, collaborators found one by one (`functional_call`, `torch.autograd.grad`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from meta_loops import Columns, Network, head
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional


class Rows(NamedTuple):
    """Rows of one user, no padding: the codes by field, what they were rated, and what every output begins at."""

    columns: Columns
    labels: Tensor
    prior: Tensor


class Person(NamedTuple):
    """A training user: what is learned from, what is predicted, and who may collaborate, by place among users."""

    support: Rows
    query: Rows
    near: Sequence[int]


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of CCML that both sides share; `items` are the fields that tell of an item, `level` sorts ratings into levels."""

    items: tuple[int, ...]
    level: Callable[[Tensor], Tensor]
    levels: int
    steps: int
    rate: float
    clip: float
    most: int
    kept: int
    share: float


class Loop(ABC):
    """A first-order meta-step, user by user: collaborators, joint steps, the loss of the query, one backward pass."""

    def __init__(self, network: Network, people: Sequence[Person], rules: Rules, *, rate: float) -> None:
        self.network, self.people, self.rules = network, people, rules
        self.optimizer = torch.optim.Adam(network.parameters(), lr=rate)

    def __call__(self, places: Sequence[int]) -> None:
        """One step from a batch of users."""
        self.optimizer.zero_grad()
        torch.autograd.backward(self.loss(places))
        self.optimizer.step()

    @abstractmethod
    def begin(self) -> None:
        """What is done at the start of an epoch."""

    def loss(self, places: Sequence[int]) -> Tensor:
        """The mean over users of their query's loss after adaptation."""
        return torch.stack([self._loss(self.people[place].query, self.adapted(place)) for place in places]).mean()

    @abstractmethod
    def slope(self, place: int) -> Tensor:
        """The gradient of a user's support loss by what is adapted, flat."""

    @abstractmethod
    def taste(self, place: int) -> Tensor:
        """The direction of the mean item that a user gave each level; zeros where it gave none."""

    @abstractmethod
    def joint(self, place: int, others: Sequence[int]) -> Callable[[dict[str, Tensor]], Tensor]:
        """The loss of a user and its collaborators under fast weights."""

    def collaborators(self, place: int) -> list[int]:
        """Of the candidates the most similar, of these those who rated alike what is alike, and pull the same way."""
        own, taste = self.slope(place), self.taste(place)
        cosine = {other: float(functional.cosine_similarity(own, self.slope(other), dim=0)) for other in self.people[place].near}
        similar = sorted(cosine, key=lambda other: -cosine[other])[: self.rules.most]
        benefit = {other: float(agreement(taste, self.taste(other))) for other in similar}
        best = sorted(similar, key=lambda other: -benefit[other])[: self.rules.kept]
        return [other for other in best if cosine[other] > 0]

    def adapted(self, place: int) -> dict[str, Tensor]:
        """A user's fast weights."""
        cost, own = self.joint(place, self.collaborators(place)), dict[str, Tensor](head(self.network))
        for _ in range(self.rules.steps):
            slopes = torch.autograd.grad(cost(own), list(own.values()))
            long = torch.sqrt(sum((slope.square().sum() for slope in slopes), torch.zeros(())))
            pace = self.rules.rate * (self.rules.clip / long.clamp(min=1e-12)).clamp(max=1.0)
            own = {name: weight - pace * slope for (name, weight), slope in zip(own.items(), slopes, strict=True)}
        return own

    def taken_slope(self, place: int) -> Tensor:
        """The gradient, taken now."""
        own = dict[str, Tensor](head(self.network))
        slopes = torch.autograd.grad(self._loss(self.people[place].support, own), list(own.values()))
        return torch.cat([one.flatten() for one in slopes])

    def taken_taste(self, place: int) -> Tensor:
        """The taste, told now."""
        rows = self.people[place].support
        with torch.no_grad():
            seen = self.network.embed(rows.columns).view(len(rows.labels), len(rows.columns), -1)[:, self.rules.items].flatten(1)
            marks = functional.one_hot(self.rules.level(rows.labels), self.rules.levels).float()
            return functional.normalize(marks.T @ seen, dim=1)

    def _loss(self, rows: Rows, own: dict[str, Tensor]) -> Tensor:
        return functional.mse_loss(functional_call(self.network, own, (rows.columns,)) + rows.prior, rows.labels)


@final
class Anew(Loop):
    """As the published code goes: at every user's turn the gradients of all its candidates, then a loss a member in every step."""

    def begin(self) -> None:
        """Nothing."""

    def slope(self, place: int) -> Tensor:
        """Taken at the weights of now."""
        return self.taken_slope(place)

    def taste(self, place: int) -> Tensor:
        """Told by the embeddings of now."""
        return self.taken_taste(place)

    def joint(self, place: int, others: Sequence[int]) -> Callable[[dict[str, Tensor]], Tensor]:
        """A forward pass a member."""
        whole, share = 1 + self.rules.share * len(others), self.rules.share

        def cost(own: dict[str, Tensor]) -> Tensor:
            found = self._loss(self.people[place].support, own)
            for other in others:
                found = found + share * self._loss(self.people[other].support, own)
            return found / whole

        return cost


@final
class Once(Loop):
    """The thriftiest loop: everybody's gradient once an epoch, and a group's rows in one forward pass."""

    slopes: list[Tensor]
    tastes: list[Tensor]

    def begin(self) -> None:
        """Gradients and tastes of all."""
        everyone = range(len(self.people))
        self.slopes, self.tastes = [*map(self.taken_slope, everyone)], [*map(self.taken_taste, everyone)]

    def slope(self, place: int) -> Tensor:
        """As it was then."""
        return self.slopes[place]

    def taste(self, place: int) -> Tensor:
        """As it was then."""
        return self.tastes[place]

    def joint(self, place: int, others: Sequence[int]) -> Callable[[dict[str, Tensor]], Tensor]:
        """All rows under each other, each by its share."""
        members = [self.people[one].support for one in (place, *others)]
        shares = [1.0, *(self.rules.share for _ in others)]
        weight = torch.cat([torch.full_like(one.labels, share / sum(shares) / len(one.labels))
                            for share, one in zip(shares, members, strict=True)])
        columns = [torch.cat(own) for own in zip(*(one.columns for one in members), strict=True)]
        labels, prior = torch.cat([one.labels for one in members]), torch.cat([one.prior for one in members])
        return lambda own: (weight * (functional_call(self.network, own, (columns,)) + prior - labels).square()).sum()


def agreement(own: Tensor, other: Tensor) -> Tensor:
    """Mean cosine at levels that both gave, less the mean over all their levels weighted by how far those are apart."""
    both = (own.any(1).float()[:, None] * other.any(1).float()[None])
    alike, step = own @ other.T, torch.arange(len(own))
    same, far = both * torch.eye(len(own)), both * (step[:, None] - step).abs()
    return (alike * same).sum() / same.sum().clamp(min=1e-12) - (alike * far).sum() / far.sum().clamp(min=1e-12)
