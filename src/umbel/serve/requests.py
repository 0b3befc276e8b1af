"""What clients send and get: typed, closed to unknown keys, bounded; decoded from strict JSON in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct

from umbel.errors import UserError
from umbel.serve.records import FIRST, LAST, LONGEST, Rung, Value, wrong_id

WHOLE = {"pattern": "^[^\\x00]*$"}  # of a text without a zero byte
TIME = {"pattern": r"^[0-9]{1,4}(\.[0-9]{1,3})?(ms|s|m|h|d)$"}  # a duration: what is read is somewhat wider (`umbel.feedback.duration`)
Id = Annotated[str, Meta(min_length=1, max_length=LONGEST, extra_json_schema=WHOLE)]
Name = Annotated[str, Meta(max_length=200)]
Text = Annotated[str, Meta(max_length=10_000)]
Scalar = Text | int | float | bool | None
Sent = Scalar | Annotated[list[Text | int | float | bool], Meta(max_length=2_000)]  # the value of one field
SentFields = Annotated[dict[Name, Sent], Meta(max_length=500)]
Shape = TypeVar("Shape")


class MalformedError(UserError):
    """What was sent is no JSON."""


class Candidate(Struct, frozen=True, forbid_unknown_fields=True):
    """An item to rank, with fields that stand before those of the catalogue."""

    item_id: Id
    fields: SentFields = {}


class RankRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/rank`: whose items to rank, in which context, and how many to show (all by default).

    No item stands among `items` twice. `user` and `context` hold raw fields, which stand before those that the store knows of the
    user; nobody's are read with `personalization` off. The same `seed` draws the same order, without propensities: they would not be
    chances any more. `explain` adds what each task contributes to each score.
    """

    items: Annotated[list[Id | Candidate], Meta(extra_json_schema={"minItems": 1, "maxItems": 1_000, "uniqueItems": True})]
    user_id: Id | None = None
    user: SentFields = {}
    context: SentFields = {}
    n: Annotated[int, Meta(ge=1)] | None = None
    personalization: Literal["on", "off"] = "on"
    seed: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    explain: bool = False


