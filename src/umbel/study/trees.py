"""The baseline to beat: one boosted-tree model a task on the same columns, plain or with out-of-fold target means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from umbel.data.table import Table
from umbel.evaluate.judge import mean_score
from umbel.evaluate.metrics import Undefined
from umbel.schema import Field
from umbel.study.entrants import TREES
from umbel.study.forest import LEAVES, Rows, forest

LEAST_CODES = 256    # more codes than scikit-learn's trees can split as categories: the field gets target means
FOLDS = 5
PRIOR = 20.0         # rows that the global mean weighs in a smoothed target mean
PARTS = ("train", "valid", "test")
ALIKE = f"{TREES[1]}: left out, the same as {TREES[0]} here (no id or category has {LEAST_CODES} values that no statistic is by)"


@dataclass(frozen=True, slots=True)
class Columns:
    """What trees read: one matrix a part, and which columns hold categories."""

    parts: dict[str, Float[np.ndarray, "rows columns"]]
    categories: Bool[np.ndarray, "columns"]


@dataclass(frozen=True, slots=True)
class Grown:
    """Trees of one rate: outputs (log-odds, or predictions) per part, mean AUC on validation, and leaves at most."""

    outputs: dict[str, Float[np.ndarray, "rows tasks"]]
    score: float
    leaves: int


def grow(table: Table, *, rate: float, means: bool, seed: int) -> Grown:
    """Fit scikit-learn's histogram-boosted trees for every task, stopped early on the validation part.

    Categories of up to 255 codes are split as categories; larger vocabularies as numbers in order of frequency; statistics are
    numbers. With `means`, each of the large ones that no statistic is by brings per task its smoothed mean label and its count
    in training: out of fold on training rows, from all training rows elsewhere. Which models a kind of task needs says
    `umbel.study.forest`.
    """
    columns = _columns(table)
    if means:
        columns = _with_means(table, columns, seed)
    width = sum(task.kind.outputs for task in table.schema.tasks)
    outputs = {part: np.full((len(table.parts[part]), width), np.nan) for part in ("valid", "test")}
    leaves = 0
    for task, own in enumerate(table.schema.outputs):
        (x, y), (x_valid, y_valid) = (_seen(table, columns, part, task=task) for part in ("train", "valid"))
        grown = forest(table.schema.tasks[task].kind, Rows(x, y, x_valid, y_valid, columns.categories, rate, seed))
        leaves += LEAVES * grown.trees
        for part, out in outputs.items():
            out[:, own] = grown.outputs(columns.parts[part])
    labels, seen = table.labels("valid")
    score = mean_score(table.schema, labels, seen, logits=outputs["valid"])
    return Grown(outputs, float("-inf") if isinstance(score, Undefined) else score, leaves)


def _seen(table: Table, columns: Columns, part: str, *, task: int) -> tuple[Float[np.ndarray, "some columns"], Float[np.ndarray, "some"]]:
    labels, seen = table.labels(part)
    rows = seen[:, task]
    return columns.parts[part][rows], labels[rows, task].astype(np.float64)


def _columns(table: Table) -> Columns:
    parts: dict[str, Float[np.ndarray, "rows columns"]] = {}
    categories: list[bool] = []
    for part in PARTS:
        made = [one for field in table.schema.fields for one in _field(table, field, part)]
        parts[part] = np.concatenate([column.astype(np.float64) for column, _ in made], axis=1)
        categories = [flag for column, flag in made for _ in range(column.shape[1])]
    return Columns(parts, np.array(categories))


def _field(table: Table, field: Field, part: str) -> Iterator[tuple[np.ndarray, bool]]:
    values = table.column(field.name, part)
    if field.many:
        yield (values >= 0).sum(axis=1, keepdims=True), False
        if field.target is not None:
            target = table.column(field.target, part)
            yield ((values == target[:, None]) & (target[:, None] > 0)).any(axis=1, keepdims=True), False
    elif field.wide:
        yield values, False
    else:
        yield values[:, None], field.coded and not _large(table, field)


def _large(table: Table, field: Field) -> bool:
    return table.encoder.vocabularies[field.table].size >= LEAST_CODES


def standing(table: Table) -> tuple[str, ...]:
    """The boosted trees that are different from each other: those with target means where a field has any."""
    return TREES if _meant(table) else TREES[:1]


def _meant(table: Table) -> list[Field]:
    """The fields that get target means."""
    return [field for field in table.schema.fields if field.coded and not field.many and _large(table, field) and not _known(table, field)]


def _with_means(table: Table, columns: Columns, seed: int) -> Columns:
    made = [_means(table, field, seed) for field in _meant(table)]
    parts = {part: np.concatenate([columns.parts[part], *(one[part] for one in made)], axis=1) for part in PARTS}
    added = parts["train"].shape[1] - len(columns.categories)
    return Columns(parts, np.concatenate([columns.categories, np.zeros(added, dtype=bool)]))


def _known(table: Table, field: Field) -> bool:
    """Whether a statistic says all of a field already: a second account, of other rows, lowers what trees make of the first."""
    own = {(field.name,), (field.column or field.name,) if field.sql is None else ()}
    every = {task.name for task in table.schema.tasks}
    statistics = [one.statistic for one in table.schema.fields if one.statistic is not None]
    return any(one.by in own and every <= set(one.tasks) for one in statistics)


def _means(table: Table, field: Field, seed: int) -> dict[str, Float[np.ndarray, "rows columns"]]:
    """Smoothed mean label per task and the count of one field's codes; training rows never count their own label."""
    size = table.encoder.vocabularies[field.table].size
    labels, seen = table.labels("train")
    code = table.column(field.name, "train")
    fold = np.random.default_rng([seed, FOLDS]).integers(FOLDS, size=len(code))  # a stream of its own, lest it follow how a log was drawn
    found = {part: np.empty((len(table.parts[part]), labels.shape[1] + 1)) for part in PARTS}
    for held in range(FOLDS):
        rest = fold != held
        found["train"][~rest] = _statistics(code[rest], labels[rest], seen[rest], size=size)[code[~rest]]
    whole = _statistics(code, labels, seen, size=size)
    for part in ("valid", "test"):
        found[part][:] = whole[table.column(field.name, part)]
    return found


def _statistics(
    code: Int[np.ndarray, "rows"], labels: Float[np.ndarray, "rows tasks"], seen: Bool[np.ndarray, "rows tasks"], *, size: int
) -> Float[np.ndarray, "codes columns"]:
    """Per code `(sum of labels + PRIOR * global mean) / (rows seen + PRIOR)` per task, and log(1 + rows)."""
    columns = []
    for task in range(labels.shape[1]):
        own = seen[:, task]
        total = np.bincount(code[own], labels[own, task].astype(np.float64), minlength=size)
        rows = np.bincount(code[own], minlength=size)
        columns.append((total + PRIOR * labels[own, task].mean()) / (rows + PRIOR))
    return np.stack([*columns, np.log1p(np.bincount(code, minlength=size))], axis=1)
