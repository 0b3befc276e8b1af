"""The keys of a run file that say how events become labels, down to the bundle that carries them."""

from __future__ import annotations

from typing import Any

import pytest

from umbel.errors import UserError
from umbel.feedback import Amount, Attribution, Feedback, Rule, duration, from_json
from umbel.run import resolve
from umbel.run.settings import Settings, parse

CLICK = {"window": "30m", "positive_when": "kind = 'click'"}
WATCH = {"window": "1d", "positive_when": "kind = 'watch' AND value >= 3", "value": "sum", "attribution": "request"}


def settings(tasks: dict[str, Any], **more: dict[str, str]) -> Settings:
    tree = {
        "data": {"log": "log.parquet", "user": "user_id", "item": "video_id", "time": "time_ms"}, "fields": {"user_id": {"kind": "id"}},
        "tasks": tasks, "split": {"by": "time", "valid": 1, "test": 2}, "model": {"recipe": "mmoe"}, **more,
    }  # fmt: skip
    return parse(tree, where="run.toml")


def test_a_run_file_says_the_rules() -> None:
    given = settings(
        {"click": {"label": "is_click", "feedback": CLICK}, "watch": {"kind": "regression", "feedback": WATCH}, "like": {}},
        feedback={"lateness": "2h", "skew": "1m"},
    )
    assert resolve.feedback(given) == Feedback(
        rules=(
            Rule(task="click", window=1_800_000, positive_when="kind = 'click'"),
            Rule(
                task="watch", window=86_400_000, positive_when="kind = 'watch' AND value >= 3", value=Amount.SUM,
                attribution=Attribution.REQUEST,
            ),
        ),
        lateness=7_200_000, skew=60_000, user="user_id", item="video_id", time="time_ms", labels={"click": "is_click"},
    )  # fmt: skip


def test_without_rules_there_are_none() -> None:
    assert resolve.feedback(settings({"click": {}})) is None


def test_columns_that_a_run_file_does_not_name_have_plain_names() -> None:
    given = settings({"click": {"feedback": CLICK}}, data={"log": "x.csv"})
    found = resolve.feedback(given)
    assert found is not None
    assert (found.user, found.item, found.time, found.lateness, found.skew) == ("user", "item", "time_ms", 3_600_000, 300_000)


def test_the_request_of_a_training_is_the_request_of_the_service() -> None:
    found = resolve.feedback(settings({"click": {"feedback": CLICK}}, data={"log": "x.csv", "request": "visit"}))
    assert found is not None
    assert found.request == "visit"


def test_events_make_a_label_and_not_what_an_expression_reads() -> None:
    spend = {"sql": "amount / 10", "kind": "regression", "feedback": WATCH}
    given = settings({"click": {}, "spend": spend})
    says = r"""^tasks\.spend: both 'sql' and 'feedback', .*; have the label itself in a column of the log: label = "\.\.\."; values of .*"""
    with pytest.raises(UserError, match=says):
        resolve.feedback(given)
    with pytest.raises(UserError, match=says):
        resolve.check(given)
    resolve.check(settings({"spend": {**spend, "feedback": None}}))
    resolve.check(settings({"spend": {"label": "tens", "kind": "regression", "feedback": WATCH}}))


def test_rules_survive_the_resolved_run_file() -> None:
    import tomllib

    given = settings({"click": {"feedback": CLICK}})
    assert parse(tomllib.loads(given.to_toml()), where="again") == given


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"window": "soon"}, r"tasks\.click\.feedback\.window: 'soon' is no time; write a number and one of ms, s, m, h, d"),
        ({"window": "0s"}, r"tasks\.click\.feedback\.window: 0; give a time above 0"),
        ({"positive_when": "price > 3"}, r"tasks\.click\.feedback\.positive_when: an event has no 'price'"),
        ({"positive_when": "kind LIKE 'c%'"}, r"tasks\.click\.feedback\.positive_when: 'LIKE'"),
    ],
)
def test_a_wrong_rule_is_found_before_anything_is_read(change: dict[str, str], what: str) -> None:
    given = settings({"click": {"feedback": {**CLICK, **change}}})
    with pytest.raises(UserError, match=what):
        resolve.check(given)


def test_an_unknown_key_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown key 'tasks\.click\.feedback\.windows'; did you mean 'window'\?"):
        settings({"click": {"feedback": {**CLICK, "windows": "3h"}}})
    with pytest.raises(UserError, match=r"unknown key 'feedback\.late'; did you mean 'lateness'\?"):
        settings({"click": {}}, feedback={"late": "3h"})


@pytest.mark.parametrize(("key", "known"), [("value", "'any', 'sum', 'max' or 'last'"), ("attribution", "'request' or 'last'")])
def test_an_unknown_word_is_named_with_those_there_are(key: str, known: str) -> None:
    with pytest.raises(UserError, match=rf"tasks\.click\.feedback\.{key} = 'first'; input should be {known}"):
        settings({"click": {"feedback": {**CLICK, key: "first"}}})


def test_a_wrong_lateness_is_named() -> None:
    with pytest.raises(UserError, match=r"feedback\.lateness: 'never' is no time"):
        resolve.feedback(settings({"click": {"feedback": CLICK}}, feedback={"lateness": "never"}))


def test_rules_as_json() -> None:
    found = resolve.feedback(settings({"click": {"label": "c", "feedback": CLICK}, "watch": {"feedback": WATCH}}))
    assert found is not None
    assert from_json(found.to_json()) == found
    broken = found.to_json()
    del broken["rules"][0]["value"]
    with pytest.raises(UserError, match="feedback: 'value'"):
        from_json(broken)


def test_a_rule_says_what_it_counts() -> None:
    rule = Rule(task="watch", window=1, positive_when="kind = 'watch'", value=Amount.SUM)
    assert (rule.attribution, rule.value) == (Attribution.LAST, Amount.SUM)
    with pytest.raises(UserError, match="closed list of functions"):
        Rule(task="watch", window=1, positive_when="LENGTH(kind) > 3")


def test_a_label_has_the_name_of_its_task_unless_told() -> None:
    feedback = Feedback(rules=(), labels={"click": "is_click"})
    assert (feedback.label("click"), feedback.label("buy")) == ("is_click", "buy")


@pytest.mark.parametrize(("text", "found"), [("90s", 90_000), ("1.5h", 5_400_000), (" 2 d ", 172_800_000), ("5ms", 5)])
def test_a_duration(text: str, found: int) -> None:
    assert duration(text) == found


@pytest.mark.parametrize("text", ["", "5", "m", "-3s", "5 weeks", "1e3s"])
def test_no_duration(text: str) -> None:
    with pytest.raises(UserError, match="is no time; write a number and one of ms, s, m, h, d"):
        duration(text)
