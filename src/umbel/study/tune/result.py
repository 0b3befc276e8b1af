"""What a search found: its trials, the chosen one, what mattered, and how the chosen one stands on the test part."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from umbel.errors import UserError
from umbel.study.tune.outcome import Outcome
from umbel.study.tune.search import Tried

STATES = ("complete", "pruned", "failed")


@dataclass(frozen=True, slots=True)
class Tuned:
    """A finished search, as `tune.json` has it.

    `rises` says of each objective whether more is better, `epochs` how many a trial had at most; `front` are the numbers of the
    trials that none beats, the chosen one first; `reads` is how often the test part was opened; `test` has the shape of
    `compare.json`.
    """

    objectives: tuple[str, ...]
    rises: tuple[bool, ...]
    space: Mapping[str, object]
    epochs: int
    trials: tuple[Tried, ...]
    front: tuple[int, ...]
    importances: Mapping[str, float]
    reads: int
    test: Mapping[str, Any] = field(repr=False)

    @property
    def chosen(self) -> Tried:
        """The best by the first objective, of those that none beats."""
        return self.trials[self.front[0]]

    @property
    def counts(self) -> dict[str, int]:
        """How many trials ended how."""
        found = Counter(one.state for one in self.trials)
        return {state: found[state] for state in STATES}

    def bests(self) -> list[float | None]:
        """The best of the first objective after each trial; None before any has finished."""
        found: list[float | None] = []
        best = max if self.rises[0] else min
        for one in self.trials:
            known = [value for value in (found[-1] if found else None, *one.values[:1]) if value is not None]
            found.append(best(known) if known else None)
        return found

    def to_json(self) -> dict[str, object]:
        """`tune.json`."""
        return {**asdict(self), "chosen": self.chosen.number, "counts": self.counts}

    @staticmethod
    def load(path: Path) -> Tuned | None:
        """The search in a `tune.json`, if there is one; :raises UserError: if it is of another shape."""
        if not path.exists():
            return None
        try:
            saved = json.loads(path.read_text())
            known = {key: value for key, value in saved.items() if key not in ("chosen", "counts")}
            trials = tuple(_tried(one) for one in known.pop("trials"))
            return Tuned(**{**known, "trials": trials, **{key: tuple(known[key]) for key in ("objectives", "rises", "front")}})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: not one of ours ({error!r})", mend="remove it, and the same command makes it again") from error


def _tried(saved: Mapping[str, Any]) -> Tried:
    outcome = saved["outcome"]
    lists: dict[str, Sequence[float]] = {key: tuple(saved[key]) for key in ("values", "scores")}
    return Tried(**{**saved, **lists, "outcome": None if outcome is None else Outcome.of(outcome)})
