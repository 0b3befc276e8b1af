"""Every field as each view sees it: look-ups in one table, and projections of what is not looked up."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from umbel.nn.bank import Part
from umbel.nn.encode import Means, Numbers, Vectors
from umbel.schema import Field, FieldKind, Schema

SPREAD = 1e-4  # standard deviation of fresh embeddings


class Places(nn.Module):
    """Where in the one table each code of a batch stands: the code plus its vocabulary's offset, -1 where there is none.

    A code beyond the vocabulary counts as unknown (row 0 of its vocabulary); so does a negative one where a field
    holds a single value.
    """

    offsets: Tensor
    ends: Tensor
    floors: Tensor

    def __init__(self, schema: Schema, vocabulary: Mapping[str, int]) -> None:
        super().__init__()
        self.fields = tuple(field for field in schema.fields if field.coded)
        sizes = [vocabulary[table] for table in schema.tables]
        starts = dict(zip(schema.tables, accumulate(sizes, initial=0), strict=False))
        slots = [field for field in self.fields for _ in range(field.size)]
        self.rows = sum(sizes)
        self.register_buffer("offsets", torch.tensor([starts[field.table] for field in slots]), persistent=False)
        self.register_buffer("ends", torch.tensor([vocabulary[field.table] for field in slots]), persistent=False)
        self.register_buffer("floors", torch.tensor([-1 if field.many else 0 for field in slots]), persistent=False)

    def forward(self, fields: Mapping[str, Tensor]) -> Int[Tensor, "rows slots"]:
        """:raises ValueError: if a field has not as many columns as the schema says."""
        codes = torch.cat([_columns(field, fields[field.name]) for field in self.fields], 1).long()
        codes = torch.where(codes < self.ends, codes, 0).maximum(self.floors)
        return torch.where(codes < 0, -1, codes + self.offsets)


class Views(nn.Module):
    """`views` embeddings of `dim` numbers for every field, in the order of the schema.

    Ids and categories are looked up, bags and sequences are the mean of their values (zeros where there is none),
    numbers and vectors are projected without bias, and a missing one has a vector of its own.
    """

    def __init__(self, schema: Schema, views: int, dim: int) -> None:
        super().__init__()
        self.views, self.dim, self.fields = views, dim, len(schema.fields)
        sizes = [field.size for field in schema.fields if field.coded]
        coded = [field for field in schema.fields if field.coded]
        starts = dict(zip([field.name for field in coded], accumulate(sizes, initial=0), strict=False))
        self.singles = [starts[field.name] for field in coded if not field.many]
        self.means = nn.ModuleDict({field.name: Means(starts[field.name], field.length) for field in coded if field.many})
        numbers = [field.name for field in schema.fields if field.kind is FieldKind.NUMBER]
        self.numbers = Numbers(numbers, views, dim) if numbers else None
        vectors = {field.name: field.width for field in schema.fields if field.kind is FieldKind.VECTOR}
        self.vectors = nn.ModuleDict({name: Vectors(name, width, views, dim) for name, width in vectors.items()})
        found = [*(field.name for field in coded if not field.many), *self.means, *numbers, *vectors]
        self.order = [found.index(field.name) for field in schema.fields]

    def forward(self, rows: Mapping[str, Tensor], fields: Mapping[str, Tensor]) -> Float[Tensor, "rows views fields dim"]:
        """The fields of a batch in every view, from `rows` = {"table", "place"} and the fields that are not looked up."""
        table, place = rows["table"], rows["place"]
        parts = []
        if self.singles:
            looked = nn.functional.embedding(place[:, self.singles], table)
            parts.append(looked.view(len(place), len(self.singles), self.views, self.dim).transpose(1, 2))
        for mean in self.means.values():
            parts.append(mean(table, place).view(len(place), self.views, 1, self.dim))
        if self.numbers is not None:
            parts.append(self.numbers(fields))
        parts.extend(vector(fields) for vector in self.vectors.values())
        x = torch.cat(parts, 2)
        return x if self.order == sorted(self.order) else x[:, :, self.order]

    def parts(self, view: int) -> tuple[Part, ...]:
        """The parameters of one view, but for its columns of the table."""
        found = [part.under("numbers") for part in self.numbers.parts(view)] if self.numbers is not None else []
        for name, vector in self.vectors.items():
            assert isinstance(vector, Vectors)
            found.extend(part.under(f"vectors.{name}") for part in vector.parts(view))
        return tuple(found)


def compact(rows: Mapping[str, Tensor]) -> tuple[Int[Tensor, "touched"], dict[str, Tensor]]:
    """The table rows a batch touches, each once and in order, and `rows` over them alone: a leaf to take gradients at.

    Padding stays -1 and touches nothing. `score` gives the same for both, bit for bit.

    Example
    -------
    >>> touched, local = compact({"table": torch.arange(8.0).view(4, 2), "place": torch.tensor([[3, -1], [1, 3]])})
    >>> touched.tolist(), local["place"].tolist(), local["table"].tolist()
    ([1, 3], [[1, -1], [0, 1]], [[2.0, 3.0], [6.0, 7.0]])
    """
    table, place = rows["table"], rows["place"]
    # Sorting the batch's places costs the same whatever the table's length; marking them in the table would not.
    ids, local = torch.unique(place.int() if len(table) < 2**31 else place, return_inverse=True)
    if len(ids) and ids[0] < 0:
        ids, local = ids[1:], local - 1
    ids = ids.long()
    leaf = table.detach().index_select(0, ids).requires_grad_()
    return ids, {**rows, "table": leaf, "place": local}


def _columns(field: Field, codes: Tensor) -> Tensor:
    columns = codes.unsqueeze(1) if codes.ndim == 1 else codes
    if columns.shape[1] != field.size:
        raise ValueError(f"field `{field.name}` has {field.size} columns. Received: shape {tuple(codes.shape)}")
    return columns
