"""After a loss that is no number: which label or field of the step's batch is not finite or out of all proportion, and in which rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from umbel.data.batch import Batch
from umbel.errors import DivergedError
from umbel.schema import Schema

EXTREME = 1e6       # a number this large in size, and this many times the median of its column in the batch, stands out
PROPORTION = 1e3
NAMED = 3           # rows that a message names


@dataclass(frozen=True, slots=True)
class Suspect:
    """A column of the batch: what it is called, its key in the run file, its worst value, and the rows of the table that stand out."""

    name: str
    key: str
    value: float
    rows: tuple[int, ...]

    def __str__(self) -> str:
        """`field 'price' holds inf in row 7 of the table`."""
        named = ", ".join(map(str, self.rows[:NAMED]))
        more = f" and {len(self.rows) - NAMED} more" if len(self.rows) > NAMED else ""
        return f"{self.name} holds {self.value:g} in row{'s' if len(self.rows) > 1 else ''} {named}{more} of the table"


def broken(schema: Schema, batches: Iterable[Batch], *, task: int, epoch: int, step: int) -> DivergedError:
    """The error of a task whose loss was no finite number in this step; epoch and step are counted from 1.

    `batches` are the step's, and maybe those before it, whose update may have spoilt the weights.
    """
    what = f"training: the loss of task {schema.tasks[task].name!r} is not a finite number in epoch {epoch}, step {step}"
    for batch in batches:
        for suspect in suspects(schema, batch, task=task):
            return DivergedError(f"{what}: {suspect}", mend=f"clip such numbers with sql in [{suspect.key}], or drop the rows")
    return DivergedError(f"{what}: no number in its batch stands out", mend="lower the learning rate ([fit] rate): the weights ran away")


def suspects(schema: Schema, batch: Batch, *, task: int) -> Iterator[Suspect]:
    """The task's label and every number or vector that stands out; infinities before numbers that are only large, labels first.

    A missing number (NaN) of a field does not stand out: it is a value of its own.
    """
    found = [one for one in _columns(schema, batch, task) if one is not None]
    yield from sorted(found, key=lambda one: abs(one.value) < torch.inf)  # NaN, which is below nothing, comes with infinities


def _columns(schema: Schema, batch: Batch, task: int) -> Iterator[Suspect | None]:
    own = schema.tasks[task]
    seen = batch.seen[:, task]
    labels = batch.labels[:, task : task + 1].masked_fill(~seen[:, None], 0.0)
    yield _suspect(f"the label of {own.name!r}", f"tasks.{own.name}", labels, seen=seen, index=batch.index)
    every = torch.ones_like(seen)
    for field in schema.fields:
        if not field.coded:
            values = batch.fields[field.name].reshape(len(every), -1)
            values = values.masked_fill(values.isnan(), 0.0)
            yield _suspect(f"field {field.name!r}", f"fields.{field.name}", values, seen=every, index=batch.index)


def _suspect(
    name: str, key: str, values: Float[Tensor, "rows width"], *, seen: Bool[Tensor, "rows"], index: Int[Tensor, "rows"]
) -> Suspect | None:
    """The column's worst value and where it stands; None where none stands out."""
    size = values.abs().amax(dim=1)  # NaN where a row holds one
    usual = float(size[seen].nanmedian()) if bool(seen.any()) else 0.0
    out = ~size.isfinite() | (size > max(EXTREME, PROPORTION * usual))
    if not bool(out.any()):
        return None
    rows = out.nonzero()[:, 0]
    row = rows[int(size[rows].nan_to_num(nan=torch.inf).argmax())]
    worst = values[row, int(values[row].abs().argmax())]
    return Suspect(name, key, float(worst), tuple(sorted(index[rows.cpu()].tolist())))
