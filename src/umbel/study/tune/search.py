"""The search itself: an Optuna study in a SQLite file, which survives whatever ends the process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import TypeAlias

import numpy as np

from umbel.errors import UserError
from umbel.study.tune.dimension import Choices, Dimension, Point
from umbel.study.tune.outcome import MEAN, Objective, Outcome
from umbel.study.tune.runner import End, Failed, Pruned

try:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial, TrialState
except ImportError:
    raise UserError("umbel tune: optuna is not installed", mend="pip install 'umbel[tune]'") from None

Ask: TypeAlias = optuna.trial.Trial  # a point that is asked about

FILE, NAME = "study.db", "tune"
OUTCOME, REASON = "outcome", "reason"
FIRST = 5  # trials that no other is measured against when it is to be cut short
LEAST = 4  # finished trials before anything is said of which settings mattered


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial as the study has it: `state` is complete, pruned, failed or running; `scores` are its epochs' scores."""

    number: int
    state: str
    point: Point
    values: tuple[float, ...]
    scores: tuple[float, ...]
    outcome: Outcome | None = None
    reason: str = ""


class Search:
    """A study of so many objectives over a space, made or found again.

    The trees of the sampler (TPE, https://papers.nips.cc/paper/4443, for one objective and for several) are drawn anew for
    every trial from the seed and the trial's number: a study that was stopped goes on as if it had not been. A trial is cut short when
    its score lags behind the median of the others at that epoch; with several objectives Optuna cuts none.
    """

    def __init__(self, folder: Path, among: Sequence[Dimension], goals: Sequence[Objective], *, seed: int, prune: bool) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.goals, self.seed, self.lock = tuple(goals), seed, Lock()
        self.prune = prune and self.goals == (MEAN,)
        self.space = {one.key: _distribution(one) for one in among}
        directions = [StudyDirection.MAXIMIZE if one.rises else StudyDirection.MINIMIZE for one in goals]
        storage = f"sqlite:///{folder / FILE}"
        pruner = optuna.pruners.MedianPruner(n_startup_trials=FIRST)
        self.study = optuna.create_study(storage=storage, study_name=NAME, directions=directions, pruner=pruner, load_if_exists=True)

    def unfinished(self) -> list[Ask]:
        """The trials that a killed process has left at work: the same points, to go on with."""
        left = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [self._again(one) for one in left]

    def _again(self, one: FrozenTrial) -> Ask:
        """Their points stand; one that was cut off while it was drawn is drawn to its end."""
        self._reseed(one.number)
        found = Ask(self.study, one._trial_id)  # no public way leads from a trial of the past to one at work
        for key, distribution in self.space.items():
            found._suggest(key, distribution)
        return found

    def ask(self) -> Ask:
        """The next point."""
        with self.lock:
            self._reseed(len(self.study.get_trials(deepcopy=False)))
            return self.study.ask(self.space)

    def heard(self, trial: Ask, epoch: int, score: float) -> bool:
        """Write an epoch's score down; whether the trial goes on. Trials of several objectives, or of another than the mean, do."""
        if not self.prune:
            return True
        with self.lock:
            if epoch not in self.study.get_trials(deepcopy=False)[trial.number].intermediate_values:
                trial.report(score, epoch)
            return not trial.should_prune()

    def tell(self, trial: Ask, end: End) -> Tried:
        """Write down how a trial ended."""
        with self.lock:
            values = self._values(end)
            if isinstance(end, Outcome):
                trial.set_user_attr(OUTCOME, asdict(end))
            reason = _reason(end, values)
            if reason:
                trial.set_user_attr(REASON, reason)
            state = TrialState.COMPLETE if values else TrialState.PRUNED if isinstance(end, Pruned) else TrialState.FAIL
            return _tried(self.study.tell(trial, values or None, state))

    def tried(self) -> tuple[Tried, ...]:
        """All trials so far, in order."""
        return tuple(_tried(one) for one in self.study.get_trials(deepcopy=False))

    def front(self, tried: Sequence[Tried]) -> tuple[Tried, ...]:
        """The finished trials that no other beats in one objective without losing in another, the best by the first objective first.

        Of equals the earliest.
        """
        done = list({one.values: one for one in reversed(tried) if one.state == "complete"}.values())
        left = [one for one in done if not any(self._beats(other, one) for other in done)]
        return tuple(sorted(left, key=lambda one: (-one.values[0] if self.goals[0].rises else one.values[0], one.number)))

    def importances(self) -> Mapping[str, float]:
        """Which share of the first objective's spread over trials each setting explains (fANOVA); none where too few have finished."""
        done = [one.values[0] for one in self.tried() if one.state == "complete"]
        if len(done) < LEAST or np.ptp(done) == 0:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self.seed)
        found = optuna.importance.get_param_importances(self.study, evaluator=evaluator, target=lambda one: one.values[0])
        return {key: float(value) for key, value in found.items()}

    def _beats(self, one: Tried, other: Tried) -> bool:
        pairs = list(zip(self.goals, one.values, other.values, strict=True))
        return any(goal.better(a, b) for goal, a, b in pairs) and not any(goal.better(b, a) for goal, a, b in pairs)

    def _values(self, end: End) -> list[float]:
        """The value of every objective; none unless all have one."""
        found = [goal.of(end) for goal in self.goals] if isinstance(end, Outcome) else []
        known = [value for value in found if value is not None]
        return known if len(known) == len(self.goals) else []

    def _reseed(self, number: int) -> None:
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        self.study.sampler = optuna.samplers.TPESampler(seed=seed)


def _distribution(one: Dimension) -> BaseDistribution:
    """A searched setting as Optuna knows it."""
    if isinstance(one, Choices):
        return CategoricalDistribution(tuple(one.values))
    if one.whole:
        return IntDistribution(int(one.low), int(one.high), log=one.log)
    return FloatDistribution(float(one.low), float(one.high), log=one.log)


def _reason(end: End, values: Sequence[float]) -> str:
    if isinstance(end, Failed):
        return end.reason
    return "" if values or isinstance(end, Pruned) else "an objective is undefined on the validation rows"


STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


def _tried(one: FrozenTrial) -> Tried:
    outcome = one.user_attrs.get(OUTCOME)
    return Tried(
        number=one.number,
        state=STATES.get(one.state, "running"),
        point=one.params,
        values=tuple(one.values or ()) if one.state is TrialState.COMPLETE else (),
        scores=tuple(one.intermediate_values[epoch] for epoch in sorted(one.intermediate_values)),
        outcome=None if outcome is None else Outcome.of(outcome),
        reason=one.user_attrs.get(REASON, ""),
    )
