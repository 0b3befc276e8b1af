"""Sub-network routing: which parts of the lower layers feed which of the upper ones, learned as numbers that may become 0."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.nn.bank import Bank, Part, xavier_
from umbel.nn.draw import normal_
from umbel.nn.layer import Layer, Lessons, Penalised
from umbel.nn.reach import Tasks, union

HEAT, LOW, HIGH = 2 / 3, -0.1, 1.1  # temperature and stretch of the hard concrete (https://arxiv.org/abs/1712.01312)


class HardConcrete(nn.Module):
    """Numbers in [0, 1] that are 0 or 1 with a chance of their own, and have a gradient.

    `z = clip((HIGH - LOW) s + LOW, 0, 1)`, `s = sigmoid((log u - log(1 - u) + alpha) / HEAT)`, u uniform while training;
    otherwise `s = sigmoid(alpha)`.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.alpha = nn.Parameter(normal_(torch.empty(shape), std=0.01))

    def forward(self) -> Float[Tensor, "readers experts"]:
        """Drawn anew each time while training."""
        s = self.alpha.sigmoid()
        if self.training:
            u = torch.rand_like(self.alpha).clamp(1e-6, 1 - 1e-6)
            s = ((u.logit() + self.alpha) / HEAT).sigmoid()
        return (s * (HIGH - LOW) + LOW).clamp(0, 1)

    def open(self) -> Float[Tensor, "readers experts"]:
        """The chance that each is not 0: `sigmoid(alpha - HEAT log(-LOW / HIGH))`."""
        return (self.alpha - HEAT * math.log(-LOW / HIGH)).sigmoid()


class SNR(Layer, Penalised):
    """Sub-networks, each of which may feed each reader: `h_r = sum_n z_rn y_n W_rn`, z hard-concrete, one number a connection.

    `transform` has the matrices W (SNR-Trans); without it they are the identity (SNR-Aver). Readers are the sub-networks of the
    level above, or the tasks. `sparsity * sum P(z_rn > 0)`, the expected number of connections, is paid beside the losses.
    (Ma et al., AAAI 2019, https://doi.org/10.1609/aaai.v33i01.3301216; the constants are those of Louizos et al.)
    """

    order: Tensor

    def __init__(
        self, reads: tuple[int, ...], widths: tuple[int, ...], *, readers: int, transform: bool, sparsity: float, dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.reads, self.width, self.sparsity = reads, widths[-1], sparsity
        self.voice = tuple(range(readers))
        self.bank = Bank(reads, widths, dropout=dropout)
        self.register_buffer("order", torch.tensor(self.bank.order), persistent=False)
        self.gates = HardConcrete((readers, len(reads)))
        shape = (readers, len(reads), widths[-1], widths[-1])
        self.maps = nn.Parameter(xavier_(torch.empty(shape), (widths[-1], widths[-1]))) if transform else None

    def forward(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> tuple[Float[Tensor, "rows hidden"], ...]:
        """What each reader is fed."""
        blocks: list[Tensor] = self.bank(inputs)
        said = torch.cat(blocks) if len(blocks) > 1 else blocks[0]
        shares: Tensor = self.gates().index_select(1, self.order)
        if self.maps is None:
            return (shares @ said.flatten(1)).view(len(self.voice), *said.shape[1:]).unbind(0)
        maps = (self.maps.index_select(1, self.order) * shares[:, :, None, None]).flatten(1, 2)
        return (said.transpose(0, 1).flatten(1) @ maps).unbind(0)

    def penalties(self) -> Float[Tensor, "readers"]:
        """The expected number of open connections of each reader, priced."""
        return self.sparsity * self.gates.open().sum(1)

    def lessons(self, readers: Sequence[Tasks]) -> Lessons:
        """Everybody may teach every sub-network; a reader's connections are its own. What a z of 0 has closed learns nothing."""
        every = union(readers)
        groups = {f"expert {one}": (tuple(part.under("bank") for part in self.bank.parts(one)), every) for one in range(len(self.reads))}
        names = ["gates.alpha"] if self.maps is None else ["gates.alpha", "maps"]
        groups |= {f"connections {reader}": (tuple(Part(name, (slice(reader, reader + 1),)) for name in names), readers[reader])
                   for reader in self.voice}
        return Lessons(groups, (every,) * (max(self.reads) + 1))
