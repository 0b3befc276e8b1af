"""Small untrained bundles whose policies differ, and a service of one of them: what tests of what is in service put in and out of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

import httpx

from tests.logs import SPLIT, source
from tests.server import here
from tests.values.test_bundle import EVERY, RICH, made
from umbel.data.ingest import ingest
from umbel.feedback import Feedback, Rule
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import Linear
from umbel.serve.served import Served, load

RULES = Feedback(rules=(Rule(task="click", window=50, positive_when="kind = 'click'"),), lateness=0)
POLICIES = {
    "a": Fusion((Term("click", Linear(1.0)),), "clicks"),
    "b": Fusion((Term("click", Linear(1.0)), Term("spent", Linear(2.0), -1)), "both"),
    "c": Fusion((Term("spent", Linear(1.0)),), "money"),
}
PATIENCE = 60.0


def bundles(root: Path) -> Path:
    """A folder `NAME/bundle` for each policy, and `bare/bundle` without one; where they lie."""
    table = ingest(source(root, RICH), EVERY, SPLIT, folder=root / "table")
    for name, policy in {**POLICIES, "bare": None}.items():
        replace(made(table), fusion=policy, feedback=RULES).save(root / name / "bundle", golden=table.golden())
    return root


def named(policy: Fusion) -> str:
    """What answers call it."""
    return f"{policy.name}@{policy.version}"


@dataclass(frozen=True)
class Small:
    """A service, spoken to."""

    client: httpx.Client
    root: Path
    store: Path

    def post(self, path: str, body: object) -> httpx.Response:
        """Of JSON."""
        return self.client.post(path, json=body)

    def serve(self, label: str, name: str, **more: object) -> httpx.Response:
        """Put a bundle into service under a label."""
        return self.post(f"/v1/bundles/{label}", {"folder": f"{name}/bundle", **more})

    @property
    def labels(self) -> dict[str, dict[str, Any]]:
        """What answers under each label."""
        found: dict[str, dict[str, Any]] = self.client.get("/v1/bundles").json()["labels"]
        return found

    @property
    def policies(self) -> dict[str, str]:
        """The fusion of each label, without its version."""
        return {label: str(one["fusion"]).partition("@")[0] for label, one in self.labels.items()}

    def audit(self, most: int = 10) -> list[tuple[str, dict[str, Any]]]:
        """What was done, the latest first, and with what."""
        return [(one["action"], one["detail"]) for one in self.client.get(f"/v1/audit?limit={most}").json()["notes"]]


@contextmanager
def small(root: Path, folder: Path, *words: str, name: str = "a") -> Iterator[Small]:
    """A service of one of the bundles, its store in a folder."""
    with here(root / name / "bundle", folder, f"root={root}", *words) as server:
        yield Small(server.client, root, folder / "umbel.db")


def policy_file(folder: Path, name: str) -> Path:
    """A policy as the file that `--set fusion=` names."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(POLICIES[name].to_json()))
    return path


@dataclass(frozen=True)
class Slow:
    """The loading of one folder: that it has begun, and when it may end."""

    folder: Path
    begun: Event = field(default_factory=Event)
    ends: Event = field(default_factory=Event)

    def load(self, folder: Path) -> Served:
        """In place of what loads every bundle."""
        if folder == self.folder:
            self.begun.set()
            assert self.ends.wait(PATIENCE)
        return load(folder)
