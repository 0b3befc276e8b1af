"""From a user to a ranked answer: candidates of several sources, less those that filters leave out, through the ranker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from time import monotonic

from umbel.errors import UserError
from umbel.serve.legible import legible
from umbel.serve.recommend.asked import Filters, RecommendAnswer, RecommendedItem, RecommendRequest
from umbel.serve.recommend.shelf import Places, Shelf, Visitor, united
from umbel.serve.recommend.stock import Mask
from umbel.serve.records import Event, Rung, request_id
from umbel.serve.requests import RankedItem, RankRequest, check_ids
from umbel.serve.served import Served
from umbel.serve.service import Service
from umbel.serve.store.engine import UnavailableError
from umbel.serve.store.session import now

EACH = 100                 # candidates of one source; as many as are asked for, where that is more
SPAN = 90 * 24 * 3_600_000  # milliseconds for which a user's events are remembered
EVENTS = 1_000             # of them, the latest


async def recommend(service: Service, sent: RecommendRequest, arrived: float) -> RecommendAnswer:
    """The best items of the catalogue for a user; :raises UserError: where no item is known, or an id or a field cannot be."""
    check_ids("filters.hidden", sent.filters.hidden)
    user = sent.user_id if sent.personalization == "on" else None
    ranker = service.bundles.stable if user is None else service.bundles.answering(user)
    shelf = service.shelves.of(ranker.served)
    if not len(shelf.stock):
        raise UserError("items: the store has none, and the bundle reads none", mend="PUT /v1/items/{id} first")
    deadline = arrived + service.serving.budget
    events = [] if user is None else await _events(service, user, deadline)
    whom = None
    if sent.personalization == "on":
        shared = await service.shared(sent, ranker.served.bundle.source.user, deadline)
        whom = Visitor(shared, list(dict.fromkeys(one.item for one in events)))
    among = _open(shelf, sent.filters, events)
    found = _found(shelf, ranker.served, whom, among=among, sent=sent)
    chosen = {shelf.stock.ids[place]: sources for place, sources in united(found, service.serving.limits.items).items()}
    if not chosen:
        return RecommendAnswer(
            request_id=request_id(now()), bundle=ranker.served.name, fusion=ranker.fusion, rung=Rung.FULL, items=[], candidates={},
            ignored=[], missing=[], logged=False,
        )  # fmt: skip
    asked = RankRequest(
        items=list(chosen), user_id=sent.user_id, user=sent.user, context=sent.context, n=sent.n,
        personalization=sent.personalization, seed=sent.seed, explain=sent.explain,
    )  # fmt: skip
    answer = await service.rank(asked, arrived, sources=chosen)
    return RecommendAnswer(
        request_id=answer.request_id, bundle=answer.bundle, fusion=answer.fusion, rung=answer.rung,
        items=[_told(one, chosen[one.item_id]) for one in answer.items],
        candidates={name: len(places) for name, places in found.items()}, ignored=answer.ignored, missing=answer.missing,
        logged=answer.logged,
    )  # fmt: skip


def _open(shelf: Shelf, filters: Filters, events: list[Event]) -> Mask:
    """The items that may be shown."""
    stock = shelf.stock
    among: Mask = shelf.shown & stock.without(filters.hidden)
    if filters.seen:
        among &= stock.without(one.item for one in events)
    if filters.where:
        among &= stock.having(filters.where)
    if filters.exclude:
        among &= stock.lacking(filters.exclude)
    return among


def _found(shelf: Shelf, served: Served, whom: Visitor | None, *, among: Mask, sent: RecommendRequest) -> Mapping[str, Places]:
    """What each source brings; what the store has of the user and the bundle cannot read is missing."""
    most = max(EACH, sent.n)
    try:
        return shelf.found(whom, among, most)
    except UserError:
        if whom is None:
            raise
        (shared,), lost = legible(served.reader, [whom.shared], [{served.bundle.source.user, *sent.user, *sent.context}])
        if not lost:
            raise
    return shelf.found(replace(whom, shared=shared), among, most)


async def _events(service: Service, user: str, deadline: float) -> list[Event]:
    """A user's latest events; none where the store does not tell them in half of the time that there is."""
    asked = asyncio.to_thread(service.store.history, user, since=now() - SPAN, most=EVENTS)
    try:
        return await asyncio.wait_for(asked, max(0.001, (deadline - monotonic()) / 2))
    except (TimeoutError, UnavailableError) as error:
        service.failed(error)
        return []


def _told(one: RankedItem, sources: list[str]) -> RecommendedItem:
    return RecommendedItem(
        item_id=one.item_id, position=one.position, score=one.score, propensity=one.propensity, predictions=one.predictions,
        contributions=one.contributions, sources=sources,
    )  # fmt: skip
