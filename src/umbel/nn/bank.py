"""Several MLPs of one shape, computed as few wide matrix products."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.nn.dense import Form, mlps, worth
from umbel.nn.draw import normal_
from umbel.nn.drop import dropped


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a parameter: what one member of a bank, or one view of a table, owns of a stacked tensor.

    `name` is the parameter's name in the module that declares the part, `index` the leading slices.

    Example
    -------
    >>> Part("weight", (slice(0, 2),)).of({"weight": torch.arange(6).view(3, 2)})
    tensor([[0, 1],
            [2, 3]])
    """

    name: str
    index: tuple[slice, ...]

    def of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The piece of the tensor (a parameter or its gradient) filed under this part's name."""
        return tensors[self.name][self.index]

    def under(self, prefix: str) -> Part:
        """The same piece as seen from a module that holds this one as `prefix`."""
        return Part(f"{prefix}.{self.name}", self.index)


def xavier_(weight: Tensor, fans: tuple[int, int]) -> Tensor:
    """Fill with N(0, 2 / (fan_in + fan_out)): the fans of *one* member's matrix, however many are stacked."""
    return normal_(weight, std=math.sqrt(2.0 / sum(fans)))


class Block(nn.Module):
    """`members` MLPs of widths `widths[0] -> ... -> widths[-1]` that read the same input.

    The first layer of all members is one wide product; deeper layers are batched products, members first.
    ReLU follows every layer, except the last if `linear`; dropout follows every ReLU. A block without layers
    is an error of its caller.
    """

    def __init__(self, members: int, widths: tuple[int, ...], *, linear: bool, dropout: float) -> None:
        super().__init__()
        self.members, self.widths, self.linear, self.dropout = members, widths, linear, dropout
        pairs = list(pairwise(widths))
        self.weights = nn.ParameterList(_stacked(members, pair, wide=level == 0) for level, pair in enumerate(pairs))
        self.biases = nn.ParameterList(torch.zeros(members * out) if level == 0 else torch.zeros(members, 1, out)
                                       for level, (_, out) in enumerate(pairs))

    def forward(self, x: Float[Tensor, "rows width"]) -> Float[Tensor, "members rows out"]:
        """Every member's output."""
        weights, biases = list(self.weights), list(self.biases)
        if worth(x):
            form = Form(self.members, self.linear, self.dropout if self.training else 0.0)
            return mlps(x, weights, biases, form=form, formula=self._layers)
        return self._layers(x, weights, biases)

    def hidden(self, x: Float[Tensor, "rows width"]) -> Float[Tensor, "members rows hidden"]:
        """What every member's last layer reads; of a single layer that is the input."""
        if len(self.weights) == 1:
            return x.expand(self.members, *x.shape)
        return self._layers(x, list(self.weights)[:-1], list(self.biases)[:-1])

    def parts(self, member: int) -> tuple[Part, ...]:
        """What one member owns of the stacked parameters."""
        wide = slice(member * self.widths[1], (member + 1) * self.widths[1])
        rest = slice(member, member + 1)
        names = [(kind, level) for level in range(len(self.weights)) for kind in ("weights", "biases")]
        return tuple(Part(f"{kind}.{level}", (rest if level else wide,)) for kind, level in names)

    def _layers(
        self, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], *, masks: Sequence[Tensor] = (),
    ) -> Float[Tensor, "members rows out"]:
        """Layer by layer; `masks`, one a layer, in place of those that dropout draws."""
        y = self._bend(nn.functional.linear(x, weights[0], biases[0]), 0, masks)
        y = y.view(x.shape[0], self.members, self.widths[1])
        if y.dtype is torch.bfloat16 and y.device.type == "cpu":
            # Here the batched product first copies operands that are not in its order, at several times its own cost.
            return torch.stack([self._deeper(one, member, depth=len(weights)) for member, one in enumerate(y.unbind(1))])
        y = y.transpose(0, 1)
        for level in range(1, len(weights)):
            y = self._bend(torch.baddbmm(biases[level], y, weights[level]), level, masks)
        return y

    def _deeper(self, y: Float[Tensor, "rows width"], member: int, *, depth: int) -> Float[Tensor, "rows out"]:
        """The layers after the first and below `depth`, of one member."""
        for level in range(1, depth):
            y = self._bend(torch.addmm(self.biases[level][member], y, self.weights[level][member]), level)
        return y

    def _bend(self, y: Tensor, level: int, masks: Sequence[Tensor] = ()) -> Tensor:
        if self.linear and level == len(self.weights) - 1:
            return y
        y = nn.functional.relu(y, inplace=True)
        return y * masks[level] if masks else dropped(y, self.dropout, training=self.training)


class Linears(nn.Module):
    """As many linear maps as members, each of an input of its own: `y_m = x_m W_m + b_m`, computed as one batched product."""

    def __init__(self, members: int, pair: tuple[int, int]) -> None:
        super().__init__()
        self.weights = nn.Parameter(_stacked(members, pair, wide=False))
        self.biases = nn.Parameter(torch.zeros(members, 1, pair[1]))

    def forward(self, x: Float[Tensor, "members rows width"]) -> Float[Tensor, "members rows out"]:
        """Every member's output."""
        return torch.baddbmm(self.biases, x, self.weights)

    def parts(self, member: int) -> tuple[Part, ...]:
        """What one member owns of the stacked parameters."""
        return tuple(Part(kind, (slice(member, member + 1),)) for kind in ("weights", "biases"))


