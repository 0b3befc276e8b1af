"""Experts and gates that obey a routing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.nn.bank import Bank, Fan, MakeExperts, Part
from umbel.nn.layer import Layer, Lessons
from umbel.nn.reach import Tasks, reach
from umbel.nn.routing import Route, Routing


class Mixture(Layer):
    """One layer: every reader hears a mix of the experts, in shares that its gate gives.

    `h_r = sum_open g_re y_e + sum_stopped g_re stopgrad(y_e)`, with `g_r` a softmax over the experts that r hears and
    `y_e` the output of expert e. A gate reads the sum of its inputs, neither stopped. A reader of one expert has no
    gate: `h_r = y_e`. Readers that hear the same through the same gate are one *voice*, computed once;
    `voice[reader]` is its number.

    STEM and PLE (https://arxiv.org/abs/2308.13537) as tables; a gate has outputs only for the experts it hears, so that
    no parameter is without a gradient. Widths: `widths[0]` is the inputs', the last one `width`.
    """

    opened: Tensor
    stopped: Tensor
    slots: Tensor

    def __init__(
        self, routing: Routing, widths: tuple[int, ...], *, gate: tuple[int, ...] = (), dropout: float = 0.0, experts: MakeExperts = Bank,
    ) -> None:
        super().__init__()
        self.routing, self.width = routing, widths[-1]
        self.bank = experts(routing.views, widths, dropout=dropout)
        kinds = [(_gate(routing, reader), row) for reader, row in enumerate(routing.table)]
        voices = tuple(dict.fromkeys(kinds))
        self.voice = tuple(voices.index(kind) for kind in kinds)
        self.gate_of = tuple(own for own, _ in voices)
        self.gated = tuple(dict.fromkeys(own for own in self.gate_of if own is not None))
        self.sums = tuple(dict.fromkeys(routing.gates[own] for own in self.gated))
        reads = tuple(self.sums.index(routing.gates[own]) for own in self.gated)
        lasts = tuple(len(routing.heard(routing.gate.index(own))) for own in self.gated)
        self.gates = Fan(reads, (widths[0], *gate), lasts=lasts, dropout=dropout) if self.gated else None
        self._tabulate(tuple(row for _, row in voices))

    def forward(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> tuple[Float[Tensor, "rows hidden"], ...]:
        """What each voice says, from the inputs that experts and gates read."""
        if self.gates is None:
            blocks: list[Tensor] = self.bank(inputs)
            return tuple(blocks[number][place] for number, place in self.sole)
        return self.mix(self.weigh(inputs), self.said(inputs)).unbind(1)

    def said(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> Float[Tensor, "rows experts hidden"]:
        """What each expert says, in the bank's order."""
        blocks: list[Tensor] = self.bank(inputs)
        return (torch.cat(blocks) if len(blocks) > 1 else blocks[0]).transpose(0, 1)

    def summed(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> list[Tensor]:
        """What the gates read: each of `sums`, `rows width`."""
        return [_sum([inputs[one] for one in total]) for total in self.sums]

    def weigh(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> Float[Tensor, "rows voices experts"]:
        """How much each voice listens to each expert, in the bank's order."""
        if self.gates is None:
            return self.opened.expand(inputs[0].shape[0], -1, -1)
        logits = self.gates(self.summed(inputs))
        one = inputs[0].new_ones(inputs[0].shape[0], 1)
        voices = [one if own is None else logits[self.gated.index(own)].softmax(1) for own in self.gate_of]
        if self.whole:
            return torch.stack(voices, 1)
        padded = torch.stack([nn.functional.pad(voice, (0, self.most + 1 - voice.shape[1])) for voice in voices], 1)
        return padded.gather(2, self.slots.expand(padded.shape[0], -1, -1))

    def mix(
        self, shares: Float[Tensor, "rows voices experts"], said: Float[Tensor, "rows experts hidden"],
    ) -> Float[Tensor, "rows voices hidden"]:
        """What each voice says: the experts in shares, the stopped ones without their gradient."""
        if not self.stops:
            return torch.bmm(shares, said)
        return torch.bmm(shares * self.opened, said) + torch.bmm(shares * self.stopped, said.detach())

    def lessons(self, readers: Sequence[Tasks]) -> Lessons:
        """What the routing says."""
        level = reach(self.routing, readers)
        groups = {f"expert {expert}": (self.expert_parts(expert), tasks) for expert, tasks in enumerate(level.experts)}
        groups |= {f"gate {gate}": (self.gate_parts(gate), level.gates[gate]) for gate in self.gated}
        return Lessons(groups, level.inputs)

    def shares(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> Float[Tensor, "rows readers experts"]:
        """How much each reader listens to each expert: 0 where hidden, 1 in sum."""
        back = [self.bank.order.index(expert) for expert in range(len(self.bank.order))]
        return self.weigh(inputs)[:, list(self.voice)][:, :, back]

    def expert_parts(self, expert: int) -> tuple[Part, ...]:
        """The parameters of one expert."""
        return tuple(part.under("bank") for part in self.bank.parts(expert))

    def gate_parts(self, gate: int) -> tuple[Part, ...]:
        """The parameters of one gate; none where it decides nothing."""
        if self.gates is None or gate not in self.gated:
            return ()
        return tuple(part.under("gates") for part in self.gates.parts(self.gated.index(gate)))

    def _tabulate(self, rows: tuple[tuple[Route, ...], ...]) -> None:
        """The voices' routes as tensors, experts in the bank's order; `slots` says which gate output belongs to an expert."""
        routes = [[row[expert] for expert in self.bank.order] for row in rows]
        heard = [[expert for expert, route in enumerate(row) if route is not Route.HIDDEN] for row in rows]
        self.most = max(map(len, heard))
        slots = [[own.index(expert) if expert in own else self.most for expert in self.bank.order] for own in heard]
        places = [(number, place) for number, members in enumerate(self.bank.members) for place in range(len(members))]
        self.sole = tuple(places[self.bank.order.index(own[0])] for own in heard)
        self.stops = any(route is Route.STOPPED for row in routes for route in row)
        self.whole = all(len(own) == len(self.bank.order) for own in heard)
        self.register_buffer("opened", _marks(routes, Route.OPEN), persistent=False)
        self.register_buffer("stopped", _marks(routes, Route.STOPPED), persistent=False)
        self.register_buffer("slots", torch.tensor(slots), persistent=False)


def mixture_of(layer: nn.Module) -> Mixture | None:
    """The mixture that a layer is, or that it holds and adds to (`adatt`, `home`); none where it mixes otherwise.

    Example
    -------
    >>> mixture_of(nn.Linear(1, 1)) is None
    True
    """
    inner = getattr(layer, "mixture", layer)
    return inner if isinstance(inner, Mixture) else None


def _gate(routing: Routing, reader: int) -> int | None:
    """The gate that decides what a reader hears; none where it hears one expert, which then must not be stopped."""
    return routing.gate[reader] if len(routing.heard(reader)) > 1 else None


def _marks(routes: list[list[Route]], which: Route) -> Float[Tensor, "voices experts"]:
    return torch.tensor([[float(route is which) for route in row] for row in routes])


def _sum(inputs: list[Tensor]) -> Tensor:
    total = inputs[0]
    for one in inputs[1:]:
        total = total + one
    return total
