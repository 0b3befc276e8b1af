"""The part of a comparison's page that tells of new users: every method's curve over the support, and for whom each is worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from umbel.evaluate.intervals import Interval
from umbel.run import markup as html
from umbel.run.compared import Across, Compared, Entrant, Pair, at_size
from umbel.run.names import FALLS, TITLES
from umbel.run.newcomers import worst_group
from umbel.run.plots import Line, side_by_side, swatch
from umbel.run.record import measured_from_json

ROWS = "rows known"
CURVE = (
    "New users by the number of their rows that are known: the first of the same rows each time, before one fixed query, {users:,} users "
    "and {rows:,} query rows throughout. Means over seeds, intervals (95 %) over users: a method's own holds what users differ by, and "
    "does not say who is better. That the difference says, taken user by user."
)
WORST = (
    "New users, with as many known rows as in the scenarios, by groups: the worst group of each method (mean over seeds, 95 % over users), "
    "and the spread, the best group less the worst. A spread whose interval begins at 0 may be noise. The least bad of a column is set in "
    "bold, which alone says nothing."
)


def new_users(found: Compared) -> str:
    """The section; nothing where no method has a curve or groups."""
    parts = [*_curves([one for one in found.entrants if one.curve], found.by_size), *_worst([one for one in found.entrants if one.groups])]
    return html.section("New users", *parts) if parts else ""


def _best(figures: Sequence[Interval | None], *, falls: bool) -> int | None:
    """The place of the best figure, the first of several; None where there is none."""
    known = [(-one.value if falls else one.value, -at) for at, one in enumerate(figures) if one is not None]
    return -max(known)[1] if known else None


def _curves(entrants: Sequence[Entrant], pairs: Sequence[Pair]) -> list[str]:
    """A card a task; why there is none, where nobody has rows enough."""
    sizes = [size for one in entrants for size in one.curve.values()]
    told = next((size for size in sizes if size.tasks), None)
    if told is None:
        reasons = sorted({size.reason for size in sizes})
        return [html.card(f"<p class='mute'>No curve: {escape('; '.join(reasons))}</p>")] if reasons else []
    cards = [_curve(entrants, task, next(iter(metrics)), pairs=pairs) for task, metrics in told.tasks.items()]
    return [f"<p>{escape(CURVE.format(users=told.users, rows=told.rows))}</p>", *cards]


def _curve(entrants: Sequence[Entrant], task: str, metric: str, *, pairs: Sequence[Pair]) -> str:
    """Figures and differences as pictures beside each other, and the figures in a table, whose rows say which mark is whose."""
    shots = sorted({size for one in entrants for size in one.curve})
    told = {one.name: {size: cell for size in shots if (cell := _at(one, size, task=task, metric=metric)) is not None} for one in entrants}
    figures = {name: {size: one for size, cell in own.items() if (one := _interval(cell))} for name, own in told.items()}
    bests = {size: _best([own.get(size) for own in figures.values()], falls=metric in FALLS) for size in shots}
    rows = []
    for at, (name, own) in enumerate(told.items()):
        cells = [html.cell(own[size].measured if size in own else None, strong=bests[size] == at) for size in shots]
        rows.append([html.title_cell(name, mark=swatch(at)), *cells])
    title = TITLES.get(metric, metric)
    pictures = [f"<div><h4>{escape(title)}</h4>{side_by_side(_lines(figures), name=title, across=ROWS)}</div>"]
    pictures += _less([*figures], {size: at_size(task, size) for size in shots}, pairs, title=title)
    table = html.table([ROWS, *map(str, shots)], rows)
    return html.card(f"<h3>{escape(task)}: {escape(title)} of new users</h3>", f'<div class="grid wide">{"".join(pictures)}</div>', table)


def _less(names: Sequence[str], sizes: Mapping[int, str], pairs: Sequence[Pair], *, title: str) -> list[str]:
    """The picture of differences to the first method that others are judged by; none where there are no differences."""
    against = next((pair.against for pair in pairs), None)
    at = {(pair.recipe, pair.task): pair for pair in pairs if pair.against == against}
    figures = {name: {size: _gap(at[name, task]) for size, task in sizes.items() if (name, task) in at} for name in names}
    if against is None or not any(figures.values()):
        return []
    name = f"{title} less that of {against}"
    return [f"<div><h4>{escape(name)}</h4>{side_by_side(_lines(figures), name=name, across=ROWS, guide=0.0)}</div>"]


def _lines(figures: Mapping[str, Mapping[int, Interval]]) -> list[Line]:
    return [Line(name, [(float(size), one) for size, one in own.items()]) for name, own in figures.items()]


def _interval(cell: Across) -> Interval | None:
    return cell.measured if isinstance(cell.measured, Interval) else None


def _gap(pair: Pair) -> Interval:
    return Interval(pair.mean, pair.low, pair.high, pair.reason)


def _at(one: Entrant, size: int, *, task: str, metric: str) -> Across | None:
    return one.curve[size].tasks.get(task, {}).get(metric) if size in one.curve else None


def _worst(entrants: Sequence[Entrant]) -> list[str]:
    """A table a task: a row a method, a column a grouping."""
    tasks = dict.fromkeys(task for one in entrants for task in one.groups)
    return [f"<p>{escape(WORST)}</p>", *(_worst_of(entrants, task) for task in tasks)] if tasks else []


def _worst_of(entrants: Sequence[Entrant], task: str) -> str:
    metrics = {name: found["metric"] for one in entrants for name, found in one.groups.get(task, {}).items()}
    columns = {name: _column(entrants, task, name, falls=metric in FALLS) for name, metric in metrics.items()}
    rows = [[html.title_cell(one.name), *(column[at] for column in columns.values())] for at, one in enumerate(entrants)]
    metric = next(iter(metrics.values()))
    title = f"{task}: for whom {TITLES.get(metric, metric)} is worst"
    return html.card(f"<h3>{escape(title)}</h3>", html.table(["method", *(f"by {name}" for name in columns)], rows))


def _column(entrants: Sequence[Entrant], task: str, name: str, *, falls: bool) -> list[str]:
    """Of one grouping every method's worst group, and its spread."""
    told = [one.groups.get(task, {}).get(name) for one in entrants]
    worst = [None if one is None else worst_group(one) for one in told]
    least = _best([one[2] if one is not None and isinstance(one[2], Interval) else None for one in worst], falls=falls)
    cells = []
    for at, (found, one) in enumerate(zip(told, worst, strict=True)):
        spread = None if found is None else measured_from_json(found["spread"])
        group, users, figure = one or ("", "", None)
        apart = f"spread {html.number(spread.value)} ({html.span(spread)})" if isinstance(spread, Interval) else ""
        under = "".join(f"<small>{escape(line)}</small>" for line in (f"{group} ({users})" if group else "", apart) if line)
        cells.append(html.cell(figure, under=under, strong=at == least))
    return cells
