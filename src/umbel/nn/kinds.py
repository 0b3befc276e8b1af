"""The loss and the link of every kind of task: what its outputs pay for a label, what they answer, and where they begin."""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from umbel.kinds import Binary, LogNormal, MultiClass, Ordinal, Poisson, Quantile, Regression, TaskKind, Tweedie, ZeroInflated

STEEP = 30.0                                       # beyond this exponent exp goes on as its tangent
FLATTEST = math.sqrt(torch.finfo(torch.float32).eps)  # no spread of a log-normal is smaller: equal labels would pay without end


@singledispatch
def loss(kind: TaskKind, outputs: Float[Tensor, "rows outputs"], labels: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """What each row pays: the negative log-likelihood in nats where the kind has one, else its proper score.

    :raises NotImplementedError: for a kind that has no loss here.
    """
    raise NotImplementedError(kind.name)


@singledispatch
def link(kind: TaskKind, outputs: Float[Tensor, "rows outputs"]) -> Float[Tensor, "rows answers"]:
    """What the outputs answer, in the label's unit or as chances; one column for each of the kind's `answers`.

    :raises NotImplementedError: for a kind that has no link here.
    """
    raise NotImplementedError(kind.name)


@singledispatch
def start(kind: TaskKind, labels: Float[Tensor, "rows"]) -> Float[Tensor, "outputs"]:
    """The outputs that a model begins with: 0, but for a kind whose outputs have the label's own unit, which may be far from 0."""
    return labels.new_zeros(kind.outputs)


@loss.register(Binary)
def _(kind: Binary, outputs: Float[Tensor, "rows 1"], labels: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """Cross entropy of a logit: `log(1 + e^z) - y z`."""
    return functional.binary_cross_entropy_with_logits(outputs[:, 0], labels, reduction="none")


@link.register(Binary)
def _(kind: Binary, outputs: Float[Tensor, "rows 1"]) -> Float[Tensor, "rows 1"]:
    """`1 / (1 + e^-z)`."""
    return outputs.sigmoid()


@loss.register(Regression)
def _(kind: Regression, outputs: Float[Tensor, "rows 1"], labels: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """Squared error: `(z - y)^2`."""
    return (outputs[:, 0] - labels).square()


@link.register(Regression)
def _(kind: Regression, outputs: Float[Tensor, "rows 1"]) -> Float[Tensor, "rows 1"]:
    """The output itself."""
    return outputs


@start.register(Regression)
def _(kind: Regression, labels: Float[Tensor, "rows"]) -> Float[Tensor, "1"]:
    """The mean of the labels."""
    return labels.mean().unsqueeze(0)


@loss.register(LogNormal)
def _(kind: LogNormal, outputs: Float[Tensor, "rows 2"], labels: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """`log y + log s + log(2 pi) / 2 + ((log y - m) / s)^2 / 2` with `s = softplus(z_2) + 3.5e-4`."""
    return _lognormal(outputs[:, 0], outputs[:, 1], labels)


@link.register(LogNormal)
def _(kind: LogNormal, outputs: Float[Tensor, "rows 2"]) -> Float[Tensor, "rows 1"]:
    """The expectation `exp(m + s^2 / 2)`."""
    return _expectation(outputs)


@loss.register(ZeroInflated)
def _(kind: ZeroInflated, outputs: Float[Tensor, "rows 3"], labels: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """Cross entropy of being above 0, and the log-normal's loss there (Wang et al., 2019, https://arxiv.org/abs/1912.07753)."""
    above = labels > 0
    chance = functional.binary_cross_entropy_with_logits(outputs[:, 0], above.to(outputs.dtype), reduction="none")
    amount = _lognormal(outputs[:, 1], outputs[:, 2], torch.where(above, labels, 1.0))
    return chance + torch.where(above, amount, 0.0)


@link.register(ZeroInflated)
def _(kind: ZeroInflated, outputs: Float[Tensor, "rows 3"]) -> Float[Tensor, "rows 1"]:
    """The expectation `p exp(m + s^2 / 2)`."""
    return outputs[:, :1].sigmoid() * _expectation(outputs[:, 1:])


@loss.register(Poisson)
def _(kind: Poisson, outputs: Float[Tensor, "rows 1"], labels: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """`e^z - y z + log y!`."""
    return _exp(outputs[:, 0]) - labels * outputs[:, 0] + torch.lgamma(labels + 1)


@link.register(Poisson)
def _(kind: Poisson, outputs: Float[Tensor, "rows 1"]) -> Float[Tensor, "rows 1"]:
    """The mean `e^z`."""
    return _exp(outputs)


@loss.register(Tweedie)
def _(kind: Tweedie, outputs: Float[Tensor, "rows 1"], labels: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """Half the unit deviance: `y^(2-p) / ((1-p)(2-p)) - y e^((1-p)z) / (1-p) + e^((2-p)z) / (2-p)` (Jorgensen, 1987)."""
    p, z = kind.power, outputs[:, 0]
    own = labels.pow(2 - p) / ((1 - p) * (2 - p))
    return own - labels * _exp((1 - p) * z) / (1 - p) + _exp((2 - p) * z) / (2 - p)


@link.register(Tweedie)
def _(kind: Tweedie, outputs: Float[Tensor, "rows 1"]) -> Float[Tensor, "rows 1"]:
    """The mean `e^z`."""
    return _exp(outputs)


@loss.register(Quantile)
def _(kind: Quantile, outputs: Float[Tensor, "rows levels"], labels: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """The mean pinball loss over levels, `max(t (y - q_t), (t - 1) (y - q_t))` (Koenker & Bassett, 1978)."""
    error = labels[:, None] - link(kind, outputs)
    level = torch.stack([outputs.new_full((), one) for one in kind.levels])  # filled there: what is sent there waits for what goes on
    return torch.maximum(level * error, (level - 1) * error).mean(dim=1)


@link.register(Quantile)
def _(kind: Quantile, outputs: Float[Tensor, "rows levels"]) -> Float[Tensor, "rows levels"]:
    """`q_1 = z_1`, `q_k = q_(k-1) + softplus(z_k)`: quantiles never cross."""
    return torch.cumsum(torch.cat([outputs[:, :1], functional.softplus(outputs[:, 1:])], dim=1), dim=1)


@start.register(Quantile)
def _(kind: Quantile, labels: Float[Tensor, "rows"]) -> Float[Tensor, "levels"]:
    """The labels' quantile of the first level; the others follow at the distances they have without labels."""
    return functional.pad(labels.quantile(kind.levels[0]).unsqueeze(0), (0, kind.outputs - 1))


@loss.register(Ordinal)
def _(kind: Ordinal, outputs: Float[Tensor, "rows steps"], labels: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """Minus the logarithm of the grade's chance."""
    return -_log_grades(outputs).gather(1, labels.long()[:, None])[:, 0]


@link.register(Ordinal)
def _(kind: Ordinal, outputs: Float[Tensor, "rows steps"]) -> Float[Tensor, "rows grades"]:
    """The chance of each grade, `P(y = k) = P(y > k - 1) - P(y > k)`."""
    return _log_grades(outputs).exp()


@loss.register(MultiClass)
def _(kind: MultiClass, outputs: Float[Tensor, "rows classes"], labels: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """Cross entropy of a softmax: `log sum_k e^(z_k) - z_y`."""
    return functional.cross_entropy(outputs, labels.long(), reduction="none")


@link.register(MultiClass)
def _(kind: MultiClass, outputs: Float[Tensor, "rows classes"]) -> Float[Tensor, "rows classes"]:
    """The chance of each class, a softmax."""
    return outputs.softmax(dim=1)


def _exp(z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """`e^z`, and its tangent from z = 30 on: rising and finite wherever z is, with a slope that leads back."""
    return torch.exp(z.clamp(max=STEEP)) * (1 + functional.relu(z - STEEP))


def _spread(z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return functional.softplus(z) + FLATTEST


def _lognormal(mean: Float[Tensor, "rows"], spread: Float[Tensor, "rows"], labels: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    s, log_y = _spread(spread), labels.log()
    return log_y + s.log() + math.log(2 * math.pi) / 2 + ((log_y - mean) / s).square() / 2


def _expectation(outputs: Float[Tensor, "rows 2"]) -> Float[Tensor, "rows 1"]:
    return _exp(outputs[:, :1] + _spread(outputs[:, 1:]).square() / 2)


def _log_grades(outputs: Float[Tensor, "rows steps"]) -> Float[Tensor, "rows grades"]:
    """Logarithms of the grades' chances, from logits of being above each: `a_0 = z_0`, `a_k = a_(k-1) - softplus(z_k)`.

    `sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^(b - a))`, and `1 - e^(-softplus(z)) = sigmoid(z)`: nothing cancels.
    """
    steps = functional.softplus(outputs[:, 1:])
    above = outputs[:, :1] - torch.cat([torch.zeros_like(outputs[:, :1]), torch.cumsum(steps, dim=1)], dim=1)
    inner = functional.logsigmoid(above[:, :-1]) + functional.logsigmoid(-above[:, 1:]) + functional.logsigmoid(outputs[:, 1:])
    return torch.cat([functional.logsigmoid(-above[:, :1]), inner, functional.logsigmoid(above[:, -1:])], dim=1)
