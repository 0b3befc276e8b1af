"""Skew between serving and training: logged requests scored again from their logged fields, the way that logs are."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import final

import numpy as np

from umbel.data.raw import encoded
from umbel.errors import UserError
from umbel.run.drifting import Finding
from umbel.serve.reader import logged_rows
from umbel.serve.records import Decision
from umbel.serve.served import Served
from umbel.serve.store.labels import Cursor
from umbel.serve.store.sampled import sampled
from umbel.serve.store.session import Session

TOLERANCE = 1e-5  # across runtimes: another process may have answered; of a prediction above 1, that part of it
LATELY = 1_000    # requests that are remembered


@final
class Rescored:
    """One request in a hundred of those behind `cursor`, by the same bundle as then: whether its predictions are what was logged."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self._gaps: deque[float] = deque(maxlen=LATELY)

    def read(self, session: Session, served: Mapping[str, Served], until: int) -> list[bool]:
        """Read on to `until`, with the bundles at hand by name; whether each request agrees."""
        found: list[bool] = []
        for page in sampled(session, list(served), after=self.cursor, until=until):
            for one in page:
                self._gaps.append(gap := apart(served[one.bundle], one))
                found.append(gap <= TOLERANCE)
            self.cursor = page[-1].time, page[-1].request
        return found

    def findings(self) -> Iterator[Finding]:
        """What the latest of them come to; nothing where there are none."""
        if self._gaps:
            differ = sum(gap > TOLERANCE for gap in self._gaps)
            of_all = f"{differ:,} of {len(self._gaps):,} requests are scored otherwise from what was logged"
            yield Finding("skew", differ > 0, f"skew: {of_all}, by up to {max(self._gaps):.2g}", differ / len(self._gaps))


def apart(served: Served, decision: Decision) -> float:
    """The greatest distance between the predictions that were logged and those of now, of those above 1 relative to them.

    Infinite where what was logged cannot be read, or is not what this bundle predicts.
    """
    bundle = served.bundle
    if not decision.shown:
        return 0.0
    if decision.outputs != bundle.columns:
        return float("inf")
    try:
        again = bundle.predict(encoded(served.reader.frame(logged_rows(decision, decision.shown)), bundle.encoder))
    except UserError:
        return float("inf")
    logged = np.array([one.predictions for one in decision.shown])
    return float((np.abs(again - logged) / np.maximum(1.0, np.abs(logged))).max())
