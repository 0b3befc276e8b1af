"""What each field adds to each task's prediction of a row, over all views: integrated gradients of a bundle."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from umbel.bundle import Bundle
from umbel.data.batch import Batch
from umbel.data.raw import encoded
from umbel.errors import UserError
from umbel.nn.offset import Offsets
from umbel.nn.recommender import Recommender
from umbel.study.explain.integrate import integrate
from umbel.study.explain.scale import scale

ROUNDING = 1e-9
ROWS = 128  # explained at a time: what is held of their ways bounds memory


@dataclass(frozen=True, slots=True)
class Explanation:
    """Per row and column, what each field adds to the prediction of the mean training row (of its embeddings, as views see it).

    `base + contributions.sum(fields) = value`, within `error` of `|value - base|`; all on the scale of the task's kind (the
    logit of an event), before calibration. Columns are those of `Bundle.predict`, without marginals, for the tasks asked for.
    """

    fields: tuple[str, ...]
    columns: tuple[str, ...]
    contributions: Float64[np.ndarray, "rows columns fields"]
    base: Float64[np.ndarray, "columns"]
    value: Float64[np.ndarray, "rows columns"]

    @property
    def error(self) -> Float64[np.ndarray, "rows columns"]:
        """How far contributions miss `value - base`, as a share of it; 0 where both are nothing but rounding."""
        change = self.value - self.base
        missed = np.abs(self.contributions.sum(axis=2) - change)
        share: Float64[np.ndarray, "rows columns"] = np.divide(missed, np.abs(change), out=np.zeros_like(missed), where=missed > ROUNDING)
        return share


def explain(bundle: Bundle, rows: pl.DataFrame, *, tasks: Sequence[str] = ()) -> Explanation:
    """Explain the predictions of raw rows that hold every column the fields read (joined ones too), for some tasks or all.

    :raises UserError: for a task that the bundle does not have, a value that it cannot read, or a bundle without a mean row.

    Example
    -------
    ``explain(Bundle.load(Path("runs/a/bundle")), pl.read_parquet("new.parquet")).contributions``
    """
    return Explainer(bundle, tasks).explain(encoded(rows, bundle.encoder))


@final
class Explainer:
    """A bundle made ready to be explained: its model from the views on, in float64, and the mean row, its baseline.

    :raises UserError: for a task that the bundle does not have, or a bundle that kept no mean row.
    """

    def __init__(self, bundle: Bundle, tasks: Sequence[str] = ()) -> None:
        self.schema = bundle.schema
        self.tasks = tuple(self.schema.task(name, where="--task") for name in dict.fromkeys(tasks)) or self.schema.judged
        self.model = bundle.model
        self.above = doubled(bundle.model)
        if bundle.centre is None:
            raise UserError("bundle: holds no mean row to explain against", mend="train it again with this umbel")
        self.base = bundle.centre.double()
        self.raised = torch.from_numpy(self.schema.raised).double()
        self.fields = tuple(field.name for field in self.schema.fields)
        self.offsets = bundle.model.offsets
        if self.offsets is not None:
            self.raised = self.raised - self.offsets.values[0].double()
        places = [self.schema.tasks.index(task) for task in self.tasks]
        self.columns = tuple(name for place in places for name in bundle.columns[self.schema.answers[place]])
        self._parts = [(scale(self.schema.tasks[place].kind), self.schema.outputs[place]) for place in places]
        sizes = [len(task.kind.answers) for task in self.tasks]
        ends = [task.name for task in self.tasks], sizes, np.cumsum(sizes).tolist()
        self.answers: Mapping[str, slice] = {name: slice(end - size, end) for name, size, end in zip(*ends, strict=True)}

    def seen(self, batch: Batch) -> Float[Tensor, "rows views fields dim"]:
        """The fields of a batch in every view, float64."""
        with torch.no_grad():
            return self.model.seen(batch.fields).double()

    def outputs(self, seen: Float[Tensor, "rows views fields dim"]) -> Float[Tensor, "rows outputs"]:
        """The model's outputs from there, less what training raised them by, as `predict` has them of an unknown item."""
        outputs = self.above.beyond(seen)
        return outputs - nn.functional.pad(self.raised, (0, outputs.shape[1] - len(self.raised)))

    def scores(self, seen: Float[Tensor, "rows views fields dim"]) -> Float[Tensor, "rows columns"]:
        """What is explained, from there."""
        outputs = self.outputs(seen)
        return torch.cat([own.of(outputs[:, part]) for own, part in self._parts], 1)

    def explain(self, batch: Batch) -> Explanation:
        """The explanation of encoded rows; each one's is the same whatever rows stand beside it.

        By how much a model's offset of an item differs from that of an unknown one is what the item's field adds, besides its embedding.
        """
        with torch.no_grad():
            base = self.scores(self.base.unsqueeze(0))[0]
        found = [integrate(self.scores, piece, self.base) for piece in torch.split(self.seen(batch), ROWS)]
        contributions, change = (torch.cat([getattr(one, name) for one in found]) for name in ("contributions", "change"))
        if self.offsets is not None:
            more = self._offset(self.offsets, batch)
            contributions[:, :, self.fields.index(self.offsets.field)] += more
            change += more
        return Explanation(self.fields, self.columns, contributions.numpy(), base.numpy(), (base + change).numpy())

    def _offset(self, offsets: Offsets, batch: Batch) -> Float[Tensor, "rows columns"]:
        """What rows' items are offset by, beyond an unknown one; only ratings and events are, and theirs are plain outputs."""
        found = (offsets(batch.fields) - offsets.values[0]).double()
        widths = [len(task.kind.answers) for task in self.tasks]
        return torch.cat([found[:, [part.start] * width] for width, (_, part) in zip(widths, self._parts, strict=True)], 1)


def doubled(model: Recommender) -> Recommender:
    """A copy whose part beyond the views computes in float64; the table, which may be large, is shared."""
    own = copy.deepcopy(model, {id(model.table): model.table})
    for part in (own.interact, own.layers, own.head):
        part.double()
    return own.eval()
