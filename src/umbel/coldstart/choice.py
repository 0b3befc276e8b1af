"""Who collaborates with a user, and in what share: the most similar of the candidates, then those who are a benefit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from umbel.coldstart.benefit import FILTERS, Taste
from umbel.coldstart.pool import NOBODY
from umbel.errors import UserError, nearest

HELD = 1 << 22  # numbers that are made at a time, of candidates' gradients and tastes
CHEAP = 32  # so many cosines by one product cost what one does of a gradient that has to be gathered
SIMILAR = ("gradient", "random")


class Traits(NamedTuple):
    """What users are compared by: where their rows pull the model (`slope`, of length 1 or 0), and their tastes by level."""

    slope: Float[Tensor, "users weights"]
    taste: Taste


class Chosen(NamedTuple):
    """Collaborators of each user, the best first, as places among training users (-1: nobody), and the shares they have."""

    who: Int[Tensor, "users kept"]
    share: Float[Tensor, "users kept"]


@dataclass(frozen=True, slots=True)
class Choice:
    """The rule: of the candidates the `most` whose gradients are most similar, of these the `kept` that the filter ranks first.

    Similar is the cosine of gradients: by Taylor's first order a step of size a along w's gradient changes the loss of u by
    `-a g_u . g_w`, so with `gate` those of no positive cosine are left out. With `similar = "random"` as many are drawn from the
    candidates instead, for an ablation. Shares are `share` each, or with a `temperature` T `share * n * softmax(cosine / T)` over the
    n that are kept. `seed` and `moment` decide what is drawn.
    """

    similar: str = "gradient"
    most: int = 20
    filter: str = "agree_minus_conflict"
    kept: int = 10
    gate: bool = True
    share: float = 0.1
    temperature: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for what, one, among in (("similar", self.similar, SIMILAR), ("filter", self.filter, tuple(FILTERS))):
            if one not in among:
                raise UserError(f"ccml.{what}: no {one!r}", mend=nearest(one, among))
        if self.kept < 0 or self.most < self.kept or self.share < 0 or (self.temperature is not None and self.temperature <= 0):
            numbers = f"similar {self.most}, kept {self.kept}, share {self.share}, temperature {self.temperature}"
            raise UserError(f"ccml: {numbers}", mend="keep at most as many as are similar, and nothing below 0")

    @property
    def helps(self) -> bool:
        """Whether anyone is chosen, and has a share."""
        return self.kept > 0 and self.share > 0

    def __call__(self, own: Traits, among: Traits, near: Int[Tensor, "users near"], *, moment: int) -> Chosen:
        """The collaborators of each of `own` among training users, of whom `near` are candidates."""
        each = len(among.slope) if _whole(among.slope, near) else near.shape[1] * among.slope.shape[1]
        size = max(1, HELD // max(1, each, self.most * among.taste[:1].numel()))
        drawn = torch.rand(2, *near.shape, generator=torch.Generator().manual_seed(self.seed * 1_000_003 + moment))
        parts = [self._some(Traits(*(one[at : at + size] for one in own)), among, near=near[at : at + size], drawn=drawn[:, at : at + size])
                 for at in range(0, len(near), size)]
        return Chosen(*(torch.cat(one) for one in zip(*parts, strict=True)))

    def _some(self, own: Traits, among: Traits, *, near: Tensor, drawn: Tensor) -> Chosen:
        there = near >= 0
        cosine = _cosines(own.slope, among.slope, near.clamp(min=0))
        likeness = cosine if self.similar == "gradient" else drawn[0]
        likeness = torch.where(there & ~likeness.isnan(), likeness, -torch.inf)
        near, likeness, tie = _best(likeness, self.most, near, likeness, drawn[1])
        rank = self._benefit(own, among, near=near, drawn=tie)
        near, likeness = _best(torch.where(likeness > -torch.inf, rank, -torch.inf), self.kept, near, likeness)
        pulled = own.slope.any(1, keepdim=True)  # who has no rows has nothing to be alike in
        stays = pulled & (likeness > (0.0 if self.gate else -torch.inf))
        return Chosen(torch.where(stays, near, NOBODY), self._shares(likeness, stays))

    def _benefit(self, own: Traits, among: Traits, *, near: Tensor, drawn: Tensor) -> Float[Tensor, "users near"]:
        rule = FILTERS[self.filter]
        if rule is not None:
            return rule(own.taste[:, None], among.taste[near.clamp(min=0)])
        as_similar = torch.arange(near.shape[1], 0, -1).expand(near.shape).to(drawn)
        return drawn if self.filter == "random" else as_similar

    def _shares(self, likeness: Tensor, stays: Tensor) -> Float[Tensor, "users kept"]:
        if self.temperature is None:
            return self.share * stays.to(likeness)
        weights = torch.where(stays, likeness / self.temperature, -torch.inf).softmax(1).nan_to_num(nan=0.0)
        return self.share * stays.sum(1, keepdim=True) * weights


def _whole(among: Tensor, near: Tensor) -> bool:
    """Whether the cosines with everybody are had sooner than those with candidates alone."""
    return len(among) <= CHEAP * near.shape[1]


def _cosines(own: Tensor, among: Tensor, near: Int[Tensor, "users near"]) -> Float[Tensor, "users near"]:
    if _whole(among, near):
        return (own @ among.T).gather(1, near)
    return torch.einsum("uw,ucw->uc", own, among[near])


def _best(by: Tensor, count: int, *columns: Tensor) -> tuple[Tensor, ...]:
    """The columns of the `count` largest, the largest first; of equals the first."""
    order = by.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return tuple(one.gather(1, order) for one in columns)
