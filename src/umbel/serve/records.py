"""What service and store tell each other: decisions, events, what became of an event, and what the store knows of users and items."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float

from umbel.errors import nearest

Value = str | int | float | bool | None | list[str] | list[int] | list[float]  # of one field, as JSON gives it
SENT: Mapping[str, str] = {  # the keys of an event as it is sent, and what they are called here
    "event_id": "id", "type": "kind", "item_id": "item", "occurred_at": "time", "user_id": "user",
    "request_id": "request", "value": "value",
}  # fmt: skip
LONGEST = 256               # characters of an id
LAST = 253_402_300_799_999  # the last millisecond of the year 9999
FIRST = 946_684_800_000     # the first of the year 2000: what is told of an earlier one was told in another unit
PLAUSIBLE = range(FIRST, 4_102_444_800_000)  # until 2100
OTHERS: Mapping[str, Fraction] = {"seconds": Fraction(1000), "microseconds": Fraction(1, 1000), "nanoseconds": Fraction(1, 1_000_000)}
MEND = "send milliseconds since 1970 (UTC)"


class Rung(StrEnum):
    """Which step of the degradation ladder answered."""

    FULL = "full"        # every candidate scored
    FEWER = "fewer"      # some candidates left out
    CACHED = "cached"    # an earlier answer
    POPULAR = "popular"  # popularity alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One position of an answer.

    `propensity` is the exact probability of this item at this position given those above it; the product over positions is that of
    the list. None where it is not known (cached and degraded answers, and those to a request that chose its own seed): estimates leave
    those out and count them.
    `predictions` are calibrated, in the order of the decision's `outputs`; empty where nothing was predicted. `fields` are the item's
    own, as the model saw them, where they should be in the log. `sources` are what brought it, where the service chose the candidates.
    """

    item: str
    fused: float | None = None
    propensity: float | None = None
    predictions: tuple[float, ...] = ()
    fields: Mapping[str, Value] = field(default_factory=dict)
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """What was to choose from, enough to choose again by another policy: kept as float32.

    `masks` says which candidates each position chose among; None where only what stood above was left out.
    """

    items: tuple[str, ...]
    predictions: Float[np.ndarray, "candidates outputs"]
    fused: Float[np.ndarray, "candidates"]
    masks: Bool[np.ndarray, "positions candidates"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """How far an answer was its user's own: the rung of the bundle's cold-start ladder, and of how many rows of the user.

    The rows are those of `umbel.serve.store.personal.recent` by `clock` and `until` (the latest event that had come), of decisions
    before `before` (time and request of the answer that they were read for); `seal` tells them from any others. So the state can be
    had again from the store.
    """

    rung: str
    rows: int
    clock: int
    until: int
    before: tuple[int, str]
    seal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One answer of the service: who asked, when (milliseconds since 1970, UTC), what answered, and what was shown from the top.

    `outputs` name the predictions (a bundle's `columns`), `fields` are the user's and the request's own, `policy` the settings that made
    an order of the fused scores, `temperature` that of its softmax (None: it was no draw), `arm` the label of the bundle that answered.
    `user` is None where nobody is to be known, `adapted` where the shared model answered whatever was known of the user.
    """

    request: str
    user: str | None
    time: int
    bundle: str
    fusion: str
    rung: Rung
    shown: tuple[Shown, ...]
    outputs: tuple[str, ...] = ()
    fields: Mapping[str, Value] = field(default_factory=dict)
    candidates: Candidates | None = None
    temperature: float | None = None
    policy: Mapping[str, Value] = field(default_factory=dict)
    arm: str = "stable"
    adapted: Adapted | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a client says happened: `id` is its own and makes a retry harmless, `time` when it happened (milliseconds since 1970, UTC)."""

    id: str
    kind: str
    item: str
    time: int
    user: str | None = None
    request: str | None = None
    value: float | None = None


class Result(StrEnum):
    """What became of an event that was sent."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one event of a batch; `reason` where it was rejected, or nothing reads it. Accepted means durable."""

    event: str
    result: Result
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A user or an item of the catalogue: its raw id, its attributes, and when they were last written."""

    id: str
    fields: Mapping[str, Value] = field(default_factory=dict)
    time: int = 0


def request_id(time: int) -> str:
    """A new request id: the moment first, so that ids of one time lie side by side in the store, then 80 random bits.

    Example
    -------
    >>> one = request_id(1_700_000_000_000)
    >>> len(one), one[:12], one < request_id(1_700_000_000_001)
    (32, '018bcfe56800', True)
    """
    return f"{time:012x}{secrets.token_hex(10)}"


def wrong_id(text: object) -> str | None:
    """Why this cannot be the id of something; None if it can.

    Example
    -------
    >>> wrong_id("u1"), wrong_id(""), wrong_id(7)
    (None, 'is empty', 'is no text')
    """
    if not isinstance(text, str):
        return "is no text"
    if not text:
        return "is empty"
    return _wrong_text(text)


def wrong_event(event: Event, *, now: int, skew: int) -> str | None:
    """Why an event that arrives at `now` is rejected; None if it is not. A clock may be ahead by `skew` milliseconds, and behind by any."""
    whose = [(name, text) for name, text in (("user_id", event.user), ("request_id", event.request)) if text is not None]
    for name, text in (("event_id", event.id), ("type", event.kind), ("item_id", event.item), *whose):
        if wrong := wrong_id(text):
            return f"{name} {wrong}"
    if not whose:
        return "neither user_id nor request_id: it belongs to nothing"
    if wrong := _wrong_number(event.value):
        return f"value {wrong}"
    return _wrong_time(event.time, now=now, skew=skew)


def read_event(tree: object) -> Event | Outcome:
    """An event as a client sends it (the keys of `SENT`), or its rejection: of a time in seconds, too, which would be one in 1970.

    Example
    -------
    >>> sent = {"event_id": "e", "type": "click", "item_id": "i", "occurred_at": 1_700_000_000}
    >>> read_event({**sent, "user": "u"})
    Outcome(event='e', result=<Result.REJECTED: 'rejected'>, reason="unknown key 'user'; did you mean 'user_id'?")
    >>> read_event({**sent, "user_id": "u"}).reason
    'occurred_at 1700000000 looks like seconds; send milliseconds since 1970 (UTC), such as 1700000000000'
    """
    if not isinstance(tree, Mapping):
        return Outcome("", Result.REJECTED, "is no object")
    given = tree.get("event_id")
    name = given if isinstance(given, str) else ""
    for key in tree:
        if key not in SENT:
            return Outcome(name, Result.REJECTED, f"unknown key {key!r}; {nearest(str(key), SENT)}")
    for key in ("event_id", "type", "item_id", "occurred_at"):
        if tree.get(key) is None:
            return Outcome(name, Result.REJECTED, f"{key} is missing")
    for key, value in tree.items():
        if wrong := _wrong_type(key, value):
            return Outcome(name, Result.REJECTED, wrong)
    return Event(**{SENT[key]: value for key, value in tree.items()})


def wrong_decision(decision: Decision) -> str | None:
    """Why a decision cannot be kept; None if it can. Its maker should have refused the request."""
    user = [] if decision.user is None else [("user", decision.user)]
    for name, text in [("request", decision.request), *user, *(("item", one.item) for one in decision.shown)]:
        if wrong := wrong_id(text):
            return f"{name} {wrong}"
    if len({one.item for one in decision.shown}) < len(decision.shown):
        return "an item stands in it twice"
    if any(len(one.predictions) not in (0, len(decision.outputs)) for one in decision.shown):
        return f"predictions are not the {len(decision.outputs)} of its outputs"
    for one in decision.shown:
        if wrong := _wrong_number(one.fused) or _wrong_number(one.propensity):
            return f"a score or propensity {wrong}"
        if one.propensity is not None and not 0 < one.propensity <= 1:
            return f"a propensity of {one.propensity:g}"
    return _wrong_time(decision.time, now=decision.time, skew=0)


def _wrong_type(key: str, value: object) -> str | None:
    if value is None:
        return None
    if key == "value":
        return f"value {wrong}" if (wrong := _wrong_number(value)) else None
    if key == "occurred_at":
        whole = isinstance(value, int) and not isinstance(value, bool)
        return _other_unit(value) if whole else "occurred_at is no whole number of milliseconds"  # type: ignore[arg-type]
    return f"{key} {wrong}" if (wrong := wrong_id(value)) else None


def _other_unit(time: int) -> str | None:
    """Why a time that a client sends is none in milliseconds: those of the other units lie in January 1970, or after 9999."""
    if FIRST <= time <= LAST:
        return None
    for unit, milliseconds in OTHERS.items():
        if (meant := int(time * milliseconds)) in PLAUSIBLE:
            return f"occurred_at {time} looks like {unit}; {MEND}, such as {meant}"
    return f"occurred_at is before the year 2000; {MEND}" if time < FIRST else None


def _wrong_text(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if "\0" in text:
        return "has a zero byte"
    return f"is longer than {LONGEST} characters" if len(text) > LONGEST else None


def _wrong_number(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "is no number"
    return None if abs(value) <= sys.float_info.max else "is not finite"


def _wrong_time(time: int, *, now: int, skew: int) -> str | None:
    if not 0 <= time <= LAST:
        return "occurred_at is not between 1970 and 9999"
    return f"occurred_at is {(time - now) / 1000:,.0f} s in the future; {MEND} by a clock that is right" if time > now + skew else None
