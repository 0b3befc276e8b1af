"""Durations, rules and their JSON, one case a line: what is understood, what is refused, and what the refusal names."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.errors import UserError
from umbel.feedback import COLUMNS, LONGEST, SKEW, UNITS, Amount, Attribution, Feedback, Rule, duration, from_json
from umbel.run.feeding import FeedbackSection, RuleSection

RULE = Rule(task="click", window=5, positive_when="kind = 'click'")
PLAIN: dict[str, Any] = {
    "task": "click", "window": 5, "positive_when": "kind = 'click'", "value": "any", "attribution": "last", "range": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0ms", 0),
        ("1ms", 1),
        ("0.4ms", 0),
        ("0.6ms", 1),
        ("1s", 1_000),
        ("0.001s", 1),
        ("1m", 60_000),
        ("0.5m", 30_000),
        ("1h", 3_600_000),
        ("24h", 86_400_000),
        ("1d", 86_400_000),
        ("7d", 604_800_000),
        ("007d", 604_800_000),
        ("36525d", LONGEST),
        ("30 m", 1_800_000),
        ("30\tm", 1_800_000),
        ("\n30m\n", 1_800_000),
    ],
)
def test_a_time_is_a_number_and_a_unit(text: str, found: int) -> None:
    assert duration(text) == found


@pytest.mark.parametrize(
    "text",
    ["d", "1", "1.", ".5h", "-1d", "+1d", "1,5h", "1w", "1M", "1H", "1 hour", "1h30m", "1h 30m", "1_000s", "1e3s", "infd", "nand", "1dd"],
)
def test_what_is_no_time_is_named(text: str) -> None:
    with pytest.raises(UserError) as caught:
        duration(text, where="tasks.buy.feedback.window")
    assert caught.value.what == f"tasks.buy.feedback.window: {text!r} is no time"
    assert caught.value.mend == "write a number and one of ms, s, m, h, d, such as 30m"


@pytest.mark.parametrize("text", ["36526d", "36525.1d", "9" * 30 + "ms", "9" * 400 + "d"])
def test_a_time_of_more_than_a_century_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(UserError, match="is longer than a century; give at most 36525d") as caught:
        duration(text, where="feedback.lateness")
    assert str(caught.value).startswith("feedback.lateness: ")
    assert len(str(caught.value)) < 120


@given(st.integers(0, 30_000), st.sampled_from(sorted(UNITS)))
def test_a_whole_number_of_any_unit_is_exact(number: int, unit: str) -> None:
    assert duration(f"{number}{unit}") == number * UNITS[unit]


@given(st.text(max_size=8))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        found = duration(text)
    except UserError:
        return
    assert 0 <= found <= LONGEST
    assert text.strip()[-1] in "smhd"


def test_units_are_multiples_of_each_other() -> None:
    assert [UNITS["s"] / UNITS["ms"], UNITS["m"] / UNITS["s"], UNITS["h"] / UNITS["m"], UNITS["d"] / UNITS["h"]] == [1000, 60, 60, 24]
    assert SKEW == 300_000
    assert COLUMNS == ("kind", "value")


@pytest.mark.parametrize("window", [0, -1, -86_400_000])
def test_a_window_is_above_nothing(window: int) -> None:
    with pytest.raises(UserError, match=rf"tasks\.buy\.feedback\.window: {window}; give a time above 0"):
        Rule(task="buy", window=window, positive_when="kind = 'buy'")


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("price > 3", "an event has no 'price'; known: kind, value"),
        ("valeu > 3", "an event has no 'valeu'; did you mean 'value'?"),
        ("kinds = 'a'", "an event has no 'kinds'; did you mean 'kind'?"),
        ("kind = 'a' AND item = 'b'", "an event has no 'item'"),
        ("LENGTH(kind) > 3", "'LENGTH' at character 1"),
        ("kind LIKE 'a%'", "'LIKE' at character 6"),
    ],
)
def test_a_rule_reads_what_an_event_has(condition: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        Rule(task="buy", window=1, positive_when=condition)
    assert str(caught.value).startswith("tasks.buy.feedback.positive_when: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "condition",
    ["value >= 3", "kind IN ('a', 'b')", "value BETWEEN 1 AND 2", "value IS NULL", "NOT kind = 'a'", "COALESCE(value, 0) > 1"],
)
def test_conditions_of_the_closed_list_are_kept_as_they_are_written(condition: str) -> None:
    assert Rule(task="buy", window=1, positive_when=condition).positive_when == condition


# as JSON


@pytest.mark.parametrize("amount", list(Amount))
@pytest.mark.parametrize("attribution", list(Attribution))
def test_every_rule_survives_json(amount: Amount, attribution: Attribution) -> None:
    rule = Rule(task="t", window=7, positive_when="value > 1", value=amount, attribution=attribution)
    told = Feedback(rules=(rule, RULE), lateness=9, skew=8, user="u", item="i", time="t", request="r", labels={"click": "is_click"})
    found = from_json(told.to_json())
    assert found == told
    assert isinstance(found.rules[0].value, Amount)
    assert isinstance(found.rules[0].attribution, Attribution)


def test_the_json_says_every_field_and_reading_it_leaves_it_alone() -> None:
    content = Feedback(rules=(RULE,)).to_json()
    assert content == {
        "rules": (PLAIN,), "lateness": 3_600_000, "skew": 300_000, "user": "user", "item": "item", "time": "time_ms", "request": None,
        "labels": {},
    }  # fmt: skip
    from_json(content)
    assert content["rules"] == (PLAIN,)


def test_what_json_leaves_out_has_its_default() -> None:
    assert from_json({}) == Feedback(rules=())
    assert from_json({"rules": [PLAIN], "lateness": 3}) == Feedback(rules=(RULE,), lateness=3)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"rules": ["click"]}, "feedback: "),
        ({"rules": [3]}, "feedback: "),
        ({"rules": 3}, "feedback: "),
        ({"rules": [{**PLAIN, "value": "mean"}]}, "feedback: 'mean' is not a valid Amount"),
        ({"rules": [{**PLAIN, "attribution": "first"}]}, "feedback: 'first' is not a valid Attribution"),
        ({"rules": [{"task": "click"}]}, "feedback: 'value'"),
        ({"rules": [{**PLAIN, "extra": 1}]}, "unexpected keyword argument 'extra'"),
        ({"rules": [{**PLAIN, "window": "5"}]}, "feedback: "),
        ({"late": 3}, "unexpected keyword argument 'late'"),
        ({"rules": [{**PLAIN, "window": 0}]}, "tasks.click.feedback.window: 0"),
    ],
)
def test_what_is_no_feedback_is_refused(content: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        from_json(content)


# sections of a run file


@pytest.mark.parametrize(
    ("section", "window", "value", "attribution"),
    [
        (RuleSection(window="30m", positive_when="value > 1"), 1_800_000, Amount.ANY, Attribution.LAST),
        (RuleSection(window="1d", positive_when="value > 1", value=Amount.SUM), 86_400_000, Amount.SUM, Attribution.LAST),
        (RuleSection(window="5ms", positive_when="value > 1", value=Amount.MAX), 5, Amount.MAX, Attribution.LAST),
        (RuleSection(window="5s", positive_when="value > 1", attribution=Attribution.REQUEST), 5_000, Amount.ANY, Attribution.REQUEST),
    ],
)
def test_a_section_is_its_rule(section: RuleSection, window: int, value: Amount, attribution: Attribution) -> None:
    assert section.rule("buy") == Rule(task="buy", window=window, positive_when="value > 1", value=value, attribution=attribution)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (FeedbackSection(lateness="soon"), r"^feedback\.lateness: 'soon' is no time"),
        (FeedbackSection(skew="soon"), r"^feedback\.skew: 'soon' is no time"),
        (FeedbackSection(lateness="x", skew="y"), r"^feedback\.lateness: 'x' is no time"),
        (FeedbackSection(skew="99999d"), r"^feedback\.skew: '99999d' is longer than a century"),
    ],
)
def test_a_section_names_the_key_that_is_wrong(section: FeedbackSection, said: str) -> None:
    with pytest.raises(UserError, match=said):
        section.feedback((RULE,), columns={}, labels={})


def test_a_section_hands_on_columns_and_labels() -> None:
    columns = {"user": "user_id", "item": "video", "time": "at"}
    made = FeedbackSection(lateness="2h", skew="1s").feedback((RULE,), columns=columns, labels={"click": "is_click"})
    assert (made.rules, made.lateness, made.skew, made.labels) == ((RULE,), 7_200_000, 1_000, {"click": "is_click"})
    assert (made.user, made.item, made.time) == ("user_id", "video", "at")
    assert (made.label("click"), made.label("other")) == ("is_click", "other")
    assert FeedbackSection().feedback((RULE,), columns={}, labels={}) == Feedback(rules=(RULE,))
