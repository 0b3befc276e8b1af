"""A raw log as rows to order: the bundle's calibrated predictions, the labels, and what each row is ordered among."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from umbel.bundle import Bundle
from umbel.data.batch import Batch
from umbel.data.groups import stable
from umbel.data.labels import events
from umbel.data.lookup import mixed
from umbel.data.raw import rows as raw_rows
from umbel.data.source import Log, Source
from umbel.errors import UserError
from umbel.fuse.goal import Aim
from umbel.fuse.ranked import Columns, Rows
from umbel.fusion import Fusion
from umbel.run.use import SIZE, source_of
from umbel.schema import Schema


def columns_of(schema: Schema, policy: Fusion) -> Columns:
    """What a policy reads, and the tasks whose labels judge it, in its order."""
    of: dict[str, str] = {}
    for task in schema.tasks:
        own = [f"{task.name}_{answer}" if answer else task.name for answer in task.kind.answers]
        of |= dict.fromkeys([*own, f"{task.name}_marginal"], task.name)
    found = {name: of[name] for name in policy.tasks}
    return Columns(policy.tasks, tuple(dict.fromkeys(found.values())), found)


def aims_of(columns: Columns, policy: Fusion) -> tuple[Aim, ...]:
    """Each judged task with the direction of the policy's first term of it."""
    directions = {columns.task[term.task]: term.direction for term in reversed(policy.terms)}
    return tuple(Aim(task, directions[task]) for task in columns.tasks)


def read_rows(bundle: Bundle, log: str, columns: Columns, *, by: str | None, joins: Sequence[str]) -> Rows:
    """Every row of a log with predictions and labels, ordered inside the values of its column `by`, or inside users.

    :raises UserError: for a log that cannot be read, has no rows or no labels of a task, or no column `by`.
    """
    source = source_of(bundle, log, joins=joins, labels=True)
    places = [bundle.columns.index(name) for name in columns.predictions]
    judged = [[task.name for task in bundle.schema.tasks].index(name) for name in columns.tasks]
    parts: list[tuple[np.ndarray, ...]] = []
    for frame, batch in raw_rows(source, bundle.encoder, SIZE):
        happened = events(frame, bundle.schema, int(batch.index[0]), log=log).astype(np.float64)
        parts.append((bundle.predict(batch)[:, places], happened[:, judged], _users(batch)))
    if not parts:
        raise UserError(f"{log}: no rows", mend="give a log that has some")
    predictions, labels, user = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
    for place, task in enumerate(columns.tasks):
        if np.isnan(labels[:, place]).all():
            raise UserError(f"{log}: no label of {task}", mend="give a log that has one, or a policy without the task (--set policy=FILE)")
    group = user if by is None else np.concatenate(list(_groups(source, by)))
    return Rows.of(columns, predictions, labels, group=group, user=user)


def for_test(users: Int[np.ndarray, "rows"], seed: int) -> Bool[np.ndarray, "rows"]:
    """Which rows are for the test: those of half of the users, the same ones for a seed, whatever else is in the log."""
    return mixed(users, seed).view(np.int64) < 0


def _users(batch: Batch) -> Int[np.ndarray, "rows"]:
    assert batch.group is not None
    users: Int[np.ndarray, "rows"] = batch.group.numpy().copy()
    return users


def _groups(source: Source, by: str) -> Iterator[Int[np.ndarray, "rows"]]:
    log = Log(source)
    log.first(by)  # says so if it is not there
    for frame in log.read([by], SIZE):
        yield stable(frame[by])


def predictions_of(rows: Rows) -> dict[str, Float[np.ndarray, "rows"]]:
    """The predictions by name."""
    return {name: rows.predictions[:, place] for place, name in enumerate(rows.columns.predictions)}


def checksum(bundle: Path) -> str:
    """The checksum of a bundle's folder, whose first digits are its name in a service's log."""
    return str(json.loads((bundle / "manifest.json").read_text())["checksum"])
