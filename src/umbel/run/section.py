"""What every table of the run file keeps, and the one of options that only some recipes take."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Width = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """One table of the run file: frozen, closed to unknown keys, and every number finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class OptionSection(Section):
    """`[model.options]`: what some recipes take beside their sizes (see `umbel.recipes`); a recipe that does not take it refuses it."""

    legacy: bool | None = None
    taught: bool | None = None
    own: tuple[str, ...] | None = None
    sparsity: float | None = Field(None, ge=0)
    groups: tuple[tuple[str, ...], ...] | None = None
    rank: int | None = Field(None, ge=1)
    domain: tuple[str, ...] | None = None
    prior: tuple[str, ...] | None = None
    tables: tuple[Width, ...] | None = None
    routes: tuple[tuple[int, ...], ...] | None = None
