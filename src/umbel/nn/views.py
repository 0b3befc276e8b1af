"""Every field as each view sees it: look-ups in one table, and projections of what is not looked up."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, groupby

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from umbel.nn.bank import Part
from umbel.nn.drop import chance
from umbel.nn.encode import Bins, Counts, Numbers, Vectors
from umbel.nn.sequence import MakeSequence, Mean, listings
from umbel.schema import NO_EDGES, Edges, Field, FieldKind, Schema


class Places(nn.Module):
    """Where in the one table each code of a batch stands: the code plus its vocabulary's offset, -1 where there is none.

    A code beyond the vocabulary counts as unknown (row 0 of its vocabulary); so does a negative one where a field
    holds a single value. In training a share `drop` of the ids counts as unknown too, so that the unknown row learns
    what is true of ids on average, and the rest learns to do without (DropoutNet, https://doi.org/10.5555/3295222.3295249,
    drops whole inputs likewise).
    """

    offsets: Tensor
    ends: Tensor
    floors: Tensor
    ids: Tensor

    def __init__(self, schema: Schema, vocabulary: Mapping[str, int], *, drop: float = 0.0) -> None:
        super().__init__()
        self.drop = drop
        self.fields = tuple(field for field in schema.fields if field.coded)
        sizes = [vocabulary[table] for table in schema.tables]
        starts = dict(zip(schema.tables, accumulate(sizes, initial=0), strict=False))
        slots = [field for field in self.fields for _ in range(field.size)]
        self.rows = sum(sizes)
        self._spans = {field.name: range(starts[field.table], starts[field.table] + vocabulary[field.table]) for field in self.fields}
        kind = torch.int32 if self.rows < 2**31 else torch.int64
        self.register_buffer("offsets", torch.tensor([starts[field.table] for field in slots], dtype=kind), persistent=False)
        self.register_buffer("ends", torch.tensor([vocabulary[field.table] for field in slots], dtype=kind), persistent=False)
        self.register_buffer("ids", torch.tensor([field.kind is FieldKind.ID for field in slots]), persistent=False)
        self.register_buffer("floors", torch.tensor([-1 if field.many else 0 for field in slots], dtype=kind), persistent=False)

    def span(self, field: str) -> range:
        """The rows of the table that stand for a field's codes, unknown first."""
        return self._spans[field]

    def forward(self, fields: Mapping[str, Tensor]) -> Int[Tensor, "rows slots"]:
        """:raises ValueError: if a field has not as many columns as the schema says."""
        if not self.fields:
            return self.offsets.long().expand(next(iter(fields.values())).shape[0], 0)
        codes = torch.cat([_columns(field, fields[field.name]) for field in self.fields], 1)
        if self.training and self.drop:
            codes = codes.masked_fill(self.ids & chance(codes, self.drop), 0)
        return placed(codes, self.ends, self.floors, offsets=self.offsets)


def placed(
    codes: Int[Tensor, "rows slots"], ends: Int[Tensor, "slots"], floors: Int[Tensor, "slots"], *, offsets: Int[Tensor, "slots"],
) -> Int[Tensor, "rows slots"]:
    """Codes as places in the table, slot by slot, -1 for padding."""
    known = torch.where(codes < ends, codes, 0).maximum(floors)
    return torch.where(known < 0, -1, known + offsets).long()


class Views(nn.Module):
    """`views` embeddings of `dim` numbers for every field, in the order of the schema.

    Ids and categories are looked up; bags and sequences are what `sequence` makes of them (the mean of their values) plus a
    vector for how many there are, zeros where there is none; numbers (those with bins, piece by piece) and vectors are projected
    without bias, and a missing one has a vector of its own.
    """

    singles: Tensor
    lists: Tensor

    def __init__(self, schema: Schema, shape: tuple[int, int], *, sequence: MakeSequence = Mean, edges: Edges = NO_EDGES) -> None:
        super().__init__()
        self.shape = shape
        self.views, self.dim = shape
        many = [field.many for field in schema.fields if field.coded for _ in range(field.size)]
        self.register_buffer("singles", _where(many, holds=False), persistent=False)
        self.register_buffer("lists", _where(many, holds=True), persistent=False)
        self.widths = tuple(field.length for field in schema.fields if field.many)
        self.sequence = sequence(listings(schema), shape) if self.widths else None
        self.counts = Counts(self.widths, shape) if self.widths else None
        numbers = [field.name for field in schema.fields if field.kind is FieldKind.NUMBER and not field.mapped]
        self.numbers = Numbers(numbers, shape) if numbers else None
        vectors = [field for field in schema.fields if field.mapped]
        bins = {field.name: Bins(field, edges.get(field.name)) for field in vectors if field.bins}
        self.vectors = nn.ModuleList(Vectors(field.name, field.size, shape=shape, bins=bins.get(field.name)) for field in vectors)
        self.runs = _runs([_source(field, vectors) for field in schema.fields])
        self.cuts = {source: [size for own, size in self.runs if own == source] for source, _ in self.runs}

    def forward(self, rows: Mapping[str, Tensor], fields: Mapping[str, Tensor]) -> Float[Tensor, "rows views fields dim"]:
        """The fields of a batch in every view, from `rows` = {"table", "place"} and the fields that are not looked up.

        In memory a row's fields come first, then its views: so the table gives them, and turning them would be a copy.
        """
        parts = self._looked(rows["table"], rows["place"])
        if self.numbers is not None:
            parts[2] = self.numbers(fields)
        parts |= {3 + number: vector(fields) for number, vector in enumerate(self.vectors)}
        # Cut once, not run by run: the gradient of a slice is a tensor of zeros as large as the whole.
        pieces = {source: iter(parts[source].split_with_sizes(cuts, 1)) for source, cuts in self.cuts.items()}
        return torch.cat([next(pieces[source]) for source, _ in self.runs], 1).transpose(1, 2)

    def parts(self, view: int) -> tuple[Part, ...]:
        """The parameters of one view, but for its columns of the table."""
        found = [part.under("numbers") for part in self.numbers.parts(view)] if self.numbers is not None else []
        found += [part.under("sequence") for part in self.sequence.parts(view)] if self.sequence is not None else []
        found += [part.under("counts") for part in self.counts.parts(view)] if self.counts is not None else []
        for number, vector in enumerate(self.vectors):
            assert isinstance(vector, Vectors)
            found.extend(part.under(f"vectors.{number}") for part in vector.parts(view))
        return tuple(found)

    def _looked(self, table: Tensor, place: Tensor) -> dict[int, Float[Tensor, "rows _ views dim"]]:
        """Single values (source 0), and summaries and counts of lists (source 1)."""
        found: dict[int, Tensor] = {}
        if len(self.singles):  # index_select, since its gradient costs half of an embedding's
            found[0] = table.index_select(0, place.index_select(1, self.singles).flatten())
            found[0] = found[0].view(place.shape[0], len(self.singles), *self.shape)
        if self.counts is not None and self.sequence is not None:
            lists = place.index_select(1, self.lists)
            known = torch.stack([own.sum(1) for own in (lists >= 0).split_with_sizes(self.widths, 1)], 1)
            found[1] = self.sequence(table, place) + self.counts(known)
        return found


