"""transfer.html: the answer first, then gains by task, gains by group, what gradients and gates say, and the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import Verdict
from umbel.run import markup as html
from umbel.run.names import FALLS
from umbel.run.plots import whisker
from umbel.study.transfer.advice import Advice, Confidence
from umbel.study.transfer.groups import AGAINST, Cell
from umbel.study.transfer.labels import Labels, Overlap
from umbel.study.transfer.result import Transfer, delta_m
from umbel.study.transfer.why import groupings, heat, why
from umbel.study.variants import controlled
from umbel.study.verdict import Difference

TONES = {Confidence.CONFIRMED: "good", Confidence.CONTRADICTED: "warn"}
STRONG = .02  # a gain of AUC from which a cell of the heat map has its full colour


def transfer_page(study: Transfer) -> str:
    """The whole page; it loads nothing."""
    asked = groupings(study.probes, study.found) if study.probes else ""
    parts = [_answer(study.advice), _gains(study), _groups(study.cells), asked, why(study.why), _labels(study.labels)]
    return html.document("Does sharing help?", [part for part in parts if part])


def _answer(advice: Advice) -> str:
    first, *others = advice.says
    badge = f'<span class="badge {TONES.get(advice.confidence, "mute")}">{escape(advice.confidence)}</span>'
    points = "".join(f"<li>{escape(one)}</li>" for one in others)
    return f"<header><h1>Does sharing help?</h1><p><b>{escape(first)}</b> {badge}</p><ul>{points}</ul></header>"


def _gains(study: Transfer) -> str:
    """A forest plot of every recipe's gain, task by task: over separate models, then over shared views of the same total width."""
    note = (
        "Each recipe less separate models on the same users and seeds. The bar is the 95 % interval over users, the dashed line no "
        "difference. Mean gain: the mean over tasks of the relative difference, where separate models' figure is above 0."
    )
    width = (
        "Several views hold more numbers than one. Here each recipe that keeps several meets one shared view as wide as all of them: what "
        "is left is the views' own doing."
    )
    more = '<p><a href="compare/compare.html">The comparison behind it</a>, with every metric and what each recipe cost.</p>'
    means = {name: html.words("none" if value is None else f"{value:+.2f} %") for name, value in delta_m(study.found).items()}
    controls = [one for one in study.found.paired if controlled(one.against)]
    alone = [one for one in study.found.paired if one.against == AGAINST]
    wide = [f"<p>{width}</p>", *(html.card(f"<h3>against {escape(name)}</h3>", _forest([one for one in controls if one.against == name]))
                                 for name in dict.fromkeys(one.against for one in controls))] if controls else []  # fmt: skip
    return html.section("By task", f"<p>{note}</p>", html.card(_forest(alone, means)), *wide, more)


def _forest(pairs: Sequence[Difference], means: Mapping[str, str] | None = None) -> str:
    """A line a recipe, a column a task; `means` are ready cells for a last column."""
    tasks = list(dict.fromkeys(one.task for one in pairs))
    scales = {task: _scale([one for one in pairs if one.task == task]) for task in tasks}
    at = {(one.recipe, one.task): one for one in pairs}
    rows = [
        [html.title_cell(name), *(_gain(at.get((name, task)), scales[task]) for task in tasks), *([means[name]] if means else [])]
        for name in dict.fromkeys(one.recipe for one in pairs)
    ]
    return html.table(["recipe", *tasks, *(["mean gain"] if means else [])], rows)


def _scale(pairs: Sequence[Difference]) -> tuple[float, float]:
    """From the lowest bound of a task to the highest, 0 among them."""
    ends = [bound for one in pairs for bound in (one.paired.mean.low, one.paired.mean.value, one.paired.mean.high) if bound is not None]
    return min(0.0, *ends), max(0.0, *ends)


def _gain(pair: Difference | None, scale: tuple[float, float]) -> str:
    if pair is None:
        return html.cell(None)
    drawn = whisker(pair.paired.mean, low=scale[0], high=scale[1], guide=0.0)
    better = None if pair.verdict not in (Verdict.HIGHER, Verdict.LOWER) else (pair.verdict is Verdict.HIGHER) == (pair.metric not in FALLS)
    tone = {None: "mute", True: "good", False: "warn"}[better]
    return f'<td>{html.signed(pair.paired.mean.value)} <span class="badge {tone}">{escape(pair.verdict)}</span>{drawn}</td>'


def _groups(cells: Sequence[Cell]) -> str:
    """A heat map a split: gains of AUC over separate models, green above, red below; bold where it is more than noise."""
    note = (
        "Gain of AUC over separate models for each group of test rows. Users are grouped by their positives in the training rows: "
        "where neither task leads, samples are comparable. Bold: more than noise, over users and seeds, among all cells of a table."
    )
    splits = dict.fromkeys(one.split for one in cells)
    return html.section("For whom", f"<p>{note}</p>", *(_heat(name, [one for one in cells if one.split == name]) for name in splits))


def _heat(split: str, cells: Sequence[Cell]) -> str:
    recipes = [name for name in dict.fromkeys(one.recipe for one in cells) if name != AGAINST]
    at = {(one.task, one.group, one.recipe): one for one in cells}
    rows = []
    for task, group in dict.fromkeys((one.task, one.group) for one in cells):
        own = [at[task, group, name] for name in recipes]
        rows.append([html.title_cell(f"{task}, {group}", f"{own[0].rows:,} rows, {own[0].positives:,} positives"), *map(_heated, own)])
    return html.card(f"<h3>{escape(split)}</h3>", html.table(["task, users", *recipes], rows))


def _heated(cell: Cell) -> str:
    if cell.gain is None:
        return html.cell(cell.auc if isinstance(cell.auc, Undefined) else None)
    gain = cell.gain.mean
    bounds = gain.reason if gain.low is None or gain.high is None else f"{html.signed(gain.low)} to {html.signed(gain.high)}"
    return heat(gain.value, html.signed(gain.value), full=STRONG, note=bounds, strong=cell.loses or cell.wins)


def _labels(labels: Labels) -> str:
    supply = [
        [html.title_cell(one.task, "", "sparse" if one.sparse else ""), html.words(f"{one.positives:,}"), html.words(f"{one.rate:.2%}"),
         html.words(f"{one.users:,.0f}"), html.words(f"{one.seen:.0%}")]
        for one in labels.supplies
    ]  # fmt: skip
    overlap = [
        [html.title_cell(f"{one.first} and {one.second}", "", _mark(one)),
         *(html.words(f"{value:.3f}") for value in (one.correlation, one.information, one.second_in_first, one.first_in_second))]
        for one in labels.overlaps
    ]  # fmt: skip
    head = ["tasks", "correlation", "shared information", "second's positives in the first", "first's in the second"]
    cards = [html.card(html.table(["task", "positives", "rate", "users' worth", "rows seen"], supply))]
    note = (
        "Users' worth: how many users the positives would come from if all gave alike. A duplicate is one label under two names; a funnel "
        "is a task given another, which every one of its positives should have too."
    )
    return html.section("Labels", f"<p>{note}</p>", *cards, html.card(html.table(head, overlap)) if overlap else "")


def _mark(one: Overlap) -> str:
    if one.duplicate:
        return "duplicate"
    return "funnel broken" if one.funnel and one.funnel[2] < 1 else ""
