"""Bundles in service: which one answers whom, swapped in one step, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, final

from umbel.errors import UserError
from umbel.feedback import UNITS
from umbel.fusion import Fusion, parse
from umbel.serve.monitor.guarded import guarded
from umbel.serve.order import Order
from umbel.serve.ranker import Policy, Ranker
from umbel.serve.records import Value
from umbel.serve.served import Served, load
from umbel.serve.store.facts import get, put
from umbel.serve.store.session import now
from umbel.serve.store.store import Store

FACT = "service"  # under which the store keeps the state
SHARES = 10_000   # into which users are hashed

Label = Literal["stable", "canary", "shadow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What all workers of a store serve: folders of bundles by label, the stable one's predecessor, the active fusion if not the bundle's.

    `number` goes up by one at each change; `share` of the users are answered by the canary, which is compared from the moment `since`
    on: when the canary, its share or the stable bundle last changed. `guard` has the tasks that it must not do worse in, with the share of
    the stable bundle's figure that is to be kept (None: all that events say yes or no to), and a user counts with the first `session`
    milliseconds (`umbel.serve.monitor.guard`). `named` is the folder that the service was last started with.
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

    def compares(self, other: State) -> bool:
        """Whether the same canary is compared with the same stable bundle."""
        return (self.stable, self.canary, self.share) == (other.stable, other.canary, other.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """How orders are made of fused scores, whatever bundle and fusion they come from."""

    order: Order
    diversity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Serving:
    """A state, ready to answer."""

    state: State
    stable: Ranker
    canary: Ranker | None = None
    shadow: Ranker | None = None


@final
class Bundles:
    """The rankers of a worker, kept to the state in the store: `change` writes it, `refresh` follows what other workers wrote.

    What cannot be served is refused, and what was served goes on. `prepare` is told of each bundle before it answers.

    :raises UserError: if the first bundle cannot be served.
    """

    def __init__(self, store: Store, first: State, ordering: Ordering, *, failed: Callable[[Exception], None],
                 prepare: Callable[[Served], object] | None = None) -> None:
        self._store, self._ordering, self._failed, self._prepare = store, ordering, failed, prepare
        self._loaded: dict[str, Served] = {}
        self._serving = self._made(saved(store) or first)
        if saved(store) is None:
            keep(store, self.state)

    @property
    def state(self) -> State:
        """What is served now."""
        return self._serving.state

    @property
    def stable(self) -> Ranker:
        """What answers most."""
        return self._serving.stable

    @property
    def labels(self) -> dict[Label, Ranker]:
        """Whatever answers, by label."""
        now = self._serving
        found: dict[Label, Ranker | None] = {"stable": now.stable, "canary": now.canary, "shadow": now.shadow}
        return {label: ranker for label, ranker in found.items() if ranker is not None}

    @property
    def loaded(self) -> tuple[Served, ...]:
        """Every bundle at hand, the one to go back to with them."""
        return tuple(self._loaded.values())

    def answering(self, whom: str) -> Ranker:
        """The ranker of a user (or of a request, where nobody asks): always the same one while the canary's share stays."""
        now = self._serving
        return now.canary if now.canary is not None and hashed(whom, now.canary.served.name) < now.state.share else now.stable

    def change(self, new: State, *, actor: str, action: str, detail: Mapping[str, Value]) -> None:
        """Serve another state, and tell the other workers and the audit; :raises UserError: if it cannot be served, and nothing changed."""
        since = self.state.since if new.compares(self.state) else now()
        self._serving = self._made(replace(new, number=self.state.number + 1, since=since))
        keep(self._store, self.state)
        feedback = self.stable.served.bundle.feedback
        if feedback is not None:
            self._store.declare(feedback)
        self._store.note(actor, action, detail)

    def refresh(self) -> None:
        """Follow the state in the store; what cannot be served is told to `failed`, and left."""
        found = saved(self._store)
        if found is None or found.number == self.state.number:
            return
        try:
            self._serving = self._made(found)
        except UserError as error:
            self._failed(error)
            self._serving = replace(self._serving, state=replace(self.state, number=found.number))

    def _made(self, state: State) -> _Serving:
        wanted = [folder for folder in (state.stable, state.previous, state.canary, state.shadow) if folder is not None]
        loaded = {folder: self._loaded.get(folder) or load(Path(folder)) for folder in wanted}
        made = _Serving(
            state=state,
            stable=self._ranker(loaded[state.stable], state, "stable"),
            canary=None if state.canary is None else self._ranker(loaded[state.canary], state, "canary"),
            shadow=None if state.shadow is None else self._ranker(loaded[state.shadow], state, "shadow"),
        )
        if self._prepare is not None:
            for one in loaded.values():
                self._prepare(one)
        if made.canary is not None:
            guarded(made.stable, state.guard)
        self._loaded = loaded
        return made

    def _ranker(self, served: Served, state: State, label: Label) -> Ranker:
        fusion = active(served, state)
        policy = Policy(fusion=fusion, order=self._ordering.order, diversity=self._ordering.diversity)
        return Ranker(served, policy, failed=self._failed, arm=label)


def saved(store: Store) -> State | None:
    """The state that a store has; None in a new one."""
    found = get(store.session, FACT)
    return None if found is None else State(**found)


def keep(store: Store, state: State) -> None:
    """Let a store have a state, in place of the one before."""
    put(store.session, FACT, asdict(state))


def active(served: Served, state: State) -> Fusion:
    """The fusion of a bundle in a state: the state's, else its own; :raises UserError: where there is neither, or it does not fit."""
    if state.fusion is not None:
        return parse(state.fusion, where="fusion")
    if served.bundle.fusion is None:
        raise UserError(f"{served.folder}: the bundle has no fusion policy", mend="give one: --fusion FILE, or PUT /v1/fusion")
    return served.bundle.fusion


def hashed(whom: str, salt: str) -> float:
    """Where somebody falls in [0, 1), the same for the same salt on every machine.

    Example
    -------
    >>> hashed("u1", "a") == hashed("u1", "a"), hashed("u1", "a") == hashed("u1", "b")
    (True, False)
    """
    digest = hashlib.sha256(f"{salt}:{whom}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % SHARES / SHARES


def chance(share: float) -> float:
    """The chance that somebody falls below a share: `hashed` has so many places.

    Example
    -------
    >>> chance(0.05), chance(0.00001), chance(1.0)
    (0.05, 0.0001, 1.0)
    """
    return sum(place / SHARES < share for place in range(SHARES)) / SHARES
