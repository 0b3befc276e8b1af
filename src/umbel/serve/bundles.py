"""Bundles in service: which one answers whom, swapped in one step, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from umbel.errors import UserError
from umbel.fusion import Fusion, parse
from umbel.manifest import name_of
from umbel.serve.monitor.guarded import guarded
from umbel.serve.order import Order
from umbel.serve.ranker import Policy, Ranker
from umbel.serve.records import Value
from umbel.serve.served import Served, load
from umbel.serve.shares import hashed
from umbel.serve.store.facts import Said
from umbel.serve.store.session import now
from umbel.serve.store.store import Store
from umbel.serve.wanted import Label, State, saved, swapped
from umbel.serve.why import remember


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

    @property
    def labels(self) -> dict[Label, Ranker]:
        """Whatever answers, by label."""
        found: dict[Label, Ranker | None] = {"stable": self.stable, "canary": self.canary, "shadow": self.shadow}
        return {label: ranker for label, ranker in found.items() if ranker is not None}


@final
class Bundles:
    """The rankers of a worker, kept to the state in the store: `change` writes it, `refresh` follows what other workers wrote.

    A change is one of the state that the store has: of two workers that change it, the second changes what the first left.
    Loading takes long: it is done before (`load`, `ahead`), so that changes of what is at hand wait for none.
    What cannot be served is refused, and what was served goes on; at the start it is left out (`started`), so that a folder that is gone
    ends no service. `prepare` is told of each bundle before it answers.

    :raises UserError: if the first bundle cannot be served.
    """

    def __init__(self, store: Store, first: State, ordering: Ordering, *, failed: Callable[[Exception], None],
                 prepare: Callable[[Served], object] | None = None) -> None:
        self._store, self._ordering, self._failed, self._prepare = store, ordering, failed, prepare
        found = started(store, lambda before: before or first, ordering, failed=failed)
        self._serving, self._loaded, self._wanted = found.serving, found.loaded, found.state
        self._prepared(found.loaded)

    @property
    def state(self) -> State:
        """What is served now."""
        return self._serving.state

    @property
    def wanted(self) -> State:
        """What is to be served, as the store was last read, though it could not be followed here."""
        return self._wanted

    @property
    def stable(self) -> Ranker:
        """What answers most."""
        return self._serving.stable

    @property
    def labels(self) -> dict[Label, Ranker]:
        """Whatever answers, by label."""
        return self._serving.labels

    @property
    def loaded(self) -> tuple[Served, ...]:
        """Every bundle at hand, the one to go back to with them."""
        return tuple(self._loaded.values())

    def answering(self, whom: str) -> Ranker:
        """The ranker of a user (or of a request, where nobody asks): always the same one while the canary's share stays."""
        now = self._serving
        return now.canary if now.canary is not None and hashed(whom, now.canary.served.name) < now.state.share else now.stable

    def load(self, folder: str) -> Served:
        """What lies in a folder now, loaded and prepared while others answer, for `change` to find ready.

        :raises UserError: if it cannot be served.
        """
        served = _there(folder, self._loaded)
        if self._prepare is not None:
            self._prepare(served)
        return served

    def ahead(self) -> list[Served]:
        """What another worker's change names and is not at hand, loaded, for `refresh` to find ready; what cannot be is left to it."""
        found = self.latest()
        if found.number == self._wanted.number:
            return []
        try:
            return [self.load(folder) for folder in found.folders if not _at_hand(folder, found, self._loaded)]
        except UserError:
            return []

    def latest(self) -> State:
        """What is to be served by now, of the store."""
        found = saved(self._store)
        assert found is not None  # since the start
        return found

    def change(
        self, to: Callable[[State], State], *, actor: str, action: str, detail: Mapping[str, Value], ready: Iterable[Served] = (),
    ) -> None:
        """Serve what `to` makes of the state that the store has, and tell the other workers and the audit.

        :raises UserError: if it cannot be served; nothing is changed then.
        """
        while True:
            new = to(before := self.latest()).holding({str(one.folder): one.name for one in ready})
            replaced = self._replaced(new, ready)
            since = before.since if new.compares(before) and not replaced else now()
            made, loaded = self._made(replace(new, number=before.number + 1, since=since), ready)
            _remember(self._store, made)
            served = made.stable.served
            told = {**detail, **_noted(before, made)}
            said = Said(actor=actor, action=action, detail=told, feedback=served.bundle.feedback, columns=served.logged)
            if swapped(self._store, before.number, made.state, said=said):  # else another worker changed it meanwhile
                break
        self._serving, self._loaded, self._wanted = made, loaded, made.state

    def refresh(self, ready: Iterable[Served] = ()) -> None:
        """Follow the state in the store; what cannot be served is told to `failed`, and left."""
        found = self.latest()
        if found.number == self._wanted.number:
            return
        self._wanted = found
        try:
            self._serving, self._loaded = self._made(found, ready)
        except UserError as error:
            self._failed(error)

    def _replaced(self, new: State, ready: Iterable[Served]) -> bool:
        """Whether what answers has become another in its folder; :raises UserError: if another label answers by what lay there before."""
        others = [str(one.folder) for one in ready if (old := self._loaded.get(str(one.folder))) is not None and old.name != one.name]
        for folder in others:
            if new.folders.count(folder) > 1:
                what = f"{folder}: what lay there before answers under another label"
                raise UserError(what, mend="put the new bundle into a folder of its own")
        return bool(others)

    def _made(self, state: State, ready: Iterable[Served]) -> tuple[_Serving, Mapping[str, Served]]:
        at_hand = {**self._loaded, **{str(one.folder): one for one in ready}}
        made, loaded = _made(state, self._ordering, failed=self._failed, loaded=at_hand)
        self._prepared(loaded)
        return made, loaded

    def _prepared(self, loaded: Mapping[str, Served]) -> None:
        if self._prepare is not None:
            for one in loaded.values():
                self._prepare(one)


