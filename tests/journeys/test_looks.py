"""What those who look after a service see of it over HTTP: decisions, and who changed what; under keys, and not without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from tests.filled import CANDIDATES, DECISIONS, SHOWN, Filled, bundles, filled
from tests.server import problem
from umbel.fusion import parse
from umbel.serve.http.keys import Scope
from umbel.serve.http.looks import looks
from umbel.serve.preview import FACTORS
from umbel.serve.store.store import Store
from umbel.serve.whom import Whom
from umbel.serve.why import Why, WhyItem
from umbel.study.explain.study import explain_row

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


def test_a_decision_says_why(service: Filled) -> None:
    found = service.client.get(f"/v1/decisions/{service.requests[3]}").json()
    assert (found["request_id"], found["shown"], found["candidates"], found["rung"]) == (service.requests[3], SHOWN, CANDIDATES, "full")
    assert (found["no_contributions"], found["no_moved"]) == (None, None)
    assert found["gap"] <= 1e-12
    policy = parse(service.client.get("/v1/fusion").json(), where="fusion")
    for item in found["items"]:
        row = np.array([[item["predictions"][task] for task in policy.tasks]])
        assert_allclose(list(item["contributions"].values()), policy.contributions(row)[0], rtol=1e-12)
        assert sum(item["contributions"].values()) == pytest.approx(item["score"], abs=1e-12)
        assert set(item["moved"]) == {"click", "like", "buy"} == set(found["base"])
        assert set(item["moved"]["click"]) == {"user", "item", "device", "region"}
    assert set(found["fields"]) == {"user", "device", "region"}


def test_fields_moved_what_the_verb_says_they_moved(service: Filled, tmp_path: Path) -> None:
    """`umbel explain` of the same row from a log."""
    found = service.client.get(f"/v1/decisions/{service.requests[0]}").json()
    item = found["items"][0]
    log = pl.read_parquet(service.root / "log.parquet").head(1)
    row = {**found["fields"], **item["fields"]}
    log.with_columns(pl.lit(row[name]).cast(log.schema[name]).alias(name) for name in row).write_parquet(tmp_path / "one.parquet")
    told = explain_row(service.root / "a" / "bundle", str(tmp_path / "one.parquet"), 1)
    for at, column in enumerate(told.found.columns):
        mine = [item["moved"][column][name] for name in told.found.fields]
        assert_allclose(mine, told.found.contributions[0, at], atol=1e-9)
        assert found["base"][column] == pytest.approx(float(told.found.base[at]))


def test_what_another_policy_decided_is_explained_by_it(service: Filled) -> None:
    client = service.client
    policy = {"format": 1, "name": "likes", "family": "log", "tasks": {"like": {"weight": 2.0}}}
    client.put("/v1/fusion", json=policy).raise_for_status()
    request = client.post("/v1/rank", json={"user_id": "1", "items": ["1", "2"]}).json()["request_id"]
    client.delete("/v1/fusion").raise_for_status()
    found = client.get(f"/v1/decisions/{request}").json()
    assert found["fusion"].startswith("likes@")
    assert found["gap"] <= 1e-12
    assert [list(item["contributions"]) for item in found["items"]] == [["like"], ["like"]]


def test_an_unknown_decision_is_not_found(service: Filled) -> None:
    assert problem(service.client.get("/v1/decisions/nobody"), 404) == "no such decision; GET /v1/decisions lists the latest"


# The fusion


def test_a_preview_of_the_policy_in_force_changes_nothing(service: Filled) -> None:
    policy = service.client.get("/v1/fusion").json()
    found = service.client.post("/v1/fusion:preview", json={"policy": policy}).json()
    assert (found["changed"], found["now"], found["examples"]) == (0.0, found["then"], [])
    assert found["decisions"] >= DECISIONS
    assert {one["change"] for one in found["tasks"].values()} == {0.0}


def test_a_preview_shows_what_a_policy_would_do_and_does_not_do_it(service: Filled) -> None:
    before = service.client.get("/v1/fusion").json()
    policy = {**before, "tasks": {**before["tasks"], "like": {**before["tasks"]["like"], "direction": -1}}}
    found = service.client.post("/v1/fusion:preview", json={"policy": policy, "top": 3, "sweep": "like"}).json()
    assert found["changed"] > 0.2
    assert all(len(one["now"]) == len(one["then"]) == 3 and one["now"] != one["then"] for one in found["examples"])
    shift = found["tasks"]["like"]
    assert shift["low"] < shift["change"] < shift["high"] < 0
    assert [one["factor"] for one in found["front"]] == list(FACTORS)
    assert service.client.get("/v1/fusion").json() == before


@pytest.mark.parametrize(("body", "said"), [
    ({}, "policy"), ({"policy": {}}, "policy"), ({"policy": {"format": 1, "family": "linaer", "tasks": {}}}, "did you mean 'linear'?"),
    ({"policy": {"format": 1, "family": "linear", "tasks": {"click": {}}}, "sweep": "like"}, "no task of the policy"),
    ({"policy": {"format": 1, "family": "linear", "tasks": {"click": {}}}, "top": 0}, "$.top"),
    ({"policy": {"format": 1, "family": "linear", "tasks": {"click": {}}}, "tops": 1}, "tops"),
])  # fmt: skip
def test_a_policy_that_cannot_be_is_named(service: Filled, body: Json, said: str) -> None:
    assert said in problem(service.client.post("/v1/fusion:preview", json=body), 422)


def test_a_policy_of_another_bundle_conflicts_as_it_does_in_force(service: Filled) -> None:
    policy = {"format": 1, "family": "linear", "tasks": {"clik": {}}}
    for answer in (service.client.post("/v1/fusion:preview", json={"policy": policy}), service.client.put("/v1/fusion", json=policy)):
        assert "did you mean 'click'?" in problem(answer, 409)


# Reports


def test_the_report_of_a_bundle_is_its_run_s(service: Filled) -> None:
    told = json.loads((service.root / "a" / "report.json").read_text())
    found = service.client.get("/v1/bundles/stable/report").json()
    assert found["tasks"] == told["tasks"]
    page = service.client.get("/v1/bundles/stable/report.html")
    assert page.headers["content-type"].startswith("text/html")
    assert "sandbox" in page.headers["content-security-policy"]
    assert "Results on test" in page.text
    assert problem(service.client.get("/v1/bundles/canary/report"), 404).startswith("no bundle is 'canary'")


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


# Who users are


def test_a_key_that_reads_sees_users_by_pseudonyms_alone(service: Filled) -> None:
    """Everywhere the same, so that a user can be followed, and nowhere the id: not as the value of a field either."""
    reader, client = {"authorization": f"Bearer {service.keys['read']}"}, service.client
    told = {one["request_id"]: one["user_id"] for one in client.get("/v1/decisions?limit=200").json()["decisions"]}
    hidden = {one["request_id"]: one["user_id"] for one in client.get("/v1/decisions?limit=200", headers=reader).json()["decisions"]}
    assert told.keys() == hidden.keys()
    names = {(told[one], hidden[one]) for one in told if told[one] is not None}
    assert len({user for user, _ in names}) == len({name for _, name in names}) == len(names) > 10
    assert all(name.startswith("~") and len(name) == 17 for _, name in names)
    request = service.requests[3]
    open_, shut = (client.get(f"/v1/decisions/{request}", headers=own).json() for own in ({}, reader))
    assert (shut["user_id"], shut["fields"]["user"]) == (hidden[request], hidden[request])
    assert (open_["user_id"], open_["fields"]["user"]) == (told[request], told[request])
    assert {**shut, "user_id": None, "fields": None} == {**open_, "user_id": None, "fields": None}
    policy = client.get("/v1/fusion").json()
    policy["tasks"]["like"]["weight"] *= 9
    examples = client.post("/v1/fusion:preview", json={"policy": policy}, headers=reader).json()["examples"]
    assert examples
    assert {one["user_id"] for one in examples} <= {name for _, name in names}


def test_pseudonyms_outlive_a_restart_and_differ_between_stores(tmp_path: Path) -> None:
    with Store(tmp_path / "one.db") as one, Store(tmp_path / "two.db") as two:
        first = Whom(one.session).of("7")
        assert Whom(one.session).of("7") == first
        assert first != Whom(one.session).of("8")
        assert first != Whom(two.session).of("7")


def test_the_id_is_hidden_in_fields_of_any_type(tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store:
        whom = Whom(store.session)
    told = Why(
        request_id="r", user_id="1", time=0, bundle="b", fusion="f", rung="full", arm="stable", shown=1, adapted=None, known=None,
        temperature=None, fields={"user": "1", "number": 1, "flag": True, "age": 11, "friends": ["1", "2"]}, candidates=None,
        items=[WhyItem(item_id="i", score=None, propensity=None, predictions={}, fields={"author": "1"}, sources=[])], gap=None,
        no_contributions=None, units={}, base={}, no_moved=None,
    )  # fmt: skip
    found, name = whom.hide_why(told), whom.of("1")
    assert found.user_id == name
    assert found.fields == {"user": name, "number": name, "flag": True, "age": 11, "friends": [name, "2"]}
    assert found.items[0].fields == {"author": name}
    nobody = Why(**{field: getattr(told, field) for field in told.__struct_fields__} | {"user_id": None})
    assert whom.hide_why(nobody) == nobody
