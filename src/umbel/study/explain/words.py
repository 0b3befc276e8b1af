"""A task's main parameters in plain language, as those who are ranked may ask for (Digital Services Act, article 27)."""

from __future__ import annotations

from collections.abc import Sequence

from umbel.evaluate.metrics import Undefined
from umbel.study.explain.deletion import Deletion
from umbel.study.explain.gates import Gate
from umbel.study.explain.ranking import Weight

MAIN = 0.8   # of all movement: the fields that make it up are the main ones
LONGEST = 5  # of them are named
SMALL = 0.01  # of all movement: less is said to be next to nothing


def main_parameters(task: str, weights: Sequence[Weight], *, gate: Gate | None, check: Deletion | Undefined) -> tuple[str, ...]:
    """Sentences: what moves the prediction, which way, what next to nothing does, whom the task listens to, and if the order holds."""
    if not any(one.moves.value for one in weights):
        return (f"Nothing moves the prediction of {task}: it is the same for every row.",)
    says = [_main(task, weights), *filter(None, map(_push, _named(weights)))]
    idle = [one.field for one in weights if one.share < SMALL]
    if idle:
        says.append(f"Next to nothing comes from {_listed(idle)}.")
    return (*says, *_listens(task, gate), holds(check))


def holds(check: Deletion | Undefined) -> str:
    """Whether the named fields were shown to matter more than others."""
    if isinstance(check, Undefined):
        return f"Whether these fields matter more than others could not be tried: {check.reason}."
    gain = check.ranked_gain
    up_to = "1 field" if check.most == 1 else f"1 to {check.most} fields"
    if gain.low is None or gain.high is None:
        return f"Whether these fields matter more than others could not be shown: {gain.reason}."
    figures = f"{gain.value:.3g} more than as many at random (95 %: {gain.low:.3g} to {gain.high:.3g})"
    if check.ranking_shown:
        return f"Taking {up_to} away in this order changes the prediction by {check.ranked:.3g}, {figures}."
    return (
        f"That this order matters was not shown on these rows: taking {up_to} away in it changes the prediction by {check.ranked:.3g}, "
        f"{figures}."
    )


def _named(weights: Sequence[Weight]) -> list[Weight]:
    """The fields that make up the main part, at most a few."""
    found, total = [], 0.0
    for one in weights[:LONGEST]:
        if total >= MAIN or one.share < SMALL:
            break
        found.append(one)
        total += one.share
    return found


def _main(task: str, weights: Sequence[Weight]) -> str:
    first, *others = [f"{one.field} ({one.share:.0%})" for one in _named(weights)] or [weights[0].field]
    if not others:
        return f"The prediction of {task} is moved by {first} above all."
    together = sum(one.share for one in _named(weights))
    return f"The prediction of {task} is moved most by {first}, then by {_listed(others)}: {together:.0%} of all movement together."


def _push(one: Weight) -> str:
    up, down = one.push.up, one.push.down
    if up and down:
        return f"Of {one.field}, {up} raise it and {down} lower it." if up.endswith(" values") else \
            f"Of the values of {one.field}, {up} raises it most and {down} lowers it most."
    return ""


def _listens(task: str, gate: Gate | None) -> list[str]:
    if gate is None or len(gate.experts) < 2:
        return []
    sources = {"experts of its own": gate.heard.own, "shared ones": gate.heard.shared, "those of other tasks": gate.heard.others}
    return [f"{task} listens to {_listed([f'{name} ({share:.0%})' for name, share in sources.items() if share > 0])}."]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
