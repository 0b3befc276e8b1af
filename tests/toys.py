"""A small model with the seam, and small batches: for tests of training that no architecture should get in the way of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from umbel.data.batch import Batch
from umbel.nn.bank import Part
from umbel.nn.losses import Denominator, Labelled, task_losses
from umbel.schema import Field, FieldKind, Schema, Task

SLOTS = 3


def schema(*weights: float) -> Schema:
    """Two ids and a short bag; one binary task for every weight."""
    fields = (Field("user", FieldKind.ID), Field("tags", FieldKind.BAG, length=SLOTS - 1))
    return Schema(fields, tuple(Task(name, weight=weight) for name, weight in zip("abc", weights or (1.0, 1.0), strict=False)))


SCHEMA = schema()


class Toy(nn.Module):
    """Sums the embeddings of a row's codes, then one linear layer with dropout."""

    def __init__(self, rows: int, width: int = 2, *, dropout: float = 0.0, schema: Schema = SCHEMA) -> None:
        super().__init__()
        self.schema = schema
        self.table = nn.Parameter(torch.randn(rows, width))
        self.views = nn.Identity()
        self.head = nn.Linear(width, len(schema.tasks))
        self.dropout = dropout

    def rows(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"table": self.table, "place": torch.cat([fields["user"][:, None], fields["tags"]], dim=1).long()}

    def score(self, rows: Mapping[str, Tensor], fields: Mapping[str, Tensor]) -> Tensor:
        place = rows["place"]
        vectors = nn.functional.embedding(place.clamp(min=0), rows["table"]) * (place >= 0).unsqueeze(2)
        seen = self.views(vectors.sum(dim=1, keepdim=True))
        logits: Tensor = self.head(nn.functional.dropout(seen.squeeze(1), self.dropout, self.training))
        return logits

    def forward(self, fields: Mapping[str, Tensor]) -> Tensor:
        return self.score(self.rows(fields), fields)

    def losses(self, logits: Tensor, batch: Labelled, *, denominator: Denominator) -> Tensor:
        return task_losses(logits, batch, self.schema, denominator=denominator)

    def paid(self, batch: Labelled) -> Tensor:
        return batch.seen

    def dense_parameters(self) -> list[nn.Parameter]:
        return list(self.head.parameters())

    def groups(self) -> dict[str, tuple[Part, ...]]:
        rows = {f"row {task}": (slice(task, task + 1),) for task in range(len(self.schema.tasks))}
        own = {name: (Part("head.weight", index), Part("head.bias", index)) for name, index in rows.items()}
        return {"view 0": (Part("table", (slice(None),)),), **own}

    @property
    def reach(self) -> dict[str, tuple[int, ...]]:
        tasks = tuple(range(len(self.schema.tasks)))
        return {"view 0": tasks, **{f"row {task}": (task,) for task in tasks}}


def toy(rows: int = 12, width: int = 2, *, seed: int = 0, dropout: float = 0.0, schema: Schema = SCHEMA) -> Toy:
    torch.manual_seed(seed)
    return Toy(rows, width, dropout=dropout, schema=schema)


def batch(places: Tensor, labels: Tensor, seen: Tensor | None = None) -> Batch:
    """Rows whose first place is the user and whose others are tags (-1 = padding)."""
    fields = {"user": places[:, 0], "tags": places[:, 1:]}
    seen = torch.ones_like(labels, dtype=torch.bool) if seen is None else seen
    return Batch(fields, labels, seen, torch.arange(len(labels)))


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether two lists of tensors hold the same bytes."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Batches:
    """`steps` random batches an epoch, the same for the same seed and epoch."""

    def __init__(self, *, steps: int = 5, size: int = 8, codes: int = 12, tasks: int = 2, seed: int = 0) -> None:
        self.steps, self.size, self.codes, self.tasks, self.seed = steps, size, codes, tasks, seed

    def __call__(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        draw = torch.Generator().manual_seed(1000 * self.seed + epoch)
        for step in range(self.steps):
            places = torch.randint(-1, self.codes, (self.size, SLOTS), generator=draw)
            places[:, 0].clamp_(min=0)
            labels = torch.randint(0, 2, (self.size, self.tasks), generator=draw).float()
            seen = torch.rand(self.size, self.tasks, generator=draw) < 0.8
            if step >= start:
                yield batch(places, labels * seen, seen)
