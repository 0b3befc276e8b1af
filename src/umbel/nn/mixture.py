"""Experts and gates that obey a routing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.nn.bank import Bank, Fan, Part
from umbel.nn.routing import Route, Routing


class Mixture(nn.Module):
    """One layer: every reader hears a mix of the experts, in shares that its gate gives.

    `h_r = sum_open g_re y_e + sum_stopped g_re stopgrad(y_e)`, with `g_r` a softmax over the experts that r hears and
    `y_e` the output of expert e. A gate reads the sum of its inputs. A reader of one expert has no gate: `h_r = y_e`.
    Readers that hear the same through the same gate are one *voice*, computed once: `voice[reader]` is its number.
    """

    def __init__(self, routing: Routing, widths: tuple[int, ...], *, gate: tuple[int, ...] = (), dropout: float = 0.0) -> None:
        super().__init__()
        self.routing = routing
        self.width = widths[-1]
        kinds = [(routing.gate[reader] if len(routing.heard(reader)) > 1 else -1, row) for reader, row in enumerate(routing.table)]
        voices = tuple(dict.fromkeys(kinds))
        self.voice = tuple(voices.index(kind) for kind in kinds)
        self.bank = Bank(routing.views, widths, dropout=dropout)
        self.gated = tuple(dict.fromkeys(gate for gate, _ in voices if gate >= 0))
        self.sums = tuple(dict.fromkeys(routing.gates[gate] for gate in self.gated))
        self.gates = self._gates((widths[0], *gate), dropout)
        self._remember(voices)

    def forward(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> tuple[Float[Tensor, "rows hidden"], ...]:
        """What each voice says."""
        blocks = self.bank(inputs)
        if not self.gated:
            return tuple(blocks[number][place] for number, place in self.sole)
        shares = self._shares(inputs)
        mixed = [mix for number, block in enumerate(blocks) for mix in self._mix(number, block, shares)]
        return torch.stack(mixed).sum(0).unbind(1) if len(mixed) > 1 else mixed[0].unbind(1)

    def shares(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> Float[Tensor, "rows readers experts"]:
        """How much each reader listens to each expert (0 where hidden; rows sum to 1)."""
        back = [self.bank.order.index(expert) for expert in range(len(self.bank.order))]
        return self._shares(inputs)[:, list(self.voice)][:, :, back]

    def expert_parts(self, expert: int) -> tuple[Part, ...]:
        """The parameters of one expert."""
        return tuple(part.under("bank") for part in self.bank.parts(expert))

    def gate_parts(self, gate: int) -> tuple[Part, ...]:
        """The parameters of one gate."""
        assert isinstance(self.gates, Fan)
        return tuple(part.under("gates") for part in self.gates.parts(self.gated.index(gate)))

    def _gates(self, widths: tuple[int, ...], dropout: float) -> Fan | None:
        if not self.gated:
            return None
        routing = self.routing
        reads = tuple(self.sums.index(routing.gates[gate]) for gate in self.gated)
        lasts = tuple(len(routing.heard(routing.gate.index(gate))) for gate in self.gated)
        return Fan(reads, widths, lasts, dropout=dropout)

    def _remember(self, voices: tuple[tuple[int, tuple[Route, ...]], ...]) -> None:
        """The routing as tensors, experts in the bank's order, and where each block begins and ends in it."""
        rows = torch.tensor([[row[expert] for expert in self.bank.order] for _, row in voices])
        self.gate_of_voice = tuple(gate for gate, _ in voices)
        self.register_buffer("opened", (rows == Route.OPEN).float(), persistent=False)
        self.register_buffer("stopped", (rows == Route.STOPPED).float(), persistent=False)
        heard = [[expert for expert, route in enumerate(row) if route] for _, row in voices]
        most = max(map(len, heard))
        slots = [[own.index(expert) if expert in own else most for expert in self.bank.order] for own in heard]
        self.register_buffer("slots", torch.tensor(slots), persistent=False)
        ends = [sum(map(len, self.bank.members[:number + 1])) for number in range(len(self.bank.members))]
        self.spans = tuple(slice(end - len(own), end) for end, own in zip(ends, self.bank.members, strict=True))
        self.any_open = tuple(bool((rows[:, span] == Route.OPEN).any()) for span in self.spans)
        self.any_stopped = tuple(bool((rows[:, span] == Route.STOPPED).any()) for span in self.spans)
        places = [(number, place) for number, own in enumerate(self.bank.members) for place in range(len(own))]
        self.sole = tuple(places[self.bank.order.index(own[0])] for own in heard)
        self.most = most

    def _shares(self, inputs: Sequence[Tensor]) -> Float[Tensor, "rows voices experts"]:
        if self.gates is None:
            return (self.opened + self.stopped).expand(inputs[0].shape[0], -1, -1)
        logits: tuple[Tensor, ...] = self.gates([_sum([inputs[one] for one in total]) for total in self.sums])
        softmax = [one.softmax(-1) for one in logits]
        one = inputs[0].new_ones(inputs[0].shape[0], 1)
        voices = [one if gate < 0 else softmax[self.gated.index(gate)] for gate in self.gate_of_voice]
        padded = torch.stack([nn.functional.pad(voice, (0, self.most + 1 - voice.shape[1])) for voice in voices], 1)
        return padded.take_along_dim(self.slots.expand(len(padded), -1, -1), 2)

    def _mix(self, number: int, block: Float[Tensor, "members rows hidden"], shares: Tensor) -> list[Float[Tensor, "rows voices hidden"]]:
        span, members = self.spans[number], block.transpose(0, 1)
        mixed = []
        if self.any_open[number]:
            mixed.append(torch.bmm(shares[:, :, span] * self.opened[:, span], members))
        if self.any_stopped[number]:
            mixed.append(torch.bmm(shares[:, :, span] * self.stopped[:, span], members.detach()))
        return mixed


def _sum(inputs: list[Tensor]) -> Tensor:
    total = inputs[0]
    for one in inputs[1:]:
        total = total + one
    return total
