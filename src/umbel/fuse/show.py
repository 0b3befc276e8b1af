"""`umbel fuse`: search, print what was found, and leave the policy, the report and its page."""

from __future__ import annotations

import json
from pathlib import Path

from rich.table import Table

from umbel import durable
from umbel.errors import UserError
from umbel.evaluate.intervals import Interval
from umbel.fuse.asked import Asked
from umbel.fuse.found import Found
from umbel.fuse.page import fuse_page, numbers
from umbel.fuse.replay import replay
from umbel.fuse.tuned import tune
from umbel.run.screen import cell, show, tell

SHOWN = 8  # policies of the front


def fuse(bundle: Path, log: str, *, out: Path, asked: Asked) -> None:
    """Tune by labels, and leave OUT, its page (.html) and its report (.report.json).

    :raises UserError: for what cannot be read, judged or searched; nothing is left then.
    """
    check(out)
    found = tune(bundle, log, asked)
    print_found(found)
    found.chosen.policy.save(out)
    tell(f"{out}  {leave(found, out)}")


def fuse_replayed(bundle: Path, log: str, *, out: Path, choices: Path, asked: Asked) -> bool:
    """Learn from what a service drew; OUT is left only where it may be promoted, page and report always. Whether it may.

    :raises UserError: for what cannot be read, replayed, judged or searched; nothing is left then.
    """
    check(out)
    found = replay(bundle, log, asked, choices=choices)
    print_found(found)
    page = leave(found, out)
    if found.better:
        found.chosen.policy.save(out)
        tell(f"promoted: {out}  {page}")
    else:
        tell(f"not promoted: {out} is not written; {page}")
    return found.better


def check(out: Path) -> None:
    """:raises UserError: for a name that is not that of a JSON file."""
    if out.suffix != ".json":
        raise UserError(f"-o {out}: a policy is a JSON file", mend=f"call it {out.with_suffix('.json').name}")


def leave(found: Found, out: Path) -> Path:
    """Write report and page beside the policy; the page."""
    durable.write(out.with_suffix(".report.json"), json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n")
    durable.write(out.with_suffix(".html"), fuse_page(found))
    return out.with_suffix(".html")


def print_found(found: Found) -> None:
    """Print the front, the test, the policy, and what may be said of it."""
    show(_front(found))
    show(_test(found))
    for task, text in numbers(found.chosen.policy).items():
        tell(f"  {task}: {text}")
    tell(f"{found.verdict}; {', '.join(f'{name}: {fact}' for name, fact in found.facts.items())}")


def _front(found: Found) -> Table:
    names = [aim.task for aim in found.goal.aims]
    table = Table(title=f"the front: {found.figure}, on the half that chose")
    table.add_column("policy")
    for name in names:
        table.add_column(name, justify="right")
    tried = {one.number: one for one in found.tried}
    shown = list(dict.fromkeys([*found.front[:SHOWN], found.chosen.number]))
    for one in (tried[number] for number in shown):
        assert one.judged.values is not None
        marks = [one.note or f"policy {one.number}"]
        marks += ["chosen"] if one is found.chosen else ["misses a limit"] if one.short else []
        table.add_row(", ".join(marks), *(f"{value:.5g}" for value in one.judged.values))
    if len(found.front) > SHOWN:
        table.add_row(f"{len(found.front) - SHOWN} more", *("" for _ in names))
    return table


def _test(found: Found) -> Table:
    table = Table(title="test: the other half of the users, 95 % over users; differences from the last")
    table.add_column("policy")
    for aim in found.goal.aims:
        table.add_column(aim.task, justify="right")
        table.add_column("", justify="right")
    for one in found.test:
        cells: list[str] = []
        for aim in found.goal.aims:
            gain = one.gains.get(aim.task)
            cells += [cell(one.tasks[aim.task]), f"{gain.value:+.4f}" if isinstance(gain, Interval) else ""]
        table.add_row(one.name, *cells)
    return table
