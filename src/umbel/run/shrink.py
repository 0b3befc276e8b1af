"""A bundle whose tables take fewer bytes, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from rich.table import Table as Shown

from umbel.bundle import Bundle
from umbel.errors import UserError, nearest
from umbel.evaluate.judge import TaskReport
from umbel.evaluate.metrics import Undefined
from umbel.manifest import read_json
from umbel.nn.packed import TABLES, Packed
from umbel.run.use import judge_rows


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What a table took and takes, in bytes; how far golden rows moved; and, of a log, each task's figures before and after."""

    before: int
    after: int
    moved: float
    judged: tuple[tuple[TaskReport, TaskReport], ...] = ()


def shrink(folder: Path, out: Path, tables: str, *, log: str | None = None, joins: Sequence[str] = ()) -> Shrunk:
    """Write a bundle again with its embedding table in another form, whole or not at all; all else stays as it is.

    :raises UserError: for a form that there is not, a bundle that has it already or cannot be read, whatever `judge_rows` refuses, or a
        full disk.
    """
    made = TABLES.get(tables)
    if not isinstance(made, Packed):
        raise UserError(f"--tables: no {tables!r}", mend=nearest(tables, [name for name in TABLES if name != "float32"]))
    bundle = Bundle.load(folder)
    if bundle.built.tables != "float32":
        raise UserError(f"{folder}: its tables are {bundle.built.tables} already", mend="give the bundle that the run left")
    packed = _packed(bundle, tables, made)
    judged = None if log is None else tuple(zip(*(judge_rows(one, log, joins=joins) for one in (bundle, packed)), strict=True))
    packed.save(out, golden=pl.read_parquet(folder / "golden.parquet"))
    scores = [np.array(read_json(one, "golden.json")["scores"]) for one in (folder, out)]
    return Shrunk(_bytes(bundle), _bytes(packed), float(np.abs(np.subtract(*scores)).max()), judged or ())


def changed(shrunk: Shrunk) -> Iterator[tuple[str, str, float, float]]:
    """Task and metric, with the figure before and after; one that is none on either side is left out."""
    for before, after in shrunk.judged:
        for name, one in before.figures.metrics.items():
            other = after.figures.metrics[name]
            if not isinstance(one, Undefined) and not isinstance(other, Undefined):
                yield before.name, name, one.value, other.value


def figures(shrunk: Shrunk) -> Shown:
    """Each figure before and after, and the difference."""
    table = Shown("task", "metric", "before", "after", "difference", title="what the log's figures lost", title_justify="left")
    for task, metric, before, after in changed(shrunk):
        lost = round(after - before, 5) + 0.0  # no -0
        table.add_row(task, metric, f"{before:.5f}", f"{after:.5f}", f"{lost:+.5f}")
    return table


def _packed(bundle: Bundle, tables: str, form: Packed) -> Bundle:
    built = replace(bundle.built, tables=tables)
    model = built(bundle.schema)
    state = bundle.model.state_dict()
    model.load_state_dict({**state, "table": form.pack(state["table"])})
    return replace(bundle, built=built, model=model.eval().requires_grad_(False))


def _bytes(bundle: Bundle) -> int:
    return bundle.model.table.numel() * bundle.model.table.element_size()
