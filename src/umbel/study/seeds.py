"""An entrant of a comparison and its seeds: which of them finished, and what those come to together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from umbel.evaluate.intervals import Interval, Sampled
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import average
from umbel.study.trial import Lost

LOST = Undefined("its training diverged")


@dataclass(frozen=True, slots=True)
class Line:
    """One entrant of a comparison, before it is judged: what was chosen for it, each seed's folder, and its width control's name."""

    name: str
    folders: tuple[Path, ...]
    chosen: Mapping[str, float | int | str] = field(default_factory=dict)
    control: str = ""

    @property
    def finished(self) -> tuple[Path, ...]:
        """The folders of runs that were not lost."""
        return tuple(folder for folder in self.folders if Lost.load(folder) is None)


@dataclass(frozen=True, slots=True)
class Seeds:
    """One metric of an entrant: each seed's value and draws, `LOST` where its run was."""

    each: tuple[Sampled | Undefined, ...]

    @staticmethod
    def of(line: Line, judged: Sequence[Sampled | Undefined]) -> Seeds:
        """In the order of seeds; `judged` are those of the finished ones."""
        left = iter(judged)
        return Seeds(tuple(next(left) if folder in line.finished else LOST for folder in line.folders))

    @property
    def mean(self) -> Interval | Undefined:
        """The mean over seeds with its interval over users; undefined where it is for one that was not lost."""
        unknown = [one for one in self.each if isinstance(one, Undefined) and one != LOST]
        return unknown[0] if unknown else average([one for one in self.each if isinstance(one, Sampled)]).interval()

    @property
    def values(self) -> tuple[float | None, ...]:
        """Each seed's value."""
        return tuple(one.value if isinstance(one, Sampled) else None for one in self.each)


def bounds(value: Interval | Undefined) -> dict[str, object]:
    """A mean as `compare.json` has it, with its bounds, or the reason that there is none."""
    if isinstance(value, Undefined):
        return {"mean": None, "low": None, "high": None, "reason": value.reason}
    return {"mean": value.value, "low": value.low, "high": value.high}
