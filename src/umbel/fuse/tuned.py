"""A fusion tuned on the labels of one half of a log's users, and tried once on the other half's."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from umbel.evaluate.intervals import resample
from umbel.fuse.asked import Asked, Watch, opened, searched, started, unwatched
from umbel.fuse.found import Found
from umbel.fuse.log import aims_of, columns_of, for_test, predictions_of, read_rows
from umbel.fuse.ranked import Ranked
from umbel.fuse.search import front
from umbel.fuse.space import Space
from umbel.fuse.standing import Base, better, contenders, standings, verdict

RESAMPLES = 500


def tune(bundle: Path, log: str, asked: Asked, *, watch: Watch = unwatched) -> Found:
    """Search on one half of the users; then judge the choice, the start and each task alone on the other half, once.

    The log should hold days that the model was not trained on: where it was, predictions know the labels.

    :raises UserError: for what cannot be read, judged or searched, in one line.
    """
    metric = asked.judge()
    made, start = opened(bundle, asked)
    columns = columns_of(made.schema, start)
    rows = read_rows(made, log, columns, by=asked.by, joins=asked.joins)
    held = for_test(rows.user, asked.seed)
    tuning, testing = (Ranked.of(rows.where(part), metric, where=log) for part in (~held, held))
    begun = started(start, asked, predictions_of(tuning.rows))
    goal, tried, chosen = searched(tuning, Space(begun, anchored=True), aims_of(columns, begun), asked=asked, watch=watch)
    by = resample(testing.users, resamples=RESAMPLES, seed=asked.seed)
    base = Base("the start", testing.sampled(begun, by))
    test = standings(partial(testing.sampled, by=by), goal, contenders(chosen.policy, begun), base=base)
    facts = {"tuned on": _size(tuning), "tested on": _size(testing), "policies": f"{len(tried):,}, {asked.method}", "seed": str(asked.seed)}
    return Found(
        goal=goal, figure=metric.said(asked.by or "user's rows"), chosen=chosen, tried=tuple(tried),
        front=tuple(one.number for one in front(tried, goal)), test=test, facts=facts, verdict=verdict(test[0], goal, than=base.name),
        better=better(test[0], goal),
    )  # fmt: skip


def _size(judge: Ranked) -> str:
    return f"{len(judge.rows.group):,} rows in {len(judge.rows.starts):,} groups"
