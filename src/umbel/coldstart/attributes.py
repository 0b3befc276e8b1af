"""Which fields tell what a user is and which what an item is: those that never change within one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped

from umbel.data.episodes import item_field, user_field
from umbel.data.table import Table


@dataclass(frozen=True, slots=True)
class Attributes:
    """Coded fields by whom they describe, ids of users and items left out; a field may describe neither.

    `users` hold one value a row; `items` one or several.
    """

    users: tuple[str, ...]
    items: tuple[str, ...]

    @staticmethod
    def of(table: Table) -> Attributes:
        """Those that every training row of a user, or of a known item, agrees on.

        :raises UserError: if no id field reads the log's item column.
        """
        item = item_field(table)
        items, users = table.column(item, "train"), table.groups("train")
        rest = [field for field in table.schema.fields if field.coded and field.name not in (item, user_field(table))]
        found = [field for field in rest if not field.many and _constant(users, table.column(field.name, "train"))]
        known = items > 0
        others = [field for field in rest if field not in found and _constant(items[known], table.column(field.name, "train")[known])]
        return Attributes(tuple(one.name for one in found), tuple(one.name for one in others))


def _constant(keys: Int[np.ndarray, "rows"], values: Shaped[np.ndarray, "rows *length"]) -> bool:
    """Whether rows of one key hold one value."""
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    return bool((values == values[first[place]]).all())
