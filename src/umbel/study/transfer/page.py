"""transfer.html: the answer first, then gains a task, gains a group, what gradients and gates say, and the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from umbel.evaluate.intervals import Interval
from umbel.run import markup as html
from umbel.run.plots import curves, whisker

Json = Mapping[str, Any]
TONES = {"confirmed": "good", "no worse": "mute", "open": "mute", "contradicted": "warn"}
STRONG = .02  # a gain of AUC from which a cell of the heat map has its full colour


def transfer_page(study: Json) -> str:
    """The whole page from the content of `transfer.json`; it loads nothing."""
    parts = [_answer(study["advice"]), _gains(study), _groups(study["groups"]), _why(study["why"]), _labels(study["labels"])]
    return html.document("Does sharing help?", parts)


def _answer(advice: Json) -> str:
    first, *others = advice["says"]
    badge = f'<span class="badge {TONES[advice["confidence"]]}">{escape(advice["confidence"])}</span>'
    points = "".join(f"<li>{escape(one)}</li>" for one in others)
    return f"<header><h1>Does sharing help?</h1><p><b>{escape(first)}</b> {badge}</p><ul>{points}</ul></header>"


def _gains(study: Json) -> str:
    """A forest plot of every recipe's gain over separate models, task by task, and the comparison behind it."""
    pairs = [one for one in study["compare"]["paired"] if one["against"] == "alone"]
    tasks = list(dict.fromkeys(one["task"] for one in pairs))
    bounds = [bound for one in pairs for bound in (one["low"], one["high"]) if bound is not None] or [0.0]
    scale = min(0.0, *bounds), max(0.0, *bounds)
    at = {(one["recipe"], one["task"]): one for one in pairs}
    rows = [
        [html.title_cell(name), *(_gain(at.get((name, task)), scale) for task in tasks), html.words(f"{study['delta_m'][name]:+.2f} %")]
        for name in dict.fromkeys(one["recipe"] for one in pairs)
    ]
    note = (
        "Each recipe less separate models on the same users and seeds. The bar is the 95 % interval over users, the dashed line no "
        "difference. Mean gain: the mean over tasks of the relative difference."
    )
    whole = '<p><a href="compare/compare.html">The comparison behind it</a>, with every metric and what each recipe cost.</p>'
    return html.section("By task", f"<p>{note}</p>", html.card(html.table(["recipe", *tasks, "mean gain"], rows)), whole)


def _gain(pair: Json | None, scale: tuple[float, float]) -> str:
    if pair is None or pair["mean"] is None:
        return html.cell(None)
    measured = Interval(pair["mean"], pair["low"], pair["high"])
    drawn = whisker(measured, low=scale[0], high=scale[1], guide=0.0)
    return f'<td>{html.signed(pair["mean"])} <span class="badge mute">{escape(pair["verdict"])}</span>{drawn}</td>'


def _groups(cells: Sequence[Json]) -> str:
    """A heat map a split and task: gains of AUC over separate models, green above, red below; bold where it is more than noise."""
    note = (
        "Gain of AUC over separate models for each group of test rows. Users are grouped by their positives in the training rows: "
        "where neither task leads, samples are comparable. Bold: the interval over users and every seed lie on one side of 0."
    )
    splits = dict.fromkeys(one["split"] for one in cells)
    return html.section("For whom", f"<p>{note}</p>", *(_heat(name, [one for one in cells if one["split"] == name]) for name in splits))


def _heat(split: str, cells: Sequence[Json]) -> str:
    recipes = [name for name in dict.fromkeys(one["recipe"] for one in cells) if name != "alone"]
    at = {(one["group"], one["task"], one["recipe"]): one for one in cells}
    rows = []
    for task, group in dict.fromkeys((one["task"], one["group"]) for one in cells):
        own = [at.get((group, task, name)) for name in recipes]
        known = next(one for one in own if one is not None)
        rows.append([html.title_cell(f"{task}, {group}", f"{known['rows']:,} rows, {known['positives']:,} positives"), *map(_heated, own)])
    return html.card(f"<h3>{escape(split)}</h3>", html.table(["task, users", *recipes], rows))


def _heated(cell: Json | None) -> str:
    if cell is None or cell["gain"] is None:
        return html.cell(None) if cell is None else f'<td class="reason">—<small>{escape(cell["auc"].get("reason", ""))}</small></td>'
    gain = cell["gain"]
    share = min(1.0, abs(gain["value"]) / STRONG)
    colour = "--good" if gain["value"] > 0 else "--warn"
    sure = gain.get("low") is not None and gain["low"] * gain["high"] > 0 and min(cell["seeds"]) * max(cell["seeds"]) > 0
    value = html.signed(gain["value"])
    bounds = f"{html.signed(gain['low'])} to {html.signed(gain['high'])}" if gain.get("low") is not None else "too few users"
    style = f"background: color-mix(in srgb, var({colour}) {40 * share:.0f}%, var(--card))"
    return f'<td style="{style}">{f"<b>{value}</b>" if sure else value}<small>{bounds}</small></td>'


