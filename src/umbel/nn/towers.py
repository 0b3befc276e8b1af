"""Two towers: a user in a context becomes a vector, an item becomes a vector, and their product says how well they go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from umbel.nn.bank import Block
from umbel.nn.draw import normal_
from umbel.nn.losses import Denominator, Labelled
from umbel.nn.views import Places, Views
from umbel.schema import Edges, Schema

FRESH = 0.1  # standard deviation of fresh embeddings: vectors are of length 1, so a smaller one would only make first steps larger


@dataclass(frozen=True, slots=True)
class TowerSizes:
    """`vocabulary` counts the rows of each table, `dim` is the width of a field, `hidden` those of a tower's layers, `width` a vector's."""

    vocabulary: Mapping[str, int]
    dim: int = 16
    hidden: tuple[int, ...] = (64,)
    width: int = 32
    temperature: float = 0.1
    edges: Edges = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sides:
    """Which fields each tower reads; `id` is the item's own among those of the item."""

    id: str
    user: tuple[str, ...]
    item: tuple[str, ...]


class TwoTower(nn.Module):
    """`u = f(fields of user and context) / |.|`, `v = g(fields of the item) / |.|`; an output of `score` for every row of the batch.

    Training descends a softmax over the items of the batch, corrected for how often each item is met there (Yi et al., RecSys 2019,
    https://doi.org/10.1145/3298689.3346996): for row i, whose own item is the positive one,

        `loss_i = -log softmax_j(u_i . v_j / temperature - log q_j) at j = i`.

    There q is estimated from the stream of training and every loss is weighted by a reward; here q_j is the item's share of the training
    positives (`share`, by code; all unknown items are one), and every positive counts alike. Where the positive item of a row comes again
    in the batch, the other rows of it are no negatives of that row. Other items that the same user liked are.
    The schema has one task, which stands for all positives; users and items share one `table`, and with it what fields are `like` others.

    Example
    -------
    >>> from umbel.schema import Field, FieldKind, Task
    >>> schema = Schema((Field("user", FieldKind.ID), Field("item", FieldKind.ID)), (Task("click"),))
    >>> towers = TwoTower(schema, TowerSizes({"user": 9, "item": 5}, width=4), Sides("item", ("user",), ("item",)))
    >>> tuple(towers.users({"user": torch.tensor([1, 2, 0])}).shape), tuple(towers.items({"item": torch.tensor([3])}).shape)
    ((3, 4), (1, 4))
    """

    log_share: Tensor

    def __init__(self, schema: Schema, sizes: TowerSizes, sides: Sides, *, share: Float[Tensor, "codes"] | None = None) -> None:
        super().__init__()
        self.schema, self.sides, self.temperature = schema, sides, sizes.temperature
        self.places = Places(schema, sizes.vocabulary)
        self.table = nn.Parameter(normal_(torch.empty(self.places.rows, sizes.dim), std=FRESH))
        self.views = Views(schema, (1, sizes.dim), edges=sizes.edges)
        order = [one.name for one in schema.fields]
        self._user, self._item = ([order.index(name) for name in names] for names in (sides.user, sides.item))
        self.user = Block(1, (sizes.dim * len(self._user), *sizes.hidden, sizes.width), linear=True, dropout=0.0)
        self.item = Block(1, (sizes.dim * len(self._item), *sizes.hidden, sizes.width), linear=True, dropout=0.0)
        codes = sizes.vocabulary[schema.field(sides.id).table]
        # An item without a positive is met in no batch: its share is never read, and any number above 0 will do.
        shares = torch.full((codes,), 1.0 / codes) if share is None else share.clamp_min(torch.finfo(torch.float32).tiny)
        self.register_buffer("log_share", shares.log(), persistent=False)

    def users(self, fields: Mapping[str, Tensor]) -> Float[Tensor, "rows width"]:
        """Vectors of length 1 from the fields of user and context."""
        whole = self._whole(fields)
        return self._vectors(self.user, self._user, self.views(self.rows(whole), whole))

    def items(self, fields: Mapping[str, Tensor]) -> Float[Tensor, "rows width"]:
        """Vectors of length 1 from the fields of items."""
        whole = self._whole(fields)
        return self._vectors(self.item, self._item, self.views(self.rows(whole), whole))

    def rows(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The table, and the place in it of every code of the batch."""
        return {"table": self.table, "place": self.places(fields)}

    def score(self, rows: Mapping[str, Tensor], fields: Mapping[str, Tensor]) -> Float[Tensor, "rows rows"]:
        """Row by row what the softmax is taken of: the items of all rows, minus infinity where the row's own item comes again."""
        seen = self.views(rows, fields)
        users, items = self._vectors(self.user, self._user, seen), self._vectors(self.item, self._item, seen)
        return corrected(users @ items.T / self.temperature, fields[self.sides.id], self.log_share)

    def losses(self, logits: Float[Tensor, "rows rows"], batch: Labelled, *, denominator: Denominator) -> Float[Tensor, "1"]:
        """The mean loss of the rows, each of which is a positive."""
        own = torch.arange(len(logits), device=logits.device)
        return nn.functional.cross_entropy(logits, own).unsqueeze(0)

    def paid(self, batch: Labelled) -> Bool[Tensor, "rows 1"]:
        """Every row: they are the positives."""
        return batch.seen

    def forward(self, fields: Mapping[str, Tensor]) -> Float[Tensor, "rows rows"]:
        """`score` after `rows`."""
        return self.score(self.rows(fields), fields)

    def dense_parameters(self) -> list[nn.Parameter]:
        """Every parameter but the table."""
        return [parameter for name, parameter in self.named_parameters() if name != "table"]

    def _vectors(self, tower: Block, places: list[int], seen: Float[Tensor, "rows 1 fields dim"]) -> Float[Tensor, "rows width"]:
        made: Tensor = tower(seen[:, 0, places].flatten(1))[0]
        return nn.functional.normalize(made, dim=1)

    def _whole(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The fields with those of the other tower, which it does not hear, as if nothing was known of them."""
        rows = len(next(iter(fields.values())))
        found = dict(fields)
        for one in self.schema.fields:
            if one.name not in found:
                shape = (rows, one.size) if one.many or one.wide else (rows,)
                blank = float("nan") if not one.coded else -1 if one.many else 0
                found[one.name] = torch.full(shape, blank, dtype=torch.int32 if one.coded else torch.float32)
        return found


def corrected(
    scores: Float[Tensor, "rows rows"], codes: Int[Tensor, "rows"], log_share: Float[Tensor, "codes"],
) -> Float[Tensor, "rows rows"]:
    """`scores_ij - log q_j`, minus infinity where row j has the item of another row i.

    Example
    -------
    >>> corrected(torch.zeros(2, 2), torch.tensor([1, 1]), torch.tensor([0.5, 0.25]).log()).exp()
    tensor([[4., 0.],
            [0., 4.]])
    """
    known = torch.where(codes < len(log_share), codes, 0).clamp_min(0).long()
    again = known.unsqueeze(1).eq(known.unsqueeze(0)).fill_diagonal_(False)
    return (scores - log_share[known]).masked_fill(again, float("-inf"))
