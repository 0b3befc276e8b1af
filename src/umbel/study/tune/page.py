"""tune.html: the chosen settings, how the search went, what mattered, what an objective costs in another, all trials, the test part."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from umbel.run import markup as html
from umbel.run.comparison import sections
from umbel.study.tune.dimension import Point
from umbel.study.tune.pictures import front, progress
from umbel.study.tune.point import in_effect
from umbel.study.tune.result import Tuned
from umbel.study.tune.search import Tried

TONES = {"complete": "mute", "pruned": "mute", "failed": "warn"}


def tune_page(found: Tuned) -> str:
    """The whole page; it loads nothing."""
    parts = [_head(found), _went(found), _mattered(found.importances), _front(found), *sections(found.test), _trials(found)]
    return html.document(f"Search: {', '.join(found.objectives)}", [part for part in parts if part])


def spelt(value: object) -> str:
    """A searched value, short.

    Example
    -------
    >>> spelt(0.000123456), spelt("stem"), spelt(8)
    ('0.0001235', 'stem', '8')
    """
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def short(key: str) -> str:
    """A dotted key without the section that most have.

    Example
    -------
    >>> short("model.recipe"), short("fit.rate"), short("tasks.like.weight")
    ('recipe', 'rate', 'tasks.like.weight')
    """
    return key.removeprefix("model.").removeprefix("fit.")


def written(point: Point) -> str:
    """The settings of a point that were in effect, in one line.

    Example
    -------
    >>> written({"fit.rate": 0.00123456, "model.recipe": "stem"})
    'rate 0.001235, recipe stem'
    """
    return ", ".join(f"{short(key)} {spelt(value)}" for key, value in in_effect(point).items())


def _head(found: Tuned) -> str:
    one = found.chosen
    values = ", ".join(f"{name} {html.number(value)}" for name, value in zip(found.objectives, one.values, strict=True))
    why = f"the best {found.objectives[0]} of {len(found.front)} that no other beats" if len(found.objectives) > 1 else "the best"
    facts = {"trials": str(len(found.trials)), **{state: str(number) for state, number in found.counts.items()}}
    facts["test reads"] = str(found.reads)
    chosen = f"<p><b>Trial {one.number}: {escape(values)}</b>, {escape(why)} on validation.</p>"
    leaves = f"<p><code>{escape(written(one.point))}</code></p>"
    leaves += '<p><a href="best/report.html">Its report</a>, and its run file: <code>best.toml</code>.</p>'
    return f"<header><h1>Search</h1>{html.facts(facts)}{chosen}{leaves}</header>"


def _went(found: Tuned) -> str:
    note = "A dot is a finished trial on validation, the line the best so far; the ringed one is chosen."
    name = found.objectives[0]
    return html.section("How it went", f"<p>{note}</p>", html.grid([html.card(f"<h3>{escape(name)}</h3>", progress(found))]))


def _mattered(importances: Mapping[str, float]) -> str:
    if not importances:
        return ""
    note = (
        "The share of the first objective's spread over finished trials that each setting explains (fANOVA, Hutter et al., ICML 2014). "
        "It speaks of the space that was searched, and is rough where trials are few."
    )
    rows = [[html.title_cell(key), html.words(f"{share:.0%}"), _bar(share)] for key, share in importances.items()]
    return html.section("What mattered", f"<p>{note}</p>", html.card(html.table(["setting", "share", ""], rows)))


def _bar(share: float) -> str:
    drawn = f'<rect x="0" y="5" width="{110 * share:.1f}" height="6" rx="2" fill="var(--c0)"/>'
    return f'<td><svg class="whisker" viewBox="0 0 110 16" aria-hidden="true">{drawn}</svg></td>'


def _front(found: Tuned) -> str:
    if len(found.objectives) < 2:
        return ""
    note = "Trials that no other beats in one objective without losing in another are in blue, the chosen one is ringed."
    cards = [
        html.card(f"<h3>{escape(found.objectives[0])} against {escape(found.objectives[other])}</h3>", front(found, other))
        for other in range(1, len(found.objectives))
    ]
    rows = [[html.title_cell(f"trial {number}"), *map(_value, found.trials[number].values)] for number in found.front]
    return html.section("The front", f"<p>{note}</p>", html.grid(cards), html.card(html.table(["", *found.objectives], rows)))


def _trials(found: Tuned) -> str:
    keys = list(found.space)
    tasks = list(found.chosen.outcome.tasks) if found.chosen.outcome else []
    head = ["trial", *found.objectives, *(f"{task}, valid" for task in tasks), "epochs", "parameters", "latency", "time", *map(short, keys)]
    rows = [_trial(one, found, tasks=tasks, keys=keys) for one in found.trials]
    chosen = frozenset({found.chosen.number})
    budget = f"at most {found.epochs} epochs of the same training rows"
    note = (
        f"Every trial had the same budget, {budget}. A setting that its recipe or balancer does not take is left out. "
        "Latency: the median for 200 rows on one thread. The chosen trial is shaded."
    )
    return html.section("Trials", f"<p>{note}</p>", html.card(html.table(head, rows, marked=chosen)))


def _trial(one: Tried, found: Tuned, *, tasks: list[str], keys: list[str]) -> list[str]:
    values = [_value(value) for value in one.values] or [html.words("") for _ in found.objectives]
    cells = [html.title_cell(str(one.number), one.reason, "" if one.state == "complete" else one.state), *values]
    cells += [_value(None if one.outcome is None else one.outcome.tasks.get(task)) for task in tasks]
    held = in_effect(one.point)
    return [*cells, *_cost(one), *(html.words(spelt(held.get(key, ""))) for key in keys)]


def _cost(one: Tried) -> list[str]:
    if one.outcome is None:
        return [html.words(str(len(one.scores) or "")), *(html.words("") for _ in range(3))]
    cost = one.outcome.trial
    texts = (str(one.outcome.epochs), f"{cost.parameters:,}", f"{one.outcome.latency:.2f} ms", f"{cost.seconds:.0f} s")
    return [html.words(text) for text in texts]


def _value(value: float | None) -> str:
    return html.words("" if value is None else html.number(value))
