"""A fusion learned as a contextual bandit from what a service drew: the policy whose doubly robust value is surest to be high."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float

from umbel.evaluate.intervals import Interval, Sampled
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.offpolicy import (
    CLIP,
    LOGGING,
    Logged,
    Model,
    Weighed,
    deviations,
    effective_sample,
    estimate,
    standard_error,
    too_few,
    value,
)  # fmt: skip
from umbel.fuse.asked import Asked, Watch, opened, searched, started, unwatched
from umbel.fuse.choices import read_choices
from umbel.fuse.drawn import Drawn, read_drawn
from umbel.fuse.found import Found
from umbel.fuse.goal import Goal
from umbel.fuse.log import aims_of, checksum, columns_of, for_test
from umbel.fuse.search import Judged, front
from umbel.fuse.space import Space
from umbel.fuse.standing import Base, Standing, better, contenders, missed, standings, verdict
from umbel.fusion import Fusion
from umbel.run.use import source_of

RESAMPLES = 500
CAUTION = 1.645  # standard errors that are taken off: the lower end of what is 90 % sure
ESTIMATOR = "dr"
FIGURE = "the labels of what a decision shows, summed (doubly robust, a decision)"


@final
@dataclass(frozen=True, slots=True)
class Replayed:
    """A judge of fusions by what each task's labels would have been, had they drawn; `factor` is how labels thin out down the list.

    The model of a label is the task's own calibrated prediction by the factor of its position. Where weights do not carry there is no
    figure. `primary` is the place of the task that caution is for: the standard error over users is taken off, as in counterfactual
    risk minimisation (Swaminathan & Joachims, JMLR 2015), or the luckiest policy would be found.
    """

    drawn: Drawn
    factor: Float[np.ndarray, "positions tasks"]
    primary: int = 0

    def __call__(self, policy: Fusion) -> Judged:
        """The doubly robust value of every task."""
        logged = self.logged(policy)
        sample = effective_sample(Weighed.of(logged[0], CLIP).weight[:, -1])
        lost = too_few(sample, len(self.drawn.user))
        if lost is not None:
            return Judged(None, reason=lost.reason, lacking=1 - sample / len(self.drawn.user))
        moved = deviations(Weighed.of(logged[self.primary], CLIP), ESTIMATOR)
        values = np.array([value(one, ESTIMATOR) for one in logged])
        return Judged(values, caution=CAUTION * standard_error(moved, self.drawn.user))

    def logged(self, policy: Fusion) -> list[Logged]:
        """The decisions as the policy would have drawn them, for each task's labels."""
        drawn = self.drawn
        places = policy.places(drawn.columns.predictions)
        logits = policy.score(drawn.predictions[:, places]) / drawn.temperature[drawn.slates.owner()]
        found = []
        for place, task in enumerate(drawn.columns.tasks):
            worth = drawn.predictions[:, _column(drawn, task)]
            steps = drawn.slates.steps(logits, worth)
            there = drawn.slates.shown >= 0
            shown = np.where(there, worth[drawn.slates.shown], 0.0) * self.factor[:, place]
            model = Model(shown, steps.expected * self.factor[:, place])
            chance = np.minimum(steps.chance, 1.0)
            found.append(Logged(reward=drawn.labels[:, :, place], logging=drawn.logging, target=chance, user=drawn.user, model=model))
        return found

    def sampled(self, policy: Fusion, *, seed: int) -> list[Sampled | Undefined]:
        """The values with their draws, or why there are none."""
        return [_drawn(one, ESTIMATOR, seed) for one in self.logged(policy)]

    def earned(self, *, seed: int) -> list[Sampled | Undefined]:
        """What the log itself earned."""
        drawn, found = self.drawn, []
        for place in range(len(drawn.columns.tasks)):
            same = Logged(reward=drawn.labels[:, :, place], logging=drawn.logging, target=drawn.logging, user=drawn.user)
            found.append(_drawn(same, LOGGING, seed))
        return found


