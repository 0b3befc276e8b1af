"""Dropout, its choices drawn sixteen bits each on a CPU: there torch's own draw costs more than the product before it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

STEPS = 1 << 16  # a share is rounded to one of so many


def dropped(x: Float[Tensor, "*shape"], share: float, *, training: bool) -> Float[Tensor, "*shape"]:
    """`x m / (1 - s)`, m zero for a share s of the numbers (Srivastava et al., 2014); in evaluation x itself.

    What torch calls `dropout`; on a CPU s is rounded to sixteen bits, and 1 - s with it, so that the mean stays.
    """
    if not training or not share:
        return x
    return x * spared(x, share) if quick(x) else nn.functional.dropout(x, share)


def spared(like: Float[Tensor, "*shape"], share: float) -> Float[Tensor, "*shape"]:
    """`m / (1 - s)` for a tensor of that shape."""
    return chance(like, share).logical_not_().to(like.dtype).mul_(kept(share))


def kept(share: float) -> float:
    """`1 / (1 - s)`, s as it is rounded: what is left, so that the mean stays."""
    chosen = round(share * STEPS) / STEPS
    return 1 / (1 - chosen) if chosen < 1 else 0.0


def chance(like: Tensor, share: float) -> Bool[Tensor, "*shape"]:
    """True for a share of the places of a tensor of that shape."""
    if not quick(like):
        return torch.rand(like.shape, device=like.device) < share
    low, high = -(1 << 63), (1 << 63) - 1
    drawn = torch.randint(low, high, ((like.numel() + 3) // 4,)).view(torch.int16)[: like.numel()]
    return (drawn.int() < round(share * STEPS) - STEPS // 2).view(like.shape)


def quick(x: Tensor) -> bool:
    """Whether bits may be drawn as below: on a CPU, where nothing traces or maps what happens."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active()
