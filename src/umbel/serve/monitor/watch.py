"""The one worker of a store that watches: at an interval, off the event loop, under a lease that another takes over when it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from threading import Lock
from typing import TypeVar, final

from umbel.run.drifting import Finding
from umbel.serve.monitor.guard import SETTLES, Guard
from umbel.serve.monitor.guarded import guarded
from umbel.serve.monitor.recent import drifts, judged, qualities
from umbel.serve.monitor.rescored import Rescored
from umbel.serve.ranker import Ranker
from umbel.serve.records import Value
from umbel.serve.service import Service
from umbel.serve.store.facts import FOUND, get, lease, put
from umbel.serve.store.labels import watermark
from umbel.serve.store.session import now

LOG = logging.getLogger("umbel.serve")
FACT = "watch"   # under which the store keeps who watches
SPARE = 30_000  # milliseconds that a look may take beyond three intervals before another worker takes over
ACTOR = "umbel guard"

T = TypeVar("T")


@final
class Watch:
    """Looks every so many seconds, if no other worker does."""

    def __init__(self, service: Service, *, every: float) -> None:
        self._service, self._every = service, every
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._guard: Guard | None = None
        self._rescored: Rescored | None = None
        self._failed: list[Finding] = []
        self._busy = Lock()  # a look that was begun ends before its store is closed

    async def run(self) -> None:
        """Look again and again; what fails is counted, and tried again."""
        while True:
            await asyncio.sleep(self._every)
            try:
                await self.look()
            except Exception as error:
                self._service.failed(error)

    async def look(self) -> tuple[Finding, ...]:
        """Look once, and drop a canary that fails before anything else is looked at; nothing is found while another holds the lease."""
        canary = await asyncio.to_thread(self._alone, self._guarded)
        if canary is None:
            return ()
        if against := [one for one in canary if one.alarm]:
            await self._drop(against)
        return canary + await asyncio.to_thread(self._alone, partial(self._watched, canary))

    def end(self) -> None:
        """Let another worker watch; :raises UnavailableError: if the store does not answer."""
        with self._busy:
            lease(self._service.store.session, FACT, holder=self._holder, until=0)

    def _alone(self, look: Callable[[], T]) -> T:
        with self._busy:
            return look()

    def _tried(self, what: str, look: Callable[[], Sequence[T]]) -> Sequence[T]:
        """A part of a look; one that fails is an alarm of its own, and takes nothing from the others."""
        try:
            return look()
        except Exception as error:
            self._service.failed(error)
            says = f"{what}: could not be looked at ({type(error).__name__}); the log of the service says why"
            self._failed.append(Finding(what, True, says))
            return ()

    def _guarded(self) -> tuple[Finding, ...] | None:
        """How the canary does; None while another holds the lease."""
        service = self._service
        session, until = service.store.session, now() + round(3000 * self._every) + SPARE
        if not lease(session, FACT, holder=self._holder, until=until):
            self._guard = self._rescored = None
            return None
        self._failed = []

        def look() -> tuple[Finding, ...]:
            guard = self._current()
            return () if guard is None else guard.look(session, now())

        canary = tuple(self._tried("guard", look))
        service.metrics.watched.canary(canary)
        return canary

    def _watched(self, canary: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """Score some requests again, look at the latest ones and at the latest labels, and keep what was found for whoever asks."""
        service, watched = self._service, self._service.metrics.watched
        session, bundles = service.store.session, service.bundles
        if self._rescored is None:
            time, request = (get(session, FOUND) or {}).get("cursor", (now(), ""))
            self._rescored = Rescored((time, request))
        rescored = self._rescored
        labels: dict[str, Ranker] = {label: ranker for label, ranker in bundles.labels.items() if label != "shadow"}

        def skew() -> tuple[Finding, ...]:
            watched.again(rescored.read(session, {one.name: one for one in bundles.loaded}, now() - SETTLES))
            return tuple(rescored.findings())

        skewed = self._tried("skew", skew)
        figures = self._tried("quality", lambda: list(qualities(session, labels, min(watermark(session), now()))))
        drifted = self._tried("drift", lambda: drifts(session, bundles.stable.served))
        told = self._tried("quality", lambda: [finding for one in figures for finding in judged(one, labels[one.label].served)])
        found = (*drifted, *skewed, *told, *self._failed)
        watched.lately(drifted, figures, found)
        findings, quality = [asdict(one) for one in canary + found], [one.to_json() for one in figures]
        put(session, FOUND, {"time": now(), "cursor": rescored.cursor, "findings": findings, "quality": quality})
        return found

    def _current(self) -> Guard | None:
        """The guard of the canary that answers now, which goes on while the same is compared."""
        bundles = self._service.bundles
        state, stable = bundles.state, bundles.stable
        if state.canary is None:
            self._guard = None
        elif self._guard is None or self._guard.state != replace(state, number=self._guard.state.number):
            self._guard = Guard(state, guarded(stable, state.guard), stable.served.bundle.feedback)
        return self._guard

    async def _drop(self, against: list[Finding]) -> None:
        """Serve no canary any more, unless what is served was changed meanwhile."""
        service, guard = self._service, self._guard
        async with service.changing:
            if guard is None or not guard.of(service.bundles.wanted):
                return
            canary, why = guard.state.canary, [one.says for one in against]
            detail: dict[str, Value] = {"folder": canary, "why": why}
            await asyncio.to_thread(service.bundles.change, guard.without, actor=ACTOR, action="drop canary", detail=detail)
        service.changed()
        service.metrics.watched.dropped.inc()
        LOG.warning("the canary %s is dropped: %s", canary, "; ".join(why))
