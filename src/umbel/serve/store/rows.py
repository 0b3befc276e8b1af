"""Records as rows of the tables, and back."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import sqlalchemy as sa

from umbel.serve.records import Adapted, Candidates, Decision, Event, Known, Rung, Shown, Value

Row = dict[str, Any]
DOUBLES, SINGLES = "<f8", "<f4"
compact = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def decision_row(decision: Decision) -> Row:
    """The row of a decision; :raises ValueError: for a number in it that is not finite."""
    return {
        "request": decision.request, "user": decision.user, "time": decision.time, "bundle": decision.bundle, "fusion": decision.fusion,
        "rung": decision.rung.value, "arm": decision.arm, "temperature": decision.temperature, "policy": to_json(decision.policy),
        "outputs": compact(decision.outputs), "fields": to_json(decision.fields),
        "adapted": None if decision.adapted is None else compact(asdict(decision.adapted)),
    }  # fmt: skip


def shown_rows(decision: Decision) -> list[tuple[object, ...]]:
    """A row for each position, from 0, in the order of the table's columns: most of what is written is this."""
    request, pack = decision.request, struct.Struct(f"<{len(decision.outputs)}d").pack
    return [
        (
            request, one.item, position, one.fused, one.propensity, pack(*one.predictions) if one.predictions else b"", to_json(one.fields),
            compact(one.sources) if one.sources else None,
        )
        for position, one in enumerate(decision.shown)
    ]  # fmt: skip


def candidates_row(request: str, given: Candidates) -> Row:
    """The row of what was to choose from."""
    masks = None if given.masks is None else np.packbits(given.masks, axis=1).tobytes()
    return {
        "request": request, "items": compact(given.items), "predictions": _singles(given.predictions), "fused": _singles(given.fused),
        "masks": masks,
    }  # fmt: skip


def event_row(event: Event, received: int) -> Row:
    """The row of an event that arrived at `received`."""
    return {
        "id": event.id, "kind": event.kind, "item": event.item, "time": event.time, "received": received, "user": event.user,
        "request": event.request, "value": None if event.value is None else float(event.value),
    }  # fmt: skip


def known_row(known: Known) -> Row:
    """The row of a user or item."""
    return {"id": known.id, "fields": to_json(known.fields), "time": known.time}


def to_decision(row: sa.Row[Any], shown: Iterable[sa.Row[Any]], candidates: sa.Row[Any] | None) -> Decision:
    """A decision from its rows."""
    return Decision(
        request=row.request, user=row.user, time=row.time, bundle=row.bundle, fusion=row.fusion, rung=Rung(row.rung), arm=row.arm,
        temperature=row.temperature, policy=json.loads(row.policy), outputs=tuple(json.loads(row.outputs)), fields=json.loads(row.fields),
        shown=tuple(to_shown(one) for one in sorted(shown, key=lambda one: int(one.position))),
        candidates=None if candidates is None else _candidates(candidates), adapted=to_adapted(row.adapted),
    )  # fmt: skip


def to_shown(row: sa.Row[Any]) -> Shown:
    """One position from its row."""
    predictions = tuple(np.frombuffer(row.predictions, DOUBLES).tolist())
    return Shown(
        item=row.item, fused=row.fused, propensity=row.propensity, predictions=predictions, fields=json.loads(row.fields),
        sources=() if row.sources is None else tuple(json.loads(row.sources)),
    )  # fmt: skip


def to_event(row: sa.Row[Any]) -> Event:
    """An event from its row."""
    return Event(id=row.id, kind=row.kind, item=row.item, time=row.time, user=row.user, request=row.request, value=row.value)


def to_known(row: sa.Row[Any]) -> Known:
    """A user or item from its row."""
    return Known(id=row.id, fields=json.loads(row.fields), time=row.time)


def to_adapted(text: str | None) -> Adapted | None:
    """How far a decision was the user's own, from its column."""
    if text is None:
        return None
    told = json.loads(text)
    time, request = told.pop("before")
    return Adapted(before=(time, request), **told)


def to_json(fields: Mapping[str, Value]) -> str:
    """Fields as JSON text; :raises ValueError: for a number that is not finite."""
    return compact(dict(fields)) if fields else "{}"


def _singles(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, SINGLES).tobytes()


def _candidates(row: sa.Row[Any]) -> Candidates:
    items = tuple(json.loads(row.items))
    predictions = np.frombuffer(row.predictions, SINGLES).reshape(len(items), -1)
    masks = None if row.masks is None else np.frombuffer(row.masks, np.uint8).reshape(-1, (len(items) + 7) // 8)
    return Candidates(
        items=items, predictions=predictions, fused=np.frombuffer(row.fused, SINGLES),
        masks=None if masks is None else np.unpackbits(masks, axis=1, count=len(items)).astype(bool),
    )  # fmt: skip
