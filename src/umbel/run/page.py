"""report.html: what came of a run, for a person; one file that loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from umbel.evaluate.figures import Figures
from umbel.evaluate.intervals import Interval
from umbel.evaluate.judge import TaskReport
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.slices import Worst
from umbel.run import markup as html
from umbel.run.comparison import comparison_page as comparison_page
from umbel.run.names import MEANINGS, TITLES
from umbel.run.newcomers import section as newcomers
from umbel.run.plots import reliability, whisker
from umbel.run.recalls import section as recalls
from umbel.run.report import Report
from umbel.run.training import training

_COLOURS = 6


def page(report: Report) -> str:
    """The whole page of a run."""
    names = ", ".join(task.name for task in report.tasks)
    parts = [_head(report, names), newcomers(report.episodes), _results("Results on test", report.tasks)]
    parts += [recalls(report.retrieval)]
    parts += [training(report), _calibration(report.tasks), _slices(report.tasks), _validation(report.validation), _run(report)]
    return html.document(f"{report.recipe}: {names}", [part for part in parts if part])


def metric_table(tasks: Sequence[TaskReport], names: Sequence[str]) -> str:
    """A row a task and sample space, a column a metric, and the counts."""
    rows = [
        [html.title_cell(task.name, space), _counts(figures), *(html.cell(figures.metrics.get(name)) for name in names)]
        for task in tasks
        for space, figures in spaces(task)
    ]
    return html.card(html.table(["task", "rows", *(TITLES[name] for name in names)], rows))


def spaces(task: TaskReport) -> Iterator[tuple[str, Figures]]:
    """The sample spaces of a task's figures, named."""
    yield ("rows with a label" if task.given is None else f"where {task.given} holds"), task.figures
    if task.marginal is not None:
        yield f"rows with both labels ({task.given} and {task.name})", task.marginal


def settings_table(settings: Mapping[str, object]) -> str:
    """Nested settings as one list of dotted keys."""
    rows = [[html.title_cell(key), html.plain(str(value))] for key, value in flat(settings)]
    return html.table(["setting", ""], rows)


