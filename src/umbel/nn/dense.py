"""Several MLPs as one node of the autograd graph: a training step's products on a CPU, without the copies between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx

from umbel.nn.drop import kept, spared

ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")


def worth(x: Tensor) -> bool:
    """Whether `mlps` pays: in float32 training on a CPU whose torch has oneDNN.

    Elsewhere the plain formula is as fast (bfloat16, a GPU), or has to be seen through (export, `torch.func`).
    """
    if not ONEDNN or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False  # before the number of rows is looked at, which a graph under export does not know
    training = torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    return training and x.dtype is torch.float32 and x.device.type == "cpu" and len(x) > 0 and x.stride(-1) == 1


@runtime_checkable
class Formula(Protocol):
    """The layers one by one, of an input, weights and biases; `masks`, one a layer, in place of those that dropout draws."""

    def __call__(self, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], *, masks: Sequence[Tensor] = ()) -> Tensor:
        """The last layer's outputs."""
        ...


class Form(NamedTuple):
    """How many MLPs, whether their last layer is linear, and the share of hidden units that is dropped."""

    members: int
    linear: bool
    drop: float


def mlps(
    x: Float[Tensor, "rows width"], weights: Sequence[Tensor], biases: Sequence[Tensor], *, form: Form, formula: Formula,
) -> Float[Tensor, "members rows out"]:
    """What `umbel.nn.bank.Block` computes by `formula`: ReLU and dropout after every layer, except the last if it is linear.

    The products go through oneDNN, which is up to a fifth faster than MKL on AMD's processors.
    Backward, the gradient of a hidden layer is cut by its ReLU member by member, and written where the wide product reads it.
    Second derivatives are those of `formula`.
    """
    found: Tensor = _Mlps.apply(x, (form, formula), *weights, *biases)  # type: ignore[no-untyped-call]
    return found


class _Mlps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, how: tuple[Form, Formula], *parameters: Tensor) -> Tensor:
        form, formula = how
        weights, biases = _halves(parameters)
        last = len(weights) - 1
        outputs: list[Tensor] = []
        for level in range(len(weights)):
            y = torch.baddbmm(biases[level], outputs[-1], weights[level]) if level else _product(x, weights[0], biases[0])
            if not form.linear or level < last:
                y = y.relu_()  # not oneDNN's own ReLU, which makes zeros of NaN
                y = y.mul_(spared(y, form.drop)) if form.drop else y
            outputs.append(y if level else y.view(len(x), form.members, -1).transpose(0, 1))
        ctx.save_for_backward(x, *parameters, *outputs)
        ctx.form, ctx.formula = form, formula  # type: ignore[attr-defined]
        return outputs[-1]

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors  # type: ignore[attr-defined]
        depth = len(saved) // 3
        parameters, outputs = saved[: 2 * depth], saved[2 * depth :]
        form: Form = ctx.form  # type: ignore[attr-defined]
        scale = kept(form.drop)
        if torch.is_grad_enabled():
            wanted = [one for one in (x, *parameters) if one.requires_grad]
            again = ctx.formula(x, *_halves(parameters), masks=_masks(outputs, scale) if form.drop else ())  # type: ignore[attr-defined]
            found = iter(torch.autograd.grad(again, wanted, grad, create_graph=True))
            x_grad, *rest = [next(found) if one.requires_grad else None for one in (x, *parameters)]
            return (x_grad, None, *rest)
        grad = grad.contiguous() if form.linear else _cut(grad, outputs[-1], torch.empty(grad.shape), scale=scale)
        by_weight, by_bias = [], []
        for level in range(depth - 1, 0, -1):
            by_weight.append(_pairs(outputs[level - 1], grad))
            by_bias.append(grad.sum(1, keepdim=True))
            grad = _down(grad, parameters[level], outputs[level - 1], scale=scale)
        wide = grad.transpose(0, 1).reshape(len(x), -1)
        back = _product(wide, parameters[0].t()) if ctx.needs_input_grad[0] else None  # type: ignore[attr-defined]
        by_weight.append(wide.t() @ x)
        by_bias.append((wide.new_ones(1, len(x)) @ wide)[0])  # a product sums rows twice as fast as `sum`
        return (back, None, *reversed(by_weight), *reversed(by_bias))


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x weight^T + bias`."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


def _pairs(output: Tensor, grad: Tensor) -> Tensor:
    """Each member's `output^T grad`, by the product whose result is transposed: the quicker of the two in MKL."""
    return torch.stack([(one.t() @ own).t() for own, one in zip(output, grad, strict=True)])


def _down(grad: Tensor, weight: Tensor, output: Tensor, *, scale: float) -> Tensor:
    """The gradient one layer below, cut by the ReLU there, in the order of that layer's output."""
    below = torch.empty_like(output)
    for member in range(len(weight)):
        _cut(_product(grad[member], weight[member]), output[member], below[member], scale=scale)
    return below


def _cut(grad: Tensor, output: Tensor, out: Tensor, *, scale: float) -> Tensor:
    """The gradient where ReLU and dropout let the number through, as they scaled it, written to `out`."""
    torch.ops.aten.threshold_backward.grad_input(grad, output, 0, grad_input=out)
    return out if scale == 1 else out.mul_(scale)


def _masks(outputs: Sequence[Tensor], scale: float) -> list[Tensor]:
    """What dropout multiplied each layer by, but where ReLU had made the number zero: there any factor does."""
    masks = [(output != 0).to(output.dtype) * scale for output in outputs]
    return [masks[0].transpose(0, 1).flatten(1), *masks[1:]]


def _halves(parameters: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    half = len(parameters) // 2
    return parameters[:half], parameters[half:]
