"""What every call passes before its route, and every answer after it: who, how much, in what form; failures become problems."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from time import monotonic
from typing import Any, final

import msgspec

from umbel.errors import UserError
from umbel.serve.http.call import Call, Lane, Reply, Route
from umbel.serve.http.keys import Keys
from umbel.serve.http.keys import Scope as KeyScope
from umbel.serve.http.limits import Limits, Rates
from umbel.serve.http.problem import AGAIN, ProblemError, problem
from umbel.serve.service import Service

LOG = logging.getLogger("umbel.serve")
LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "testserver")
PROXIED = re.compile(rb"forwarded|x-forwarded(-.*)?|x-real-ip|via")  # the headers that a proxy adds
TICK = 0.05  # seconds
BODIES = ("POST", "PUT", "PATCH")
ENCODER = msgspec.json.Encoder()

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@final
class Desk:
    """What the gates of all routes share: the service (there once it has started), keys (None: everybody may do all), and counts."""

    def __init__(self, keys: Keys | None, limits: Limits) -> None:
        self.service: Service | None = None
        self.keys, self.limits = keys, limits
        self.rates = None if limits.rate is None else Rates(limits.rate, limits.burst)
        self.at_work = dict.fromkeys(Lane, 0)
        self.late = 0.0

    async def watch(self) -> None:
        """Measure again and again by how many seconds what is due is late: for so long requests lie unread, and nobody counts them."""
        while True:
            due = monotonic() + TICK
            await asyncio.sleep(TICK)
            self.late = monotonic() - due

    @property
    def at_once(self) -> int:
        """How many are at work, of all lanes."""
        return sum(self.at_work.values())

    def full(self, lane: Lane) -> bool:
        """Whether who comes now in a lane would wait for longer than is of use."""
        return lane is not Lane.UPKEEP and (self.at_work[lane] > self.limits.at_once or self.late > self.limits.late)


@final
class Gate:
    """An ASGI application for one route.

    Without keys only names of this machine are answered to, so that no page of another site can reach the service through a
    browser, and nobody through a proxy, whom others may ask; bodies are JSON by type, which such a page may not send unasked.
    """

    def __init__(self, route: Route, desk: Desk) -> None:
        self._route, self._desk = route, desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        arrived, desk = monotonic(), self._desk
        service, lane = desk.service, self._route.lane
        desk.at_work[lane] += 1
        try:
            reply = await self._reply(scope, receive, arrived)
        except Exception as error:
            reply = self._failed(error)
        finally:
            desk.at_work[lane] -= 1
        await _send(reply, send)
        if service is not None:
            service.metrics.requests.labels(self._route.path, int(reply.status)).inc()
            service.metrics.seconds.labels(self._route.path).observe(monotonic() - arrived)
            service.metrics.at_once.set(desk.at_once)

    async def _reply(self, scope: Scope, receive: Receive, arrived: float) -> Reply:
        desk = self._desk
        if desk.service is None:
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "the service has not started", mend="try again", headers=AGAIN)
        if self._route.scope is None:
            return await self._route.answer(Call(desk.service, b"", scope["path_params"], "", arrived))
        await asyncio.sleep(0)  # those that came at once are all counted, and their time runs, before the first is answered
        headers = dict(scope["headers"])
        actor, trusted = self._who(headers, scope)
        self._enter()
        body = b""
        if scope["method"] in BODIES:
            if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
                raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body is no application/json", mend="name its content-type so")
            body = await self._body(headers, receive)
            self._enter()
        query = scope.get("query_string", b"")
        return await self._route.answer(Call(desk.service, body, scope["path_params"], actor, arrived, query, trusted))

    def _enter(self) -> None:
        if self._desk.full(self._route.lane):
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once", mend="try again", headers=AGAIN)

    def _who(self, headers: dict[bytes, bytes], scope: Scope) -> tuple[str, bool]:
        """The name of the key, which has the scope that the route takes and asks no more often than it may, and whether it may do all."""
        keys, rates = self._desk.keys, self._desk.rates
        client = str((scope.get("client") or ("",))[0])
        if keys is None:
            _check_here(headers, scope)
            actor, trusted = "anybody", True
        else:
            kind, _, given = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
            key = keys.find(given.strip()) if kind.lower() == "bearer" else None
            if key is None:
                challenge = {"www-authenticate": "Bearer"}
                raise ProblemError(HTTPStatus.UNAUTHORIZED, "no valid key", mend="send authorization: Bearer KEY", headers=challenge)
            if self._route.scope not in key.scopes:
                raise ProblemError(HTTPStatus.FORBIDDEN, f"the key has no scope {self._route.scope}", mend="use one that has")
            actor = client = key.name
            trusted = KeyScope.ADMIN in key.scopes
        if rates is not None and (wait := rates.wait(client)):
            again = {"retry-after": str(int(wait) + 1)}
            raise ProblemError(HTTPStatus.TOO_MANY_REQUESTS, "too many requests", mend="ask less often", headers=again)
        return actor, trusted

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body, no longer than it may be, whatever length was told; while it comes it takes nobody's place."""
        desk, seconds, lane = self._desk, self._desk.limits.slow, self._route.lane
        desk.at_work[lane] -= 1
        try:
            async with asyncio.timeout(seconds):
                return await self._received(headers, receive)
        except TimeoutError:
            late, mend = "the body did not come in time", f"send all of it within {seconds:g} s"
            raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, late, mend=mend, headers={"connection": "close"}) from None
        finally:
            desk.at_work[lane] += 1

    async def _received(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        most = self._desk.limits.body
        large = ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large", mend=f"send at most {most:,} bytes")
        told = headers.get(b"content-length", b"0")
        if told.isdigit() and int(told) > most:
            raise large
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ProblemError(HTTPStatus.BAD_REQUEST, "the body ended early", mend="send it whole")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise large
            if not message.get("more_body", False):
                return b"".join(parts)

    def _failed(self, error: Exception) -> Reply:
        found = problem(error)
        if found.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, ProblemError):
            LOG.error("%s %s: %s", self._route.method, self._route.path, error, exc_info=None if isinstance(error, UserError) else error)
        if self._route.error is not None:
            return self._route.error(found)
        return Reply(found.body(), found.status, "application/problem+json", found.headers)


def _check_here(headers: dict[bytes, bytes], scope: Scope) -> None:
    """:raises ProblemError: for a call that is not from this machine, or that somebody passes on.

    A proxy that is not told otherwise may send a name of this machine as its own (nginx 1.22 does, by HTTP/1.0, as hardly anybody else).
    """
    if scope.get("http_version") == "1.0" or any(map(PROXIED.fullmatch, headers)):
        raise ProblemError(HTTPStatus.FORBIDDEN, "without keys no proxy is answered", mend="serve with --keys FILE")
    host = headers.get(b"host", b"localhost").decode("latin-1").lower()
    name, _, port = host.rpartition(":")
    if (name if port.isdecimal() and name else host) not in LOOPBACK:
        raise ProblemError(HTTPStatus.FORBIDDEN, "without keys only this machine is answered", mend="serve with --keys FILE")


async def _send(reply: Reply, send: Send) -> None:
    body = reply.content if isinstance(reply.content, bytes) else ENCODER.encode(reply.content)
    headers = [(b"content-type", reply.kind.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in reply.headers.items()]
    await send({"type": "http.response.start", "status": int(reply.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
