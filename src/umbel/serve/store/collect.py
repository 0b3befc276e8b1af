"""`umbel collect`: decisions with their settled labels as the raw log of another training, streamed, and gone on with if interrupted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from umbel import durable
from umbel.errors import UserError
from umbel.feedback import Feedback
from umbel.serve.store.facts import ERASED, columns, declared, get
from umbel.serve.store.forms import Form, Kind
from umbel.serve.store.labels import START, Cursor, Extent, check_rules, label_column, late_column, pages, watermark
from umbel.serve.store.logged import Pseudonyms, check_names, log_rows
from umbel.serve.store.orphans import orphans
from umbel.serve.store.session import Session, now
from umbel.serve.store.survey import Survey, survey

STATE = "state.json"


@dataclass(frozen=True, slots=True)
class Counted:
    """What became of one task's labels: settled ones, those above 0, and those that late events corrected."""

    settled: int = 0
    positive: int = 0
    late: int = 0


@dataclass(frozen=True, slots=True)
class Collected:
    """A log: its rows, each task's labels, and the events that belong to nothing that was shown."""

    rows: int
    tasks: Mapping[str, Counted]
    orphans: int


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far a collection has come: what it is of (`asked`), what it knows, its parts so far."""

    asked: dict[str, Any]
    extent: Extent
    found: Survey
    parts: int = 0
    last: Cursor = START
    rows: int = 0
    tasks: dict[str, Counted] = field(default_factory=dict)


def collect(session: Session, out: Path, *, feedback: Feedback | None = None, pseudonyms: Pseudonyms | None = None) -> Collected:
    """Write the log, a Parquet file, whole or not at all; an interrupted collection goes on from its last part.

    It holds what can be settled of what had come when it began, in the order of time; see `umbel.serve.store.labels`. Every column that
    another training would read is in it, empty where nothing was told.

    :raises UserError: if no rules are known, nothing is settled yet, the place is not writable, or another process writes it.
    """
    rules = declared(session) if feedback is None else feedback
    check_rules(rules)
    check_names(rules)
    asked = json.loads(json.dumps({
        "store": session.place.where, "feedback": rules.to_json(), "erased": get(session, ERASED),
        "pseudonyms": None if pseudonyms is None else pseudonyms.name, "columns": columns(session),
    }))  # fmt: skip
    with durable.sole(out), durable.hold(_folder(out)):
        state = _begun(session, out, asked=asked, feedback=rules)
        for further in _parts(session, out, state=state, feedback=rules, pseudonyms=pseudonyms):
            state = further
            durable.write(_folder(out) / STATE, json.dumps(asdict(state)))
        if state.rows == 0:
            shutil.rmtree(_folder(out))
            raise UserError(f"{session.place.where}: no label is settled yet", mend="wait until a window and the lateness have passed")
        with durable.file(out) as made:
            parts = [_part(out, number) for number in range(state.parts)]
            pl.scan_parquet(parts).sink_parquet(made, maintain_order=True)
        shutil.rmtree(_folder(out))
    return Collected(state.rows, state.tasks, orphans(session, state.extent.until))


def _begun(session: Session, out: Path, *, asked: dict[str, Any], feedback: Feedback) -> State:
    """The state of an interrupted collection of the same, else that of a new one."""
    path = _folder(out) / STATE
    if path.exists():
        state = _read(json.loads(path.read_text()))
        if state.asked == asked:
            return state
    for one in _folder(out).glob("*.parquet"):
        one.unlink()
    # Not ahead of our own clock: what is decided from now on is too young to be collected, so that its types are known by then.
    extent = Extent(min(watermark(session), now()), until=now())
    found = survey(session, extent.clock, columns=asked["columns"])
    state = State(asked=asked, extent=extent, found=found, tasks={rule.task: Counted() for rule in feedback.rules})
    durable.write(path, json.dumps(asdict(state)))
    return state


def _parts(session: Session, out: Path, *, state: State, feedback: Feedback, pseudonyms: Pseudonyms | None) -> Iterator[State]:
    """Write part by part; the state after each. A part that was written before its state is written again, the same."""
    for page in pages(session, feedback, state.extent, after=state.last):
        rows = log_rows(page.frame, feedback, state.found, pseudonyms=pseudonyms)
        with durable.file(_part(out, state.parts)) as made:
            rows.write_parquet(made)
        tasks = {task: _more(counted, page.frame, task) for task, counted in state.tasks.items()}
        state = replace(state, parts=state.parts + 1, last=page.last, rows=state.rows + rows.height, tasks=tasks)
        yield state


def _more(counted: Counted, frame: pl.DataFrame, task: str) -> Counted:
    labels = frame[label_column(task)].drop_nulls()
    late = int(frame[late_column(task)].sum())
    return Counted(counted.settled + len(labels), counted.positive + int((labels > 0).sum()), counted.late + late)


def _read(content: dict[str, Any]) -> State:
    found = content.pop("found")
    forms = {name: Form(Kind(form["kind"]), form["many"]) for name, form in found.pop("forms").items()}
    outputs = tuple(found.pop("outputs"))
    last, tasks = tuple(content.pop("last")), {name: Counted(**one) for name, one in content.pop("tasks").items()}
    return State(
        extent=Extent(**content.pop("extent")), found=Survey(forms, outputs, **found), last=(last[0], last[1]), tasks=tasks, **content
    )


def _folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.parts")


def _part(out: Path, number: int) -> Path:
    return _folder(out) / f"{number:06d}.parquet"
