"""Where tasks meet in a model: the places at which their gradients are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from umbel.nn.bank import Bank, Block, Experts, Part


class At(StrEnum):
    """Where the Gramian is taken: at the outputs of experts that two tasks or more teach, or at the fields as views see them."""

    EXPERTS = "experts"
    VIEWS = "views"


@runtime_checkable
class Declared(Protocol):
    """A model that says which tasks teach which of its parameters, as `umbel.nn.Recommender` does."""

    def groups(self) -> Mapping[str, tuple[Part, ...]]:
        """The parameters by what they are."""
        ...

    @property
    def reach(self) -> Mapping[str, tuple[int, ...]]:
        """The tasks that teach each group."""
        ...

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Every module within, by its dotted name."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter, by its dotted name."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """What a module gives, one tensor or several: of each the slices along `dim` that two tasks or more teach."""

    module: nn.Module
    dim: int
    shared: tuple[tuple[int, ...], ...]


@final
class Taps:
    """Listens to a model's forward pass while it is entered, and then takes the Gramian there.

    At the experts that is the topmost layer with experts that two tasks or more teach; where there is none, the views that
    two or more teach; where tasks share nothing, nowhere, and the Gramian is the identity. A model that is `compiled` is cut there into
    programs that hand over what is heard, which a single one would keep to itself; nothing of the step is then let go of by the first
    pass backwards, since several go through it.
    """

    def __init__(self, model: Declared, at: At, *, compiled: bool = False) -> None:
        self.places = (_experts(model) if at is At.EXPERTS else ()) or _views(model)
        self.held: list[tuple[Place, list[Tensor]]] = []
        self.handles: list[RemovableHandle] = []
        self.hold = self._hold
        if compiled:
            self.hold = torch.compiler.disable(self._hold)  # type: ignore[no-untyped-call]
            torch._functorch.config.donated_buffer = False

    def __enter__(self) -> None:
        self.held = []
        self.handles = [place.module.register_forward_hook(self.hold) for place in self.places]

    def __exit__(self, *raised: object) -> None:
        for handle in self.handles:
            handle.remove()

    def gramian(self, losses: Float[Tensor, "tasks"]) -> Float[Tensor, "tasks tasks"]:
        """`G_st = <g_s, g_t>`, g_t the gradient of loss t at what was heard: a backward pass a task, down to there and no deeper."""
        if not self.held:
            return torch.eye(len(losses), device=losses.device)
        found = [self._gradient(loss) for loss in losses]
        return torch.stack([torch.stack([_inner(one, other) for other in found]) for one in found])

    def _hold(self, module: nn.Module, _: object, output: Tensor | list[Tensor]) -> None:
        place = next(place for place in self.places if place.module is module)
        self.held.append((place, [output] if isinstance(output, Tensor) else list(output)))

    def _gradient(self, loss: Float[Tensor, ""]) -> list[Tensor]:
        flat = [(tensor, shared, place.dim) for place, tensors in self.held for tensor, shared in zip(tensors, place.shared, strict=True)]
        wanted = [(tensor, shared, dim) for tensor, shared, dim in flat if shared]
        gradients = torch.autograd.grad(loss, [tensor for tensor, _, _ in wanted], retain_graph=True, materialize_grads=True)
        return [_slices(one, shared, dim=dim).reshape(-1) for one, (_, shared, dim) in zip(gradients, wanted, strict=True)]


def _slices(gradient: Tensor, shared: tuple[int, ...], *, dim: int) -> Tensor:
    return gradient if len(shared) == gradient.shape[dim] else torch.cat([gradient.narrow(dim, one, 1) for one in shared], dim)


def _inner(one: list[Tensor], other: list[Tensor]) -> Float[Tensor, ""]:
    return torch.stack([torch.dot(a.float(), b.float()) for a, b in zip(one, other, strict=True)]).sum()


def _experts(model: Declared) -> tuple[Place, ...]:
    """The experts of the topmost layer that has any which two tasks or more teach, but for those of gates and towers."""
    reach = model.reach
    taught = [part for group, parts in model.groups().items() if len(reach[group]) > 1 for part in parts]
    found: dict[int, list[Place]] = {}
    for name, module in model.named_modules():
        first, _, rest = name.partition(".")
        if first == "layers" and isinstance(module, Experts) and not _linear(module):
            shared = [tuple(place for place, member in enumerate(members) if module.parts(member)[0].under(name) in taught)
                      for members in module.members]
            if any(shared):
                found.setdefault(int(rest.partition(".")[0]), []).append(Place(module, 0, tuple(shared)))
    return tuple(found[max(found)]) if found else ()


def _linear(module: Experts) -> bool:
    return isinstance(module, Bank) and all(isinstance(block, Block) and block.linear for block in module.blocks)


def _views(model: Declared) -> tuple[Place, ...]:
    """The views that two tasks or more teach."""
    views = [tasks for group, tasks in model.reach.items() if group.startswith("view ")]
    shared = tuple(view for view, tasks in enumerate(views) if len(tasks) > 1)
    modules = dict(model.named_modules())
    return (Place(modules["views"], 1, (shared,)),) if shared else ()
