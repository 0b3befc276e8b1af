"""A page of the label table as rows of the log that `umbel ingest` reads."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from umbel.data.columns import empty
from umbel.errors import UserError
from umbel.feedback import Feedback
from umbel.serve.store.forms import NOTHING, Form, Kind, columns
from umbel.serve.store.labels import label_column
from umbel.serve.store.rows import to_adapted
from umbel.serve.store.survey import Survey

PREDICTED = "predicted_"  # before the name of a prediction
PLAIN = {"request_id": "request", "position": "position", "propensity": "propensity", "fused": "fused", "rung": "rung",
         "bundle": "bundle", "fusion": "fusion", "arm": "arm"}  # fmt: skip
ADAPTED = ("adapted", "adapted_rows")  # the rung of the bundle's ladder that a decision was answered on, and the rows known of its user
SOURCES = "sources"  # what brought the item, where the service chose the candidates
SHORTEST, DIGITS = 16, 32  # bytes of a key, digits of a pseudonym


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """A key that turns raw ids of users into others: the same ones each time, and no way back without the key (HMAC-SHA256)."""

    key: bytes

    @staticmethod
    def read(path: Path) -> Pseudonyms:
        """The key of a file; :raises UserError: if it cannot be read or is too short to keep anybody from guessing."""
        try:
            key = path.read_bytes().strip()
        except OSError as error:
            raise UserError(f"{path}: not readable ({error.strerror})", mend="name a file that holds the key") from None
        if len(key) < SHORTEST:
            raise UserError(f"{path}: {len(key)} bytes are no key", mend=f"give {SHORTEST} random bytes or more, kept apart from the logs")
        return Pseudonyms(key)

    @property
    def name(self) -> str:
        """What tells one key from another, and is not the key."""
        return self.of("")

    def of(self, user: str) -> str:
        """The pseudonym of a user.

        Example
        -------
        >>> Pseudonyms(b"a key of sixteen bytes").of("u1")
        'b93e7e9bbb8edcdf01fadf3d52caa053'
        """
        return hmac.new(self.key, user.encode(), hashlib.sha256).hexdigest()[:DIGITS]


def log_rows(frame: pl.DataFrame, feedback: Feedback, found: Survey, *, pseudonyms: Pseudonyms | None = None) -> pl.DataFrame:
    """The log's rows: raw ids and time, what was logged of the answer, predictions, labels, then the fields of request and item.

    Last come, empty, the columns of the survey that nobody told a value of.

    A field that has the name of one of the other columns gives way to it. Under pseudonyms, a text field that holds just the raw id of its
    user is replaced like it.
    """
    users = frame["user"]
    hidden = users if pseudonyms is None else _replaced(users, pseudonyms)
    own = [
        _ids(feedback.user, hidden, whole=found.users_whole and pseudonyms is None),
        _ids(feedback.item, frame["item"], whole=found.items_whole),
        frame["time"].alias(feedback.time),
        *(frame[column].alias(name) for name, column in _plain(feedback).items()),
        *_adapted(frame["adapted"]),
        frame[SOURCES].str.json_decode(pl.List(pl.String)),
        *predictions(frame, found.outputs),
        *(frame[label_column(rule.task)].alias(feedback.label(rule.task)) for rule in feedback.rules),
    ]
    whole = pl.DataFrame(own)
    fields = [{**json.loads(request), **json.loads(item)} for request, item in zip(frame["fields"], frame["own"], strict=True)]
    given = columns({name: form for name, form in found.forms.items() if name not in whole.columns}, fields)
    if pseudonyms is not None:
        texts = Form(Kind.TEXT), NOTHING
        given = [_hidden(one, users, hidden) if found.forms[one.name] in texts else one for one in given]
    whole = whole.with_columns(given)
    untold = empty({name: kind for name, kind in found.untold.items() if name not in whole.columns})
    return whole.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in untold.schema.items())


def check_names(feedback: Feedback) -> None:
    """Refuse two columns of one name; :raises UserError: naming it."""
    labels = [feedback.label(rule.task) for rule in feedback.rules]
    names = [feedback.user, feedback.item, feedback.time, *_plain(feedback), *ADAPTED, SOURCES, *labels]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"the log would have two columns {name!r}", mend="call the label, or the user, item or time column, otherwise")


def _plain(feedback: Feedback) -> dict[str, str]:
    """The columns that are what was logged of an answer, the request's under the name that a training knows it by, too."""
    return PLAIN | ({} if feedback.request is None else {feedback.request: "request"})


def _adapted(told: pl.Series) -> list[pl.Series]:
    found = [to_adapted(one) for one in told]
    rungs, rows = [one and one.rung for one in found], [one and one.rows for one in found]
    return [pl.Series(ADAPTED[0], rungs, dtype=pl.String), pl.Series(ADAPTED[1], rows, dtype=pl.Int64)]


def _ids(name: str, ids: pl.Series, *, whole: bool) -> pl.Series:
    return (ids.cast(pl.Int64) if whole else ids).alias(name)


def _replaced(users: pl.Series, pseudonyms: Pseudonyms) -> pl.Series:
    known = users.drop_nulls().unique()
    return users.replace_strict(known, pl.Series([pseudonyms.of(user) for user in known], dtype=pl.String), default=None)


def _hidden(values: pl.Series, users: pl.Series, hidden: pl.Series) -> pl.Series:
    return hidden.zip_with((values == users).fill_null(value=False), values).alias(values.name)


def predictions(frame: pl.DataFrame, outputs: tuple[str, ...]) -> list[pl.Series]:
    """One column for each prediction, null where that decision did not have it."""
    values = np.full((frame.height, len(outputs)), np.nan)
    places = {name: place for place, name in enumerate(outputs)}
    for (named,), rows in frame.with_row_index("row").group_by("outputs"):
        into = [places[name] for name in json.loads(str(named))]
        for row, given in rows.select("row", "predictions").iter_rows():
            if given:
                values[row, into] = np.frombuffer(given, "<f8")
    return [pl.Series(PREDICTED + name, values[:, place], nan_to_null=True) for name, place in places.items()]
