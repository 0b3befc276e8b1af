"""A small bundle with a cold-start ladder and rules of labels, what a service shows and hears of a user, and the rows it comes to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from tests import rated
from umbel.bundle import Bundle
from umbel.feedback import Amount, Feedback, Rule
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import Linear
from umbel.learn.ladder import Ladder
from umbel.serve.records import Decision, Event, Rung, Shown, Value
from umbel.serve.served import Served, load
from umbel.serve.store.store import Store

HEAD = Ladder(head=1, user="user", strength=2.0)
MINUTE = 60_000
FEEDBACK = Feedback(
    rules=(
        Rule(task="rating", window=30 * MINUTE, positive_when="kind = 'rate'", value=Amount.LAST),
        Rule(task="click", window=10 * MINUTE, positive_when="kind = 'click'"),
    ),
    lateness=MINUTE, user="user", item="item", time="time",
)  # fmt: skip
POLICY = Fusion((Term("rating", Linear()), Term("click", Linear())), "small")
ITEMS = {str(row["item"]): {"item": row["item"], "genres": row["genres"], "year": row["year"]} for row in rated.log().iter_rows(named=True)}
IDS = sorted(ITEMS, key=lambda one: int(one[1:]))


def bundle(folder: Path, ladder: Ladder | None = HEAD, *, feedback: Feedback | None = FEEDBACK) -> Path:
    """Where it lies."""
    table = rated.table(folder)
    made: Bundle = replace(rated.bundle(table, ladder), feedback=feedback, fusion=POLICY)
    place = folder / "runs" / "a" / "bundle"
    made.save(place, golden=table.golden())
    return place


def served(folder: Path, ladder: Ladder | None = HEAD, *, feedback: Feedback | None = FEEDBACK) -> Served:
    """That bundle, ready to answer."""
    return load(bundle(folder, ladder, feedback=feedback))


def show(store: Store, user: str | None, items: Sequence[str], *, time: int, age: str = "a1") -> str:
    """An answer to a user, kept; its request."""
    fields: dict[str, Value] = {"user": user, "age": age}
    shown = tuple(Shown(item=one, fields=ITEMS[one]) for one in items)
    request = f"r{time:09d}{user}"
    one = Decision(request=request, user=user, time=time, bundle="b", fusion="f", rung=Rung.FULL, shown=shown, fields=fields)
    store.log(one).result()
    return request


def tell(store: Store, user: str, told: Mapping[str, float], *, time: int, kind: str = "rate", received: int | None = None) -> None:
    """A user's events about items, with their values."""
    sent = [Event(id=f"{user}{kind}{item}{time}", kind=kind, item=item, time=time, user=user, value=value) for item, value in told.items()]
    outcomes = store.record(sent, received=time if received is None else received).result()
    assert {one.result.value for one in outcomes} == {"accepted"}


def rows(user: str, told: Mapping[str, tuple[float | None, float | None]], *, age: str = "a1") -> pl.DataFrame:
    """Raw rows of a user, each with its rating and click, typed as the log is."""
    raw = [{"user": int(user), "age": age, **ITEMS[item], "rating": rating, "click": click} for item, (rating, click) in told.items()]
    types = {name: dtype for name, dtype in rated.log().schema.items() if name not in ("time", "part", "click")}
    return pl.DataFrame(raw, schema={**types, "click": pl.Float64})


def logged(store: Store, request: str) -> dict[str, object]:
    """How far a kept decision says that it was the user's own."""
    import sqlalchemy as sa

    from umbel.serve.store.tables import decisions

    with store.session.reading() as connection:
        text = connection.execute(sa.select(decisions.c.adapted).where(decisions.c.request == request)).scalar_one()
    return {} if text is None else dict(json.loads(text))
