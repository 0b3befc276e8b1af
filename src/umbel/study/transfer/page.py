"""transfer.html: the answer first, then gains by task, gains by group, what gradients and gates say, and the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from umbel.evaluate.metrics import Undefined
from umbel.run import markup as html
from umbel.run.plots import curves, whisker
from umbel.study.transfer.advice import Advice, Confidence
from umbel.study.transfer.gradients import Affinity, Conflict
from umbel.study.transfer.groups import AGAINST, Cell
from umbel.study.transfer.labels import Labels
from umbel.study.transfer.listening import Abundance, Expert, Listening
from umbel.study.transfer.result import Transfer, delta_m
from umbel.study.transfer.witness import Probe, Witnessed
from umbel.study.verdict import Difference

TONES = {Confidence.CONFIRMED: "good", Confidence.CONTRADICTED: "warn"}
STRONG = .02  # a gain of AUC from which a cell of the heat map has its full colour
COLOURS = 6   # that the page has for lines
VIEW = "view"


def transfer_page(study: Transfer) -> str:
    """The whole page; it loads nothing."""
    parts = [_answer(study.advice), _gains(study), _groups(study.cells), _why(study.why), _labels(study.labels)]
    return html.document("Does sharing help?", parts)


def _answer(advice: Advice) -> str:
    first, *others = advice.says
    badge = f'<span class="badge {TONES.get(advice.confidence, "mute")}">{escape(advice.confidence)}</span>'
    points = "".join(f"<li>{escape(one)}</li>" for one in others)
    return f"<header><h1>Does sharing help?</h1><p><b>{escape(first)}</b> {badge}</p><ul>{points}</ul></header>"


def _gains(study: Transfer) -> str:
    """A forest plot of every recipe's gain over separate models, task by task."""
    pairs = [one for one in study.found.paired if one.against == AGAINST]
    tasks = list(dict.fromkeys(one.task for one in pairs))
    scales = {task: _scale([one for one in pairs if one.task == task]) for task in tasks}
    at = {(one.recipe, one.task): one for one in pairs}
    means = delta_m(study.found)
    rows = [
        [html.title_cell(name), *(_gain(at.get((name, task)), scales[task]) for task in tasks), html.words(f"{means[name]:+.2f} %")]
        for name in dict.fromkeys(one.recipe for one in pairs)
    ]
    note = (
        "Each recipe less separate models on the same users and seeds. The bar is the 95 % interval over users, the dashed line no "
        "difference. Mean gain: the mean over tasks of the relative difference."
    )
    more = '<p><a href="compare/compare.html">The comparison behind it</a>, with every metric and what each recipe cost.</p>'
    return html.section("By task", f"<p>{note}</p>", html.card(html.table(["recipe", *tasks, "mean gain"], rows)), more)


def _scale(pairs: Sequence[Difference]) -> tuple[float, float]:
    """From the lowest bound of a task to the highest, 0 among them."""
    ends = [bound for one in pairs for bound in (one.paired.mean.low, one.paired.mean.value, one.paired.mean.high) if bound is not None]
    return min(0.0, *ends), max(0.0, *ends)


def _gain(pair: Difference | None, scale: tuple[float, float]) -> str:
    if pair is None:
        return html.cell(None)
    drawn = whisker(pair.paired.mean, low=scale[0], high=scale[1], guide=0.0)
    return f'<td>{html.signed(pair.paired.mean.value)} <span class="badge mute">{escape(pair.verdict)}</span>{drawn}</td>'


