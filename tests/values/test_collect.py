"""The log that a store's decisions come to: its columns and types, what is in it, what is not, and what a crash leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from umbel.errors import UserError
from umbel.feedback import Amount, Feedback, Rule
from umbel.serve.records import Decision, Event, Rung, Shown, Value
from umbel.serve.store import Store, collect, facts, labels, survey
from umbel.serve.store.collect import Counted
from umbel.serve.store.forms import NOTHING, Form, all_whole, columns, form_of, widen
from umbel.serve.store.logged import Pseudonyms

DAY = 86_400_000
FEEDBACK = Feedback(
    rules=(
        Rule(task="click", window=DAY, positive_when="kind = 'click'"),
        Rule(task="watch", window=2 * DAY, positive_when="kind = 'watch'", value=Amount.SUM),
    ),
    lateness=0, user="user_id", item="video_id", labels={"click": "is_click"},
)  # fmt: skip
KEY = Pseudonyms(b"sixteen bytes of key")
FINITE = st.floats(allow_nan=False, allow_infinity=False)  # as JSON has them


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "umbel.db", window=0) as made:
        made.declare(FEEDBACK)
        yield made


def decide(store: Store, request: str, *, user: str | None = "7", day: int = 1, fields: dict[str, Value] | None = None) -> None:
    shown = (
        Shown(item="10", fused=0.9, propensity=0.5, predictions=(0.1, 30.0), fields={"price": 3}),
        Shown(item="11", fused=0.8, propensity=0.25, predictions=(0.2, 20.0), fields={"price": 2.5}, sources=("nearest", "new")),
    )
    store.log(
        Decision(request=request, user=user, time=day * DAY, bundle="b1", fusion="f1", rung=Rung.FULL, shown=shown,
                 outputs=("click", "watch"), fields=fields or {"hour": 7, "city": "Paris"})
    ).result()  # fmt: skip


def happen(store: Store, kind: str, request: str | None, *, item: str = "10", at: float = 1.5, value: float | None = None) -> None:
    event = Event(id=f"{kind}{request}{item}{at}", kind=kind, item=item, time=round(at * DAY), user="7", request=request, value=value)
    store.record([event], received=event.time).result()


def clock(store: Store, day: float) -> None:
    """Something happens at that time, so that windows before it close."""
    happen(store, "open", None, item="none", at=day)


def collected(store: Store, path: Path, *, pseudonyms: Pseudonyms | None = None) -> pl.DataFrame:
    collect.collect(store.session, path, pseudonyms=pseudonyms)
    return pl.read_parquet(path)


def test_a_log_has_ids_answers_predictions_labels_and_fields(store: Store, tmp_path: Path) -> None:
    decide(store, "r1")
    happen(store, "click", "r1")
    happen(store, "watch", "r1", value=12.5)
    happen(store, "watch", "r1", value=7.0, at=1.7)
    clock(store, 3)
    assert collected(store, tmp_path / "log.parquet").to_dict(as_series=False) == {
        "user_id": [7, 7], "video_id": [10, 11], "time_ms": [DAY, DAY], "request_id": ["r1", "r1"], "position": [0, 1],
        "propensity": [0.5, 0.25], "fused": [0.9, 0.8], "rung": ["full", "full"], "bundle": ["b1", "b1"], "fusion": ["f1", "f1"],
        "arm": ["stable", "stable"], "predicted_click": [0.1, 0.2], "predicted_watch": [30.0, 20.0], "is_click": [1.0, 0.0],
        "watch": [19.5, 0.0], "adapted": [None, None], "adapted_rows": [None, None], "sources": [None, ["nearest", "new"]],
        "city": ["Paris", "Paris"], "hour": [7, 7], "price": [3.0, 2.5],
    }  # fmt: skip


def test_a_task_that_is_not_settled_is_null_and_a_row_with_none_stays_out(store: Store, tmp_path: Path) -> None:
    for day in (1, 2, 3):
        decide(store, f"r{day}", day=day)
    happen(store, "click", "r2", at=2.5)
    clock(store, 3)
    done = collect.collect(store.session, tmp_path / "log.parquet")
    frame = pl.read_parquet(tmp_path / "log.parquet")
    assert frame["request_id"].to_list() == ["r1", "r1", "r2", "r2"]
    assert frame["is_click"].to_list() == [0, 0, 1, 0]
    assert frame["watch"].to_list() == [0, 0, None, None]
    assert done.rows == 4
    assert done.tasks == {"click": Counted(4, 1, 0), "watch": Counted(2, 0, 0)}


def test_a_late_positive_is_counted_and_corrects_the_next_log(store: Store, tmp_path: Path) -> None:
    decide(store, "r1")
    clock(store, 4)
    assert collected(store, tmp_path / "a.parquet")["is_click"].to_list() == [0, 0]
    late = Event(id="late", kind="click", item="10", time=round(1.2 * DAY), user="7", request="r1")
    store.record([late], received=4 * DAY).result()
    done = collect.collect(store.session, tmp_path / "b.parquet")
    assert done.tasks["click"] == Counted(2, 1, 1)
    assert pl.read_parquet(tmp_path / "b.parquet")["is_click"].to_list() == [1, 0]


def test_events_that_belong_to_nothing_are_counted(store: Store, tmp_path: Path) -> None:
    decide(store, "r1")
    happen(store, "click", "r1")
    happen(store, "click", "unknown")
    happen(store, "click", "r1", item="12")
    happen(store, "click", None, item="11")
    happen(store, "click", None, item="11", at=0.5)
    clock(store, 4)
    assert collect.collect(store.session, tmp_path / "log.parquet").orphans == 4  # the last three of those above but one, and the clock


def test_nothing_that_is_settled_is_said(store: Store, tmp_path: Path) -> None:
    decide(store, "r1")
    for _ in range(2):
        with pytest.raises(UserError, match=r"umbel\.db: no label is settled yet; wait until a window and the lateness have passed"):
            collect.collect(store.session, tmp_path / "log.parquet")
    clock(store, 1.9)
    with pytest.raises(UserError, match="no label is settled yet"):
        collect.collect(store.session, tmp_path / "log.parquet")
    assert not list(tmp_path.glob("log.parquet*"))


def test_a_clock_that_is_ahead_of_ours_closes_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(store, "r1")
    clock(store, 9)
    monkeypatch.setattr(collect, "now", lambda: 2 * DAY - 1)
    with pytest.raises(UserError, match="no label is settled yet"):
        collect.collect(store.session, tmp_path / "log.parquet")


def test_ids_that_are_no_numbers_stay_text(store: Store, tmp_path: Path) -> None:
    decide(store, "r1", user="7")
    decide(store, "r2", user="007")
    clock(store, 5)
    frame = collected(store, tmp_path / "log.parquet")
    assert frame["user_id"].to_list() == ["7", "7", "007", "007"]
    assert frame["video_id"].dtype == pl.Int64


def test_nobody_is_null(store: Store, tmp_path: Path) -> None:
    decide(store, "r1", user=None)
    clock(store, 5)
    assert collected(store, tmp_path / "log.parquet")["user_id"].to_list() == [None, None]


def test_bundles_of_other_tasks_and_answers_without_predictions(store: Store, tmp_path: Path) -> None:
    decide(store, "r1")
    popular = Decision(request="r2", user="7", time=DAY + 1, bundle="b2", fusion="f", rung=Rung.POPULAR, shown=(Shown(item="10"),))
    other = replace(popular, request="r3", time=DAY + 2, outputs=("buy",), shown=(Shown(item="10", predictions=(0.5,)),))
    for one in (popular, other):
        store.log(one).result()
    clock(store, 5)
    frame = collected(store, tmp_path / "log.parquet")
    assert frame["predicted_click"].to_list() == [0.1, 0.2, None, None]
    assert frame["predicted_buy"].to_list() == [None, None, None, 0.5]
    assert frame["propensity"].to_list() == [0.5, 0.25, None, None]


def test_a_field_gives_way_to_a_column_of_its_name(store: Store, tmp_path: Path) -> None:
    decide(store, "r1", fields={"user_id": "someone", "is_click": 1, "position": 9, "kept": True})
    clock(store, 5)
    frame = collected(store, tmp_path / "log.parquet")
    assert frame["user_id"].to_list() == [7, 7]
    assert frame["is_click"].to_list() == [0, 0]
    assert frame["position"].to_list() == [0, 1]
    assert frame["kept"].to_list() == [True, True]


def test_two_columns_of_one_name_are_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the log would have two columns 'position'; call the label"):
        collect.collect(store.session, tmp_path / "log.parquet", feedback=replace(FEEDBACK, labels={"click": "position"}))


def test_rules_that_are_given_go_before_those_of_the_store(store: Store, tmp_path: Path) -> None:
    decide(store, "r1")
    clock(store, 1.1)
    quick = Feedback(rules=(Rule(task="tap", window=DAY // 10, positive_when="kind = 'click'"),), lateness=0)
    collect.collect(store.session, tmp_path / "log.parquet", feedback=quick)
    frame = pl.read_parquet(tmp_path / "log.parquet")
    assert frame["tap"].to_list() == [0, 0]
    assert frame.columns[:3] == ["user", "item", "time_ms"]


# pseudonyms


def test_pseudonyms_are_the_same_each_time_and_another_key_gives_others(store: Store, tmp_path: Path) -> None:
    for request, user in (("r1", "7"), ("r2", "8"), ("r3", "7"), ("r4", None)):
        decide(store, request, user=user, fields={"account": user, "friend": "8", "age": 7})
    clock(store, 5)
    frame = collected(store, tmp_path / "log.parquet", pseudonyms=KEY)
    seven, eight = KEY.of("7"), KEY.of("8")
    assert len({seven, eight}) == 2
    assert frame["user_id"].to_list() == [seven, seven, eight, eight, seven, seven, None, None]
    assert frame["account"].to_list() == frame["user_id"].to_list()
    assert frame["friend"].to_list()[:4] == ["8", "8", eight, eight]  # only what is just its own user's id
    assert frame["age"].to_list() == [7] * 8
    again = collected(store, tmp_path / "again.parquet", pseudonyms=KEY)
    assert_frame_equal(frame, again)
    other = collected(store, tmp_path / "other.parquet", pseudonyms=Pseudonyms(b"another key of bytes"))
    assert not set(other["user_id"].drop_nulls()) & set(frame["user_id"].drop_nulls())


def test_no_raw_id_is_in_a_pseudonymised_log(store: Store, tmp_path: Path) -> None:
    canary = "canary-4711-user"
    decide(store, "r1", user=canary, fields={"me": canary})
    clock(store, 5)
    collected(store, tmp_path / "plain.parquet")
    collected(store, tmp_path / "log.parquet", pseudonyms=KEY)
    assert canary.encode() in (tmp_path / "plain.parquet").read_bytes()
    assert canary.encode() not in (tmp_path / "log.parquet").read_bytes()


def test_a_key_is_a_file_of_enough_bytes(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"sixteen bytes of key\n")
    assert Pseudonyms.read(tmp_path / "key") == KEY
    (tmp_path / "short").write_bytes(b"secret\n")
    with pytest.raises(UserError, match=r"short: 6 bytes are no key; give 16 random bytes or more"):
        Pseudonyms.read(tmp_path / "short")
    with pytest.raises(UserError, match=r"none: not readable"):
        Pseudonyms.read(tmp_path / "none")


# interrupted


class KilledError(BaseException):
    """Stands for a process that ends at once."""


def many(store: Store) -> None:
    for number in range(20):
        decide(store, f"r{number:02d}", day=1 + number % 3)
        happen(store, "click", f"r{number:02d}", at=1.2 + number % 3)
    clock(store, 9)


@pytest.mark.parametrize("at", range(1, 26, 2))
def test_an_interrupted_collection_goes_on_from_its_last_part(
    store: Store, tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before any of its renames, it leaves no log, and comes to the same one when it is run again."""
    many(store)
    monkeypatch.setattr(labels, "PAGE", 2)
    monkeypatch.setattr(collect, "pages", small(labels.pages))
    whole = collected(store, tmp_path / "whole.parquet")
    moved, left = Path.replace, [at]

    def stopping(self: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] == 0:
            raise KilledError
        return moved(self, target)

    monkeypatch.setattr(Path, "replace", stopping)
    out = tmp_path / "log.parquet"
    try:
        collect.collect(store.session, out)
    except KilledError:
        assert not out.exists()
    parts = len(list((tmp_path / "log.parquet.parts").glob("*.parquet")))
    monkeypatch.setattr(Path, "replace", moved)
    read: list[int] = []
    monkeypatch.setattr(collect, "pages", small(labels.pages, read))
    done = collect.collect(store.session, out)
    assert len(read) <= 10 - max(parts - 1, 0)  # not from the start
    assert done.rows == whole.height == 40
    assert done.tasks["click"] == Counted(40, 20, 0)
    assert_frame_equal(pl.read_parquet(out), whole)
    assert [one.name for one in tmp_path.glob("*log.parquet*")] == ["log.parquet"]


