"""Clients that ask a server and tell it events, as fast as it answers, and remember what was acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from umbel.serve.store.store import Store

WAITS = 120.0  # seconds in which so much has to be acknowledged


@dataclass
class Load:
    """Clients that rank and tell events until they are stopped, and what they were answered; `batch` events are told at a time."""

    url: str
    body: Mapping[str, object]
    batch: int = 1
    answers: list[dict[str, object]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, number: int) -> None:
        with httpx.Client(base_url=self.url, timeout=20.0) as client:
            count = 0
            while not self.stopped.is_set():
                names = [f"{number}-{count + place}" for place in range(self.batch)]
                count += self.batch
                try:
                    answer = client.post("/v1/rank", json={**self.body, "user_id": f"{number}"})
                    self.answers.append({"status": answer.status_code, **answer.json()})
                    told = client.post("/v1/events", json=[event(name) for name in names])
                except httpx.TransportError as error:
                    self.failed.append(type(error).__name__)
                    return
                if told.status_code == 200:
                    self.events.extend(names)

    def start(self, clients: int = 3) -> list[threading.Thread]:
        threads = [threading.Thread(target=self.run, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        return threads

    def until(self, count: int) -> None:
        """Wait until so many decisions and events were acknowledged."""
        end = time.monotonic() + WAITS
        while len(self.answers) + len(self.events) < count:
            assert time.monotonic() < end
            time.sleep(0.02)


def event(name: str) -> dict[str, object]:
    """One as a client tells it."""
    return {"event_id": name, "type": "click", "item_id": "1", "occurred_at": 1_700_000_000_005, "user_id": "1"}


def kept(place: str | Path, load: Load) -> None:
    """Every answer that was called logged, and every event that was accepted, is in the store."""
    with Store(place) as store:
        for answer in load.answers:
            if answer.get("logged"):
                decision = store.decision(str(answer["request_id"]))
                assert decision is not None
                items = answer["items"]
                assert isinstance(items, list)
                assert [one.item for one in decision.shown] == [one["item_id"] for one in items]
        there = {event.id for event in store.history("1", most=100_000)}
    assert set(load.events) <= there
