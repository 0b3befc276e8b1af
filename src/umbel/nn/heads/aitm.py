"""Each step of a chain hands on what it knows: the head of adaptive information transfer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, relu

from umbel.errors import UserError
from umbel.nn.bank import Block, Part
from umbel.nn.heads.chain import Chain, marginal_loss, paid, required_chains, settled
from umbel.nn.heads.head import Head, Taught, pupils, tower_groups, towers
from umbel.nn.losses import Denominator, Labelled, masked_mean, task_losses
from umbel.schema import Schema

EDGE = 0.01  # how near to 0 the logarithm of a conditional comes before its logit is continued by a slower function


def conditional(own: Float[Tensor, "rows"], above: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """The logit of p(t | given) from the logits of the marginals p(t) and p(given).

    `x = log p(t) - log p(given)`, and the logit of `e^x` is `x - log(1 - e^x)`, exact up to a conditional of 0.99. Two towers may say
    more, even that t is likelier than what it is given; beyond, the logit goes on rising, with the slope it has there and then ever
    slower (`f(-E) + log(1 + (x + E) / E)`), so that it is finite and still ranks the rows.

    Example
    -------
    >>> conditional(torch.tensor([0.0, -1.0986]), torch.tensor([1.0986, 0.0])).sigmoid()  # 1/2 of 3/4, 1/4 of 1/2
    tensor([0.6667, 0.5000])
    """
    x = logsigmoid(own) - logsigmoid(above)
    inside = x.clamp(max=-EDGE)
    return inside - torch.log(-torch.expm1(inside)) + torch.log1p((x + EDGE).clamp(min=0) / EDGE)


class Transfer(nn.Module):
    """`u = sum_x a_x V x` over x, what is handed on and what is one's own; `a = softmax_x(<K x, Q x> / sqrt(width))`.

    The maps have biases; each x is asked about itself, as in the paper.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = 1 / math.sqrt(width)
        self.maps = Block(3, (width, width), linear=True, dropout=0.0)

    def forward(self, handed: Float[Tensor, "rows width"], own: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
        """What a task goes on with."""
        value, key, query = torch.stack([self.maps(handed), self.maps(own)], 1).unbind(0)  # each `2 rows width`
        share = ((key * query).sum(2, keepdim=True) * self.scale).softmax(0)
        return (share * value).sum(0)

    def parts(self) -> tuple[Part, ...]:
        """All it learns."""
        return tuple(part.under("maps") for member in range(3) for part in self.maps.parts(member))


@final
class Aitm(Head):
    """Along a chain, each task attends to what the one before hands on and to its own; towers say the marginals.

    `u_1 = h_1`, `u_t = Transfer(W_t u_{t-1}, h_t)`, `m_t = MLP_t(u_t)`, where `t - 1` is the task that t is given. A binary t that is
    given another pays the cross entropy of `p(t) = s(m_t)` on every row where it is known whether it happened, and
    `calibrator * mean max(s(m_t) - s(m_{t-1}), 0)`, for an event cannot be likelier than the one that it needs. The other tasks are plain
    towers and pay their own loss; so does the first of a chain.

    AITM (https://arxiv.org/abs/2105.08489), which predicts marginals. Here the output of a task is the logit of p(task | given) as
    everywhere: it is worked out from the two marginals (`conditional`), whose logits are auxiliary outputs and what the losses read. So
    training is the paper's, and the product along a chain is the tower's marginal wherever that is at most 0.99 of the one before.
    Differences: any number of chains and trees of them; what is handed on is a linear map, and `Transfer` is one for all steps,
    as in the code published with STEM; it stands below the towers, so that there is no MLP between it and the mixture.

    :raises UserError: as `Esmm` does.
    """

    def __init__(self, schema: Schema, voice: tuple[int, ...], *, widths: tuple[int, ...], dropout: float, calibrator: float) -> None:
        super().__init__()
        tasks = range(len(schema.tasks))
        self.schema, self.chains, self.calibrator, self.voice = schema, required_chains(schema, "aitm"), calibrator, voice
        self.hears = tuple(self.chains[task].tasks if task in self.chains else (task,) for task in tasks)
        self.above = {task: steps.tasks[-2] for task, steps in self.chains.items()}
        self.order = sorted(self.chains, key=lambda task: len(self.chains[task].tasks))
        self.auxiliary = tuple(f"logit of the marginal of {schema.tasks[task].name}" for task in self.chains)
        first = schema.outputs[-1].stop
        self.column = {task: schema.outputs[task].start for task in tasks} | {task: first + at for at, task in enumerate(self.chains)}
        self.handing = nn.ModuleDict({str(task): Block(1, (widths[0],) * 2, linear=True, dropout=0.0) for task in self.chains})
        self.transfer = Transfer(widths[0])
        self.towers = towers(schema, tuple(tasks), widths=widths, dropout=dropout)

    def forward(self, voices: Sequence[Float[Tensor, "rows hidden"]]) -> Float[Tensor, "rows outputs"]:
        """Logits of the conditionals, in the order of the schema's outputs; then those of the marginals of tasks given another."""
        heard = [voices[own] for own in self.voice[:len(self.schema.tasks)]]
        for task in self.order:
            heard[task] = self.transfer(self.handing[str(task)](heard[self.above[task]])[0], heard[task])
        said = self.towers(heard)
        given = [conditional(one[:, 0], said[self.above[task]][:, 0])[:, None] if task in self.above else one
                 for task, one in enumerate(said)]
        return torch.cat([*given, *(said[task] for task in self.chains)], 1)

    def losses(
        self, logits: Float[Tensor, "rows outputs"], batch: Labelled, schema: Schema, *, denominator: Denominator,
    ) -> Float[Tensor, "tasks"]:
        """The marginal's cross entropy and the calibrator for a task at the end of a chain, a task's own loss for the others."""
        own = list(task_losses(logits, batch, schema, denominator=denominator))
        for task, steps in self.chains.items():
            loss = marginal_loss(logits, batch, Chain(steps.tasks, (self.column[task],)), denominator=denominator)
            if self.calibrator:
                loss = loss + self.calibrator * self._excess(logits, batch, task, denominator=denominator)
            own[task] = schema.tasks[task].weight * loss
        return torch.stack(own)

    def paid(self, batch: Labelled) -> Bool[Tensor, "rows tasks"]:
        """Those where the outcome of a chain is known, for the task that it ends in; else those whose label was seen."""
        return paid(batch, self.chains.values())

    def groups(self) -> dict[str, Taught]:
        """Towers with their tasks and, for the calibrator, those given these; what is handed to a task with all that stand on it."""
        tasks, names = len(self.schema.tasks), [task.name for task in self.schema.tasks]
        lessons = [(task, self.above[task]) if task in self.above and self.calibrator else (task,) for task in range(tasks)]
        taught = pupils(self.hears, tasks)
        found = tower_groups(self.towers, self.schema, pupils(lessons, tasks))
        found |= {f"handing {names[task]}": (tuple(part.under(f"handing.{task}") for part in self._block(task).parts(0)), taught[task])
                  for task in self.chains}
        return found | {"transfer": (tuple(part.under("transfer") for part in self.transfer.parts()), tuple(self.chains))}

    def _block(self, task: int) -> Block:
        block = self.handing[str(task)]
        assert isinstance(block, Block)
        return block

    def _excess(self, logits: Float[Tensor, "rows outputs"], batch: Labelled, task: int, *, denominator: Denominator) -> Float[Tensor, ""]:
        """By how much a task is held likelier than what it is given."""
        known = settled(batch, self.chains[task].tasks)[1]
        later, earlier = (torch.where(known, logits[:, self.column[one]], 0.0).sigmoid() for one in (task, self.above[task]))
        weight = None if batch.weight is None else batch.weight[:, task]
        return masked_mean(relu(later - earlier), known, weight, denominator=denominator)


@final
@dataclass(frozen=True, slots=True)
class MakeAitm:
    """`aitm`: `calibrator` weighs what a task pays for being held likelier than the one it is given (0.6 in the paper)."""

    name: ClassVar[str] = "aitm"
    calibrator: float = 0.6

    def __post_init__(self) -> None:
        if not 0 <= self.calibrator < math.inf:
            raise UserError(f"{self.name}: calibrator = {self.calibrator:g}", mend="give a weight, 0 or more")

    def __call__(self, schema: Schema, voice: tuple[int, ...], *, widths: tuple[int, ...], dropout: float) -> Head:
        """See `Aitm`."""
        return Aitm(schema, voice, widths=widths, dropout=dropout, calibrator=self.calibrator)
