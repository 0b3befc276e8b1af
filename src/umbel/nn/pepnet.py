"""PEPNet: gates that scale embeddings by where a row comes from, and hidden layers by whose row it is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.nn.bank import Linears, Part
from umbel.nn.drop import dropped
from umbel.nn.interact import Interact, MakeInteract, Shape
from umbel.nn.layer import Layer, Lessons
from umbel.nn.reach import Tasks, union


class Scale(nn.Module):
    """The paper's gate: `2 sigmoid(MLP(x))`, an MLP a member, each with an input of its own, ReLU between its layers."""

    def __init__(self, members: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.maps = nn.ModuleList(Linears(members, pair) for pair in pairwise(widths))

    def forward(self, x: Float[Tensor, "members rows width"]) -> Float[Tensor, "members rows out"]:
        """Factors between 0 and 2."""
        for level, linears in enumerate(self.maps):
            x = linears(x if level == 0 else x.relu())
        return 2 * x.sigmoid()

    def parts(self, member: int) -> tuple[Part, ...]:
        """What one member owns of the stacked parameters."""
        found = []
        for level, linears in enumerate(self.maps):
            assert isinstance(linears, Linears)
            found += [part.under(f"maps.{level}") for part in linears.parts(member)]
        return tuple(found)


class EPNet(Interact):
    """Scales every number of a view's embeddings by the row's domain, before the fields meet; and hands on who the row is about.

    `o = 2 sigmoid(MLP([e_domain, stopgrad(e)])) * e`, e all fields of a view side by side; then the inner interaction on o.
    Ahead of its output stand the embeddings of the fields `prior`, not scaled, for `PPNet`. Without a domain nothing is scaled.

    `domain` and `prior` are places of fields; `hidden` the gate's hidden widths, one as wide as e where there is none.
    """

    domain: Tensor
    prior: Tensor

    def __init__(
        self, shape: Shape, *, inner: MakeInteract, domain: tuple[int, ...], prior: tuple[int, ...], hidden: tuple[int, ...],
    ) -> None:
        super().__init__()
        views, fields, dim = shape
        whole = fields * dim
        self.register_buffer("domain", torch.tensor(domain, dtype=torch.int64), persistent=False)
        self.register_buffer("prior", torch.tensor(prior, dtype=torch.int64), persistent=False)
        self.inner = inner(shape)
        self.width = len(prior) * dim + self.inner.width
        self.scale = Scale(views, (len(domain) * dim + whole, *(hidden or (whole,)), whole)) if domain else None

    def forward(self, x: Float[Tensor, "rows views fields dim"]) -> tuple[Float[Tensor, "rows width"], ...]:
        """Per view the prior's embeddings, then what the inner interaction makes of the scaled ones."""
        met = self.inner(x if self.scale is None else self._scaled(x, self.scale))
        known = x.index_select(2, self.prior).flatten(2)
        return tuple(torch.cat([known[:, view], one], 1) for view, one in enumerate(met))

    def parts(self, view: int) -> tuple[Part, ...]:
        """The view's gate, and its parameters of the inner interaction."""
        own = () if self.scale is None else tuple(part.under("scale") for part in self.scale.parts(view))
        return (*own, *(part.under("inner") for part in self.inner.parts(view)))

    def _scaled(self, x: Tensor, scale: Scale) -> Float[Tensor, "rows views fields dim"]:
        asked = torch.cat([x.index_select(2, self.domain).flatten(2), x.flatten(2).detach()], 2)
        factors: Tensor = scale(asked.transpose(0, 1))
        return x * factors.transpose(0, 1).reshape(x.shape)


class PPNet(Layer):
    """A network a task, each of whose hidden layers is scaled by the row's user and item.

    `h^(l+1) = d^l * ReLU(h^l W^l + b^l)`, `d^l = 2 sigmoid(MLP^l([prior, stopgrad(o)]))`, h^0 = o, where an input is [prior, o].

    The paper scales what each layer reads, and draws all tasks' factors from one gate, which tasks would then teach together;
    ours have a gate a task and layer, so that what is a task's own stays so. `hidden` are the gates' hidden widths, one as wide
    as the layer where there is none.
    """

    def __init__(
        self, reads: tuple[int, ...], widths: tuple[int, ...], *, prior: int, hidden: tuple[int, ...], dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.reads, self.prior, self.dropout, self.width = reads, prior, dropout, widths[-1]
        self.voice = tuple(range(len(reads)))
        self.maps = nn.ModuleList(Linears(len(reads), pair) for pair in pairwise((widths[0] - prior, *widths[1:])))
        self.scales = nn.ModuleList(Scale(len(reads), (widths[0], *(hidden or (width,)), width)) for width in widths[1:])

    def forward(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> tuple[Float[Tensor, "rows hidden"], ...]:
        """What each task's network comes to."""
        known, h = torch.stack([inputs[read] for read in self.reads]).tensor_split((self.prior,), 2)
        asked = torch.cat([known, h.detach()], 2)
        for linears, scale in zip(self.maps, self.scales, strict=True):
            h = dropped(scale(asked) * linears(h).relu(), self.dropout, training=self.training)
        return h.unbind(0)

    def lessons(self, readers: Sequence[Tasks]) -> Lessons:
        """A task's network and gates learn from it alone, the inputs from the tasks that read them."""
        groups = {f"expert {task}": (self._parts(task), readers[task]) for task in self.voice}
        inputs = range(max(self.reads) + 1)
        return Lessons(groups, tuple(union(readers[task] for task, read in enumerate(self.reads) if read == one) for one in inputs))

    def _parts(self, task: int) -> tuple[Part, ...]:
        found = []
        for level, (linears, scale) in enumerate(zip(self.maps, self.scales, strict=True)):
            assert isinstance(linears, Linears)
            assert isinstance(scale, Scale)
            found += [part.under(f"maps.{level}") for part in linears.parts(task)]
            found += [part.under(f"scales.{level}") for part in scale.parts(task)]
        return tuple(found)