def small(pages: Callable[..., Iterator[labels.Page]], read: list[int] | None = None) -> Callable[..., Iterator[labels.Page]]:
    """Pages of two decisions, counted."""

    def of_two(session: object, feedback: Feedback, extent: labels.Extent, *, after: labels.Cursor) -> Iterator[labels.Page]:
        for page in pages(session, feedback, extent, after=after, size=2):
            if read is not None:
                read.append(page.frame.height)
            yield page

    return of_two


def test_other_rules_or_an_erasure_begin_anew(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many(store)
    out = tmp_path / "log.parquet"
    monkeypatch.setattr(collect, "pages", small(labels.pages))

    def killed(_: object) -> pl.LazyFrame:
        raise KilledError

    monkeypatch.setattr(pl, "scan_parquet", killed)
    with pytest.raises(KilledError):
        collect.collect(store.session, out)
    state = json.loads((tmp_path / "log.parquet.parts" / "state.json").read_text())
    assert state["parts"] == 10
    monkeypatch.undo()
    store.record([Event(id="new", kind="click", item="11", time=DAY + 1, user="7", request="r00")], received=9 * DAY).result()
    other = replace(FEEDBACK, rules=FEEDBACK.rules[:1])
    done = collect.collect(store.session, out, feedback=other)
    assert done.tasks == {"click": Counted(40, 21, 1)}
    assert not (tmp_path / "log.parquet.parts").exists()


def test_a_full_disk_leaves_the_old_log(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(store, "r1")
    clock(store, 5)
    out = tmp_path / "log.parquet"
    out.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="the disk is full"):
        collect.collect(store.session, out)
    assert out.read_text() == "old"


# what a training reads and nobody told


READ = {
    "user_id": "Int64", "is_click": "Int64", "rating": "Int64", "price": "Float64", "hour": "Float64", "tags": "String", "city": "String",
    "at": "Datetime us UTC",
}  # fmt: skip


def test_what_a_training_reads_is_there_though_nobody_told_it(store: Store, tmp_path: Path) -> None:
    """In the type that it had; what was told keeps its own, and a column that is null throughout was not told."""
    store.declare(FEEDBACK, READ)
    decide(store, "r1", fields={"hour": 7, "city": None})
    clock(store, 4)
    frame = collected(store, tmp_path / "log.parquet")
    untold = {"city": pl.String, "rating": pl.Int64, "tags": pl.String, "at": pl.Datetime("us", "UTC")}
    assert {name: frame[name].dtype for name in untold} == untold
    assert all(frame[name].null_count() == 2 for name in untold)
    assert frame.select("hour", "price", "user_id", "is_click").rows() == [(7, 3.0, 7, 0.0), (7, 2.5, 7, 0.0)]
    assert len(set(frame.columns)) == len(frame.columns)
    assert survey.survey(store.session, 3 * DAY).untold == {}


def test_other_rules_leave_the_columns_that_are_read(store: Store, tmp_path: Path) -> None:
    store.declare(FEEDBACK, READ)
    decide(store, "r1")
    clock(store, 4)
    other = replace(FEEDBACK, rules=FEEDBACK.rules[:1], labels={"click": "clicked"}, request="visit")
    collect.collect(store.session, tmp_path / "log.parquet", feedback=other)
    frame = pl.read_parquet(tmp_path / "log.parquet")
    assert frame["is_click"].to_list() == [None, None], "no rule makes it here"
    assert frame.select("clicked", "visit").rows() == [(0.0, "r1"), (0.0, "r1")]


def test_a_store_that_is_told_no_columns_any_more_has_none(store: Store) -> None:
    store.declare(FEEDBACK, READ)
    assert facts.columns(store.session) == READ
    store.declare(FEEDBACK)
    assert facts.columns(store.session) == {}


def test_an_interrupted_collection_of_other_columns_begins_anew(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(store, "r1")
    clock(store, 4)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pl, "scan_parquet", killed)
        with pytest.raises(KeyboardInterrupt):
            collect.collect(store.session, tmp_path / "log.parquet")
    store.declare(FEEDBACK, READ)
    assert "rating" in collected(store, tmp_path / "log.parquet").columns


# types


@pytest.mark.parametrize(
    ("values", "dtype", "found"),
    [
        ([1, None, 3], pl.Int64, [1, None, 3]),
        ([1, 2.5], pl.Float64, [1.0, 2.5]),
        ([True, None], pl.Boolean, [True, None]),
        ([True, 1], pl.String, ["true", "1"]),
        (["a", 1, 0.5, None, [1]], pl.String, ["a", "1", "0.5", None, "[1]"]),
        ([None, None], pl.String, [None, None]),
        ([[1, 2], [], None], pl.List(pl.Int64), [[1, 2], [], None]),
        ([[1], [0.5]], pl.List(pl.Float64), [[1.0], [0.5]]),
        ([["a"], [1]], pl.List(pl.String), [["a"], ["1"]]),
        ([[], []], pl.List(pl.String), [[], []]),
        ([[1], 1], pl.String, ["[1]", "1"]),
        ([2**70, 1], pl.String, [str(2**70), "1"]),
    ],
)
def test_a_column_is_as_narrow_as_its_values_allow(values: list[Value], dtype: pl.DataType, found: list[object]) -> None:
    for order in (values, list(reversed(values))):
        forms: dict[str, Form] = {}
        for value in order:
            widen(forms, {"x": value})
        (series,) = columns(forms, [{"x": value} for value in values])
        assert (series.dtype, series.to_list()) == (dtype, found)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.none() | st.booleans() | st.integers() | FINITE | st.text(max_size=3) | st.lists(st.integers())))
def test_types_do_not_depend_on_the_order_of_values(values: list[Value]) -> None:
    found = {first | second for first, second in [(joined(values), NOTHING), (joined(values[::-1]), NOTHING), (NOTHING, joined(values))]}
    assert len(found) == 1
    assert len(found.pop().series("x", values)) == len(values)


def joined(values: list[Value]) -> Form:
    found = NOTHING
    for value in values:
        found |= form_of(value)
    return found


def test_whole_ids() -> None:
    assert all_whole(["0", "-5", str(2**63 - 1)])
    for text in ("", "-", "+1", "1.0", " 1", "٣", "-0x", "00", str(2**63), "9" * 30):
        assert not all_whole([text]), text