@dataclass(frozen=True, slots=True)
class Started:
    """What of a state can be served, and why what else it names cannot be, by label or as `previous`."""

    serving: _Serving
    loaded: Mapping[str, Served]
    lost: Mapping[str, UserError]

    @property
    def state(self) -> State:
        """What is served."""
        return self.serving.state


def started(
    store: Store, wants: Callable[[State | None], State], ordering: Ordering, *, failed: Callable[[Exception], None],
) -> Started:
    """Serve what can be of the state `wants` makes of the store's: who to go back to, a canary or a shadow that cannot be is left out.

    The store has the state as it is served then; `failed` and the audit are told of what was left out.

    :raises UserError: if the stable bundle cannot be served.
    """
    while True:
        before = saved(store)
        wanted = wants(before)
        found = possible(wanted, ordering, failed=failed)
        _remember(store, found.serving)
        state = replace(found.state, number=0 if before is None else before.number)
        if state == before:
            break
        state = replace(state, number=0 if before is None else before.number + 1)
        found = replace(found, serving=replace(found.serving, state=state))
        if swapped(store, None if before is None else before.number, state):
            break
    gone = {"previous": wanted.previous, "canary": wanted.canary, "shadow": wanted.shadow}
    for label, error in found.lost.items():
        failed(error)
        store.note("umbel serve", f"drop {label}", {"folder": gone[label], "why": str(error)})
    return found


def _noted(before: State, made: _Serving) -> dict[str, Value]:
    """What the audit says of every change: from which stable bundle to which, and whose own policy another one overrides."""
    new = made.state
    found: dict[str, Value] = {"from": before.stable, "to": new.stable} if new.stable != before.stable else {}
    overridden = [f"{label}: {own}" for label, ranker in made.labels.items() if (own := ranker.overridden) is not None]
    return {**found, "overrides": overridden} if overridden else found


def _remember(store: Store, serving: _Serving) -> None:
    """Let a store know the policies that decide from now on, so that it can say later why."""
    for ranker in (serving.stable, serving.canary):
        if ranker is not None:
            remember(store.session, ranker.policy.fusion)


def possible(state: State, ordering: Ordering, *, failed: Callable[[Exception], None]) -> Started:
    """What of a state can be served; :raises UserError: if the stable bundle cannot be."""
    bare = replace(state, previous=None, canary=None, share=0.0, shadow=None)
    serving, loaded = _made(bare, ordering, failed=failed, loaded={})
    lost: dict[str, UserError] = {}
    more: dict[str, Callable[[State], State]] = {
        "previous": lambda found: replace(found, previous=state.previous),
        "canary": lambda found: replace(found, canary=state.canary, share=state.share),
        "shadow": lambda found: replace(found, shadow=state.shadow),
    }
    for label, add in more.items():
        try:
            serving, loaded = _made(add(serving.state), ordering, failed=failed, loaded=loaded)
        except UserError as error:
            lost[label] = error
    since = state.since if serving.state.compares(state) else now()
    serving = replace(serving, state=replace(serving.state, since=since))
    return Started(serving, loaded, lost)


def _made(
    state: State, ordering: Ordering, *, failed: Callable[[Exception], None], loaded: Mapping[str, Served],
) -> tuple[_Serving, dict[str, Served]]:
    """A state ready to answer, and the bundles that it names, of which some are loaded; :raises UserError: if it cannot be served."""
    bundles = {folder: loaded[folder] if _at_hand(folder, state, loaded) else _there(folder, loaded) for folder in state.folders}

    def ranker(folder: str | None, label: Label) -> Ranker | None:
        if folder is None:
            return None
        policy = Policy(fusion=active(bundles[folder], state), order=ordering.order, diversity=ordering.diversity)
        return Ranker(bundles[folder], policy, failed=failed, arm=label)

    stable = ranker(state.stable, "stable")
    assert stable is not None
    made = _Serving(state=state, stable=stable, canary=ranker(state.canary, "canary"), shadow=ranker(state.shadow, "shadow"))
    if made.canary is not None:
        guarded(stable, state.guard)
    return made, bundles


def _at_hand(folder: str, state: State, loaded: Mapping[str, Served]) -> bool:
    """Whether what is loaded of a folder is what a state wants of it, whatever lies there by now."""
    found = loaded.get(folder)
    return found is not None and found.name == (state.held or {}).get(folder, found.name)


def _there(folder: str, loaded: Mapping[str, Served]) -> Served:
    """What lies in a folder now; :raises UserError: if it cannot be served."""
    found = loaded.get(folder)
    return found if found is not None and found.name == name_of(found.folder) else load(Path(folder))


def active(served: Served, state: State) -> Fusion:
    """The fusion of a bundle in a state: the state's, else its own; :raises UserError: where there is neither, or it does not fit."""
    if state.fusion is not None:
        return parse(state.fusion, where="fusion")
    if served.bundle.fusion is None:
        raise UserError(f"{served.folder}: the bundle has no fusion policy", mend="give one: --fusion FILE, or PUT /v1/fusion")
    return served.bundle.fusion
