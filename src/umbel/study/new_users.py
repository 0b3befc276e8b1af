"""What a comparison says of new users beside its scenarios: every method's curve over the support, and for whom it is worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from umbel.coldstart.answers import Answers, Asked
from umbel.coldstart.figures import by_groups, metrics_of
from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.robust import Robustness
from umbel.run.compared import at_size
from umbel.run.newcomers import groups_to_json
from umbel.study.asked import sampled
from umbel.study.seeds import Line, Seeds, bounds


@dataclass(frozen=True, slots=True)
class Shown:
    """One size of the support: how many users and query rows there are, and each task's metrics over seeds."""

    users: int
    rows: int
    tasks: Mapping[str, Mapping[str, Seeds]]

    def first(self, task: str) -> Interval | Undefined:
        """The mean of a task's first metric."""
        return next(iter(self.tasks[task].values())).mean

    def to_json(self) -> dict[str, object]:
        """As the curve of a report, its figures as those of a comparison."""
        tasks = {
            task: {name: {**bounds(one.mean), "seeds": list(one.values)} for name, one in metrics.items()}
            for task, metrics in self.tasks.items()
        }
        return {"users": self.users, "rows": self.rows, "tasks": tasks}


@dataclass(frozen=True, slots=True)
class Grouped:
    """One task by groups of users: the metric that they are judged by, and for every grouping how they fare."""

    metric: str
    by: Mapping[str, Robustness]

    def to_json(self) -> dict[str, object]:
        """As the groups of a report, with the metric."""
        return {name: {"metric": self.metric, **groups_to_json(one)} for name, one in self.by.items()}


@dataclass(frozen=True, slots=True)
class NewUsers:
    """One method on new users: by the size of the support, and by groups of users, every figure the mean over seeds.

    The curve has nested supports before one fixed query; where nobody has rows enough it says so. Users are drawn once for all
    methods and seeds.
    """

    curve: Mapping[int, Shown | Undefined]
    groups: Mapping[str, Grouped]

    @staticmethod
    def of(line: Line, seeds: Sequence[Asked], *, relevant: float, resamples: int) -> NewUsers:
        """Of what each finished seed said."""
        shown = partial(_shown, line, relevant=relevant, resamples=resamples)
        curve = {shots: shown([one.curve[shots] for one in seeds]) for shots in seeds[0].curve}
        new = [one.new for one in seeds if isinstance(one.new, Answers)]
        found = by_groups(new, seeds[0].groups, relevant=relevant, resamples=resamples) if new else {}
        return NewUsers(curve, {name: Grouped(metrics_of(new[0].schema.task(name))[0], by) for name, by in found.items()})

    def firsts(self) -> dict[str, tuple[str, Seeds]]:
        """Each task's first metric at each size of the support, by what the task is called there."""
        known = [(shots, one.tasks.items()) for shots, one in self.curve.items() if isinstance(one, Shown)]
        return {at_size(task, shots): next(iter(metrics.items())) for shots, tasks in known for task, metrics in tasks}

    def to_json(self) -> dict[str, object]:
        """What stands beside an entrant's tasks in `compare.json`."""
        curve = {str(shots): _none(one) if isinstance(one, Undefined) else one.to_json() for shots, one in self.curve.items()}
        return {"curve": curve, "groups": {task: one.to_json() for task, one in self.groups.items()}}


def _shown(line: Line, seeds: Sequence[Answers | Undefined], *, relevant: float, resamples: int) -> Shown | Undefined:
    told = [one for one in seeds if isinstance(one, Answers)]
    if not told:
        return next(one for one in seeds if isinstance(one, Undefined))
    drawn = [*map(partial(sampled, relevant=relevant, resamples=resamples), told)]
    tasks = {task: {name: Seeds.of(line, [one[task][name] for one in drawn]) for name in metrics} for task, metrics in drawn[0].items()}
    return Shown(len(told[0].users), int(told[0].seen.any(2).sum()), tasks)


def _none(why: Undefined) -> dict[str, object]:
    return {"users": 0, "rows": 0, "tasks": None, "reason": why.reason}
