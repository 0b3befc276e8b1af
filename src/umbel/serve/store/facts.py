"""What a store is told about itself: the rules of its labels, kept in it so that whoever reads it knows them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from umbel.data.columns import Types
from umbel.errors import UserError
from umbel.feedback import Feedback, from_json
from umbel.serve.records import Value
from umbel.serve.store.engine import Place
from umbel.serve.store.labels import check_rules
from umbel.serve.store.rows import to_json
from umbel.serve.store.session import Session, now
from umbel.serve.store.tables import audit, facts

FEEDBACK, COLUMNS, ERASED, FOUND = "feedback", "columns", "erased", "monitor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What goes with a change, in its transaction: a line of the audit, and the rules of labels and raw columns from then on, if any."""

    actor: str
    action: str
    detail: Mapping[str, Value]
    feedback: Feedback | None = None
    columns: Types | None = None


def declare(session: Session, feedback: Feedback, columns: Types | None = None) -> None:
    """Keep the rules of labels, and the raw columns that another training reads of a log, in place of those that were there.

    :raises UserError: for a rule that cannot be computed, or two of one task.
    """
    with session.writing() as connection:
        declare_in(connection, session.place, feedback, columns=columns)


def declare_in(connection: sa.Connection, place: Place, feedback: Feedback, *, columns: Types | None) -> None:
    """Keep them as part of a transaction."""
    check_rules(feedback)
    put_in(connection, place, name=FEEDBACK, content=feedback.to_json())
    put_in(connection, place, name=COLUMNS, content=dict(columns or {}))


def note_in(connection: sa.Connection, actor: str, action: str, *, detail: Mapping[str, Value]) -> None:
    """Add a line to the audit as part of a transaction."""
    connection.execute(sa.insert(audit).values(time=now(), actor=actor, action=action, detail=to_json(detail)))


def declared(session: Session) -> Feedback:
    """The rules of labels; :raises UserError: if none were given yet."""
    found = get(session, FEEDBACK)
    if found is None:
        mend = "serve a bundle whose run file says them, or give --rules RUN.toml"
        raise UserError(f"{session.place.where}: has no rules of labels", mend=mend)
    return from_json(found)


def columns(session: Session) -> Types:
    """The raw columns that another training reads of a log, with their types; none where nobody said."""
    return get(session, COLUMNS) or {}


def put(session: Session, name: str, content: object) -> None:
    """Keep a fact, in place of the one of that name."""
    with session.writing() as connection:
        put_in(connection, session.place, name=name, content=content)


def put_new(session: Session, name: str, content: dict[str, Any]) -> dict[str, Any]:
    """Keep a fact unless there is one of that name; the one that is there then."""
    with session.writing() as connection:
        connection.execute(session.place.insert(facts).values(name=name, content=json.dumps(content)).on_conflict_do_nothing())
    found = get(session, name)
    assert found is not None
    return found


def swap(session: Session, name: str, content: object, *, number: int | None, said: Said | None = None) -> bool:
    """Keep a fact in place of the one with this `number` in it (None: where there is none), and what is said of it.

    Whether that was the one there; nothing is kept otherwise.
    """
    with session.writing() as connection:
        done = _swapped(connection, session.place, name, content=content, number=number)
        if done and said is not None:
            note_in(connection, said.actor, said.action, detail=said.detail)
            if said.feedback is not None:
                declare_in(connection, session.place, said.feedback, columns=said.columns)
    return done


def _swapped(connection: sa.Connection, place: Place, name: str, *, content: object, number: int | None) -> bool:
    row = facts.c.name == name
    if number is None:
        insert = place.insert(facts).values(name=name, content=json.dumps(content)).on_conflict_do_nothing()
        return connection.execute(insert.returning(facts.c.name)).first() is not None
    # The row is locked, as in `lease`.
    found = connection.execute(sa.select(facts.c.content).where(row).with_for_update()).scalar_one_or_none()
    if found is None or json.loads(found)["number"] != number:
        return False
    connection.execute(sa.update(facts).where(row).values(content=json.dumps(content)))
    return True


def put_in(connection: sa.Connection, place: Place, *, name: str, content: object) -> None:
    """Keep a fact as part of a transaction."""
    insert = place.insert(facts).values(name=name, content=json.dumps(content))
    connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"content": insert.excluded.content}))


def lease(session: Session, name: str, *, holder: str, until: int) -> bool:
    """Hold a name until a moment, unless another holds it now; whether it is held. Who holds it may hold it longer, or shorter."""
    own = {"holder": holder, "until": until}
    row = facts.c.name == name
    with session.writing() as connection:
        connection.execute(session.place.insert(facts).values(name=name, content=json.dumps(own)).on_conflict_do_nothing())
        # The row is locked: of two processes of a PostgreSQL store the second reads what the first wrote.
        found = json.loads(connection.execute(sa.select(facts.c.content).where(row).with_for_update()).scalar_one())
        held = bool(found["holder"] == holder or found["until"] <= now())
        if held:
            connection.execute(sa.update(facts).where(row).values(content=json.dumps(own)))
    return held


def get(session: Session, name: str) -> dict[str, Any] | None:
    """A fact; None where there is none of that name."""
    with session.reading() as connection:
        content = connection.execute(sa.select(facts.c.content).where(facts.c.name == name)).scalar_one_or_none()
    return None if content is None else dict(json.loads(content))
