"""The section of a run file that says what `umbel tune` searches, and what for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from umbel.run.section import Section

Number = int | float
Item = bool | int | float | str | tuple[int | float | str, ...]
Value = bool | int | float | str | tuple[Item, ...] | dict[str, Item]
ENDS = frozenset({"low", "high", "log"})


class RangeSection(Section):
    """`{ low = 1e-4, high = 1e-2, log = true }`: any number between, whole ones where the setting is whole."""

    low: Number
    high: Number
    log: bool = False

    @model_validator(mode="after")
    def _rising(self) -> RangeSection:
        if not self.low < self.high:
            raise ValueError("low must be below high")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range starts above 0")
        return self


def _shape(value: object) -> str:
    return "range" if isinstance(value, dict | RangeSection) else "choices"


Ranged = Annotated[RangeSection, Tag("range")]
Listed = Annotated[tuple[Value, ...], Field(min_length=1), Tag("choices")]
Searched = Annotated[Ranged | Listed, Discriminator(_shape)]


class TuneSection(Section):
    """`[tune]`: the objectives, whether trials that lag are cut short, and in `[tune.space]` the choices or the range of each setting.

    Keys of the space are dotted, quoted or not; without any, `umbel tune` searches a space of its own.
    """

    objectives: Annotated[tuple[str, ...], Field(min_length=1)] = ("mean",)
    prune: bool = True
    space: dict[str, Searched] = Field(default_factory=dict)

    @field_validator("space", mode="before")
    @classmethod
    def _dotted(cls, space: object) -> object:
        return dict(_flat(space)) if isinstance(space, dict) else space


def _flat(tree: dict[str, object], above: str = "") -> list[tuple[str, object]]:
    """`fit.rate = [...]` as TOML reads it, a table in a table, under its dotted key."""
    found: list[tuple[str, object]] = []
    for key, value in tree.items():
        inner = isinstance(value, dict) and not value.keys() & ENDS
        found += _flat(value, f"{above}{key}.") if inner and isinstance(value, dict) else [(f"{above}{key}", value)]
    return found
