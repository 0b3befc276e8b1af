"""What `umbel collect` and `umbel erase` do with a store, from their arguments to the lines that they say."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from umbel.data.files import check_suffix
from umbel.errors import UserError
from umbel.feedback import Feedback, duration
from umbel.serve.store.choices import write_choices
from umbel.serve.store.collect import collect
from umbel.serve.store.engine import Sqlite, place
from umbel.serve.store.erase import Erased, erase, forget
from umbel.serve.store.logged import Pseudonyms
from umbel.serve.store.session import Session, now


def collect_log(
    store: str, out: Path, *, rules: Path | None = None, pseudonyms: Path | None = None, choices: Path | None = None
) -> Iterator[str]:
    """Collect, and say what was; into another file, what each decision chose from.

    :raises UserError: for what `collect` refuses, a file that is not called .parquet, a store that is not there, a run file without
        rules, or a key that is none.
    """
    for path in (out, *(() if choices is None else (choices,))):
        check_suffix(path, ".parquet")
    key = None if pseudonyms is None else Pseudonyms.read(pseudonyms)
    feedback = None if rules is None else _rules(rules)
    with closing(existing(store)) as session:
        done = collect(session, out, feedback=feedback, pseudonyms=key)
        chosen = None if choices is None else write_choices(session, choices)
    yield f"{out}: {_counted(done.rows, 'row')}"
    for task, counted in done.tasks.items():
        yield f"  {task}: {_counted(counted.settled, 'label')}, {counted.positive:,} above 0, {counted.late:,} corrected late"
    if done.orphans:
        yield f"  {_counted(done.orphans, 'event')} {'belongs' if done.orphans == 1 else 'belong'} to nothing that was shown"
    if chosen is not None:
        yield f"{choices}: what {_counted(chosen, 'decision')} chose from"


def erase_user(store: str, user: str) -> str:
    """Erase a user, rewrite the files, and say what is gone; :raises UserError: for a store that is not there."""
    with closing(existing(store)) as session:
        return _said(session, erase(session, user))


def erase_older(store: str, before: str) -> str:
    """Erase what is older, rewrite the files, and say what is gone; :raises UserError: for a store that is not there, or no moment."""
    with closing(existing(store)) as session:
        return _said(session, forget(session, moment(before)))


def existing(store: str) -> Session:
    """A store that is there already; :raises UserError: if it is not."""
    where = place(store)
    if isinstance(where, Sqlite) and not where.path.is_file():
        raise UserError(f"{where.where}: no such store", mend="name the file that `umbel serve` made")
    return Session(store)


def moment(text: str) -> int:
    """Milliseconds since 1970 of a date or time (UTC unless it says otherwise), or of an age before now.

    :raises UserError: for anything else.

    Example
    -------
    >>> moment("2024-01-02"), moment("2024-01-02T00:00:00+01:00")
    (1704153600000, 1704150000000)
    """
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        return round((found if found.tzinfo else found.replace(tzinfo=dt.UTC)).timestamp() * 1000)
    try:
        return now() - duration(text, where="--before")
    except UserError as error:
        raise UserError(error.what, mend=f"{error.mend}, or a date such as 2025-03-01") from None


def _said(session: Session, gone: Erased) -> str:
    session.place.compact(session.engine)  # also where nothing was there: an earlier run may have been stopped before it
    what = f"{_counted(gone.decisions, 'decision')} and {_counted(gone.events, 'event')} erased"
    return f"{session.place.where}: {what}; logs, tables and bundles that were made before hold them"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _rules(path: Path) -> Feedback:
    from umbel.run.resolve import feedback
    from umbel.run.settings import read

    found = feedback(read(path))
    if found is None:
        raise UserError(f"{path}: no task says how events become its label", mend="add feedback = { ... } under [tasks.NAME]")
    return found
