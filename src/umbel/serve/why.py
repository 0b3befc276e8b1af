"""Why a decision was as it was: what each task added to its scores, exactly, and which fields moved its predictions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from msgspec import Struct

from umbel.data.raw import encoded
from umbel.errors import UserError
from umbel.fusion import Fusion, parse
from umbel.learn.ladder import Rung as LadderRung
from umbel.serve.reader import logged_rows
from umbel.serve.records import Decision, Shown
from umbel.serve.served import Served
from umbel.serve.store.facts import get, put
from umbel.serve.store.recent import Decided
from umbel.serve.store.session import Session
from umbel.study.explain.explain import Explainer
from umbel.study.explain.scale import scale

ITEMS = 20  # of a decision that are explained, from the top


class WhyItem(Struct, frozen=True, kw_only=True):
    """One position: `contributions` are what each task added to `score`; `moved`, by prediction, what each field added to its scale."""

    item_id: str
    score: float | None
    propensity: float | None
    predictions: dict[str, float]
    fields: dict[str, Any]
    sources: list[str]
    contributions: dict[str, float] | None = None
    moved: dict[str, dict[str, float]] | None = None


class Why(Decided, frozen=True, kw_only=True):
    """`GET /v1/decisions/{request}`: the decision as it was logged, with its first items explained.

    `adapted` is the rung of the bundle's ladder that answered, and `known` the rows of the user it is of; null where nobody was known.
    `gap` is by how much contributions miss the logged scores at most; what cannot be had is null, and why stands beside it. `units` are
    the scales on which fields moved predictions, before calibration, and `base` where they start: the mean training row.
    """

    adapted: str | None
    known: int | None
    temperature: float | None
    fields: dict[str, Any]
    candidates: int | None
    items: list[WhyItem]
    gap: float | None
    no_contributions: str | None
    units: dict[str, str]
    base: dict[str, float]
    no_moved: str | None


def why(session: Session, decision: Decision, served: Iterable[Served]) -> Why:
    """Explain a decision by what it logged, by its policy and its bundle as far as they are at hand."""
    known, own = list(served), decision.adapted
    items = decision.shown[:ITEMS]
    added, no_contributions = _added(decision, items, policy_of(session, decision.fusion, known))
    bundle = next((one for one in known if one.name == decision.bundle), None)
    moved, no_moved = _moved(decision, items, bundle)
    gaps = [abs(sum(one.values()) - item.fused) for one, item in zip(added, items, strict=True) if item.fused is not None] if added else []
    return Why(
        request_id=decision.request, user_id=decision.user, time=decision.time, bundle=decision.bundle, fusion=decision.fusion,
        rung=decision.rung.value, arm=decision.arm, adapted=None if own is None else own.rung, known=None if own is None else own.rows,
        temperature=decision.temperature, fields=dict(decision.fields),
        candidates=None if decision.candidates is None else len(decision.candidates.items), shown=len(decision.shown),
        items=[
            _item(decision, one, added=added[at] if added else None, moved=moved.items[at] if moved else None)
            for at, one in enumerate(items)
        ],
        gap=max(gaps) if gaps else None, no_contributions=no_contributions,
        units=moved.units if moved else {}, base=moved.base if moved else {}, no_moved=no_moved,
    )  # fmt: skip


def remember(session: Session, policy: Fusion) -> None:
    """Let a store know a policy by its name, so that what it decided can be explained once another is in force."""
    put(session, _fact(f"{policy.name}@{policy.version}"), policy.to_json())


def policy_of(session: Session, name: str, served: Iterable[Served]) -> Fusion | None:
    """The policy of a name, of a bundle at hand or from the store; None where neither has it."""
    for one in served:
        fusion = one.bundle.fusion
        if fusion is not None and f"{fusion.name}@{fusion.version}" == name:
            return fusion
    kept = get(session, _fact(name))
    return None if kept is None else parse(kept, where=name)


class _Moved(Struct, frozen=True):
    """What moved each item, the unit of each prediction and where it starts."""

    items: list[dict[str, dict[str, float]]]
    units: dict[str, str]
    base: dict[str, float]


def _added(decision: Decision, items: Sequence[Shown], policy: Fusion | None) -> tuple[list[dict[str, float]], str | None]:
    if not items or not items[0].predictions:
        return [], f"nothing was predicted: the answer is of the rung {decision.rung.value}"
    if policy is None:
        return [], f"the policy {decision.fusion} is not at hand any more"
    predictions = np.array([one.predictions for one in items])
    parts: Float[np.ndarray, "items tasks"] = policy.contributions(predictions[:, policy.places(decision.outputs)])
    return [dict(zip(policy.tasks, row, strict=True)) for row in parts.tolist()], None


def _moved(decision: Decision, items: Sequence[Shown], served: Served | None) -> tuple[_Moved | None, str | None]:
    if served is None:
        return None, f"the bundle {decision.bundle} is not at hand any more"
    if not items:
        return None, "nothing was shown"
    own = decision.adapted
    if own is not None and own.rows and own.rung != LadderRung.ID:
        return None, f"the answer was the user's own ({own.rung}, {own.rows:,} rows known), not the shared model's"
    try:
        made = _explainer(served)
        found = made.explain(encoded(served.reader.frame(logged_rows(decision, items)), served.bundle.encoder))
    except UserError as error:
        return None, str(error)
    moved = [
        {column: dict(zip(found.fields, row[at].tolist(), strict=True)) for at, column in enumerate(found.columns)}
        for row in found.contributions
    ]  # fmt: skip
    units = {column: scale(task.kind).unit for task in made.tasks for column in found.columns[made.answers[task.name]]}
    return _Moved(moved, units, dict(zip(found.columns, found.base.tolist(), strict=True))), None


@lru_cache(maxsize=2)
def _explainer(served: Served) -> Explainer:
    """Made once a bundle: it holds a copy of the layers in float64."""
    return Explainer(served.bundle)


def _item(decision: Decision, one: Shown, *, added: dict[str, float] | None, moved: dict[str, dict[str, float]] | None) -> WhyItem:
    predictions = dict(zip(decision.outputs, one.predictions, strict=False))
    return WhyItem(
        item_id=one.item, score=one.fused, propensity=one.propensity, predictions=predictions, fields=dict(one.fields),
        sources=list(one.sources), contributions=added, moved=moved,
    )  # fmt: skip


def _fact(name: str) -> str:
    return f"fusion {name}"
