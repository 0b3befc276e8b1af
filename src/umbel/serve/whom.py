"""Who users are, to somebody who looks: their ids to who may know them, to others pseudonyms that are the same in all of a store."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import TypeVar, final

from msgspec.structs import replace

from umbel.serve.preview import Example
from umbel.serve.store.facts import get, put_new
from umbel.serve.store.logged import Pseudonyms
from umbel.serve.store.recent import Glance
from umbel.serve.store.session import Session
from umbel.serve.why import Why

FACT = "pseudonyms"  # under which a store keeps the key of its pseudonyms
MARK, DIGITS = "~", 16
Told = TypeVar("Told", Glance, Example, Why)


@final
class Whom:
    """The pseudonyms of a store's users (keyed HMAC): who reads the answers can follow a user, and cannot say who it is."""

    def __init__(self, session: Session) -> None:
        found = get(session, FACT) or put_new(session, FACT, {"key": secrets.token_hex(32)})
        self._pseudonyms = Pseudonyms(bytes.fromhex(found["key"]))

    def of(self, user: str) -> str:
        """A user's."""
        return MARK + self._pseudonyms.of(user)[:DIGITS]

    def hide(self, told: Sequence[Told]) -> list[Told]:
        """The same, every user under the pseudonym."""
        return [one if one.user_id is None else replace(one, user_id=self.of(one.user_id)) for one in told]

    def hide_why(self, told: Why) -> Why:
        """The same, and the id under it wherever it stands as the value of a field."""
        if told.user_id is None:
            return told
        items = [replace(one, fields=self._fields(one.fields, told.user_id)) for one in told.items]
        return replace(self.hide([told])[0], fields=self._fields(told.fields, told.user_id), items=items)

    def _fields(self, fields: Mapping[str, object], user: str) -> dict[str, object]:
        return {name: self._value(value, user) for name, value in fields.items()}

    def _value(self, value: object, user: str) -> object:
        if isinstance(value, list):
            return [self._value(one, user) for one in value]
        return self.of(user) if not isinstance(value, bool) and str(value) == user else value
