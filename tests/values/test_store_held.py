"""What waits to be written is bounded by bytes: those that are told are about those that Python takes."""

from __future__ import annotations

import gc
import sqlite3
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from umbel.serve.records import Candidates, Decision, Event, Rung, Shown, Value, request_id
from umbel.serve.store import Store, UnavailableError, engine, writer
from umbel.serve.store.append import Append

Make = Callable[[int], Decision]
TIME = 1_700_000_000_000


def decided(number: int, *, items: int, outputs: int, fields: int, value: Value = 3) -> Decision:
    """One whose texts and numbers are all its own."""
    names = tuple(f"item-{number}-{place}" for place in range(items))
    chances = np.random.default_rng(number).random((items, outputs))
    shown = tuple(
        Shown(
            item=name, fused=float(row.sum()), propensity=1 / (2 + float(row[0])), predictions=tuple(row.tolist()),
            fields={f"f{place}": mine(value) for place in range(fields)},
        )
        for name, row in zip(names, chances, strict=True)
    )  # fmt: skip
    return Decision(
        request=request_id(TIME + number), user=f"user-{number}", time=TIME + number, bundle="b", fusion="f", rung=Rung.FULL, shown=shown,
        outputs=tuple(f"o{place}" for place in range(outputs)), fields={"age": 3, "history": list(range(1_000, 1_050))},
        candidates=Candidates(items=names, predictions=chances.astype(np.float32), fused=chances.sum(1).astype(np.float32)),
    )  # fmt: skip


def mine(value: Value) -> Value:
    """A copy that shares nothing."""
    if isinstance(value, list):
        return [one + 0.5 for one in value]  # type: ignore[operator]
    return f"{value[:-1]}x" if isinstance(value, str) else value


def told(number: int) -> Event:
    return Event(
        id=f"a long event id of {number}", kind=f"kind {number}", item=f"item {number}", time=TIME + number, user=f"user {number}",
        request=request_id(TIME + number), value=number / 7,
    )  # fmt: skip


def taken(make: Callable[[int], object], count: int) -> float:
    """The bytes that Python takes for each of so many."""
    make(0)
    gc.collect()
    tracemalloc.start()
    kept = [make(number) for number in range(count)]
    size = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    del kept
    return size


@pytest.mark.parametrize(("items", "outputs", "fields", "value"), [
    (1, 1, 0, 3), (10, 4, 5, 3), (200, 4, 5, 3), (200, 2, 0, 3), (200, 4, 3, "x" * 400), (50, 2, 2, [0.5] * 60), (900, 8, 12, 3),
])  # fmt: skip
def test_a_decision_holds_about_what_is_told(items: int, outputs: int, fields: int, value: Value) -> None:
    def make(number: int) -> Append:
        return Append(decisions=(decided(number, items=items, outputs=outputs, fields=fields, value=value),))

    assert 0.6 < make(1).held / taken(make, 10) < 2.0


def test_events_hold_about_what_is_told() -> None:
    def make(number: int) -> Append:
        return Append(events=tuple(told(number * 100 + place) for place in range(100)))

    assert 0.6 < make(1).held / taken(make, 50) < 2.0


def test_more_of_anything_holds_more() -> None:
    least = decided(1, items=40, outputs=2, fields=1)
    more = [
        decided(1, items=41, outputs=2, fields=1), decided(1, items=40, outputs=3, fields=1), decided(1, items=40, outputs=2, fields=2),
        decided(1, items=40, outputs=2, fields=1, value="longer"), decided(1, items=40, outputs=2, fields=1, value=[0.5]),
        replace(least, fields={**least.fields, "one": None}), replace(least, fields={"history": list(range(60)), "age": 3}),
    ]  # fmt: skip
    assert all(Append(decisions=(one,)).held > Append(decisions=(least,)).held for one in more)
    assert Append(decisions=(least, least)).held == 2 * Append(decisions=(least,)).held
    assert Append(decisions=(replace(least, candidates=None),)).held < Append(decisions=(least,)).held
    assert Append(decisions=(replace(least, shown=()),)).held < Append(decisions=(least,)).held
    event = told(1)
    growing = [replace(event, user=None), event, replace(event, kind="k" * 99)]
    sizes = [Append(events=(one,)).held for one in growing]
    assert 0 < sizes[0] < sizes[1] < sizes[2]
    assert Append(events=(event, event)).held == 2 * sizes[1]
    assert Append().held == 0


def test_a_store_that_hangs_holds_no_more_than_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WAIT", 120_000)
    monkeypatch.setattr(writer, "ROOM", 1_000_000)
    path = tmp_path / "umbel.db"
    made = [decided(number, items=200, outputs=4, fields=5) for number in range(10)]
    most = 1_000_000 // Append(decisions=(made[0],)).held
    with Store(path, window=0) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        asked = [store.log(made[0])]
        ends = monotonic() + 60
        while not store.busy:
            assert monotonic() < ends
        asked += [store.log(one) for one in made[1:most]]
        with pytest.raises(UnavailableError, match=r"umbel\.db: \d+ writes are waiting; try again later"):
            store.log(made[most])
        assert asked[-1].cancel(), "whoever waited for it has gone on"
        asked[-1] = store.log(made[most])
        other.execute("COMMIT")
        assert [one.result() for one in asked] == [()] * most
        assert [store.decision(one.request) is None for one in made[: most + 1]] == [False] * (most - 1) + [True, False]
        assert store.log(made[most - 1]).result() == ()
