"""What a study of transfer found, whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from umbel.evaluate.intervals import Interval
from umbel.run.names import FALLS
from umbel.study.transfer.advice import Advice
from umbel.study.transfer.groups import AGAINST, Cell
from umbel.study.transfer.labels import Labels
from umbel.study.transfer.probed import Probed
from umbel.study.transfer.witness import Witnessed
from umbel.study.verdict import Comparison


@dataclass(frozen=True, slots=True)
class Transfer:
    """The comparison, gains by group of users, what was seen in training (by recipe), the labels, and the answer."""

    found: Comparison
    cells: tuple[Cell, ...]
    why: Mapping[str, Witnessed]
    labels: Labels
    advice: Advice
    probes: Probed | None = None

    def to_json(self) -> dict[str, object]:
        """`transfer.json`."""
        return {
            "advice": asdict(self.advice),
            "compare": self.found.to_json(),
            "delta_m": delta_m(self.found),
            "groups": [one.to_json() for one in self.cells],
            "why": {name: asdict(one) for name, one in self.why.items()},
            "probes": asdict(self.probes) if self.probes else None,
            "labels": asdict(self.labels),
        }


def delta_m(found: Comparison) -> dict[str, float | None]:
    """Per recipe `100 / T * sum_t s_t (M_t - M_alone,t) / M_alone,t`, s_t = -1 where lower is better; None where no task is left.

    M is each task's first metric, over seeds (Maninis et al., https://arxiv.org/abs/1904.08918). Left out are tasks without a
    figure, and those whose separate models stand at 0 or below (no better than a constant by D2 or Gini): no gain has a size
    relative to that.
    """
    base = next(one for one in found.recipes if one.name == AGAINST)
    gains: dict[str, float | None] = {}
    for one in found.recipes:
        each = []
        for task, metrics in one.tasks.items():
            name, value = next(iter(metrics.items()))
            against = base.tasks[task][name]
            if isinstance(value, Interval) and isinstance(against, Interval) and against.value > 0:
                each.append((-1 if name in FALLS else 1) * (value.value - against.value) / against.value)
        gains[one.name] = 100 * float(np.mean(each)) if each else None
    return gains
