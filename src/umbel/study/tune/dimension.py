"""One searched setting: its dotted key, and a list of choices or a range."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from umbel.errors import UserError
from umbel.run.tuning import Number

Point = Mapping[str, Any]  # a value for every searched key, as the search spells it


@dataclass(frozen=True, slots=True)
class Choices:
    """One of a list, in no order; lists and tables among them are spelt as JSON."""

    key: str
    values: Mapping[str | int | float | bool, object] = field(hash=False)

    @staticmethod
    def of(key: str, values: tuple[object, ...]) -> Choices:
        """The choices of a run file; :raises UserError: if one stands there twice."""
        spelt = {_spelt(value): value for value in values}
        if len(spelt) < len(values):
            raise UserError(f"tune.space.{key}: a choice stands there twice", mend="name each once")
        return Choices(key, spelt)

    def ends(self) -> Iterator[object]:
        """Every choice."""
        yield from self.values

    def value(self, spelt: Any) -> object:  # noqa: ANN401
        """The choice of that spelling."""
        return self.values[spelt]


@dataclass(frozen=True, slots=True)
class Range:
    """Any number from `low` to `high`, both among them, whole ones only or any; evenly, or evenly in the logarithm."""

    key: str
    low: Number
    high: Number
    log: bool
    whole: bool

    def ends(self) -> Iterator[object]:
        """Both ends."""
        yield from (self.low, self.high)

    def value(self, spelt: Any) -> object:  # noqa: ANN401
        """The number itself."""
        return spelt


Dimension = Choices | Range


def _spelt(value: object) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else json.dumps(value)
