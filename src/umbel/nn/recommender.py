"""Views, layers and a head in a row: fields in, logits out, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from umbel.nn.bank import Part
from umbel.nn.heads import MakeHead, MakeIndependent, Taught
from umbel.nn.holder import HERE, Holder
from umbel.nn.interact import Concatenate, MakeInteract
from umbel.nn.layer import Layer, Lessons, MakeLayer, Penalised
from umbel.nn.losses import Denominator, Labelled
from umbel.nn.offset import Offsets, raised
from umbel.nn.reach import Tasks
from umbel.nn.sequence import MakeSequence, Mean
from umbel.nn.views import Places, Views
from umbel.schema import Edges, Schema


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a model is.

    `vocabulary` counts the rows of each embedding table, unknown included; `dim` is the width of one view of a field.
    `expert`, `gate` and `tower` are hidden widths. There are `specific` experts a task and `shared` ones; recipes whose
    experts have no owner (mmoe, omoe) get as many in all, `tasks * specific + shared`, so that one `Sizes` gives
    models of one capacity. `layers` counts the levels between views and head, one on the other.
    `dropout` is a share of hidden units, `id_dropout` one of ids: while training, these read as unknown. `edges` are those of the
    fields with bins.
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
    id_dropout: float = 0.0
    edges: Edges = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parts:
    """What stands before and after the layers; `head` None is the recipe's own, independent towers for most. `holder` has the rows."""

    interact: MakeInteract = Concatenate
    sequence: MakeSequence = Mean
    head: MakeHead | None = None
    holder: Holder = HERE


PLAIN = Parts()


