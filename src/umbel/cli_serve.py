"""The verbs of the service: arguments in, one call, a line or two out; nothing heavy is imported before a verb needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.errors import UserError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

STORE = "a service's store: its SQLite file, or a postgresql:// URL"
StoreName = Annotated[str, typer.Option("--store", metavar="STORE", help=STORE)]
BOUND = (
    "another bound; repeat. worse=0.002 (AUC, or share of RMSE, that a task may lose), calibration=0.9,1.1 (of predicted over observed), "
    "milliseconds=50 (median time of scoring 200 rows), strict=true (a loss that cannot be excluded counts, too), waived=TASK,TASK"
)
SET = (
    "another setting; repeat. host, fusion (a policy file), temperature, penalty and diversity (of the order), budget (ms for an answer), "
    "rate (requests a second of a client), at_once (requests), late (seconds; who comes while it is further behind is told to come again), "
    "grace (seconds between not ready and the end), root (of bundles), logged, "
    "watch (seconds between two looks at canary, drift and quality; 0: none), reset"
)


@app.command()
def serve(
    bundle: Annotated[Path, typer.Argument(help="a bundle folder")],
    *,
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8080,
    store: Annotated[str, typer.Option(metavar="STORE", help="an SQLite file, or a postgresql:// URL")] = "umbel.db",
    workers: Annotated[int, typer.Option(min=1, help="processes, a core each")] = 1,
    keys: Annotated[Path | None, typer.Option(help="the keys that `umbel key` made; without, only this machine is answered")] = None,
    change: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET)] = None,
) -> None:
    """Serve a bundle over HTTP until told to end."""
    from umbel.serve.http.server import run
    from umbel.serve.http.told import tell

    held = [f"port={port}", f"store={store}", f"workers={workers}", *([f"keys={keys}"] if keys is not None else ())]
    run(tell(str(bundle), [*held, *(change or ())]), say=typer.echo)


@app.command()
def key(
    file: Annotated[Path, typer.Argument(help="the file of keys; made where there is none")],
    name: Annotated[str, typer.Argument(help="whose key; one that it has is replaced")],
    *,
    scope: Annotated[list[str], typer.Option(help="read, write or admin; repeat")],
) -> None:
    """Make a key for the service: it is printed once, the file keeps its hash."""
    from umbel.serve.http.keys import add_key

    typer.echo(add_key(file, name, scope))


@app.command()
def collect(
    store: Annotated[str, typer.Argument(metavar="STORE", help=STORE)],
    out: Annotated[Path, typer.Option("-o", help="Parquet to leave; an interrupted collection goes on")],
    *,
    rules: Annotated[Path | None, typer.Option("--rules", help="a run file whose \\[tasks.NAME] feedback to use, not the store's")] = None,
    pseudonyms: Annotated[Path | None, typer.Option("--pseudonyms", help="a file with a key: raw ids of users become others")] = None,
    choices: Annotated[Path | None, typer.Option("--choices", help="Parquet to leave of what was chosen from, for `umbel fuse`")] = None,
) -> None:
    """Write what was shown, with its settled labels, as the raw log of another training."""
    from umbel.serve.store.upkeep import collect_log

    for line in collect_log(store, out, rules=rules, pseudonyms=pseudonyms, choices=choices):
        typer.echo(line)


@app.command()
def erase(
    user: Annotated[str | None, typer.Argument(help="the raw id of a user")] = None,
    *,
    store: StoreName,
    before: Annotated[str | None, typer.Option("--before", help="a date, or an age such as 90d: erase what is older, of everybody")] = None,
) -> None:
    """Erase a user from a store, or what is older than a moment; then rewrite its files, so that no byte is left in them."""
    from umbel.serve.store.upkeep import erase_older, erase_user

    if (user is None) == (before is None):
        raise UserError("erase: name a user, or --before a moment", mend="e.g. umbel erase u17 --store umbel.db")
    typer.echo(erase_user(store, user) if user is not None else erase_older(store, before or ""))


@app.command()
def promote(
    bundles: Annotated[tuple[Path, Path], typer.Argument(metavar="CANDIDATE STABLE", help="the bundle that asks, and the one in service")],
    log: Annotated[str, typer.Argument(help="labelled rows that neither was trained on, such as the latest day")],
    *,
    bound: Annotated[list[str] | None, typer.Option("--bound", metavar="KEY=VALUE", help=BOUND)] = None,
    join: Annotated[list[str] | None, typer.Option("--join", metavar="KEY=TABLE", help="as for `umbel score`")] = None,
    out: Annotated[Path | None, typer.Option("-o", help="JSON to leave: every check")] = None,
) -> None:
    """May a new bundle take over? Exit code 0: yes, 3: no, and why."""
    from umbel.run.promote import bounds_of, decide

    found = decide(*bundles, log, bounds=bounds_of(bound or ()), joins=join or (), out=out)
    for check in found.checks:
        typer.echo(f"{'ok ' if check.holds else 'NO '} {check.says}")
    typer.echo(found.says)
    raise typer.Exit(0 if found.promote else 3)


@app.command()
def monitor(
    bundle: Annotated[Path, typer.Argument(help="the bundle in service")],
    log: Annotated[str, typer.Argument(help="what it met: a log that `umbel collect` left, or any raw log of its columns")],
    *,
    join: Annotated[list[str] | None, typer.Option("--join", metavar="KEY=TABLE", help="as for `umbel score`")] = None,
    every: Annotated[bool, typer.Option("--all", help="say what is quiet, too")] = False,
    out: Annotated[Path | None, typer.Option("-o", help="JSON to leave")] = None,
) -> None:
    """Drift, skew, quality and calibration since training. Exit code 0: quiet, 3: somebody should look."""
    from umbel.run.monitor import monitor as run_monitor

    found = run_monitor(bundle, log, joins=join or (), out=out)
    for one in found.findings if every else found.alarms:
        typer.echo(f"{'ALARM' if one.alarm else 'ok   '} {one.says}")
    typer.echo(f"{found.rows:,} rows, {len(found.findings)} things watched, {len(found.alarms)} alarms")
    raise typer.Exit(3 if found.alarms else 0)
