"""Which fields are the item's, and which the user's and the context's: what a tower of users must not read is the item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int

from umbel.data.derive import field_values
from umbel.data.episodes import item_field
from umbel.data.table import Table
from umbel.errors import UserError, nearest
from umbel.nn.towers import Sides
from umbel.schema import Field, FieldKind, Schema, Task

LOOKED = 1 << 20  # training rows looked at, the first


def sides(table: Table, *, item: Sequence[str] = (), user: Sequence[str] = ()) -> Sides:
    """The sides of the towers.

    A field is the item's if all training rows of an item have the same value of it, or if it is a statistic by columns of such fields
    alone; of the others, those that read no column of an item's field are the user's. Either list may be told instead (the item's own id is
    always the item's); nothing that is the item's may stand among the user's, since it would tell the answer.

    :raises UserError: for a log without items, or fields that do not exist or are on the wrong side.
    """
    own, schema = item_field(table), table.schema
    for name in (*item, *user):
        if name not in [one.name for one in schema.fields]:
            raise UserError(f"retrieval: no field {name!r}", mend=nearest(name, [one.name for one in schema.fields]))
    theirs = _items(table, own)
    read = {column for name in (*theirs, *item) for column in _columns(schema, schema.field(name))}
    free = [one.name for one in schema.fields if one.name not in theirs and not read & set(_columns(schema, one))]
    if wrong := [name for name in user if name not in free]:
        raise UserError(f"retrieval.user: {wrong[0]!r} tells the item", mend="name it under [retrieval] item, or nowhere")
    chosen = tuple(dict.fromkeys((own, *(item or theirs))))
    mine = tuple(user or [name for name in free if name not in chosen])
    if not mine:
        raise UserError("retrieval.user: no field is the user's", mend="give the model a field of the user")
    return Sides(own, mine, chosen)


def schema_of(schema: Schema, sides: Sides) -> Schema:
    """The fields of both sides under one task, which stands for all positives; statistics are the vectors that they come to."""
    kept = [one for one in schema.fields if one.name in (*sides.user, *sides.item)]
    for one in kept:
        if one.like is not None and one.like not in [other.name for other in kept]:
            raise UserError(f"retrieval: field {one.name!r} is like {one.like!r}, which no side reads", mend=f"add {one.like!r} to a side")
    return Schema(tuple(map(_plain, kept)), (Task("positive"),))


def _plain(field: Field) -> Field:
    if field.kind is not FieldKind.STATISTIC:
        return replace(field, target=None)  # histories are summed up by their mean
    return replace(field, kind=FieldKind.VECTOR, width=field.size, statistic=None, bins=0)


def _items(table: Table, own: str) -> tuple[str, ...]:
    """The fields of which every item has one value, and statistics by those."""
    code = table.column(own, "train")[:LOOKED]
    order = np.argsort(code, kind="stable")
    pairs = (code[order][1:] == code[order][:-1]) & (code[order][1:] != 0)
    steady = [one.name for one in table.schema.fields if one.statistic is None and _steady(table, one.name, order=order, pairs=pairs)]
    columns = {column for name in steady for column in _columns(table.schema, table.schema.field(name))}
    by = [one.name for one in table.schema.fields if one.statistic is not None and set(_columns(table.schema, one)) <= columns]
    return tuple(one.name for one in table.schema.fields if one.name in (own, *steady, *by))


def _steady(table: Table, name: str, *, order: Int[np.ndarray, "rows"], pairs: Bool[np.ndarray, "_"]) -> bool:
    """Whether neighbours of one item have the same value, in an order in which items lie side by side."""
    values = table.column(name, "train")[:LOOKED][order].reshape(len(order), -1)
    same = (values[1:] == values[:-1]) | (np.isnan(values[1:]) & np.isnan(values[:-1]))
    return bool(pairs.any() and same[pairs].all())


def _columns(schema: Schema, field: Field) -> tuple[str, ...]:
    return tuple(name for one in field_values(schema, field) for name in one.reads)
