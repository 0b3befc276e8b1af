"""The matrix products of one step of MMoE and nothing else: what no step in float32 can be faster than, by the faster of two libraries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from peers.rows import BATCH, COLUMNS, EXPERTS, TOWER
from torch import Tensor

from umbel.nn.dense import ONEDNN

Multiply = Callable[[Tensor, Tensor], Tensor]


def mkl(x: Tensor, weight: Tensor) -> Tensor:
    """`x weight^T` as torch takes it."""
    return x @ weight.t()


def onednn(x: Tensor, weight: Tensor) -> Tensor:
    """The same by the library that our steps use (docs/decisions/0010)."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return found


LIBRARIES: dict[str, Multiply] = {"MKL": mkl, **({"oneDNN": onednn} if ONEDNN else {})}


def products(dim: int, expert: Sequence[int], multiply: Multiply) -> Callable[[], None]:
    """Forward, and backward to inputs and weights, of all experts, two gates and two towers over a batch of rows."""
    x, gate = torch.randn(BATCH, COLUMNS * dim), torch.randn(2 * EXPERTS, COLUMNS * dim)
    wide, wider = torch.randn(EXPERTS * expert[0], COLUMNS * dim), torch.randn(BATCH, EXPERTS * expert[0])
    out = [torch.randn(EXPERTS, BATCH, width) for width in expert]
    deep = [torch.randn(EXPERTS, above, below) for below, above in pairwise(expert)]
    tower, shares, hidden = torch.randn(2, TOWER[0], expert[-1]), torch.randn(BATCH, 2 * EXPERTS), torch.randn(2, BATCH, TOWER[0])

    def layer(below: Tensor, weight: Tensor, above: Tensor) -> None:
        multiply(below, weight)
        multiply(above, weight.t())
        above.t() @ below  # oneDNN wants it turned first, and then is slower

    def once() -> None:
        layer(x, wide, wider)
        for level, weights in enumerate(deep):
            for member in range(EXPERTS):
                layer(out[level][member], weights[member], out[level + 1][member])
        layer(x, gate, shares)
        for task in range(2):
            layer(out[-1][task], tower[task], hidden[task])

    return once
