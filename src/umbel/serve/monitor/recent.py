"""What a bundle met lately, against what it was trained on: drift of the latest requests, quality by the latest settled labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from umbel.data.batch import Batch
from umbel.data.raw import encoded
from umbel.errors import UserError
from umbel.evaluate.figures import Figures, Rows
from umbel.evaluate.intervals import resample
from umbel.evaluate.kinds import measures
from umbel.feedback import Feedback
from umbel.kinds import BINARY
from umbel.run.drifting import Drifting, Finding
from umbel.run.monitor import POSITIVES, quality
from umbel.run.record import figures_to_json
from umbel.run.report import Report
from umbel.schema import Task
from umbel.serve.ranker import Ranker
from umbel.serve.reader import Raw, logged_rows
from umbel.serve.recommend.forms import MISSING, SINGLE, form
from umbel.serve.served import Served
from umbel.serve.shares import hashed
from umbel.serve.store.labels import Extent, among_latest, label_column, pages
from umbel.serve.store.logged import PREDICTED, predictions
from umbel.serve.store.sampled import latest
from umbel.serve.store.session import Session

LATEST = 1_000  # decisions that are looked at
RESAMPLES = 50


@dataclass(frozen=True, slots=True)
class Quality:
    """A task's figures under a label of the service, by what was predicted when it was shown: of an event, of its marginal."""

    task: str
    label: str
    figures: Figures

    def to_json(self) -> dict[str, object]:
        """Plain JSON."""
        return {"task": self.task, "label": self.label, **figures_to_json(self.figures)}


def drifts(session: Session, served: Served) -> tuple[Finding, ...]:
    """Fields, predictions and gates of the latest requests, one item each: those of one answer depend on each other."""
    bundle = served.bundle
    found = [(rows, one.request) for one in latest(session, served.name, LATEST) if (rows := logged_rows(one, one.shown))]
    if not found or bundle.profile is None:
        return ()
    drifting, counted = Drifting(bundle, where=str(served.folder)), 0
    for batch in _read(served, [rows[int(hashed(request, "row") * len(rows))] for rows, request in found]):
        drifting.count(batch, bundle.predict(batch))
        counted += len(batch.index)
    lost = len(found) - counted
    unread = [Finding("requests", False, f"requests: {lost:,} of the latest {len(found):,} cannot be read again")] if lost else []
    return (*(drifting.findings() if counted else ()), *unread)


def _read(served: Served, rows: Sequence[Raw]) -> Iterator[Batch]:
    """Rows of several requests, those together in which the same columns have lists of the same: one frame takes no others.

    What cannot be read even by itself is left out.
    """
    alike: dict[tuple[tuple[str, int], ...], list[Raw]] = {}
    for row in rows:
        forms = ((column, form(row.get(column))) for column in sorted(served.reader.columns))
        alike.setdefault(tuple(one for one in forms if one[1] not in (MISSING, SINGLE)), []).append(row)
    encoder = served.bundle.encoder
    for some in alike.values():
        try:
            yield encoded(served.reader.frame(some), encoder)
        except UserError:
            for row in some:
                with suppress(UserError):
                    yield encoded(served.reader.frame([row]), encoder)


def qualities(session: Session, labels: Mapping[str, Ranker], clock: int) -> Iterator[Quality]:
    """Every task that has a rule of feedback, of every label that answers, by the latest decisions whose labels have settled.

    An event is judged by its marginal, on all that was shown; any other kind by its own figures, where each event it is given came, which
    needs a rule, too.
    """
    bundle = labels["stable"].served.bundle
    rules = {} if bundle.feedback is None else {rule.task: rule for rule in bundle.feedback.rules}
    for task in bundle.schema.judged:
        chain = (task.name,) if task.kind == BINARY else bundle.schema.chain(task.name)
        if bundle.feedback is None or not rules.keys() >= set(chain):
            continue
        frame = _settled(session, replace(bundle.feedback, rules=tuple(rules[name] for name in chain)), clock)
        for label, ranker in labels.items():
            own = frame.filter(pl.col("bundle") == ranker.served.name, pl.col("arm") == label)
            if (figures := _figures(own, task, chain, columns=ranker.served.bundle.columns)) is not None:
                yield Quality(task.name, label, figures)


def judged(found: Quality, served: Served) -> Iterator[Finding]:
    """Whether a task is worse than on the run's test rows, or its chances are wrong."""
    trained = next((task for task in Report.from_json(served.bundle.report).tasks if task.name == found.task), None)
    then = None if trained is None else trained.marginal or trained.figures
    name = found.task if found.label == "stable" else f"{found.label} {found.task}"
    positives = found.figures.positives
    if positives is not None and found.figures.rows - positives < POSITIVES:
        yield Finding(name, False, f"{name}: {found.figures.rows - positives} negatives are too few to judge")
        return
    yield from quality(name, found.figures, then)


def _settled(session: Session, feedback: Feedback, clock: int) -> pl.DataFrame:
    """The latest decisions whose labels have settled."""
    after = among_latest(session, clock - feedback.lateness - max(rule.window for rule in feedback.rules), LATEST)
    frames = [page.frame for page in pages(session, feedback, Extent(clock), after=after)]
    return pl.concat(frames) if frames else pl.DataFrame(schema={"bundle": pl.String, "arm": pl.String})


def _figures(frame: pl.DataFrame, task: Task, chain: Sequence[str], *, columns: tuple[str, ...]) -> Figures | None:
    """The figures of rows with predictions and a label, for which the events of the chain before the task's came; None without any."""
    answers = _answers(task, columns)
    if frame.is_empty() or not answers:
        return None
    came = [pl.col(label_column(name)) > 0 for name in chain if name != task.name]
    known = [pl.col(name).is_not_null() for name in (*answers, label_column(task.name))]
    rows = frame.with_columns(predictions(frame, columns)).filter(*known, *came)
    if rows.is_empty():
        return None
    told = rows[label_column(task.name)].cast(pl.Float64).to_numpy()
    given = rows.select(answers).to_numpy()
    _, groups = np.unique(rows.select(pl.coalesce("user", "request")).to_series().to_numpy(), return_inverse=True)
    labels, given = (told > 0).astype(np.float64) if task.kind == BINARY else told, given[:, 0] if len(answers) == 1 else given
    return measures(task.kind).figures(Rows(labels, rows[answers[0]].to_numpy(), given, groups, resample(groups, resamples=RESAMPLES)))


def _answers(task: Task, columns: tuple[str, ...]) -> list[str]:
    """The logged predictions that a task is judged by; none where a bundle does not give them."""
    own = [f"{task.name}_{answer}" if answer else task.name for answer in task.kind.answers]
    wanted = [f"{task.name}_marginal"] if task.kind == BINARY and f"{task.name}_marginal" in columns else own
    return [f"{PREDICTED}{name}" for name in wanted] if set(wanted) <= set(columns) else []
