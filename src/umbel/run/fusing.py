"""The fusion policy that a run leaves in its bundle: every task has an equal say on validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from umbel.bundle import Bundle
from umbel.fusion import Fusion, equal
from umbel.kinds import BINARY, MultiClass, Ordinal
from umbel.schema import Task


def start(bundle: Bundle, logits: Float[np.ndarray, "rows outputs"], *, unwanted: Sequence[str]) -> Fusion | None:
    """A linear policy over the judged tasks, of equal average contribution on rows of these logits; None where none can be ranked by."""
    found = bundle.calibrated(logits)
    ranked = {column(task): task.name in unwanted for task in bundle.schema.judged}
    ranked.pop(None, None)
    if not ranked:
        return None
    predictions = {name: found[:, bundle.columns.index(name)] for name in ranked if name is not None}
    return equal("linear", predictions, unwanted=[name for name, never in ranked.items() if never and name is not None])


def column(task: Task) -> str | None:
    """The prediction that a task is ranked by: what holds on every row (a marginal), of quantiles the middle one; None for classes."""
    if isinstance(task.kind, MultiClass | Ordinal):
        return None
    if task.kind == BINARY and task.given is not None:
        return f"{task.name}_marginal"
    middle = task.kind.answers[len(task.kind.answers) // 2]
    return f"{task.name}_{middle}" if middle else task.name
