"""Explaining a bundle on a raw log: what moves each task, over a sample of rows; and one row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from umbel import durable
from umbel.bundle import Bundle
from umbel.data.derive import by_values, evaluate, field_value
from umbel.data.raw import one, some
from umbel.evaluate.intervals import resample
from umbel.evaluate.judge import calibrate_all
from umbel.evaluate.metrics import Undefined
from umbel.run.use import source_of
from umbel.schema import Field, Schema
from umbel.study.explain.deletion import Deletion, deletions
from umbel.study.explain.explain import Explainer, Explanation
from umbel.study.explain.gates import Gate, gates
from umbel.study.explain.ranking import Weight, ranking
from umbel.study.explain.scale import scale
from umbel.study.explain.words import main_parameters

SEED = 0  # which rows are drawn


@dataclass(frozen=True, slots=True)
class Moved:
    """What moves one task: its fields by weight, its gate (none where the architecture has none), the check, and all of it in words."""

    task: str
    unit: str
    base: tuple[float, ...]
    fields: tuple[Weight, ...]
    gate: Gate | None
    check: Deletion | Undefined
    says: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explained:
    """A log explained: how many rows and users were drawn, the tasks, and the worst miss.

    `error` is the greatest `|sum of contributions - (f(x) - f(x0))| / |f(x) - f(x0)|` over rows and tasks.
    """

    recipe: str
    rows: int
    users: int
    tasks: tuple[Moved, ...]
    error: float

    def to_json(self) -> dict[str, object]:
        """`explain.json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Row:
    """One row explained: the values of its fields as text, and per column the calibrated prediction of the baseline and of the row."""

    number: int
    values: Mapping[str, str]
    found: Explanation
    calibrated: Mapping[str, tuple[float, float]]
    gates: Mapping[str, Gate]

    def to_json(self) -> dict[str, object]:
        """`explain.json` of one row."""
        columns = {
            name: {
                "base": float(self.found.base[at]),
                "value": float(self.found.value[0, at]),
                "calibrated": dict(zip(("base", "value"), self.calibrated[name], strict=True)),
                "contributions": dict(zip(self.found.fields, self.found.contributions[0, at].tolist(), strict=True)),
            }
            for at, name in enumerate(self.found.columns)
        }
        gates = {task: asdict(gate) for task, gate in self.gates.items()}
        return {"row": self.number, "values": dict(self.values), "columns": columns, "gates": gates}


def explain_log(bundle: Path, log: str, *, joins: Sequence[str] = (), tasks: Sequence[str] = (), rows: int = 2000) -> Explained:
    """Explain some rows of a raw log, the same ones each time: what moves each of `tasks` (all by default). Labels are not read.

    :raises UserError: for a bundle or log that cannot be read, a log without rows, or a task that the bundle does not have.
    """
    made = Bundle.load(bundle)
    explainer = Explainer(made, tasks)
    frame, batch = some(source_of(made, log, joins=joins, labels=False), made.encoder, rows, seed=SEED)
    assert batch.group is not None
    by = resample(batch.group.numpy())
    found = explainer.explain(batch)
    checks = deletions(explainer, explainer.seen(batch), found, by=by, index=batch.index)
    heard, raw = gates(made.model, batch), values(made.schema, frame)
    moved = []
    for task in explainer.tasks:
        own = explainer.answers[task.name]
        weights = ranking(found.contributions[:, own], found.fields, raw=raw, by=by)
        gate, check = heard.get(task.name), checks[task.name]
        says = main_parameters(task.name, weights, gate=gate, check=check)
        moved.append(Moved(task.name, scale(task.kind).unit, tuple(found.base[own].tolist()), weights, gate, check, says))
    return Explained(made.built.recipe, len(frame), by.users, tuple(moved), float(found.error.max()))


def explain_row(bundle: Path, log: str, number: int, *, joins: Sequence[str] = (), tasks: Sequence[str] = ()) -> Row:
    """Explain one row of a raw log, by its number from 1, as messages count them.

    :raises UserError: as `explain_log` does, or if there is no such row.
    """
    made = Bundle.load(bundle)
    explainer = Explainer(made, tasks)
    frame, batch = one(source_of(made, log, joins=joins, labels=False), made.encoder, number)
    found = explainer.explain(batch)
    base = calibrate_all(made.schema, explainer.outputs(explainer.base.unsqueeze(0)).detach().numpy(), made.calibrators)[0]
    own = made.predict(batch)[0]
    places = {name: made.columns.index(name) for name in found.columns}
    calibrated = {name: (float(base[at]), float(own[at])) for name, at in places.items()}
    raw = values(made.schema, frame)
    return Row(number, {name: _text(raw[name][0]) for name in found.fields}, found, calibrated, gates(made.model, batch))


def values(schema: Schema, frame: pl.DataFrame) -> pl.DataFrame:
    """The raw value of every field, a column each; of a statistic, as text, the values that it is by."""
    return pl.DataFrame([_raw(schema, field, frame) for field in schema.fields])


def _raw(schema: Schema, field: Field, frame: pl.DataFrame) -> pl.Series:
    if field.statistic is None:
        return evaluate(frame, [field_value(field)]).to_series()
    by = evaluate(frame, by_values(schema, field)).select(pl.all().cast(pl.String).fill_null("missing"))
    return by.select(pl.concat_str(pl.all(), separator=", ").alias(field.name)).to_series()


def leave(content: Mapping[str, object], path: Path) -> None:
    """Write a study as JSON."""
    durable.write(path, json.dumps(content, indent=1, default=_plain))


def _plain(value: object) -> object:
    assert isinstance(value, np.generic)
    return value.item()


def _text(value: object) -> str:
    """A raw value as it was; of a list its last few."""
    if isinstance(value, pl.Series):
        shown = ", ".join(map(str, value.tail(3)))
        return f"{'… ' if len(value) > 3 else ''}{shown} ({len(value)})"
    return "missing" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