class Recommender(nn.Module):
    """`Views -> interact -> Layer* -> Head`: an architecture is its layers; most are a `Mixture` that obeys a routing.

    `table` (all vocabularies one under the other, all views side by side) is the only parameter outside the dense part.
    `rows` names the table rows a batch needs and `score` does the rest, so that training may take gradients at those
    rows alone (`umbel.nn.views.compact`). Row 0 of each vocabulary (unknown) is learned; the code published with STEM
    keeps it at zero. `offsets`, where there are any, are added to the logits.

    Example
    -------
    >>> import torch
    >>> from umbel.recipes import stem
    >>> from umbel.schema import Field, FieldKind, Task
    >>> schema = Schema((Field("user", FieldKind.ID), Field("item", FieldKind.ID)), (Task("click"), Task("like")))
    >>> model = stem(schema, Sizes({"user": 100, "item": 50}))
    >>> tuple(model({"user": torch.tensor([3, 0]), "item": torch.tensor([7, 7])}).shape), tuple(model.table.shape)
    ((2, 2), (150, 24))
    >>> print(model.layers[0].routing.text(["click", "like"]))
    reads   0   1   2
    click   ●   ○   ●  gate 0+2
    like    ○   ●   ●  gate 1+2
    """

    def __init__(self, schema: Schema, sizes: Sizes, *, views: int, layers: Sequence[MakeLayer], parts: Parts = PLAIN) -> None:
        super().__init__()
        self.schema = schema
        self.places = Places(schema, sizes.vocabulary, drop=sizes.id_dropout)
        self.holder = parts.holder
        drawn = self.holder.drawn(self.places.rows, views * sizes.dim)
        self.table = nn.Parameter(drawn, requires_grad=drawn.is_floating_point())
        self.views = Views(schema, (views, sizes.dim), sequence=parts.sequence, edges=sizes.edges)
        self.interact = parts.interact((views, len(schema.fields), sizes.dim))
        self.layers = nn.ModuleList()
        width = self.interact.width
        for make in layers:
            self.layers.append(layer := make(width))
            width = layer.width
        make_head = parts.head or MakeIndependent()
        self.offsets: Offsets | None = None
        self.head = make_head(schema, self._levels[-1].voice, widths=(width, *sizes.tower), dropout=sizes.dropout)

    @torch.no_grad()
    def begin(self, task: str, outputs: Float[Tensor, "outputs"]) -> None:
        """Let a task's outputs, before anything is learned, be these on average over weights: they are the last bias of its tower.

        Of a task that a chain ends in, `aitm` has there the logit of its marginal.
        """
        bias = self.groups()[f"tower {task}"][-1].of(dict(self.named_parameters()))
        bias.copy_(outputs.view_as(bias))

    def rows(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The table, and the place in it of every code of the batch: `rows slots`, -1 = padding.

        Slots are the columns of the coded fields, in the order of the schema.
        """
        return self.holder.looked(self.table, self.places(fields))

    def taken(self, places: Int[Tensor, "some"]) -> Float[Tensor, "some width"]:
        """Rows of the table, wherever and however they are held."""
        found = self.holder.looked(self.table, places[:, None])
        return found["table"].index_select(0, found["place"].flatten())

    def seen(self, fields: Mapping[str, Tensor]) -> Float[Tensor, "rows views fields dim"]:
        """The fields as the views see them: what `score` reads of its rows."""
        seen: Tensor = self.views(self.rows(fields), fields)
        return seen

    def score(self, rows: Mapping[str, Tensor], fields: Mapping[str, Tensor]) -> Float[Tensor, "rows outputs"]:
        """Logits from a table and places that fit it; `fields` gives what is not looked up.

        Works under `torch.func.functional_call` (through a module that calls `score`) and `torch.func.vmap`.
        """
        logits = self.beyond(self.views(rows, fields))
        return logits if self.offsets is None else raised(logits, self.offsets(fields))

    def beyond(self, seen: Float[Tensor, "rows views fields dim"]) -> Float[Tensor, "rows outputs"]:
        """Logits from the fields as the views see them: what `score` does after its look-up."""
        return self.above(self.interact(seen))

    def above(self, inputs: tuple[Float[Tensor, "rows width"], ...]) -> Float[Tensor, "rows outputs"]:
        """Logits from what each view comes to: what `beyond` does after its interaction."""
        logits: Tensor = self.head(self.heard(inputs))
        return logits

    def heard(self, inputs: tuple[Float[Tensor, "rows width"], ...]) -> Sequence[Float[Tensor, "rows hidden"]]:
        """What the last layer's voices say, from what each view comes to: what the head reads."""
        for layer in self._levels:
            voices: Sequence[Tensor] = layer(inputs)
            inputs = tuple(voices[own] for own in layer.voice)
        return voices

    def below(self, fields: Mapping[str, Tensor]) -> tuple[Float[Tensor, "rows width"], ...]:
        """What the last layer's experts and gates read."""
        inputs: tuple[Tensor, ...] = self.interact(self.seen(fields))
        for layer in self._levels[:-1]:
            voices = layer(inputs)
            inputs = tuple(voices[own] for own in layer.voice)
        return inputs

    def forward(self, fields: Mapping[str, Tensor]) -> Float[Tensor, "rows outputs"]:
        """Logits, in the order of the schema's outputs."""
        return self.score(self.rows(fields), fields)

    def losses(
        self, logits: Float[Tensor, "rows outputs"], batch: Labelled, *, denominator: Denominator = Denominator.SEEN,
    ) -> Float[Tensor, "tasks"]:
        """What training descends: a loss a task, as the head has it, task and row weights in it.

        What a layer costs beside the losses (`Penalised`) is paid in equal shares by the tasks that it is for.
        """
        losses = self.head.losses(logits, batch, self.schema, denominator=denominator)
        if any(isinstance(layer, Penalised) for layer in self._levels):
            for layer, (readers, _) in zip(self._levels, self._taught(), strict=True):
                if isinstance(layer, Penalised):
                    losses = _paid(losses, layer.penalties().to(losses), readers)
        return losses

    def paid(self, batch: Labelled) -> Bool[Tensor, "rows tasks"]:
        """The rows over which each task's loss is a mean, as the head has it."""
        return self.head.paid(batch)

    def dense_parameters(self) -> list[nn.Parameter]:
        """Every parameter but the table."""
        return [parameter for name, parameter in self.named_parameters() if name != "table"]

    @property
    def numbers(self) -> int:
        """How many numbers are learned, wherever they are."""
        return sum(parameter.numel() for parameter in self.dense_parameters()) + self.places.rows * self.views.views * self.views.dim

    def groups(self) -> dict[str, tuple[Part, ...]]:
        """The parameters by what they are: each view, expert, gate and tower; every number is in exactly one group."""
        return {name: parts for name, (parts, _) in self._declared().items()}

    @property
    def reach(self) -> dict[str, tuple[int, ...]]:
        """The tasks (by number) whose gradient reaches each group; no other task's ever does."""
        return {name: tasks for name, (_, tasks) in self._declared().items()}

    @property
    def _levels(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def _declared(self) -> dict[str, Taught]:
        found: dict[str, Taught] = {}
        taught = self._taught()
        for number, (_, lessons) in enumerate(taught):
            found |= {f"layer {number} {name}": (_under(f"layers.{number}", parts), tasks)
                      for name, (parts, tasks) in lessons.groups.items()}
        found |= {name: (_under("head", parts), tasks) for name, (parts, tasks) in self.head.groups().items()}
        views = taught[0][1].inputs
        return {f"view {view}": (self._view_parts(view), tasks) for view, tasks in enumerate(views)} | found

    def _taught(self) -> list[tuple[tuple[Tasks, ...], Lessons]]:
        """Per level, from the bottom, the tasks that teach each reader, and the lessons that follow."""
        count = len(self._levels[-1].voice)
        readers = tuple(tuple(task for task, own in enumerate(self.head.hears) if reader in own) for reader in range(count))
        found: list[tuple[tuple[Tasks, ...], Lessons]] = []
        for layer in reversed(self._levels):
            lessons = layer.lessons(readers)
            found.insert(0, (readers, lessons))
            readers = lessons.inputs
        return found

    def _view_parts(self, view: int) -> tuple[Part, ...]:
        columns = slice(view * self.views.dim, (view + 1) * self.views.dim)
        rest = (*_under("views", self.views.parts(view)), *_under("interact", self.interact.parts(view)))
        return (Part("table", (slice(None), columns)), *rest)


def _paid(losses: Float[Tensor, "tasks"], prices: Float[Tensor, "readers"], readers: tuple[Tasks, ...]) -> Float[Tensor, "tasks"]:
    """The losses and each reader's price, shared by its tasks; a matrix of shares would have to be sent to where the losses lie."""
    paid = list(losses)
    for price, tasks in zip(prices, readers, strict=True):
        for task in tasks:
            paid[task] = paid[task] + price / len(tasks)
    return torch.stack(paid)


def _under(prefix: str, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    return tuple(part.under(prefix) for part in parts)
