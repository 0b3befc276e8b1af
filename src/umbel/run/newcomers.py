"""The part of a report that tells of new users: every scenario, the curve over the support, for whom it is worst, and the ladder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from umbel.coldstart.figures import ColdFigures, Told
from umbel.coldstart.rungs import Climb
from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.robust import Robustness
from umbel.run import markup as html
from umbel.run.names import OF_USERS
from umbel.run.names import TITLES as METRICS
from umbel.run.plots import Line, grown, key
from umbel.run.record import measured_from_json, measured_to_json

Json = Mapping[str, Any]
TITLES = {"warm": "known user, known items", "user_cold": "new user", "item_cold": "new items", "both_cold": "new user, new items"}
NOTE = (
    "The model adapts to a user's support rows and is judged on query rows it has not seen. Intervals are over users (95 %). "
    "Figures further down are the shared model's, adapted to nobody."
)
RUNGS = {"content": "attributes alone", "head": "last layer in closed form", "steps": "gradient steps", "id": "the id's embedding"}


@dataclass(frozen=True, slots=True)
class Served:
    """A ladder (none where it could not be chosen), and what test users get by it, by the size of the support."""

    climbed: Climb | None = None
    curve: Mapping[int, Told | Undefined] = field(default_factory=dict)


def to_json(method: str, found: ColdFigures, served: Served, *, lost: Mapping[str, int]) -> dict[str, object]:
    """What `report.json` holds under `episodes`; `lost` counts inner steps that were not taken, in training and on test users."""
    return {
        "method": method,
        "scenarios": {name: _told(one) for name, one in found.scenarios.items()},
        "curve": {str(shots): _told(one) for shots, one in found.curve.items()},
        "groups": {task: {name: groups_to_json(one) for name, one in by.items()} for task, by in found.groups.items()},
        "ladder": None if served.climbed is None else _ladder(served.climbed),
        "served": {str(shots): _told(one) for shots, one in served.curve.items()},
        "lost_steps": dict(lost),
    }


def groups_to_json(one: Robustness) -> dict[str, object]:
    """Every group, the worst of them by name, and the spread; null with the reason where there is none."""
    groups = [{"name": group.name, "users": group.users, **measured_to_json(group.figure)} for group in one.groups]
    worst = {"name": None, "reason": one.worst.reason} if isinstance(one.worst, Undefined) else {"name": one.worst.name}
    return {"groups": groups, "worst": worst, "spread": measured_to_json(one.spread)}


def worst_group(saved: Json) -> tuple[str, str, Interval | Undefined]:
    """The name of the worst group as `groups_to_json` has it, how many users it has, and its figure; no name where there is none."""
    worst = saved["worst"]
    for group in saved["groups"]:
        if group["name"] == worst["name"]:
            figure = {name: group[name] for name in ("value", "low", "high", "reason") if name in group}
            return group["name"], f"{group['users']:,} users", measured_from_json(figure)
    return "", "", Undefined(worst.get("reason", ""))


def section(saved: Json) -> str:
    """The page's section."""
    if not saved:
        return ""
    parts = [_scenarios(saved["scenarios"]), *_curves(saved), _worst(saved["groups"]), _rungs(saved["ladder"], told=served_line(saved))]
    notes = [NOTE, *([lost] if (lost := lost_line(saved)) else [])]
    return html.section(f"New users: {saved['method']}", *(f"<p>{escape(note)}</p>" for note in notes), *(part for part in parts if part))


def lost_line(saved: Json) -> str | None:
    """What is to be said of inner steps that were no finite numbers; None where all were."""
    training, test = (saved.get("lost_steps", {}).get(part, 0) for part in ("training", "test"))
    if not training + test:
        return None
    counted = f"{training:,} inner steps in training and {test:,} on test users"
    return f"{counted} were no finite numbers and were not taken: lower the method's rate"


def served_line(saved: Json) -> str | None:
    """By what the bundle serves a new user, and a known one; None without a ladder."""
    ladder = saved["ladder"]
    if ladder is None:
        return None
    starts = {rung: start for rung, start in ladder["from"].items() if start is not None and rung != "id"}
    rungs = [RUNGS["content"], *(f"{RUNGS[rung]} from {_rows(start)} on" for rung, start in sorted(starts.items(), key=lambda one: one[1]))]
    left = f"; what {saved['method']} itself makes of rows is no rung and stays out of the bundle" if ladder.get("apart") else ""
    return f"new users are served by {', '.join(rungs)}{left}; {_by_id(ladder)}"


def _by_id(ladder: Json) -> str:
    known = ladder["from"]["id"]
    return f"by id never: {ladder.get('no_id') or 'not tried'}" if known is None else f"by id from {_rows(known)} in training on"


