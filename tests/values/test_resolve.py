"""Settings become the objects they name, key by key."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
import torch

from umbel.bundle import Built
from umbel.data.source import Join, Source
from umbel.data.split import ByColumn, ByTime, ByUser
from umbel.errors import UserError
from umbel.learn.optim import RowAdagrad, RowAdam
from umbel.nn.losses import Denominator
from umbel.nn.recommender import Sizes
from umbel.run import resolve
from umbel.run.settings import FitSection, Settings, parse
from umbel.schema import BINARY, REGRESSION, Field, FieldKind, Schema, Task

SPLITS: dict[str, dict[str, Any]] = {
    "time": {"by": "time", "valid": date(2024, 1, 5), "test": date(2024, 1, 6), "zone": "Asia/Shanghai"},
    "day": {"by": "time", "valid": date(2024, 1, 5), "test": date(2024, 1, 6), "zone": "Asia/Shanghai", "column": "day"},
    "user": {"by": "user", "valid": 0.1, "test": 0.2, "seed": 3},
    "column": {"by": "column", "column": "part", "valid": "v", "test": "t"},
}


JOIN = {"table": "items.parquet", "on": "i", "time": "since"}
SEEN = {"kind": "sequence", "like": "u", "target": "u", "length": 9, "column": "h"}


def settings(split: str = "time", **sections: Any) -> Settings:  # noqa: ANN401
    tree: dict[str, Any] = {
        "data": {"log": "log.parquet", "user": "u", "item": "i", "time": "t", "join": [JOIN]},
        "fields": {"u": {"kind": "id", "min_count": 3}, "seen": SEEN},
        "tasks": {"click": {"label": "c", "weight": 2.0}, "spend": {"kind": "regression", "given": "click", "sql": "a + b"}},
        "split": SPLITS[split],
        "model": {"recipe": "stem", "dim": 4, "expert": [8], "gate": [5], "views": "own+shared"},
        **sections,
    }
    return parse(tree, where="here")


def test_the_source() -> None:
    expected = Source("log.parquet", user="u", item="i", time="t", joins=(Join("items.parquet", "i", time="since"),))
    assert resolve.source(settings()) == expected


def test_the_schema() -> None:
    fields = (
        Field("u", FieldKind.ID, min_count=3),
        Field("seen", FieldKind.SEQUENCE, column="h", like="u", target="u", length=9),
    )
    tasks = (Task("click", BINARY, label="c", weight=2.0), Task("spend", REGRESSION, given="click", sql="a + b"))
    assert resolve.schema(settings()) == Schema(fields, tasks)


def test_the_splits() -> None:
    assert resolve.split(settings("time")) == ByTime(date(2024, 1, 5), date(2024, 1, 6), zone="Asia/Shanghai")
    assert resolve.split(settings("day")) == ByTime(date(2024, 1, 5), date(2024, 1, 6), zone="Asia/Shanghai", column="day")
    assert resolve.split(settings("user")) == ByUser(0.1, 0.2, seed=3)
    assert resolve.split(settings("column")) == ByColumn("part", train="train", valid="v", test="t")


def test_the_model() -> None:
    expected = Built("stem", Sizes({"u": 7}, dim=4, expert=(8,), gate=(5,), tower=(32,), specific=1, shared=2), "own+shared")
    assert resolve.built(settings(), {"u": 7}) == expected


def test_the_plan() -> None:
    fit = FitSection(epochs=3, patience=4, rate=0.1, l2=0.2, clip=5.0, exact=True, denominator="rows", seed=9, minutes=2.0)
    plan = resolve.plan(fit)
    assert (plan.epochs, plan.patience, plan.rate, plan.l2, plan.clip, plan.exact, plan.seed) == (3, 4, 0.1, 0.2, 5.0, True, 9)
    assert plan.denominator is Denominator.ROWS
    assert plan.pause == 120.0
    assert plan.device == torch.device("cpu")


@pytest.mark.parametrize(("name", "kind"), [("adam", RowAdam), ("adagrad", RowAdagrad)])
def test_the_row_optimiser(name: Any, kind: type) -> None:  # noqa: ANN401
    assert isinstance(resolve.plan(FitSection(rows=name)).rows(torch.zeros(3, 2)), kind)


def test_a_device_that_is_not_here() -> None:
    with pytest.raises(UserError, match=r"fit\.device: 'moon' is not here"):
        resolve.plan(FitSection(device="moon"))


def test_an_unknown_recipe_or_paradigm_is_named_with_the_nearest() -> None:
    schema = Schema((Field("u", FieldKind.ID),), (Task("click"),))
    with pytest.raises(UserError, match=r"model\.recipe: no 'mmo'; did you mean 'mmoe'"):
        Built("mmo", Sizes({"u": 3}))(schema)
    with pytest.raises(UserError, match=r"model\.views: no 'owned'; did you mean 'own'"):
        Built("mmoe", Sizes({"u": 3}), "owned")(schema)
    with pytest.raises(UserError, match=r"model\.interact: no 'concat'; did you mean 'concatenate'"):
        Built("mmoe", Sizes({"u": 3}), interact="concat")(schema)
    with pytest.raises(UserError, match=r"model\.head: no 'independant'; did you mean 'independent'"):
        Built("mmoe", Sizes({"u": 3}), head="independant")(schema)


def test_every_paradigm_can_be_asked_for() -> None:
    schema = Schema((Field("u", FieldKind.ID),), (Task("click"), Task("like")))
    sizes = Sizes({"u": 3}, dim=2, expert=(4,))
    widths = {views: Built("stem", sizes, views)(schema).table.shape[1] for views in ("shared", "own", "own+shared")}
    assert widths == {"shared": 2, "own": 4, "own+shared": 6}


@pytest.mark.parametrize(("machine", "avx", "amx", "fit", "slow"), [
    ("x86_64", False, False, {"precision": "bfloat16"}, True), ("x86_64", False, False, {}, False),
    ("x86_64", True, False, {"precision": "bfloat16"}, False), ("AMD64", False, True, {"precision": "bfloat16"}, False),
    ("aarch64", False, False, {"precision": "bfloat16"}, False),
    ("x86_64", False, False, {"precision": "bfloat16", "device": "meta"}, False),
])  # fmt: skip
def test_bfloat16_that_a_processor_must_emulate(
    monkeypatch: pytest.MonkeyPatch, machine: str, avx: bool, amx: bool, fit: dict[str, object], slow: bool
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    assert resolve.emulated(FitSection.model_validate(fit)) is slow
