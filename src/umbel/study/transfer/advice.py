"""The answer in words: keep, separate, group, or give tasks views of their own, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from umbel.evaluate.intervals import Sampled
from umbel.evaluate.paired import Verdict
from umbel.run.names import FALLS
from umbel.run.section import OptionSection
from umbel.study.scene import gap
from umbel.study.transfer.groups import AGAINST, Cell
from umbel.study.transfer.probed import Probed
from umbel.study.variants import controlled
from umbel.study.verdict import Comparison, Difference, Standing


class Action(StrEnum):
    """What to do with the tasks."""

    SHARE = "share"
    OWN_VIEWS = "give tasks views of their own"
    OWN_FIELDS = "give tasks tables of their own of some fields"
    GROUP = "group"
    SEPARATE = "separate"


class Confidence(StrEnum):
    """How far the test rows bear the choice out, which was made on validation."""

    CONFIRMED = "confirmed"
    EQUAL = "no worse"
    OPEN = "open"
    CONTRADICTED = "contradicted"


@dataclass(frozen=True, slots=True)
class Choice:
    """What an entrant means, and the groups or fields that it was told."""

    action: Action
    options: OptionSection | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """The grouping that the probes asked for, the one that stood best on validation once trained, by how much, of how many.

    `spread` is the standard deviation of that gap over seeds, None where fewer than two can be compared. Training overrules the
    probes where the gap is larger: they look at all steps of a training, it is one number a seed.
    """

    asked: str
    best: str
    gap: float
    trained: int
    spread: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether they are one."""
        return self.asked == self.best

    @property
    def overruled(self) -> bool:
        """Whether training decides against the probes."""
        return not self.agrees and self.spread is not None and self.gap > self.spread

    @property
    def says(self) -> str:
        """In words; a disagreement is told as one."""
        if self.agrees:
            return f"The probes asked for {_told(self.asked)}; trained, it is the best of {self.trained} groupings on validation too."
        noise = "and one seed cannot tell that from chance" if self.spread is None else f"within the seeds' spread of {self.spread:.4f}"
        ends = "and training decides" if self.overruled else f"{noise}, so the probes' grouping stands"
        return (f"The probes asked for {_told(self.asked)}, but trained it is {self.gap:.4f} lower on validation than {_told(self.best)}: "
                f"they disagree, {ends}.")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Advice:
    """The recommended model, what it means, how sure it is, the sentences that say why, and how the probes' own wish stood."""

    recipe: str
    action: Action
    confidence: Confidence
    says: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...] | None = None
    fields: tuple[str, ...] | None = None
    check: Check | None = None


def advise(
    found: Comparison, choices: Mapping[str, Choice], *,
    cells: Sequence[Cell] = (), labels: Sequence[str] = (), probes: Probed | None = None,
) -> Advice:  # fmt: skip
    """The entrant that stood best on validation among `choices` (those that may be recommended, and what each means).

    Where that is a grouping of tasks, the one that the probes asked for stands unless training overrules it (`Check`). Nothing is
    chosen on test: there it is only asked whether the choice holds against separate models. `labels` are sentences of their own, told last.
    """
    scores = {one.name: one.cost.score for one in found.recipes if one.name in choices}
    best = max(scores, key=lambda name: scores[name])
    check = None if probes is None else _check(probes, {one.name: one for one in found.recipes if one.name in choices})
    leads = check is None or best != check.best or check.overruled or check.agrees
    if check is not None and not leads:
        best = check.asked
    chosen, options = choices[best], choices[best].options or OptionSection()
    # neither trees nor a variant with more experts share anything
    verdicts = [one for one in found.paired if one.against == AGAINST and (one.recipe in choices or controlled(one.recipe))]
    confidence = _confidence(best, verdicts, choices)
    checked = [check.says] if check else []
    first = (_answer(best, chosen, confidence, leads=leads), *_by_width(found, best), *checked, *_kept(found, choices))
    says = (*first, *_by_task(found, verdicts, choices), *_by_group(cells, choices), *labels)
    return Advice(best, chosen.action, confidence, says, options.groups, options.own, check)


