"""What those who look after a service see of it over HTTP: decisions, and who changed what; under keys, and not without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.filled import DECISIONS, SHOWN, Filled, bundles, filled
from tests.server import problem
from umbel.serve.http.keys import Scope
from umbel.serve.http.looks import looks

Json = dict[str, object]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Tests leave its bundles and fusion as they found them."""
    with filled(bundles(tmp_path_factory.mktemp("looks")), tmp_path_factory.mktemp("store")) as made:
        yield made


# Who may look


@pytest.mark.parametrize("route", looks(), ids=lambda route: f"{route.method} {route.path}")
def test_nobody_looks_without_a_key(service: Filled, route: object) -> None:
    method, path = route.method, route.path.replace("{request}", service.requests[0]).replace("{label}", "stable")  # type: ignore[attr-defined]
    for headers in ({"authorization": ""}, {"authorization": "Bearer umbel_no"}):
        answer = service.client.request(method, path, headers=headers, json={} if method == "POST" else None)
        assert problem(answer, 401) == "no valid key; send authorization: Bearer KEY"


def test_all_that_is_looked_at_is_read() -> None:
    assert {route.scope for route in looks()} == {Scope.READ}


def test_a_key_that_reads_may_look_and_change_nothing(service: Filled) -> None:
    reader = {"authorization": f"Bearer {service.keys['read']}"}
    for path in ("/v1/decisions", "/v1/audit", "/v1/bundles"):
        assert service.client.get(path, headers=reader).status_code == 200
    for method, path in (("POST", "/v1/bundles:promote"), ("POST", "/v1/bundles:rollback"), ("DELETE", "/v1/fusion")):
        said = problem(service.client.request(method, path, headers=reader, json={} if method == "POST" else None), 403)
        assert "no scope admin" in said


def test_a_change_is_not_made_by_what_another_site_s_page_may_send(service: Filled) -> None:
    """A form or an image of another page has no key, no JSON by type, and no answer that allows it."""
    before = service.client.get("/v1/bundles").json()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = service.client.post("/v1/bundles:promote", content=b"{}", headers={"content-type": kind, "origin": "https://evil.example"})
        problem(answer, 415)
    preflight = service.client.options("/v1/bundles:promote", headers={
        "origin": "https://evil.example", "access-control-request-method": "POST", "access-control-request-headers": "content-type",
    })  # fmt: skip
    assert preflight.status_code == 405
    assert not [name for name in preflight.headers if name.startswith("access-control")]
    assert service.client.get("/v1/bundles").json() == before


def test_the_page_needs_no_key_and_holds_no_data(service: Filled) -> None:
    answer = service.client.get("/", headers={"authorization": ""})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    name = service.client.get("/readyz").json()["bundle"]
    assert name not in answer.text
    problem(service.client.get("/web/nothing.js"), 404)


# Decisions


def test_the_latest_decisions_come_first(service: Filled) -> None:
    found = service.client.get("/v1/decisions?limit=5").json()["decisions"]
    assert [one["request_id"] for one in found] == list(service.requests[:-6:-1])
    ready = service.client.get("/readyz").json()
    for one in found:
        assert (one["bundle"], one["fusion"], one["rung"], one["arm"]) == (ready["bundle"], ready["fusion"], "full", "stable")
        assert one["shown"] == SHOWN
        assert len(set(one["top"])) == 3


def test_as_many_as_asked_for(service: Filled) -> None:
    assert len(service.client.get("/v1/decisions").json()["decisions"]) == 50
    assert len(service.client.get("/v1/decisions?limit=200").json()["decisions"]) == DECISIONS
    assert "limit" in problem(service.client.get("/v1/decisions?limit=201"), 422)
    assert "unknown field" in problem(service.client.get("/v1/decisions?most=1"), 422)


# The audit


def test_the_audit_says_who_changed_what(service: Filled) -> None:
    client = service.client
    client.post("/v1/bundles/shadow", json={"folder": "b/bundle"}).raise_for_status()
    problem(client.post("/v1/bundles/canary", json={"folder": "nothing"}), 409)
    client.delete("/v1/bundles/shadow").raise_for_status()
    notes = client.get("/v1/audit?limit=3").json()["notes"]
    assert [(one["actor"], one["action"]) for one in notes] == [
        ("admin", "drop shadow"), ("admin", "refused: serve as canary"), ("admin", "serve as shadow"),
    ]  # fmt: skip
    assert "not a bundle" in notes[1]["detail"]["why"]
    assert notes[2]["detail"]["folder"] == str(service.root / "b" / "bundle")
    assert client.get("/v1/audit").json()["notes"][-1]["action"] == "start"
