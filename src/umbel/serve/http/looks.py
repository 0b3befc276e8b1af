"""The routes of whoever looks after a service: what it decided lately, and why; what was changed, by whom."""

from __future__ import annotations

import asyncio

import msgspec

from umbel.serve.http.call import Call, Reply, Route
from umbel.serve.looked import Audit, Glances, Latest, Monitored, Note
from umbel.serve.requests import decode_query
from umbel.serve.store.facts import FOUND, get
from umbel.serve.store.recent import glances


async def decisions(call: Call) -> Reply:
    """The latest decisions."""
    asked = decode_query(call.query, Latest)
    found = await asyncio.to_thread(glances, call.service.store.session, asked.limit)
    return Reply(Glances(decisions=found))


async def audit(call: Call) -> Reply:
    """Who changed what."""
    asked = decode_query(call.query, Latest)
    lines = await asyncio.to_thread(call.service.store.notes, asked.limit)
    return Reply(Audit(notes=[Note(time=time, actor=actor, action=action, detail=detail) for time, actor, action, detail in lines]))


async def monitored(call: Call) -> Reply:
    """What was found by watching."""
    found = await asyncio.to_thread(get, call.service.store.session, FOUND) or {}
    return Reply(msgspec.convert(found, Monitored))


def looks() -> list[Route]:
    """Those routes."""
    return [
        Route(method="GET", path="/v1/decisions", answer=decisions, says="The latest decisions", asks=Latest, gives=Glances),
        Route(method="GET", path="/v1/monitor", answer=monitored, says="Canary, drift, skew and quality, as found last", gives=Monitored),
        Route(method="GET", path="/v1/audit", answer=audit, says="Who changed what", asks=Latest, gives=Audit),
    ]  # fmt: skip