def _groups(cells: Sequence[Cell]) -> str:
    """A heat map a split: gains of AUC over separate models, green above, red below; bold where it is more than noise."""
    note = (
        "Gain of AUC over separate models for each group of test rows. Users are grouped by their positives in the training rows: "
        "where neither task leads, samples are comparable. Bold: the interval over users and every seed lie on one side of 0."
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
    share = 40 * min(1.0, abs(gain.value) / STRONG)
    colour = "--good" if gain.value > 0 else "--warn"
    value = f"<b>{html.signed(gain.value)}</b>" if cell.loses or cell.wins else html.signed(gain.value)
    bounds = gain.reason if gain.low is None or gain.high is None else f"{html.signed(gain.low)} to {html.signed(gain.high)}"
    style = f"background: color-mix(in srgb, var({colour}) {share:.0f}%, var(--card))"
    return f'<td style="{style}">{value}<small>{escape(bounds)}</small></td>'


def _why(seen: Mapping[str, Witnessed]) -> str:
    note = (
        "One training of each recipe, looked at after every epoch. Cosine: do two tasks pull shared parameters the same way (1), past each "
        "other (0) or apart (below 0)? Help: by how many percent the loss of a task falls when shared parameters take a step that lowers "
        "the other task's loss by 1 %. These are hints; the gains above are the evidence."
    )
    return html.section("Why", f"<p>{note}</p>", *(_recipe(name, one) for name, one in seen.items()))


def _recipe(name: str, seen: Witnessed) -> str:
    if not seen.epochs:
        return html.folded(name, "<p>What was seen of this training is lost; remove its folder to look again.</p>")
    last = seen.epochs[-1]
    wishes = _cosines(seen.epochs), _conflicts(last.conflicts), _help(last.affinities)
    return html.folded(name, *wishes, _gates(last.gates, last.experts), _tables(seen.tables))


def _cosines(epochs: Sequence[Probe]) -> str:
    """One small plot a pair of tasks: the cosine at the shared views over epochs."""
    pairs = dict.fromkeys(one.tasks for epoch in epochs for one in epoch.conflicts if one.layer == VIEW)
    cards = []
    for colour, pair in enumerate(pairs):
        at = [{one.tasks: one.cosine for one in epoch.conflicts if one.layer == VIEW}.get(pair) for epoch in epochs]
        name = f"cosine, {' and '.join(pair)}"
        cards.append(html.card(f"<h3>{escape(name)}</h3>", curves(at, name=name, colour=colour % COLOURS, reading="above 0 they agree")))
    return html.grid(cards) if cards else "<p>No view is shared: nothing to disagree about there.</p>"


def _conflicts(found: Sequence[Conflict]) -> str:
    pairs = dict.fromkeys(one.tasks for one in found)
    at = {(one.layer, one.tasks): one for one in found}
    layers = dict.fromkeys(one.layer for one in found)
    rows = [[html.title_cell(layer), *(_cosine(at.get((layer, pair))) for pair in pairs)] for layer in layers]
    return html.card(html.table(["cosine at the last epoch", *(" and ".join(pair) for pair in pairs)], rows)) if rows else ""


def _cosine(one: Conflict | None) -> str:
    return html.cell(None) if one is None else html.words(f"{one.cosine:+.3f}", f"{one.conflicts:.0%} of batches in conflict")


def _help(found: Sequence[Affinity]) -> str:
    tasks = list(dict.fromkeys(name for one in found for name in (one.helper, one.helped)))
    at = {(one.helper, one.helped): f"{one.percent:+.2f} %" for one in found}
    rows = [[html.title_cell(helper), *(html.words(at.get((helper, task), "")) for task in tasks)] for helper in tasks]
    return html.card(html.table(["a step for", *(f"helps {task}" for task in tasks)], rows)) if tasks else ""


def _gates(gates: Sequence[Listening], experts: Sequence[Expert]) -> str:
    rows = [[html.title_cell(one.task), *map(_share, (one.own, one.shared, one.others, one.entropy))] for one in gates]
    dead = [f"layer {one.layer} expert {one.expert}" for one in experts if one.dead]
    note = f"Dead experts: {', '.join(dead)}." if dead else f"None of the {len(experts)} experts is dead."
    table = html.table(["task listens to", "own experts", "shared ones", "other tasks'", "entropy"], rows)
    return html.card(table, f"<p>{escape(note)}</p>") if gates else ""


def _share(value: float | None) -> str:
    return html.words("" if value is None else f"{value:.2f}")


def _tables(found: Sequence[Abundance]) -> str:
    at = {(one.table, one.view): html.words(f"{one.value:.1f}", f"of {one.width}") for one in found}
    views = sorted({one.view for one in found})
    names = dict.fromkeys(one.table for one in found)
    rows = [[html.title_cell(name), *(at.get((name, view), html.cell(None)) for view in views)] for name in names]
    return html.card("<h3>Directions in use</h3>", html.table(["table", *(f"view {view}" for view in views)], rows)) if rows else ""


def _labels(labels: Labels) -> str:
    supply = [
        [html.title_cell(one.task, "", "sparse" if one.sparse else ""), html.words(f"{one.positives:,}"), html.words(f"{one.rate:.2%}"),
         html.words(f"{one.users:,.0f}"), html.words(f"{one.seen:.0%}")]
        for one in labels.supplies
    ]  # fmt: skip
    overlap = [
        [html.title_cell(f"{one.first} and {one.second}", "", "one label twice" if one.duplicate else ""),
         *(html.words(f"{value:.3f}") for value in (one.correlation, one.information, one.second_in_first, one.first_in_second))]
        for one in labels.overlaps
    ]  # fmt: skip
    head = ["tasks", "correlation", "shared information", "second's positives in the first", "first's in the second"]
    cards = [html.card(html.table(["task", "positives", "rate", "users' worth", "rows seen"], supply))]
    return html.section("Labels", *cards, html.card(html.table(head, overlap)) if overlap else "")
