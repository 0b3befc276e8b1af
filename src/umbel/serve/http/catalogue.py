"""The routes of users and items: one of them, or many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import final

from umbel.errors import UserError
from umbel.serve.http.answers import KnownAnswer, KnownWritten, SentKnown, WrittenAnswer, WrittenOne
from umbel.serve.http.call import Call, Lane, Reply, Route
from umbel.serve.http.keys import Scope
from umbel.serve.http.problem import ProblemError
from umbel.serve.known import Memory
from umbel.serve.records import Known, Result, wrong_id
from umbel.serve.requests import KnownFields, KnownOne, MalformedError, check_ids, decode, decode_parts
from umbel.serve.service import Service
from umbel.serve.store.session import now
from umbel.serve.unread import unread_fields


@final
@dataclass(frozen=True, slots=True)
class Kept:
    """What answers for one kind: `kind` is its part of the path, `memory` where a service has it."""

    kind: str
    memory: Callable[[Service], Memory]

    async def write_many(self, call: Call) -> Reply:
        """Write many in one transaction, those that can be; 207 where any was rejected. Of two of one id the last stays."""
        sent, most = decode_parts(call.body), call.service.serving.limits.known
        if not 1 <= len(sent) <= most:
            raise UserError(f"{self.kind}: {len(sent):,}", mend=f"send 1 to {most:,}")
        time = now()
        read = [_read(one, time) for one in sent]
        await asyncio.to_thread(self.memory(call.service).put, [one for one in read if isinstance(one, Known)])
        reads = call.service.reads
        results = [
            WrittenOne(one.id, Result.ACCEPTED, unread_fields(one.fields, reads)) if isinstance(one, Known) else one for one in read
        ]
        rejected = any(one.result is Result.REJECTED for one in results)
        return Reply(WrittenAnswer(results), HTTPStatus.MULTI_STATUS if rejected else HTTPStatus.OK)

    async def write(self, call: Call) -> Reply:
        """Write one."""
        one = Known(id=_id(call), fields=decode(call.body, KnownFields).fields, time=now())  # type: ignore[arg-type]
        await asyncio.to_thread(self.memory(call.service).put, [one])
        return Reply(KnownWritten(one.id, dict(one.fields), unread_fields(one.fields, call.service.reads)))

    async def read(self, call: Call) -> Reply:
        """Read one."""
        one = _id(call)
        found = await asyncio.to_thread(self.memory(call.service).fetch, [one])
        if one not in found:
            raise ProblemError(HTTPStatus.NOT_FOUND, "not known", mend="PUT it first")
        return Reply(KnownAnswer(one, found[one]))

    async def delete(self, call: Call) -> Reply:
        """Forget one."""
        if not await asyncio.to_thread(self.memory(call.service).delete, _id(call), time=now()):
            raise ProblemError(HTTPStatus.NOT_FOUND, "not known", mend="nothing is left of it")
        return Reply(b"", HTTPStatus.NO_CONTENT)


def catalogues() -> Iterator[Route]:
    """Those of users, then those of items."""
    for kept in (Kept("users", lambda service: service.users), Kept("items", lambda service: service.items)):
        kind, path = kept.kind, f"/v1/{kept.kind}/{{id:path}}"
        yield Route(
            method="PUT", path=f"/v1/{kind}", answer=kept.write_many, says=f"Write many of the {kind}", scope=Scope.WRITE,
            reads=SentKnown, gives=WrittenAnswer, partly=True, lane=Lane.STORE,
        )  # fmt: skip
        yield Route(
            method="PUT", path=path, answer=kept.write, says=f"Write one of the {kind}", scope=Scope.WRITE, reads=KnownFields,
            gives=KnownWritten, lane=Lane.STORE,
        )  # fmt: skip
        yield Route(method="GET", path=path, answer=kept.read, says=f"Read one of the {kind}", gives=KnownAnswer, lane=Lane.STORE)
        yield Route(
            method="DELETE", path=path, answer=kept.delete, says=f"Forget one of the {kind}", scope=Scope.WRITE, lane=Lane.STORE,
        )  # fmt: skip


def _read(one: bytes, time: int) -> Known | WrittenOne:
    """One of many as it is sent, or its rejection; :raises MalformedError: for what is no JSON."""
    try:
        sent = decode(one, KnownOne)
        check_ids("id", [sent.id])
    except MalformedError:
        raise
    except UserError as error:
        return WrittenOne(_named(decode(one, object)), Result.REJECTED, str(error))
    return Known(id=sent.id, fields=sent.fields, time=time)  # type: ignore[arg-type]


def _named(tree: object) -> str:
    given = tree.get("id") if isinstance(tree, dict) else None
    return given if isinstance(given, str) else ""


def _id(call: Call) -> str:
    one = call.path["id"]
    if wrong := wrong_id(one):
        raise UserError(f"id {wrong}", mend="give another")
    check_ids("id", [one])
    return one
