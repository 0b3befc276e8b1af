"""Whether rows come from where a bundle's training rows came: its fields, its predictions and its gates, counted batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float

from umbel.bundle import Bundle
from umbel.data.batch import Batch
from umbel.errors import UserError
from umbel.evaluate.drift import FEWEST, Shares, moved
from umbel.learn.predict import votes
from umbel.run.profile import Values, spread

PREDICTION, GATE = "prediction ", "gate "  # before the names of those among what is watched


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing watched: whether it is an alarm, and the sentence with its numbers.

    `value` is the number it is judged by (of what may drift its stability index), `unknown` a field's share of unknown or missing values.
    """

    what: str
    alarm: bool
    says: str
    value: float | None = None
    unknown: float | None = None


@final
class Drifting:
    """Counts rows in the bins of a bundle's training rows, and holds the two against each other.

    :raises UserError: for a bundle that has no profile of its training rows; `where` names it.
    """

    def __init__(self, bundle: Bundle, *, where: str) -> None:
        if bundle.profile is None:
            raise UserError(f"{where}: keeps no spread of its training rows", mend="train it again: older bundles have none")
        self._bundle, profile = bundle, bundle.profile
        predictions = {f"{PREDICTION}{name}": one for name, one in profile.predictions.items()}
        self._before = {**profile.fields, **predictions}
        self._gates = {f"{GATE}{name}": one for name, one in profile.gates.items()}
        self._counts: dict[str, np.ndarray] = {}

    def count(self, batch: Batch, predictions: Float[np.ndarray, "rows columns"]) -> None:
        """Count the rows of a batch with their predictions."""
        for name, values in spread(self._bundle.schema, batch).items():
            self._count(name, values)
        for at, name in enumerate(self._bundle.columns):
            self._count(f"{PREDICTION}{name}", predictions[:, at].astype(np.float64))
        if self._gates:
            for name, heard in votes(self._bundle.model, [batch]).items():
                self._add(f"{GATE}{name}", heard)

    def findings(self) -> Iterator[Finding]:
        """Every field, prediction and gate, in the bins of training."""
        fields = {field.name for field in self._bundle.schema.fields}
        for name, before in self._before.items():
            found = _drift(name, before, now := Shares(tuple(self._counts[name].tolist()), before.edges, before.codes))
            yield replace(found, unknown=now.missing) if name in fields else found
        for name, before in self._gates.items():
            yield _drift(name, before, Shares.of_votes(self._counts[name]))

    def _count(self, name: str, values: Values) -> None:
        self._add(name, np.array(self._before[name].again(values).counts))

    def _add(self, name: str, counts: np.ndarray) -> None:
        self._counts[name] = self._counts.get(name, 0) + counts


def _drift(name: str, before: Shares, now: Shares) -> Finding:
    """One of them, and its share of unknown or missing values; no figures of rows that are too few to judge by."""
    found = moved(before, now)
    if not found.enough:
        rows = f"{found.rows} row{'' if found.rows == 1 else 's'}"
        return Finding(name, False, f"{name}: {rows}, too few to judge ({FEWEST} needed)", found.psi)
    says = f"{name}: PSI {found.psi:.3f} (bound {found.psi_bound:.3f}), shift {found.shift:.3f} (bound {found.shift_bound:.3f})"
    rose = f"; unknown or missing {now.missing:.1%}, before {before.missing:.1%}" if abs(now.missing - before.missing) > 0.01 else ""
    return Finding(name, found.drifted, says + rose, found.psi)
