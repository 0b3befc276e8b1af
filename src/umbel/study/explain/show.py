"""Explanations on the terminal: a ranking a task, or one row field by field."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from umbel import durable
from umbel.run.screen import cell, show
from umbel.study.explain.page import explain_page
from umbel.study.explain.study import Explained, Moved, Row, explain_log, explain_row, leave

SHOWN = 10  # fields of a ranking


def show_log(bundle: Path, log: str, *, joins: Sequence[str], tasks: Sequence[str], rows: int, out: Path | None) -> None:
    """Explain rows of a log, print what was found, and leave it in a folder if one is named."""
    found = explain_log(bundle, log, joins=joins, tasks=tasks, rows=rows)
    rankings(found)
    if out is not None:
        leave(found.to_json(), out / "explain.json")
        durable.write(out / "explain.html", explain_page(found))
        Console(soft_wrap=True).print(str(out / "explain.html"), markup=False, highlight=False)


def show_row(bundle: Path, log: str, number: int, *, joins: Sequence[str], tasks: Sequence[str], out: Path | None) -> None:
    """Explain one row, print it, and leave it in a folder if one is named."""
    row = explain_row(bundle, log, number, joins=joins, tasks=tasks)
    row_table(row)
    if out is not None:
        leave(row.to_json(), out / "explain.json")


def rankings(found: Explained) -> None:
    """Print each task's weightiest fields, and its main parameters in words."""
    for one in found.tasks:
        show(_ranking(one, found.rows))
        Console(soft_wrap=True).print(" ".join(one.says), markup=False, highlight=False)


def row_table(row: Row) -> None:
    """Print what each field of a row adds to each task, the weightiest first, and what that comes to."""
    found = row.found
    table = Table(title=f"row {row.number}")
    table.add_column("field", no_wrap=True)
    table.add_column("value", max_width=48)
    for name in found.columns:
        table.add_column(name, justify="right")
    adds = found.contributions[0]
    for at in abs(adds).max(axis=0).argsort(kind="stable")[::-1]:
        table.add_row(found.fields[at], row.values[found.fields[at]], *(f"{one:+.4f}" for one in adds[:, at]))
    table.add_section()
    table.add_row("baseline", "", *(f"{one:.4f}" for one in found.base))
    table.add_row("this row", "baseline + contributions", *(f"{one:.4f}" for one in found.value[0]))
    table.add_row("baseline", "calibrated", *(f"{row.calibrated[name][0]:.4f}" for name in found.columns))
    table.add_row("this row", "calibrated", *(f"{row.calibrated[name][1]:.4f}" for name in found.columns))
    show(table)
    if row.gates:
        show(_gates(row))


def _ranking(one: Moved, rows: int) -> Table:
    table = Table(title=f"{one.task}: mean |contribution| ({one.unit}) over {rows:,} rows, 95 % over users")
    for name in ("field", "moves it by", "share", "raised by", "lowered by"):
        table.add_column(name, justify="right" if name in ("moves it by", "share") else "left")
    for field in one.fields[:SHOWN]:
        table.add_row(field.field, cell(field.moves), f"{field.share:.1%}", field.push.up, field.push.down)
    if len(one.fields) > SHOWN:
        table.add_row(f"{len(one.fields) - SHOWN} more", "", f"{sum(field.share for field in one.fields[SHOWN:]):.1%}", "", "")
    return table


def _gates(row: Row) -> Table:
    table = Table(title="listens to")
    table.add_column("task")
    taught = {one.expert: " and ".join(one.taught) for gate in row.gates.values() for one in gate.experts}
    for expert, by in sorted(taught.items()):
        table.add_column(f"expert {expert} ({by})" if by else f"expert {expert}", justify="right")
    for task, gate in row.gates.items():
        shares = {one.expert: f"{one.share:.1%}" for one in gate.experts}
        table.add_row(task, *(shares.get(expert, "") for expert in sorted(taught)))
    return table
