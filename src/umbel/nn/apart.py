"""A recommender over rows that share most of what they read: each field is embedded once for those that have it in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from umbel.nn.encode import Counts, Numbers
from umbel.nn.interact import Concatenate
from umbel.nn.kept import Shelf, Shelved
from umbel.nn.offset import raised
from umbel.nn.pieced import Fresh, Piece, Pieced, Slices
from umbel.nn.recommender import Recommender
from umbel.nn.sequence import Mean
from umbel.nn.sequence.sequence import listings
from umbel.nn.views import placed
from umbel.schema import Field, FieldKind, Schema

Fields = Mapping[str, Tensor]
Beyond = Callable[[Float[Tensor, "rows views fields dim"]], Float[Tensor, "rows outputs"]]


@final
class Portion:
    """Some fields of a recommender, embedded without the others: `rows views own`, its fields side by side as in `order`."""

    def __init__(self, model: Recommender, names: Collection[str]) -> None:
        fields = [field for field in model.schema.fields if field.name in names]
        slots = dict(zip(_coded(model.schema), _starts(model.schema), strict=True))
        singles = [field for field in fields if field.coded and not field.many]
        lists = [field for field in fields if field.many]
        numbers = [field for field in fields if field.kind is FieldKind.NUMBER and not field.mapped]
        vectors = [field for field in fields if field.mapped]
        self.model = model
        self.lists = _Lists(model, [field.name for field in lists]) if lists else None
        self.order = [*singles, *lists, *numbers, *vectors]
        self.singles = [field.name for field in singles]
        self.slots = torch.tensor([slots[name] for name in self.singles], dtype=torch.int64)
        places = model.places
        self.bounds, self.offsets = (places.ends[self.slots], places.floors[self.slots]), places.offsets[self.slots]
        self.numbers = _numbers(model, [field.name for field in numbers])
        mapped = [field for field in model.schema.fields if field.mapped]
        self.vectors = [model.views.vectors[mapped.index(field)] for field in vectors]
        at = torch.tensor([model.schema.fields.index(field) for field in self.order], dtype=torch.int64)
        self.columns = (at[:, None] * model.views.dim + torch.arange(model.views.dim)).flatten()

    def __call__(self, given: Fields) -> Float[Tensor, "rows views own"]:
        """From fields of one number of rows, its own among them; lists may need their targets."""
        rows = len(next(iter(given.values())))
        views = self.model.views
        parts = [torch.empty(rows, 0, *views.shape)]
        if len(self.slots):
            codes = torch.stack([given[name] for name in self.singles], 1)
            looked = self.model.taken(placed(codes, *self.bounds, offsets=self.offsets).flatten())
            parts.append(looked.view(rows, len(self.slots), *views.shape))
        if self.lists is not None:
            place = self.model.places({field.name: given.get(field.name, _blank(field, rows)) for field in self.model.places.fields})
            parts.append(self.lists(place))
        if self.numbers is not None:
            parts.append(self.numbers(given))
        parts += [vector(given) for vector in self.vectors]
        return torch.cat(parts, 1).transpose(1, 2).flatten(2)


@final
class Apart:
    """A model, and which of its fields its rows have in common (`once`), which belong to things met again (`own`), and the rest.

    Lists that are read entry by entry stay together: with the rest, unless all of them, and their targets, are in common or things' own.
    `keep` remembers things; `logits` are those of `Recommender.forward`, but for rounding.
    """

    def __init__(self, model: Recommender, *, once: Collection[str], own: Collection[str]) -> None:
        names = {field.name for field in model.schema.fields}
        lists = {field.name for field in model.schema.fields if field.many and not isinstance(model.views.sequence, Mean)}
        reads = lists | {field.target for field in model.schema.fields if field.name in lists and field.target is not None}
        torn = set() if reads <= set(once) or reads <= set(own) else lists
        kinds = (set(once) - torn, set(own) - torn)
        self.model, self.slices = model, Slices()
        self.once, self.own, self.rest = (Portion(model, kind) for kind in (*kinds, names - kinds[0] - kinds[1]))
        self.shelf = Shelf(self.own.columns, self.slices)
        self.raising = frozenset() if model.offsets is None else frozenset({model.offsets.field})

    @property
    def kept(self) -> int:
        """How many things are remembered."""
        return self.shelf.count

    def keep(self, things: Fields) -> Int[Tensor, "things"]:
        """Remember things by their own fields; the numbers to ask for them by."""
        with torch.inference_mode():
            kept = things if self.rest.order else {name: things[name] for name in self.raising & things.keys()}
            return self.shelf.put(self.own(things), kept)

    def forget(self, things: int) -> None:
        """Forget so many things, those that came first; the numbers to ask for the others by fall by as many."""
        with torch.inference_mode():
            self.shelf.drop(things)

    def logits(
        self, numbers: Int[Tensor, "rows"], shared: Fields, rest: Fields, *, beyond: Beyond | None = None,
    ) -> Float[Tensor, "rows outputs"]:
        """Logits of rows: each is a thing, what all share (fields of one row), and the rest (a row each).

        `beyond`, in place of the model's own, makes them of what the views see.
        """
        with torch.inference_mode():
            pieces = self._pieces(numbers, shared, rest)
            seen = [Pieced.of([one[view] for one in pieces], len(numbers)) for view in range(self.model.views.views)]
            if beyond is None and isinstance(self.model.interact, Concatenate):
                logits = self.model.above(tuple(seen))
            else:
                whole = torch.stack([one.whole() for one in seen], 1).view(len(numbers), len(seen), -1, self.model.views.dim)
                logits = (beyond or self.model.beyond)(whole)
            if self.model.offsets is None:
                return logits
            return raised(logits, self.model.offsets({**shared, **self.shelf.fields(numbers), **rest}).expand(len(numbers), -1))

    def _pieces(self, numbers: Tensor, shared: Fields, rest: Fields) -> list[list[Piece]]:
        """Per portion that has fields, a piece a view."""
        views = range(self.model.views.views)
        found: list[list[Piece]] = []
        if self.once.order:
            seen = self.once(shared)
            found.append([Fresh(self.once.columns, seen[:, view], self.slices) for view in views])
        if self.own.order:
            found.append([Shelved(self.shelf, (view,), numbers) for view in views])
        if self.rest.order:
            common = {name: one.expand(len(numbers), *one.shape[1:]) for name, one in shared.items()}
            seen = self.rest({**common, **self.shelf.fields(numbers), **rest})
            found.append([Fresh(self.rest.columns, seen[:, view], self.slices) for view in views])
        return found


@final
class _Lists:
    """Some lists of a model, or, where their encoder has weights, all of them."""

    def __init__(self, model: Recommender, names: list[str]) -> None:
        views, every = model.views, listings(model.schema)
        assert views.counts is not None
        assert views.sequence is not None
        own = [at for at, one in enumerate(every) if one.name in names]
        self.model, self.widths = model, tuple(every[at].length for at in own)
        self.slots = torch.tensor([slot for at in own for slot in range(every[at].start, every[at].start + every[at].length)])
        mean = isinstance(views.sequence, Mean)
        self.sequence = Mean(tuple(every[at] for at in own), views.shape) if mean else views.sequence
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            self.counts = Counts(self.widths, views.shape)
            self.counts.weight.copy_(views.counts.weight[own])

    def __call__(self, place: Int[Tensor, "rows slots"]) -> Float[Tensor, "rows lists views dim"]:
        known = [own.sum(1) for own in (place.index_select(1, self.slots) >= 0).split_with_sizes(self.widths, 1)]
        looked = self.model.holder.looked(self.model.table, place)
        made: Tensor = self.sequence(looked["table"], looked["place"]) + self.counts(torch.stack(known, 1))
        return made


def _numbers(model: Recommender, names: list[str]) -> Numbers | None:
    """The projections of some numbers, their weights copied from the model's."""
    whole = model.views.numbers
    if whole is None or not names:
        return None
    at = [whole.names.index(name) for name in names]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        made = Numbers(names, model.views.shape)
        made.weight.copy_(whole.weight[at])
        made.missing.copy_(whole.missing[at])
    return made


def _coded(schema: Schema) -> list[str]:
    return [field.name for field in schema.fields if field.coded]


def _starts(schema: Schema) -> list[int]:
    sizes = [field.size for field in schema.fields if field.coded]
    return [sum(sizes[:at]) for at in range(len(sizes))]


def _blank(field: Field, rows: int) -> Tensor:
    return torch.zeros(rows, dtype=torch.int32) if not field.many else torch.full((rows, field.size), -1, dtype=torch.int32)
