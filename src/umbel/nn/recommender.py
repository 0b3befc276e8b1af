"""Views, mixtures and a head in a row: fields in, logits out, row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.nn.bank import Part
from umbel.nn.heads import Independent
from umbel.nn.interact import Concatenate
from umbel.nn.mixture import Mixture
from umbel.nn.routing import Route, Routing
from umbel.nn.views import SPREAD, Places, Views
from umbel.schema import Schema


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a model is.

    `vocabulary` counts the rows of each embedding table, unknown included. `expert`, `gate` and `tower` are hidden widths.
    `specific` experts a task and `shared` ones; recipes without owners (mmoe, omoe) have as many in all,
    `tasks * specific + shared`, so that one `Sizes` gives models of one capacity.
    """

    vocabulary: Mapping[str, int]
    dim: int = 8
    expert: tuple[int, ...] = (128, 64)
    gate: tuple[int, ...] = ()
    tower: tuple[int, ...] = (32,)
    specific: int = 1
    shared: int = 1
    layers: int = 1
    dropout: float = 0.0


class Recommender(nn.Module):
    """`Views -> interact -> Mixture* -> Head`.

    `table` (all vocabularies one under the other, all views side by side) is the only parameter outside the dense part;
    `rows` looks it up and `score` does the rest, so that training may take gradients at the rows touched alone.
    """

    def __init__(
        self, schema: Schema, sizes: Sizes, routings: tuple[Routing, ...], *,
        interact: Callable[[int, int, int], Concatenate] = Concatenate, head: Callable[..., Independent] = Independent,
    ) -> None:
        super().__init__()
        self.schema = schema
        self.routings = routings
        views = len(routings[0].inputs)
        self.places = Places(schema, sizes.vocabulary)
        self.table = nn.Parameter(nn.init.normal_(torch.empty(self.places.rows, views * sizes.dim), std=SPREAD))
        self.views = Views(schema, views, sizes.dim)
        self.interact = interact(views, len(schema.fields), sizes.dim)
        inputs = (self.interact.width, *(sizes.expert[-1] for _ in routings[1:]))
        self.mixtures = nn.ModuleList(Mixture(routing, (width, *sizes.expert), gate=sizes.gate, dropout=sizes.dropout)
                                      for routing, width in zip(routings, inputs, strict=True))
        self.head = head(schema, self._voice(-1), (sizes.expert[-1], *sizes.tower), dropout=sizes.dropout)

    def rows(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The table, and the place in it of every code of the batch (`rows slots`, -1 = padding)."""
        return {"table": self.table, "place": self.places(fields)}

    def score(self, rows: Mapping[str, Tensor], fields: Mapping[str, Tensor]) -> Float[Tensor, "rows outputs"]:
        """Logits from table rows and the places that fit them; `fields` gives what is not looked up."""
        voices = self.interact(self.views(rows, fields))
        for mixture in self.mixtures:
            said = mixture(voices)
            voices = tuple(said[voice] for voice in _mixture(mixture).voice)
        logits: Tensor = self.head(said)
        return logits

    def forward(self, fields: Mapping[str, Tensor]) -> Float[Tensor, "rows outputs"]:
        """Logits, in the order of the schema's outputs."""
        return self.score(self.rows(fields), fields)

    def dense_parameters(self) -> list[nn.Parameter]:
        """Every parameter but the table."""
        return [parameter for name, parameter in self.named_parameters() if name != "table"]

    def groups(self) -> dict[str, tuple[Part, ...]]:
        """The parameters by what they are: each view, expert, gate and tower."""
        return {name: parts for name, (parts, _) in self._declared().items()}

    @property
    def reach(self) -> dict[str, tuple[int, ...]]:
        """The tasks whose gradient reaches each group: the product of the routings from the head down, gates included."""
        return {name: tasks for name, (_, tasks) in self._declared().items()}

    def _voice(self, level: int) -> tuple[int, ...]:
        return _mixture(self.mixtures[level]).voice

    def _declared(self) -> dict[str, tuple[tuple[Part, ...], tuple[int, ...]]]:
        found = {name: (tuple(part.under("head") for part in parts), tasks) for name, (parts, tasks) in self.head.groups().items()}
        readers = [{task for task, hears in enumerate(self.head.hears) if reader in hears} for reader in range(len(self.routings[-1].table))]
        for level in reversed(range(len(self.routings))):
            mixture, routing = _mixture(self.mixtures[level]), self.routings[level]
            experts = [_union(readers[reader] for reader, row in enumerate(routing.table) if row[expert] is Route.OPEN) for expert in range(len(routing.views))]
            gates = {gate: _union(readers[reader] for reader, own in enumerate(routing.gate) if own == gate) for gate in mixture.gated}
            under = f"mixtures.{level}"
            found |= {f"layer {level} expert {expert}": (_under(mixture.expert_parts(expert), under), tuple(sorted(tasks))) for expert, tasks in enumerate(experts)}
            found |= {f"layer {level} gate {gate}": (_under(mixture.gate_parts(gate), under), tuple(sorted(tasks))) for gate, tasks in gates.items()}
            readers = [_union([*(experts[e] for e, view in enumerate(routing.views) if view == one),
                               *(tasks for gate, tasks in gates.items() if one in routing.gates[gate])]) for one in range(len(routing.inputs))]
        for view, tasks in enumerate(readers):
            columns = Part("table", (slice(None), slice(view * self.views.dim, (view + 1) * self.views.dim)))
            parts = (columns, *_under(self.views.parts(view), "views"), *_under(self.interact.parts(view), "interact"))
            found[f"view {view}"] = (parts, tuple(sorted(tasks)))
        return found


def _mixture(module: nn.Module) -> Mixture:
    assert isinstance(module, Mixture)
    return module


def _under(parts: tuple[Part, ...], prefix: str) -> tuple[Part, ...]:
    return tuple(part.under(prefix) for part in parts)


def _union(sets: object) -> set[int]:
    return set().union(*sets)
