"""On which scale a task's prediction is explained: one where what fields add up to is natural."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, singledispatch

import torch
from jaxtyping import Float
from torch import Tensor

from umbel.kinds import Binary, LogNormal, MultiClass, Ordinal, Poisson, TaskKind, Tweedie, ZeroInflated
from umbel.nn.kinds import link

SURE = 1e-12  # chances nearer to 0 and 1 have the logit of this one


@dataclass(frozen=True, slots=True)
class Scale:
    """What contributions are counted in, and how a task's outputs become that: one column for each of its kind's answers."""

    unit: str
    of: Callable[[Float[Tensor, "rows outputs"]], Float[Tensor, "rows answers"]]


@singledispatch
def scale(kind: TaskKind) -> Scale:
    """The scale of a kind: what it answers, in the label's unit, where nothing else is said here.

    Example
    -------
    >>> scale(ZeroInflated()).unit, scale(Binary()).of(torch.tensor([[0.5]])).tolist()
    ('log of the expected amount', [[0.5]])
    """
    return Scale("the label's unit", partial(link, kind))


@scale.register
def _(kind: Binary) -> Scale:
    return Scale("logit", _output)


@scale.register(Poisson)
@scale.register(Tweedie)
def _(kind: Poisson | Tweedie) -> Scale:
    return Scale("log of the mean", _output)


@scale.register(LogNormal)
@scale.register(ZeroInflated)
def _(kind: LogNormal | ZeroInflated) -> Scale:
    return Scale("log of the expected amount", lambda outputs: link(kind, outputs).log())


@scale.register(Ordinal)
@scale.register(MultiClass)
def _(kind: Ordinal | MultiClass) -> Scale:
    return Scale("logit of each chance", lambda outputs: torch.logit(link(kind, outputs), eps=SURE))


def _output(outputs: Float[Tensor, "rows 1"]) -> Float[Tensor, "rows 1"]:
    return outputs
