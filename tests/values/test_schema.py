"""A schema says what is wrong with itself, and multiplies chains of sample spaces in log space."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from umbel.errors import UserError, nearest
from umbel.kinds import BINARY, REGRESSION, TASK_KINDS, Labels, Ordinal, ZeroInflated
from umbel.schema import Field, FieldKind, Schema, Task

USER = Field("user", FieldKind.ID)
VIDEO = Field("video", FieldKind.ID)
CLICK = Task("click")
BUY = Task("buy", given="click")
FIT = Task("keep", given="buy")


def schema(*fields: Field, tasks: tuple[Task, ...] = (CLICK,)) -> Schema:
    return Schema(fields or (USER,), tasks)


def test_a_field_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        USER.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "coded", "many", "size"),
    [
        (FieldKind.ID, True, False, 1),
        (FieldKind.CATEGORY, True, False, 1),
        (FieldKind.NUMBER, False, False, 1),
        (FieldKind.BAG, True, True, 7),
        (FieldKind.SEQUENCE, True, True, 7),
        (FieldKind.VECTOR, False, False, 3),
    ],
)
def test_what_a_kind_takes(kind: FieldKind, coded: bool, many: bool, size: int) -> None:
    field = Field("f", kind, length=7, width=3)
    assert (field.coded, field.many, field.size) == (coded, many, size)


def test_tables_are_owned_once() -> None:
    watched = Field("watched", FieldKind.SEQUENCE, like="video", target="video")
    age = Field("age", FieldKind.NUMBER)
    assert schema(USER, VIDEO, watched, age).tables == ("user", "video")
    assert watched.table == "video"


def test_outputs_follow_the_kinds() -> None:
    tasks = (Task("a"), Task("b", kind=ZeroInflated()), Task("c", kind=Ordinal(5)), Task("d", kind=REGRESSION))
    assert schema(tasks=tasks).outputs == (slice(0, 1), slice(1, 4), slice(4, 8), slice(8, 9))
    assert schema(tasks=tasks).answers == (slice(0, 1), slice(1, 2), slice(2, 7), slice(7, 8))


def test_kinds_are_found_by_name() -> None:
    assert TASK_KINDS["binary"]() == BINARY
    assert TASK_KINDS["regression"]() == REGRESSION
    assert BINARY.labels == Labels(0.0, 1.0, whole=True)


def test_a_chain_begins_outside() -> None:
    chained = schema(tasks=(CLICK, BUY, FIT))
    assert chained.chain("keep") == ("click", "buy", "keep")
    assert chained.chain("click") == ("click",)


def test_the_marginal_is_the_product_of_the_chain() -> None:
    chained = schema(tasks=(CLICK, BUY, FIT))
    logits = np.array([[0.0, np.log(3.0), -np.log(3.0)], [2.0, -1.0, 0.5]])
    p = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(np.exp(chained.marginal(logits, "keep")), p.prod(axis=1), rtol=1e-12)
    np.testing.assert_allclose(np.exp(chained.marginal(logits, "keep"))[0], 0.5 * 0.75 * 0.25, rtol=1e-12)
    np.testing.assert_allclose(np.exp(chained.marginal(logits, "click")), p[:, 0], rtol=1e-12)


def test_the_marginal_does_not_underflow() -> None:
    chained = schema(tasks=(CLICK, BUY))
    assert chained.marginal(np.array([[-600.0, -600.0]]), "buy")[0] == pytest.approx(-1200.0)


@pytest.mark.parametrize(
    ("fields", "tasks", "message"),
    [
        ((), (CLICK,), "fields: none; declare at least one"),
        ((USER,), (), "tasks: none; declare at least one"),
        ((USER, USER), (CLICK,), "fields: 'user' is declared twice"),
        ((USER,), (CLICK, CLICK), "tasks: 'click' is declared twice"),
        ((USER, Field("w", FieldKind.SEQUENCE, like="usre")), (CLICK,), "fields.w.like: no field 'usre'; did you mean 'user'?"),
        ((USER, Field("w", FieldKind.NUMBER, like="user")), (CLICK,), "fields.w: like = 'user' owns no vocabulary"),
        ((Field("n", FieldKind.NUMBER), Field("w", FieldKind.ID, like="n")), (CLICK,), "fields.w: like = 'n' owns no vocabulary"),
        ((USER, VIDEO, Field("w", FieldKind.SEQUENCE, target="video")), (CLICK,), "fields.w: target 'video' has another vocabulary"),
        ((Field("v", FieldKind.VECTOR),), (CLICK,), "fields.v: a vector needs its width"),
        ((Field("s", FieldKind.SEQUENCE, length=0),), (CLICK,), "fields.s: length and min_count are at least 1"),
        ((Field("s", FieldKind.ID, column="a", sql="b"),), (CLICK,), "fields.s: both 'column' and 'sql'"),
        ((USER,), (Task("a", given="b"), Task("b", given="a")), "tasks.a: 'given' runs in a circle"),
        ((USER,), (Task("a", given="clik"), CLICK), "tasks.a.given: no task 'clik'; did you mean 'click'?"),
        ((VIDEO, Field("w", FieldKind.SEQUENCE, target="vidoe")), (CLICK,), "fields.w.target: no field 'vidoe'; did you mean 'video'?"),
        ((USER,), (Task("a", given="b"), Task("b", given="clik"), CLICK), "tasks.b.given: no task 'clik'; did you mean 'click'?"),
        ((USER,), (Task("t", kind=REGRESSION), Task("a", given="t")), "tasks.a: given 't' is not binary"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(fields: tuple[Field, ...], tasks: tuple[Task, ...], message: str) -> None:
    with pytest.raises(UserError) as caught:
        Schema(fields, tasks)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_like_chain_is_refused() -> None:
    second = Field("b", FieldKind.ID, like="user")
    with pytest.raises(UserError, match="owns no vocabulary"):
        schema(USER, second, Field("c", FieldKind.ID, like="b"))


def test_an_error_is_one_line() -> None:
    assert str(UserError("a\nb", mend="c\nd")) == "a b; c d"


def test_the_nearest_name_or_all_names() -> None:
    assert nearest("lik", ["like", "click"]) == "did you mean 'like'?"
    assert nearest("xyz", ["like", "click"]) == "known: click, like"
    assert nearest("xyz", []) == "known: none"