def flat(tree: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    """Nested keys, dotted.

    Example
    -------
    >>> list(flat({"fit": {"epochs": 3}, "seed": 1}))
    [('fit.epochs', 3), ('seed', 1)]
    """
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _head(report: Report, names: str) -> str:
    entries = {
        "rows for training": html.count(report.rows.get("train", 0)),
        "rows for validation": html.count(report.rows.get("valid", 0)),
        "rows for test": html.count(report.rows.get("test", 0)),
        "parameters": html.count(report.parameters),
        "in all": f"{report.seconds:,.0f} s",
        **({"of them compiling": f"{report.compile_seconds:,.0f} s"} if report.compile_seconds else {}),
        "training": f"{report.rows_per_second:,.0f} rows/s",
        "peak memory": f"{report.peak_memory_bytes / 2**30:.2f} GiB",
    }
    under = f"<p class='mute'>{escape(names)} · seed {report.seed}</p>"
    odd = "".join(f"<li>{escape(line)}</li>" for line in report.aside.lines())
    return f"<header><h1>{escape(report.recipe)}</h1>{under}{html.facts(entries)}{odd and f'<ul>{odd}</ul>'}</header>"


def _results(title: str, tasks: Sequence[TaskReport]) -> str:
    sets = dict.fromkeys(tuple(task.figures.metrics) for task in tasks)
    parts = [metric_table([task for task in tasks if tuple(task.figures.metrics) == names], names) for names in sets]
    worst = "".join(f"<li>{_worst(task)}</li>" for task in tasks)
    return html.section(title, *parts, f"<ul>{worst}</ul>", html.folded("What the columns say", html.glossary(MEANINGS)))


def _counts(figures: Figures) -> str:
    if figures.positives is None:
        return html.words(html.count(figures.rows), f"{html.count(figures.users)} users")
    return html.words(html.count(figures.rows), f"{html.count(figures.positives)} positive")


def _worst(task: TaskReport) -> str:
    if isinstance(task.worst, Undefined):
        return f"{escape(task.name)}: no worst slice ({escape(task.worst.reason)})"
    value = f"{TITLES[task.worst.metric]} {html.number(task.worst.value.value)} ({html.span(task.worst.value)})"
    where = f"<b>{escape(task.worst.slice)}: {escape(task.worst.label)}</b>"
    return f"{escape(task.name)} is worst on {where}, {escape(value)}"


def _calibration(tasks: Sequence[TaskReport]) -> str:
    cards = []
    for at, task in enumerate(tasks):
        for space, figures in spaces(task):
            picture = reliability(figures.curve, name=task.name, colour=at % _COLOURS)
            rows = [[*map(html.words, (html.number(p.predicted), html.number(p.observed), html.count(p.rows)))] for p in figures.curve]
            bins = html.folded("bins and counts", html.table(["predicted", "observed", "rows"], rows))
            cards.append(html.card(f"<h3>{escape(task.name)}</h3><span class='mute'>{escape(space)}</span>", picture, bins))
    note = "A dot is a tenth of the rows, by prediction; on the dashed line what was predicted is what happened."
    return html.section("Calibration on test", f"<p>{note}</p>", html.grid(cards))


def _slices(tasks: Sequence[TaskReport]) -> str:
    names = list(dict.fromkeys(name for task in tasks for name in task.slices))
    if not names:
        return ""
    note = "The worst slice of a task is marked; the dashed line is the task on all its rows. Slices too small to judge say so."
    parts = [html.card(f"<h3>{escape(name)}</h3>", _slice_table(name, tasks)) for name in names]
    return html.section("Slices of test", f"<p>{note}</p>", *parts)


def _slice_table(name: str, tasks: Sequence[TaskReport]) -> str:
    """A row a label, a column a task; labels too small for every task are folded away."""
    labels = list(dict.fromkeys(label for task in tasks for label in task.slices.get(name, {})))
    head = ["", *(f"{task.name}, {TITLES[next(iter(task.figures.metrics))]}" for task in tasks)]
    small = [label for label in labels if not any(_judged(task, name, label) for task in tasks)]
    judged = [label for label in labels if label not in small]
    marked = frozenset(place for place, label in enumerate(judged) if _worst_for(name, label, tasks))
    table = html.table(head, [_slice_row(name, label, tasks) for label in judged], marked=marked)
    if not small:
        return table
    folded = html.folded(f"{len(small)} too small to judge", html.table(head, [_slice_row(name, label, tasks) for label in small]))
    return f"{table if judged else ''}{folded}"


def _slice_row(name: str, label: str, tasks: Sequence[TaskReport]) -> list[str]:
    figures = next(task.slices[name][label] for task in tasks if label in task.slices.get(name, {}))
    size = f"{html.count(figures.rows)} rows, {html.count(figures.users)} users"
    worst = _worst_for(name, label, tasks)
    badge = f"worst for {', '.join(worst)}" if worst else ""
    cells = [_slice_cell(task, name, label, colour=at % _COLOURS) for at, task in enumerate(tasks)]
    return [html.title_cell(label, size, badge), *cells]


def _judged(task: TaskReport, name: str, label: str) -> bool:
    figures = task.slices.get(name, {}).get(label)
    return figures is not None and isinstance(_first(figures), Interval)


def _worst_for(name: str, label: str, tasks: Sequence[TaskReport]) -> list[str]:
    return [task.name for task in tasks if isinstance(task.worst, Worst) and (task.worst.slice, task.worst.label) == (name, label)]


def _slice_cell(task: TaskReport, name: str, label: str, *, colour: int) -> str:
    found = task.slices.get(name, {})
    if label not in found:
        return html.cell(None)
    value = _first(found[label])
    if isinstance(value, Undefined):
        return html.cell(value)
    whole = _first(task.figures)
    intervals = [one for one in (whole, *map(_first, found.values())) if isinstance(one, Interval)]
    low = min(one.value if one.low is None else one.low for one in intervals)
    high = max(one.value if one.high is None else one.high for one in intervals)
    guide = whole.value if isinstance(whole, Interval) else None
    return html.cell(value, under=whisker(value, low=low, high=high, colour=colour, guide=guide))


def _first(figures: Figures) -> Interval | Undefined:
    return next(iter(figures.metrics.values()))


def _validation(tasks: Sequence[TaskReport]) -> str:
    if not tasks:
        return ""
    note = "<p>Calibrated by what was fitted on other users' validation rows; the best epoch was chosen on these rows, so they flatter.</p>"
    return html.section("Validation", html.folded("Figures on validation", note, _results("", tasks)))


def _run(report: Report) -> str:
    made = {"recipe": report.recipe, "seed": str(report.seed), "commit": report.commit or "unknown"} | dict(report.versions)
    versions = html.table(["what", ""], [[html.title_cell(key), html.plain(value)] for key, value in made.items()])
    parts = [html.card(versions)]
    if report.settings:
        parts.append(html.card(html.folded("All settings", settings_table(report.settings))))
    return html.section("What was run", *parts)
