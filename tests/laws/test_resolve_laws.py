"""Every setting of a run file arrives in the object that it is for: none is dropped, none is mixed up with another."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.balance.named import BALANCERS, takes_of
from umbel.bundle import Built
from umbel.data.source import Join
from umbel.data.split import ByColumn, ByTime, ByUser
from umbel.errors import UserError
from umbel.kinds import TASK_KINDS
from umbel.learn.optim import RowAdagrad, RowAdam
from umbel.learn.plan import Plan
from umbel.learn.schedules import Cosine, Exponential, Plateau
from umbel.learn.taps import At
from umbel.nn.losses import Denominator
from umbel.nn.recommender import Sizes
from umbel.run import resolve
from umbel.run.balancing import BalanceSection
from umbel.run.settings import FitSection, InteractSection, JoinSection, ModelSection, SequenceSection, Settings, TaskSection, parse
from umbel.schema import FieldKind, Task

quick = settings(deadline=None, max_examples=40)
BASE: dict[str, Any] = {
    "data": {"log": "log.parquet", "user": "u", "item": "i", "time": "t"},
    "fields": {"u": {"kind": "id"}, "i": {"kind": "id"}, "age": {"kind": "number"}},
    "tasks": {"click": {}, "buy": {"given": "click"}, "spent": {"kind": "regression"}},
    "split": {"by": "user", "valid": 0.1, "test": 0.1},
    "model": {"recipe": "mmoe"},
}
ROWS = {"u": 5, "i": 7}


def told(**sections: Any) -> Settings:  # noqa: ANN401
    return parse({**BASE, **sections}, where="here")


# the plan

PLANS: dict[str, tuple[object, str, object]] = {
    "epochs": (7, "epochs", 7),
    "patience": (5, "patience", 5),
    "rate": (0.25, "rate", 0.25),
    "schedule": ({"name": "plateau", "factor": 0.5, "patience": 1}, "schedule", Plateau(0.5, 1)),
    "l2": (0.125, "l2", 0.125),
    "clip": (3.5, "clip", 3.5),
    "decay": (0.5, "decay", 0.5),
    "fresh": (True, "fresh", True),
    "exact": (True, "exact", True),
    "precision": ("bfloat16", "precision", torch.bfloat16),
    "compiled": (True, "compiled", True),
    "accumulate": (4, "accumulate", 4),
    "denominator": ("rows", "denominator", Denominator.ROWS),
    "seed": (11, "seed", 11),
    "minutes": (0.5, "pause", 30.0),
    "device": ("meta", "device", torch.device("meta")),
}
ELSEWHERE = {"keep", "rows", "tables", "balancer", "batch", "threads", "start", "replay", "window"}


@pytest.mark.parametrize("key", PLANS)
def test_a_setting_of_fit_changes_what_it_is_for_and_nothing_else(key: str) -> None:
    given, name, expected = PLANS[key]
    usual, found = resolve.plan(FitSection()), resolve.plan(FitSection.model_validate({key: given}))
    assert getattr(usual, name) != expected
    assert getattr(found, name) == expected
    for other in dataclass_fields(Plan):
        if other.name not in (name, "rows"):
            assert getattr(found, other.name) == getattr(usual, other.name), other.name


def test_no_setting_of_fit_is_forgotten() -> None:
    assert set(FitSection.model_fields) - ELSEWHERE == set(PLANS)


def test_the_usual_plan_is_what_a_plan_is_by_itself() -> None:
    """But for the pause, which Python does not ask for."""
    plain, found = Plan(), resolve.plan(FitSection())
    for one in dataclass_fields(Plan):
        if one.name not in ("rows", "pause"):
            assert getattr(found, one.name) == getattr(plain, one.name), one.name
    assert found.pause == 300.0
    assert isinstance(found.rows(torch.zeros(2, 2)), RowAdam)
    assert isinstance(resolve.plan(FitSection(rows="adagrad")).rows(torch.zeros(2, 2)), RowAdagrad)
    assert resolve.plan(FitSection(tables="shards")).shards is None, "a process by itself holds all"


@pytest.mark.parametrize(("fit", "key"), [({"exact": True}, "fit.exact"), ({"fresh": True}, "fit.fresh"), ({"start": "x"}, "fit.start")])
def test_what_needs_the_whole_table_is_not_shared_out(fit: dict[str, object], key: str) -> None:
    with pytest.raises(UserError) as raised:
        resolve.check(told(fit={**fit, "tables": "shards"}))
    assert str(raised.value) == f'fit.tables = "shards": {key} needs the whole table; leave one of both out'


def test_dense_adam_over_tables_knows_no_other_optimiser_of_rows() -> None:
    with pytest.raises(UserError) as raised:
        resolve.check(told(fit={"exact": True, "rows": "adagrad"}))
    assert str(raised.value) == "fit.rows = 'adagrad': fit.exact trains tables by dense Adam; leave one of both out"
    for fit in ({"exact": True}, {"rows": "adagrad"}, {"exact": True, "rows": "adam"}):
        resolve.check(told(fit=fit))


def test_a_window_is_of_a_batch_or_more_and_of_no_episodes() -> None:
    with pytest.raises(UserError) as raised:
        resolve.check(told(fit={"window": 4095}))
    assert str(raised.value) == "fit.window = 4095: less than a batch; say 4096 rows (fit.batch) or more, best many"
    new = {"fields": {"u": {"kind": "id"}, "i": {"kind": "id"}}, "data": {"log": "log.parquet", "user": "u", "item": "i"}, "episodes": {}}
    with pytest.raises(UserError) as raised:
        resolve.check(told(fit={"window": 5000}, **new))
    assert str(raised.value) == "fit.window = 5000: [episodes] holds the rows of all users; leave it out"
    for fit in ({"window": 4096}, {"window": 9, "batch": 9}, {}):
        resolve.check(told(fit=fit))


def test_a_step_of_episodes_is_of_one_batch() -> None:
    new = {"fields": {"u": {"kind": "id"}, "i": {"kind": "id"}}, "data": {"log": "log.parquet", "user": "u", "item": "i"}, "episodes": {}}
    with pytest.raises(UserError) as raised:
        resolve.check(told(fit={"accumulate": 2}, **new))
    assert str(raised.value) == "fit.accumulate = 2: a step of [episodes] is of one batch; raise episodes.users instead"
    resolve.check(told(**new))
    resolve.check(told(fit={"accumulate": 2}))


# the model

SIZED: dict[str, tuple[object, object]] = {
    "dim": (5, 5), "expert": ([9, 3], (9, 3)), "gate": ([6], (6,)), "tower": ([], ()), "specific": (3, 3), "shared": (4, 4),
    "layers": (2, 2), "dropout": (0.5, 0.5), "id_dropout": (0.25, 0.25),
}  # fmt: skip
PIECES = {"recipe": "ple", "views": "own", "interact": "dcn", "sequence": "din", "head": "aitm"}


@pytest.mark.parametrize("key", SIZED)
def test_a_size_is_that_size(key: str) -> None:
    given, expected = SIZED[key]
    usual, found = (resolve.built(told(model={"recipe": "mmoe", **one}), ROWS).sizes for one in ({}, {key: given}))
    assert getattr(usual, key) != expected
    assert getattr(found, key) == expected
    assert {one.name for one in dataclass_fields(Sizes) if getattr(usual, one.name) != getattr(found, one.name)} == {key}


@pytest.mark.parametrize("key", PIECES)
def test_a_piece_is_that_piece(key: str) -> None:
    usual, found = (resolve.built(told(model={"recipe": "mmoe", **one}), ROWS) for one in ({}, {key: PIECES[key]}))
    assert getattr(found, key) == PIECES[key]
    assert {one.name for one in dataclass_fields(Built) if getattr(usual, one.name) != getattr(found, one.name)} == {key}


def test_no_setting_of_model_is_forgotten() -> None:
    assert set(ModelSection.model_fields) == {*SIZED, *PIECES, "interact_sizes", "sequence_sizes", "options"}


@quick
@given(layers=st.integers(1, 9), hidden=st.integers(1, 99), heads=st.integers(1, 9), rank=st.none() | st.integers(1, 9))
def test_sizes_of_pieces_arrive(layers: int, hidden: int, heads: int, rank: int | None) -> None:
    inner = {"layers": layers, "hidden": hidden, "heads": heads}
    model = {"recipe": "mmoe", "interact_sizes": inner | ({} if rank is None else {"rank": rank}), "sequence_sizes": inner}
    found = resolve.built(told(model=model), ROWS)
    assert (found.interact_sizes.layers, found.interact_sizes.hidden, found.interact_sizes.heads) == (layers, hidden, heads)
    assert found.interact_sizes.rank == rank
    assert (found.sequence_sizes.layers, found.sequence_sizes.hidden, found.sequence_sizes.heads) == (layers, hidden, heads)
    assert set(InteractSection.model_fields) == {"layers", "rank", "hidden", "heads"}
    assert set(SequenceSection.model_fields) == {"layers", "hidden", "heads"}


def test_the_rows_of_tables_are_the_vocabularies() -> None:
    assert resolve.built(told(), ROWS).sizes.vocabulary == ROWS


def test_options_that_are_not_given_are_not_there() -> None:
    assert resolve.built(told(), ROWS).options == {}
    found = resolve.built(told(model={"recipe": "grouped", "options": {"groups": [["click", "buy"], ["spent"]]}}), ROWS)
    assert found.options == {"groups": (("click", "buy"), ("spent",))}


# fields, tasks, joins, splits

NUMBERS: dict[str, object] = {"label": "is_it", "sql": "a + b", "weight": 2.5, "auxiliary": True, "negatives": 0.5, "given": "click"}
RANGE = {"range": (1.0, 5.0)}  # of what is no event


@pytest.mark.parametrize("key", NUMBERS)
def test_a_setting_of_a_task_is_the_tasks(key: str) -> None:
    usual, found = (resolve.schema(told(tasks={**BASE["tasks"], "more": one})).task("more") for one in ({}, {key: NUMBERS[key]}))
    assert getattr(found, key) == NUMBERS[key]
    assert {one.name for one in dataclass_fields(Task) if getattr(usual, one.name) != getattr(found, one.name)} == {key}


def test_a_range_is_the_tasks() -> None:
    found = resolve.schema(told(tasks={**BASE["tasks"], "more": {"kind": "regression", **RANGE}})).task("more")
    assert found.range == RANGE["range"]


def test_no_setting_of_a_task_is_forgotten() -> None:
    assert set(TaskSection.model_fields) == {*NUMBERS, *RANGE, "kind", "loss", "known", "unwanted", "feedback"}
    assert set(NUMBERS) | {*RANGE, "name", "kind", "loss"} == {one.name for one in dataclass_fields(Task)}


def test_the_order_of_fields_and_tasks_is_the_files() -> None:
    found = resolve.schema(told(fields={"z": {"kind": "id"}, "a": {"kind": "number"}}, tasks={"z": {"label": "y"}, "a": {"label": "b"}}))
    assert [field.name for field in found.fields] == ["z", "a"]
    assert [task.name for task in found.tasks] == ["z", "a"]


@pytest.mark.parametrize("kind", [kind for kind in FieldKind if kind is not FieldKind.STATISTIC])
def test_every_kind_of_field_can_be_asked_for(kind: FieldKind) -> None:
    own = {"kind": kind.value, "column": "raw", "min_count": 4, "length": 6, **({"width": 3} if kind is FieldKind.VECTOR else {})}
    field = resolve.schema(told(fields={"x": own})).field("x")
    assert (field.kind, field.column, field.min_count, field.length) == (kind, "raw", 4, 6)
    assert field.width == (3 if kind is FieldKind.VECTOR else 0)


def test_joins_keep_their_order_and_their_time() -> None:
    joins = [{"table": "a.csv", "on": "i"}, {"table": "b.csv", "on": "u", "time": "since"}]
    found = resolve.source(told(data={**BASE["data"], "join": joins}))
    assert found.joins == (Join("a.csv", "i"), Join("b.csv", "u", time="since"))
    assert (found.log, found.user, found.item, found.time) == ("log.parquet", "u", "i", "t")
    assert set(JoinSection.model_fields) == {"table", "on", "time"}


@quick
@given(valid=st.floats(0.01, 0.4), test=st.floats(0.01, 0.4), seed=st.integers(0, 2**31))
def test_a_split_by_user_is_its_shares(valid: float, test: float, seed: int) -> None:
    assert resolve.split(told(split={"by": "user", "valid": valid, "test": test, "seed": seed})) == ByUser(valid, test, seed=seed)


@quick
@given(names=st.lists(st.text(min_size=1, max_size=4), min_size=4, max_size=4))
def test_a_split_by_column_is_its_names(names: list[str]) -> None:
    column, train, valid, test = names
    found = resolve.split(told(split={"by": "column", "column": column, "train": train, "valid": valid, "test": test}))
    assert found == ByColumn(column, train=train, valid=valid, test=test)


@quick
@given(valid=st.integers(-(2**40), 2**40), more=st.integers(0, 2**40), column=st.none() | st.just("day"))
def test_a_split_by_time_is_its_moments(valid: int, more: int, column: str | None) -> None:
    split: dict[str, object] = {"by": "time", "valid": valid, "test": valid + more, "zone": "Asia/Tokyo"}
    found = resolve.split(told(split=split | ({} if column is None else {"column": column})))
    assert found == ByTime(valid, valid + more, zone="Asia/Tokyo", column=column)


# balancers and rules

SETTINGS: Mapping[str, object] = {
    "alpha": 0.5, "rate": 0.1, "relax": 0.5, "decay": 0.5, "c": 0.2, "mu": 0.2, "temperature": 3.0, "target": "buy",
    "weights": {"click": 2.0, "spent": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("name", BALANCERS)
def test_every_balancer_is_made_with_all_that_it_takes(name: str) -> None:
    takes = takes_of(name)
    own = {key: SETTINGS[key] for key in takes}
    found = resolve.balance(told(fit={"balancer": name}, balance={**own, "at": "views", "scalar": True}))
    assert found is not None
    assert (found.at, found.scalar) == (At.VIEWS, True)
    made = found.make(3)
    for key in takes:
        if key == "target":
            assert getattr(made, key) == 1, "the number of the task"
        elif key == "weights":
            assert made.state_dict()["weights"].tolist() == [2.0, 1.0, 0.5], "a task that is not named weighs 1"
        elif hasattr(made, key):
            assert getattr(made, key) == SETTINGS[key]


KINDS_OF = {"ordinal": {"name": "ordinal", "grades": 3}, "multiclass": {"name": "multiclass", "classes": 3}}


@pytest.mark.parametrize("kind", sorted(TASK_KINDS))
@pytest.mark.parametrize("name", sorted(BALANCERS))
def test_who_reads_how_large_losses_are_takes_none_below_zero(name: str, kind: str) -> None:
    """Ratios and logarithms of a loss below 0 mean nothing: weights of 1e-42 beside 2 came of them."""
    tasks = {"click": {}, "like": {}, "spend": {"kind": KINDS_OF.get(kind, kind)}}
    asked = told(fit={"balancer": name}, tasks=tasks, balance={})
    if kind in {"lognormal", "zero_inflated"} and name in {"normalised", "uncertainty", "dwa", "geometric", "gradnorm"}:
        with pytest.raises(UserError, match=rf"fit.balancer: {name!r} reads how large losses are, and that of tasks.spend can be below 0"):
            resolve.balance(asked)
    else:
        assert resolve.balance(asked) is not None


def test_every_setting_of_a_balancer_is_taken_by_one() -> None:
    takes = {key for name in BALANCERS for key in takes_of(name)}
    assert takes == set(SETTINGS)
    assert set(BalanceSection.model_fields) == takes | {"at", "scalar"}


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"balance": {"alpha": 0.5}}, "balance: there is no balancer to take it"),
        ({"fit": {"balancer": "mgda"}, "balance": {"alpha": 0.5}}, "balance.alpha: 'mgda' has no such setting"),
        ({"fit": {"balancer": "static"}, "balance": {"weights": {"clik": 2.0}}}, "balance.weights: no task 'clik'; did you mean 'click'?"),
        ({"fit": {"balancer": "metabalance"}, "balance": {"target": "by"}}, "balance.target: no task 'by'; did you mean 'buy'?"),
        ({"fit": {"balancer": "pcgradd"}}, "fit.balancer: no 'pcgradd'; did you mean 'pcgrad'?"),
    ],
)
def test_what_no_balancer_takes_is_named(sections: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve.check(told(**sections))
    assert says in str(caught.value)


def test_schedules_are_named() -> None:
    for chosen, expected in (("plateau", Plateau()), ({"name": "cosine", "epochs": 9, "least": 0.1}, Cosine(9, 0.1)),
                             ({"name": "exponential", "factor": 0.5}, Exponential(0.5))):
        asked = told(fit={"schedule": chosen})
        assert resolve.plan(asked.fit).schedule == expected
        assert parse(tomllib.loads(asked.to_toml()), where="here") == asked


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ("platoe", "fit.schedule: no 'platoe'; did you mean 'plateau'?"),
        ("cosine", "fit.schedule.epochs is missing; write { name = ..., epochs = ... }"),
        ({"name": "cosine", "epochs": 0}, "fit.schedule: epochs = 0, least = 0; at least 1 epoch, and a share between 0 and 1"),
        ({"name": "cosine", "epochs": 3, "least": 1.5}, "fit.schedule: epochs = 3, least = 1.5; at least 1 epoch"),
        ({"name": "exponential", "factor": 1.0}, "fit.schedule: factor = 1; it is between 0 and 1"),
        ({"name": "plateau", "factor": 0.0}, "fit.schedule: factor = 0; it is between 0 and 1"),
        ({"name": "plateau", "patience": -1}, "fit.schedule: patience = -1; it is at least 0 epochs"),
        ({"name": "plateau", "epochs": 3}, "fit.schedule: 'plateau' has no parameter 'epochs'"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_before_training(chosen: object, says: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve.check(told(fit={"schedule": chosen}))
    assert says in str(caught.value)


def test_a_rule_names_judged_tasks_alone() -> None:
    tasks = {**BASE["tasks"], "hidden": {"auxiliary": True}}
    keep = {"name": "primary", "task": "click", "guards": {"buy": 0.01}}
    assert resolve.keep(told(fit={"keep": keep})).tasks == ("click", "buy")
    for wrong, says in (("hidden", "no judged task 'hidden'"), ("clik", "did you mean 'click'?")):
        with pytest.raises(UserError, match=r"fit\.keep: ") as caught:
            resolve.keep(told(tasks=tasks, fit={"keep": {"name": "primary", "task": wrong}}))
        assert says in str(caught.value)


def test_feedback_has_the_columns_of_the_log_and_the_labels_of_its_tasks() -> None:
    rule = {"window": "30m", "positive_when": "kind = 'click'"}
    found = resolve.feedback(told(tasks={"click": {"label": "is_click", "feedback": rule}, "buy": {"given": "click"}}))
    assert found is not None
    assert [one.task for one in found.rules] == ["click"]
    assert resolve.feedback(told()) is None


@pytest.mark.parametrize("recipe", ["esmm", "escm2", "aitm"])
def test_a_recipe_of_a_chain_needs_one(recipe: str) -> None:
    """Without it towers would be independent, under the name of a model of chains; another head that is asked for is another matter."""
    apart: dict[str, dict[str, str]] = {"click": {}, "buy": {}}
    chained = {"click": {}, "buy": {"given": "click"}}
    with pytest.raises(UserError, match=f"model.recipe: '{recipe}', but no yes-or-no task is given another; say it"):
        resolve.check(told(model={"recipe": recipe}, tasks=apart))
    resolve.check(told(model={"recipe": recipe}, tasks=chained))
    resolve.check(told(model={"recipe": recipe, "head": "independent"}, tasks=apart))


# statistics of labels that are known late

LATE: dict[str, Any] = {
    "tasks": {"click": {"feedback": {"window": "30m", "positive_when": "kind = 'click'"}},
              "buy": {"feedback": {"window": "7d", "positive_when": "kind = 'buy'"}}, "like": {}},
}  # fmt: skip


def late(**field: object) -> Settings:
    data = {"log": "log.parquet", "time": "at", "user": "user", "item": "item"}
    fields = {"user": {"kind": "id"}, "past": {"kind": "statistic", "by": ["user"], **field}}
    return told(data=data, fields=fields, **LATE)


def test_a_statistic_of_late_labels_says_how_late() -> None:
    with pytest.raises(UserError) as caught:
        resolve.schema(late())
    said = str(caught.value)
    assert "fields.past: no window, but labels of buy are known 7d after the row (tasks.buy.feedback)" in said
    assert "window = 604800000 if at holds milliseconds, 604800 if it holds seconds or dates" in said


@pytest.mark.parametrize("field", [{"window": 604_800_000}, {"window": 0}, {"mode": "folds"}, {"tasks": ["like"]}])
def test_a_statistic_that_says_so_or_reads_no_time_or_no_late_label_is_taken(field: dict[str, object]) -> None:
    assert resolve.schema(late(**field)).fields[1].statistic is not None


# inputs that are labels

LEAKS: list[tuple[str, dict[str, object], dict[str, object]]] = [
    ("is_click", {"kind": "category", "column": "is_click"}, {"label": "is_click"}),
    ("click", {"kind": "number", "column": "click"}, {}),
    ("is_click", {"kind": "category", "sql": "is_click"}, {"label": "is_click"}),
    ("is_click", {"kind": "number", "sql": "is_click + 0"}, {"label": "is_click"}),
    ("is_click", {"kind": "number", "sql": 'age * COALESCE("is_click", 0)'}, {"label": "is_click"}),
    ("is_click", {"kind": "category", "column": "is_click"}, {"sql": '"is_click"'}),
    ("ms", {"kind": "number", "sql": "FLOOR(ms/1000)"}, {"kind": "regression", "sql": "FLOOR(`ms` / 1000)"}),
    ("ms", {"kind": "number", "sql": "ms / 1000"}, {"kind": "regression", "sql": "ms / 100"}),
    ("place", {"kind": "category", "sql": "place = 'a'"}, {"sql": "place = 'A'"}),
    ("ms", {"kind": "sequence", "column": "ms", "like": "user", "target": "user"}, {"kind": "regression", "sql": "ms / 100"}),
    ("is_click", {"kind": "statistic", "by": ["is_click"]}, {"label": "is_click"}),
    ("is_click", {"kind": "statistic", "by": ["user", "is_click"], "tasks": ["like"]}, {"label": "is_click"}),
    ("like", {"kind": "statistic", "by": ["user", "like"], "tasks": ["click"]}, {"label": "is_click"}),
    ("watched", {"kind": "number", "column": "watched"}, {"kind": "regression", "sql": "watched / NULLIF(duration, 0)"}),
]


def with_seen(field: dict[str, object], task: dict[str, object]) -> Settings:
    return told(fields={"user": {"kind": "id"}, "seen": field}, tasks={"like": {}, "click": task})


@pytest.mark.parametrize(("column", "field", "task"), LEAKS)
def test_a_field_that_reads_a_label_is_refused(column: str, field: dict[str, object], task: dict[str, object]) -> None:
    """Itself, in an expression, or as what a statistic is by: a model would only repeat it. Field, column and task are named."""
    name = "like" if column == "like" else "click"
    says = f"^fields.seen: reads '{column}', of which the label of tasks.{name} is made: it is not known when a row is scored; leave the "
    with pytest.raises(UserError, match=says):
        resolve.schema(with_seen(field, task))


def test_what_a_statistic_is_by_is_read_of_the_field_of_that_name() -> None:
    """The field is called otherwise than the label's column, and the statistic names the field."""
    fields = {"past": {"kind": "statistic", "by": ["seen"]}, "seen": {"kind": "category", "sql": "is_click + 1"}}
    with pytest.raises(UserError, match=r"^fields\.past: reads 'is_click', of which the label of tasks\.click is made"):
        resolve.schema(told(fields=fields, tasks={"click": {"label": "is_click"}}))


