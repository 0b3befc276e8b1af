"""What a store is told in tests of its parts: one rule, a decision and an event."""

from __future__ import annotations

from umbel.feedback import Feedback, Rule
from umbel.serve.records import Decision, Event, Rung, Shown

RULES = Feedback(rules=(Rule(task="click", window=10, positive_when="kind = 'click'"),), lateness=0)


def decision(request: str = "r1", *items: str, time: int = 100, user: str | None = "u1") -> Decision:
    shown = tuple(Shown(item=item) for item in items)
    return Decision(request=request, user=user, time=time, bundle="b", fusion="f", rung=Rung.FULL, shown=shown)


def event(name: str = "e1", item: str = "i1", *, time: int = 105, user: str | None = "u1", request: str | None = None) -> Event:
    return Event(id=name, kind="click", item=item, time=time, user=user, request=request)
