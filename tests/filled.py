"""A service that has answered and heard for a while, under keys, for tests of what is seen of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import torch

from tests.journeys.conftest import SIMULATED, laid_out, say
from tests.server import here
from umbel.bundle import Bundle
from umbel.serve.http.keys import add_key

DECISIONS, CANDIDATES, SHOWN = 120, 12, 6
LABELS = ("click", "like")


@dataclass(frozen=True)
class Filled:
    """Where it answers, its keys by scope, the folder of its bundles (`a` answers, `b` may), and what it decided, in order."""

    url: str
    client: httpx.Client
    keys: Mapping[str, str]
    root: Path
    requests: tuple[str, ...]
    store: Path


def bundles(root: Path) -> Path:
    """Two bundles of one run whose tasks have rules of feedback, and whose weights differ: `a/bundle` and `b/bundle`; where they lie."""
    file = laid_out(root, SIMULATED)
    assert say("train", file, "-o", root / "a").code == 0
    other = Bundle.load(root / "a" / "bundle")
    torch.manual_seed(0)
    with torch.no_grad():
        other.model.table.add_(0.3 * torch.randn_like(other.model.table))
    other.save(root / "b" / "bundle", golden=pl.read_parquet(root / "a" / "bundle" / "golden.parquet"))
    return root


def fill(client: httpx.Client, log: Path, *, seed: int = 1) -> tuple[str, ...]:
    """Rankings of some users, and events that happen as often as they were promised; the last event closes all windows."""
    draw, requests, came = np.random.default_rng(seed), [], 0
    rows = pl.read_parquet(log).select("user", "device", "region").tail(DECISIONS)
    for row in rows.iter_rows(named=True):
        items = [str(item) for item in draw.choice(30, CANDIDATES, replace=False)]
        body = {"user_id": str(row["user"]), "items": items, "n": SHOWN, "context": {"device": row["device"], "region": row["region"]}}
        answer = client.post("/v1/rank", json=body).raise_for_status().json()
        requests.append(answer["request_id"])
        did = [(one, kind) for one in answer["items"] for kind in LABELS if draw.random() < one["predictions"][kind]]
        came += len(did)
        events = [_event(f"{seed}-{requests[-1]}-{at}", kind, one["item_id"], requests[-1]) for at, (one, kind) in enumerate(did)]
        if events:
            assert client.post("/v1/events", json=events).status_code == 200
    time.sleep(1.1)
    client.post("/v1/events", json=[_event(f"{seed}-last", "tick", "1", requests[-1])]).raise_for_status()
    return tuple(requests)


@contextmanager
def filled(root: Path, folder: Path) -> Iterator[Filled]:
    """The service, from its first answer on."""
    file = folder / "keys.json"
    keys = {name: add_key(file, name, scopes) for name, scopes in (("read", ["read"]), ("admin", ["read", "write", "admin"]))}
    words = ("temperature=0.5", f"root={root}")
    with here(root / "a" / "bundle", folder, *words, keys=file, key=keys["admin"]) as server:
        yield Filled(server.url, server.client, keys, root, fill(server.client, root / "log.parquet"), folder / "umbel.db")


def _event(name: str, kind: str, item: str, request: str) -> dict[str, object]:
    return {"event_id": name, "type": kind, "item_id": item, "request_id": request, "occurred_at": int(time.time() * 1000)}
