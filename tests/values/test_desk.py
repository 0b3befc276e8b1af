"""The gate of a process that is behind: who comes is told to come again, unread; who asks how it is, is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any

import msgspec
import pytest

from umbel.serve.http.call import Call, Lane, Reply, Route
from umbel.serve.http.gate import TICK, Desk, Gate
from umbel.serve.http.inference import v2
from umbel.serve.http.keys import Scope
from umbel.serve.http.limits import Limits
from umbel.serve.http.looks import looks
from umbel.serve.http.metrics import Metrics
from umbel.serve.http.recommend import recommending
from umbel.serve.http.routes import v1
from umbel.serve.service import Service

Message = MutableMapping[str, Any]


def nobody() -> Service:
    """A service of which only the figures are asked."""
    made = Service.__new__(Service)
    made.metrics = Metrics()
    return made


async def answer(call: Call) -> Reply:
    return Reply({"ok": True})


def asked(
    desk: Desk, *, scope: Scope | None = Scope.READ, at_once: int = 1, lane: Lane = Lane.ANSWERS
) -> list[list[Message]]:  # fmt: skip
    """What requests that come at the same moment are sent."""
    desk.service = nobody()
    gate = Gate(Route(method="GET", path="/x", answer=answer, says="x", scope=scope, lane=lane), desk)

    async def one() -> list[Message]:
        sent: list[Message] = []

        async def receive() -> Message:
            raise AssertionError("nothing is read")

        async def send(message: Message) -> None:
            sent.append(message)

        await gate({"method": "GET", "headers": [], "path_params": {}, "client": ("1", 2)}, receive, send)
        return sent

    async def every() -> list[list[Message]]:
        return await asyncio.gather(*(one() for _ in range(at_once)))

    return asyncio.run(every())


@pytest.mark.parametrize(("late", "status"), [(0.0, 200), (2.0, 200), (2.1, 503), (60.0, 503)])
def test_who_comes_while_it_is_behind_is_told_to_come_again(late: float, status: int) -> None:
    desk = Desk(None, Limits(late=2.0))
    desk.late = late
    ((start, body),) = asked(desk)
    assert start["status"] == status
    if status == 503:
        assert (b"retry-after", b"1") in start["headers"]
        assert msgspec.json.decode(body["body"])["detail"] == "too many requests at once; try again"


def test_who_looks_after_it_is_answered_all_the_same() -> None:
    desk = Desk(None, Limits(late=2.0))
    desk.late = 60.0
    ((start, _),) = asked(desk, scope=None)
    assert start["status"] == 200


def test_more_at_once_than_may_be_are_told_to_come_again() -> None:
    desk = Desk(None, Limits(at_once=3))
    statuses = [start["status"] for start, _ in asked(desk, at_once=8)]
    assert statuses == [503] * 5 + [200] * 3
    assert desk.at_once == 0


@pytest.mark.parametrize("lane", [Lane.ANSWERS, Lane.STORE])
def test_places_that_another_lane_took_are_not_ones_own(lane: Lane) -> None:
    desk = Desk(None, Limits(at_once=3))
    (other,) = {Lane.ANSWERS, Lane.STORE} - {lane}
    desk.at_work[other] = 100
    statuses = [start["status"] for start, _ in asked(desk, at_once=8, lane=lane)]
    assert statuses == [503] * 5 + [200] * 3
    assert desk.at_work == {lane: 0, other: 100, Lane.UPKEEP: 0}
    assert desk.at_once == 100


@pytest.mark.parametrize("late", [0.0, 60.0])
def test_who_asks_how_it_is_or_says_what_to_serve_is_never_told_to_come_again(late: float) -> None:
    desk = Desk(None, Limits(at_once=3, late=2.0))
    desk.late = late
    desk.at_work |= {Lane.ANSWERS: 100, Lane.STORE: 100}
    assert [start["status"] for start, _ in asked(desk, at_once=8, lane=Lane.UPKEEP)] == [200] * 8


def test_every_route_waits_in_the_lane_of_what_it_waits_for() -> None:
    routes = [*v1(), *recommending(), *v2(), *looks()]
    lanes = {lane: {f"{route.method} {route.path}" for route in routes if route.lane is lane} for lane in Lane}
    assert lanes[Lane.UPKEEP] == {
        "GET /metrics", "GET /v1/bundles", "POST /v1/erasures", "POST /v1/bundles:promote", "POST /v1/bundles:rollback",
        "POST /v1/bundles/{label}", "DELETE /v1/bundles/{label}", "PUT /v1/fusion", "DELETE /v1/fusion",
    }  # fmt: skip
    assert {f"{route.method} {route.path}" for route in routes if route.scope is Scope.ADMIN} < lanes[Lane.UPKEEP]
    assert {f"{route.method} {route.path}" for route in routes if route.scope is Scope.WRITE} < lanes[Lane.STORE]
    assert {"GET /v1/users/{id:path}", "GET /v1/decisions", "GET /v1/audit", "POST /v1/fusion:preview"} < lanes[Lane.STORE]
    assert {"POST /v1/rank", "POST /v1/recommend", "POST /v1/predict", "POST /v2/models/{model}/infer"} < lanes[Lane.ANSWERS]


def test_a_loop_that_was_held_up_is_late() -> None:
    desk = Desk(None, Limits())

    async def held() -> float:
        watching = asyncio.create_task(desk.watch())
        await asyncio.sleep(TICK / 2)  # it has begun to wait
        time.sleep(TICK + 0.1)
        await asyncio.sleep(TICK / 4)
        watching.cancel()
        return desk.late

    assert asyncio.run(held()) >= 0.05
