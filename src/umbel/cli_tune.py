"""The verbs of a search: arguments in, one call, a line or two out; nothing heavy is imported before a verb needs it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

RunFile = Annotated[Path, typer.Argument(help="the run file (TOML)")]
RAY = "run trials on a Ray cluster: its address, auto (the one that runs here), or local (one of this machine, for this search)"


@app.command()
def tune(
    run: RunFile,
    out: Annotated[Path, typer.Option("-o", help="folder to leave; an interrupted search is resumed")],
    *,
    trials: Annotated[int, typer.Option(min=1, help="points to try in all; pruned and failed ones count")],
    jobs: Annotated[int, typer.Option(min=1, help="trials at a time; the same seed tries the same points with one")] = 1,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS", help=RAY)] = None,
    change: Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="override one key of the run file")] = None,
) -> None:
    """Search settings on validation (which ones, the run file says); the winner is judged on test, once, beside boosted trees."""
    from umbel.run.screen import Screen
    from umbel.run.settings import read
    from umbel.study.tune.cluster import joined
    from umbel.study.tune.show import said, tuned
    from umbel.study.tune.tune import run_tune

    settings = read(run, change or ())
    with Screen() as screen, nullcontext() if ray is None else joined(ray, out / "table", jobs=jobs) as runner:
        found = run_tune(settings, out, trials=trials, jobs=jobs, watch=screen, runner=runner)
    tuned(found)
    typer.echo(said(found))
    typer.echo(f"{out / 'tune.html'}  {out / 'best.toml'}  {out / 'best'}")


@app.command(hidden=True)
def attempt(run: RunFile, table: Annotated[Path, typer.Option("--table")], out: Annotated[Path, typer.Option("-o")]) -> None:
    """Train one trial of a search, which is told every epoch and says whether to go on."""
    from umbel.run.settings import read
    from umbel.study.tune.attempt import attempt as run_attempt

    run_attempt(read(run), table, out)
