"""One worker's service: requests to answers, with the store behind it; what fails behind it fails no answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import final

from umbel.errors import UserError
from umbel.feedback import SKEW
from umbel.serve.bundles import Bundles, Ordering
from umbel.serve.http.limits import Limits
from umbel.serve.http.metrics import Metrics
from umbel.serve.known import Memory
from umbel.serve.legible import legible
from umbel.serve.ranker import Asked, Ranked, Ranker
from umbel.serve.reader import Raw
from umbel.serve.recommend.asked import RecommendRequest
from umbel.serve.recommend.shelves import Shelves
from umbel.serve.records import Decision, Event, Outcome, Value, read_event, request_id
from umbel.serve.requests import PredictAnswer, PredictRequest, RankAnswer, RankedItem, RankRequest, candidates, check_ids
from umbel.serve.scales import on_scale
from umbel.serve.served import Served
from umbel.serve.states import How, Personal, States
from umbel.serve.store.engine import UnavailableError
from umbel.serve.store.session import now
from umbel.serve.store.store import Store
from umbel.serve.unread import remarked
from umbel.serve.wanted import State
from umbel.serve.whom import Whom

LOG = logging.getLogger("umbel.serve")
REFRESH = 0.5  # seconds between two looks at what other workers wrote
SHARE = 0.5      # of the time that is left for an answer, that each look at the store may take
PATIENCE = 1.0  # seconds that an answer waits for its decision to be durable
LONGEST = 5.0   # seconds that events wait to be: who gives up sends them again, which is harmless
SENT: Mapping[str, Sequence[str]] = MappingProxyType({})  # the sources of items that whoever asks has brought


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What a worker is told: the first state, how orders are made, seconds that an answer may take, and whether decisions are logged.

    Bundles that are put into service later lie under `root`. One worker looks every `watch` seconds at how all do; 0: none.
    """

    first: State
    ordering: Ordering
    root: Path = Path()
    budget: float = 0.1
    logged: bool = True
    watch: float = 30.0
    limits: Limits = field(default_factory=Limits)