def _check(probes: Probed, among: Mapping[str, Standing]) -> Check | None:
    """Of the groupings that were trained; None where not even the first of them was."""
    trained = [one.entrant for one in probes.groupings if one.entrant in among]
    asked = probes.groupings[0].entrant
    if asked not in trained or len(trained) < 2:
        return None
    best = max(trained, key=lambda name: among[name].cost.score)
    gap = among[best].cost.score - among[asked].cost.score
    return Check(asked, best, gap, len(trained), spread=_spread(among[best], among[asked]))


def _spread(one: Standing, other: Standing) -> float | None:
    """The standard deviation over seeds of their difference on validation; None of fewer than two."""
    gaps = [left - right for left, right in zip(one.valid, other.valid, strict=True) if left is not None and right is not None]
    return float(np.std(gaps, ddof=1)) if len(gaps) > 1 else None


def _confidence(best: str, verdicts: Sequence[Difference], choices: Mapping[str, Choice]) -> Confidence:
    if best == AGAINST:
        return _apart(verdicts, choices)
    own = [one for one in verdicts if one.recipe == best]
    better, worse = _sides(own)
    if worse:
        return Confidence.CONTRADICTED
    return Confidence.CONFIRMED if better else _settled(own)


def _apart(verdicts: Sequence[Difference], choices: Mapping[str, Choice]) -> Confidence:
    """How sure separate models are, which are held against everyone that shares.

    A width control can speak against them, but not for them: who may not be recommended is not named in what follows.
    """
    names = dict.fromkeys(one.recipe for one in verdicts)
    sides = {name: _sides([one for one in verdicts if one.recipe == name]) for name in names}
    if any(better and not worse for better, worse in sides.values()):
        return Confidence.CONTRADICTED
    if any(better for better, _ in sides.values()):
        return Confidence.OPEN
    return Confidence.CONFIRMED if any(sides[name][1] for name in names if name in choices) else _settled(verdicts)


def _settled(verdicts: Sequence[Difference]) -> Confidence:
    """Of differences none of which is more than noise: equal where every one is inside the margin."""
    return Confidence.EQUAL if verdicts and all(one.verdict is Verdict.EQUAL for one in verdicts) else Confidence.OPEN


def _sides(verdicts: Sequence[Difference]) -> tuple[list[str], list[str]]:
    """Tasks on which it is better, and worse, than what it is compared with."""
    better = [one.task for one in verdicts if _better(one) is True]
    return better, [one.task for one in verdicts if _better(one) is False]


def _better(one: Difference) -> bool | None:
    if one.verdict not in (Verdict.HIGHER, Verdict.LOWER):
        return None
    return (one.verdict is Verdict.HIGHER) == (one.metric not in FALLS)


MEANING = {
    Action.SHARE: "share one set of embeddings",
    Action.OWN_VIEWS: "share, and give every task embeddings of its own beside the shared ones",
    Action.OWN_FIELDS: "share, and give every task embeddings of its own beside the shared ones for these fields only: {fields}",
    Action.GROUP: "share inside these groups of tasks and nowhere else: {groups}",
    Action.SEPARATE: "train the tasks apart",
}
DOUBTED = "test rows contradict it: more data or seeds are needed before this is acted upon"
SURE = {
    Confidence.CONFIRMED: "on test it is better than separate models on at least one task and worse on none",
    Confidence.EQUAL: "on test it is within the margin of separate models on every task",
    Confidence.OPEN: "test rows do not settle whether it differs from separate models",
    Confidence.CONTRADICTED: DOUBTED,
}
SURE_APART = {
    Confidence.CONFIRMED: "on test a model that shares is worse on at least one task and none is better on any",
    Confidence.EQUAL: "on test every model that shares is within the margin of it on every task",
    Confidence.OPEN: "test rows do not settle whether a model that shares differs from it",
    Confidence.CONTRADICTED: DOUBTED,
}


