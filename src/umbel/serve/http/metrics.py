"""What Prometheus is told, of one process or of all workers together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from umbel.serve.monitor.gauges import Gauges
from umbel.serve.records import Rung

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
SHARED = "PROMETHEUS_MULTIPROC_DIR"  # a folder, where several workers put their figures


@final
class Metrics:
    """The figures of a worker. Names of users, items and keys are in none of them."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        self.requests = Counter("umbel_requests", "requests answered", ["route", "status"], registry=own)
        self.seconds = Histogram("umbel_request_seconds", "from arrival to answer", ["route"], buckets=SECONDS, registry=own)
        self.at_once = Gauge("umbel_requests_in_flight", "requests being answered", registry=own, multiprocess_mode="livesum")
        self.rungs = Counter("umbel_rungs", "ranked answers by the rung of the ladder", ["rung", "label"], registry=own)
        self.states = Counter("umbel_user_states", "requests of users by how their own state was had", ["how"], registry=own)
        self.candidates = Counter("umbel_candidates", "candidates of ranked answers", registry=own)
        self.events = Counter("umbel_events", "events by what became of them", ["result"], registry=own)
        self.failures = Counter("umbel_failures", "failures that an answer was given in spite of", ["part"], registry=own)
        self.bundles = Gauge("umbel_bundle", "1 for a bundle that answers", ["label", "bundle"], registry=own, multiprocess_mode="livemax")
        self.watched = Gauges(own)
        for rung in Rung:
            self.rungs.labels(rung.value, "stable")

    def text(self) -> bytes:
        """The exposition format; of all workers where they share a folder."""
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        _bury(Path(os.environ[SHARED]))
        every = CollectorRegistry()
        MultiProcessCollector(every)  # type: ignore[no-untyped-call]
        return generate_latest(every)


def _bury(folder: Path) -> None:
    """Remove what workers that are gone put there of the present, so that it counts no more; what they counted stays."""
    for file in folder.glob("gauge_live*_*.db"):
        try:
            os.kill(int(file.stem.rpartition("_")[2]), 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
        except PermissionError:  # another user's: it lives
            pass