def _why(seen: Mapping[str, Json]) -> str:
    note = (
        "One training of each recipe, looked at after every epoch. Cosine: do two tasks pull shared parameters the same way (1), past each "
        "other (0) or apart (below 0)? Help: by how many percent the loss of a task falls when shared parameters take a step that lowers "
        "the other task's loss by 1 %. These are hints; the gains above are the evidence."
    )
    return html.section("Why", f"<p>{note}</p>", *(_recipe(name, one) for name, one in seen.items()))


def _recipe(name: str, seen: Json) -> str:
    epochs = seen["epochs"]
    if not epochs:
        return ""
    last = epochs[-1]
    parts = [_cosines(epochs), _conflicts(last["conflicts"]), _help(last["affinities"]), _gates(last["gates"], last["experts"])]
    return html.folded(name, *(part for part in (*parts, _tables(seen["tables"])) if part))


def _cosines(epochs: Sequence[Json]) -> str:
    """One small plot a pair of tasks: the cosine at the shared views over epochs."""
    series: dict[tuple[str, ...], list[float | None]] = {}
    for epoch in epochs:
        for one in epoch["conflicts"]:
            if one["layer"] == "view":
                series.setdefault(tuple(one["tasks"]), []).append(one["cosine"])
    plots = [
        f"<h3>cosine, {escape(one)} and {escape(other)}</h3>"
        + curves(values, name=f"cosine, {one} and {other}", colour=colour % 6, reading="above 0 they agree")
        for colour, ((one, other), values) in enumerate(series.items())
    ]
    return html.grid([html.card(plot) for plot in plots]) if plots else "<p>No view is shared: nothing to disagree about there.</p>"


def _conflicts(found: Sequence[Json]) -> str:
    pairs = dict.fromkeys(tuple(one["tasks"]) for one in found)
    at = {(one["layer"], tuple(one["tasks"])): one for one in found}
    rows = [
        [html.title_cell(layer), *(_cosine(at.get((layer, pair))) for pair in pairs)]
        for layer in dict.fromkeys(one["layer"] for one in found)
    ]
    head = ["cosine at the last epoch", *(" and ".join(pair) for pair in pairs)]
    return html.card(html.table(head, rows)) if rows else ""


def _cosine(one: Json | None) -> str:
    return html.cell(None) if one is None else html.words(f"{one['cosine']:+.3f}", f"{one['conflicts']:.0%} of batches in conflict")


def _help(found: Sequence[Json]) -> str:
    tasks = list(dict.fromkeys(name for one in found for name in (one["helper"], one["helped"])))
    at = {(one["helper"], one["helped"]): one["percent"] for one in found}
    rows = [
        [html.title_cell(helper), *(html.words("" if (helper, task) not in at else f"{at[helper, task]:+.2f} %") for task in tasks)]
        for helper in tasks
    ]
    return html.card(html.table(["a step for", *(f"helps {task}" for task in tasks)], rows)) if tasks else ""


def _gates(gates: Sequence[Json], experts: Sequence[Json]) -> str:
    rows = [
        [html.title_cell(one["task"]), *(html.words(f"{one[name]:.2f}") for name in ("own", "shared", "others")),
         html.words("" if one["entropy"] is None else f"{one['entropy']:.2f}")]
        for one in gates
    ]  # fmt: skip
    dead = [f"layer {one['layer']} expert {one['expert']}" for one in experts if one["dead"]]
    note = f"<p>Dead experts: {escape(', '.join(dead))}.</p>" if dead else f"<p>None of the {len(experts)} experts is dead.</p>"
    table = html.table(["task listens to", "own experts", "shared ones", "other tasks'", "entropy"], rows)
    return html.card(table, note) if gates else ""


def _tables(found: Sequence[Json]) -> str:
    names = dict.fromkeys(one["table"] for one in found)
    views = sorted({one["view"] for one in found})
    at = {(one["table"], one["view"]): one for one in found}
    rows = [[html.title_cell(name), *(_abundance(at.get((name, view))) for view in views)] for name in names]
    return html.card("<h3>Directions in use</h3>", html.table(["table", *(f"view {view}" for view in views)], rows)) if rows else ""


def _abundance(one: Json | None) -> str:
    return html.cell(None) if one is None else html.words(f"{one['value']:.1f}", f"of {one['width']}")


def _labels(labels: Json) -> str:
    supply = [
        [html.title_cell(one["task"], "", "sparse" if one["sparse"] else ""), html.words(f"{one['positives']:,}"),
         html.words(f"{one['rate']:.2%}"), html.words(f"{one['users']:,.0f}"), html.words(f"{one['seen']:.0%}")]
        for one in labels["supply"]
    ]  # fmt: skip
    overlap = [
        [html.title_cell(f"{one['first']} and {one['second']}", "", "one label twice" if one["duplicate"] else ""),
         *(html.words(f"{one[name]:.3f}") for name in ("correlation", "information", "second_in_first", "first_in_second"))]
        for one in labels["overlap"]
    ]  # fmt: skip
    head = ["tasks", "correlation", "shared information", "second's positives in the first", "first's in the second"]
    return html.section(
        "Labels",
        html.card(html.table(["task", "positives", "rate", "users' worth", "rows seen"], supply)),
        html.card(html.table(head, overlap)) if overlap else "",
    )
