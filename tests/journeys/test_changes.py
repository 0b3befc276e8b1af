"""Changes of what is served, over HTTP: who goes back waits for no bundle, and what was decided before a change is not done after it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.server import problem
from tests.small import PATIENCE, POLICIES, Slow, Small, bundles, named, small
from umbel.serve.store.engine import UnavailableError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles(tmp_path_factory.mktemp("changes"))


@pytest.fixture
def service(root: Path, tmp_path: Path) -> Iterator[Small]:
    """Serves `b`, before which `a` was stable."""
    with small(root, tmp_path) as made:
        assert made.serve("stable", "b").status_code == 200
        yield made


@contextmanager
def loading(service: Small, monkeypatch: pytest.MonkeyPatch, label: str = "canary") -> Iterator[tuple[Slow, Future[httpx.Response]]]:
    """Somebody puts `c` into service, whose bundle loads until it is let."""
    slow = Slow(service.root / "c" / "bundle")
    monkeypatch.setattr("umbel.serve.bundles.load", slow.load)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(service.serve, label, "c")
        try:
            assert slow.begun.wait(PATIENCE)
            yield slow, asked
        finally:
            slow.ends.set()


def test_a_rollback_waits_for_no_bundle_that_loads(service: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    with loading(service, monkeypatch) as (slow, asked):
        back = service.post("/v1/bundles:rollback", {})
        assert not slow.ends.is_set(), "the other bundle is still being loaded"
        assert (back.status_code, service.policies) == (200, {"stable": "clicks"})
        slow.ends.set()
        said = problem(asked.result(PATIENCE), 409)
    assert said == "the bundles were changed meanwhile; look again, then decide"
    assert service.policies == {"stable": "clicks"}, "a canary of the bundle that was left does not begin"
    assert [action for action, _ in service.audit(2)] == ["refused: serve as canary", "rollback"]


def test_what_loads_is_served_if_nothing_was_changed(service: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    with loading(service, monkeypatch, "shadow") as (slow, asked):
        refused = [service.client.delete("/v1/bundles/stable"), service.post("/v1/bundles:promote", {})]
        assert ["something has to answer" in problem(refused[0], 409), "no canary" in problem(refused[1], 409)] == [True, True]
        slow.ends.set()
        assert asked.result(PATIENCE).status_code == 200
    assert service.policies == {"stable": "both", "shadow": "money"}


def test_every_quick_change_is_made_while_a_bundle_loads(service: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    assert service.serve("canary", "a").status_code == 200
    with loading(service, monkeypatch, "shadow"):
        policy = POLICIES["c"]
        assert service.client.put("/v1/fusion", json=policy.to_json()).status_code == 200
        assert {one["fusion"] for one in service.labels.values()} == {named(policy)}
        assert service.client.delete("/v1/fusion").status_code == 200
        assert service.client.delete("/v1/bundles/canary").status_code == 200
        assert service.policies == {"stable": "both"}


def test_a_bundle_that_cannot_be_loaded_is_refused_and_audited(service: Small) -> None:
    assert "not a bundle" in problem(service.serve("canary", "nowhere"), 409)
    (action, detail), *_ = service.audit(1)
    assert (action, detail["folder"]) == ("refused: serve as canary", str(service.root / "nowhere" / "bundle"))
    assert "not a bundle" in detail["why"]


def test_the_audit_says_from_which_bundle_to_which(service: Small) -> None:
    places = {name: str(service.root / name / "bundle") for name in "abc"}
    assert service.serve("canary", "c").status_code == 200
    assert service.post("/v1/bundles:promote", {}).status_code == 200
    assert service.post("/v1/bundles:rollback", {}).status_code == 200
    (back, backs), (forth, forths), (canary, canaries), (stable, stables) = service.audit(4)
    assert (back, backs) == ("rollback", {"from": places["c"], "to": places["b"]})
    assert (forth, forths) == ("promote", {"from": places["b"], "to": places["c"]})
    assert (canary, {"from", "to"} & set(canaries)) == ("serve as canary", set())
    assert (stable, stables["from"], stables["to"]) == ("serve as stable", places["a"], places["b"])


def test_a_store_that_does_not_answer_is_no_refusal(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process writes to it for too long: nothing is changed, and where the store lies is nobody's to know."""
    monkeypatch.setattr("umbel.serve.store.engine.WAIT", 50)
    with small(root, tmp_path) as service, sqlite3.connect(service.store, isolation_level=None) as other:
        before = service.client.get("/v1/bundles").json()
        other.execute("BEGIN IMMEDIATE")
        for answer in (service.serve("stable", "b"), service.client.put("/v1/fusion", json=POLICIES["b"].to_json())):
            assert problem(answer, 503) == "the store does not answer; try again"
            assert answer.headers["retry-after"] == "1"
        other.execute("ROLLBACK")
        assert service.client.get("/v1/bundles").json() == before
        assert [action for action, _ in service.audit()] == ["start"], "it was not refused, either"
        assert service.serve("stable", "b").status_code == 200
    other.close()


def test_where_the_store_lies_is_told_to_nobody(service: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise UnavailableError("postgresql://secret: the disk is full", mend="free some space")

    with monkeypatch.context() as patched:
        patched.setattr("umbel.serve.bundles.swapped", full)
        assert problem(service.serve("canary", "a"), 503) == "the store does not answer; try again"
    assert [action for action, _ in service.audit(1)] == ["serve as stable"], "whether it was done is not known: it is no refusal"
