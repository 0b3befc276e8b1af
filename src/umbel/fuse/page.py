"""The page of a search for a fusion: what was chosen, the test, what one task costs in another, and the policies that none beats."""

from __future__ import annotations

from html import escape

from umbel.evaluate.intervals import Interval
from umbel.fuse.found import Found
from umbel.fuse.search import Tried
from umbel.fuse.standing import Standing
from umbel.fusion import Fusion
from umbel.run import markup as html
from umbel.run.plots import Frame
from umbel.run.points import around, dot, line


def fuse_page(found: Found) -> str:
    """The whole page; it loads nothing."""
    return html.document(f"Fusion for {found.goal.primary}", [_head(found), _policy(found.chosen.policy), _test(found), _front(found)])


def picture(found: Found, other: int) -> str:
    """The primary against another task: policies that none beats in blue, the chosen one ringed, the other's limit as a line."""
    goal = found.goal
    known = [(one, values) for one in found.tried if (values := one.judged.values) is not None]
    name, limit = goal.aims[other].task, goal.limits.get(goal.aims[other].task)
    across = [float(values[other]) for _, values in known]
    x = around([*across, *([] if limit is None else [limit])], name)
    y = around([float(values[goal.place]) for _, values in known], goal.primary)
    frame = Frame(x, y)
    drawn = [] if limit is None else [line(frame, [(limit, y.low), (limit, y.high)]).replace("var(--c0)", "var(--c1)")]
    for one, values in sorted(known, key=lambda pair: (pair[0].number in found.front, pair[0] is found.chosen)):
        note = f"{_name(one)}: {goal.primary} {values[goal.place]:.5g}, {name} {values[other]:.5g}"
        colour = "c0" if one.number in found.front else "line"
        drawn.append(dot(frame, float(values[other]), float(values[goal.place]), note=note, chosen=one is found.chosen, colour=colour))
    return frame.picture("".join(drawn), f"{goal.primary} against {name}")


def numbers(policy: Fusion) -> dict[str, str]:
    """What a policy says of each task, short.

    Example
    -------
    >>> from umbel.fusion import parse
    >>> numbers(parse({"format": 1, "family": "log", "tasks": {"click": {"scale": 0.123456}, "hate": {"direction": -1}}}, where=""))
    {'click': 'weight 1, scale 0.1235', 'hate': 'unwanted, weight 1, scale 1'}
    """
    found = {}
    for term in policy.terms:
        values = [(name, getattr(term.shape, name)) for name in term.shape.moved]
        texts = [f"{name} {', '.join(f'{one:.4g}' for one in (value if isinstance(value, tuple) else (value,)))}" for name, value in values]
        found[term.task] = ", ".join([*(["unwanted"] if term.direction < 0 else []), *texts])
    return found


def _head(found: Found) -> str:
    said = f"<p><b>{escape(found.verdict)}.</b></p><p class='mute'>A task's figure is {escape(found.figure)}.</p>"
    return f"<header><h1>Fusion for {escape(found.goal.primary)}</h1>{html.facts(found.facts)}{said}</header>"


def _policy(policy: Fusion) -> str:
    rows = [[html.title_cell(task), html.plain(text)] for task, text in numbers(policy).items()]
    return html.section(f"The chosen policy ({policy.family})", html.card(html.table(["task", ""], rows)))


def _test(found: Found) -> str:
    note = "On the other half of the users, who were not used to choose; 95 % over users. Differences are from the last policy."
    names = [aim.task for aim in found.goal.aims]
    rows = [[html.title_cell(one.name), *(_cell(one, task) for task in names)] for one in found.test]
    limits = [html.title_cell("limit"), *(html.words(_limit(found, task)) for task in names)]
    return html.section("Test", f"<p>{note}</p>", html.card(html.table(["policy", *names], [*rows, limits])))


def _cell(one: Standing, task: str) -> str:
    gain = one.gains.get(task)
    under = f"<small>{html.signed(gain.value)}</small>" if isinstance(gain, Interval) else ""
    return html.cell(one.tasks[task], under=under)


def _limit(found: Found, task: str) -> str:
    limit = found.goal.limits.get(task)
    return "primary" if limit is None else html.number(limit)


def _front(found: Found) -> str:
    goal = found.goal
    note = (
        "Policies on the half that chose: in blue those that no other beats in one task without losing in another; the chosen one is "
        "ringed, limits are lines."
    )
    others = [place for place in range(len(goal.aims)) if place != goal.place]
    titles = [f"<h3>{escape(goal.primary)} against {escape(goal.aims[other].task)}</h3>" for other in others]
    cards = [html.card(title, picture(found, other)) for title, other in zip(titles, others, strict=True)]
    tried = {one.number: one for one in found.tried}
    rows = [_row(tried[number], found) for number in found.front]
    head = ["policy", *(aim.task for aim in goal.aims), "limits", *found.tried[0].policy.tasks]
    marked = frozenset(place for place, number in enumerate(found.front) if number == found.chosen.number)
    return html.section("The front", f"<p>{note}</p>", html.grid(cards), html.card(html.table(head, rows, marked=marked)))


def _row(one: Tried, found: Found) -> list[str]:
    assert one.judged.values is not None
    kept, spelt = "kept" if not one.short else "missed", numbers(one.policy)
    figures = [html.words(html.number(value)) for value in one.judged.values]
    own = (html.words(spelt.get(task, "")) for task in found.tried[0].policy.tasks)
    return [html.title_cell(_name(one)), *figures, html.words(kept), *own]


def _name(one: Tried) -> str:
    return one.note or f"policy {one.number}"
