"""What all workers of a store are to serve, as the store keeps it: folders of bundles by label, and the fusion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

from umbel.feedback import UNITS
from umbel.serve.store.facts import Said, get, swap
from umbel.serve.store.store import Store

FACT = "service"  # under which the store keeps the state

Label = Literal["stable", "canary", "shadow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What all workers of a store serve: folders of bundles by label, the stable one's predecessor, the active fusion if not the bundle's.

    `number` goes up by one at each change; `share` of the users are answered by the canary, which is compared from the moment `since`
    on: when the canary, its share or the stable bundle last changed. `guard` has the tasks that it must not do worse in, with the share of
    the stable bundle's figure that is to be kept (None: all that events say yes or no to), and a user counts with the first `session`
    milliseconds (`umbel.serve.monitor.guard`). `named` is the folder that the service was last started with, `given` the fusion.
    `held` tells the contents of
    folders, by the names of their bundles, as they were put into service over HTTP: what lies there by now may be another's.
    """

    stable: str
    previous: str | None = None
    canary: str | None = None
    share: float = 0.0
    shadow: str | None = None
    fusion: Mapping[str, object] | None = None
    number: int = 0
    since: int = 0
    guard: Mapping[str, float] | None = None
    session: int = 10 * UNITS["m"]
    named: str | None = None
    given: Mapping[str, object] | None = None
    held: Mapping[str, str] | None = None

    @property
    def folders(self) -> tuple[str, ...]:
        """All that it names."""
        return tuple(folder for folder in (self.stable, self.previous, self.canary, self.shadow) if folder is not None)

    def holding(self, held: Mapping[str, str]) -> State:
        """The same with folders whose contents are these now."""
        known = {**(self.held or {}), **held}
        return replace(self, held={folder: name for folder, name in known.items() if folder in self.folders} or None)

    def compares(self, other: State) -> bool:
        """Whether the same canary is compared with the same stable bundle."""
        return (self.stable, self.canary, self.share) == (other.stable, other.canary, other.share)


def saved(store: Store) -> State | None:
    """The state that a store has; None in a new one."""
    found = get(store.session, FACT)
    return None if found is None else State(**found)


def swapped(store: Store, before: int | None, state: State, *, said: Said | None = None) -> bool:
    """Let a store have a state in place of the one of this number, and what is said of it; False where it has another, which stays."""
    return swap(store.session, FACT, asdict(state), number=before, said=said)
