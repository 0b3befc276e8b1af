"""A service that watches itself: what it finds is in /metrics and /v1/monitor, tampering is noticed, and one worker of a store looks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from tests.browser import chromium, looking
from tests.journeys.conftest import Job
from tests.server import Here, here, until
from umbel.bundle import Bundle
from umbel.feedback import Feedback, Rule
from umbel.serve.http.told import tell
from umbel.serve.monitor.rescored import Rescored
from umbel.serve.monitor.watch import FACT, Watch
from umbel.serve.service import Service
from umbel.serve.store.facts import get, lease
from umbel.serve.store.labels import START
from umbel.serve.store.session import Session, now
from umbel.serve.store.store import Store
from umbel.serve.store.tables import shown

RULES = Feedback(rules=tuple(Rule(task=task, window=50, positive_when=f"kind = '{task}'") for task in ("click", "like", "buy")), lateness=0)
REQUESTS = 24


@pytest.fixture(scope="module")
def bundle(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watched") / "bundle"
    replace(Bundle.load(job.run / "bundle"), feedback=RULES).save(folder, golden=pl.read_parquet(job.run / "bundle" / "golden.parquet"))
    return folder


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request is scored again, as soon as it is there."""
    monkeypatch.setattr("umbel.serve.monitor.watch.SETTLES", 0)
    monkeypatch.setattr("umbel.serve.store.sampled.SAMPLED", "g")


def lived(server: Here) -> None:
    """Requests for five items each, of which the first is clicked; then the clock goes on."""
    told = []
    for number in range(REQUESTS):
        context = {"device": "phone", "region": number % 3}
        sent = {"user_id": str(number % 12), "items": [str(item) for item in range(5)], "context": context}
        answer = server.client.post("/v1/rank", json=sent).json()
        told.append({"event_id": f"e{number}", "type": "click", "item_id": answer["items"][0]["item_id"], "user_id": str(number % 12),
                     "request_id": answer["request_id"], "occurred_at": int(answer["request_id"][:12], 16) + 1})  # fmt: skip
    time.sleep(0.1)
    told.append({"event_id": "tick", "type": "tick", "item_id": "1", "user_id": "x", "occurred_at": int(time.time() * 1000)})
    assert server.client.post("/v1/events", json=told).status_code == 200


@pytest.mark.parametrize("width", [390, 1280])
def test_a_state_is_one_word_on_one_line(bundle: Path, tmp_path: Path, width: int) -> None:
    """Of one row, too: all is quiet then, and what is found is long beside it."""
    with here(bundle, tmp_path, "watch=0.1") as server:
        asked = {"user_id": "1", "items": ["1"], "context": {"device": "phone", "region": 1}}
        assert server.client.post("/v1/rank", json=asked).status_code == 200
        looked(server, lambda found: "device" in found)
        with chromium() as browser, looking(browser, server.url, width=width) as seen:
            seen.page.get_by_text("quiet", exact=True).first.wait_for()
            boxes = seen.page.evaluate("[...document.querySelectorAll('td .good')].map(one => one.getClientRects().length)")
            said = seen.page.locator("tbody").last.inner_text()
    assert set(boxes) == {1}
    assert "1 row, too few to judge (200 needed)" in said
    assert "PSI" not in said


