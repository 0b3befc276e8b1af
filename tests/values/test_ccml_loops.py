"""The loops that CCML's epoch is measured against do the same: one meta-gradient, whoever takes it, and another under other rules."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from umbel.data.table import Table

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        return importlib.import_module("ccml_epoch")


@pytest.fixture(scope="module")
def table(benchmark: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Table:
    made: Table = benchmark.table(40, tmp_path_factory.mktemp("epoch"))
    return made


def test_all_sides_come_to_one_meta_gradient(benchmark: ModuleType, table: Table) -> None:
    assert set(benchmark.apart(table)) == set(benchmark.LOOPS)
    assert max(benchmark.apart(table, epoch=1).values()) < 1e-5


@pytest.mark.parametrize("change", [{"share": 0.3}, {"steps": 2}, {"most": 11}, {"kept": 3}, {"clip": 0.5}])
def test_under_other_rules_they_are_apart(
    benchmark: ModuleType, table: Table, monkeypatch: pytest.MonkeyPatch, change: dict[str, float]
) -> None:
    """So that the check would tell."""
    rules = benchmark.rules
    monkeypatch.setattr(benchmark, "rules", lambda made: replace(rules(made), **change))
    assert min(benchmark.apart(table).values()) > benchmark.NEAR


def test_users_have_ten_rows_known_and_candidates_other_than_themselves(benchmark: ModuleType, table: Table) -> None:
    people = benchmark.people(benchmark.prepared(table, benchmark.SETTINGS), epoch=0)
    assert len(people) == 40
    for place, one in enumerate(people):
        assert len(one.support.labels) == 10
        assert 3 <= len(one.query.labels) <= 90
        assert place not in one.near
        assert len(one.near) == 39
        assert not one.support.columns[0].any(), "nobody is known by id"


def test_an_epoch_is_whole_and_the_loops_take_some_users(benchmark: ModuleType, table: Table) -> None:
    torch.set_num_threads(1)
    times = benchmark.raced(table, rounds=2, some=2)
    assert {name: len(one) for name, one in times.items()} == dict.fromkeys(("umbel", *benchmark.LOOPS), 2)
    assert all(taken > 0 for one in times.values() for taken in one)
