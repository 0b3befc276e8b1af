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
from umbel.evaluate.figures import Figures, Rows, binary_figures
from umbel.evaluate.intervals import resample
from umbel.feedback import Feedback, Rule
from umbel.run.drifting import Drifting, Finding
from umbel.run.monitor import POSITIVES, quality
from umbel.run.record import figures_to_json
from umbel.run.report import Report
from umbel.serve.bundles import hashed
from umbel.serve.monitor.guarded import guarded
from umbel.serve.ranker import Ranker
from umbel.serve.reader import Raw, logged_rows
from umbel.serve.recommend.forms import MISSING, SINGLE, form
from umbel.serve.served import Served
from umbel.serve.store.labels import Extent, among_latest, label_column, pages
from umbel.serve.store.logged import PREDICTED, predictions
from umbel.serve.store.sampled import latest
from umbel.serve.store.session import Session

LATEST = 1_000  # decisions that are looked at
RESAMPLES = 50


@dataclass(frozen=True, slots=True)
class Quality:
    """A task's figures under a label of the service: of its marginal, by what was predicted when it was shown."""

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
    """Every task that events say yes or no to, of every label that answers, by the latest decisions whose labels have settled."""
    stable = labels["stable"]
    feedback = stable.served.bundle.feedback
    for one in () if feedback is None else guarded(stable, None):
        assert feedback is not None
        frame = _settled(session, replace(feedback, rules=(one.rule,)), clock)
        for label, ranker in labels.items():
            own = frame.filter(pl.col("bundle") == ranker.served.name, pl.col("arm") == label)
            if (figures := _figures(own, one.rule, ranker.served.bundle.columns)) is not None:
                yield Quality(one.rule.task, label, figures)


def judged(found: Quality, served: Served) -> Iterator[Finding]:
    """Whether a task is worse than on the run's test rows, or its chances are wrong."""
    trained = next((task for task in Report.from_json(served.bundle.report).tasks if task.name == found.task), None)
    then = None if trained is None else trained.marginal or trained.figures
    name = found.task if found.label == "stable" else f"{found.label} {found.task}"
    negatives = found.figures.rows - (found.figures.positives or 0)
    if negatives < POSITIVES:
        yield Finding(name, False, f"{name}: {negatives} negatives are too few to judge")
        return
    yield from quality(name, found.figures, then)


def _settled(session: Session, feedback: Feedback, clock: int) -> pl.DataFrame:
    """The latest decisions whose labels of one rule have settled."""
    (rule,) = feedback.rules
    after = among_latest(session, clock - feedback.lateness - rule.window, LATEST)
    frames = [page.frame for page in pages(session, feedback, Extent(clock), after=after)]
    return pl.concat(frames) if frames else pl.DataFrame(schema={"bundle": pl.String, "arm": pl.String})


def _figures(frame: pl.DataFrame, rule: Rule, columns: tuple[str, ...]) -> Figures | None:
    """The figures of rows that have a prediction and a label; None where there are none."""
    column = f"{rule.task}_marginal" if f"{rule.task}_marginal" in columns else rule.task
    if frame.is_empty() or column not in columns:
        return None
    rows = frame.with_columns(predictions(frame, columns)).filter(pl.col(f"{PREDICTED}{column}").is_not_null())
    rows = rows.filter(pl.col(label_column(rule.task)).is_not_null())
    if rows.is_empty():
        return None
    labels = (rows[label_column(rule.task)] > 0).cast(pl.Float64).to_numpy()
    chances = rows[f"{PREDICTED}{column}"].to_numpy()
    users = rows.select(pl.coalesce("user", "request")).to_series()
    _, groups = np.unique(users.to_numpy(), return_inverse=True)
    return binary_figures(Rows(labels, chances, chances, groups, resample(groups, resamples=RESAMPLES)))
