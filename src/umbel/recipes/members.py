"""Who belongs to which group of tasks, and where fields stand: what recipes are told by name."""

from __future__ import annotations

from umbel.errors import UserError, nearest
from umbel.schema import FieldKind, Schema


def parted(schema: Schema, groups: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """The groups of tasks that are named, else one a kind of task (binary, regression)."""
    kinds = dict.fromkeys(task.kind for task in schema.tasks)
    return groups or tuple(tuple(task.name for task in schema.tasks if task.kind == kind) for kind in kinds)


def members(schema: Schema, groups: tuple[tuple[str, ...], ...]) -> tuple[int, ...]:
    """The group of each task, of those that `parted` knows.

    :raises UserError: unless each task is in one group, and each group has a task.
    """
    groups = parted(schema, groups)
    names = [name for group in groups for name in group]
    for name in names:
        schema.task(name)
        if names.count(name) > 1:
            raise UserError(f"model.options.groups: task {name!r} is in two", mend="a task is in one group")
    if not all(groups):
        raise UserError("model.options.groups: an empty group", mend="name its tasks, or leave it out")
    left = [task.name for task in schema.tasks if task.name not in names]
    if left:
        raise UserError(f"model.options.groups: task {left[0]!r} is in none", mend="add it to a group, or as one of its own")
    return tuple(next(at for at, group in enumerate(groups) if task.name in group) for task in schema.tasks)


def owned(schema: Schema, names: tuple[str, ...]) -> tuple[str, ...]:
    """The fields that tasks keep tables of their own of: those named, else the ids, else (where there is none) all."""
    ids = tuple(field.name for field in schema.fields if field.kind is FieldKind.ID)
    return names or ids or tuple(field.name for field in schema.fields)


def places(schema: Schema, names: tuple[str, ...], key: str) -> tuple[int, ...]:
    """Where the fields of those names stand; :raises UserError: that says `key`, for a field that does not exist."""
    fields = [field.name for field in schema.fields]
    for name in names:
        if name not in fields:
            raise UserError(f"model.options.{key}: no field {name!r}", mend=nearest(name, fields))
    return tuple(fields.index(name) for name in names)
