"""Where the rows of each user pull a model: gradients of many users' own losses at the shared weights."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, vmap

from umbel.learn.adapt import Known, cost
from umbel.learn.episode import Episode
from umbel.learn.scope import Scope
from umbel.nn.recommender import Recommender


def slopes(model: Recommender, episode: Episode, scope: Scope, *, chunk: int | None = None) -> Float[Tensor, "users weights"]:
    """`grad L(support_u)` over the dense parameters of the scope, in the order of their names, flat; no graph is kept."""
    shared = {name: one.detach() for name, one in scope.chosen(model).items()}
    with torch.no_grad():
        inputs, _ = episode.seen()
    support = episode.support
    known = Known(inputs.detach(), support.labels, support.seen, support.weight, support.prior)

    def one(own: dict[str, Tensor], known: Any) -> Tensor:  # noqa: ANN401
        return cost(model, own, known)

    found = vmap(grad(one), in_dims=(None, 0), chunk_size=chunk)(shared, known)
    return torch.cat([found[name].flatten(1) for name in shared], 1).detach()


def sketched(slope: Float[Tensor, "users weights"], width: int, *, seed: int = 0) -> Float[Tensor, "users width"]:
    """A shorter vector with nearly the same angles: every weight is added, with a random sign, to a random one of `width` sums.

    A count sketch (Charikar, Chen and Farach-Colton 2002): inner products keep their mean, with a deviation of about `1 / sqrt(width)`
    for unit vectors, at the cost of reading the vector once.
    """
    generator = torch.Generator().manual_seed(seed)
    count = slope.shape[1]
    place = torch.randint(width, (count,), generator=generator).to(slope.device)
    sign = (torch.randint(2, (count,), generator=generator) * 2 - 1).to(slope)
    return slope.new_zeros(len(slope), width).index_add(1, place, slope * sign)
