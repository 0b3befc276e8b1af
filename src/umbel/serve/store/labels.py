"""The label table: what was shown, with each task's label once it is settled; a function of what is in the store, not of its order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl
import sqlalchemy as sa

from umbel.data.derive import evaluate, label_value
from umbel.errors import UserError
from umbel.feedback import Amount, Attribution, Feedback, Rule
from umbel.schema import Task
from umbel.serve.records import LAST
from umbel.serve.store.session import Session
from umbel.serve.store.tables import decisions, events, shown

PAGE = 2_000  # decisions at a time
Cursor = tuple[int, str]  # time and request of a decision
START: Cursor = (-1, "")
END: Cursor = (LAST + 1, "")
DECIDED = pl.DataFrame(schema={
    "request": pl.String, "user": pl.String, "time": pl.Int64, "bundle": pl.String, "fusion": pl.String, "rung": pl.String,
    "arm": pl.String, "outputs": pl.String, "fields": pl.String, "adapted": pl.String,
})  # fmt: skip
SHOWN = pl.DataFrame(schema={
    "request": pl.String, "item": pl.String, "position": pl.Int64, "fused": pl.Float64, "propensity": pl.Float64,
    "predictions": pl.Binary, "sources": pl.String, "own": pl.String,
})  # fmt: skip
CAME = pl.DataFrame(schema={
    "request": pl.String, "item": pl.String, "id": pl.String, "kind": pl.String, "value": pl.Float64, "at": pl.Int64,
    "received": pl.Int64, "named": pl.Boolean,
})  # fmt: skip
PLACE = ["request", "item"]
LASTING = frozenset((Amount.ANY, Amount.LAST))  # what a label may be before its window closes; a sum or a maximum would still grow
VALUE = {
    Amount.ANY: pl.lit(1.0),
    Amount.SUM: pl.col("value").sum(),
    Amount.MAX: pl.col("value").max(),
    Amount.LAST: pl.col("value").last(),
}


@dataclass(frozen=True, slots=True)
class Extent:
    """What a label table knows: windows are closed by `clock`, that of the events themselves; what came after `until` is left out."""

    clock: int
    until: int = LAST


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the shown items with all that was logged of them, by time, request and position.

    For each task, `label:TASK` is its label, null where it is not settled, and `late:TASK` whether some of it came after it had been.
    `attributed` is the number of events that belong to them.
    """

    frame: pl.DataFrame
    last: Cursor
    attributed: int


def label_column(task: str) -> str:
    """The column of a task's label in a page."""
    return f"label:{task}"


def late_column(task: str) -> str:
    """The column that says whether a task's label was corrected by what came late."""
    return f"late:{task}"


def watermark(session: Session) -> int:
    """The clock of the events: the time of the latest; -1 where there is none."""
    with session.reading() as connection:
        return latest(connection)


def latest(connection: sa.Connection) -> int:
    """That clock, as a transaction sees it."""
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(events.c.time), -1))).scalar_one())


def among_latest(session: Session, until: int, count: int) -> Cursor:
    """A cursor behind which lie the latest decisions no later than `until`, so many of them."""
    wanted = sa.select(decisions.c.time, decisions.c.request).where(decisions.c.time <= until)
    with session.reading() as connection:
        row = connection.execute(wanted.order_by(decisions.c.time.desc(), decisions.c.request.desc()).offset(count).limit(1)).one_or_none()
    return START if row is None else (row.time, row.request)


def check_rules(feedback: Feedback) -> None:
    """Refuse a rule that cannot be computed, two of one task, or none at all; :raises UserError: naming it."""
    names = [rule.task for rule in feedback.rules]
    if not names:
        raise UserError("feedback: no task has a rule", mend="add feedback = { ... } under [tasks.NAME]")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"tasks.{name}.feedback: there are two", mend="keep one")
    for rule in feedback.rules:
        counts(pl.DataFrame([["a"], [1.0]], schema={"kind": pl.String, "value": pl.Float64}), rule)


def pages(session: Session, feedback: Feedback, extent: Extent, *, after: Cursor = START, size: int = PAGE) -> Iterator[Page]:
    """The label table of the decisions behind `after`, some at a time: those of which at least one task can be settled.

    A task is settled for what was shown at `time` when the clock has passed `time + window + lateness`.
    An event counts that happened before `time + window`; where it names the request it may seem to have happened before it, by as much
    as clocks differ (`Feedback.skew`).
    """
    closing = extent.clock - feedback.lateness - min(rule.window for rule in feedback.rules)
    while True:
        with session.reading() as connection:
            decided = frame_of(connection.execute(_decisions(after, closing, size)), DECIDED)
            if decided.is_empty():
                return
            last = _last(decided)
            within = sa.and_(behind(after), sa.not_(behind(last)))
            places = frame_of(connection.execute(places_of(within)), SHOWN)
            longest = max(rule.window for rule in feedback.rules)
            came = events_of(connection, within, extent.until, longest=longest)
        frame = labelled(decided, places, came, feedback=feedback, extent=extent)
        yield Page(frame, last, came["id"].n_unique())
        after = last


def _last(decided: pl.DataFrame) -> Cursor:
    return int(decided["time"][-1]), str(decided["request"][-1])


