"""The answer in words: keep, separate, group, or give tasks views of their own, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from umbel.evaluate.paired import Verdict
from umbel.run.names import FALLS
from umbel.study.transfer.groups import AGAINST, Cell
from umbel.study.verdict import Comparison, Difference


class Action(StrEnum):
    """What to do with the tasks."""

    SHARE = "share"
    OWN_VIEWS = "give tasks views of their own"
    GROUP = "group"
    SEPARATE = "separate"


class Confidence(StrEnum):
    """How far the test rows bear the choice out, which was made on validation."""

    CONFIRMED = "confirmed"
    EQUAL = "no worse"
    OPEN = "open"
    CONTRADICTED = "contradicted"


@dataclass(frozen=True, slots=True)
class Advice:
    """The recommended model, what it means, how sure it is, and the sentences that say why."""

    recipe: str
    action: Action
    confidence: Confidence
    says: tuple[str, ...]


def advise(found: Comparison, actions: Mapping[str, Action], *, cells: Sequence[Cell] = (), labels: Sequence[str] = ()) -> Advice:
    """The recipe that stood best on validation among `actions` (recipes that may be recommended, and what each means).

    Nothing is chosen on test: there it is only asked whether the choice holds against separate models. `labels` are
    sentences of their own, told last.
    """
    scores = {one.name: one.cost.score for one in found.recipes if one.name in actions}
    best = max(scores, key=lambda name: scores[name])
    verdicts = [one for one in found.paired if one.against == AGAINST]
    confidence = _confidence(best, verdicts)
    answer = _answer(best, actions[best], confidence)
    return Advice(best, actions[best], confidence, (answer, *_by_task(found, verdicts, actions), *_by_group(cells, actions), *labels))


def _confidence(best: str, verdicts: Sequence[Difference]) -> Confidence:
    if best == AGAINST:
        rivals = [one.verdict for one in verdicts]
        return Confidence.CONTRADICTED if _only_better(rivals, verdicts) else Confidence.EQUAL if rivals else Confidence.OPEN
    own = [one.verdict for one in verdicts if one.recipe == best]
    better, worse = _sides([one for one in verdicts if one.recipe == best])
    if worse:
        return Confidence.CONTRADICTED
    if better:
        return Confidence.CONFIRMED
    return Confidence.EQUAL if own and all(one is Verdict.EQUAL for one in own) else Confidence.OPEN


def _only_better(rivals: Sequence[Verdict], verdicts: Sequence[Difference]) -> bool:
    """Whether some other recipe is better on a task and worse on none."""
    names = {one.recipe for one in verdicts}
    sides = [_sides([one for one in verdicts if one.recipe == name]) for name in names]
    return bool(rivals) and any(better and not worse for better, worse in sides)


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
    Action.GROUP: "share inside groups of tasks and nowhere else",
    Action.SEPARATE: "train the tasks apart",
}
SURE = {
    Confidence.CONFIRMED: "on test it is better than separate models on at least one task and worse on none",
    Confidence.EQUAL: "on test no difference to the alternatives is larger than the margin or noise",
    Confidence.OPEN: "test rows do not settle whether it differs from separate models",
    Confidence.CONTRADICTED: "test rows contradict it: more data or seeds are needed before this is acted upon",
}


def _answer(best: str, action: Action, confidence: Confidence) -> str:
    return f"{MEANING[action].capitalize()} ({best}, the best on validation): {SURE[confidence]}."


def _by_task(found: Comparison, verdicts: Sequence[Difference], actions: Mapping[str, Action]) -> list[str]:
    says = []
    for task in found.recipes[0].tasks:
        own = [one for one in verdicts if one.task == task and one.recipe in actions]
        helps = [f"{one.recipe} {one.paired.mean.value:+.4f}" for one in own if _better(one) is True]
        hurts = [f"{one.recipe} {one.paired.mean.value:+.4f}" for one in own if _better(one) is False]
        parts = [f"helps with {', '.join(helps)}" if helps else "", f"hurts with {', '.join(hurts)}" if hurts else ""]
        known = " and ".join(part for part in parts if part) or "makes no difference that is more than noise"
        says.append(f"{task}: learning together {known}.")
    return says


def _by_group(cells: Sequence[Cell], actions: Mapping[str, Action]) -> list[str]:
    """Negative transfer where it happens: recipe, task and group of users."""
    lost = [one for one in cells if one.recipe in actions and one.loses]
    worst = sorted(lost, key=lambda one: one.gain.mean.value if one.gain else 0.0)[:5]
    return [
        f"{one.recipe} loses {-one.gain.mean.value:.4f} on {one.task} for users in {one.split}: {one.group}."
        for one in worst if one.gain is not None
    ]  # fmt: skip
