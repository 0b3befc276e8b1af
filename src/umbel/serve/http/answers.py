"""The shapes of what routes answer, beside those of `umbel.serve.requests`, and of what JSON Schema needs help to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct

from umbel.fusion.policy import FORMAT
from umbel.serve.http.limits import Limits
from umbel.serve.records import LONGEST, Result
from umbel.serve.requests import WHOLE, Id

Json = dict[str, Any]
ID: Json = {"type": "string", "minLength": 1, "maxLength": LONGEST, **WHOLE}
LABEL: Json = {"enum": ["stable", "canary", "shadow"]}
PARTS: Mapping[str, Json] = {"id": ID, "label": LABEL, "model": LABEL}  # of a path
EVENT: Json = {"anyOf": [{"$ref": "#/components/schemas/SentEvent"}, {}]}
KNOWN: Json = {"anyOf": [{"$ref": "#/components/schemas/KnownOne"}, {}]}
ALONE = "anything else among them is rejected alone, and said to be"

AtLeast0: Json = {"type": "number", "minimum": 0}
Above0: Json = {"type": "number", "exclusiveMinimum": 0}
WEIGHTED: Json = {"weight": AtLeast0, "scale": Above0}
LINE: Json = {
    "knots": {"type": "array", "items": {"type": "number"}, "minItems": 2, "uniqueItems": True, "description": "in rising order"},
    "increments": {"type": "array", "items": AtLeast0, "minItems": 1, "description": "one for each knot but the first"},
}
FAMILIES: Mapping[str, Json] = {  # of fusion, with the parameters of a task
    "linear": WEIGHTED, "log": WEIGHTED, "power": WEIGHTED,
    "constrained": {**WEIGHTED, "guard": {"type": ["number", "null"]}, "penalty": AtLeast0},
    "additive_monotone": LINE,
}


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """A request that says nothing: `{}`, whose type no page of another site may send unasked."""


class Alive(Struct, frozen=True):
    """That the process lives."""

    alive: bool


class Ready(Struct, frozen=True):
    """Whether the service is to be asked, and what would answer."""

    ready: bool
    bundle: str
    fusion: str


class KnownAnswer(Struct, frozen=True):
    """A user or an item, with all its fields."""

    id: str
    fields: dict[str, Any]


class KnownWritten(KnownAnswer, frozen=True):
    """A user or an item that was written; `reason` where the model does not read some of its fields."""

    reason: str | None = None


class WrittenOne(Struct, frozen=True):
    """What became of one of many, and why it was rejected, or that the model does not read some of it. Accepted means durable."""

    id: str
    result: Result
    reason: str | None = None


class WrittenAnswer(Struct, frozen=True):
    """What became of each, in the order sent."""

    results: list[WrittenOne]


class LabelShown(Struct, frozen=True):
    """What answers under a label; `own` is the policy that the bundle carries, where another one was put in force."""

    bundle: str
    folder: str
    fusion: str
    own: str | None


class BundlesAnswer(Struct, frozen=True, kw_only=True):
    """What answers under each label, the stable bundle's predecessor, the canary's share of users, and the number of changes so far."""

    labels: dict[str, LabelShown]
    previous: str | None
    share: float
    number: int


class EventAnswer(Struct, frozen=True):
    """What became of an event, and why it was rejected, or that no task reads its type."""

    event_id: str
    result: Result
    reason: str | None


class EventsAnswer(Struct, frozen=True):
    """What became of each event, in the order sent."""

    results: list[EventAnswer]


class EraseRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/erasures`: whom to erase."""

    user_id: Id


class ErasedAnswer(Struct, frozen=True):
    """What is gone; with `busy` somebody reads the store, and bytes are left beside its file until the request is sent again."""

    decisions: int
    events: int
    busy: bool


def _policy(family: str, parameters: Json) -> Json:
    task = {
        "type": "object", "properties": {"direction": {"enum": [-1, 1]}, **parameters}, "additionalProperties": False,
        "required": list(parameters) if parameters is LINE else [],
    }  # fmt: skip
    properties = {
        "format": {"const": FORMAT}, "family": {"const": family}, "name": {"type": "string", "minLength": 1, "maxLength": 100},
        "tasks": {"type": "object", "minProperties": 1, "additionalProperties": task},
    }  # fmt: skip
    return {"properties": properties, "required": ["format", "family", "tasks"], "additionalProperties": False}


SentEvents = Annotated[
    list[Annotated[Any, Meta(description=f"an event; {ALONE}", extra_json_schema=EVENT)]],
    Meta(extra_json_schema={"minItems": 1, "maxItems": Limits().events}),
]
SentKnown = Annotated[
    list[Annotated[Any, Meta(description=f"one, whole; {ALONE}", extra_json_schema=KNOWN)]],
    Meta(extra_json_schema={"minItems": 1, "maxItems": Limits().known}),
]
SentPolicy = Annotated[dict[str, Any], Meta(extra_json_schema={"oneOf": [_policy(*one) for one in FAMILIES.items()]})]
