"""The rows of a request come together where a loss reads lists, and are told from those of other requests of the same user."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests import logs
from tests.logs import ROWS, SCHEMA, SPLIT, changed

from umbel.data.groups import MISSING
from umbel.data.ingest import ingest
from umbel.data.loader import Loader, Replay
from umbel.data.source import Join
from umbel.data.split import ByTime
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.run import fitting, resolve
from umbel.run.settings import Settings, parse
from umbel.run.watch import Silence
from umbel.schema import Field, Schema, Task

MANY = 400


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Ninety requests, of one row to a dozen, mixed in the log."""
    folder = tmp_path_factory.mktemp("lists")
    draw = np.random.default_rng(1)
    rows = MANY + 8
    request = draw.integers(0, 90, rows) % draw.integers(1, 91, rows)
    columns = {"user": draw.integers(0, 9, rows), "request": request, "time": np.arange(rows), "click": np.arange(rows) % 2}
    source = logs.source(folder, {name: pl.Series(column) for name, column in columns.items()})
    split = ByTime(MANY, MANY + 4)
    schema = Schema((Field("user", logs.ID),), (Task("click"),))
    return ingest(replace(source, item=None, request="request"), schema, split, folder=folder / "table")


def orders(loader: Loader, epoch: int) -> list[list[int]]:
    return [batch.index.tolist() for batch in loader(epoch)]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(1, 150), seed=st.integers(0, 2**40), epoch=st.integers(0, 9), share=st.none() | st.floats(0, 1), data=st.data())
def test_every_row_comes_once_beside_those_of_its_request(
    table: Table, size: int, seed: int, epoch: int, share: float | None, data: st.DataObject
) -> None:
    replay = None if share is None else Replay(np.arange(MANY) % 3 == 0, share)
    loader = Loader(table, "train", size, seed=seed, replay=replay, together=True)
    batches = orders(loader, epoch)
    found = [row for batch in batches for row in batch]
    plain = [row for batch in orders(replace(loader, together=False), epoch) for row in batch]
    assert sorted(found) == sorted(plain)
    lists = table.lists("train")[found]
    assert int((np.diff(lists) != 0).sum()) + 1 == len(np.unique(lists))  # no list is met twice
    start = data.draw(st.integers(0, len(batches)))
    assert [batch.index.tolist() for batch in loader(epoch, start)] == batches[start:]


def test_long_lists_come_no_earlier_than_short_ones(table: Table) -> None:
    """Over many epochs the longest list begins in the middle on average; did any of its rows say when, it would begin far before."""
    lists = table.lists("train")
    values, counts = np.unique(lists, return_counts=True)
    longest = values[counts.argmax()]
    assert counts.max() > 10
    begins = []
    for epoch in range(60):
        (order,) = orders(Loader(table, "train", MANY, seed=2, together=True), epoch)
        begins.append(np.flatnonzero(lists[order] == longest)[0] / (MANY - counts.max()))
    assert np.mean(begins) == pytest.approx(0.5, abs=0.12)  # a standard error is .037


def test_a_batch_tells_requests_and_a_table_users(tmp_path: Path) -> None:
    """A missing request is its row's own, and a user stays what intervals resample."""
    rows = changed(request=["p", "p", "q", None, "q", None, "r", "r", "s", "s"])
    made = ingest(replace(logs.source(tmp_path, rows), request="request"), SCHEMA, SPLIT, folder=tmp_path / "table")
    lists = made.lists("train")
    assert [(lists == one).tolist() for one in lists[[0, 2]]] == [[True, True, *[False] * 4], [False, False, True, False, True, False]]
    assert lists[3] != lists[5]
    assert (lists[[3, 5]] < MISSING + 10).all()
    group = made.batch(np.arange(6)).group
    assert group is not None
    assert group.tolist() == lists.tolist()
    assert made.groups("train").tolist() == ROWS["user"][:6]
    again = Table.open(made.folder)
    assert again.source.request == "request"
    assert again.lists("valid").tolist() == made.lists("valid").tolist()


def test_without_requests_a_list_is_a_user(tmp_path: Path) -> None:
    made = logs.table(tmp_path)
    assert made.lists("train").tolist() == made.groups("train").tolist() == ROWS["user"][:6]
    assert not (made.folder / "request.npy").exists()


@pytest.mark.parametrize(("request_", "why"), [
    ("reqest", r"data.request: no column 'reqest' in .* or its joins; did you mean 'request'"),
    ("watched", r"data.request: 'watched' holds List\(String\); name a column of numbers or text"),
])  # fmt: skip
def test_a_request_that_is_no_column_of_one_value(tmp_path: Path, request_: str, why: str) -> None:
    source = replace(logs.source(tmp_path, changed(request=list(range(10)))), request=request_)
    with pytest.raises(UserError, match=why):
        ingest(source, SCHEMA, SPLIT, folder=tmp_path / "table")


def test_a_request_that_a_field_reads_from_a_table_is_read_whole(tmp_path: Path) -> None:
    """A column of a joined table is looked up by its row there, unless it says the request."""
    logs.write(tmp_path, {"user": [1, 2, 3, 8, 9], "home": ["x", "y", "x", "y", "x"]}, name="users")
    joined = logs.source(tmp_path, joins=(Join(str(tmp_path / "users.parquet"), "user"),))
    home = Schema((Field("home", logs.CATEGORY, min_count=1),), (Task("click"),))
    made = ingest(replace(joined, request="home"), home, SPLIT, folder=tmp_path / "table")
    lists, homes = made.lists("train"), made.column("home", "train")
    assert (lists[:, None] == lists).tolist() == (homes[:, None] == homes).tolist()


def run(log: str, loss: str) -> Settings:
    return parse({
        "data": {"log": log, "user": "user", "time": "time", "request": "request"},
        "fields": {"user": {"kind": "id", "min_count": 1}},
        "tasks": {"click": {"loss": loss}},
        "split": {"by": "time", "valid": 6, "test": 8},
        "model": {"recipe": "shared_bottom", "dim": 2},
        "fit": {"epochs": 1, "batch": 3},
    }, where="here")  # fmt: skip


@pytest.mark.parametrize(("loss", "together"), [("listwise", True), ("likelihood", False), ("pairwise", False)])
def test_a_loss_of_lists_keeps_them_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str, together: bool) -> None:
    log = logs.write(tmp_path, changed(request=[1, 2, 3, 1, 2, 3, 4, 4, 5, 5]))
    asked = run(log, loss)
    made = ingest(resolve.source(asked), resolve.schema(asked), resolve.split(asked), folder=tmp_path / "table")
    met: list[bool] = []
    plain = Loader.__call__

    def watched(self: Loader, epoch: int, start: int = 0) -> object:
        met.append(self.together)
        return plain(self, epoch, start)

    monkeypatch.setattr(Loader, "__call__", watched)
    fitting.fit_model(asked, made, tmp_path / "run", watch=Silence())
    assert met[0] == together
