"""One call of a route, and its reply."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus

from msgspec import Struct

from umbel.serve.http.keys import Scope
from umbel.serve.service import Service


class Lane(Enum):
    """Calls that share places: those of one lane that wait keep none of another out."""

    ANSWERS = auto()  # what is worked out, whether the store answers or not
    STORE = auto()    # what waits for the store
    UPKEEP = auto()   # how the service is, and what it is to serve: never told to come again


@dataclass(frozen=True, slots=True)
class Call:
    """What a route is asked: the body, the parts of the path, who asks (the name of a key), when it arrived, and the query as it came.

    `trusted` says that who users are may be told: to a key of scope admin, or to this machine where there are no keys.
    """

    service: Service
    body: bytes
    path: Mapping[str, str]
    actor: str
    arrived: float
    query: bytes = b""
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What a route answers: content that JSON has (a Struct, or bytes as they are), and how."""

    content: object
    status: HTTPStatus = HTTPStatus.OK
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route: what answers it, the scope that it takes (none: anybody may ask), and what it reads, asks and gives, for /openapi.json.

    `{name}` in a path stands for one part of it, `{name:path}` for the rest; `asks` is the shape of its query, `kind` the media type of
    what it gives; `partly` says that it may do a part of what it is asked for, and then answers 207. `lane` says whose places it takes.
    """

    method: str
    path: str
    answer: Callable[[Call], Awaitable[Reply]]
    says: str
    scope: Scope | None = Scope.READ
    reads: object = None
    asks: type[Struct] | None = None
    gives: object = None
    kind: str = "application/json"
    error: Callable[[Exception], Reply] | None = None
    partly: bool = False
    lane: Lane = Lane.ANSWERS
