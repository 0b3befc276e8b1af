"""A sealed part cannot be read, by whichever way; the door is the one way, and counts who goes through it."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests import logs

from umbel.data import table as module
from umbel.data.ingest import ingest
from umbel.data.loader import Loader
from umbel.data.table import Table
from umbel.study import tune
from umbel.study.tune.door import FILE, Door

WAYS: dict[str, Callable[[Table, str], object]] = {
    "labels": lambda table, part: table.labels(part),
    "events": lambda table, part: table.events(part),
    "groups": lambda table, part: table.groups(part),
    "lists": lambda table, part: table.lists(part),
    "beside": lambda table, part: table.beside("click", part),
    "times": lambda table, part: table.times(part),
    "column": lambda table, part: table.column("age", part),
    "coded column": lambda table, part: table.column("watched", part),
    "counts": lambda table, part: table.seen_counts(part, "item"),
    "batch": lambda table, part: table.batch(np.array(table.parts[part])),
    "users": lambda table, part: table.users(np.array(table.parts[part])),
    "last user": lambda table, part: table.users(np.array([0, table.parts[part].stop - 1])),
    "soon": lambda table, part: table.expect(np.array(table.parts[part])),
    "one row": lambda table, part: table.batch(np.array([0, table.parts[part].start])),
    "last row": lambda table, part: table.batch(np.array([table.parts[part].stop - 1])),
    "loader": lambda table, part: list(Loader(table, part, 2)(0)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder with a table in it."""
    place = tmp_path_factory.mktemp("study")
    ingest(replace(logs.source(place), beside=("click",)), logs.SCHEMA, logs.SPLIT, folder=place / "table")
    return place


@pytest.fixture
def study(folder: Path) -> Path:
    """The same, before anyone has read."""
    (folder / FILE).unlink(missing_ok=True)
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_no_way_leads_into_a_sealed_part(folder: Path, way: str) -> None:
    table = Table.open(folder / "table").seal("test")
    with pytest.raises(PermissionError, match="the test part of this table is sealed"):
        WAYS[way](table, "test")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("part", ["train", "valid"])
def test_the_other_parts_are_as_they_were(folder: Path, way: str, part: str) -> None:
    plain = Table.open(folder / "table")
    assert repr(WAYS[way](plain.seal("test"), part)) == repr(WAYS[way](plain, part))


def test_its_length_is_no_secret(folder: Path) -> None:
    table = Table.open(folder / "table").seal("test")
    assert len(table.parts["test"]) == 2
    assert table.sealed == {"test"}


def test_every_public_reader_of_a_part_is_among_the_ways() -> None:
    """Else a new one would go unwatched."""
    known = {"labels", "events", "groups", "lists", "beside", "times", "column", "seen_counts", "batch", "users", "expect"}
    source = ast.parse(Path(str(module.__file__)).read_text())
    (shape,) = [node for node in source.body if isinstance(node, ast.ClassDef) and node.name == "Table"]
    methods = [node for node in shape.body if isinstance(node, ast.FunctionDef)]
    readers = {node.name for node in methods if {"part", "index"} & {one.arg for one in node.args.args}}
    assert readers - {"_rows"} == known


def test_sealing_leaves_the_table_it_came_from_open(folder: Path) -> None:
    table = Table.open(folder / "table")
    table.seal("test")
    assert len(table.groups("test")) == 2


def test_seals_add_up_and_outlast_a_change_of_tasks(folder: Path) -> None:
    table = Table.open(folder / "table").seal("valid").seal("test")
    assert table.sealed == {"valid", "test"}
    assert table.under(table.schema.tasks).sealed == {"valid", "test"}


def test_tasks_of_another_weight_on_the_same_rows(folder: Path) -> None:
    table = Table.open(folder / "table")
    heavier = tuple(replace(task, weight=3.0) for task in table.schema.tasks)
    found = table.under(heavier)
    assert [task.weight for task in found.schema.tasks] == [3.0] * 3
    assert [task.weight for task in table.schema.tasks] == [1.0] * 3
    for one, other in zip(found.labels("train"), table.labels("train"), strict=True):
        assert np.array_equal(one, other)
    known = {name: one for name, one in vars(table.encoder).items() if name not in ("schema", "_derived")}
    assert {name: vars(found.encoder)[name] for name in known} == known, "whatever an encoder holds beside its schema"


def test_nobody_has_read_at_first(study: Path) -> None:
    door = Door(study)
    assert door.reads == 0
    assert door.table.sealed == {"test"}
    assert not (study / FILE).exists()


def test_every_opening_is_counted_by_whoever_looks(study: Path) -> None:
    with Door(study).opened("trial 3") as table:
        assert not table.sealed
        assert len(table.groups("test")) == 2
    assert Door(study).reads == 1
    with Door(study).opened("trial 4"):
        pass
    assert Door(study).reads == 2
    lines = [json.loads(line) for line in (study / FILE).read_text().splitlines()]
    assert lines == [{"read": 1, "by": "trial 3"}, {"read": 2, "by": "trial 4"}]


def test_an_opening_that_fails_counts(study: Path) -> None:
    with pytest.raises(ZeroDivisionError), Door(study).opened("trial 1"):
        raise ZeroDivisionError
    assert Door(study).reads == 1


def test_it_is_written_down_before_the_part_can_be_read(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_: object) -> Table:
        raise KeyboardInterrupt

    monkeypatch.setattr(Table, "open", killed)
    with pytest.raises(KeyboardInterrupt), Door(study).opened("trial 1"):
        raise AssertionError
    assert Door(study).reads == 1


def test_the_door_is_the_only_way_in_the_search() -> None:
    """Whoever else opens a table there, or gets one from the ingest, seals it or throws it away."""
    room = Path(str(tune.__file__)).parent
    for path in room.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Table.open":
                assert path.name == "door.py" or ".seal('test')" in sealed(path, node), f"{path.name}:{node.lineno}"
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                assert ast.unparse(node.value.func) != "prepare", f"{path.name}:{node.lineno}"


def sealed(path: Path, call: ast.Call) -> str:
    """What is called on the table at once."""
    whole = [ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return max((text for text in whole if text.startswith(ast.unparse(call))), key=len)
