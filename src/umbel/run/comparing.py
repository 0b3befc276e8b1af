"""The section of a run file that says what `umbel compare` compares."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue

from umbel.run.section import Section, Width

Chosen = str | dict[str, str | int | float | bool | list[int | float | str | list[str]]]  # see `umbel.chosen`
Rate = Annotated[float, Field(gt=0)]


class CompareSection(Section):
    """`[compare]`: who takes part, what each may choose from on validation (one budget for all), and what stands beside it.

    Beside recipes by name, `[compare.variants.NAME]` holds sections of a run file, in which NAME differs from this one:
    `[compare.variants."stem, cross layers".model]`, `interact = "dcn"`.
    In a run file with `[episodes]` it is cold-start `methods` that take part, not recipes: names or
    `{ name = "...", parameter = ... }`, those of one name being one method's alternatives, chosen from on validation users.
    `against` names those that others are judged by. `margin` is of AUC and what else has no unit; of an error in the label's
    unit it is a share of the error of the best constant.
    """

    recipes: tuple[str, ...] = ()
    variants: dict[str, dict[str, dict[str, JsonValue]]] = Field(default_factory=dict)
    methods: tuple[Chosen, ...] = ()
    against: tuple[str, ...] = ("bias", "base", "maml")
    seeds: int = Field(3, ge=1)
    rates: tuple[Rate, ...] = ()
    dims: tuple[Width, ...] = ()
    controls: bool = True
    trees: bool = True
    margin: float = Field(0.002, gt=0)
