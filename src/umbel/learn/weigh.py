"""A balancer at work in a step: what is weighted, what stays plain, and what weighing has come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from umbel.balance.balancer import Balancer
from umbel.errors import UserError
from umbel.learn.processes import ALONE, Processes
from umbel.learn.taps import At, Declared, Taps
from umbel.nn.bank import Part

LEAST = 1e-3  # a weight below this has no gradient divided by it


@dataclass(frozen=True, slots=True)
class Balance:
    """How tasks are balanced: `make` builds the balancer for a number of tasks, `at` says where the Gramian is taken.

    `scalar` descends `sum_t w_t L_t` with everything; else weights act on what two tasks or more teach alone.
    """

    make: Callable[[int], Balancer]
    at: At = At.EXPERTS
    scalar: bool = False


@final
class Weigher:
    """Leaves the gradients of a balanced step on the leaves.

    A group of parameters that two tasks or more teach gets `sum_t w_t g_t`; one that a single task teaches (its tower, its own
    gate, experts and view) gets its plain `g_t`. Which is which the model declares, and the gradient law holds it to. So a
    task's gate follows its plain gradient, and what flows on through the gate into a view that others teach too is weighted with
    all else that enters there. It is one backward pass of the weighted sum: what task t alone teaches has `w_t g_t` from it, which is
    divided by `w_t`. Where a weight is so small that nothing would be left to divide, the plain sum's pass to what tasks own follows.
    Weights of 1 are the plain step, to the same bytes.
    """

    def __init__(
        self, model: object, balance: Balance, *, tasks: int, processes: Processes = ALONE, compiled: bool = False
    ) -> None:
        if not isinstance(model, Declared):
            raise UserError("fit.balancer: this model does not say which tasks teach what", mend="train it without a balancer")
        self.balance, self.balancer, self.taps = balance, balance.make(tasks), Taps(model, balance.at, compiled=compiled)
        self.processes = processes
        self.own = _own(model)
        self.owners = sorted({task for parts in self.own.values() for _, task in parts})
        reach = model.reach
        self.shared = {part.name for group, parts in model.groups().items() if len(reach[group]) != 1 for part in parts}
        self.sums = torch.zeros(tasks, dtype=torch.float64)
        self.steps = torch.zeros((), dtype=torch.float64)

    def backward(
        self, losses: Float[Tensor, "tasks"], leaves: Mapping[str, Tensor], *, share: Float[Tensor, "tasks"] | None = None
    ) -> None:
        """Weigh the losses and add the gradients to the leaves' own, each task's times its share, of which its weight knows nothing."""
        weights = self._weights(losses)
        self.taps.held = []  # what was heard may go as soon as the backward pass has passed it
        self.sums.add_(weights)
        self.steps.add_(1)
        losses = losses if share is None else losses * share
        if bool((weights == 1).all()):
            torch.autograd.backward(losses.sum())
        elif self.balance.scalar:
            torch.autograd.backward(losses @ weights.to(losses))
        else:
            self._apart(losses, weights.to(losses.dtype), leaves)

    @property
    def means(self) -> tuple[float, ...]:
        """The mean weight of each task over the epoch so far."""
        return tuple((self.sums / self.steps.clamp(min=1)).tolist())

    def turn(self) -> None:
        """An epoch is over."""
        self.balancer.turn()
        self.sums, self.steps = torch.zeros_like(self.sums), torch.zeros_like(self.steps)

    def state(self) -> dict[str, Tensor]:
        """What the balancer remembers, and the running epoch's weights."""
        remembered = {f"balancer.{name}": tensor for name, tensor in self.balancer.state_dict().items()}
        return {**remembered, "sums": self.sums, "steps": self.steps}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        self.sums, self.steps = state["sums"].clone(), state["steps"].clone()
        self.balancer.load_state_dict({name.removeprefix("balancer."): tensor.clone() for name, tensor in state.items() if "." in name})

    def _weights(self, losses: Float[Tensor, "tasks"]) -> Float[Tensor, "tasks"]:
        """The balancer's, in double precision on the CPU; 1 each where a loss is no number, which the loop will say."""
        plain = losses.detach().double().cpu()
        if not bool(plain.isfinite().all()):
            return torch.ones_like(plain)
        weights: Tensor = self.balancer(plain, lambda: self.processes.gramian(self.taps.gramian(losses)).double().cpu())
        return self.processes.agreed(weights)  # some balancers draw theirs

    def _apart(self, losses: Tensor, weights: Tensor, leaves: Mapping[str, Tensor]) -> None:
        """The weighted sum's gradient on what is shared, the plain sum's on what is not."""
        needed = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad and (name in self.own or name in self.shared)}
        divides = bool((weights[self.owners].abs() >= LEAST).all())  # asked here, where they were found, not of the device
        weights = weights.to(losses.device)
        found = _gradients(losses, needed, weights, keep=not divides)
        plain = {} if divides else {name: leaf for name, leaf in needed.items() if name in self.own}
        alone = _gradients(losses, plain, torch.ones_like(weights), keep=False)
        for name in self.own.keys() & found.keys():
            for part, task in self.own[name]:
                if divides:
                    found[name][part.index].div_(weights[task])
                else:
                    found[name][part.index] = alone[name][part.index]
        for name, gradient in found.items():
            leaf = needed[name]
            leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient


def _own(model: Declared) -> dict[str, list[tuple[Part, int]]]:
    """The pieces of each parameter that one task alone teaches, with that task."""
    found: dict[str, list[tuple[Part, int]]] = {}
    reach = model.reach
    for group, parts in model.groups().items():
        for part in parts if len(reach[group]) == 1 else ():
            found.setdefault(part.name, []).append((part, reach[group][0]))
    return found


def _gradients(losses: Tensor, leaves: Mapping[str, Tensor], weights: Tensor, *, keep: bool) -> dict[str, Tensor]:
    """`sum_t w_t g_t` at the leaves that are reached, each in memory of its own, since clipping will scale it in place."""
    if not leaves:
        return {}
    found = torch.autograd.grad(losses, list(leaves.values()), weights, retain_graph=keep, allow_unused=True)
    return {name: _owned(gradient, found) for name, gradient in zip(leaves, found, strict=True) if gradient is not None}


def _owned(gradient: Tensor, others: Sequence[Tensor | None]) -> Tensor:
    """The gradient, copied where autograd gave it to two leaves or as a view of less memory."""
    twins = sum(other is not None and other.data_ptr() == gradient.data_ptr() for other in others)
    return gradient if twins == 1 and gradient.is_contiguous() else gradient.clone(memory_format=torch.contiguous_format)
