"""HoME's experts and gates: every expert scales its input and normalises its output, and a reader's own are heard once more."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.errors import UserError
from umbel.nn.bank import Experts, Fan, Linears, Part, xavier_
from umbel.nn.drop import dropped
from umbel.nn.layer import Layer, Lessons
from umbel.nn.mixture import Mixture
from umbel.nn.reach import Tasks


class Normed(Experts):
    """Experts that choose among the numbers of their input, and whose outputs are alike in size whatever they learned.

    `h^0 = x * 2 sigmoid(x B A)`, with B `width x rank` and A `rank x width`; `h^(l+1) = swish(norm(h^l W^l + b^l))`, the norm over
    a row's numbers, with a scale and a shift for each. The paper normalises over the batch, which would make a row's score
    depend on the rows beside it, and after the last layer alone; and it mixes several such input gates where we have one.

    :raises UserError: for a layer of one number, which a norm over the row makes 0.
    """

    def __init__(self, reads: tuple[int, ...], widths: tuple[int, ...], *, rank: int, dropout: float = 0.0) -> None:
        super().__init__()
        if min(widths[1:]) < 2:
            raise UserError(f"model.expert = {list(widths[1:])}: home's norm over a row needs 2 numbers", mend="give 2 or more")
        count = len(reads)
        self.reads, self.dropout = reads, dropout
        self.order, self.members = tuple(range(count)), (tuple(range(count)),)
        self.down = nn.Parameter(xavier_(torch.empty(count, widths[0], rank), (widths[0], rank)))
        self.up = nn.Parameter(xavier_(torch.empty(count, rank, widths[0]), (rank, widths[0])))
        self.maps = nn.ModuleList(Linears(count, pair) for pair in pairwise(widths))
        self.scales = nn.ParameterList(torch.ones(count, 1, width) for width in widths[1:])
        self.shifts = nn.ParameterList(torch.zeros(count, 1, width) for width in widths[1:])

    def forward(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> list[Tensor]:
        """All experts as one block, `experts rows out`."""
        h = torch.stack([inputs[read] for read in self.reads])
        h = h * (2 * torch.bmm(torch.bmm(h, self.down), self.up).sigmoid())
        for linears, scale, shift in zip(self.maps, self.scales, self.shifts, strict=True):
            y = linears(h)
            y = nn.functional.layer_norm(y, y.shape[-1:]) * scale + shift
            h = dropped(nn.functional.silu(y), self.dropout, training=self.training)
        return [h]

    def parts(self, member: int) -> tuple[Part, ...]:
        """What one expert owns: experts come first in every parameter."""
        return tuple(Part(name, (slice(member, member + 1),)) for name, _ in self.named_parameters())


class SelfGated(Layer):
    """A mixture, and beside it a reader's own experts once more: `h_r = sum_n g_rn y_n + sum_{n of r} s_rn y_n`.

    `s_r` is a softmax over the reader's own experts, a sigmoid where it has one, from what its gate reads: so the experts of a
    task with few labels are taught however little the gate gives them. A reader of one expert has neither gate.

    `own[reader]` is the span of its experts; every reader of `mixture` has a voice of its own.
    """

    def __init__(self, mixture: Mixture, own: tuple[tuple[int, int], ...], *, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.mixture, self.voice, self.width = mixture, mixture.voice, mixture.width
        self.own = {reader: span for reader, span in enumerate(own[:len(self.voice)])
                    if span[1] > span[0] and mixture.gate_of[mixture.voice[reader]] is not None}
        reads = tuple(mixture.sums.index(mixture.routing.gates[mixture.routing.gate[reader]]) for reader in self.own)
        lasts = tuple(end - start for start, end in self.own.values())
        self.gates = Fan(reads, widths, lasts=lasts) if self.own else None

    def forward(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> tuple[Float[Tensor, "rows hidden"], ...]:
        """What each reader hears."""
        shares = self.mixture.weigh(inputs) + self._more(inputs)
        return self.mixture.mix(shares, self.mixture.said(inputs)).unbind(1)

    def lessons(self, readers: Sequence[Tasks]) -> Lessons:
        """The routing's; a self-gate learns from its reader's tasks, through which its gate teaches the same inputs."""
        below = self.mixture.lessons(readers)
        groups = {name: (tuple(part.under("mixture") for part in parts), tasks) for name, (parts, tasks) in below.groups.items()}
        if self.gates is not None:
            own = [tuple(part.under("gates") for part in self.gates.parts(place)) for place in range(len(self.own))]
            groups |= {f"self gate {reader}": (own[place], readers[reader]) for place, reader in enumerate(self.own)}
        return Lessons(groups, below.inputs)

    def _more(self, inputs: Sequence[Tensor]) -> Float[Tensor, "rows voices experts"]:
        experts = len(self.mixture.bank.order)
        found = [inputs[0].new_zeros(inputs[0].shape[0], experts)] * len(self.voice)
        logits = () if self.gates is None else self.gates(self.mixture.summed(inputs))
        for (reader, (start, end)), one in zip(self.own.items(), logits, strict=True):
            share = one.softmax(1) if end - start > 1 else one.sigmoid()
            found[self.voice[reader]] = nn.functional.pad(share, (start, experts - end))
        return torch.stack(found, 1)
