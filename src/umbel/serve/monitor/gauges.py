"""What was found by watching, as figures for Prometheus: of several workers those of the last one that looked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge

from umbel.run.monitor import Finding

ALARMS = "1 where somebody should look"
EVIDENCE = "how much speaks against the canary, as a part of what drops it (of logarithms)"


@final
class Gauges:
    """The figures; what is no longer watched is 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.alarm = Gauge("umbel_alarm", ALARMS, ["what"], registry=registry, multiprocess_mode="mostrecent")
        self.evidence = Gauge("umbel_canary_evidence", EVIDENCE, ["what"], registry=registry, multiprocess_mode="mostrecent")
        self.dropped = Counter("umbel_canary_dropped", "canaries that the guard dropped", registry=registry)
        self._told: set[str] = set()

    def canary(self, found: Iterable[Finding]) -> None:
        """How the canary does."""
        now = {one.what: one for one in found}
        for what in self._told - set(now):
            self.evidence.labels(what).set(0.0)
            self.alarm.labels(what).set(0)
        for what, one in now.items():
            self.evidence.labels(what).set(one.value or 0.0)
            self.alarm.labels(what).set(one.alarm)
        self._told = set(now)
