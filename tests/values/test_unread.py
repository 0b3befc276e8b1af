"""What nothing reads, by hand: which types of events a rule lists, and what is said of fields and events that nobody reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.feedback import Feedback, Rule
from umbel.serve.records import Event, Outcome, Result
from umbel.serve.unread import remarked, types_of, unread_fields

READS = frozenset({"price", "tags", "user"})
PLAIN = Rule(task="click", window=1, positive_when="kind = 'click'")
MANY = Rule(task="like", window=1, positive_when="kind IN ('like', 'share''d') OR (kind = 'watch' AND value >= 30)")


def event(kind: str, value: float | None = None) -> Event:
    return Event(id="e", kind=kind, item="i", time=5, user="u", value=value)


def said(kind: str, *rules: Rule, result: Result = Result.ACCEPTED) -> str | None:
    return remarked(event(kind), Outcome("e", result), Feedback(rules=rules)).reason


@pytest.mark.parametrize(
    ("test", "types"),
    [
        ("kind = 'click'", {"click"}),
        ("`kind` = 'click'", {"click"}),
        ('"kind" = \'click\' AND value > 3', {"click"}),
        ("kind IN ('like', 'share') OR kind = 'it''s'", {"like", "share", "it's"}),
        ("value > 3", None),
        ("kind <> 'view'", None),
        ("kind != 'view' AND value > 3", None),
        ("NOT kind = 'view'", None),
        ("not (kind IN ('view'))", None),
        ("LOWER(kind) = 'click'", None),
        ("'click' = kind", None),
        ("kind > 'click'", None),
        ("kind IS NULL OR kind = 'a'", None),
    ],
)
def test_the_types_that_a_rule_lists(test: str, types: set[str] | None) -> None:
    assert types_of(Rule(task="t", window=1, positive_when=test)) == types


def test_an_event_that_no_task_reads_is_accepted_and_said_to_be_lost() -> None:
    assert said("clik", PLAIN, MANY) == "no task reads events of type 'clik'; did you mean 'click'?"
    assert said("zzz", PLAIN) == "no task reads events of type 'zzz'; known: click"
    for kind in ("click", "like", "share'd", "watch"):
        assert said(kind, PLAIN, MANY) is None, kind
    assert said("like", PLAIN) is not None, "another task's rule is not there"
    for result in (Result.DUPLICATE, Result.REJECTED):
        assert said("clik", PLAIN, result=result) is None


def test_where_a_rule_may_read_any_type_nothing_is_said() -> None:
    assert said("clik", PLAIN, Rule(task="t", window=1, positive_when="value > 3")) is None
    assert remarked(event("clik"), Outcome("e", Result.ACCEPTED), None).reason is None
    assert remarked(event("clik"), Outcome("e", Result.REJECTED, "why"), Feedback(rules=(PLAIN,))).reason == "why"


def test_a_field_that_nothing_reads_is_named_with_the_nearest() -> None:
    assert unread_fields(["pric"], READS) == "the model reads no 'pric'; did you mean 'price'?"
    assert unread_fields(["zz", "pric", "price"], READS) == "the model reads no 'pric' (nor 1 more); did you mean 'price'?"
    assert unread_fields(["zz"], READS) == "the model reads no 'zz'; known: price, tags, user"
    assert unread_fields(["price", "tags"], READS) is None
    assert unread_fields([], READS) is None


@given(st.sets(st.text(max_size=3)), st.frozensets(st.text(max_size=3)))
def test_what_is_said_depends_on_the_fields_and_not_on_their_order(sent: set[str], reads: frozenset[str]) -> None:
    found = unread_fields(sent, reads)
    assert (found is None) == (sent <= reads)
    assert found == unread_fields(sorted(sent), reads) == unread_fields(sorted(sent, reverse=True), reads)
    assert found is None or repr(min(sent - reads)) in found
