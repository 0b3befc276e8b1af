"""What the store knows of users or items, at hand: read once, then told of what others write and that they deleted something."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import final

from umbel.serve.records import Known, Value
from umbel.serve.store.catalogue import Catalogue

ROOM = 200_000     # ids that are remembered, unknown ones too
OVERLAP = 10_000  # milliseconds that are read again at each refresh: clocks of other processes may lag by that much

MISSING: dict[str, Value] = {}


@final
class Memory:
    """The attributes of a catalogue by id. What another process writes is seen after the next `refresh`; threads may share one."""

    def __init__(self, catalogue: Catalogue, *, now: int) -> None:
        self.catalogue, self._since, self._mark = catalogue, now - OVERLAP, ""
        self._known: OrderedDict[str, dict[str, Value] | None] = OrderedDict()

    def at_hand(self, ids: Sequence[str]) -> tuple[dict[str, dict[str, Value]], list[str]]:
        """Attributes of those that are remembered (none of those known to be unknown), and the ids that are to be fetched."""
        fields = list(map(self._known.get, ids, repeat(MISSING)))
        missing = [one for one, own in zip(ids, fields, strict=True) if own is MISSING]
        return {one: own for one, own in zip(ids, fields, strict=True) if own is not None and own is not MISSING}, missing

    def fetch(self, ids: Sequence[str]) -> dict[str, dict[str, Value]]:
        """Read attributes from the store, and remember them; :raises UnavailableError: if it does not answer."""
        mark, found = self._mark, self.catalogue.get(ids)
        for one in ids:
            self._remember(one, dict(found[one].fields) if one in found else None)
        if mark != self._mark:  # something was deleted after it was read, and may be among them
            self._forget(ids)
        return {name: dict(one.fields) for name, one in found.items()}

    def put(self, known: Sequence[Known]) -> None:
        """Write attributes, durably, in one transaction."""
        self.catalogue.put(known)
        self._forget([one.id for one in known])

    def delete(self, one: str, *, time: int) -> bool:
        """Forget attributes, durably; whether there were any."""
        was = self.catalogue.delete(one, time=time)
        self._forget([one])
        return was

    def refresh(self, now: int, *, tell: Callable[[list[Known], list[str]], object] | None = None) -> None:
        """Remember what was written since the last time; nothing at all any more if something was deleted, and nobody says what.

        `tell` is told of what was written and what deleted; where it fails, the next time begins where this one did.
        """
        (changed, deleted), mark = self.catalogue.changed(self._since), self.catalogue.mark()
        if mark != self._mark:
            self._mark = mark  # before all is forgotten: see `fetch`
            self._known = OrderedDict()
        for known in changed:
            if known.id in self._known:
                self._remember(known.id, dict(known.fields))
        for one in deleted:
            if one in self._known:
                self._remember(one, None)
        if tell is not None:
            tell(changed, deleted)
        self._since = now - OVERLAP

    def _forget(self, ids: Sequence[str]) -> None:
        for one in ids:
            self._known.pop(one, None)

    def _remember(self, one: str, fields: dict[str, Value] | None) -> None:
        known = self._known
        known[one] = fields
        while len(known) > ROOM:
            known.popitem(last=False)
