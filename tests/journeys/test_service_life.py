"""A service over time: bundles come and go without a failed request, keys decide who may, and its end loses nothing."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose

from tests.journeys.conftest import Job, say
from tests.loads import Load, event, kept
from tests.server import Here, Server, command, here, problem, serving
from umbel.bundle import Bundle
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import Linear
from umbel.serve.http.keys import PREFIX, add_key
from umbel.serve.served import Served, load
from umbel.serve.store.store import Store
from umbel.serve.wanted import saved, swapped

CALM = ("--set", "budget=20000", "--set", "late=600")


@pytest.fixture(scope="module")
def root(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles of one run, whose weights differ, and two that cannot be served."""
    root = tmp_path_factory.mktemp("bundles")
    shutil.copytree(job.run / "bundle", root / "a" / "bundle")
    other = Bundle.load(job.run / "bundle")
    torch.manual_seed(0)
    with torch.no_grad():
        other.model.table.add_(0.3 * torch.randn_like(other.model.table))
    golden = pl.read_parquet(job.run / "bundle" / "golden.parquet")
    other.save(root / "b" / "bundle", golden=golden)
    replace(other, fusion=None).save(root / "c" / "bundle", golden=golden)
    shutil.copytree(root / "b" / "bundle", root / "broken" / "bundle")
    weights = root / "broken" / "bundle" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[: len(weights.read_bytes()) // 2])
    (root / "foreign" / "bundle").mkdir(parents=True)
    (root / "foreign" / "bundle" / "manifest.json").write_text('{"format": 99, "files": {}}')
    return root


@pytest.fixture(scope="module")
def names(root: Path) -> dict[str, Served]:
    return {name: load(root / name / "bundle") for name in "ab"}


BODY = {"user_id": "3", "items": [str(item) for item in range(12)], "context": {"device": "phone", "region": 2}, "seed": 1}


def rank(server: Server | Here, **more: object) -> dict[str, object]:
    answer = server.client.post("/v1/rank", json={**BODY, **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


def check(answer: Mapping[str, object], names: Mapping[str, Served], sent: Mapping[str, object] = BODY) -> str:
    """The answer is that of the bundle which it names; which one that is."""
    which = next(name for name, served in names.items() if served.name == answer["bundle"])
    served = names[which]
    context, user = sent["context"], sent["user_id"]
    assert isinstance(context, dict)
    assert isinstance(user, str)
    items = sent["items"]
    assert isinstance(items, list)
    expected = served.reader.predict({**context, "user": user}, [{"item": item} for item in items])
    shown = answer["items"]
    assert isinstance(shown, list)
    for one in shown:
        row = expected[items.index(one["item_id"])]
        assert_allclose([one["predictions"][name] for name in served.bundle.columns], row, atol=1e-6, rtol=0)
    return which


def test_bundles_come_and_go(root: Path, names: dict[str, Served], tmp_path: Path) -> None:
    with here(root / "a" / "bundle", tmp_path) as server:
        client = server.client
        assert check(rank(server), names) == "a"
        told = client.post("/v1/bundles/canary", json={"folder": "b/bundle", "share": 1.0})
        assert told.status_code == 200, told.text
        assert told.json()["labels"]["canary"]["bundle"] == names["b"].name
        assert check(rank(server), names) == "b"
        assert client.get("/v2/models/canary").json()["versions"] == [names["b"].name]
        promoted = client.post("/v1/bundles:promote", json={})
        assert promoted.status_code == 200
        assert set(promoted.json()["labels"]) == {"stable"}
        assert check(rank(server), names) == "b"
        started = time.monotonic()
        back = client.post("/v1/bundles:rollback", json={}).json()
        assert time.monotonic() - started < 20
        assert back["labels"]["stable"]["bundle"] == names["a"].name
        assert check(rank(server), names) == "a"
        assert "no canary" in problem(client.post("/v1/bundles:promote", json={}), 409)
    with Store(tmp_path / "umbel.db") as store:
        actions = [(actor, action) for _, actor, action, _ in store.notes()]
    assert actions == [("anybody", "rollback"), ("anybody", "promote"), ("anybody", "serve as canary"), ("umbel serve", "start")]


def test_a_canary_answers_its_share_of_users_always_the_same(root: Path, names: dict[str, Served], tmp_path: Path) -> None:
    with here(root / "a" / "bundle", tmp_path) as server:
        server.client.post("/v1/bundles/canary", json={"folder": "b/bundle", "share": 0.4})
        first = {user: check(rank(server, user_id=user), names, {**BODY, "user_id": user}) for user in map(str, range(25))}
        again = {user: check(rank(server, user_id=user), names, {**BODY, "user_id": user}) for user in map(str, range(25))}
        assert first == again
        assert 2 <= sum(which == "b" for which in first.values()) <= 20
        assert server.client.delete("/v1/bundles/canary").status_code == 200
        user = next(user for user, which in first.items() if which == "b")
        assert check(rank(server, user_id=user), names, {**BODY, "user_id": user}) == "a"
        assert "something has to answer" in problem(server.client.delete("/v1/bundles/stable"), 409)


def test_a_shadow_answers_nobody(root: Path, names: dict[str, Served], tmp_path: Path) -> None:
    with here(root / "a" / "bundle", tmp_path) as server:
        server.client.post("/v1/bundles/shadow", json={"folder": "b/bundle"})
        assert {check(rank(server), names) for _ in range(5)} == {"a"}
        assert 'umbel_rungs_total{label="shadow",rung="full"} 5.0' in server.client.get("/metrics").text


@pytest.mark.parametrize(
    ("folder", "status", "said"),
    [
        ("broken/bundle", 409, "weights.safetensors: is truncated or changed"),
        ("foreign/bundle", 409, "bundle format 99"),
        ("nothing/bundle", 409, "not a bundle"),
        ("c/bundle", 409, "the bundle has no fusion policy"),
        ("../../etc", 403, "not under the root"),
        ("/etc", 403, "not under the root"),
    ],
)
def test_what_cannot_be_served_is_refused_and_what_is_served_goes_on(
    life: Life, names: dict[str, Served], folder: str, status: int, said: str,
) -> None:
    for label in ("stable", "canary", "shadow"):
        assert said in problem(life.server.client.post(f"/v1/bundles/{label}", json={"folder": folder}), status)
        assert check(rank(life.server), names) == "a"
    if status == 409:
        with Store(life.folder / "umbel.db") as store:
            latest = store.notes(1)[0]
        assert latest[1:3] == ("anybody", "refused: serve as shadow")
        assert said in str(latest[3]["why"])


def test_a_fusion_is_swapped_and_named(life: Life, names: dict[str, Served]) -> None:
    client = life.server.client
    before = rank(life.server)
    policy = Fusion((Term("like", Linear(1.0)),), "likes")
    assert client.put("/v1/fusion", json=policy.to_json()).status_code == 200
    after = rank(life.server)
    assert after["fusion"] == f"likes@{policy.version}"
    items = after["items"]
    assert isinstance(items, list)
    assert [one["score"] for one in items] == [one["predictions"]["like"] for one in items]
    assert client.get("/v1/fusion").json() == policy.to_json()
    for bad, said in (
        ({"format": 1, "family": "linear", "tasks": {"lik": {}}}, "did you mean 'like'?"),
        ({"format": 1, "family": "linaer", "tasks": {"like": {}}}, "no family 'linaer'"),
        ({"format": 1, "family": "linear", "tasks": {"like": {"weight": -1}}}, "weight = -1"),
    ):
        answer = client.put("/v1/fusion", json=bad)
        assert said in problem(answer, answer.status_code)
        assert answer.status_code in (409, 422)
        assert rank(life.server)["fusion"] == after["fusion"]
    assert client.delete("/v1/fusion").status_code == 200
    assert rank(life.server)["fusion"] == before["fusion"]


@dataclass(frozen=True)
class Life:
    """A server of bundle `a` for tests that leave it as it was."""

    server: Here
    folder: Path


@pytest.fixture(scope="module")
def life(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    folder = tmp_path_factory.mktemp("life")
    with here(root / "a" / "bundle", folder) as server:
        yield Life(server, folder)


def test_what_was_promoted_stays_after_a_restart(
    root: Path, names: dict[str, Served], tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:
    with here(root / "a" / "bundle", tmp_path) as server:
        server.client.post("/v1/bundles/stable", json={"folder": "b/bundle"})
    with caplog.at_level("WARNING"), here(root / "a" / "bundle", tmp_path) as server:
        assert check(rank(server), names) == "b"
    assert "reset" in caplog.text
    with here(root / "a" / "bundle", tmp_path, "reset=true") as server:
        assert check(rank(server), names) == "a"


def test_another_bundle_than_at_the_last_start_is_served_unless_one_was_promoted_since(
    root: Path, names: dict[str, Served], tmp_path: Path
) -> None:
    with here(root / "a" / "bundle", tmp_path):
        pass
    with here(root / "b" / "bundle", tmp_path) as server:
        assert check(rank(server), names) == "b"
        assert server.client.post("/v1/bundles:rollback", json={}).status_code == 200
        assert check(rank(server), names) == "a"
    with here(root / "b" / "bundle", tmp_path) as server:
        assert check(rank(server), names) == "a", "it was rolled back since"


@pytest.mark.parametrize("words", [(), ("reset=true",)])
def test_a_bundle_to_go_back_to_that_is_gone_ends_no_service(
    root: Path, names: dict[str, Served], tmp_path: Path, words: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(root / "a" / "bundle", tmp_path / "gone" / "bundle")
    for folder in (tmp_path / "gone" / "bundle", root / "b" / "bundle"):
        with here(folder, tmp_path) as server:
            assert server.client.get("/v1/bundles").status_code == 200
    shutil.rmtree(tmp_path / "gone")
    with caplog.at_level("WARNING"), here(root / "b" / "bundle", tmp_path, *words) as server:
        assert check(rank(server), names) == "b"
        assert server.client.get("/v1/bundles").json()["previous"] is None
        assert "no bundle to go back to" in problem(server.client.post("/v1/bundles:rollback", json={}), 409)
    assert "gone" in caplog.text


def test_a_start_that_fails_is_one_line(root: Path, tmp_path: Path) -> None:
    words = ("--port", "0", "--store", tmp_path / "umbel.db")
    done = subprocess.run(command(root / "c" / "bundle", *words), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "the bundle has no fusion policy; give one: --fusion FILE" in done.stderr
    said = say("serve", root / "broken" / "bundle", *words)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1), said.err
    assert "weights.safetensors" in said.err


def test_what_another_worker_changed_is_looked_at_first(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umbel.serve.service.REFRESH", 600.0)
    policy = Fusion((Term("like", Linear(1.0)),), "likes")
    with here(root / "a" / "bundle", tmp_path) as server, Store(tmp_path / "umbel.db") as store:
        before = saved(store)
        assert before is not None
        changed = replace(before, previous=str(root / "b" / "bundle"), number=before.number + 1)
        assert swapped(store, before.number, changed)
        told = server.client.put("/v1/fusion", json=policy.to_json())
        assert (told.status_code, told.json()["previous"]) == (200, str(root / "b" / "bundle"))
        assert saved(store) == replace(changed, fusion=policy.to_json(), number=changed.number + 1)
        assert [note[2] for note in store.notes(2)] == ["activate fusion", "start"]


def test_what_a_policy_file_decided_is_explained(root: Path, tmp_path: Path) -> None:
    """While it is in force, and after a start without it."""
    policy = Fusion((Term("like", Linear(2.0)),), "likes")
    (tmp_path / "fusion.json").write_text(json.dumps(policy.to_json()))
    with here(root / "a" / "bundle", tmp_path, f"fusion={tmp_path / 'fusion.json'}") as server:
        request = rank(server)["request_id"]
        told = server.client.get(f"/v1/decisions/{request}").json()
        assert (told["fusion"], told["no_contributions"]) == (f"likes@{policy.version}", None)
        assert [one["contributions"] for one in told["items"]] == [{"like": pytest.approx(one["score"])} for one in told["items"]]
        assert server.client.delete("/v1/fusion").status_code == 200
    with here(root / "a" / "bundle", tmp_path) as server:
        assert rank(server)["fusion"] != told["fusion"]
        assert server.client.get(f"/v1/decisions/{request}").json()["items"] == told["items"]


def test_keys_decide_who_may(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    given = {scope: add_key(file, scope, [scope]) for scope in ("read", "write", "admin")}
    sent = [event("e")]
    policy = {"format": 1, "family": "linear", "tasks": {"like": {}}}
    calls = {"read": ("POST", "/v1/rank", BODY), "write": ("POST", "/v1/events", sent), "admin": ("PUT", "/v1/fusion", policy)}
    with here(root / "a" / "bundle", tmp_path, keys=file) as server:
        for scope, (method, path, body) in calls.items():
            for name, key in given.items():
                answer = server.client.request(method, path, json=body, headers={"authorization": f"Bearer {key}"})
                if name == scope:
                    assert answer.status_code == 200, answer.text
                else:
                    assert f"no scope {scope}" in problem(answer, 403)
            for wrong in ("", "Bearer", "Bearer x", f"Basic {given[scope]}", f"Bearer {given[scope]}x", f"Bearer {PREFIX}"):
                answer = server.client.request(method, path, json=body, headers={"authorization": wrong})
                assert "no valid key" in problem(answer, 401)
                assert answer.headers["www-authenticate"] == "Bearer"
        client = server.client
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        problem(client.get("/metrics"), 401)
        assert client.get("/v2").status_code == 401
        assert set(client.get("/v2").json()) == {"error"}
    with Store(tmp_path / "umbel.db") as store:
        assert store.notes(1)[0][1:3] == ("admin", "activate fusion")
    for file_there in tmp_path.rglob("*"):
        content = file_there.read_bytes() if file_there.is_file() else b""
        for key in given.values():
            assert key.encode() not in content, file_there


def test_a_client_that_asks_too_often_is_told_to_wait(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    one, other = (add_key(file, name, ["read"]) for name in ("one", "other"))
    with here(root / "a" / "bundle", tmp_path, "rate=0.001", keys=file, key=one) as server:
        answers = [server.client.post("/v1/rank", json={"items": ["1"]}) for _ in range(103)]
        assert [answer.status_code for answer in answers[:100]] == [200] * 100
        assert "too many requests" in problem(answers[-1], 429)
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert server.client.post("/v1/rank", json=BODY, headers={"authorization": f"Bearer {other}"}).status_code == 200
        assert server.client.get("/readyz").status_code == 200


def test_without_time_popularity_answers(root: Path, tmp_path: Path) -> None:
    with here(root / "a" / "bundle", tmp_path, "budget=0.000001") as server:
        answer = rank(server)
        assert answer["rung"] == "popular"
        items = answer["items"]
        assert isinstance(items, list)
        assert len(items) == 12
        assert not any({"score", "propensity"} & set(one) for one in items)
        assert answer["logged"] is True
        assert 'umbel_rungs_total{label="stable",rung="popular"} 1.0' in server.client.get("/metrics").text
        with Store(tmp_path / "umbel.db") as store:
            decision = store.decision(str(answer["request_id"]))
        assert decision is not None
        assert [one.propensity for one in decision.shown] == [None] * 12


def test_the_end_finishes_what_was_begun_and_loses_nothing(root: Path, tmp_path: Path) -> None:
    with serving(root / "a" / "bundle", tmp_path, *CALM, "--set", "grace=1") as server:
        work = Load(server.url, BODY)
        threads = work.start()
        work.until(20)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        ready = server.client.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert server.client.get("/healthz").status_code == 200
        assert server.client.post("/v1/rank", json=BODY).status_code == 200
        work.stopped.set()
        for thread in threads:
            thread.join()
        assert server.process.wait(30) == 0
    assert not work.failed
    assert {answer["status"] for answer in work.answers} == {200}
    assert all(answer["logged"] for answer in work.answers)
    kept(tmp_path / "umbel.db", work)


def test_a_killed_server_has_kept_what_it_acknowledged(root: Path, tmp_path: Path) -> None:
    with serving(root / "a" / "bundle", tmp_path, *CALM) as server:
        work = Load(server.url, BODY)
        threads = work.start()
        work.until(20)
        server.process.kill()
        server.process.wait()
        for thread in threads:
            thread.join()
    kept(tmp_path / "umbel.db", work)
    with serving(root / "a" / "bundle", tmp_path, *CALM) as server:
        again = [event(name) for name in work.events[:500]]
        told = server.client.post("/v1/events", json=again).json()["results"]
        assert {one["result"] for one in told} == {"duplicate"}


def test_swaps_under_load_fail_no_request(root: Path, names: dict[str, Served], tmp_path: Path) -> None:
    with here(root / "a" / "bundle", tmp_path) as server:
        work = Load(server.url, BODY)
        threads = work.start(2)
        for number in range(6):
            answer = server.client.post("/v1/bundles/stable", json={"folder": f"{'ba'[number % 2]}/bundle"})
            assert answer.status_code == 200, answer.text
            time.sleep(0.2)
        work.stopped.set()
        for thread in threads:
            thread.join()
    assert not work.failed
    assert {answer["status"] for answer in work.answers} == {200}
    users = {str(number): {**BODY, "user_id": str(number)} for number in range(2)}
    found = set()
    with Store(tmp_path / "umbel.db") as store:
        for given in work.answers:
            decision = store.decision(str(given["request_id"]))
            assert decision is not None
            found.add(check(given, names, users[str(decision.user)]))
    assert found == {"a", "b"}


def test_workers_share_a_port_a_store_and_the_bundles(root: Path, names: dict[str, Served], tmp_path: Path) -> None:
    with serving(root / "a" / "bundle", tmp_path, *CALM, "--workers", "2") as server:
        assert {check(one, names) for one in fresh(server, 8)} == {"a"}
        assert server.client.post("/v1/bundles/stable", json={"folder": "b/bundle"}).status_code == 200
        until = time.monotonic() + 20
        while {check(one, names) for one in fresh(server, 8)} != {"b"}:
            assert time.monotonic() < until
        text = server.client.get("/metrics").text
        counted = sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("umbel_rungs_total") and "stable" in line)
        assert counted >= 16
        assert server.stop() == 0
    with Store(tmp_path / "umbel.db") as store:
        assert store.notes(1)[0][2] == "serve as stable"


def fresh(server: Server, count: int) -> list[dict[str, object]]:
    """Answers by connections of their own, so that any worker may get them."""
    return [server.client.post("/v1/rank", json=BODY, headers={"connection": "close"}).json() for _ in range(count)]


def test_the_loads_own_check_can_fail(tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db"):
        pass
    with pytest.raises(AssertionError):
        kept(tmp_path / "umbel.db", Load("", {}, events=["never"]))
    with pytest.raises(AssertionError):
        kept(tmp_path / "umbel.db", Load("", {}, answers=[{"logged": True, "request_id": "never", "items": []}]))