def _answer(best: str, chosen: Choice, confidence: Confidence, *, leads: bool) -> str:
    options = chosen.options or OptionSection()
    groups = "; ".join(" with ".join(group) if len(group) > 1 else f"{group[0]} alone" for group in options.groups or ())
    meaning = MEANING[chosen.action].format(fields=", ".join(options.own or ()), groups=groups)
    name = {Action.GROUP: "grouped", Action.OWN_FIELDS: "stem_fields"}.get(chosen.action, best)
    why = "the best on validation" if leads else "which the probes ask for"
    sure = SURE_APART if chosen.action is Action.SEPARATE else SURE
    return f"{meaning[0].upper()}{meaning[1:]} ({name}, {why}): {sure[confidence]}."


def _by_width(found: Comparison, best: str) -> list[str]:
    """The recommended entrant against one shared view as wide as its views together: is it the views, or how much they hold?"""
    says = []
    for against in dict.fromkeys(one.against for one in found.paired if controlled(one.against) and one.recipe == best):
        each = [one for one in found.paired if one.against == against and one.recipe == best]
        told = ", ".join(f"{one.task} {one.paired.mean.value:+.4f} ({one.verdict})" for one in each)
        says.append(f"Against one shared view as wide as its views together ({against}): {told}.")
    return says


def _kept(found: Comparison, choices: Mapping[str, Choice]) -> list[str]:
    """Own views of every field less the shared view, each the best of its kind on validation; of events alone, whose AUC is averaged."""
    known = [one for one in found.recipes if one.name in choices]
    kinds = [[one for one in known if choices[one.name].action is action] for action in (Action.OWN_VIEWS, Action.SHARE)]
    if not all(kinds) or any(next(iter(metrics)) != "auc" for metrics in found.recipes[0].tasks.values()):
        return []
    own, shared = (max(each, key=lambda one: one.cost.score) for each in kinds)
    if not all(isinstance(draw, Sampled) for one in (own, shared) for draws in one.draws.values() for draw in draws):
        return []
    less = gap(own, shared)
    return [f"Own views against a shared one ({own.name} less {shared.name}), mean AUC over tasks: {less}."]


def _by_task(found: Comparison, verdicts: Sequence[Difference], choices: Mapping[str, Choice]) -> list[str]:
    says = []
    for task in found.recipes[0].tasks:
        own = [one for one in verdicts if one.task == task and one.recipe in choices]
        helps = [f"{one.recipe} {one.paired.mean.value:+.4f}" for one in own if _better(one) is True]
        hurts = [f"{one.recipe} {one.paired.mean.value:+.4f}" for one in own if _better(one) is False]
        parts = [f"helps with {', '.join(helps)}" if helps else "", f"hurts with {', '.join(hurts)}" if hurts else ""]
        known = " and ".join(part for part in parts if part) or "makes no difference that is more than noise"
        says.append(f"{task}: learning together {known}.")
    return says


def _by_group(cells: Sequence[Cell], choices: Mapping[str, Choice]) -> list[str]:
    """Negative transfer where it happens: recipe, task and group of users; width controls are told too."""
    lost = [one for one in cells if (one.recipe in choices or controlled(one.recipe)) and one.loses]
    worst = sorted(lost, key=lambda one: one.gain.mean.value if one.gain else 0.0)[:5]
    return [
        f"{one.recipe} loses {-one.gain.mean.value:.4f} on {one.task} for users in {one.split}: {one.group}."
        for one in worst if one.gain is not None
    ]  # fmt: skip


def _told(entrant: str) -> str:
    """The two partitions that are recipes, as what they are."""
    return {"alone": "separate models", "mmoe": "one group of all (mmoe)"}.get(entrant, entrant)
