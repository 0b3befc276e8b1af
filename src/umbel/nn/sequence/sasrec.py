"""A small causal transformer over a history, whose last state is the summary."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad

from umbel.nn.attention import Attention
from umbel.nn.bank import Part, xavier_
from umbel.nn.draw import normal_
from umbel.nn.encode import SPREAD
from umbel.nn.sequence.read import Read, Reader, of_lists
from umbel.nn.sequence.sequence import Listing, SequenceEncoder, Shape


class Block(nn.Module):
    """`y = x + attention(LN x)`, `z = y + relu(LN y W_1 + b_1) W_2 + b_2`, LN with gain and shift."""

    def __init__(self, batches: int, dim: int, *, heads: int) -> None:
        super().__init__()
        self.attention = Attention(batches, dim, heads=heads, scale=math.sqrt(heads / dim), key="model.sequence_sizes.heads")
        self.weights = nn.ParameterList(xavier_(torch.empty(batches, dim, dim), (dim, dim)) for _ in range(2))
        self.biases = nn.ParameterList(torch.zeros(batches, 1, 1, dim) for _ in range(2))
        self.gains = nn.ParameterList(torch.ones(batches, 1, 1, dim) for _ in range(2))
        self.shifts = nn.ParameterList(torch.zeros(batches, 1, 1, dim) for _ in range(2))

    def forward(
        self, x: Float[Tensor, "batches rows asking dim"], entries: Float[Tensor, "batches rows length dim"],
        allowed: Bool[Tensor, "batches rows asking length"],
    ) -> Float[Tensor, "batches rows asking dim"]:
        """The states `x` after reading the entries they are allowed."""
        y = x + self.attention(self._even(x, 0), self._even(entries, 0), allowed)
        inner = torch.relu(torch.einsum("brqd,bde->brqe", self._even(y, 1), self.weights[0]) + self.biases[0])
        made: Tensor = y + torch.einsum("brqd,bde->brqe", inner, self.weights[1]) + self.biases[1]
        return made

    def _even(self, x: Tensor, which: int) -> Tensor:
        even: Tensor = layer_norm(x, x.shape[3:]) * self.gains[which] + self.shifts[which]
        return even


class Transformer(Reader):
    """Blocks over `e_j + p_j`, each entry reading itself and what came before; the summary is the last entry's state.

    SASRec (https://arxiv.org/abs/1808.09781), which does not look at the candidate: the experts do. Positions are
    counted from the end, so that the last entry's is the same in any list. Differences: no dropout; the last block
    computes the last state alone, which is all that is read of it. Blocks below it keep `heads length^2` numbers a history.
    """

    def __init__(self, lists: tuple[Listing, ...], shape: Shape, *, layers: int, heads: int) -> None:
        super().__init__()
        views, dim = shape
        self.count = len(lists)
        self.positions = nn.ParameterList(normal_(torch.empty(views, one.length, dim), std=SPREAD) for one in lists)
        self.blocks = nn.ModuleList(Block(views * self.count, dim, heads=heads) for _ in range(layers))

    def forward(
        self, entries: Float[Tensor, "batches rows length dim"], known: Bool[Tensor, "batches rows length"],
        target: Float[Tensor, "batches rows dim"],
    ) -> Float[Tensor, "batches rows dim"]:
        """The state of the last entry."""
        later = known.flip(2).cumsum(2).flip(2) - known.long()
        x = entries + self._positions(later)
        last = known & (later == 0)
        earlier = torch.ones(known.shape[2], known.shape[2], dtype=torch.bool, device=known.device).tril()
        for number, block in enumerate(self.blocks):
            if number + 1 < len(self.blocks):
                x = block(x, x, known.unsqueeze(2) & earlier)
            else:
                asking = torch.einsum("brl,brld->brd", last.to(x.dtype), x).unsqueeze(2)
                asking = block(asking, x, known.unsqueeze(2))
        return asking.squeeze(2) * known.any(2, keepdim=True)

    def parts(self, view: int) -> tuple[Part, ...]:
        """The blocks and positions of a view's lists."""
        blocks = [part for part in of_lists(self, view, self.count) if not part.name.startswith("positions")]
        return (*blocks, *(Part(f"positions.{number}", (slice(view, view + 1),)) for number in range(self.count)))

    def _positions(self, later: Tensor) -> Float[Tensor, "batches rows length dim"]:
        """The vector of each entry's place from the end."""
        length = later.shape[2]
        every = torch.stack([pad(one, (0, 0, 0, length - one.shape[1])) for one in self.positions], 1).flatten(0, 1)
        places = later.flatten(1).unsqueeze(2).expand(-1, -1, every.shape[2])
        return every.gather(1, places).view(*later.shape, every.shape[2])


def sasrec(layers: int, heads: int) -> Callable[[tuple[Listing, ...], Shape], SequenceEncoder]:
    """The transformer for sequences, the mean for bags, which have no order."""
    return partial(Read, reads=lambda one: one.ordered, make=partial(Transformer, layers=layers, heads=heads))
