"""What is told to a service though nothing reads it, fields of users and items and types of events: it is kept, and said to be so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

from umbel.errors import nearest
from umbel.expression import tokenise
from umbel.feedback import Feedback, Rule
from umbel.serve.records import Event, Outcome, Result

OTHERWISE = {"NOT", "<>", "!="}  # what makes a rule one of all types but those that it names


def unread_fields(given: Iterable[str], reads: frozenset[str]) -> str | None:
    """That some fields are not among those that are read, with the name that the first of them may be meant to be; None where all are.

    Example
    -------
    >>> unread_fields(["price", "tagz"], frozenset({"price", "tags"}))
    "the model reads no 'tagz'; did you mean 'tags'?"
    """
    lost = sorted(set(given) - reads)
    return _unread_field(lost[0], reads, len(lost) - 1) if lost else None


def remarked(event: Event, outcome: Outcome, feedback: Feedback | None) -> Outcome:
    """The outcome of an event; of one that was accepted and whose type no task reads, it says so."""
    if outcome.result is not Result.ACCEPTED or feedback is None:
        return outcome
    read = [types_of(rule) for rule in feedback.rules]
    known = frozenset().union(*(types for types in read if types is not None))
    if None in read or event.kind in known:
        return outcome
    return replace(outcome, reason=_unread_type(event.kind, known))


@lru_cache
def types_of(rule: Rule) -> frozenset[str] | None:
    """The types of events that a rule reads; None where it does not list them.

    Example
    -------
    >>> sorted(types_of(Rule(task="t", window=1, positive_when="kind IN ('like', 'share') OR kind = 'buy' AND value > 3")))
    ['buy', 'like', 'share']
    >>> types_of(Rule(task="t", window=1, positive_when="kind <> 'view'")) is None
    True
    """
    tokens = tokenise(rule.positive_when)
    behind = [after.word for token, after in pairwise(tokens) if token.text.strip('`"') == "kind"]
    listed = bool(behind) and set(behind) <= {"=", "IN"} and tokens[-1].text.strip('`"') != "kind"
    if not listed or not OTHERWISE.isdisjoint(token.word for token in tokens):
        return None
    return frozenset(token.text[1:-1].replace("''", "'") for token in tokens if token.kind == "text")


@lru_cache
def _unread_field(name: str, reads: frozenset[str], others: int) -> str:
    return f"the model reads no {name!r}{f' (nor {others:,} more)' if others else ''}; {nearest(name, reads)}"


@lru_cache
def _unread_type(kind: str, known: frozenset[str]) -> str:
    return f"no task reads events of type {kind!r}; {nearest(kind, known)}"
