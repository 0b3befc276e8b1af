"""AdaTT's fusion: a mixture of all experts, and beside it a residual of the reader's own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.nn.bank import Part
from umbel.nn.layer import Layer, Lessons
from umbel.nn.mixture import Mixture
from umbel.nn.reach import Tasks


class AdaTT(Layer):
    """A reader hears a gated mix of all experts, and its own ones once more in shares that no gate decides.

    `h_r = sum_n g_rn y_n + sum_{n of r} v_rn y_n`, `g_r` a softmax, `v_r` learned numbers; a reader with one expert of its
    own has v = 1, and one with none has no residual. (https://arxiv.org/abs/2304.04959, whose code draws v uniformly from
    +-1/sqrt(own experts), as we do; there v = 1 only where every reader has one expert.)

    `own[reader]` are the reader's experts; each reader of `mixture` must have a voice of its own.
    """

    places: Tensor
    ones: Tensor

    def __init__(self, mixture: Mixture, own: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.mixture, self.voice, self.width = mixture, mixture.voice, mixture.width
        self.own = own[:len(self.voice)]
        self.weighed = tuple(reader for reader, experts in enumerate(self.own) if len(experts) > 1)
        self.weights = nn.ParameterList(_drawn(len(self.own[reader])) for reader in self.weighed)
        sole = [self._place(reader, experts[0]) for reader, experts in enumerate(self.own) if len(experts) == 1]
        many = [self._place(reader, expert) for reader in self.weighed for expert in self.own[reader]]
        self.register_buffer("places", torch.tensor([*sole, *many], dtype=torch.int64), persistent=False)
        self.register_buffer("ones", torch.ones(len(sole)), persistent=False)

    def forward(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> tuple[Float[Tensor, "rows hidden"], ...]:
        """What each reader hears."""
        shares = self.mixture.weigh(inputs) + self.residual()
        return self.mixture.mix(shares, self.mixture.said(inputs)).unbind(1)

    def residual(self) -> Float[Tensor, "readers experts"]:
        """What a reader's own experts weigh beside the gate, experts in the bank's order."""
        experts = len(self.mixture.bank.order)
        flat = self.ones.new_zeros(len(self.voice) * experts)
        return flat.index_add(0, self.places, torch.cat([self.ones, *self.weights])).view(-1, experts)

    def lessons(self, readers: Sequence[Tasks]) -> Lessons:
        """The routing's, and each residual's weights with its reader's tasks."""
        below = self.mixture.lessons(readers)
        groups = {name: (tuple(part.under("mixture") for part in parts), tasks) for name, (parts, tasks) in below.groups.items()}
        groups |= {f"residual {reader}": ((Part(f"weights.{at}", (slice(None),)),), readers[reader])
                   for at, reader in enumerate(self.weighed)}
        return Lessons(groups, below.inputs)

    def _place(self, reader: int, expert: int) -> int:
        order = self.mixture.bank.order
        return self.voice[reader] * len(order) + order.index(expert)


def _drawn(experts: int) -> Tensor:
    bound = 1.0 / math.sqrt(experts)
    return torch.empty(experts).uniform_(-bound, bound)