class RankedItem(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One position of an answer; `predictions` are calibrated, `contributions` sum to `score`; what the rung does not know is not there."""

    item_id: str
    position: int
    score: float | None = msgspec.field(default=None)
    propensity: float | None = msgspec.field(default=None)
    predictions: dict[str, float] = {}
    contributions: dict[str, float] | None = None


class RankAnswer(Struct, frozen=True, kw_only=True):
    """The order, from the top, and what gave it.

    `logged` means that the decision is durable; `ignored` are fields that the model does not read, `missing` those that it reads and that
    were neither sent nor known of the user or of any item. `adapted` is the rung of the bundle's cold-start ladder, and `known` the number
    of the user's rows it is of; null where the shared model answered anybody.
    """

    request_id: str
    bundle: str
    fusion: str
    rung: Rung
    items: list[RankedItem]
    ignored: list[str]
    missing: list[str]
    logged: bool
    adapted: str | None = None
    known: int | None = None


class SentEvent(Struct, frozen=True, kw_only=True):
    """One of the events of `POST /v1/events`: what happened to an item, by a name of the client's own that makes a retry harmless.

    It belongs to a user or to a request; `occurred_at` is in milliseconds since 1970 (UTC), from the year 2000 on, and no further ahead
    of the service's clock than clocks may differ (`[feedback] skew`, five minutes).
    """

    event_id: Id
    type: Id
    item_id: Id
    occurred_at: Annotated[int, Meta(ge=FIRST, le=LAST)]
    user_id: Id | None = None
    request_id: Id | None = None
    value: float | None = None


class PredictRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/predict`: raw rows, each whole."""

    rows: Annotated[list[SentFields], Meta(min_length=1, extra_json_schema={"maxItems": 1_000})]


class PredictAnswer(Struct, frozen=True, kw_only=True):
    """Calibrated predictions, a list a row, in the order of `columns`."""

    bundle: str
    columns: list[str]
    predictions: list[list[float]]
    ignored: list[str]


class LabelRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/bundles/{label}`: the folder of the bundle to serve under a label, and which share of users the canary answers.

    A canary is dropped once it is shown to be worse in a task of `guard`: by task the share of the stable bundle's figure that it must
    keep; without it all tasks, with 1. A user counts by a first `session` such as 10m.
    """

    folder: Annotated[Text, Meta(extra_json_schema=WHOLE)]
    share: Annotated[float, Meta(gt=0, le=1)] = 0.05
    guard: Annotated[dict[Name, Annotated[float, Meta(gt=0, le=1)]], Meta(max_length=100)] | None = None
    session: Annotated[Text, Meta(extra_json_schema=TIME)] = "10m"


class KnownFields(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`PUT /v1/users/{id}` and `/v1/items/{id}`: all fields, instead of those before."""

    fields: SentFields


class KnownOne(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of those of `PUT /v1/users` and `/v1/items`: its id, and all its fields, instead of those before."""

    id: Id
    fields: SentFields


def decode(body: bytes, shape: type[Shape]) -> Shape:
    """A request from JSON; :raises UserError: for what is not strict JSON, of another shape, or too long, naming the place.

    Example
    -------
    >>> decode(b'{"items": ["a", {"item_id": "b"}], "n": 1}', RankRequest).n
    1
    >>> decode(b'{"items": [], "n": 0}', RankRequest)
    Traceback (most recent call last):
    umbel.errors.UserError: Expected `int` >= 1 - at `$.n`; see /openapi.json
    """
    found: Shape = _decoded(body, shape)
    return found


def decode_list(body: bytes) -> list[object]:
    """A list of anything from JSON; :raises UserError: for what is none."""
    found: list[object] = _decoded(body, list[Any])
    return found


def decode_parts(body: bytes) -> list[bytes]:
    """The JSON of each element of a list, to be decoded alone; :raises UserError: for what is none."""
    found: list[msgspec.Raw] = _decoded(body, list[msgspec.Raw])
    return [bytes(one) for one in found]


def decode_object(body: bytes) -> dict[str, object]:
    """An object of anything from JSON; :raises UserError: for what is none."""
    found: dict[str, object] = _decoded(body, dict[str, Any])
    return found


def decode_query(query: bytes, shape: type[Shape]) -> Shape:
    """A request from a query; :raises UserError: for what is not of that shape, or comes twice.

    Example
    -------
    >>> class Recent(Struct, forbid_unknown_fields=True):
    ...     limit: int = 20
    >>> decode_query(b"limit=5", Recent)
    Recent(limit=5)
    """
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=20)
        if len(dict(pairs)) < len(pairs):
            raise UserError("the query names something twice", mend="name it once")
        found: Shape = msgspec.convert(dict(pairs), shape, strict=False)
    except ValueError as error:  # of msgspec's, too
        raise UserError(f"the query: {str(error).splitlines()[0]}", mend="see /openapi.json") from None
    return found


def _decoded(body: bytes, shape: Any) -> Any:  # noqa: ANN401
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise UserError(str(error), mend="see /openapi.json") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(str(error), mend="send strict JSON in UTF-8") from None


def candidates(asked: RankRequest, most: int) -> tuple[list[str], list[dict[str, Value]]]:
    """The ids of the items, each once, and the fields sent with them.

    :raises UserError: where there are none, more than `most`, or one comes twice, or an id cannot be one.
    """
    items = asked.items
    if not items:
        raise UserError("items: none", mend="send at least one to rank")
    if len(items) > most:
        raise UserError(f"items: {len(items):,}", mend=f"send at most {most:,}")
    ids = [one if isinstance(one, str) else one.item_id for one in items]
    if len(set(ids)) < len(ids):
        twice = next(one for at, one in enumerate(ids) if one in ids[:at])
        raise UserError(f"items: {twice!r} comes twice", mend="send each item once")
    check_ids("items", ids)
    return ids, [{} if isinstance(one, str) else one.fields for one in items]  # type: ignore[misc]


def check_ids(where: str, ids: Sequence[str]) -> None:
    """:raises UserError: for the first that cannot be the id of anything."""
    for one in ids:
        if not (one.isascii() and "\0" not in one) and (wrong := wrong_id(one)):
            raise UserError(f"{where}: an id {wrong}", mend=f"ids are texts of 1 to {LONGEST} characters")
