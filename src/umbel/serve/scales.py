"""Ratings that are outside their scale, told to whoever sends them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from umbel.feedback import Feedback, Rule
from umbel.serve.records import Event, Outcome, Result
from umbel.serve.store.labels import counts

COLUMNS = pl.Schema({"kind": pl.String, "value": pl.Float64})


def on_scale(sent: Sequence[Event | Outcome], feedback: Feedback | None) -> list[Event | Outcome]:
    """The same, but an event that counts for a task with a range, and whose value is missing or outside it, is rejected."""
    found = list(sent)
    for rule in () if feedback is None else feedback.rules:
        if rule.range is not None:
            places = [place for place, one in enumerate(found) if isinstance(one, Event)]
            told = [one for one in found if isinstance(one, Event)]
            frame = pl.DataFrame({"kind": [one.kind for one in told], "value": [one.value for one in told]}, schema=COLUMNS)
            for place, event, own in zip(places, told, counts(frame, rule), strict=True):
                if own and (wrong := _wrong(event, rule)):
                    found[place] = Outcome(event.id, Result.REJECTED, wrong)
    return found


def _wrong(event: Event, rule: Rule) -> str | None:
    low, high = rule.range or (0.0, 0.0)
    if event.value is not None and low <= event.value <= high:
        return None
    what = "value is missing" if event.value is None else f"value {event.value:g} is outside the range"
    return f"{what}: {rule.task} is {low:g} to {high:g}"
