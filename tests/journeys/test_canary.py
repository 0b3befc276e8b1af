"""A canary over HTTP: a bad one is dropped while all go on being answered, a good one stays, what cannot be guarded is refused."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from tests.journeys.conftest import Job
from tests.server import Here, here, problem, until
from umbel.bundle import Bundle
from umbel.feedback import Feedback, Rule
from umbel.serve.store.store import Store

RULES = Feedback(rules=(Rule(task="click", window=50, positive_when="kind = 'click'"),), lateness=0)
USERS = 160


@pytest.fixture(scope="module")
def root(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles whose answers are told apart by their names, with a rule for clicks."""
    root = tmp_path_factory.mktemp("guarded")
    golden = pl.read_parquet(job.run / "bundle" / "golden.parquet")
    one = replace(Bundle.load(job.run / "bundle"), feedback=RULES)
    one.save(root / "a" / "bundle", golden=golden)
    with torch.no_grad():
        one.model.table.add_(0.1)
    one.save(root / "b" / "bundle", golden=golden)
    shutil.copytree(root / "a" / "bundle", root / "twin" / "bundle")
    return root


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker follows itself at once."""
    monkeypatch.setattr("umbel.serve.monitor.guard.SETTLES", 0)


def lived(server: Here, clicks: Callable[[str, int], bool]) -> None:
    """Every user asks once; whether they click at once hangs on the bundle that answered; then the clock goes on."""
    for number in range(USERS):
        sent = {"user_id": f"u{number}", "items": ["1"], "context": {"device": "phone", "region": 2}}
        answer = server.client.post("/v1/rank", json=sent).json()
        kind = "click" if clicks(answer["bundle"], number) else "seen"
        told = {"event_id": f"e{number}", "type": kind, "item_id": "1", "user_id": f"u{number}", "request_id": answer["request_id"],
                "occurred_at": int(answer["request_id"][:12], 16) + 1}  # fmt: skip
        assert server.client.post("/v1/events", json=[told]).status_code == 200
    time.sleep(0.1)
    tick = {"event_id": "tick", "type": "tick", "item_id": "1", "user_id": "x", "occurred_at": int(time.time() * 1000)}
    assert server.client.post("/v1/events", json=[tick]).status_code == 200


def canary(server: Here, folder: str, **more: object) -> str:
    told = server.client.post("/v1/bundles/canary", json={"folder": folder, "share": 0.5, "session": "0s", **more})
    assert told.status_code == 200, told.text
    return str(told.json()["labels"]["canary"]["bundle"])


def evidence(text: str, what: str) -> float:
    return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(f'umbel_canary_evidence{{what="guard {what}"}}')))


def test_a_bad_canary_is_dropped(root: Path, tmp_path: Path) -> None:
    with here(root / "a" / "bundle", tmp_path, "watch=0.1") as server:
        bad = canary(server, "b/bundle")
        lived(server, lambda bundle, number: bundle != bad and number % 10 > 0)
        until(server, lambda text: "umbel_canary_dropped_total 1.0" in text)
        labels = server.client.get("/v1/bundles").json()["labels"]
        assert set(labels) == {"stable"}
        answers = [server.client.post("/v1/rank", json={"user_id": f"u{at}", "items": ["1"]}).json()["bundle"] for at in range(20)]
        assert set(answers) == {labels["stable"]["bundle"]}
        text = until(server, lambda text: 'umbel_alarm{what="guard click"} 0.0' in text)
        assert evidence(text, "click") == 0
    with Store(tmp_path / "umbel.db") as store:
        _, actor, action, detail = store.notes()[0]
    assert (actor, action, detail["folder"]) == ("umbel guard", "drop canary", str(root / "b" / "bundle"))
    why = detail["why"]
    assert isinstance(why, list)
    assert [str(one).split(":")[0] for one in why] == ["guard click"]
    assert "guard click: canary 0.0000 of" in str(why[0])


def test_a_canary_that_is_as_good_stays(root: Path, tmp_path: Path) -> None:
    with here(root / "a" / "bundle", tmp_path, "watch=0.1") as server:
        canary(server, "twin/bundle")
        lived(server, lambda bundle, number: number % 3 == 0)
        text = until(server, lambda text: 'umbel_canary_evidence{what="guard click"}' in text and "evidence" in text)
        for what in ("click", "degraded", "sample ratio"):
            assert 0 <= evidence(text, what) < 1
        assert set(server.client.get("/v1/bundles").json()["labels"]) == {"stable", "canary"}
        assert "umbel_canary_dropped_total 0.0" in text


def test_a_bad_canary_stays_where_nothing_is_guarded(root: Path, tmp_path: Path) -> None:
    with here(root / "a" / "bundle", tmp_path, "watch=0.1") as server:
        bad = canary(server, "b/bundle", guard={})
        lived(server, lambda bundle, number: bundle != bad)
        text = until(server, lambda text: 'umbel_canary_evidence{what="guard sample ratio"}' in text)
        assert 'what="guard click"' not in text
        assert set(server.client.get("/v1/bundles").json()["labels"]) == {"stable", "canary"}


def test_what_cannot_be_guarded_is_refused(root: Path, tmp_path: Path) -> None:
    with here(root / "a" / "bundle", tmp_path, "watch=0") as server:
        post = {"folder": "b/bundle", "share": 0.5}
        refused = server.client.post("/v1/bundles/canary", json={**post, "guard": {"clik": 0.9}})
        assert "guard: no task 'clik'" in problem(refused, 409)
        assert "did you mean 'click'" in problem(refused, 409)
        assert "session: 'soon' is no time" in problem(server.client.post("/v1/bundles/canary", json={**post, "session": "soon"}), 422)
        assert "guard" in problem(server.client.post("/v1/bundles/canary", json={**post, "guard": {"click": 1.5}}), 422)
        assert set(server.client.get("/v1/bundles").json()["labels"]) == {"stable"}
        assert server.client.post("/v1/bundles/canary", json={**post, "guard": {"click": 0.9}}).status_code == 200
    with Store(tmp_path / "umbel.db") as store:
        actions = [(action, detail.get("guard")) for _, _, action, detail in store.notes()]
    assert actions[:2] == [("serve as canary", ["click=0.9"]), ("refused: serve as canary", ["clik=0.9"])]
