"""What cold-start methods said of test users, kept by each run of a comparison, and judged beside each other."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from umbel import durable
from umbel.coldstart.answers import Answers, Asked
from umbel.coldstart.figures import metrics_of, per_user
from umbel.evaluate.intervals import Sampled, resample
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.robust import named
from umbel.evaluate.unit import constant_error
from umbel.run.compared import at_size
from umbel.schema import Schema

PARTS = ("users", "logits", "labels", "seen")
SCENARIO, CURVE, NEW, GROUP, REASON = "scenario/", "curve/", "new", "group/", "reason"
Drawn = dict[str, dict[str, Sampled | Undefined]]  # by task, or by task and scenario; then by metric
Arrays = dict[str, Shaped[np.ndarray, "..."]]


def save_asked(path: Path, asked: Asked) -> None:
    """Leave all of it in one file."""
    sets = {f"{SCENARIO}{name}": one for name, one in asked.scenarios.items()}
    sets |= {f"{CURVE}{shots}": one for shots, one in asked.curve.items()} | {NEW: asked.new}
    arrays = {key: array for name, one in sets.items() for key, array in _arrays(name, one).items()}
    groups = {f"{GROUP}{name}": np.array(named(labels), dtype=np.str_) for name, labels in asked.groups.items()}
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays, **groups)
    durable.write(path, content.getvalue())


def load_asked(path: Path, schema: Schema) -> Asked:
    """What `save_asked` left."""
    with np.load(path) as file:
        saved = dict(file)
    groups = {key.removeprefix(GROUP): labels.tolist() for key, labels in saved.items() if key.startswith(GROUP)}
    names = dict.fromkeys(key.rpartition("/")[0] for key in saved if not key.startswith(GROUP))
    sets = {name: _answers(saved, name, schema) for name in names}
    scenarios, curve = ({name.removeprefix(kind): one for name, one in sets.items() if name.startswith(kind)} for kind in (SCENARIO, CURVE))
    return Asked(scenarios, {int(shots): one for shots, one in curve.items()}, sets[NEW], groups)


def by_scenario(asked: Asked, *, relevant: float, resamples: int) -> Drawn:
    """Every metric of every task in every scenario, with its draws: the same users are drawn for all methods and seeds."""
    found: Drawn = {}
    for scenario, told in asked.scenarios.items():
        if isinstance(told, Answers):
            drawn = sampled(told, relevant=relevant, resamples=resamples)
            found |= {in_scenario(task, scenario): metrics for task, metrics in drawn.items()}
    return found


def in_scenario(task: str, scenario: str) -> str:
    """What a task is called in a scenario."""
    return f"{task}, {scenario.replace('_', ' ')}"


def units(asked: Asked) -> dict[str, float]:
    """What margins are of (`constant_error` of a task's first metric), by what a task is called in a scenario and at a size."""
    found = {in_scenario(task, name): unit for name, one in asked.scenarios.items() for task, unit in _units(one).items()}
    return found | {at_size(task, shots): unit for shots, one in asked.curve.items() for task, unit in _units(one).items()}


def sampled(told: Answers, *, relevant: float, resamples: int) -> Drawn:
    """Every metric of every task that has one."""
    by = resample(told.users, resamples=resamples)
    tasks = per_user(told, relevant=relevant).items()
    return {task: {name: one.sampled(by) for name, one in metrics.items()} for task, metrics in tasks if metrics}


def _units(told: Answers | Undefined) -> dict[str, float]:
    """By task, users counting alike; none of what was not said."""
    found: dict[str, float] = {}
    if isinstance(told, Answers):
        for task in told.schema.judged:
            labels, _, seen = told.of(task.name)
            weight = np.broadcast_to(1 / np.maximum(seen.sum(1, keepdims=True), 1), seen.shape)
            found[task.name] = constant_error(next(iter(metrics_of(task)), ""), labels[seen], weight[seen])
    return found


def _arrays(name: str, one: Answers | Undefined) -> Arrays:
    if isinstance(one, Undefined):
        return {f"{name}/{REASON}": np.array(one.reason)}
    return {f"{name}/{part}": getattr(one, part) for part in PARTS}


def _answers(saved: Mapping[str, Shaped[np.ndarray, "..."]], name: str, schema: Schema) -> Answers | Undefined:
    if f"{name}/{REASON}" in saved:
        return Undefined(str(saved[f"{name}/{REASON}"]))
    return Answers(schema, *(saved[f"{name}/{part}"] for part in PARTS))
