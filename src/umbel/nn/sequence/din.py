"""Attention to what resembles the candidate: each entry of a history weighed against the row's target."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from umbel.errors import UserError
from umbel.nn.bank import Part, xavier_
from umbel.nn.sequence.read import Read, Reader, of_lists
from umbel.nn.sequence.sequence import Listing, SequenceEncoder, Shape


class TargetAttention(Reader):
    """`s = sum_j a_j e_j / n`, `a_j = w' relu(W_k e_j + W_q t + W_p (e_j * t) + b) + c`, t the target and n the entries.

    Deep interest network (https://arxiv.org/abs/1706.06978): weights are not made to sum to one, so that s tells how much
    of a history resembles the target. Differences: ReLU for Dice, whose statistics run over the batch; the difference
    `e_j - t` is not handed in, as it is linear in what is; the sum is divided by n (how long a list is has a vector of its
    own). c starts at 1, so that training starts at the mean.
    """

    def __init__(self, lists: tuple[Listing, ...], shape: Shape, *, hidden: int) -> None:
        super().__init__()
        views, dim = shape
        self.count = len(lists)
        batches = views * self.count
        maps = [xavier_(torch.empty(batches, dim, hidden), (3 * dim, hidden)) for _ in range(3)]
        self.own, self.against, self.product = (nn.Parameter(one) for one in maps)
        self.last = nn.Parameter(xavier_(torch.empty(batches, hidden, 1), (hidden, 1)))
        self.biases = nn.ParameterList([torch.zeros(batches, 1, hidden), torch.ones(batches, 1, 1)])

    def forward(
        self, entries: Float[Tensor, "batches rows length dim"], known: Bool[Tensor, "batches rows length"],
        target: Float[Tensor, "batches rows dim"],
    ) -> Float[Tensor, "batches rows dim"]:
        """The entries' weighted mean."""
        weights = self.weights(entries, target).where(known, 0.0)
        total = torch.einsum("brl,brld->brd", weights, entries)
        return total / known.sum(2, keepdim=True).clamp(min=1)

    def weights(
        self, entries: Float[Tensor, "batches rows length dim"], target: Float[Tensor, "batches rows dim"],
    ) -> Float[Tensor, "batches rows length"]:
        """How much each entry counts, padding's too."""
        batches, rows, length, _ = entries.shape
        # W_k e + W_p (e * t) is one map of e, another for every row: so no tensor of rows x length x hidden but the sum is made.
        maps = self.own.unsqueeze(1) + target.unsqueeze(3) * self.product.unsqueeze(1)
        shift = torch.baddbmm(self.biases[0], target, self.against).flatten(0, 1).unsqueeze(1)
        inner = torch.baddbmm(shift, entries.flatten(0, 1), maps.flatten(0, 1)).relu_()
        return torch.baddbmm(self.biases[1], inner.view(batches, rows * length, maps.shape[3]), self.last).view(batches, rows, length)

    def parts(self, view: int) -> tuple[Part, ...]:
        """The units of a view's lists."""
        return of_lists(self, view, self.count)


def din(hidden: int) -> Callable[[tuple[Listing, ...], Shape], SequenceEncoder]:
    """Target attention for lists that name a target, the mean for the others; :raises UserError: where none does."""

    def make(lists: tuple[Listing, ...], shape: Shape) -> SequenceEncoder:
        if lists and all(one.target is None for one in lists):
            raise UserError(f"model.sequence: 'din', but {lists[0].name!r} names no target",
                            mend="add target = FIELD, an id or category of the same vocabulary, or use 'mean'")
        return Read(lists, shape, reads=lambda one: one.target is not None, make=partial(TargetAttention, hidden=hidden))

    return make
