"""What cold-start methods said of test users, kept by each run of a comparison, and judged beside each other."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from umbel import durable
from umbel.coldstart.answers import Answers
from umbel.coldstart.figures import per_user
from umbel.data.table import Table
from umbel.evaluate.intervals import Sampled, resample
from umbel.evaluate.metrics import Undefined
from umbel.schema import Schema

PARTS = ("users", "logits", "labels", "seen")
Drawn = dict[str, dict[str, Sampled | Undefined]]  # by task and scenario, then by metric


def save_answers(path: Path, told: Mapping[str, Answers]) -> None:
    """Leave every scenario's answers in one file."""
    content = io.BytesIO()
    arrays = {f"{scenario}/{part}": getattr(one, part) for scenario, one in told.items() for part in PARTS}
    np.savez_compressed(content, allow_pickle=False, **arrays)
    durable.write(path, content.getvalue())


def load_answers(path: Path, schema: Schema) -> dict[str, Answers]:
    """What `save_answers` left."""
    with np.load(path) as saved:
        scenarios = dict.fromkeys(name.partition("/")[0] for name in saved.files)
        return {name: Answers(schema, *(saved[f"{name}/{part}"] for part in PARTS)) for name in scenarios}


def drawn(table: Table, path: Path, *, relevant: float, resamples: int) -> Drawn:
    """Every metric of every task in every scenario, with its draws: the same users are drawn for all methods and seeds."""
    found: Drawn = {}
    for scenario, told in load_answers(path, table.schema).items():
        by = resample(told.users, resamples=resamples)
        for task, metrics in per_user(told, relevant=relevant).items():
            if metrics:
                found[f"{task}, {scenario.replace('_', ' ')}"] = {name: one.sampled(by) for name, one in metrics.items()}
    return found
