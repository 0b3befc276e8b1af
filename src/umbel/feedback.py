"""How events become labels: each task's rule, and all that a store is told of the log that is made of it (data, apart from any model)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from umbel.errors import UserError, nearest
from umbel.expression import check

UNITS: Mapping[str, int] = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
SKEW = 5 * UNITS["m"]
LONGEST = 36_525 * UNITS["d"]  # a century: beyond it sums of times would leave 64 bits, or be no number
COLUMNS = ("kind", "value")  # of an event, that a rule may read


class Attribution(StrEnum):
    """Which shown item an event belongs to."""

    REQUEST = "request"  # the one of the request it names; an event that names none belongs to nothing
    LAST = "last"        # of an event that names no request: the latest one that showed the item to the user before it


class Amount(StrEnum):
    """The label that several events make: did any come, or their values."""

    ANY = "any"  # 1 where one came, else 0
    SUM = "sum"
    MAX = "max"
    LAST = "last"  # of the latest event; of several at one moment, that of the greatest id


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The label of a task: an event counts that satisfies `positive_when` within `window` milliseconds after the item was shown.

    `positive_when` is an expression of the closed list of SQL over an event's `kind` and `value`. The label is `value` of those events;
    where there are none it is 0, and known only once the window has closed. Of a task with a `range` of labels an event outside it does not
    count, and where there are none and 0 is not in it, there is no label.

    Example
    -------
    >>> Rule(task="finish", window=duration("1h"), positive_when="kind = 'watch' AND value >= 30").window
    3600000
    >>> Rule(task="buy", window=1, positive_when="price > 3")
    Traceback (most recent call last):
    umbel.errors.UserError: tasks.buy.feedback.positive_when: an event has no 'price'; known: kind, value
    """

    task: str
    window: int
    positive_when: str
    value: Amount = Amount.ANY
    attribution: Attribution = Attribution.LAST
    range: tuple[float, float] | None = None

    @property
    def nothing(self) -> float | None:
        """The label of what nothing came of."""
        return 0.0 if self.range is None or self.range[0] <= 0 <= self.range[1] else None

    def __post_init__(self) -> None:
        if self.range is not None and self.value not in (Amount.MAX, Amount.LAST):
            mend = "take value = 'last' (or 'max'), or leave the range out"
            raise UserError(f"tasks.{self.task}.feedback: value = '{self.value}' of a task with a range", mend=mend)
        if self.window <= 0:
            raise UserError(f"tasks.{self.task}.feedback.window: {self.window}", mend="give a time above 0")
        for name in check(self.positive_when, where=f"tasks.{self.task}.feedback.positive_when"):
            if name not in COLUMNS:
                raise UserError(f"tasks.{self.task}.feedback.positive_when: an event has no {name!r}", mend=nearest(name, COLUMNS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What a store is told once: the rules of its labels, and how the columns of its log are called.

    A label is settled when its window and `lateness` have passed by the clock of the events themselves: the latest one that has come.
    An event may seem to have happened before what it names was shown, by `skew`: the clocks of clients differ.
    `user`, `item`, `time` and `request` (None: not asked for) are the names of those columns, as a run file has them under `[data]`.
    """

    rules: tuple[Rule, ...]
    lateness: int = UNITS["h"]
    skew: int = SKEW
    user: str = "user"
    item: str = "item"
    time: str = "time_ms"
    request: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)  # the column of a task's label, where it is not the task's name

    def label(self, task: str) -> str:
        """The column of a task's label."""
        return self.labels.get(task, task)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return asdict(self)


def from_json(content: Mapping[str, Any]) -> Feedback:
    """The rules that `Feedback.to_json` wrote; :raises UserError: for one that is none."""
    given = dict(content)
    try:
        rules = [dict(rule) for rule in given.pop("rules", ())]
        made = [_rule(rule) for rule in rules]
        return Feedback(rules=tuple(made), **given)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"feedback: {error}", mend="write it anew by training again") from None


def _rule(given: dict[str, Any]) -> Rule:
    scale = given.pop("range", None)
    value, attribution = Amount(given.pop("value")), Attribution(given.pop("attribution"))
    return Rule(value=value, attribution=attribution, range=None if scale is None else (scale[0], scale[1]), **given)


def duration(text: str, *, where: str = "time") -> int:
    """Milliseconds of a time such as `90s`, `30m`, `24h`, `7d`; :raises UserError: for anything else, beginning with `where`.

    Example
    -------
    >>> duration("30m"), duration("7d")
    (1800000, 604800000)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", text.strip())
    if match is None:
        raise UserError(f"{where}: {text!r} is no time", mend="write a number and one of ms, s, m, h, d, such as 30m")
    found = float(match[1]) * UNITS[match[2]]
    if found > LONGEST:
        raise UserError(f"{where}: {text.strip()[:20]!r} is longer than a century", mend="give at most 36525d")
    return round(found)
