"""The page's section on training: losses and scores by epoch, which epoch was kept and why, what each task would have kept."""

from __future__ import annotations

from html import escape

from umbel.run import markup as html
from umbel.run.kept import Fared, Kept
from umbel.run.plots import curves
from umbel.run.report import Report

_COLOURS = 6
_NOTE = "Scores are those that training goes by (AUC of an event); the gap is training rows minus validation, by the kept weights."


def training(report: Report) -> str:
    """The section; nothing where no epoch was told."""
    if not report.history:
        return ""
    kept, best = report.kept, None if report.kept is None else report.kept.epoch
    title = "<h3>{}</h3>".format
    scores = [moment.score for moment in report.history]
    cards = [html.card(title("validation score"), curves(scores, name="score", colour=5, best=best, reading="higher is better"))]
    for at, task in enumerate(report.tasks):
        losses = [moment.losses[at] if at < len(moment.losses) else None for moment in report.history]
        picture = curves(losses, name="loss", colour=at % _COLOURS, best=best)
        cards.append(html.card(title(f"{escape(task.name)}: training loss"), picture))
    said = "" if kept is None else f"<p>The weights of epoch {kept.epoch} of {len(scores)} were kept: {escape(kept.why)}.</p>"
    return html.section("Training", said, html.grid(cards), "" if kept is None else _by_task(report, kept))


def _by_task(report: Report, kept: Kept) -> str:
    """A row a task: its own best epoch, its score there and at the kept one, on training rows, and the gap."""
    names = list(kept.tasks)
    own = html.table(["task", "own best epoch", "score there", "kept", "training rows", "gap"], [_fared(report, name) for name in names])
    epochs = [
        [html.title_cell(f"epoch {moment.epoch}"), *(_value(moment.scores.get(name)) for name in names)] for moment in report.history
    ]
    marked = frozenset(at for at, moment in enumerate(report.history) if moment.epoch == kept.epoch)
    every = html.folded("Every task's score by epoch", html.table(["", *names], epochs, marked=marked))
    return html.card(own, f"<p class='mute'>{_NOTE}</p>", every)


def _fared(report: Report, name: str) -> list[str]:
    assert report.kept is not None
    one: Fared = report.kept.tasks[name]
    there = None if one.best is None else report.history[one.best - 1].scores.get(name)
    epoch = html.words("–" if one.best is None else str(one.best))
    return [html.title_cell(name), epoch, *map(_value, (there, one.valid, one.train, one.gap))]


def _value(number: float | None) -> str:
    return html.words("–" if number is None else html.number(number))
