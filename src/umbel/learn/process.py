"""An adapter that reads the support as a set and modulates the model at once, without an inner gradient: a neural process."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.data.shots import divided
from umbel.learn.episode import Adapter, Episode
from umbel.learn.offset import residuals
from umbel.nn.offset import raised
from umbel.nn.recommender import Recommender


@final
class Process(Adapter):
    """Task-adaptive neural process: rows and labels -> a task vector -> a place among remembered kinds of users -> FiLM.

    `r = mean_j enc(x_j, y_j)`, `q_k ~ (1 + |r - m_k|^2)^-1` (Student-t), `t = r + sum_k q_k m_k`; what the model's first layer reads
    becomes `x * (1 + tanh g(t)) + tanh b(t)`. The cost is `price * KL(P | Q)`, P the assignments of the batch sharpened:
    `p_uk ~ q_uk^2 / sum_u q_uk`. `y_j` is the label less what the prior expects.
    """

    memory: Float[Tensor, "kinds hidden"]

    def __init__(self, model: Recommender, *, kinds: int, hidden: int, price: float) -> None:
        super().__init__()
        self.shape = (model.views.views, len(model.schema.fields), model.views.dim)
        width, tasks = self.shape[0] * self.shape[1] * self.shape[2], len(model.schema.tasks)
        self.price, self.costs = price, price > 0
        self.encode = nn.Sequential(nn.Linear(width + 2 * tasks, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.memory = nn.Parameter(torch.randn(kinds, hidden))
        self.film = nn.Linear(hidden, 2 * width)

    def forward(self, model: Recommender, episode: Episode) -> Float[Tensor, "users shots outputs"]:
        """Logits of the query under the modulated model, and what each user's place costs."""
        support, query = episode.seen()
        shots = episode.support
        there = (shots.weight > 0).to(query.dtype)[..., None]
        happened = torch.cat([residuals(model.schema, shots), shots.seen.to(query.dtype)], 2)
        rows = self.encode(torch.cat([support.flatten(2), happened], 2))
        told = (rows * there).sum(1) / there.sum(1).clamp(min=1)
        place = self._place(told)
        gain, shift = (one.view(len(query), 1, *self.shape) for one in self.film(told + place @ self.memory).tanh().chunk(2, 1))
        shape = episode.query_shape
        logits = raised(divided(model.beyond((query * (1 + gain) + shift).flatten(0, 1)), shape), episode.query_prior)
        price = (self.price * _sharpening(place))[:, None, None].expand(*shape, 1)
        return torch.cat([logits, price], 2) if self.costs else logits

    def _place(self, told: Float[Tensor, "users hidden"]) -> Float[Tensor, "users kinds"]:
        near = 1 / (1 + (told[:, None] - self.memory).square().sum(2))
        return near / near.sum(1, keepdim=True)


def _sharpening(place: Float[Tensor, "users kinds"]) -> Float[Tensor, "users"]:
    """`KL(P | Q)` of each user; P is not taught."""
    sharp = place.square() / place.sum(0, keepdim=True)
    sharp = (sharp / sharp.sum(1, keepdim=True)).detach()
    return (sharp * (sharp.log() - place.log())).sum(1)
