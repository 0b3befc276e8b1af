"""The scale of a rating: told once in the run file, held where labels are read, where events arrive, and where they become labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests import rated

from umbel.data.labels import events
from umbel.data.storage import schema_from_json, schema_to_json
from umbel.errors import UserError
from umbel.feedback import Amount, Feedback, Rule, from_json
from umbel.kinds import REGRESSION, Poisson, TaskKind
from umbel.run import resolve
from umbel.run.settings import Settings, parse
from umbel.schema import BINARY, Field, FieldKind, Schema, Task
from umbel.serve.records import Event, Outcome, Result
from umbel.serve.scales import on_scale

USER = Field("user", FieldKind.ID)
RATING = Schema((USER,), (Task("rating", REGRESSION, range=(1.0, 5.0)), Task("click")))
RULE = Rule(task="rating", window=9, positive_when="kind = 'rate'", value=Amount.LAST, range=(1.0, 5.0))
CLICK = Rule(task="click", window=9, positive_when="kind = 'click'")


def rate(value: float | None, *, kind: str = "rate") -> Event:
    return Event(id=f"{kind} {value}", kind=kind, item="i", time=1, user="u", value=value)


def test_a_run_file_says_it_and_everyone_is_told() -> None:
    tree: dict[str, Any] = {
        "data": {"log": "x.csv"}, "fields": {"user": {"kind": "id"}}, "split": {"by": "time", "valid": 1, "test": 2},
        "model": {"recipe": "mmoe"}, "tasks": {"rating": {
            "kind": "regression", "range": [1, 5], "feedback": {"window": "9ms", "positive_when": "kind = 'rate'", "value": "last"},
        }},
    }  # fmt: skip
    settings: Settings = parse(tree, where="run.toml")
    assert resolve.schema(settings).task("rating").range == (1.0, 5.0)
    found = resolve.feedback(settings)
    assert found is not None
    assert found.rules == (RULE,)


def test_it_is_kept_with_schema_and_rules() -> None:
    assert schema_from_json(json.loads(json.dumps(schema_to_json(RATING)))) == RATING
    told = Feedback(rules=(RULE, CLICK))
    assert from_json(json.loads(json.dumps(told.to_json()))) == told


@pytest.mark.parametrize(
    ("kind", "scale", "said"),
    [
        (REGRESSION, (5.0, 1.0), r"tasks.t: range = \[5, 1\]; give its least and its greatest"),
        (REGRESSION, (2.0, 2.0), r"tasks.t: range = \[2, 2\]"),
        (REGRESSION, (float("nan"), 2.0), r"tasks.t: range = \[nan, 2\]"),
        (BINARY, (0.0, 1.0), r"tasks.t: a range of a binary task; its labels are whole and in \[0, 1\]"),
        (Poisson(), (-1.0, 9.0), r"tasks.t: a range of a poisson task; its labels are whole and at least 0"),
    ],
)
def test_what_is_no_scale_is_refused(kind: TaskKind, scale: tuple[float, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Schema((USER,), (Task("t", kind, range=scale),))
    Schema((USER,), (Task("t", Poisson(), range=(0.0, 9.0)),))


@pytest.mark.parametrize("amount", [Amount.ANY, Amount.SUM])
def test_a_number_of_events_or_a_sum_has_no_scale(amount: Amount) -> None:
    with pytest.raises(UserError, match=f"tasks.t.feedback: value = '{amount}' of a task with a range; take value = 'last'"):
        Rule(task="t", window=1, positive_when="kind = 'rate'", value=amount, range=(1.0, 5.0))


def test_labels_at_its_ends_and_missing_ones_are_on_it() -> None:
    found = events(pl.DataFrame({"rating": [1.0, 5.0, None, 3.5], "click": [0, 1, 1, 0]}), RATING)
    assert found[:, 0].tolist()[:2] == [1.0, 5.0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([5.01], r"label 5.01 in row 12 of log.csv; its range is \[1, 5\]: correct the rows"),
        ([0.0], "label 0 in row 12 of log.csv; its range"),
        ([7.0, 3.0, -1.0, 9.0], r"label 7 in row 12 of log.csv \(and 2 more of the 5 rows read with it\); its range"),
    ],
)
def test_a_label_outside_is_one_line_with_file_row_and_count(wrong: list[float], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        events(pl.DataFrame({"rating": [3.0, *wrong]}), RATING, 10, log="log.csv")
    assert "\n" not in str(caught.value)


def test_a_log_with_one_is_not_ingested(tmp_path: Path) -> None:
    frame = rated.log().with_columns(rating=pl.when(pl.int_range(pl.len()) == 6).then(11.0).otherwise("rating"))
    schema = Schema(rated.FIELDS, (Task("rating", REGRESSION, range=(1.0, 5.0)), Task("click")))
    with pytest.raises(UserError, match=r"tasks.rating: label 11 in row 7 of .*log.parquet; its range is \[1, 5\]"):
        rated.table(tmp_path, frame, schema)
    assert not (tmp_path / "table").exists()
    rated.table(tmp_path / "other", rated.log(), schema)


def test_an_event_outside_is_rejected_and_says_why() -> None:
    bad = Outcome("x", Result.REJECTED, "bad")
    sent: list[Event | Outcome] = [rate(1.0), rate(5.5), rate(None), rate(9.0, kind="click"), bad, rate(0.0)]
    found = on_scale(sent, Feedback(rules=(CLICK, RULE)))
    told = [one.reason if isinstance(one, Outcome) else None for one in found]
    outside = "value {} is outside the range: rating is 1 to 5"
    assert told == [None, outside.format("5.5"), "value is missing: rating is 1 to 5", None, "bad", outside.format("0")]
    assert [one for one in found if isinstance(one, Event)] == [sent[0], sent[3]]
    assert all(isinstance(one, Event) or one.result is Result.REJECTED for one in found)


def test_without_a_scale_all_pass() -> None:
    sent: list[Event | Outcome] = [rate(99.0), rate(None)]
    assert on_scale(sent, None) == sent
    assert on_scale(sent, Feedback(rules=(CLICK,))) == sent
    assert on_scale([], Feedback(rules=(RULE,))) == []


@pytest.mark.parametrize(("scale", "label"), [(None, 0.0), ((1.0, 5.0), None), ((0.0, 5.0), 0.0), ((-2.0, 2.0), 0.0), ((-5.0, -1.0), None)])
def test_what_nobody_rated_is_0_only_where_0_is_a_rating(scale: tuple[float, float] | None, label: float | None) -> None:
    rule = Rule(task="t", window=1, positive_when="kind = 'rate'", value=Amount.LAST, range=scale)
    assert rule.nothing == label