def labelled(
    decided: pl.DataFrame, places: pl.DataFrame, came: pl.DataFrame, *, feedback: Feedback, extent: Extent, early: bool = False,
) -> pl.DataFrame:
    """Shown items with the columns of `Page`.

    `early` labels are those of windows that have not closed: there is one where an event came, unless it may still grow.
    """
    frame = decided.join(places, on="request").sort("time", "request", "position")
    came = came.join(frame.select("request", "item", "time"), on=PLACE).with_columns(age=pl.col("at") - pl.col("time")).sort("at", "id")
    counted = came.filter((pl.col("age") >= -feedback.skew) & pl.col("value").fill_null(0.0).is_not_nan())
    for rule in feedback.rules:
        frame = frame.join(_labels(counted, rule, feedback.lateness), on=PLACE, how="left", maintain_order="left")
        settled = pl.col("time") + rule.window + feedback.lateness <= extent.clock
        label, late = label_column(rule.task), late_column(rule.task)
        unsettled = pl.col(label) if early and rule.value in LASTING else None
        known = pl.when(settled).then(pl.coalesce(label, pl.lit(rule.nothing, pl.Float64))).otherwise(unsettled)
        frame = frame.with_columns(known.alias(label), (settled & pl.col(late).fill_null(value=False)).alias(late))
    return frame


def events_of(connection: sa.Connection, within: sa.ColumnElement[bool], until: int, *, longest: int, before: Cursor = END) -> pl.DataFrame:
    """The events that belong to what some decisions showed, up to `longest` after it; decisions from `before` on are not known."""
    found = [connection.execute(one) for one in (_named(within, until), _touching(within, until, longest=longest, before=before))]
    return pl.concat([frame_of(rows, CAME) for rows in found])


def _labels(came: pl.DataFrame, rule: Rule, lateness: int) -> pl.DataFrame:
    """The label of every place that has events of this rule."""
    own = came if rule.attribution is Attribution.LAST else came.filter("named")
    own = own.filter(pl.col("age") < rule.window)
    own = own.filter(counts(own, rule))
    own = (own if rule.range is None else own.filter(pl.col("value").is_between(*rule.range))).with_columns(pl.col("value").fill_null(0.0))
    closed = pl.col("time") + rule.window + lateness
    late = (pl.col("received") >= closed).any()
    return own.group_by(PLACE, maintain_order=True).agg(
        VALUE[rule.value].cast(pl.Float64).alias(label_column(rule.task)), late.alias(late_column(rule.task))
    )


def counts(came: pl.DataFrame, rule: Rule) -> pl.Series:
    """Which events satisfy a rule's `positive_when`, from their kinds and values; :raises UserError: if it is neither true nor false."""
    value = label_value(Task(rule.task, sql=rule.positive_when))
    found = evaluate(came, [value]).to_series()
    if found.dtype != pl.Boolean:
        where = f"tasks.{rule.task}.feedback.positive_when"
        raise UserError(f"{where}: {rule.positive_when!r} is neither true nor false", mend="compare it with a value")
    return found.fill_null(value=False)


def frame_of(rows: sa.CursorResult[tuple[object, ...]], like: pl.DataFrame) -> pl.DataFrame:
    """Rows of a query as columns of known types."""
    return pl.DataFrame([tuple(row) for row in rows], schema=like.schema, orient="row")


def behind(cursor: Cursor) -> sa.ColumnElement[bool]:
    """The decisions behind a cursor, in the order of time and request."""
    return sa.tuple_(decisions.c.time, decisions.c.request) > sa.tuple_(*cursor)


def _decisions(after: Cursor, closing: int, size: int) -> sa.Select[tuple[object, ...]]:
    columns = [decisions.c[name] for name in DECIDED.columns]
    wanted = sa.select(*columns).where(behind(after), decisions.c.time <= closing)
    return wanted.order_by(decisions.c.time, decisions.c.request).limit(size)


def places_of(within: sa.ColumnElement[bool]) -> sa.Select[tuple[object, ...]]:
    """What some decisions showed."""
    columns = [shown.c[name] for name in SHOWN.columns[:-1]]
    return sa.select(*columns, shown.c.fields).join(decisions, decisions.c.request == shown.c.request).where(within)


def _named(within: sa.ColumnElement[bool], until: int) -> sa.Select[tuple[object, ...]]:
    """The events that name one of these requests."""
    own = sa.select(events.c.request, *_event_columns(), sa.true()).join(decisions, decisions.c.request == events.c.request)
    return own.where(within, events.c.received <= until)


def _touching(within: sa.ColumnElement[bool], until: int, *, longest: int, before: Cursor) -> sa.Select[tuple[object, ...]]:
    """The events that name no request, with the latest decision that showed their item to their user before them, if it is one of these."""
    later, there = decisions.alias("later"), shown.alias("there")
    moment = sa.tuple_(later.c.time, later.c.request)
    after = moment > sa.tuple_(decisions.c.time, decisions.c.request)
    if before != END:
        after = sa.and_(after, moment < sa.tuple_(*before))
    newer = (
        sa.select(sa.literal(1)).select_from(later).join(there, there.c.request == later.c.request)
        .where(later.c.user == events.c.user, there.c.item == events.c.item, later.c.time <= events.c.time, after)
    )  # fmt: skip
    # Not `IS NULL`: an engine would go through all such events for every page, rather than from decisions to their users' events.
    unnamed = sa.func.coalesce(events.c.request, "") == ""
    near = sa.and_(events.c.time >= decisions.c.time, events.c.time < decisions.c.time + longest)
    return (
        sa.select(decisions.c.request, *_event_columns(), sa.false())
        .join(decisions, decisions.c.user == events.c.user)
        .join(shown, sa.and_(shown.c.request == decisions.c.request, shown.c.item == events.c.item))
        .where(within, unnamed, events.c.received <= until, near, sa.not_(newer.exists()))
    )


def _event_columns() -> list[sa.ColumnElement[object]]:
    kept = events.c
    return [kept.item, kept.id, kept.kind, kept.value, kept.time, kept.received]
