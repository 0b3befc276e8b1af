"""The section of a run file that says what one input of a model is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from umbel.errors import UserError
from umbel.run.section import Section
from umbel.statistic import Statistic

PARTS = ("prior", "window", "mode", "folds", "seed")  # of a statistic, beside `by` and `tasks`


class FieldSection(Section):
    """`[fields.NAME]`: see `umbel.schema.Field`, and `umbel.statistic.Statistic` for the keys from `by` on."""

    kind: Literal["id", "category", "number", "bag", "sequence", "vector", "statistic"]
    column: str | None = None
    sql: str | None = None
    like: str | None = None
    target: str | None = None
    length: int = Field(50, ge=1)
    width: int = Field(0, ge=0)
    min_count: int = Field(2, ge=1)
    bins: int = Field(0, ge=0)
    by: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None
    prior: float | None = None
    window: float | None = None
    mode: str | None = None
    folds: int | None = None
    seed: int | None = None

    def statistic(self, where: str, tasks: tuple[str, ...]) -> Statistic | None:
        """What a statistic is made of, of all `tasks` where it names none; :raises UserError: for its keys at another kind of field."""
        parts = self.model_dump(include=set(PARTS), exclude_none=True)
        if self.kind == "statistic":
            return Statistic(self.by or (), tasks if self.tasks is None else self.tasks, **parts)
        for key in ("by", "tasks", *PARTS):
            if getattr(self, key) is not None:
                raise UserError(f"{where}: {key} of a {self.kind}", mend="only a field of kind = 'statistic' takes it")
        return None
