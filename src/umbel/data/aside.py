"""What is odd about the rows of a log, counted: those that are left out, belong to nobody, or contradict themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Aside:
    """`dropped` rows in no part of the split, rows `without_user`, and by task the `contradictions` of what it is given.

    Example
    -------
    >>> Aside(dropped=2, contradictions={"click": 0, "buy": 3}).lines()
    ['2 rows are in no part of the split, and left out', "3 rows hold 'buy' though not what it is given: there it is unseen"]
    """

    dropped: int = 0
    without_user: int = 0
    contradictions: Mapping[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """A sentence for every count that is not 0."""
        plain = [
            (self.dropped, "in no part of the split, and left out"),
            (self.without_user, "without a user: in intervals each is a user of its own, and GAUC leaves them out"),
        ]
        told = [f"{_rows(count)} {'is' if count == 1 else 'are'} {what}" for count, what in plain if count]
        against = [(name, count) for name, count in self.contradictions.items() if count]
        return told + [f"{_rows(count)} hold{'s' * (count == 1)} {name!r} though not what it is given: there it is unseen"
                       for name, count in against]  # fmt: skip

    def to_json(self) -> dict[str, object]:
        """Plain JSON."""
        return {"dropped": self.dropped, "without_user": self.without_user, "contradictions": dict(self.contradictions)}

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> Aside:
        """What `to_json` wrote, among other things; 0 for what was not counted then."""
        return Aside(saved.get("dropped", 0), saved.get("without_user", 0), dict(saved.get("contradictions", {})))


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
