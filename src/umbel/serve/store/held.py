"""How many bytes a decision or an event holds while it waits to be written, roughly: enough to bound what waits."""

from __future__ import annotations

from collections.abc import Mapping

from umbel.serve.records import Candidates, Decision, Event, Shown, Value

FEW = 8  # of the items of a decision, that are looked at: the others are taken to be like them
# What each takes beside what it holds; a number in a tuple or a list, and an id.
DECISION, SHOWN, EVENT, FIELD, NUMBER, ID = 2_000, 250, 200, 70, 32, 65


def held(decisions: tuple[Decision, ...], events: tuple[Event, ...]) -> int:
    """The bytes of all of them."""
    return sum(map(_decision, decisions)) + sum(map(_event, events))


def _decision(decision: Decision) -> int:
    some = decision.shown[:: max(1, len(decision.shown) // FEW)]
    shown = len(decision.shown) * sum(map(_shown, some)) // max(1, len(some))
    return DECISION + _fields(decision.fields) + shown + (0 if decision.candidates is None else _candidates(decision.candidates))


def _shown(one: Shown) -> int:
    return SHOWN + NUMBER * len(one.predictions) + len(one.item) + _fields(one.fields)


def _candidates(given: Candidates) -> int:
    masks = 0 if given.masks is None else given.masks.nbytes
    return ID * len(given.items) + given.predictions.nbytes + given.fused.nbytes + masks


def _event(event: Event) -> int:
    return EVENT + sum(ID + len(text) for text in (event.id, event.kind, event.item, event.user, event.request) if text is not None)


def _fields(fields: Mapping[str, Value]) -> int:
    return sum(map(_value, fields.values()))


def _value(value: Value) -> int:
    if isinstance(value, str):
        return FIELD + len(value)
    return FIELD + (sum(map(_value, value)) if isinstance(value, list) else 0)
