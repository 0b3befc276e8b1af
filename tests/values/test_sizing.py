"""How much memory a model asks for is known before any is taken, for every recipe, and too much is refused in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import pytest
import torch
from tests import everykind
from torch import nn

from umbel.errors import UserError
from umbel.recipes import RECIPES
from umbel.run import resolve, sizing
from umbel.run.settings import Settings, parse
from umbel.run.sizing import check_size, memory

CPU = torch.device("cpu")


class Plain(nn.Module):
    """A table of 3,000 rows and one matrix."""

    def __init__(self, dim: int, wide: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(3_000, dim))
        self.layer = nn.Parameter(torch.empty(dim, wide))


def sized(dim: int, wide: int = 1, *, rows: dict[str, int] | None = None) -> None:
    check_size(lambda: Plain(dim, wide), dim=dim, rows={"user": 1_000, "item": 2_000} if rows is None else rows, device=CPU)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_measured_without_its_memory(name: str) -> None:
    schema, sizes = everykind.schema(), everykind.sizes()
    real = RECIPES[name](schema, sizes)
    with torch.device("meta"):
        measured = RECIPES[name](schema, sizes)
    assert {key: one.shape for key, one in measured.named_parameters()} == {key: one.shape for key, one in real.named_parameters()}
    assert {one.device.type for one in measured.parameters()} == {"meta"}


def test_measuring_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    sized(4)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_machine_has_some_memory() -> None:
    assert 2**28 < memory(CPU) < 2**48


@pytest.mark.parametrize(("dim", "wide", "fits"), [(8, 1, True), (9, 1, False), (1, 25_000, False), (1, 20_000, True)])
def test_three_times_the_weights_must_fit(monkeypatch: pytest.MonkeyPatch, *, dim: int, wide: int, fits: bool) -> None:
    """4 bytes x (3,000 dim + dim x wide), three times, against 288,096 bytes."""
    monkeypatch.setattr(sizing, "memory", lambda device: 3 * 4 * (3_000 * 8 + 8))
    if fits:
        sized(dim, wide)
    else:
        with pytest.raises(UserError):
            sized(dim, wide)


def said(make: Callable[[], None]) -> str:
    with pytest.raises(UserError) as caught:
        make()
    return str(caught.value)


def test_wide_tables_are_told_with_their_rows_and_the_longest_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "memory", lambda device: 16 * 10**9)
    assert said(lambda: sized(10**9)) == (
        "model: 12.0 TB of weights, 12.0 TB of them in tables of 3,000 rows; training takes 36.0 TB and cpu has 16.0 GB; "
        "lower model.dim = 1000000000, or raise fields.item.min_count, which has 2,000, "
        'or share the rows out to machines (torchrun --nnodes, fit.tables = "shards")'
    )


@pytest.mark.parametrize(("holders", "beside", "fits"), [(3, 1, True), (2, 1, False), (3, 3, False), (12, 3, True)])
def test_rows_that_are_shared_out_must_fit_each_machine(monkeypatch: pytest.MonkeyPatch, *, holders: int, beside: int, fits: bool) -> None:
    """A third of 96 kB and 32 bytes beside it, three times; or as often as there are processes on the machine."""
    monkeypatch.setattr(sizing, "memory", lambda device: 3 * (32_000 + 32))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(beside))
    make = partial(check_size, lambda: Plain(8, 1), dim=8, rows={"user": 3_000}, device=CPU, holders=holders)
    if fits:
        make()
    else:
        assert "; training takes " in said(make)



def test_short_tables_are_not_told_to_be_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "memory", lambda device: 10**6)
    assert said(lambda: sized(10**6, rows={"user": 999, "item": 3})).endswith("lower model.dim = 1000000")


def test_wide_layers_are_told_apart_from_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "memory", lambda device: 10**6)
    told = said(lambda: sized(4, 10**6))
    assert "16.0 MB of weights, 48.0 kB of them in tables" in told
    assert told.endswith("lower model.dim = 4, model.expert or model.tower")


@pytest.mark.parametrize(("count", "expected"), [
    (0, "0 bytes"), (999, "999 bytes"), (1_000, "1.0 kB"), (2_560, "2.6 kB"), (64 * 10**9, "64.0 GB"), (10**15, "1.0 PB"),
    (10**19, "10,000.0 PB"),
])  # fmt: skip
def test_bytes_as_people_say_them(count: int, expected: str) -> None:
    assert sizing._bytes(count) == expected


def settings(**model: object) -> Settings:
    tree: dict[str, object] = {
        "data": {"log": "log.parquet"}, "fields": {"user": {"kind": "id"}}, "tasks": {"click": {}},
        "split": {"by": "user", "valid": 0.1, "test": 0.1}, "model": {"recipe": "stem", **model},
    }  # fmt: skip
    return parse(tree, where="here")


@pytest.mark.parametrize(("model", "told"), [
    ({"dim": 10**9}, "lower model.dim = 1000000000"),
    ({"dim": 10**9, "recipe": "alone"}, "lower model.dim = 1000000000"),
    ({"expert": [10**6, 10**6]}, "lower model.dim = 8, model.expert or model.tower"),
])  # fmt: skip
def test_a_run_file_that_asks_for_more_than_there_is(model: dict[str, object], told: str) -> None:
    error = said(lambda: resolve.check(settings(**model)))
    assert told in error
    assert re.match(r"model: [\d.,]+ [GTP]B of weights, ", error)


def test_a_table_that_turned_out_long_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = settings()
    resolve.check(asked)
    error = said(lambda: resolve.check_memory(asked, resolve.schema(asked), rows={"user": 10**11}))
    assert "in tables of 100,000,000,000 rows" in error
    assert "fields.user.min_count, which has 100,000,000,000" in error
