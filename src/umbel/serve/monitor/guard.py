"""The canary under guard: tests that may be looked at at any time, over users, of what its answers led to; one that fails drops it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from typing import Protocol, final

import numpy as np
import polars as pl
from jaxtyping import Float

from umbel.errors import UserError
from umbel.evaluate.sequential import Evidence, mismatch, worse
from umbel.feedback import Feedback
from umbel.run.drifting import Finding
from umbel.serve.monitor.guarded import Guarded
from umbel.serve.monitor.sessions import Sessions, Visit
from umbel.serve.records import Rung
from umbel.serve.shares import chance
from umbel.serve.store.labels import Cursor, Extent, Page, label_column, pages, watermark
from umbel.serve.store.session import Session
from umbel.serve.store.visits import Answered, answered
from umbel.serve.wanted import State

LEVEL = 0.05     # the chance, at most, that a canary that is not worse is ever dropped
SETTLES = 2_000  # milliseconds in which every worker has followed a change, and what was answered is in the store
CANARY = "canary"


@dataclass(frozen=True, slots=True)
class _Level:
    """The chance of being the canary's, and the log evidence that drops it."""

    share: float
    bound: float


class _Test(Protocol):
    """What a canary can fail."""

    def read(self, session: Session, *, clock: int, now: int) -> None:
        """Read on, to the clock of the events or to now."""
        ...

    def findings(self, level: _Level) -> Iterator[Finding]:
        """What is known now, an alarm where the evidence has ever reached the bound."""
        ...


@final
class Guard:
    """The tests of one canary: each guarded task by its settled labels, answers below the full rung, and the sample ratio.

    Every test has an equal part of `LEVEL`: the evidence that fails one is `tests / LEVEL` (Ville, and Bonferroni over tests). All is read
    from the store from the moment `State.since` on, so that any worker comes to the same.
    """

    def __init__(self, state: State, tasks: Sequence[Guarded], feedback: Feedback | None) -> None:
        self.state = state
        start, length = state.since + SETTLES, state.session
        rules = [] if feedback is None else [replace(feedback, rules=(one.rule,)) for one in tasks]
        own = [_Labelled(one, of, start=start, length=length) for one, of in zip(tasks, rules, strict=False)]
        self._tests: list[_Test] = [*own, _Answers(start, length)]
        self._level = _Level(chance(state.share), log((len(own) + 2) / LEVEL))

    def of(self, state: State) -> bool:
        """Whether it is the canary of this state, compared since the same moment, that is guarded."""
        return state.canary is not None and self.state.compares(state) and self.state.since == state.since

    def without(self, state: State) -> State:
        """The state without the canary; :raises UserError: if another one answers by now."""
        if not self.of(state):
            raise UserError("the canary was changed while it was looked at", mend="the next look is at the one that answers now")
        return replace(state, canary=None, share=0.0)

    def look(self, session: Session, now: int) -> tuple[Finding, ...]:
        """Read on, and say how the canary does; :raises UnavailableError: if the store does not answer."""
        if not 0 < self._level.share < 1:
            return (Finding("guard", False, f"guard: a share of {self._level.share:g} leaves nobody to compare with"),)
        clock = min(watermark(session), now)
        for test in self._tests:
            test.read(session, clock=clock, now=now - SETTLES)
        return tuple(finding for test in self._tests for finding in test.findings(self._level))


@final
class _Labelled:
    """A task by the mean label of what was shown in each user's first session."""

    def __init__(self, task: Guarded, feedback: Feedback, *, start: int, length: int) -> None:
        self._task, self._feedback = task, feedback
        self._cursor: Cursor = (start, "")
        self._sessions = Sessions(length)

    def read(self, session: Session, *, clock: int, now: int) -> None:
        """The decisions whose labels have settled."""
        for page in pages(session, self._feedback, Extent(clock), after=self._cursor):
            for visit in _visits(page, self._task.rule.task):
                self._sessions.see(visit)
            self._cursor = page.last
        self._sessions.close(clock - self._feedback.lateness - self._task.rule.window)

    def findings(self, level: _Level) -> Iterator[Finding]:
        """One."""
        yield _compared(self._task.rule.task, self._sessions, wanted=self._task.wanted, keep=self._task.keep, level=level)


@final
class _Answers:
    """What needs no label: which arm users are of, and how many of a session's answers were not on the full rung."""

    def __init__(self, start: int, length: int) -> None:
        self._cursor: Cursor = (start, "")
        self._sessions = Sessions(length)

    def read(self, session: Session, *, clock: int, now: int) -> None:
        """All answers up to now."""
        for page in answered(session, self._cursor, now):
            for one in page:
                self._sessions.see(_visit(one))
            self._cursor = page[-1].time, page[-1].request
        self._sessions.close(now)

    def findings(self, level: _Level) -> Iterator[Finding]:
        """The rungs, and the ratio."""
        yield _compared("degraded", self._sessions, wanted=False, keep=1.0, level=level)
        arm = self._sessions.arm
        what = f"canary {int(arm.sum()):,} of {len(arm):,} users, where {level.share:.2%} are to be"
        yield _finding("sample ratio", mismatch(arm, level.share), what=what, bound=level.bound)


def _compared(name: str, sessions: Sessions, *, wanted: bool, keep: float, level: _Level) -> Finding:
    """Whether the canary's users have less of what is wanted, or more of what is not."""
    arm, value, share = sessions.arm, sessions.value, level.share
    evidence = worse(arm, value, share=share, keep=keep) if wanted else worse(~arm, value, share=1 - share, keep=keep)
    kept = "" if keep == 1 else f", of which {keep:g} is to be kept"
    what = f"canary {_mean(value[arm])}, stable {_mean(value[~arm])}{kept}"
    return _finding(name, evidence, what=what, bound=level.bound)


def _finding(name: str, evidence: Evidence, *, what: str, bound: float) -> Finding:
    """The greatest evidence there has been, as a part of what drops a canary."""
    most = float(evidence.max(initial=0.0))
    says = f"guard {name}: {what}; evidence {exp(min(most, 700)):.3g} to 1, dropped at {exp(bound):.0f}"
    return Finding(f"guard {name}", most >= bound, says, most / bound)


def _mean(value: Float[np.ndarray, "users"]) -> str:
    return f"{value.mean():.4f} of {len(value):,} users" if len(value) else "no users yet"


def _visits(page: Page, task: str) -> Iterator[Visit]:
    """A visit for each decision of a known user: how many of the items shown have the event."""
    label = pl.col(label_column(task))
    known = page.frame.filter(pl.col("user").is_not_null(), label.is_not_null())
    columns = [pl.col("user", "time").first(), (pl.col("arm").first() == CANARY).alias("canary"), (label > 0).sum().alias("total")]
    for _, user, time, canary, total, rows in known.group_by("request", maintain_order=True).agg(*columns, pl.len()).iter_rows():
        yield Visit(user, time, canary, float(total), rows)


def _visit(one: Answered) -> Visit:
    return Visit(one.user, one.time, one.arm == CANARY, float(one.rung is not Rung.FULL), 1)
