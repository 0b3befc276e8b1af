"""A statistic enters every recipe as a vector of its width does: the same parameters, the same scores, the same reach."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.everykind import FIELDS, NAMES, PAIRS, VOCABULARY
from tests.everykind import fields as random_rows

from umbel.data.assemble import Assembler
from umbel.data.vocab import layout
from umbel.errors import UserError
from umbel.nn.recommender import Recommender, Sizes
from umbel.nn.routing import PARADIGMS
from umbel.recipes import RECIPES
from umbel.run import resolve
from umbel.run.settings import parse
from umbel.schema import Field, FieldKind, Schema, Statistic, Task

TASKS = (Task("click"), Task("like"))
PAST = Field("picture", FieldKind.STATISTIC, statistic=Statistic(("user", "item"), ("click", "like")))
SIZES = Sizes(VOCABULARY, dim=3, expert=(6,), tower=(4,), shared=1)


def schema(last: Field) -> Schema:
    return Schema((*FIELDS[:-1], last), TASKS)


def model(recipe: str, paradigm: str | None, last: Field) -> Recommender:
    torch.manual_seed(0)
    views = {} if paradigm is None else {"paradigm": PARADIGMS[paradigm]}
    made: Recommender = RECIPES[recipe](schema(last), SIZES, **views)
    return made.eval()


@pytest.mark.parametrize(("recipe", "paradigm"), PAIRS)
def test_every_recipe_reads_it_as_a_vector(recipe: str, paradigm: str | None) -> None:
    rows = random_rows(12, missing=False)
    vector, statistic = (model(recipe, paradigm, last) for last in (FIELDS[-1], PAST))
    own, other = dict(vector.named_parameters()), dict(statistic.named_parameters())
    assert {name: one.shape for name, one in own.items()} == {name: one.shape for name, one in other.items()}
    torch.testing.assert_close(statistic(rows), vector(rows), rtol=0, atol=0)
    changed = {**rows, "picture": rows["picture"] + 1.0}
    assert not torch.equal(statistic(changed), statistic(rows))


def test_its_columns_lie_among_the_numbers_and_come_out_wide() -> None:
    one = schema(PAST)
    assert layout(one, coded=False) == {"age": slice(0, 1), "price": slice(1, 2), "picture": slice(2, 5)}
    slots = sum(field.size for field in one.fields if field.coded)
    numbers = torch.arange(10.0).view(2, 5)
    labels, group = torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64)
    codes = torch.zeros(2, slots, dtype=torch.int32)
    batch = Assembler(one).batch(codes, numbers, labels=labels, group=group, index=torch.arange(2))
    assert batch.fields["picture"].tolist() == [[2.0, 3.0, 4.0], [7.0, 8.0, 9.0]]
    assert batch.fields["age"].tolist() == [0.0, 5.0]


def test_it_owns_no_vocabulary() -> None:
    one = schema(PAST)
    assert "picture" not in one.tables
    assert not PAST.coded
    assert PAST.wide
    assert PAST.size == 3
    with pytest.raises(UserError, match="owns no vocabulary"):
        Schema((PAST, Field("user", FieldKind.ID, like="picture")), TASKS)


def run_file(field: dict[str, Any], **data: Any) -> Schema:  # noqa: ANN401
    tree = {
        "data": {"log": "log.parquet", "time": "t", **data},
        "fields": {"user": {"kind": "id"}, "past": {"kind": "statistic", **field}},
        "tasks": {name: {} for name in NAMES[:2]} | {"genre": {"kind": {"name": "multiclass", "classes": 3}}},
        "split": {"by": "user", "valid": 0.1, "test": 0.1},
        "model": {"recipe": "stem"},
    }
    return resolve.schema(parse(tree, where="here"))


def test_a_run_file_says_one() -> None:
    found = run_file({"by": ["user", "hour"]}).field("past")
    assert found.statistic == Statistic(("user", "hour"), NAMES[:2])  # all tasks that have a mean
    keys = {"tasks": ["click"], "prior": 3.5, "window": 60, "mode": "time", "folds": 4, "seed": 9}
    expected = Statistic(("user",), ("click",), prior=3.5, window=60.0, mode="time", folds=4, seed=9)
    assert run_file({"by": ["user"], **keys}).field("past").statistic == expected


def test_a_statistic_knows_whether_it_goes_by_time() -> None:
    plain = Statistic(("user",), ("click",))
    assert plain.timed("t")
    assert not plain.timed(None)
    assert not replace(plain, mode="folds").timed("t")
    assert replace(plain, mode="time").timed("t")


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({}, "by names none"),
        ({"by": ["user"], "tasks": ["genre"]}, "has classes"),
        ({"by": ["user"], "mode": "loo"}, "leaks"),
        ({"by": ["user"], "mode": "tme"}, "did you mean 'time'"),
        ({"by": ["user"], "prior": -2}, "prior = -2"),
    ],
)
def test_a_run_file_says_what_it_cannot_be(field: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        run_file(field)


def test_other_fields_take_none_of_its_keys() -> None:
    tree = {
        "data": {"log": "log.parquet"}, "fields": {"user": {"kind": "id", "by": ["user"]}}, "tasks": {"click": {}},
        "split": {"by": "user", "valid": 0.1, "test": 0.1}, "model": {"recipe": "stem"},
    }  # fmt: skip
    with pytest.raises(UserError, match=r"fields\.user: by of a id"):
        resolve.schema(parse(tree, where="here"))
