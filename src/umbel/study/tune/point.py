"""A point of the searched space as a run file of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from umbel.balance.named import BALANCERS, takes_of
from umbel.nn import interact, sequence
from umbel.recipes import MANY, RECIPES, taken, unsized
from umbel.run.balancing import BalanceSection
from umbel.run.section import OptionSection, Section
from umbel.run.settings import FitSection, InteractSection, ModelSection, SequenceSection, Settings, parse
from umbel.run.tuning import TuneSection
from umbel.run.unread import as_read
from umbel.study.entrants import taken_by
from umbel.study.tune.dimension import Dimension, Point

SECTIONS: dict[str, type[Section]] = {
    "model": ModelSection, "model.interact_sizes": InteractSection, "model.sequence_sizes": SequenceSection,
    "model.options": OptionSection, "fit": FitSection, "balance": BalanceSection,
}  # fmt: skip
ABSENT = "none"  # a choice that leaves the setting out, of those that may be left out
OMITTED = frozenset(
    f"{name}.{key}" for name, section in SECTIONS.items() for key, field in section.model_fields.items() if field.default is None
)


def pointed(settings: Settings, among: Sequence[Dimension], point: Point) -> Settings:
    """The run file of one point: its own settings with the searched ones in their places, and no search.

    What is meant for one recipe, balancer or piece of a model is left out where another would refuse it.

    :raises UserError: for a value that the run file refuses.
    """
    found = placed(settings, among, point)
    model = taken_by(found.model.recipe, found.model) if found.model.recipe in RECIPES else found.model
    return as_read(found.model_copy(update={"model": model, "balance": _taken(found.fit.balancer, found.balance)}))


def placed(settings: Settings, among: Sequence[Dimension], point: Point) -> Settings:
    """The same with every value in it, taken or not."""
    tree = settings.model_copy(update={"tune": TuneSection()}).model_dump(exclude_none=True)
    for one in among:
        _place(tree, one.key, one.value(point[one.key]))
    return parse(tree, where="a trial")


def in_effect(point: Point) -> Point:
    """The settings of a point that its run file has: without those that the balancer, recipe or piece that it names does not take.

    Example
    -------
    >>> in_effect({"fit.balancer": "pcgrad", "balance.weights.buy": 0.5, "fit.rate": 0.01})
    {'fit.balancer': 'pcgrad', 'fit.rate': 0.01}
    """
    balancer, recipe = point.get("fit.balancer"), point.get("model.recipe")
    left: set[str] = set()
    if balancer is not None:
        takes = {"at", "scalar", *takes_of(str(balancer))} if balancer in BALANCERS else set()
        left |= {key for key in point if key.startswith("balance.") and key.split(".")[1] not in takes}
    if recipe in RECIPES:
        own = {f"model.options.{name}" for name in taken(str(recipe))} | ({"model.views"} if "paradigm" in taken(str(recipe)) else set())
        left |= {key for key in point if key.startswith(("model.options.", "model.views")) and key not in own}
        left |= {f"model.{name}" for name in unsized(str(recipe), int(point.get("model.specific", MANY)))}
    left |= _idle(point, "model.interact", interact.READS) | _idle(point, "model.sequence", sequence.READS)
    return {key: value for key, value in point.items() if key not in left}


def _idle(point: Point, key: str, reads: Mapping[str, frozenset[str]]) -> set[str]:
    """The sizes that the piece which a point names has no use for; none where it names none."""
    own = reads.get(str(point.get(key)))
    above = f"{key}_sizes."
    return set() if own is None else {size for size in point if size.startswith(above) and size.removeprefix(above) not in own}


def _taken(balancer: str | None, section: BalanceSection) -> BalanceSection:
    """The section as that balancer takes it; one that does not exist is refused elsewhere."""
    if balancer is None:
        return BalanceSection()
    takes = takes_of(balancer) if balancer in BALANCERS else ()
    return section.model_copy(update=dict.fromkeys(set(BalanceSection.model_fields) - {"at", "scalar", *takes}))


def _place(tree: dict[str, Any], key: str, value: object) -> None:
    *above, last = key.split(".")
    for step in above:
        tree = tree.setdefault(step, {})
    if value == ABSENT and key in OMITTED:
        tree.pop(last, None)
    else:
        tree[last] = value
