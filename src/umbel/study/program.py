"""The demonstration for readers: a table a scene and its claims, on a terminal and as one page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from rich.table import Table

from umbel.run import markup as html
from umbel.run.screen import cell
from umbel.study.claims import Claim
from umbel.study.scene import Played, mean_auc
from umbel.study.verdict import Standing

BEST = "best possible"
STORIES = {
    True: "On conflicting users what satisfies has nothing to do with what draws, so that one view of an id has two things to say.",
    False: "What draws a user satisfies too, and few rows are positive: each task can learn from the other.",
}


def table(played: Played) -> Table:
    """The test AUC of every recipe a task, the mean, the width of its views, and the best that any model could do."""
    seeds = f"mean of {played.scene.seeds} seeds" if played.scene.seeds > 1 else "one seed"
    found = Table(title=f"{played.scene.name} tasks: test AUC, {seeds}, 95 % over users", title_justify="left")
    for name in _head(played):
        found.add_column(name, justify="left" if name == "recipe" else "right")
    for one in played.found.recipes:
        auc = [cell(metrics["auc"]) for metrics in one.tasks.values()]
        found.add_row(one.name, *auc, f"{mean_auc(one):.4f}", _width(one), f"{one.cost.parameters:,}")
    found.add_row(BEST, *(f"{value:.4f}" for value in _possible(played)), "", "", style="dim")
    return found


def lines(claims: Sequence[Claim]) -> Iterator[str]:
    """The claims, each marked by whether it holds."""
    for claim in claims:
        yield f"{'yes' if claim.holds else 'no '}  {claim.says}"


def page(scenes: Sequence[Played]) -> str:
    """The scenes that have been played as one page that loads nothing."""
    held = all(claim.holds for played in scenes for claim in played.claims)
    summary = "the known answer was found" if held else "not all of the known answer was found: see the claims marked no"
    intro = (
        "Two simulated logs whose answer is known, because the probability behind every label is. Models differ in nothing but who "
        "shares what: the width of a view, the learning rate, the batches and the rule that stops training are the same for all."
    )
    head = f"<header><h1>Does sharing help?</h1><p>{escape(intro)}</p><p><b>{escape(summary)}</b></p></header>"
    return html.document("umbel demo", [head, *(_section(played) for played in scenes)])


def _section(played: Played) -> str:
    planted = played.scene.planted
    facts = {
        "rows": html.count(planted.rows),
        "users": html.count(planted.users),
        "items": html.count(planted.items),
        "users in conflict": f"{planted.conflict:.0%}",
        "numbers in a taste": str(planted.dim),
        "seeds": str(played.scene.seeds),
    }
    rows = [_row(one) for one in played.found.recipes]
    possible = [html.words(html.number(value)) for value in _possible(played)]
    rows.append([html.title_cell(BEST), *possible, html.words(""), html.words("")])
    note = (
        "“xN” is a shared view N times as wide: as wide as all views of STEM together. “Best possible” is the AUC of the true "
        "probabilities on the same rows."
    )
    items = "".join(f'<li><span class="badge {_tone(claim)}">{_word(claim)}</span> {escape(claim.says)}</li>' for claim in played.claims)
    card = html.card(html.table(_head(played), rows), f"<p class='mute'>{escape(note)}</p>")
    story = f"<p>{escape(STORIES[planted.conflict > 0])}</p>"
    return html.section(f"{played.scene.name} tasks", story, html.facts(facts), card, f"<ul>{items}</ul>")


def _row(one: Standing) -> list[str]:
    cells = [html.cell(metrics["auc"]) for metrics in one.tasks.values()]
    others = (html.number(mean_auc(one)), _width(one), f"{one.cost.parameters:,}")
    return [html.title_cell(one.name), *cells, *map(html.words, others)]


def _head(played: Played) -> list[str]:
    return ["recipe", *played.scene.tasks, "mean", "width of a view", "parameters"]


def _width(one: Standing) -> str:
    return str(one.chosen["dim"])


def _possible(played: Played) -> list[float]:
    each = [played.best[task].observed for task in played.scene.tasks]
    return [*each, sum(each) / len(each)]


def _tone(claim: Claim) -> str:
    return "good" if claim.holds else "warn"


def _word(claim: Claim) -> str:
    return "yes" if claim.holds else "no"
