"""Towers on a graph of tasks: a later one also reads what the earlier ones made of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from umbel.errors import UserError, nearest
from umbel.nn.bank import Block, Part
from umbel.nn.heads.head import Head, Taught, pupils
from umbel.nn.losses import Denominator, Labelled, task_losses
from umbel.schema import Schema

Edges = tuple[tuple[str, str], ...]


class Tower(nn.Module):
    """An MLP that shows its last hidden layer (its input, where it has none)."""

    def __init__(self, widths: tuple[int, ...], last: int, *, dropout: float) -> None:
        super().__init__()
        self.hidden = Block(1, widths, linear=False, dropout=dropout) if len(widths) > 1 else None
        self.last = Block(1, (widths[-1], last), linear=True, dropout=0.0)

    def forward(self, x: Float[Tensor, "rows width"]) -> tuple[Float[Tensor, "rows hidden"], Float[Tensor, "rows last"]]:
        """The hidden layer, and the output."""
        hidden = x if self.hidden is None else self.hidden(x)[0]
        return hidden, self.last(hidden)[0]

    def parts(self) -> tuple[Part, ...]:
        """All it learns, from its input up."""
        below = () if self.hidden is None else tuple(part.under("hidden") for part in self.hidden.parts(0))
        return (*below, *(part.under("last") for part in self.last.parts(0)))


def parents(schema: Schema, edges: Edges | None) -> tuple[tuple[int, ...], ...]:
    """For each task those whose hidden layer it reads, by number: as the edges (earlier, later) say.

    Without edges, those of `given`; where no task is given another, each task reads the one declared before it.

    :raises UserError: for an edge to a task that is not there or to itself, and for a circle.

    Example
    -------
    >>> from umbel.schema import Field, FieldKind, Task
    >>> parents(Schema((Field("user", FieldKind.ID),), (Task("buy", given="click"), Task("click"))), None)
    ((1,), ())
    """
    names = [task.name for task in schema.tasks]
    given = tuple((task.given, task.name) for task in schema.tasks if task.given is not None)
    chosen = (given or tuple(pairwise(names))) if edges is None else edges
    for edge in chosen:
        _check_edge(edge, names)
    above = {name: [earlier for earlier, later in dict.fromkeys(chosen) if later == name] for name in names}
    try:
        TopologicalSorter(above).prepare()
    except CycleError as error:
        raise UserError(f"model.head.edges: {' -> '.join(error.args[1])} is a circle", mend="leave one of these edges out") from None
    return tuple(tuple(sorted(names.index(earlier) for earlier in above[name])) for name in names)


@final
class Dbmtl(Head):
    """A tower a task on a graph without circles, which also reads the hidden layers of the towers with an edge to it.

    `x_t = [h_t, r_a for each edge (a, t)]`, `r_t = MLP_t(x_t)`, `logits_t = W_t r_t + b_t`. So the chance of a task is conditioned on
    what the towers before it found, as the paper's factors p(t | tasks before, x) ask, and every task teaches all towers that lead
    to it. Each pays its own loss.

    DBMTL (https://arxiv.org/abs/1902.09154). Differences: labels are those of the schema, so that a task that is `given` another is learned
    where that holds; kinds of tasks may mix; the graph is chosen (`parents`), with the edges of `given` as default.

    :raises UserError: as `parents` does.
    """

    def __init__(self, schema: Schema, voice: tuple[int, ...], *, widths: tuple[int, ...], dropout: float, edges: Edges | None) -> None:
        super().__init__()
        self.schema, self.voice = schema, voice
        self.above = parents(schema, edges)
        self.order = tuple(TopologicalSorter(dict(enumerate(self.above))).static_order())
        hidden: dict[int, int] = {}
        leading: dict[int, set[int]] = {}
        found: dict[int, Tower] = {}
        for task in self.order:
            width = widths[0] + sum(hidden[one] for one in self.above[task])
            found[task] = Tower((width, *widths[1:]), schema.tasks[task].kind.outputs, dropout=dropout)
            hidden[task] = widths[-1] if len(widths) > 1 else width
            leading[task] = {task}.union(*(leading[one] for one in self.above[task]))
        self.towers = nn.ModuleList(found[task] for task in range(len(schema.tasks)))
        self.hears = tuple(tuple(sorted(leading[task])) for task in range(len(schema.tasks)))

    def forward(self, voices: Sequence[Float[Tensor, "rows hidden"]]) -> Float[Tensor, "rows outputs"]:
        """Logits, in the order of the schema's outputs."""
        hidden: dict[int, Tensor] = {}
        logits: dict[int, Tensor] = {}
        for task in self.order:
            own = torch.cat([voices[self.voice[task]], *(hidden[one] for one in self.above[task])], 1)
            hidden[task], logits[task] = self.towers[task](own)
        return torch.cat([logits[task] for task in range(len(logits))], 1)

    def losses(
        self, logits: Float[Tensor, "rows outputs"], batch: Labelled, schema: Schema, *, denominator: Denominator,
    ) -> Float[Tensor, "tasks"]:
        """Each task's own loss where its label was seen: `umbel.nn.losses.task_losses`."""
        return task_losses(logits, batch, schema, denominator=denominator)

    def paid(self, batch: Labelled) -> Bool[Tensor, "rows tasks"]:
        """Those whose label was seen."""
        return batch.seen

    def groups(self) -> dict[str, Taught]:
        """Each tower with its task and all that it leads to."""
        taught = pupils(self.hears, len(self.schema.tasks))
        return {f"tower {task.name}": (tuple(part.under(f"towers.{number}") for part in tower.parts()), taught[number])
                for number, (task, tower) in enumerate(zip(self.schema.tasks, self.towers, strict=True)) if isinstance(tower, Tower)}


@final
@dataclass(frozen=True, slots=True)
class MakeDbmtl:
    """`dbmtl`: `edges` are pairs of tasks, the earlier first; without them see `parents`."""

    name: ClassVar[str] = "dbmtl"
    edges: Edges | None = None

    def __call__(self, schema: Schema, voice: tuple[int, ...], *, widths: tuple[int, ...], dropout: float) -> Head:
        """See `Dbmtl`."""
        return Dbmtl(schema, voice, widths=widths, dropout=dropout, edges=self.edges)


def _check_edge(edge: tuple[str, str], names: list[str]) -> None:
    for name in edge:
        if name not in names:
            raise UserError(f"model.head.edges: no task {name!r}", mend=nearest(name, names))
    if edge[0] == edge[1]:
        raise UserError(f"model.head.edges: {edge[0]!r} reads itself", mend="leave the edge out")
