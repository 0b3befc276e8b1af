"""Figures as plain JSON and back: one entry a metric, counts beside them, null with a reason for what cannot be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from umbel.evaluate.figures import Figures, Point
from umbel.evaluate.intervals import Interval
from umbel.evaluate.judge import TaskReport
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.slices import Worst

_COUNTS = ("rows", "users", "positives")
_BESIDE = ("marginal", "slices", "worst")  # of a task, beside its figures


def measured_to_json(measured: Interval | Undefined) -> dict[str, object]:
    """`{"value", "low", "high"}`, with a `reason` where one of them is null."""
    if isinstance(measured, Undefined):
        return {"value": None, "low": None, "high": None, "reason": measured.reason}
    bounds: dict[str, object] = {"value": measured.value, "low": measured.low, "high": measured.high}
    return bounds | ({"reason": measured.reason} if measured.reason else {})


def measured_from_json(saved: Mapping[str, Any]) -> Interval | Undefined:
    """What `measured_to_json` wrote."""
    if saved.get("value") is None:
        return Undefined(saved.get("reason", "not stated"))
    return Interval(**saved)


def figures_to_json(figures: Figures) -> dict[str, object]:
    """Metrics by name, then `rows`, `users`, `positives` and the reliability `curve`."""
    counts = {name: getattr(figures, name) for name in _COUNTS}
    metrics = {name: measured_to_json(one) for name, one in figures.metrics.items()}
    return {**metrics, **counts, "curve": [asdict(point) for point in figures.curve]}


def figures_from_json(saved: Mapping[str, Any]) -> Figures:
    """What `figures_to_json` wrote."""
    entries = {name: entry for name, entry in saved.items() if isinstance(entry, dict) and name not in _BESIDE}
    metrics = {name: measured_from_json(entry) for name, entry in entries.items()}
    curve = tuple(Point(**point) for point in saved.get("curve", ()))
    return Figures(**{name: saved[name] for name in _COUNTS}, metrics=metrics, curve=curve)


def task_to_json(task: TaskReport) -> dict[str, object]:
    """The task's figures, then its kind, sample space, marginal, slices and worst slice."""
    return {
        **figures_to_json(task.figures),
        "kind": task.kind,
        "given": task.given,
        "marginal": None if task.marginal is None else figures_to_json(task.marginal),
        "slices": {name: {label: figures_to_json(one) for label, one in labels.items()} for name, labels in task.slices.items()},
        "worst": _worst_to_json(task.worst),
    }


def task_from_json(name: str, saved: Mapping[str, Any]) -> TaskReport:
    """What `task_to_json` wrote."""
    kind, given, marginal, slices, worst = (saved[key] for key in ("kind", "given", "marginal", "slices", "worst"))
    return TaskReport(
        name=name,
        kind=kind,
        given=given,
        figures=figures_from_json(saved),
        marginal=None if marginal is None else figures_from_json(marginal),
        slices={key: {label: figures_from_json(one) for label, one in labels.items()} for key, labels in slices.items()},
        worst=_worst_from_json(worst),
    )


def _worst_to_json(worst: Worst | Undefined) -> dict[str, object]:
    if isinstance(worst, Undefined):
        return {"slice": None, "reason": worst.reason}
    return {"slice": worst.slice, "label": worst.label, "metric": worst.metric, **measured_to_json(worst.value)}


def _worst_from_json(saved: Mapping[str, Any]) -> Worst | Undefined:
    if saved.get("slice") is None:
        return Undefined(saved.get("reason", "not stated"))
    where = {key: saved[key] for key in ("slice", "label", "metric")}
    value = measured_from_json({key: entry for key, entry in saved.items() if key not in where})
    assert isinstance(value, Interval)
    return Worst(**where, value=value)
