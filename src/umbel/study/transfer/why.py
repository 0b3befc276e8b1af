"""The sections of transfer.html that say why: groupings and what they promise, help, cosines, gates and tables over epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from umbel.run import markup as html
from umbel.run.plots import curves
from umbel.study.transfer.gradients import Conflict
from umbel.study.transfer.listening import Abundance, Ear, Expert, Listening
from umbel.study.transfer.probed import Grouping, Probed
from umbel.study.transfer.witness import Probe, Witnessed
from umbel.study.verdict import Comparison

COLOURS = 6    # that the page has for lines
FEW = 6        # plots that stand open
VIEW = "view"
HELPFUL = 0.5  # percent of help from which a cell has its full colour
ALIGNED = 0.5  # the same for a cosine


def heat(value: float, text: str, *, full: float, note: str = "", strong: bool = False) -> str:
    """A cell of a heat map: green above 0, red below, in full colour from `full`; bold if `strong`."""
    share = 40 * min(1.0, abs(value) / full)
    style = f"background: color-mix(in srgb, var({'--good' if value > 0 else '--warn'}) {share:.0f}%, var(--card))"
    small = f"<small>{escape(note)}</small>" if note else ""
    return f'<td style="{style}">{f"<b>{escape(text)}</b>" if strong else escape(text)}{small}</td>'


def groupings(probes: Probed, found: Comparison) -> str:
    """What the probes ask for, and how it stood once trained."""
    note = (
        "Who helps whom: by how many percent the loss of the column's task falls when the parameters that all share take a step that "
        "lowers the row's own loss by 1 %, over the later epochs of one training. A grouping promises the mean help inside its groups. The "
        "first ones were trained; validation is where the choice is made. Pulled apart: the share of batches in which tasks want "
        "opposite things of a field's table."
    )
    nats = (
        f" Of {', '.join(probes.nats)} percent are of a nat for each row above 0: the loss is minus the logarithm of a density, which "
        "has no zero of its own, as the label's unit moves it."
    ) if probes.nats else ""  # fmt: skip
    cards = [html.card("<h3>Help between tasks</h3>", _helps(probes))]
    if len(probes.groupings) > 1:
        cards.append(html.card("<h3>Groupings</h3>", _ranking(probes.groupings, found)))
    if probes.pulled:
        cards.append(html.card("<h3>Fields</h3>", _fields(probes)))
    return html.section("Who should share", f"<p>{note}{escape(nats)}</p>", *cards)


def why(seen: Mapping[str, Witnessed]) -> str:
    """One training of each recipe that shares, as it was seen epoch by epoch."""
    note = (
        "One training of each recipe, looked at after every epoch. Cosine: do two tasks pull shared parameters the same way (1), past each "
        "other (0) or apart (below 0)? These are hints; the gains above are the evidence."
    )
    return html.section("Why", f"<p>{note}</p>", *(_recipe(name, one) for name, one in seen.items()))


def _helps(probes: Probed) -> str:
    rows = []
    for name, line in zip(probes.tasks, probes.helps, strict=True):
        others = [_help(value, own=name == other) for other, value in zip(probes.tasks, line, strict=True)]
        rows.append([html.title_cell(f"a step for {name}"), *others])
    return html.table(["", *(f"helps {name}" for name in probes.tasks)], rows)


def _help(value: float, *, own: bool) -> str:
    return html.cell(None) if own else heat(value, f"{value:+.2f} %", full=HELPFUL)


def _ranking(ranking: Sequence[Grouping], found: Comparison) -> str:
    scores = {one.name: one.cost.score for one in found.recipes}
    rows = [
        [html.title_cell(" · ".join(" + ".join(group) for group in one.groups)), html.words(f"{one.worth:+.3f} %"),
         html.words(html.number(scores[one.entrant]) if one.entrant in scores else "not trained")]
        for one in ranking
    ]  # fmt: skip
    return html.table(["grouping", "promise", "validation score"], rows)


def _fields(probes: Probed) -> str:
    rows = [
        [html.title_cell(name), html.words(f"{share:.0%}"), html.words("of the tasks' own" if name in probes.own else "shared")]
        for name, share in sorted(probes.pulled.items(), key=lambda one: -one[1])
    ]
    return html.table(["field", "pulled apart", "table"], rows)


def _recipe(name: str, seen: Witnessed) -> str:
    if not seen.epochs:
        return html.folded(name, "<p>What was seen of this training is lost; remove its folder to look again.</p>")
    last = seen.epochs[-1]
    gates = _gates(last.gates, last.experts), _ears(seen.ears)
    return html.folded(name, _curves(seen.epochs), _conflicts(last.conflicts), *gates, _tables(seen.tables))


def _curves(epochs: Sequence[Probe]) -> str:
    """Small plots over epochs: the cosine at the shared views and the help, a pair of tasks each, and how widely each task listens."""
    pairs = dict.fromkeys(one.tasks for epoch in epochs for one in epoch.conflicts if one.layer == VIEW)
    steps = dict.fromkeys((one.helper, one.helped) for epoch in epochs for one in epoch.affinities)
    tasks = dict.fromkeys(one.task for epoch in epochs for one in epoch.gates if one.entropy is not None)
    cosines = [(f"cosine, {' and '.join(pair)}", [_cosine_of(epoch, pair) for epoch in epochs], "above 0 they agree") for pair in pairs]
    helps = [(f"{' helps '.join(step)}, percent", [_help_of(epoch, step) for epoch in epochs], "above 0 it helps") for step in steps]
    wide = [(f"gate entropy, {task}", [_entropy_of(epoch, task) for epoch in epochs], "1 hears all alike") for task in tasks]
    parts = [_plots(title, some) for title, some in (("cosines", cosines), ("help", helps), ("gates", wide))]
    return "".join(parts) if pairs else f"<p>No view is shared: nothing to disagree about there.</p>{parts[-1]}"


def _plots(title: str, drawn: Sequence[tuple[str, Sequence[float | None], str]]) -> str:
    if not drawn:
        return ""
    cards = [
        html.card(f"<h3>{escape(name)}</h3>", curves(values, name=name, colour=number % COLOURS, reading=reading))
        for number, (name, values, reading) in enumerate(drawn)
    ]
    return html.grid(cards) if len(cards) <= FEW else html.folded(f"{title} over epochs, {len(cards)} plots", html.grid(cards))


def _cosine_of(epoch: Probe, pair: tuple[str, str]) -> float | None:
    return {one.tasks: one.cosine for one in epoch.conflicts if one.layer == VIEW}.get(pair)


def _help_of(epoch: Probe, step: tuple[str, str]) -> float | None:
    return {(one.helper, one.helped): one.percent for one in epoch.affinities}.get(step)


def _entropy_of(epoch: Probe, task: str) -> float | None:
    return {one.task: one.entropy for one in epoch.gates}.get(task)


def _conflicts(found: Sequence[Conflict]) -> str:
    pairs = dict.fromkeys(one.tasks for one in found)
    at = {(one.layer, one.tasks): one for one in found}
    layers = dict.fromkeys(one.layer for one in found)
    rows = [[html.title_cell(layer), *(_cosine(at.get((layer, pair))) for pair in pairs)] for layer in layers]
    return html.card(html.table(["cosine at the last epoch", *(" and ".join(pair) for pair in pairs)], rows)) if rows else ""


def _cosine(one: Conflict | None) -> str:
    if one is None:
        return html.cell(None)
    return heat(one.cosine, f"{one.cosine:+.3f}", full=ALIGNED, note=f"{one.conflicts:.0%} of batches in conflict")


def _gates(gates: Sequence[Listening], experts: Sequence[Expert]) -> str:
    rows = [[html.title_cell(one.task), *map(_share, (one.own, one.shared, one.others, one.entropy))] for one in gates]
    dead = [f"layer {one.layer} expert {one.expert}" for one in experts if one.dead]
    note = f"Dead experts: {', '.join(dead)}." if dead else f"None of the {len(experts)} experts is dead."
    table = html.table(["task listens to", "own experts", "shared ones", "other tasks'", "entropy"], rows)
    return html.card(table, f"<p>{escape(note)}</p>") if gates else ""


def _ears(ears: Sequence[Ear]) -> str:
    """Whom tasks listen to by group of users, of the best epoch."""
    heard = [(ear, one) for ear in ears for one in ear.gates if ear.rows]
    rows = [[html.title_cell(f"{ear.split}: {ear.group}", f"{ear.rows:,} rows"), html.words(one.task),
             *map(_share, (one.own, one.shared, one.others))] for ear, one in heard]  # fmt: skip
    table = html.table(["users", "task", "own experts", "shared ones", "other tasks'"], rows)
    return html.folded("whom tasks listen to, by group of users", html.card(table)) if rows else ""


def _share(value: float | None) -> str:
    return html.words("" if value is None else f"{value:.2f}")


def _tables(found: Sequence[Abundance]) -> str:
    at = {(one.table, one.view): html.words(f"{one.value:.1f}", f"of {one.width}") for one in found}
    views = sorted({one.view for one in found})
    names = dict.fromkeys(one.table for one in found)
    rows = [[html.title_cell(name), *(at.get((name, view), html.cell(None)) for view in views)] for name in names]
    return html.card("<h3>Directions in use</h3>", html.table(["table", *(f"view {view}" for view in views)], rows)) if rows else ""