class Experts(nn.Module, ABC):
    """Maps of one shape that each read one of several inputs; outputs come in blocks, whose members `members` names.

    `order` lists the members as they come, block after block.
    """

    members: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]

    @abstractmethod
    def forward(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> list[Tensor]:
        """Per block `members rows out`."""

    @abstractmethod
    def parts(self, member: int) -> tuple[Part, ...]:
        """What one member owns of the parameters."""


@runtime_checkable
class MakeExperts(Protocol):
    """`reads[member]` is the input of a member; `widths` are the inputs', the hidden layers' and the outputs'."""

    def __call__(self, reads: tuple[int, ...], widths: tuple[int, ...], *, dropout: float) -> Experts:
        """The experts of a layer."""
        ...


class Bank(Experts):
    """MLPs of one shape, `reads[member]` naming the input each one reads; members of one input make a `Block`.

    Outputs come block by block, since gluing them together would copy; `order` lists the members in that order.

    Example
    -------
    >>> bank = Bank((0, 1, 0), (4, 8, 2))
    >>> [tuple(block.shape) for block in bank((torch.ones(5, 4), torch.ones(5, 4)))], bank.order
    ([(2, 5, 2), (1, 5, 2)], (0, 2, 1))
    """

    def __init__(self, reads: tuple[int, ...], widths: tuple[int, ...], *, linear: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.inputs = tuple(sorted(set(reads)))
        self.members = tuple(tuple(member for member, read in enumerate(reads) if read == one) for one in self.inputs)
        self.order = tuple(member for members in self.members for member in members)
        self.blocks = nn.ModuleList(Block(len(members), widths, linear=linear, dropout=dropout) for members in self.members)

    def forward(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> list[Tensor]:
        """Per block `members rows out`, in the order of `members`."""
        return [block(inputs[read]) for block, read in zip(self.blocks, self.inputs, strict=True)]

    def hidden(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> list[Tensor]:
        """What every member's last layer reads, in the order of `order`."""
        found: list[Tensor] = []
        for block, read in zip(self.blocks, self.inputs, strict=True):
            assert isinstance(block, Block)
            found.extend(block.hidden(inputs[read]).unbind(0))
        return found

    def parts(self, member: int) -> tuple[Part, ...]:
        """What one member owns of the stacked parameters."""
        for number, (members, block) in enumerate(zip(self.members, self.blocks, strict=True)):
            if member in members:
                assert isinstance(block, Block)
                return tuple(part.under(f"blocks.{number}") for part in block.parts(members.index(member)))
        raise IndexError(f"no member {member} among {len(self.order)}")


class Fan(nn.Module):
    """MLPs that differ in the last width only (gates over different experts, towers of different kinds).

    Members of one last width make one `Bank`; `lasts[member]` is that width. The last layer is linear.
    """

    def __init__(self, reads: tuple[int, ...], widths: tuple[int, ...], *, lasts: tuple[int, ...], dropout: float = 0.0) -> None:
        super().__init__()
        self.lasts = tuple(sorted(set(lasts)))
        self.members = tuple(tuple(member for member, last in enumerate(lasts) if last == one) for one in self.lasts)
        self.banks = nn.ModuleList(Bank(tuple(reads[member] for member in members), (*widths, last), linear=True, dropout=dropout)
                                   for last, members in zip(self.lasts, self.members, strict=True))

    def forward(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> tuple[Tensor, ...]:
        """Per member `rows last`."""
        found: dict[int, Tensor] = {}
        for members, bank in zip(self.members, self.banks, strict=True):
            assert isinstance(bank, Bank)
            outputs = [one for block in bank(inputs) for one in block.unbind(0)]
            found |= {members[place]: one for place, one in zip(bank.order, outputs, strict=True)}
        return tuple(found[member] for member in range(len(found)))

    def hidden(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> tuple[Float[Tensor, "rows hidden"], ...]:
        """Per member what its last layer reads."""
        found: dict[int, Tensor] = {}
        for members, bank in zip(self.members, self.banks, strict=True):
            assert isinstance(bank, Bank)
            found |= {members[place]: one for place, one in zip(bank.order, bank.hidden(inputs), strict=True)}
        return tuple(found[member] for member in range(len(found)))

    def parts(self, member: int) -> tuple[Part, ...]:
        """What one member owns of the stacked parameters."""
        for number, (members, bank) in enumerate(zip(self.members, self.banks, strict=True)):
            if member in members:
                assert isinstance(bank, Bank)
                return tuple(part.under(f"banks.{number}") for part in bank.parts(members.index(member)))
        raise IndexError(f"no member {member}")


def _stacked(members: int, pair: tuple[int, int], *, wide: bool) -> Tensor:
    fan_in, fan_out = pair
    return xavier_(torch.empty(members * fan_out, fan_in) if wide else torch.empty(members, fan_in, fan_out), pair)
