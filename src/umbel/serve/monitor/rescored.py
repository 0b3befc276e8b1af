"""Skew between serving and training: logged requests scored again from their logged fields, the way that logs are."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import final

import numpy as np

from umbel.data.raw import encoded
from umbel.errors import UserError
from umbel.learn.ladder import UserState
from umbel.run.drifting import Finding
from umbel.serve.reader import logged_rows
from umbel.serve.records import Decision
from umbel.serve.served import Served
from umbel.serve.states import again
from umbel.serve.store.labels import Cursor
from umbel.serve.store.sampled import sampled
from umbel.serve.store.session import Session

TOLERANCE = 1e-5  # across runtimes: another process may have answered; of a prediction above 1, that part of it
LATELY = 1_000    # requests that are remembered


class Again(StrEnum):
    """What became of scoring a logged request again."""

    AGREES = "agrees"
    DIFFERS = "differs"
    CHANGED = "changed"  # it was adapted to its user, by labels that are not in the store any more as they were


@final
class Rescored:
    """One request in a hundred of those behind `cursor`, by the same bundle as then: whether its predictions are what was logged.

    What was adapted to its user is adapted again, by the labels that were known then.
    """

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self._gaps: deque[float | None] = deque(maxlen=LATELY)

    def read(self, session: Session, served: Mapping[str, Served], until: int) -> list[Again]:
        """Read on to `until`, with the bundles at hand by name; what became of each request."""
        found: list[Again] = []
        for page in sampled(session, list(served), after=self.cursor, until=until):
            for one in page:
                self._gaps.append(gap := gap_of(session, served[one.bundle], one))
                found.append(Again.CHANGED if gap is None else Again.AGREES if gap <= TOLERANCE else Again.DIFFERS)
            self.cursor = page[-1].time, page[-1].request
        return found

    def findings(self) -> Iterator[Finding]:
        """What the latest of them come to; nothing where there are none."""
        gaps = [gap for gap in self._gaps if gap is not None]
        changed = len(self._gaps) - len(gaps)
        left = f"; {changed:,} adapted to their user are left out: those labels are not there any more as they were" if changed else ""
        differ = sum(gap > TOLERANCE for gap in gaps)
        if gaps:
            of_all = f"{differ:,} of {len(gaps):,} requests are scored otherwise from what was logged"
            yield Finding("skew", differ > 0, f"skew: {of_all}, by up to {max(gaps):.2g}{left}", differ / len(gaps))
        elif changed:
            yield Finding("skew", False, f"skew: no logged request can be scored again{left}")


def gap_of(session: Session, served: Served, decision: Decision) -> float | None:
    """How far apart a decision is; None if it was adapted by labels that cannot be had again, infinity if those cannot be read."""
    adapted = decision.adapted
    if adapted is None or not adapted.rows or decision.user is None:
        return apart(served, decision)
    try:
        state = again(session, served, adapted, user=decision.user)
    except UserError:
        return float("inf")
    return None if state is None else apart(served, decision, state)


def apart(served: Served, decision: Decision, state: UserState | None = None) -> float:
    """The greatest distance between the predictions that were logged and those of now, of those above 1 relative to them.

    Infinite where what was logged cannot be read, or is not what this bundle predicts. `state` is what was the user's own.
    """
    bundle = served.bundle
    if not decision.shown:
        return 0.0
    if decision.outputs != bundle.columns:
        return float("inf")
    try:
        found = bundle.predict(encoded(served.reader.frame(logged_rows(decision, decision.shown)), bundle.encoder), state)
    except UserError:
        return float("inf")
    logged = np.array([one.predictions for one in decision.shown])
    return float((np.abs(found - logged) / np.maximum(1.0, np.abs(logged))).max())
