"""The section of a run file that says how tasks are balanced."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from umbel.run.section import Section

Above = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class BalanceSection(Section):
    """`[balance]`: where the Gramian is taken, whether weights act on everything, and what the balancer named in `[fit]` is given.

    `weights` and `target` name tasks; the numbers are those of `umbel.balance`, each balancer refusing what it does not take.
    """

    at: Literal["experts", "views"] = "experts"
    scalar: bool = False
    weights: dict[str, Above] | None = None
    target: str | None = None
    alpha: Above | None = None
    c: Annotated[float, Field(ge=0)] | None = None
    decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    mu: Above | None = None
    rate: Above | None = None
    relax: Share | None = None
    temperature: Above | None = None