def compact(rows: Mapping[str, Tensor]) -> tuple[Int[Tensor, "touched"], dict[str, Tensor]]:
    """The table rows a batch touches, each once and in order, and `rows` over them alone: a leaf to take gradients at.

    Padding stays -1 and touches nothing. `score` gives the same for both, bit for bit. The new places are int64, by which torch
    adds gradients up four times faster than by int32.

    Example
    -------
    >>> touched, local = compact({"table": torch.arange(8.0).view(4, 2), "place": torch.tensor([[3, -1], [1, 3]])})
    >>> touched.tolist(), local["place"].tolist(), local["table"].tolist()
    ([1, 3], [[1, -1], [0, 1]], [[2.0, 3.0], [6.0, 7.0]])
    """
    table = rows["table"]
    ids, local = distinct(rows["place"], len(table))
    leaf = table.detach().index_select(0, ids).requires_grad_()
    return ids, {**rows, "table": leaf, "place": local}


def distinct(place: Int[Tensor, "rows slots"], size: int) -> tuple[Int[Tensor, "touched"], Int[Tensor, "rows slots"]]:
    """The places in a table of that size, each once and in order, and for every one its number among them; -1 stays."""
    # Marking places in the table is up to six times faster than sorting them, while the table is not much longer than the batch.
    return _marked(place, size) if size <= 2 * place.numel() else _sorted(place, size)


def _marked(place: Tensor, size: int) -> tuple[Tensor, Tensor]:
    spots = (place + 1).flatten()
    mark = torch.zeros(size + 1, dtype=torch.bool, device=place.device).index_fill_(0, spots, True)
    mark[:1].fill_(False)  # filled there: a False that is set would have to be sent there
    ids = mark.nonzero().squeeze(1)
    local = torch.full((size + 1,), -1, device=place.device)
    local[ids] = torch.arange(len(ids), device=place.device)
    return ids - 1, local.index_select(0, spots).view(place.shape)


def _sorted(place: Tensor, size: int) -> tuple[Tensor, Tensor]:
    # With one -1 put before them the first is always padding: whether any place is would have to be asked of the device.
    spots = functional.pad((place.int() if size < 2**31 else place).flatten(), (1, 0), value=-1)
    ids, local = torch.unique(spots, return_inverse=True)
    return ids[1:].long(), (local[1:] - 1).view(place.shape)


def _columns(field: Field, codes: Tensor) -> Tensor:
    columns = codes.unsqueeze(1) if codes.ndim == 1 else codes
    if columns.shape[1] != field.size:
        raise ValueError(f"field `{field.name}` has {field.size} columns. Received: shape {tuple(codes.shape)}")
    return columns


def _where(marks: list[bool], *, holds: bool) -> Int[Tensor, "slots"]:
    return torch.tensor([slot for slot, mark in enumerate(marks) if mark is holds], dtype=torch.int64)


def _source(field: Field, vectors: list[Field]) -> int:
    """Where a field's embedding comes from: 0 single look-ups, 1 means, 2 numbers, 3 and on a vector (or bins) each."""
    if field.coded:
        return int(field.many)
    return 3 + vectors.index(field) if field.mapped else 2


def _runs(sources: list[int]) -> tuple[tuple[int, int], ...]:
    """Neighbours of one source as one piece of what it gives: the source, and how many they are."""
    return tuple((source, len(list(group))) for source, group in groupby(sources))