@final
class Service:
    """Answers requests from the bundles in service and the store.

    :raises UserError: if the first bundle cannot be served; UnavailableError: if the store cannot be reached.
    """

    def __init__(self, store: Store, serving: Serving) -> None:
        self.store, self.serving, self.metrics = store, serving, Metrics()
        self.users, self.items = Memory(store.users, now=now()), Memory(store.items, now=now())
        self.shelves = Shelves(store.items)
        self.bundles = Bundles(store, serving.first, serving.ordering, failed=self.failed, prepare=self.shelves.of)
        self.states = States(store.session, count=self._had, failed=self.failed)
        self.whom = Whom(store.session)
        self.changing, self.loading = asyncio.Lock(), asyncio.Lock()
        self.ready = True
        self._told: set[tuple[str, str]] = set()
        self.changed()

    async def rank(self, sent: RankRequest, arrived: float, *, sources: Mapping[str, Sequence[str]] = SENT) -> RankAnswer:
        """The order of the items, of which `sources` say what brought them; :raises UserError: for items or fields that cannot be."""
        asked, ranker = await self._asked(sent, arrived, sources)
        ranked = self._ranked(ranker, asked, sent)
        self.metrics.rungs.labels(ranked.rung.value, ranker.arm).inc()
        self.metrics.candidates.inc(len(asked.items))
        logged = self.serving.logged and await self._logged(ranked.decision)
        if (shadow := self.bundles.labels.get("shadow")) is not None:
            asyncio.get_running_loop().call_soon(self._follow, shadow, asked, sent)
        inline = [one.fields for one in sent.items if not isinstance(one, str)]
        ignored = ranker.served.reader.ignored([sent.user, sent.context, *inline])  # type: ignore[list-item]
        return _answer(ranked, ranker.policy.fusion.tasks if sent.explain else (), ignored=ignored, logged=logged)

    def predict(self, sent: PredictRequest) -> PredictAnswer:
        """Predictions of whole rows, by the stable bundle; :raises UserError: for too many rows, or a value that cannot be read."""
        if len(sent.rows) > self.serving.limits.rows:
            raise UserError(f"rows: {len(sent.rows):,}", mend=f"send at most {self.serving.limits.rows:,}")
        served = self.bundles.stable.served
        found = served.reader.predict({}, sent.rows)  # type: ignore[arg-type]
        ignored = served.reader.ignored(sent.rows)  # type: ignore[arg-type]
        return PredictAnswer(bundle=served.name, columns=list(served.bundle.columns), predictions=found.tolist(), ignored=ignored)

    async def record(self, sent: Sequence[object]) -> list[Outcome]:
        """What became of each event, in their order, durably; :raises UserError: for none, or too many, or a store that is too slow."""
        if not 1 <= len(sent) <= self.serving.limits.events:
            raise UserError(f"events: {len(sent):,}", mend=f"send 1 to {self.serving.limits.events:,}")
        feedback = self.bundles.stable.served.bundle.feedback
        read = on_scale([read_event(one) for one in sent], feedback)
        events = [one for one in read if isinstance(one, Event)]
        skew = SKEW if feedback is None else feedback.skew
        answered = await self._durable(partial(self.store.record, events, skew=skew), LONGEST) if events else ()
        kept = iter(answered)
        found = [remarked(one, next(kept), feedback) if isinstance(one, Event) else one for one in read]
        for outcome in found:
            self.metrics.events.labels(outcome.result.value).inc()
        return found

    @property
    def reads(self) -> frozenset[str]:
        """The columns of users, items and requests that any bundle in service reads, or an order."""
        rankers = self.bundles.labels.values()
        spread = frozenset(ranker.policy.diversity for ranker in rankers if ranker.policy.diversity is not None)
        return spread.union(*(ranker.served.reader.columns for ranker in rankers))

    async def follow(self) -> None:
        """Look at what other workers wrote, again and again."""
        while True:
            await asyncio.sleep(REFRESH)
            try:
                ready = await asyncio.to_thread(self.bundles.ahead)
                async with self.changing:
                    await asyncio.to_thread(self._refresh, ready)
            except Exception as error:  # it is tried again
                self.failed(error)

    def failed(self, error: Exception) -> None:
        """Count and note a failure that an answer is given in spite of."""
        part = "store" if isinstance(error, UnavailableError) else "service"
        self.metrics.failures.labels(part).inc()
        LOG.warning("%s: %s", type(error).__name__, error, exc_info=not isinstance(error, UserError))

    def changed(self) -> None:
        """Tell the metrics which bundles answer now."""
        told = {(str(label), ranker.served.name) for label, ranker in self.bundles.labels.items()}
        for one in self._told | told:
            self.metrics.bundles.labels(*one).set(one in told)
        self._told = told

    def _refresh(self, ready: Sequence[Served]) -> None:
        self.users.refresh(now())
        if self.states.refresh():
            for ranker in self.bundles.labels.values():
                ranker.forget()
        self.bundles.refresh(ready)
        self.items.refresh(now(), tell=partial(self.shelves.follow, serving=self.bundles.loaded))
        self.changed()

    async def _asked(self, sent: RankRequest, arrived: float, sources: Mapping[str, Sequence[str]]) -> tuple[Asked, Ranker]:
        """All that is known of a request, and who is to answer it."""
        ids, own = candidates(sent, self.serving.limits.items)
        deadline, time = arrived + self.serving.budget, now()
        user = sent.user_id if sent.personalization == "on" else None
        check_ids("user_id", [] if sent.user_id is None else [sent.user_id])
        request = request_id(time)
        ranker = self.bundles.answering(user or request)
        source = ranker.served.bundle.source
        shared = await self.shared(sent, source.user, deadline)
        known = await self._known(self.items, ids, deadline)
        raw = [{**known.get(one, {}), **fields} for one, fields in zip(ids, own, strict=True)]
        if source.item is not None:
            for one, fields in zip(ids, raw, strict=True):
                fields[source.item] = one
        personal = await self._personal(ranker, user, (time, request), items=raw, deadline=deadline)
        seed = int(request[12:], 16) if sent.seed is None else sent.seed
        asked = Asked(
            request=request, user=user, time=time, shared=shared, items=tuple(ids), own=tuple(raw), deadline=deadline,
            count=sent.n or len(ids), seed=seed, seeded=sent.seed is not None, personal=personal, sources=sources,
        )  # fmt: skip
        return asked, ranker

    async def shared(self, sent: RankRequest | RecommendRequest, column: str | None, deadline: float) -> dict[str, Value]:
        """The fields of a request's user and context, the user's id in its column; of nobody without personalization."""
        user = sent.user_id if sent.personalization == "on" else None
        found: dict[str, Value] = {}
        if sent.personalization == "on":
            found |= (await self._known(self.users, [user], deadline)).get(user, {}) if user is not None else {}
            found |= sent.user  # type: ignore[arg-type]
        found |= sent.context  # type: ignore[arg-type]
        if column is not None:
            found[column] = user
        return found

    async def _personal(
        self, ranker: Ranker, user: str | None, before: tuple[int, str], *, items: Sequence[Raw], deadline: float,
    ) -> Personal | None:
        """What is the user's own; nothing where nobody asks, or items say themselves whose they are."""
        if user is None or ranker.served.bundle.ladder is None or ranker.served.reader.whose(items):
            return None
        return await self.states.within(ranker.served, user, before, seconds=SHARE * (deadline - monotonic()))

    def _had(self, how: How) -> None:
        self.metrics.states.labels(how.value).inc()

    async def _known(self, memory: Memory, ids: Sequence[str], deadline: float) -> dict[str, dict[str, Value]]:
        """What the store knows of some ids; what it does not tell in a share of the time that is left counts as not known."""
        found, missing = memory.at_hand(ids)
        if missing:
            try:
                wait = max(0.001, SHARE * (deadline - monotonic()))
                found |= await asyncio.wait_for(asyncio.to_thread(memory.fetch, missing), wait)
            except (TimeoutError, UnavailableError):
                self.metrics.failures.labels("store").inc()
        return found

    def _ranked(self, ranker: Ranker, asked: Asked, sent: RankRequest) -> Ranked:
        """An answer; what the store has of user and items and the bundle cannot read is missing there, and counted."""
        try:
            return ranker.rank(asked)
        except UserError:
            reader, source = ranker.served.reader, ranker.served.bundle.source
            (shared,), lost = legible(reader, [asked.shared], [{source.user, *sent.user, *sent.context}])
            inline = [{source.item} if isinstance(one, str) else {source.item, *one.fields} for one in sent.items]
            own, more = legible(reader, asked.own, inline)
            if not lost + more:
                raise
        ranked = ranker.rank(replace(asked, shared=shared, own=tuple(own)))
        self.metrics.failures.labels("attributes").inc(lost + more)
        return ranked

    async def _logged(self, decision: Decision) -> bool:
        """Keep a decision; whether it is durable."""
        try:
            await self._durable(partial(self.store.log, decision), PATIENCE)
        except (UnavailableError, ValueError) as error:
            self.failed(error)
            return False
        return True

    async def _durable(self, write: Callable[[], Future[tuple[Outcome, ...]]], seconds: float) -> tuple[Outcome, ...]:
        """What became of a write, once it is durable.

        :raises UnavailableError: if it is not in so many seconds, and at once while what is written before it takes longer: it is given up.
        """
        if self.store.busy <= seconds:
            try:
                return await asyncio.wait_for(asyncio.wrap_future(write()), seconds)
            except TimeoutError:
                pass
        raise UnavailableError(f"{self.store.where}: no commit within {seconds:g} s", mend="see what else it is asked to do")

    def _follow(self, shadow: Ranker, asked: Asked, sent: RankRequest) -> None:
        """Let the shadow answer, to nobody."""
        try:
            self.metrics.rungs.labels(self._ranked(shadow, asked, sent).rung.value, "shadow").inc()
        except Exception as error:  # nobody waits for it
            self.failed(error)


def _answer(ranked: Ranked, explained: Sequence[str], *, ignored: list[str], logged: bool) -> RankAnswer:
    parts = ranked.contributions.tolist() if explained else []
    names, own, asked = ranked.outputs, ranked.adapted, ranked.asked
    items = [
        RankedItem(
            item_id=item, position=position, score=fused, propensity=chance, predictions=dict(zip(names, row, strict=True)),
            contributions=dict(zip(explained, parts[position], strict=True)) if parts else None,
        )
        for position, (item, fused, chance, row) in enumerate(zip(*ranked.columns(), strict=True))
    ]  # fmt: skip
    return RankAnswer(
        request_id=asked.request, bundle=ranked.ranker.served.name, fusion=ranked.ranker.fusion, rung=ranked.rung, items=items,
        ignored=ignored, missing=ranked.ranker.served.reader.missing(asked.shared, asked.own), logged=logged,
        adapted=None if own is None else own.rung, known=None if own is None else own.rows,
    )