def test_a_label_that_two_tasks_read_is_said_to_be_the_first_s() -> None:
    with pytest.raises(UserError, match=r"the label of tasks\.a is"):
        resolve.schema(told(fields={"x": {"kind": "number"}}, tasks={"a": {"label": "x"}, "b": {"label": "x"}}))


def test_a_field_of_a_label_s_name_is_the_label_only_if_it_reads_its_column() -> None:
    with pytest.raises(UserError, match=r"fields\.click: reads 'click', of which the label of tasks\.click is made"):
        resolve.schema(told(fields={"click": {"kind": "category"}}, tasks={"click": {}}))
    assert resolve.schema(told(fields={"click": {"kind": "category"}}, tasks={"click": {"label": "is_click"}})).fields[0].name == "click"


RATIO: dict[str, object] = {"kind": "regression", "sql": "watched / NULLIF(duration, 0)"}


@pytest.mark.parametrize(("field", "task"), [
    ({"kind": "number", "column": "duration"}, {**RATIO, "known": ["duration"]}),
    ({"kind": "number", "sql": "LN(duration)"}, {**RATIO, "known": ["duration"]}),
    ({"kind": "statistic", "by": ["user", "duration"]}, {**RATIO, "known": ["duration"]}),
    ({"kind": "category", "sql": "LOWER(place)"}, {"sql": "LOWER(other) = 'x'"}),
    ({"kind": "category", "sql": "place = 'is_click'"}, {"label": "is_click"}),
    ({"kind": "statistic", "by": ["user"]}, {"label": "seen"}),
    ({"kind": "statistic", "by": ["user"], "tasks": ["click"]}, {"label": "is_click"}),
])  # fmt: skip
def test_a_field_that_reads_no_label_is_taken(field: dict[str, object], task: dict[str, object]) -> None:
    """What is known beforehand may be part of a label, if its task says so; a statistic is of labels, of other rows."""
    found = resolve.schema(with_seen(field, task))
    assert [one.name for one in found.fields] == ["user", "seen"]


def test_a_column_of_several_may_be_said_to_be_known() -> None:
    with pytest.raises(UserError, match=r"leave the field out; or name 'duration' in tasks\.click\.known, if it is$"):
        resolve.schema(with_seen({"kind": "number", "column": "duration"}, RATIO))
    with pytest.raises(UserError, match=r"leave the field out$"):
        resolve.schema(with_seen({"kind": "number", "column": "is_click"}, {"label": "is_click"}))


@pytest.mark.parametrize(("task", "says"), [
    ({**RATIO, "known": ["durations"]}, r"^tasks\.click\.known: its label reads no 'durations'; did you mean 'duration'"),
    ({**RATIO, "known": ["watched", "duration"]}, r"^tasks\.click\.known: names all that its label is made of; leave out"),
    ({"label": "is_click", "known": ["is_click"]}, r"^tasks\.click\.known: names all that its label is made of; leave out"),
])  # fmt: skip
def test_what_is_known_is_part_of_the_label(task: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        resolve.schema(with_seen({"kind": "number", "column": "age"}, task))
