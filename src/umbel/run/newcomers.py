"""The part of a report that tells of new users: every scenario, the curve over the support, for whom it is worst, and the ladder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from umbel.coldstart.figures import ColdFigures, Told
from umbel.coldstart.rungs import Climb
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.robust import Robustness
from umbel.run import markup as html
from umbel.run.plots import grown
from umbel.run.record import measured_from_json, measured_to_json

Json = Mapping[str, Any]
TITLES = {"warm": "known user, known items", "user_cold": "new user", "item_cold": "new items", "both_cold": "new user, new items"}
NOTE = "The model adapts to a user's support rows and is judged on query rows it has not seen. Intervals are over users (95 %)."
RUNGS = {"content": "attributes alone", "head": "last layer in closed form", "steps": "gradient steps", "id": "the id's embedding"}


def to_json(method: str, found: ColdFigures, climbed: Climb | None) -> dict[str, object]:
    """What `report.json` holds under `episodes`."""
    return {
        "method": method,
        "scenarios": {name: _told(one) for name, one in found.scenarios.items()},
        "curve": {str(shots): _told(one) for shots, one in found.curve.items()},
        "groups": {task: {name: _groups(one) for name, one in by.items()} for task, by in found.groups.items()},
        "ladder": None if climbed is None else _ladder(climbed),
    }


def section(saved: Json) -> str:
    """The page's section."""
    if not saved:
        return ""
    parts = [_scenarios(saved["scenarios"]), *_curves(saved["curve"]), _worst(saved["groups"]), _rungs(saved["ladder"])]
    note = f"<p>{escape(NOTE)}</p>"
    return html.section(f"New users: {saved['method']}", note, *(part for part in parts if part))


def _told(one: Told | Undefined) -> dict[str, object]:
    if isinstance(one, Undefined):
        return {"users": 0, "rows": 0, "tasks": None, "reason": one.reason}
    tasks = {task: {name: measured_to_json(value) for name, value in own.items()} for task, own in one.tasks.items()}
    return {"users": one.users, "rows": one.rows, "tasks": tasks}


def _groups(one: Robustness) -> dict[str, object]:
    groups = [{"name": group.name, "users": group.users, **measured_to_json(group.figure)} for group in one.groups]
    worst = {"name": None, "reason": one.worst.reason} if isinstance(one.worst, Undefined) else {"name": one.worst.name}
    return {"groups": groups, "worst": worst, "spread": measured_to_json(one.spread)}


def _ladder(climbed: Climb) -> dict[str, object]:
    ladder = climbed.ladder
    return {
        "from": {"head": ladder.head, "steps": ladder.steps_from, "id": ladder.known},
        "strength": ladder.strength,
        "scores": {rung: {str(shots): score for shots, score in by.items()} for rung, by in climbed.scores.items()},
    }


def _scenarios(saved: Json) -> str:
    """A row a scenario and task, a column a metric."""
    rows, names = [], _metrics(saved)
    for scenario, one in saved.items():
        title = TITLES.get(scenario, scenario)
        if one["tasks"] is None:
            rows.append([html.title_cell(title), f'<td class="reason" colspan="{len(names) + 1}">{escape(one["reason"])}</td>'])
            continue
        for task, own in one["tasks"].items():
            cells = [html.cell(measured_from_json(own[name]) if name in own else None) for name in names]
            rows.append([html.title_cell(title, task), html.words(f"{one['users']:,}", f"{one['rows']:,} rows"), *cells])
    return html.card(html.table(["scenario", "users", *names], rows))


def _curves(saved: Json) -> list[str]:
    """A picture a task: its first metric as the support grows."""
    told = {int(shots): one["tasks"] for shots, one in saved.items() if one["tasks"] is not None}
    if not told:
        reasons = sorted({one["reason"] for one in saved.values()})
        return [html.card(f"<p class='mute'>{escape('; '.join(reasons))}</p>")] if reasons else []
    cards: list[str] = []
    for task, own in next(iter(told.values())).items():
        metric = next(iter(own))
        points = [(shots, measured_from_json(tasks[task][metric])) for shots, tasks in told.items()]
        known = [(float(shots), value) for shots, value in points if not isinstance(value, Undefined)]
        picture = grown(known, name=metric, across="support rows")
        cards.append(html.card(f"<h3>{escape(task)}: {escape(metric)} by support rows</h3>", picture))
    return [html.grid(cards)]


def _worst(saved: Json) -> str:
    """A row a task and grouping: the worst group, and how far groups lie apart."""
    rows = []
    for task, by in saved.items():
        for name, one in by.items():
            group = next((group for group in one["groups"] if group["name"] == one["worst"]["name"]), None)
            worst = Undefined(one["worst"].get("reason", "")) if group is None else measured_from_json(_measured(group))
            title = "" if group is None else f"{group['name']}, {group['users']:,} users"
            rows.append([html.title_cell(name, task), html.words(title), html.cell(worst), html.cell(measured_from_json(one["spread"]))])
    return html.card("<h3>For whom it is worst</h3>", html.table(["by", "worst group", "figure", "best less worst"], rows)) if rows else ""


def _rungs(saved: Json | None) -> str:
    """A row a rung: from how many rows it answers, and what chose it."""
    if saved is None:
        return ""
    sizes = sorted({int(shots) for by in saved["scores"].values() for shots in by})
    rows = []
    for rung, by in saved["scores"].items():
        start = 0 if rung == "content" else saved["from"][rung]
        begins = "never" if start is None else f"from {start} rows"
        rows.append([html.title_cell(RUNGS[rung], begins), *(html.words(html.number(by[str(size)])) for size in sizes)])
    head = ["rung", *(f"{size} rows" for size in sizes)]
    note = "Validation score (the higher the better) by support rows; a rung answers from where it is better than those below it."
    return html.card("<h3>Ladder</h3>", f"<p>{note}</p>", html.table(head, rows))


def _metrics(saved: Json) -> Sequence[str]:
    return list(dict.fromkeys(name for one in saved.values() if one["tasks"] for own in one["tasks"].values() for name in own))


def _measured(group: Json) -> dict[str, Any]:
    return {name: group[name] for name in ("value", "low", "high", "reason") if name in group}
