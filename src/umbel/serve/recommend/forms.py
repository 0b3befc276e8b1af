"""In which form each item has a column, and which items can be read together: all in the commonest form, so that no request fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int8

from umbel.serve.recommend.stock import Mask, Was, renewed
from umbel.serve.records import Value

MISSING, SINGLE, NUMBERS, TEXTS, EMPTY = range(5)  # nothing, one value, lists of what; an empty list goes with lists of any kind


@final
@dataclass(frozen=True, slots=True, eq=False)
class Forms:
    """Items that can be read by themselves, and by column the form of each; a column that is not named is missing everywhere."""

    alone: Mask
    by: Mapping[str, Int8[np.ndarray, "items"]]

    @property
    def readable(self) -> Mask:
        """Which items can be read, all of them together: of a column with lists and single values, those of the commoner form."""
        found = self.alone.copy()
        for _, own in sorted(self.by.items()):
            found &= ~_rarer(found & (own >= NUMBERS), found & (own == SINGLE))
            found &= ~_rarer(found & (own == NUMBERS), found & (own == TEXTS))
        return found

    def changed(self, was: Was, new: Forms) -> Forms:
        """Those of the items that stay, in their new places, and of the others, in their order."""
        missing, absent = np.zeros(len(self.alone), np.int8), np.zeros(len(new.alone), np.int8)
        columns = self.by.keys() | new.by.keys()
        by = {column: renewed(self.by.get(column, missing), was, new.by.get(column, absent)) for column in columns}
        return Forms(renewed(self.alone, was, new.alone), by)


def form(value: Value) -> int:
    """The form of a value.

    Example
    -------
    >>> [form(one) for one in (None, "a", 3, [1, 2.5], ["a"], [])]
    [0, 1, 1, 2, 3, 4]
    """
    if not isinstance(value, list):
        return MISSING if value is None else SINGLE
    return EMPTY if not value else TEXTS if isinstance(value[0], str) else NUMBERS


def _rarer(one: Mask, other: Mask) -> Mask:
    """Of two kinds that do not go together the one with fewer items, the second where both have as many; nothing if either has none."""
    few = one if one.sum() < other.sum() else other
    return few & one.any() & other.any()
