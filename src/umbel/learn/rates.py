"""The learning rates of adaptation: one number, one a tensor, or one a weight; learned or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import final

import torch
from torch import Tensor, nn


@final
class Rates(nn.Module):
    """Inner learning rates by parameter name; `learned` ones are trained by the outer loss.

    Where the name of a parameter has dots they are written as `/`, since torch keeps dots for itself.
    """

    def __init__(self, start: Mapping[str, Tensor], *, learned: bool) -> None:
        super().__init__()
        self.names = tuple(start)
        self.values = nn.ParameterDict({_key(name): nn.Parameter(one, requires_grad=learned) for name, one in start.items()})

    def forward(self) -> dict[str, Tensor]:
        """A rate for every parameter, of its shape or a single number."""
        return {name: self.values[_key(name)] for name in self.names}


MakeRates = Callable[[Mapping[str, Tensor]], Rates]


def fixed(rate: float) -> MakeRates:
    """One rate for everything, as MAML and MeLU have it."""
    return partial(_singles, rate=rate, learned=False)


def per_layer(rate: float) -> MakeRates:
    """A rate a tensor, learned from that one on (as in MAML++, https://arxiv.org/abs/1810.09502, but for its rates a step)."""
    return partial(_singles, rate=rate, learned=True)


def per_weight(rate: float) -> MakeRates:
    """A rate a weight, learned, which may turn a direction round: Meta-SGD (https://arxiv.org/abs/1707.09835).

    It draws the first rates at random; here all begin at `rate`. Embedding rows share one.
    """
    return partial(_each, rate=rate)


def _singles(named: Mapping[str, Tensor], *, rate: float, learned: bool) -> Rates:
    return Rates({name: torch.tensor(rate) for name in named}, learned=learned)


def _each(named: Mapping[str, Tensor], *, rate: float) -> Rates:
    return Rates({name: torch.full_like(one.detach(), rate) for name, one in named.items()}, learned=True)


def _key(name: str) -> str:
    return name.replace(".", "/")
