"""What a store is told about itself: the rules of its labels, kept in it so that whoever reads it knows them."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from umbel.data.columns import Types
from umbel.errors import UserError
from umbel.feedback import Feedback, from_json
from umbel.serve.store.engine import Place
from umbel.serve.store.labels import check_rules
from umbel.serve.store.session import Session, now
from umbel.serve.store.tables import facts

FEEDBACK, COLUMNS, ERASED, FOUND = "feedback", "columns", "erased", "monitor"


def declare(session: Session, feedback: Feedback, columns: Types | None = None) -> None:
    """Keep the rules of labels, and the raw columns that another training reads of a log, in place of those that were there.

    :raises UserError: for a rule that cannot be computed, or two of one task.
    """
    check_rules(feedback)
    put(session, FEEDBACK, feedback.to_json())
    put(session, COLUMNS, dict(columns or {}))


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


def swap(session: Session, name: str, content: object, *, number: int | None) -> bool:
    """Keep a fact in place of the one with this `number` in it (None: where there is none); whether that was the one there."""
    row = facts.c.name == name
    with session.writing() as connection:
        if number is None:
            insert = session.place.insert(facts).values(name=name, content=json.dumps(content)).on_conflict_do_nothing()
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