def replay(bundle: Path, log: str, asked: Asked, *, choices: Path, watch: Watch = unwatched) -> Found:
    """Learn on the decisions of one half of the users; then judge the choice and each task alone on the other half's, once.

    The choice is to be promoted where the lower bound of its doubly robust value is above what the logging policy earned, and so is the
    lower bound of the difference, and no limit is missed.

    :raises UserError: for what cannot be read, replayed, judged or searched, in one line.
    """
    made, start = opened(bundle, asked)
    columns = columns_of(made.schema, start)
    source = source_of(made, log, joins=asked.joins, labels=True)
    drawn = read_drawn(made, source, columns, choices=read_choices(choices), checksum=checksum(bundle))
    begun = started(start, asked, dict(zip(columns.predictions, drawn.predictions.T, strict=True)))
    return learned(drawn, begun, asked, watch=watch)


def learned(drawn: Drawn, start: Fusion, asked: Asked, *, watch: Watch = unwatched) -> Found:
    """The same, of decisions that were read; :raises UserError: for what cannot be judged or searched."""
    held, aims = for_test(drawn.user, asked.seed), aims_of(drawn.columns, start)
    names = [aim.task for aim in aims]
    primary = names.index(asked.primary) if asked.primary in names else 0
    halves = drawn.where(~held), drawn.where(held)
    factor = thinning(halves[0])
    tuning, testing = (Replayed(half, factor, primary) for half in halves)
    goal, tried, chosen = searched(tuning, Space(start, anchored=False), aims, asked=asked, watch=watch)
    base = Base("the logging policy", testing.earned(seed=asked.seed))
    test = standings(partial(testing.sampled, seed=asked.seed), goal, contenders(chosen.policy, start), base=base)
    facts = {"tuned on": f"{len(halves[0].user):,} decisions", "tested on": f"{len(halves[1].user):,} decisions",
             "policies": f"{len(tried):,}, {asked.method}", "seed": str(asked.seed),
             **{f"left out, {reason}": f"{count:,}" for reason, count in drawn.excluded.items()}}  # fmt: skip
    return Found(
        goal=goal, figure=FIGURE, chosen=chosen, tried=tuple(tried), front=tuple(one.number for one in front(tried, goal)), test=test,
        facts=facts, verdict=verdict(test[0], goal, than=base.name), better=promoted(test[0], test[-1], goal),
    )  # fmt: skip


def promoted(one: Standing, logging: Standing, goal: Goal) -> bool:
    """Whether a policy may take the place of the one that logged."""
    figure, earned = one.tasks[goal.primary], logging.tasks[goal.primary]
    if not (isinstance(figure, Interval) and isinstance(earned, Interval)) or figure.low is None or figure.high is None:
        return False
    wanted = goal.aims[goal.place].direction > 0
    sure = figure.low > earned.value if wanted else figure.high < earned.value
    return sure and better(one, goal) and not missed(one, goal)


def thinning(drawn: Drawn) -> Float[np.ndarray, "positions tasks"]:
    """How many labels a position has for what was predicted of it, task by task; 1 where nothing was."""
    there = drawn.slates.shown >= 0
    factor = np.ones(drawn.labels.shape[1:])
    for place, task in enumerate(drawn.columns.tasks):
        predicted = np.where(there, drawn.predictions[drawn.slates.shown, _column(drawn, task)], 0.0).sum(0)
        np.divide(drawn.labels[:, :, place].sum(0), predicted, out=factor[:, place], where=predicted > 0)
    return factor


def _column(drawn: Drawn, task: str) -> int:
    """The first prediction of a task."""
    columns = drawn.columns
    return next(place for place, name in enumerate(columns.predictions) if columns.task[name] == task)


def _drawn(logged: Logged, name: str, seed: int) -> Sampled | Undefined:
    found = estimate(logged, resamples=RESAMPLES, seed=seed)
    figure = found.estimates[name]
    return figure if isinstance(figure, Undefined) else found.draws[name]
