"""Gradient steps of many users at once without their weights: what a step adds to a linear map has the rank of the user's rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from umbel.kinds import BINARY, REGRESSION, TaskKind
from umbel.learn.chain import Chain, Map, Source
from umbel.learn.taken import ByMatrix, ByRows, Pace, Taken, shorter
from umbel.nn.offset import raised
from umbel.nn.recommender import Recommender
from umbel.objectives import LIKELIHOOD

Values = dict[int, Float[Tensor, "members users shots _"]]
Takings = Mapping[str, Taken]  # what was taken from each map, by the name of its weight
Keep = Callable[[Tensor, Tensor], Taken]  # from a map's inputs and the gradients at its outputs


class Told(NamedTuple):
    """What the users' rows say: labels, which were seen, how much each row counts, and the priors of the outputs."""

    labels: Float[Tensor, "users shots tasks"]
    seen: Bool[Tensor, "users shots tasks"]
    weight: Float[Tensor, "users shots"]
    prior: Float[Tensor, "users shots outputs"]


class Start(NamedTuple):
    """Rows before any step: the values that no step moves, and what the shared maps make of them, by the number of the map."""

    values: Values
    bases: dict[int, Tensor]


@dataclass(frozen=True, slots=True)
class Dual:
    """The exact low-rank form of gradient descent on a chain of linear maps.

    `K` steps leave a map at `W - r sum_k D_k^T X_k`, so rows `A` come to `A W^T + b - sum_k (r_w A X_k^T + r_b) D_k`, and a gradient
    `D` goes back as `D W - r_w sum_k (D D_k^T) X_k`: the product with the shared weights is one for all users, the rest are small.
    A step's squared norm is `sum (X X^T + 1) (D D^T)`, bias included, over the user's pairs of rows.

    `weights` are the model's parameters by name, `rates` those of what is adapted, single numbers.
    """

    chain: Chain
    kinds: tuple[tuple[TaskKind, float], ...]  # of each task, and its weight
    weights: Mapping[str, Tensor]
    rates: Mapping[str, Tensor]
    moving: tuple[bool, ...]  # which maps' values change
    still: tuple[bool, ...]  # which maps read what does not

    @staticmethod
    def of(model: Recommender, chain: Chain | None, *, adapted: Mapping[str, Tensor], rates: Mapping[str, Tensor]) -> Dual | None:
        """That of a model and the parameters that are adapted; None where it is not exact.

        It is for a chain (`Chain.of`) without dropout, squared and logistic losses, rates that are single numbers, and maps adapted whole.
        """
        if chain is None or (chain.drops and model.training) or any(rate.ndim for rate in rates.values()):
            return None
        tasks = model.schema.tasks
        plain = all(task.kind in (REGRESSION, BINARY) and task.loss == LIKELIHOOD for task in tasks)
        whole = sum(one.weight in adapted and one.bias in adapted for one in chain.maps)
        if not plain or 2 * whole != len(adapted):
            return None
        moving = chain.moving([one.weight in adapted for one in chain.maps])
        behind = (*[False] * chain.inputs, *moving)
        still = tuple(not behind[one.source.value] for one in chain.maps)
        kinds = tuple((task.kind, task.weight) for task in tasks)
        return Dual(chain, kinds, weights=dict(model.named_parameters()), rates=rates, moving=moving, still=still)

    def begin(self, inputs: tuple[Tensor, ...], shape: tuple[int, int]) -> Start:
        """What adaptation does not move, for rows of so many users and shots."""
        values: Values = {place: one.view(1, *shape, one.shape[1]) for place, one in enumerate(inputs)}
        bases: dict[int, Tensor] = {}
        for place, (one, still, moving) in enumerate(zip(self.chain.maps, self.still, self.moving, strict=True)):
            if still:
                bases[place] = self._base(one, _read(values, one.source))
            if not moving:
                values[self.chain.inputs + place] = _bent(one, bases.pop(place))
        return Start(values, bases)

    def logits(self, start: Start, own: Takings) -> tuple[Float[Tensor, "users shots outputs"], Values]:
        """The outputs of rows under each user's own maps, and every value on the way."""
        values = dict(start.values)
        for place, (one, moving) in enumerate(zip(self.chain.maps, self.moving, strict=True)):
            if moving:
                x = _read(values, one.source)
                z = start.bases[place] if place in start.bases else self._base(one, x)
                z = z - own[one.weight].ahead(x, self._pace(one)) if one.weight in own else z
                values[self.chain.inputs + place] = _bent(one, z)
        return torch.cat([_read(values, source)[0] for source in self.chain.outputs], 2), values

    def descend(
        self, start: Start, told: Told, *, taken: Bool[Tensor, "users steps"], clip: float,
    ) -> tuple[Takings, Bool[Tensor, "users steps"]]:
        """What all steps take from each map, and which of them were numbers; a step that is not `taken` saw nothing."""
        numbers = []
        own: dict[str, Taken] = {}
        keep = self._keepers(start, told, steps=taken.shape[1])
        for some in taken.unbind(1):
            logits, values = self.logits(start, own)
            slopes = self._slopes(raised(logits, told.prior), told._replace(seen=told.seen & some[:, None, None]))
            step = {name: keep[name](x, d) for name, (x, d) in self._back(values, own, slopes).items()}
            finite, step = _clipped(step, clip)
            own = {name: own[name].plus(one) if name in own else one for name, one in step.items()}
            numbers.append(finite)
        return own, torch.stack(numbers, 1)

    def parameters(self, own: Takings) -> dict[str, Tensor]:
        """One user's maps as parameters of the model."""
        found = {}
        for one in self.chain.maps:
            if one.weight in own:
                taken, pace = own[one.weight].matrix(), self._pace(one)
                weight, bias = (taken.weight, taken.bias) if one.wide else (taken.weight.mT, taken.bias)
                for name, part, rate in ((one.weight, weight, pace.weight), (one.bias, bias, pace.bias)):
                    shared = self.weights[name]
                    found[name] = shared - rate * part.reshape(shared.shape)
        return found

    def _keepers(self, start: Start, told: Told, *, steps: int) -> dict[str, Keep]:
        """How each map keeps what is taken, whichever is less; products of inputs that no step moves are made once."""
        found: dict[str, Keep] = {}
        for place, one in enumerate(self.chain.maps):
            if one.weight in self.rates:
                out, width = (self.weights[one.weight].shape[-2:] if one.wide else self.weights[one.weight].shape[:0:-1])
                rows = told.labels.shape[1] * (1 if self.still[place] else steps)
                if not shorter(rows, out, width):
                    found[one.weight] = ByMatrix.of
                elif self.still[place]:
                    x = _read(start.values, one.source)
                    found[one.weight] = partial(ByRows, pairs=x @ x.mT)
                else:
                    found[one.weight] = ByRows
        return found

    def _slopes(self, logits: Float[Tensor, "users shots outputs"], told: Told) -> list[Float[Tensor, "users shots"]]:
        """Each task's loss by its logit: twice the error of a regression, the error of an event's chance."""
        found = []
        for task, (kind, weight) in enumerate(self.kinds):
            z, y, seen = logits[..., task], told.labels[..., task], told.seen[..., task]
            error = 2 * (z - y) if kind == REGRESSION else z.sigmoid() - y
            found.append(torch.where(seen, error * told.weight * weight, 0.0))
        return found

    def _back(self, values: Values, own: Takings, slopes: list[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Inputs of every adapted map, and gradients at its outputs."""
        found: dict[str, tuple[Tensor, Tensor]] = {}
        due: dict[Source, Tensor] = {}
        for source, slope in zip(self.chain.outputs, slopes, strict=True):
            _add(due, source, slope[None, ..., None])
        for place in reversed(range(len(self.chain.maps))):
            one, number = self.chain.maps[place], self.chain.inputs + place
            if not self.moving[place]:
                continue
            d = _due(due, number, values[number])
            d = torch.ops.aten.threshold_backward(d, values[number], 0) if one.bends else d  # a sixth of what a mask costs
            d = d.movedim(0, 2).flatten(2)[None] if one.wide and one.members > 1 else d
            if one.weight in self.rates:
                found[one.weight] = (_read(values, one.source), d)
            if not self.still[place]:
                _add(due, one.source, self._down(one, d, own))
        return found

    def _down(self, one: Map, d: Tensor, own: Takings) -> Tensor:
        """A gradient on the other side of a map."""
        weight = self.weights[one.weight]
        below = d @ weight if one.wide else torch.bmm(d.flatten(1, 2), weight.mT).view(len(d), *d.shape[1:3], -1)
        return below - own[one.weight].behind(d, self._pace(one)) if one.weight in own else below

    def _pace(self, one: Map) -> Pace:
        return Pace(self.rates[one.weight], self.rates[one.bias])

    def _base(self, one: Map, x: Float[Tensor, "sources users shots _"]) -> Float[Tensor, "sources users shots _"]:
        """The shared map."""
        weight, bias = self.weights[one.weight], self.weights[one.bias]
        if one.wide:
            return nn.functional.linear(x, weight, bias)
        return torch.baddbmm(bias, x.flatten(1, 2), weight).view(len(x), *x.shape[1:3], -1)


def _clipped(step: dict[str, Taken], clip: float) -> tuple[Bool[Tensor, "users"], dict[str, Taken]]:
    """Which users' steps are numbers, and the steps at a norm of `clip` at most; what is no number is 0."""
    with torch.no_grad():
        found = _square(step)
        finite = found.isfinite()
    if not finite.all():
        step = {name: one.only(finite) for name, one in step.items()}
    if not (found <= clip**2).all():
        scale = (clip / _square(step).clamp(min=1e-24).sqrt()).clamp(max=1.0)  # the root of 0 has no derivative
        step = {name: one.scaled(scale) for name, one in step.items()}
    return finite, step


def _square(step: Mapping[str, Taken]) -> Float[Tensor, "users"]:
    return torch.stack([one.square() for one in step.values()]).sum(0)


def _bent(one: Map, z: Tensor) -> Tensor:
    z = z.relu() if one.bends else z
    return z[0].view(*z.shape[1:3], one.members, -1).movedim(2, 0) if one.wide and one.members > 1 else z


def _read(values: Values, source: Source) -> Float[Tensor, "sources users shots _"]:
    value = values[source.value]
    return value if source.member is None or len(value) == 1 else value[source.member : source.member + 1]


def _add(due: dict[Source, Tensor], source: Source, gradient: Tensor) -> None:
    due[source] = due[source] + gradient if source in due else gradient


def _due(due: dict[Source, Tensor], number: int, value: Tensor) -> Tensor:
    """The gradient that has come to a value, member by member."""
    if Source(number) in due:
        return due[Source(number)]
    none = torch.zeros_like(value[:1])
    return torch.cat([due.get(Source(number, member), none) for member in range(len(value))])
