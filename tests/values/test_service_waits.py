"""What waits for a commit that does not come: for so long, then not at all, until the store writes again."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest
from tests.loads import event
from tests.untrained import bundle

from umbel.serve import service as module
from umbel.serve.bundles import Ordering
from umbel.serve.order import Order
from umbel.serve.records import Outcome, Result, Rung
from umbel.serve.requests import RankAnswer, RankRequest
from umbel.serve.service import Service, Serving
from umbel.serve.store import Store, UnavailableError, engine
from umbel.serve.wanted import State

ASKED = RankRequest(items=["i1", "i2"], user_id="u1")


@dataclass(frozen=True)
class Setting:
    """A service, its store, and the file that it lies in."""

    service: Service
    store: Store
    path: Path

    def tell(self, *names: str) -> list[Result]:
        return [one.result for one in asyncio.run(self.service.record([event(name) for name in names]))]

    def rank(self) -> RankAnswer:
        return asyncio.run(self.service.rank(ASKED, monotonic()))

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Another process writes: no commit of ours ends before the block does."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    def until_busy(self, seconds: float = 0.0) -> None:
        """Wait until what is being written has taken longer than so many seconds."""
        ends = monotonic() + 60
        while self.store.busy <= seconds:
            assert monotonic() < ends
            time.sleep(0.005)

    def until_idle(self) -> None:
        """Wait until nothing is being written."""
        ends = monotonic() + 60
        while self.store.busy:
            assert monotonic() < ends
            time.sleep(0.005)


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setting]:
    monkeypatch.setattr(engine, "WAIT", 120_000)  # longer than any test: no commit fails, it only does not come
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module, "LONGEST", 1.0)
    folder, path = bundle(tmp_path), tmp_path / "umbel.db"
    with Store(path, window=0) as store:
        serving = Serving(first=State(stable=str(folder)), ordering=Ordering(order=Order()), budget=1e6)
        yield Setting(Service(store, serving), store, path)


def test_events_are_waited_for_so_long_and_may_be_sent_again(setting: Setting) -> None:
    with setting.blocked(), pytest.raises(UnavailableError, match=r"umbel\.db: no commit within 1 s; see what else it is asked to do"):
        setting.tell("a", "b")
    setting.until_idle()
    assert setting.tell("a", "b", "c")[2] is Result.ACCEPTED
    assert set(setting.tell("a", "b", "c")) == {Result.DUPLICATE}
    assert sorted(one.id for one in setting.store.history("1")) == ["a", "b", "c"]


def test_what_waits_behind_a_commit_and_is_given_up_is_not_written(setting: Setting) -> None:
    async def three() -> list[list[Outcome] | BaseException]:
        first = asyncio.ensure_future(setting.service.record([event("first")]))
        while not setting.store.busy:
            assert not first.done()
            await asyncio.sleep(0.005)
        rest = [setting.service.record([event(name)]) for name in ("second", "third")]
        return await asyncio.gather(first, *rest, return_exceptions=True)

    with setting.blocked():
        assert [type(one) for one in asyncio.run(three())] == [UnavailableError] * 3
    setting.until_idle()
    assert {one.id for one in setting.store.history("1")} == {"first"}
    assert setting.tell("second", "first") == [Result.ACCEPTED, Result.DUPLICATE]


def test_while_a_commit_takes_too_long_nobody_else_begins_to_wait(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    with setting.blocked():
        with pytest.raises(UnavailableError):
            setting.tell("first")
        setting.until_busy(1.0)
        monkeypatch.setattr(Store, "record", lambda *_, **__: asked.append("events"))
        monkeypatch.setattr(Store, "log", lambda *_, **__: asked.append("decision"))
        with pytest.raises(UnavailableError, match="no commit within"):
            setting.tell("second")
        assert setting.rank().logged is False
        assert asked == [], "the store was not even asked"


def test_a_ranking_is_answered_whole_and_says_that_it_is_not_kept(setting: Setting) -> None:
    with setting.blocked():
        first = setting.rank()
        assert (first.rung, first.logged, len(first.items)) == (Rung.FULL, False, 2)
        setting.until_busy(0.05)
        second = setting.rank()
        assert (second.rung, second.logged) == (Rung.FULL, False)
    setting.until_idle()
    third = setting.rank()
    assert third.logged is True, "the store writes again, and all is as before"
    assert setting.store.decision(second.request_id) is None
    assert setting.store.decision(third.request_id) is not None
    text = setting.service.metrics.text().decode()
    assert 'umbel_failures_total{part="store"} 2.0' in text


def test_a_slow_commit_in_time_is_waited_for(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 60.0)

    async def told() -> list[Outcome]:
        waiting = asyncio.ensure_future(setting.service.record([event("a")]))
        while not setting.store.busy:
            await asyncio.sleep(0.005)
        assert not waiting.done()
        held.__exit__(None, None, None)
        return await waiting

    held = setting.blocked()
    held.__enter__()
    assert [one.result for one in asyncio.run(told())] == [Result.ACCEPTED]


def test_nothing_is_busy_before_and_after(setting: Setting) -> None:
    assert setting.store.busy == 0
    setting.tell("a")
    setting.until_idle()
    assert setting.store.busy == 0