def _told(one: Told | Undefined) -> dict[str, object]:
    if isinstance(one, Undefined):
        return {"users": 0, "rows": 0, "tasks": None, "reason": one.reason}
    tasks = {task: {name: measured_to_json(value) for name, value in own.items()} for task, own in one.tasks.items()}
    return {"users": one.users, "rows": one.rows, "tasks": tasks}


def _ladder(climbed: Climb) -> dict[str, object]:
    ladder = climbed.ladder
    return {
        "from": {"head": ladder.head, "steps": ladder.steps_from, "id": ladder.known},
        "strength": ladder.strength,
        "scores": {rung: {str(shots): score for shots, score in by.items()} for rung, by in climbed.scores.items()},
        "apart": climbed.apart,
        "no_id": climbed.no_id,
    }


def _scenarios(saved: Json) -> str:
    """A row a scenario and task, a column a metric, in as many tables as there are sets of metrics."""
    sets = dict.fromkeys(tuple(own) for one in saved.values() if one["tasks"] for own in one["tasks"].values())
    tables = [html.card(_scenario_table(saved, names)) for names in sets]
    none = {name: one["reason"] for name, one in saved.items() if not one["tasks"]}
    missing = "".join(f"<li>{escape(TITLES.get(name, name))}: {escape(reason)}</li>" for name, reason in none.items())
    glossary = html.folded("What the columns say", html.glossary(OF_USERS))
    return "".join([*tables, f"<ul>{missing}</ul>" if missing else "", glossary])


def _scenario_table(saved: Json, names: tuple[str, ...]) -> str:
    rows = []
    for scenario, one in saved.items():
        for task, own in (one["tasks"] or {}).items():
            if tuple(own) == names:
                size = html.words(f"{one['users']:,}", f"{one['rows']:,} rows")
                cells = [html.cell(measured_from_json(own[name])) for name in names]
                rows.append([html.title_cell(TITLES.get(scenario, scenario), task), size, *cells])
    return html.table(["scenario", "users", *(_title(name) for name in names)], rows)


def _curves(saved: Json) -> list[str]:
    """A picture a task: its first metric as the support grows, of the method alone and as the ladder answers."""
    curve, served = saved["curve"], saved.get("served", {})
    told = [one["tasks"] for one in curve.values() if one["tasks"] is not None]
    if not told:
        reasons = sorted({one["reason"] for one in curve.values()})
        return [html.card(f"<p class='mute'>{escape('; '.join(reasons))}</p>")] if reasons else []
    cards: list[str] = []
    for task, own in told[0].items():
        if own:
            metric = next(iter(own))
            lines = [Line(saved["method"], _points(curve, task, metric)), Line("by the ladder", _points(served, task, metric))]
            lines = [line for line in lines if line.points]
            picture = grown(lines, name=_title(metric), across="support rows")
            cards.append(html.card(f"<h3>{escape(task)}: {escape(_title(metric))} of new users</h3>", key(lines), picture))
    return [html.grid(cards)]


def _points(saved: Json, task: str, metric: str) -> list[tuple[float, Interval]]:
    told = {int(shots): measured_from_json(one["tasks"][task][metric]) for shots, one in saved.items() if one["tasks"] is not None}
    return [(float(shots), value) for shots, value in sorted(told.items()) if not isinstance(value, Undefined)]


def _worst(saved: Json) -> str:
    """A row a task and grouping: the worst group, and how far groups lie apart."""
    rows = []
    for task, by in saved.items():
        for name, one in by.items():
            group, users, worst = worst_group(one)
            cells = [html.words(group, users), html.cell(worst), html.cell(measured_from_json(one["spread"]))]
            rows.append([html.title_cell(name, task), *cells])
    head = ["by", "worst group", "its first metric", "best less worst"]
    return html.card("<h3>For whom it is worst</h3>", html.table(head, rows)) if rows else ""


def _rungs(saved: Json | None, *, told: str | None) -> str:
    """A row a rung: from how many rows it answers, and what chose it; under them who is served by what."""
    if saved is None:
        return ""
    sizes = sorted({int(shots) for by in saved["scores"].values() for shots in by})
    rows = []
    for rung, by in saved["scores"].items():
        start = 0 if rung == "content" else saved["from"][rung]
        begins = "never" if start is None else f"from {_rows(start)}"
        rows.append([html.title_cell(RUNGS[rung], begins), *(html.words(html.number(by[str(size)])) for size in sizes)])
    head = ["rung", *map(_rows, sizes)]
    note = "Validation score (the higher the better) by support rows; a rung answers from where it is better than those below it."
    return html.card("<h3>Ladder</h3>", f"<p>{note}</p>", html.table(head, rows), f"<p>{escape(told or '')}</p>")


def _title(metric: str) -> str:
    return METRICS.get(metric, metric)


def _rows(count: int) -> str:
    return f"{count} row{'s' if count != 1 else ''}"
