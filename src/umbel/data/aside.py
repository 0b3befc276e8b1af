"""What is odd about a log: rows left out, of nobody, or against themselves; labels that spread too far; fields that say nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log10
from typing import Any

LARGE = 10.0  # of labels whose squared error is a loss beside those of events, which are below 1


@dataclass(frozen=True, slots=True)
class Aside:
    """`dropped` rows in no part of the split, rows `without_user`, and by task the `contradictions` of what it is given.

    `spreads` are standard deviations of the training labels of tasks that pay by their unit: beyond `LARGE` they outweigh the others.
    `unknown` names the coded fields of which no value is in so many training rows as its `min_count`, which it says.
    `unlabelled` are tasks that no row has a label of, which only a training that goes on from a bundle may have.

    Example
    -------
    >>> Aside(dropped=2, contradictions={"click": 0, "buy": 3}).lines()
    ['2 rows are in no part of the split, and left out', "3 rows hold 'buy' though not what it is given: there it is unseen"]
    """

    dropped: int = 0
    without_user: int = 0
    contradictions: Mapping[str, int] = field(default_factory=dict)
    spreads: Mapping[str, float] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    unlabelled: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """A sentence for every count that is not 0, every spread that is too large, and every field without a value."""
        plain = [
            (self.dropped, "in no part of the split, and left out"),
            (self.without_user, "without a user: in intervals each is a user of its own, and GAUC leaves them out"),
        ]
        told = [f"{_rows(count)} {'is' if count == 1 else 'are'} {what}" for count, what in plain if count]
        against = [(name, count) for name, count in self.contradictions.items() if count]
        told += [f"{_rows(count)} hold{'s' * (count == 1)} {name!r} though not what it is given: there it is unseen"
                 for name, count in against]  # fmt: skip
        told += [f"labels of {name!r} spread by about {spread:,.0f}, and its loss outweighs that of events: "
                 f"divide them by {10 ** round(log10(spread)):,} in its sql, or choose a kind made for amounts"
                 for name, spread in self.spreads.items() if spread > LARGE]  # fmt: skip
        told += [f"no value of field {name!r} is in {_rows(least)} of training, its min_count: every row of it is unknown"
                 for name, least in self.unknown.items()]  # fmt: skip
        return told + [f"no row has a label that {name!r} learns from: it goes on as it was, and is not judged" for name in self.unlabelled]

    def to_json(self) -> dict[str, object]:
        """Plain JSON."""
        named = {"contradictions": dict(self.contradictions), "label_spreads": dict(self.spreads), "unknown_fields": dict(self.unknown)}
        return {"dropped": self.dropped, "without_user": self.without_user, **named, "unlabelled": list(self.unlabelled)}

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> Aside:
        """What `to_json` wrote, among other things; 0 for what was not counted then."""
        against, spreads, unknown = (dict(saved.get(key, {})) for key in ("contradictions", "label_spreads", "unknown_fields"))
        return Aside(saved.get("dropped", 0), saved.get("without_user", 0), against, spreads, unknown, tuple(saved.get("unlabelled", ())))


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
