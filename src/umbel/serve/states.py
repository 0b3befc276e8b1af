"""What is a user's own at a request: a state of the bundle's cold-start ladder from what the store knows, kept while nothing is new."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from threading import Lock
from typing import final

import polars as pl

from umbel.errors import UserError
from umbel.feedback import Feedback
from umbel.learn.ladder import Rung, UserState
from umbel.serve.records import Adapted
from umbel.serve.served import Served
from umbel.serve.store.engine import UnavailableError
from umbel.serve.store.facts import ERASED, get
from umbel.serve.store.labels import Cursor, Extent, label_column, latest
from umbel.serve.store.personal import Sign, recent, sign
from umbel.serve.store.session import Session, now

ROOM = 64 << 20  # bytes of states that are kept
ENTRY = 1_024    # bytes that one takes beside its numbers
DIGITS = 16      # of a seal
PLACE = ("request", "item")


class How(StrEnum):
    """How the state of a user was had at a request."""

    KEPT = "kept"        # made before, and nothing new is known
    MADE = "made"        # adapted now
    NONE = "none"        # nothing is known of the user
    LATE = "late"        # not in time, or the store did not answer
    REFUSED = "refused"  # rows that the bundle cannot read, or a failure


@dataclass(frozen=True, slots=True)
class Personal:
    """What of one bundle is a user's own; without a row there is no `state`: the shared model answers, bit for bit."""

    bundle: str
    state: UserState | None
    adapted: Adapted


@final
class States:
    """The states of users by bundle, adapted when they ask, in bounded room; threads may share one.

    `count` is told how each was had, `failed` what went wrong meanwhile.
    """

    def __init__(self, session: Session, *, count: Callable[[How], None], failed: Callable[[Exception], None], room: int = ROOM) -> None:
        self._session, self._count, self._failed, self._room = session, count, failed, room
        self._kept: OrderedDict[tuple[str, str], tuple[Sign, Personal, int]] = OrderedDict()
        self._bytes, self._erased, self._lock = 0, get(session, ERASED), Lock()

    async def within(self, served: Served, user: str, before: Cursor, *, seconds: float) -> Personal | None:
        """A user's own for the answer at `before`; None for a bundle that does not adapt, or if it is not had in time."""
        if served.bundle.ladder is None or served.bundle.feedback is None:
            return None
        found, how = None, How.LATE
        try:
            found, how = await asyncio.wait_for(asyncio.to_thread(self.of, served, user, before), max(0.001, seconds))
        except TimeoutError:
            pass
        except UnavailableError as error:
            self._failed(error)
        except Exception as error:  # there is an answer without it
            how = How.REFUSED
            self._failed(error)
        self._count(how)
        return found

    def of(self, served: Served, user: str, before: Cursor) -> tuple[Personal, How]:
        """The same, whatever time it takes; :raises UserError: for a bundle that does not adapt, or rows that it cannot read."""
        feedback, erased = served.bundle.feedback, self._erased
        if feedback is None:
            raise UserError(f"{served.folder}: no rules of labels", mend="add feedback = { ... } under [tasks.NAME], and train again")
        with self._session.reading() as connection:
            clock = min(latest(connection), now())
            found = sign(connection, feedback, user, clock=clock, before=before)
            kept = self._kept.get((served.name, user))
            if kept is not None and kept[0] == found:
                return kept[1], How.KEPT
            extent = Extent(clock, until=found.received)
            frame = None if found.empty else recent(connection, feedback, user, extent=extent, before=before)
        adapted = Adapted(rung=Rung.CONTENT, rows=0, clock=clock, until=found.received, before=before, seal="")
        if frame is None or frame.is_empty():
            self._drop((served.name, user))
            return Personal(served.name, None, adapted), How.NONE
        state = served.bundle.adapt(support(served, frame, feedback))
        adapted = replace(adapted, rung=state.rung, rows=state.rows, seal=seal(frame, feedback))
        made = Personal(served.name, state if state.rows else None, adapted)
        self._keep((served.name, user), (found, made, ENTRY + _size(state)), erased=erased)
        return made, How.MADE

    def refresh(self) -> bool:
        """Forget all states if somebody was erased from the store since the last time; whether that was so."""
        erased = get(self._session, ERASED)
        if erased == self._erased:
            return False
        with self._lock:
            self._kept.clear()
            self._bytes, self._erased = 0, erased
        return True

    def _keep(self, key: tuple[str, str], entry: tuple[Sign, Personal, int], *, erased: object) -> None:
        self._drop(key)
        with self._lock:
            if erased != self._erased or key in self._kept:
                return  # what it was made of may be gone, or another thread was faster
            self._kept[key] = entry
            self._bytes += entry[2]
            while self._bytes > self._room:
                self._bytes -= self._kept.popitem(last=False)[1][2]

    def _drop(self, key: tuple[str, str]) -> None:
        with self._lock:
            if (old := self._kept.pop(key, None)) is not None:
                self._bytes -= old[2]


def support(served: Served, frame: pl.DataFrame, feedback: Feedback) -> pl.DataFrame:
    """A user's labelled items, as the store has them, as the raw rows that `Bundle.adapt` reads."""
    raw = [{**json.loads(request), **json.loads(item)} for request, item in zip(frame["fields"], frame["own"], strict=True)]
    labels = [frame[label_column(rule.task)].alias(feedback.label(rule.task)) for rule in feedback.rules]
    return served.reader.frame(raw).with_columns(labels)


def seal(frame: pl.DataFrame, feedback: Feedback) -> str:
    """Which items with which labels these are, in a few digits."""
    told = frame.select(*PLACE, *(label_column(rule.task) for rule in feedback.rules)).rows()
    return hashlib.sha256(repr(told).encode(errors="surrogatepass")).hexdigest()[:DIGITS]


def again(session: Session, served: Served, adapted: Adapted, *, user: str) -> UserState | None:
    """The state that answered a decision, from the store; None if its rows are not there any more as they were.

    :raises UserError: for a bundle without rules of labels.
    """
    feedback = served.bundle.feedback
    if feedback is None:
        raise UserError(f"{served.folder}: no rules of labels", mend="name the bundle that the decision names")
    with session.reading() as connection:
        frame = recent(connection, feedback, user, extent=Extent(adapted.clock, until=adapted.until), before=adapted.before)
    return served.bundle.adapt(support(served, frame, feedback)) if seal(frame, feedback) == adapted.seal else None


def _size(state: UserState) -> int:
    return sum(one.nbytes for one in (*state.own.values(), *(() if state.lean is None else (state.lean,))))
