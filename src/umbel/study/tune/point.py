"""A point of the searched space as a run file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from umbel.balance.named import BALANCERS, takes_of
from umbel.recipes import RECIPES
from umbel.run.balancing import BalanceSection
from umbel.run.settings import Settings, parse
from umbel.run.tuning import TuneSection
from umbel.study.entrants import taken_by
from umbel.study.tune.dimension import Dimension, Point

ABSENT = "none"  # a choice that leaves the setting out, of those that may be left out
OMITTED = ("balancer", "views")


def pointed(settings: Settings, among: Sequence[Dimension], point: Point) -> Settings:
    """The run file of one point: its own settings with the searched ones in their places, and no search.

    What is meant for one recipe or balancer is left out where another would refuse it.

    :raises UserError: for a value that the run file refuses.
    """
    found = placed(settings, among, point)
    model = taken_by(found.model.recipe, found.model) if found.model.recipe in RECIPES else found.model
    return found.model_copy(update={"model": model, "balance": _taken(found.fit.balancer, found.balance)})


def placed(settings: Settings, among: Sequence[Dimension], point: Point) -> Settings:
    """The same with every value in it, taken or not."""
    tree = settings.model_copy(update={"tune": TuneSection()}).model_dump(exclude_none=True)
    for one in among:
        _place(tree, one.key.split("."), one.value(point[one.key]))
    return parse(tree, where="a trial")


def _taken(balancer: str | None, section: BalanceSection) -> BalanceSection:
    """The section as that balancer takes it; one that does not exist is refused elsewhere."""
    if balancer is None:
        return BalanceSection()
    takes = takes_of(balancer) if balancer in BALANCERS else ()
    return section.model_copy(update=dict.fromkeys(set(BalanceSection.model_fields) - {"at", "scalar", *takes}))


def _place(tree: dict[str, Any], keys: list[str], value: object) -> None:
    *above, last = keys
    for key in above:
        tree = tree.setdefault(key, {})
    if value == ABSENT and last in OMITTED:
        tree.pop(last, None)
    else:
        tree[last] = value
