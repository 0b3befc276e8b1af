"""Fresh numbers of a normal distribution, drawn where there is memory for them."""

from __future__ import annotations

from torch import Tensor, nn


def normal_(empty: Tensor, std: float) -> Tensor:
    """Fill with `N(0, std^2)`, in place; a tensor without memory, of `torch.device("meta")`, stays as it is.

    torch draws there, too, but imports its compiler for it, which takes longer than a small model takes to train.

    Example
    -------
    >>> import torch
    >>> normal_(torch.empty(10**15, device="meta"), std=1.0).numel()
    1000000000000000
    """
    return empty if empty.is_meta else nn.init.normal_(empty, std=std)
