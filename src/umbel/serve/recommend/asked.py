"""What clients send and get of `POST /v1/recommend`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from umbel.serve.records import Rung
from umbel.serve.requests import Id, Name, RankedItem, SentFields, Text

One = Text | int | float | bool
Wanted = One | Annotated[list[One], Meta(max_length=1_000)]  # of an attribute: a value, or any of some
Rules = Annotated[dict[Name, Wanted], Meta(max_length=20)]


class Filters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which items may not be shown.

    With `seen`, those that the user's latest events are of; those in `hidden`; those of whose attributes one is not as `where` wants it, or
    one is as `exclude` says. A list in a rule means any of its values; an attribute that is a list has each of its own. Items whose
    attribute `hidden` is true are never shown.
    """

    seen: bool = True
    hidden: Annotated[list[Id], Meta(max_length=10_000)] = []
    where: Rules = {}
    exclude: Rules = {}


class RecommendRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/recommend`: whom to recommend to, in which context, how many (`n`), and which items not.

    `user` and `context` are as in `/v1/rank`. With `personalization` off popularity and new items alone are ranked, nothing of the user
    is read, and everybody gets one list. The same `seed` draws the same order, without
    propensities.
    """

    user_id: Id | None = None
    user: SentFields = {}
    context: SentFields = {}
    n: Annotated[int, Meta(ge=1, le=200)] = 20
    filters: Filters = Filters()
    personalization: Literal["on", "off"] = "on"
    seed: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    explain: bool = False


class RecommendedItem(RankedItem, frozen=True, omit_defaults=True, kw_only=True):
    """One position of an answer, with every source that brought the item."""

    sources: list[str]


class RecommendAnswer(Struct, frozen=True, kw_only=True):
    """The order, from the top, and what gave it; empty where the filters leave nothing.

    `candidates` counts what each source brought to the ranker, in whole or in part the same items. A propensity is the chance that the
    ranking policy gives an item at its position, given the candidates and the items above it.
    """

    request_id: str
    bundle: str
    fusion: str
    rung: Rung
    items: list[RecommendedItem]
    candidates: dict[str, int]
    ignored: list[str]
    missing: list[str]
    logged: bool
