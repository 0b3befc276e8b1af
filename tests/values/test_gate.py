"""The gate before every route, called as a server calls it: who may pass, with how large a body, how often, how many at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from umbel.errors import UserError
from umbel.serve.http.call import Call, Reply, Route
from umbel.serve.http.gate import Desk, Gate
from umbel.serve.http.keys import Keys, Scope, add_key, read_keys
from umbel.serve.http.limits import Limits
from umbel.serve.http.metrics import Metrics
from umbel.serve.service import Service

PLAIN = Limits()
JSON = [(b"content-type", b"application/json")]


async def echo(call: Call) -> Reply:
    return Reply({"body": call.body.decode(), "actor": call.actor, "path": dict(call.path)})


def route(answer: Callable[[Call], Awaitable[Reply]] = echo, *, scope: Scope | None = Scope.READ, method: str = "POST") -> Route:
    return Route(method=method, path="/v1/echo", answer=answer, says="", scope=scope)


def desk(keys: Keys | None = None, limits: Limits = PLAIN) -> Desk:
    """All of a service that a gate touches are its figures."""
    made = Desk(keys, limits)
    made.service = object.__new__(Service)
    made.service.metrics = Metrics()
    return made


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


async def ask(
    gate: Gate, body: Sequence[bytes] = (b"{}",), *,
    headers: Sequence[tuple[bytes, bytes]] = JSON, method: str = "POST", gone: bool = False, version: str = "1.1",
) -> Answer:
    """One call: the body in these pieces; `gone` hangs up before its end."""
    parts = [{"type": "http.request", "body": one, "more_body": at + 1 < len(body) or gone} for at, one in enumerate(body)]
    if gone:
        parts.append({"type": "http.disconnect"})
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return parts.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "method": method, "headers": list(headers), "path_params": {"name": "x"}, "client": ("10.0.0.7", 1), "http_version": version,
    }  # fmt: skip
    await gate(scope, receive, send)
    start, end = sent
    return Answer(start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, end["body"])


def one(
    gate: Gate, body: Sequence[bytes] = (b"{}",), *,
    headers: Sequence[tuple[bytes, bytes]] = JSON, method: str = "POST", gone: bool = False,
) -> Answer:
    return asyncio.run(ask(gate, body, headers=headers, method=method, gone=gone))


def test_a_call_passes_with_its_body_and_path() -> None:
    found = one(Gate(route(), desk()), (b'{"a":', b"1}"))
    assert found.status == 200
    assert found.json == {"body": '{"a":1}', "actor": "anybody", "path": {"name": "x"}}
    assert found.headers["content-type"] == "application/json"
    assert int(found.headers["content-length"]) == len(found.body)


def test_before_the_start_nothing_is_answered() -> None:
    waiting = desk()
    waiting.service = None
    found = one(Gate(route(), waiting))
    assert found.status == 503
    assert found.headers["retry-after"] == "1"


def test_a_route_without_scope_asks_for_nothing(tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json", "one", ["read"])
    found = one(Gate(route(scope=None, method="GET"), desk(read_keys(tmp_path / "keys.json"))), method="GET", headers=())
    assert found.status == 200
    assert found.json["actor"] == ""


@pytest.mark.parametrize("kind", [b"text/plain", b"", b"application/x-www-form-urlencoded", b"application/jsonp", b"multipart/form-data"])
def test_a_body_that_a_page_could_send_unasked_is_refused(kind: bytes) -> None:
    found = one(Gate(route(), desk()), headers=[(b"content-type", kind)])
    assert found.status == 415
    assert found.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("kind", [b"application/json", b"application/json; charset=utf-8", b" Application/JSON ;x=y"])
def test_json_by_any_of_its_names_is_read(kind: bytes) -> None:
    assert one(Gate(route(), desk()), headers=[(b"content-type", kind)]).status == 200


def test_a_get_needs_no_type() -> None:
    assert one(Gate(route(method="GET"), desk()), method="GET", headers=()).status == 200


@pytest.mark.parametrize(("pieces", "told", "status"), [
    ((b"x" * 10,), None, 200),
    ((b"x" * 11,), None, 413),
    ((b"x" * 6, b"x" * 5), None, 413),
    ((b"x",), b"11", 413),
    ((b"x" * 11,), b"1", 413),
    ((b"x" * 10,), b"nonsense", 200),
])
def test_a_body_is_no_longer_than_it_may_be_whatever_it_says(pieces: tuple[bytes, ...], told: bytes | None, status: int) -> None:
    headers = [*JSON, *([(b"content-length", told)] if told is not None else ())]
    found = one(Gate(route(), desk(limits=Limits(body=10))), pieces, headers=headers)
    assert found.status == status
    if status == 413:
        assert "at most 10 bytes" in found.json["detail"]


def test_a_client_that_hangs_up_is_a_bad_request() -> None:
    found = one(Gate(route(), desk()), (b'{"a"',), gone=True)
    assert (found.status, found.json["title"]) == (400, "Bad Request")


@pytest.mark.parametrize(("host", "status"), [
    (b"localhost", 200), (b"localhost:8080", 200), (b"127.0.0.1:1", 200), (b"[::1]:8080", 200), (b"LOCALHOST", 200),
    (b"example.org", 403), (b"example.org:8080", 403), (b"localhost.example.org", 403), (b"127.0.0.1.example.org:80", 403),
    (b"localhost:80:80", 403), (b"", 403),
])
def test_without_keys_only_names_of_this_machine_are_answered(host: bytes, status: int) -> None:
    """A page of another site that reaches this port through a browser sends its own name."""
    assert one(Gate(route(), desk()), headers=[*JSON, (b"host", host)]).status == status


@pytest.mark.parametrize(("added", "version"), [
    ((b"x-forwarded-for", b"10.1.1.1"), "1.1"), ((b"x-forwarded-proto", b"https"), "1.1"), ((b"x-forwarded-host", b"localhost"), "1.1"),
    ((b"forwarded", b"for=127.0.0.1"), "1.1"), ((b"x-real-ip", b"127.0.0.1"), "1.1"), ((b"via", b"1.1 example"), "1.1"),
    ((b"connection", b"close"), "1.0"),
])  # fmt: skip
def test_without_keys_nobody_is_answered_through_a_proxy(added: tuple[bytes, bytes], version: str, keys: tuple[Keys, str, str]) -> None:
    """It may well say a name of this machine: of nginx that is the default, which speaks HTTP/1.0 and tells nothing of whom it asks for."""
    held, read, _ = keys
    told = [*JSON, (b"host", b"127.0.0.1:8080"), added]
    for scope in Scope:
        found = asyncio.run(ask(Gate(route(scope=scope), desk()), headers=told, version=version))
        assert (found.status, found.json["detail"]) == (403, "without keys no proxy is answered; serve with --keys FILE")
    assert asyncio.run(ask(Gate(route(scope=None), desk()), headers=told, version=version)).status == 200, "of its health anybody may know"
    assert asyncio.run(ask(Gate(route(), desk(held)), headers=[*bearer(read), added], version=version)).status == 200


def test_an_ordinary_client_is_none() -> None:
    told = [*JSON, (b"host", b"localhost:8080"), (b"user-agent", b"via x"), (b"x-forward", b"1"), (b"accept", b"*/*"), (b"viable", b"1")]
    assert one(Gate(route(), desk()), headers=told).status == 200


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Keys, str, str]:
    """A reader's and a writer's key."""
    file = tmp_path / "keys.json"
    return (lambda read, write: (read_keys(file), read, write))(add_key(file, "reader", ["read"]), add_key(file, "writer", ["write"]))


def bearer(key: str, kind: str = "Bearer") -> list[tuple[bytes, bytes]]:
    return [*JSON, (b"authorization", f"{kind} {key}".encode())]


def test_a_key_opens_what_its_scope_says_and_nothing_else(keys: tuple[Keys, str, str]) -> None:
    held, read, write = keys
    gates = {scope: Gate(route(scope=scope), desk(held)) for scope in Scope}
    found = {(name, scope): one(gate, headers=bearer(key)).status for name, key in (("read", read), ("write", write))
             for scope, gate in gates.items()}
    assert found == {
        ("read", Scope.READ): 200, ("read", Scope.WRITE): 403, ("read", Scope.ADMIN): 403,
        ("write", Scope.READ): 403, ("write", Scope.WRITE): 200, ("write", Scope.ADMIN): 403,
    }
    assert one(gates[Scope.READ], headers=bearer(read)).json["actor"] == "reader"


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer wrong", "Basic {read}", "{read}", "Bearer {read} x"])
def test_what_is_no_key_is_asked_for_one(keys: tuple[Keys, str, str], header: str | None) -> None:
    held, read, _ = keys
    headers = JSON if header is None else [*JSON, (b"authorization", header.format(read=read).encode())]
    found = one(Gate(route(), desk(held)), headers=headers)
    assert found.status == 401
    assert found.headers["www-authenticate"] == "Bearer"
    assert read.encode() not in found.body


def test_bearer_in_any_case(keys: tuple[Keys, str, str]) -> None:
    held, read, _ = keys
    assert one(Gate(route(), desk(held)), headers=bearer(read, "bEARER")).status == 200


def test_a_client_that_asks_too_often_is_told_when_to_come_back() -> None:
    gate = Gate(route(), desk(limits=Limits(rate=0.5, burst=2.0)))
    answers = [one(gate) for _ in range(3)]
    assert [found.status for found in answers] == [200, 200, 429]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 3


def test_each_key_has_a_rate_of_its_own(keys: tuple[Keys, str, str], tmp_path: Path) -> None:
    _, read, _ = keys
    other = add_key(tmp_path / "keys.json", "other", ["read"])
    gate = Gate(route(), desk(read_keys(tmp_path / "keys.json"), Limits(rate=0.1, burst=1.0)))
    assert [one(gate, headers=bearer(key)).status for key in (read, read, other)] == [200, 429, 200]


def test_too_many_at_once_are_turned_away_and_the_others_answered() -> None:
    async def slow(call: Call) -> Reply:
        await asyncio.sleep(0.05)
        return Reply({})

    async def crowd(gate: Gate) -> list[int]:
        return [found.status for found in await asyncio.gather(*(ask(gate) for _ in range(6)))]

    busy = desk(limits=Limits(at_once=4))
    found = asyncio.run(crowd(Gate(route(slow), busy)))
    assert set(found) <= {200, 503}
    assert 503 in found
    assert busy.at_once == 0, "everybody has left"
    assert asyncio.run(crowd(Gate(route(slow), desk(limits=Limits(at_once=6))))) == [200] * 6


async def unhurried(gate: Gate, rest: asyncio.Event) -> Answer:
    """One call whose body ends when it is let."""
    sent: list[MutableMapping[str, Any]] = []
    parts = [b"{", b"}"]

    async def receive() -> MutableMapping[str, Any]:
        if len(parts) == 1:
            await rest.wait()
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await gate({"method": "POST", "headers": JSON, "path_params": {}, "client": ("10.0.0.7", 1)}, receive, send)
    start, end = sent
    return Answer(start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, end["body"])


def test_bodies_that_do_not_come_keep_nobody_out_and_are_given_up() -> None:
    async def crowd(gate: Gate) -> tuple[Answer, list[Answer]]:
        idle = [asyncio.create_task(unhurried(gate, asyncio.Event())) for _ in range(5)]
        await asyncio.sleep(0.05)
        return await ask(gate), await asyncio.wait_for(asyncio.gather(*idle), 1.5)

    held = desk(limits=Limits(at_once=2, slow=0.3))
    prompt, idle = asyncio.run(crowd(Gate(route(), held)))
    assert prompt.status == 200
    assert {(one.status, one.headers.get("connection")) for one in idle} <= {(408, "close"), (503, None)}
    assert {one.json["detail"] for one in idle if one.status == 408} == {"the body did not come in time; send all of it within 0.3 s"}
    assert held.at_once == 0


def test_bodies_that_come_at_the_same_moment_are_as_many_as_may_be_at_once() -> None:
    async def slow(call: Call) -> Reply:
        await asyncio.sleep(0.05)
        return Reply({})

    async def crowd(gate: Gate) -> list[int]:
        idle = []
        rest = asyncio.Event()
        for _ in range(6):  # one after the other, so that each finds room
            idle.append(asyncio.create_task(unhurried(gate, rest)))
            await asyncio.sleep(0.001)
        rest.set()
        return sorted([one.status for one in await asyncio.gather(*idle)])

    assert asyncio.run(crowd(Gate(route(slow), desk(limits=Limits(at_once=4))))) == [200] * 4 + [503] * 2


@pytest.mark.parametrize(("error", "status"), [
    (UserError("items: none", mend="send some"), 422), (ValueError("/home/secret"), 500), (KeyError("inside"), 500),
    (RecursionError(), 500),
])
def test_a_failure_is_a_problem_that_tells_nothing_of_the_inside(
    error: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(call: Call) -> Reply:
        raise error

    found = one(Gate(route(fails), desk()))
    assert found.status == status
    assert set(found.json) == {"type", "title", "status", "detail"}
    assert b"secret" not in found.body
    assert b"inside" not in found.body
    assert bool(caplog.records) is (status == 500), "ours are logged, with what they were"


def test_a_route_may_have_a_form_of_failure_of_its_own() -> None:
    async def fails(call: Call) -> Reply:
        raise UserError("no", mend="yes")

    own = replace(route(fails), error=lambda error: Reply({"error": str(error)}, HTTPStatus.BAD_REQUEST))
    found = one(Gate(own, desk()))
    assert (found.status, found.json) == (400, {"error": "no; yes"})


def test_every_answer_is_counted_by_route_and_status() -> None:
    counted = desk(limits=Limits(body=5))
    gate = Gate(route(), counted)
    for body in ((b"{}",), (b"{}",), (b"x" * 6,)):
        one(gate, body)
    assert counted.service is not None
    text = counted.service.metrics.text().decode()
    assert 'umbel_requests_total{route="/v1/echo",status="200"} 2.0' in text
    assert 'umbel_requests_total{route="/v1/echo",status="413"} 1.0' in text
    assert 'umbel_request_seconds_count{route="/v1/echo"} 3.0' in text
