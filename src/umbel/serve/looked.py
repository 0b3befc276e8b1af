"""What those who look after a service get: typed, for /openapi.json."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from umbel.run.drifting import Finding
from umbel.serve.store.recent import Glance


class Latest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The query of what is listed: how many of the latest."""

    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class Glances(Struct, frozen=True, kw_only=True):
    """`GET /v1/decisions`: the latest, the latest first."""

    decisions: list[Glance]


class Note(Struct, frozen=True, kw_only=True):
    """A line of the audit: who did what, when."""

    time: int
    actor: str
    action: str
    detail: dict[str, Any]


class Audit(Struct, frozen=True, kw_only=True):
    """`GET /v1/audit`: the latest lines, the latest first."""

    notes: list[Note]


class Monitored(Struct, frozen=True, kw_only=True):
    """`GET /v1/monitor`: when a worker last looked (null: none has), what it found, and every task's figures by label of the service."""

    time: int | None = None
    findings: list[Finding] = []
    quality: list[dict[str, Any]] = []
