"""What was found by watching, as figures for Prometheus: of several workers those of the last one that looked."""

from __future__ import annotations

from collections.abc import Iterable
from math import nan
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge

from umbel.evaluate.intervals import Interval
from umbel.run.drifting import Finding
from umbel.serve.monitor.recent import Quality
from umbel.serve.monitor.rescored import Again

ALARMS = "1 where somebody should look"
EVIDENCE = "how much speaks against the canary, as a part of what drops it (of logarithms)"


@final
class Gauges:
    """The figures; what is no longer watched is 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.alarm = Gauge("umbel_alarm", ALARMS, ["what"], registry=registry, multiprocess_mode="mostrecent")
        self.evidence = Gauge("umbel_canary_evidence", EVIDENCE, ["what"], registry=registry, multiprocess_mode="mostrecent")
        self.dropped = Counter("umbel_canary_dropped", "canaries that the guard dropped", registry=registry)
        self.rescored = Counter("umbel_rescored", "logged requests scored again by how they agree", ["result"], registry=registry)
        self.psi = Gauge("umbel_drift_psi", "stability index since training", ["what"], registry=registry, multiprocess_mode="mostrecent")
        self.unknown = Gauge("umbel_unknown", "share of a field's values that training did not know, or that nobody told", ["what"],
                             registry=registry, multiprocess_mode="mostrecent")
        names = ["task", "label", "metric", "bound"]
        self.quality = Gauge("umbel_quality", "by settled labels", names, registry=registry, multiprocess_mode="mostrecent")
        self.rows = Gauge("umbel_quality_rows", "settled labels looked at", names[:2], registry=registry, multiprocess_mode="mostrecent")
        self._told: set[str] = set()
        self._known: set[str] = set()

    def again(self, found: Iterable[Again]) -> None:
        """Requests that were scored again."""
        for one in found:
            self.rescored.labels(one.value).inc()

    def lately(self, drifted: Iterable[Finding], figures: Iterable[Quality], found: Iterable[Finding]) -> None:
        """What a bundle met lately: each field's, prediction's and gate's index, unknown values, each task's metrics, and all alarms."""
        for one in drifted:
            if one.value is not None:
                self.psi.labels(one.what).set(one.value)
            if one.unknown is not None:
                self.unknown.labels(one.what).set(one.unknown)
        for each in figures:
            self.rows.labels(each.task, each.label).set(each.figures.rows)
            for name, value in each.figures.metrics.items():
                known = (value.value, value.low, value.high) if isinstance(value, Interval) else (None, None, None)
                for bound, number in zip(("value", "low", "high"), known, strict=True):
                    self.quality.labels(each.task, each.label, name, bound).set(nan if number is None else number)
        alarms = {one.what: one.alarm for one in found}
        for what in self._known | set(alarms):
            self.alarm.labels(what).set(alarms.get(what, False))
        self._known |= set(alarms)

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
