"""explain.html: for each task its main parameters in words, the ranking behind them, whom it listens to; and how all was had."""

from __future__ import annotations

from html import escape

from umbel.evaluate.metrics import Undefined
from umbel.run import markup as html
from umbel.run.plots import whisker
from umbel.study.explain.deletion import Deletion
from umbel.study.explain.gates import Gate
from umbel.study.explain.ranking import Weight
from umbel.study.explain.study import Explained, Moved

SHOWN = 15   # fields before the rest is folded away
COLOURS = 6  # that the page has


def explain_page(found: Explained) -> str:
    """The whole page; it loads nothing."""
    names = ", ".join(one.task for one in found.tasks)
    entries = {"rows explained": html.count(found.rows), "users": html.count(found.users), "greatest miss": f"{found.error:.1e}"}
    head = f"<header><h1>Main parameters</h1><p class='mute'>{escape(found.recipe)}: {escape(names)}</p>{html.facts(entries)}</header>"
    tasks = [_task(one, colour=at % COLOURS) for at, one in enumerate(found.tasks)]
    return html.document(f"Main parameters: {names}", [head, *tasks, _how(found)])


def _task(found: Moved, *, colour: int) -> str:
    says = f"<p>{escape(' '.join(found.says))}</p>"
    head = ["field", f"moves it by ({found.unit})", "share", "raised by", "lowered by"]
    high = max((one.moves.high or one.moves.value for one in found.fields), default=0.0)
    rows = [_field(one, high, colour=colour) for one in found.fields]
    tables = [html.table(head, rows[:SHOWN])]
    if len(rows) > SHOWN:
        tables.append(html.folded(f"{len(rows) - SHOWN} more fields", html.table(head, rows[SHOWN:])))
    return html.section(found.task, says, html.card(*tables), _check(found.check), _gate(found.gate))


def _field(one: Weight, high: float, *, colour: int) -> list[str]:
    drawn = whisker(one.moves, low=0.0, high=high or 1.0, colour=colour)
    cells = (html.words(f"{one.share:.1%}"), html.words(one.push.up), html.words(one.push.down))
    return [html.title_cell(one.field), html.cell(one.moves, under=drawn), *cells]


def _check(check: Deletion | Undefined) -> str:
    if isinstance(check, Undefined):
        return f"<p class='mute'>No deletion check: {escape(check.reason)}.</p>"
    lines = [
        [html.title_cell("the row's own order"), html.words(f"{check.named:.4f}"), html.cell(check.gain), _shown(shown=check.shown)],
        [html.title_cell("the ranking above"), html.words(f"{check.ranked:.4f}"), html.cell(check.ranked_gain),
         _shown(shown=check.ranking_shown)],
        [html.title_cell("at random"), html.words(f"{check.chance:.4f}"), html.cell(None), html.cell(None)],
    ]  # fmt: skip
    up_to = "1 field" if check.most == 1 else f"1 to {check.most} fields"
    return html.card(html.table([f"{up_to} taken away", "the prediction changes by", "more than at random", ""], lines))


def _shown(*, shown: bool) -> str:
    return html.words("matters more" if shown else "not shown")


def _gate(gate: Gate | None) -> str:
    if gate is None:
        return ""
    rows = [
        [html.title_cell(f"expert {one.expert}"), html.words(", ".join(one.taught) or "nobody"), html.words(f"{one.share:.1%}")]
        for one in gate.experts
    ]
    return html.card(html.table(["listens to", "taught by", "share"], rows))


def _how(found: Explained) -> str:
    notes = (
        "Contributions are integrated gradients over the embeddings of each field in every view: a row's contributions add up to its "
        "prediction less that of the mean training row (the mean of embeddings, field by field), before calibration. The figures are "
        "means over rows of their size, whatever the sign; 95 % over users.",
        "To take a field away is to put it at the mean. A field that speaks through another (the candidate that a history is read "
        "against) counts where it is read. What moves a prediction need not be the cause of what happens.",
        f"The greatest miss of that sum over all rows and tasks is {found.error:.1e} of the difference.",
    )
    return html.section("How this was had", *(f"<p>{escape(note)}</p>" for note in notes))
