"""The routes of whoever looks after a service: what it decided lately and why, what another fusion would do, who changed what."""

from __future__ import annotations

import asyncio
import dataclasses
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec.structs import replace

from umbel.errors import UserError, nearest
from umbel.fusion import parse
from umbel.run.page import page
from umbel.run.report import Report
from umbel.serve.http.call import Call, Lane, Reply, Route
from umbel.serve.http.lately import Lately
from umbel.serve.http.problem import ProblemError
from umbel.serve.looked import Audit, Glances, Latest, Monitored, Note
from umbel.serve.preview import MOST, ROWS, Pool, Preview, PreviewRequest, preview
from umbel.serve.records import Decision
from umbel.serve.requests import decode, decode_query
from umbel.serve.served import Served
from umbel.serve.store.chosen import chosen_lately
from umbel.serve.store.facts import FOUND, get
from umbel.serve.store.recent import glances
from umbel.serve.why import Why, why

SECONDS = 10.0  # for which the latest candidates are kept: a slider asks often
ALONE = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox", "x-content-type-options": "nosniff"}


async def decisions(call: Call) -> Reply:
    """The latest decisions."""
    asked = decode_query(call.query, Latest)
    found = await asyncio.to_thread(glances, call.service.store.session, asked.limit)
    return Reply(Glances(decisions=found if call.trusted else call.service.whom.hide(found)))


async def explained(call: Call) -> Reply:
    """One decision, and why."""
    store, request = call.service.store, call.path["request"]

    def find() -> Why | None:
        decision: Decision | None = store.decision(request)
        return None if decision is None else why(store.session, decision, call.service.bundles.loaded)

    found = await asyncio.to_thread(find)
    if found is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, "no such decision", mend="GET /v1/decisions lists the latest")
    return Reply(found if call.trusted else call.service.whom.hide_why(found))


async def audit(call: Call) -> Reply:
    """Who changed what."""
    asked = decode_query(call.query, Latest)
    lines = await asyncio.to_thread(call.service.store.notes, asked.limit)
    return Reply(Audit(notes=[Note(time=time, actor=actor, action=action, detail=detail) for time, actor, action, detail in lines]))


async def monitored(call: Call) -> Reply:
    """What was found by watching."""
    found = await asyncio.to_thread(get, call.service.store.session, FOUND) or {}
    return Reply(msgspec.convert(found, Monitored))


async def report(call: Call) -> Reply:
    """The report of the run that made a bundle."""
    return Reply(dict(_served(call).bundle.report))


async def report_page(call: Call) -> Reply:
    """The same as the page that the run left."""
    told = Report.from_json(_served(call).bundle.report)
    return Reply((await asyncio.to_thread(page, told)).encode(), kind="text/html; charset=utf-8", headers=ALONE)


def looks() -> list[Route]:
    """Those routes."""
    pools: Lately[Pool] = Lately(SECONDS)

    async def previewed(call: Call) -> Reply:
        """What another fusion would do with what was asked lately."""
        asked = decode(call.body, PreviewRequest)
        policy, ranker = parse(asked.policy, where="policy"), call.service.bundles.stable
        name, columns = ranker.served.name, ranker.served.bundle.columns
        try:
            policy.places(columns)
        except UserError as error:  # it may be right, and of another bundle
            raise ProblemError(HTTPStatus.CONFLICT, error.what, mend=error.mend) from error
        pool = await pools.get(name, lambda: Pool.of(chosen_lately(call.service.store.session, name, most=MOST, rows=ROWS)))
        policies = ranker.policy.fusion, policy
        found = await asyncio.to_thread(partial(preview, pool, asked, bundle=(name, columns), policies=policies))
        return Reply(found if call.trusted else replace(found, examples=call.service.whom.hide(found.examples)))

    found = [
        Route(method="GET", path="/v1/decisions", answer=decisions, says="The latest decisions", asks=Latest, gives=Glances),
        Route(method="GET", path="/v1/monitor", answer=monitored, says="Canary, drift, skew and quality, as found last", gives=Monitored),
        Route(method="GET", path="/v1/decisions/{request}", answer=explained, says="One decision, and why", gives=Why),
        Route(method="GET", path="/v1/audit", answer=audit, says="Who changed what", asks=Latest, gives=Audit),
        Route(method="POST", path="/v1/fusion:preview", answer=previewed, says="Preview a policy", reads=PreviewRequest, gives=Preview),
    ]
    return [
        *(dataclasses.replace(one, lane=Lane.STORE) for one in found),
        Route(method="GET", path="/v1/bundles/{label}/report", answer=report, says="The report of a bundle's run", gives=dict[str, Any]),
        Route(method="GET", path="/v1/bundles/{label}/report.html", answer=report_page, says="The same as a page", kind="text/html"),
    ]  # fmt: skip


def _served(call: Call) -> Served:
    """The bundle of a label."""
    labels = {str(label): ranker.served for label, ranker in call.service.bundles.labels.items()}
    name = call.path["label"]
    if name not in labels:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"no bundle is {name!r}", mend=nearest(name, labels))
    return labels[name]