def test_what_is_found_is_told(bundle: Path, tmp_path: Path) -> None:
    with here(bundle, tmp_path, "watch=0.1") as server:
        looked(server, lambda found: not found)
        lived(server)
        text = until(server, lambda text: f'umbel_rescored_total{{result="agrees"}} {float(REQUESTS)}' in text)
        assert 'umbel_rescored_total{result="differs"}' not in text
        text = until(server, lambda text: f'umbel_quality_rows{{label="stable",task="click"}} {5.0 * REQUESTS}' in text)
        for metric in ("auc", "ne", "calibration_ratio"):
            assert f'umbel_quality{{bound="value",label="stable",metric="{metric}",task="click"}}' in text
        assert 'umbel_unknown{what="device"} 0.0' in text
        assert 'umbel_unknown{what="prediction click"}' not in text
        for what in ("device", "item", "prediction click", "prediction buy_marginal", "gate click"):
            assert f'umbel_drift_psi{{what="{what}"}}' in text
            assert f'umbel_alarm{{what="{what}"}} 0.0' in text, "too few rows to judge are no alarm"
        assert 'umbel_alarm{what="skew"} 0.0' in text
        told = looked(server, lambda found: "of 24 requests" in found["skew"]["says"])
        assert set(told) == {"time", "findings", "quality"}
        found = {one["what"]: one for one in told["findings"]}
        assert "too few to judge (200 needed)" in found["device"]["says"]
        assert "PSI" not in found["device"]["says"]
        assert found["skew"]["says"].startswith("skew: 0 of 24 requests are scored otherwise")
        quality = {(one["task"], one["label"]): one for one in told["quality"]}
        assert quality["click", "stable"]["positives"] == REQUESTS
        assert set(quality["click", "stable"]["auc"]) >= {"value", "low", "high"}
        assert quality["like", "stable"]["auc"]["reason"] == "no positive row"


def looked(server: Here, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What was found last, once a look has come to it."""
    for _ in range(400):
        told: dict[str, Any] = server.client.get("/v1/monitor").json()
        if told["time"] is not None and holds({one["what"]: one for one in told["findings"]}):
            return told
        time.sleep(0.05)
    raise AssertionError(told)


def test_what_was_logged_otherwise_is_noticed(bundle: Path, tmp_path: Path) -> None:
    """Predictions in the store are changed before the service looks at them."""
    with here(bundle, tmp_path, "watch=0") as server:
        lived(server)
    with Store(tmp_path / "umbel.db") as store, store.session.writing() as connection:
        connection.execute(sa.update(shown).where(shown.c.position == 0).values(predictions=bytes(32)))
    assert watched(bundle, tmp_path)["skew"] == f"skew: {REQUESTS} of {REQUESTS} requests are scored otherwise from what was logged"


def watched(bundle: Path, folder: Path) -> Mapping[str, str]:
    """Look once from the beginning of the store, without a server; each finding's sentence up to its last number."""
    opening = tell(str(bundle), [f"store={folder / 'umbel.db'}"]).opening()
    with Store(opening.store) as store:
        watch = Watch(Service(store, opening.serving), every=1.0)
        watch._rescored = Rescored(START)
        found = asyncio.run(watch.look())
    return {one.what: one.says.rpartition(",")[0] for one in found}


def test_one_worker_looks(bundle: Path, tmp_path: Path) -> None:
    opening = tell(str(bundle), [f"store={tmp_path / 'umbel.db'}"]).opening()
    with Store(opening.store) as store:
        service = Service(store, opening.serving)
        one, other = (Watch(service, every=1.0) for _ in range(2))
        asyncio.run(one.look())
        first = get(store.session, "monitor")
        assert first is not None
        asyncio.run(other.look())
        assert get(store.session, "monitor") == first, "the other has no lease"
        one.end()
        asyncio.run(other.look())
        second = get(store.session, "monitor")
        assert second is not None
        assert second["time"] >= first["time"]
        assert second["cursor"] == first["cursor"], "it goes on where the first ended"
        asyncio.run(one.look())
        assert get(store.session, "monitor") == second


def test_a_worker_that_ends_lets_go_and_one_that_is_killed_is_waited_for(bundle: Path, tmp_path: Path) -> None:
    with here(bundle, tmp_path, "watch=0.1") as server:
        looked(server, lambda found: not found)
    session = Session(str(tmp_path / "umbel.db"))
    held = get(session, FACT)
    assert held is not None
    assert held["until"] == 0
    assert lease(session, FACT, holder="killed", until=now() + 300)
    assert not lease(session, FACT, holder="next", until=now() + 1)
    time.sleep(0.4)
    assert lease(session, FACT, holder="next", until=now() + 1)
    session.close()
