"""Users as the units of a test: each once, by what came of the answers of the first session in which it was met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float


class Visit(NamedTuple):
    """One answer to a user: when, by the canary or the stable bundle, and the sum of a figure over so many rows."""

    user: str
    time: int
    canary: bool
    total: float
    rows: int


@dataclass(slots=True)
class _Session:
    """A session that may go on; `canary` answered first."""

    began: int
    canary: bool
    total: float = 0.0
    rows: int = 0


@final
class Sessions:
    """First sessions of `length` milliseconds, in the order in which users came: who answered, and the mean of the figure.

    Rows of one user depend on each other, and users come again: that a user counts once, with a value that does not change any more,
    is what makes the sequence one of independent values. What the other arm answered inside a session is left out.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._open: dict[str, _Session] = {}
        self._closed: set[str] = set()
        self._canary: list[bool] = []
        self._value: list[float] = []

    @property
    def arm(self) -> Bool[np.ndarray, "users"]:
        """Of each user whose session is over, whether the canary answered."""
        return np.array(self._canary, dtype=bool)

    @property
    def value(self) -> Float[np.ndarray, "users"]:
        """The mean figure of each of them."""
        return np.array(self._value, dtype=np.float64)

    def see(self, visit: Visit) -> None:
        """Count one visit; visits come in the order of time."""
        if visit.user in self._closed or not visit.rows:
            return
        session = self._open.setdefault(visit.user, _Session(visit.time, visit.canary))
        if visit.canary == session.canary and visit.time <= session.began + self._length:
            session.total += visit.total
            session.rows += visit.rows

    def close(self, clock: int) -> None:
        """End the sessions that no visit after `clock` can belong to; all visits up to it have been seen."""
        over = []
        for user, session in self._open.items():
            if session.began + self._length > clock:
                break
            over.append(user)
        for user in over:
            session = self._open.pop(user)
            self._closed.add(user)
            self._canary.append(session.canary)
            self._value.append(session.total / session.rows)
