"""Whether a model's inputs would tell it what it is asked for."""

from __future__ import annotations

from collections.abc import Mapping

from umbel.data.derive import field_values, label_value
from umbel.errors import UserError, nearest
from umbel.schema import Schema, Task


def check_inputs(schema: Schema, known: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a field that reads what a task's label is made of: a model would say what it was told, and know nothing when it is not.

    Of a label of several columns some are `known` beforehand, by its task, such as how long a video is; they may be read.

    :raises UserError: naming field, column and task; for a column that is not the label's, or all of them, called known; or for an
        expression outside the closed list.
    """
    untold = {column: task for task in reversed(schema.tasks) for column in _untold(task, known.get(task.name, ()))}
    for field in schema.fields:
        for column in (column for value in field_values(schema, field) for column in value.reads):
            if column in untold:
                name = untold[column].name
                also = f"; or name {column!r} in tasks.{name}.known, if it is" if len(label_value(untold[column]).reads) > 1 else ""
                raise UserError(f"fields.{field.name}: reads {column!r}, of which the label of tasks.{name} is made: it is not known "
                                "when a row is scored", mend=f"leave the field out{also}")


def _untold(task: Task, known: tuple[str, ...]) -> list[str]:
    """The columns of a label that nobody knows beforehand."""
    columns = label_value(task).reads
    for name in known:
        if name not in columns:
            raise UserError(f"tasks.{task.name}.known: its label reads no {name!r}", mend=nearest(name, columns))
    left = [column for column in columns if column not in known]
    if not left:
        raise UserError(f"tasks.{task.name}.known: names all that its label is made of", mend="leave out what only the event tells")
    return left
