"""compare.html: recipes beside each other on the same rows, and which differences are more than noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from umbel.evaluate.metrics import Undefined
from umbel.run import markup as html
from umbel.run.compared import Compared, Entrant, Pair
from umbel.run.methods import new_users
from umbel.run.names import FALLS, MEANINGS, TITLES
from umbel.run.plots import whisker

CONTROL = "width control"


def comparison_page(compared: Mapping[str, object]) -> str:
    """The whole page from the content of `compare.json`; :raises UserError: if it is of another shape."""
    found = Compared.of(compared)
    return html.document(f"Comparison: {', '.join(found.tasks)}", [_head(found), *sections(compared)])


def sections(compared: Mapping[str, object]) -> list[str]:
    """What a page says of `compare.json` under its head; :raises UserError: if it is of another shape."""
    found = Compared.of(compared)
    entrants, tasks = found.entrants, found.tasks
    parts = (_standings(entrants, tasks), new_users(found), _differences(found), _others(entrants, tasks))
    return [part for part in (*parts, _lost(compared), _untaken(entrants)) if part]


def _lost(compared: Mapping[str, object]) -> str:
    """The runs whose training diverged, and why."""
    lost = compared.get("lost") or {}
    if not isinstance(lost, dict) or not lost:
        return ""
    note = "<p>Their training diverged. They count in no mean and no difference; a recipe that lost a seed is compared on the others.</p>"
    rows = [[html.title_cell(name), html.plain(why)] for name, why in lost.items()]
    return html.section("Lost runs", note, html.card(html.table(["run", ""], rows)))


def _untaken(entrants: Sequence[Entrant]) -> str:
    """The methods that lost inner steps, and how many over all seeds."""
    rows = [[html.title_cell(one.name), html.words(f"{steps:,.0f}")] for one in entrants if (steps := one.cost.get("lost_steps", 0))]
    if not rows:
        return ""
    note = "<p>They were no finite numbers and were not taken, so that users stayed less adapted than asked: lower the method's rate.</p>"
    return html.section("Lost inner steps", note, html.card(html.table(["method", "inner steps, all seeds"], rows)))


def _head(found: Compared) -> str:
    seeds = max((len(cell.seeds) for one in found.entrants for cells in one.tasks.values() for cell in cells.values()), default=0)
    entries = {f"rows for {part}": html.count(number) for part, number in found.rows.items()}
    entries |= {"recipes": str(len(found.entrants)), "seeds": str(seeds)}
    return f"<header><h1>Comparison</h1><p class='mute'>{escape(', '.join(found.tasks))}</p>{html.facts(entries)}</header>"


def _standings(entrants: Sequence[Entrant], tasks: Sequence[str]) -> str:
    """The first metric of each task, and what each recipe cost."""
    firsts = {task: _first(entrants, task) for task in tasks}
    head = ["recipe", *(f"{task}, {TITLES.get(metric, metric)}" for task, metric in firsts.items()), "parameters", "time", "peak memory"]
    bests = {task: _best(entrants, task, metric) for task, metric in firsts.items()}
    scales = {task: _scale(entrants, task, metric) for task, metric in firsts.items()}
    rows = []
    for one in entrants:
        cells = [_cell(one, task, metric, best=one is bests[task], scale=scales[task]) for task, metric in firsts.items()]
        rows.append([html.title_cell(one.name, _chosen(one), CONTROL if one.control else ""), *cells, *_cost(one)])
    note = (
        "The mean over seeds; the interval is over users, who are drawn again once for all recipes and seeds. The highest "
        "(lowest of an error) of a column is set in bold, which alone says nothing: see the differences."
    )
    return html.section("On test", f"<p>{note}</p>", html.card(html.table(head, rows)))


def _first(entrants: Sequence[Entrant], task: str) -> str:
    return next(metric for one in entrants for metric in one.tasks.get(task, {}))


def _best(entrants: Sequence[Entrant], task: str, metric: str) -> Entrant | None:
    known: list[tuple[float, Entrant]] = []
    for one in entrants:
        cell = one.tasks.get(task, {}).get(metric)
        if cell is not None and cell.mean is not None:
            known.append((-cell.mean if metric in FALLS else cell.mean, one))
    return max(known, key=lambda pair: pair[0])[1] if known else None


def _scale(entrants: Sequence[Entrant], task: str, metric: str) -> tuple[float, float]:
    cells = [cell for one in entrants if (cell := one.tasks.get(task, {}).get(metric)) is not None]
    ends = [value for cell in cells for value in (cell.low, cell.mean, cell.high) if value is not None]
    return (min(ends), max(ends)) if ends else (0.0, 0.0)


def _cell(one: Entrant, task: str, metric: str, *, best: bool, scale: tuple[float, float]) -> str:
    across = one.tasks.get(task, {}).get(metric)
    if across is None:
        return html.cell(None)
    measured = across.measured
    if isinstance(measured, Undefined):
        return html.cell(measured)
    drawn = whisker(measured, low=scale[0], high=scale[1], colour=1 if one.control else 0)
    return html.cell(measured, under=f"<small>{escape(across.note)}</small>{drawn}", strong=best)


def _chosen(one: Entrant) -> str:
    parts = [f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in one.chosen.items()]
    return ", ".join(part for part in parts if not part.startswith(("recipe ", "of "))) + _among(one)


def _among(one: Entrant) -> str:
    tried = one.chosen.get("of", 1)
    return f" (best of {tried})" if tried != 1 else ""


def _cost(one: Entrant) -> list[str]:
    cost = {name: one.cost.get(name, 0.0) for name in ("parameters", "rows_per_second", "seconds", "peak_memory_bytes")}
    weights, speed, seconds, memory = cost.values()
    return [html.words(f"{weights:,.0f}"), html.words(f"{seconds:,.0f} s", f"{speed:,.0f} rows/s"), html.words(f"{memory / 2**30:.2f} GiB")]


def _differences(found: Compared) -> str:
    if not found.pairs:
        return ""
    note = (
        "Differences seed by seed on the same resamples, averaged. Higher or lower: the interval over users and the spread over "
        "seeds both exclude 0, and Holm's rule over all lines of a table holds. Equal: the interval lies inside the margin, "
        "which of an error in the label's unit is a share of the error of the best constant on the same rows. Open: neither."
    )
    by_size = _tables(found.by_size)
    folded = html.folded("The same of new users by rows known", *by_size) if by_size else ""
    return html.section("Differences", f"<p>{escape(note)}</p>", *_tables(found.pairs), folded)


def _tables(pairs: Sequence[Pair]) -> list[str]:
    references = dict.fromkeys(pair.against for pair in pairs)
    return [_against(against, [pair for pair in pairs if pair.against == against]) for against in references]


def _against(against: str, pairs: Sequence[Pair]) -> str:
    tasks = list(dict.fromkeys(pair.task for pair in pairs))
    at = {(pair.recipe, pair.task): pair for pair in pairs}
    recipes = dict.fromkeys(pair.recipe for pair in pairs)
    rows = [[html.title_cell(recipe), *(_difference(at.get((recipe, task))) for task in tasks)] for recipe in recipes]
    metrics = {pair.task: TITLES.get(pair.metric, pair.metric) for pair in pairs}
    table = html.table(["recipe", *(f"{task}, {metrics[task]}" for task in tasks)], rows)
    return html.card(f"<h3>against {escape(against)}</h3>", table)


def _difference(pair: Pair | None) -> str:
    if pair is None:
        return html.cell(None)
    tone = {None: "mute", True: "good", False: "warn"}[pair.better]
    spread = "one seed" if pair.spread is None else f"seeds {' to '.join(map(html.signed, pair.spread))}"
    bounds = pair.reason if pair.low is None or pair.high is None else f"{html.signed(pair.low)} to {html.signed(pair.high)}"
    badge = f'<span class="badge {tone}">{escape(pair.verdict)}</span>'
    return f"<td>{badge} {html.signed(pair.mean)}<small>{escape(bounds)}</small><small>{escape(spread)}, p {pair.p:.2g}</small></td>"


def _others(entrants: Sequence[Entrant], tasks: Sequence[str]) -> str:
    """Every metric of every task, folded."""
    parts = []
    for task in tasks:
        metrics = list(dict.fromkeys(metric for one in entrants for metric in one.tasks.get(task, {})))
        rows = []
        for one in entrants:
            cells = [one.tasks.get(task, {}).get(metric) for metric in metrics]
            rows.append([html.title_cell(one.name), *(html.cell(None if cell is None else cell.measured) for cell in cells)])
        parts.append(html.folded(task, html.card(html.table(["recipe", *(TITLES.get(name, name) for name in metrics)], rows))))
    return html.section("All metrics", *parts, html.folded("What the columns say", html.glossary(MEANINGS)))
