"""The verbs: arguments in, one call, a few lines out; nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from umbel import cli_away, cli_fuse, cli_serve, cli_tune
from umbel.errors import UserError, nearest

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help="Train, study and use multi-task recommenders.")
# What typer raises for a wrong command line: the parent of its BadParameter, which it does not export.
UsageErrors: tuple[type[Exception], ...] = tuple(one for one in typer.BadParameter.__bases__ if issubclass(one, Exception))

INTERRUPTED = 130
# Packages that come with an extra.
EXTRAS = {
    **dict.fromkeys(("alembic", "fastapi", "msgspec", "prometheus_client", "sqlalchemy", "uvicorn"), "serve"),
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "export"), "py4j": "spark", "pyspark": "spark", "ray": "ray",
}
JOIN = (
    "another table in the place of the one that was joined on KEY at training (or of the one of that file name); repeat. "
    "A table is not joined, and need not be there, where the log has all the columns that the model reads of it"
)
# Verbs that keep checkpoints; the others leave nothing half done.
RESUMED = ("demo", "train", "compare", "transfer", "tune", "trial", "attempt", "collect")
TOGETHER = ("train", "--help")  # what `torchrun` may start several of

RunFile = Annotated[Path, typer.Argument(help="the run file (TOML)")]
BundleFolder = Annotated[Path, typer.Argument(help="a bundle folder")]
Log = Annotated[str, typer.Argument(help="a raw log: a file or a glob, Parquet or CSV")]
TableFolder = Annotated[Path, typer.Option("--table")]
Out = Annotated[Path, typer.Option("-o")]
Joins = Annotated[list[str] | None, typer.Option("--join", metavar="KEY=TABLE", help=JOIN)]
Master = Annotated[str | None, typer.Option("--spark", metavar="MASTER", help="read and join there: local[4], spark://HOST:7077, yarn")]
Change = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="override one key of the run file")]

app.add_typer(cli_away.app)
app.add_typer(cli_fuse.app)
app.add_typer(cli_serve.app)
app.add_typer(cli_tune.app)


@app.command()
def demo(out: Annotated[Path, typer.Option("-o", help="folder to leave")] = Path("runs/demo")) -> None:
    """Simulate a log with a planted conflict, train recipes on it, and show that the known answer is found."""
    from umbel.study.demo import run_demo

    run_demo(out)


@app.command()
def ingest(
    run: RunFile, out: Annotated[Path, typer.Option("-o", help="table folder to leave")], *, spark: Master = None, change: Change = None
) -> None:
    """Turn a raw log and its joins into an encoded table."""
    from umbel.run.run import prepare
    from umbel.run.screen import Screen
    from umbel.run.settings import read

    with Screen() as screen:
        table = prepare(read(run, change or ()), out, watch=screen, spark=spark)
    sizes = ", ".join(f"{name} {len(rows):,}" for name, rows in table.parts.items())
    typer.echo(f"{out}: {sizes} rows, {len(table.schema.fields)} fields, {len(table.schema.tasks)} tasks")
    for line in table.aside.lines():
        typer.echo(line)


@app.command()
def train(
    run: RunFile,
    out: Annotated[Path, typer.Option("-o", help="run folder to leave; an interrupted one is resumed")],
    *,
    start: Annotated[Path | None, typer.Option("--from", metavar="BUNDLE", help="go on from this bundle's weights")] = None,
    change: Change = None,
) -> None:
    """Fit, stop early and calibrate on validation, judge once on test; leaves a report and a bundle.

    `torchrun --nproc-per-node N -m umbel train ...` has N processes share every batch.
    """
    from umbel.run.run import follow
    from umbel.run.run import train as train_run
    from umbel.run.screen import Screen, headline
    from umbel.run.settings import read
    from umbel.run.together import is_first, joined

    asked = [*(change or ()), *([f"fit.start={start}"] if start else ())]
    with joined(lambda: read(run, asked)) as (settings, group):
        if group is not None and not is_first(group):
            follow(settings, out, group)
            return
        with Screen() as screen:
            report = train_run(settings, out, watch=screen, group=group)
    headline(report)
    typer.echo(f"{out / 'report.html'}  {out / 'bundle'}")


@app.command()
def compare(
    run: RunFile,
    out: Annotated[Path, typer.Option("-o", help="folder to leave; an interrupted one is resumed")],
    *,
    recipe: Annotated[list[str] | None, typer.Option("--recipe", help="a recipe to compare; repeat; the usual eight if none")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="runs of each recipe")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="runs at a time")] = 1,
    change: Change = None,
) -> None:
    """Compare recipes over paired seeds with equal budgets, width controls and boosted trees."""
    from umbel.run.screen import Screen
    from umbel.run.settings import read
    from umbel.study.compare import run_compare
    from umbel.study.show import standings

    asked = [*(change or ()), *([f"compare.recipes={recipe}"] if recipe else ()), *([f"compare.seeds={seeds}"] if seeds else ())]
    with Screen() as screen:
        found = run_compare(read(run, asked), out, jobs=jobs, watch=screen)
    standings(found)
    typer.echo(str(out / "compare.html"))


@app.command()
def transfer(
    run: RunFile,
    out: Annotated[Path, typer.Option("-o", help="folder to leave; an interrupted study is resumed")],
    *,
    seeds: Annotated[int | None, typer.Option(min=1, help="runs of each recipe")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="runs at a time")] = 1,
    change: Change = None,
) -> None:
    """Does sharing help? Which task, for whom, why, and what to do about it."""
    from umbel.run.screen import Screen
    from umbel.run.settings import read
    from umbel.study.transfer.transfer import run_transfer

    asked = [*(change or ()), *([f"compare.seeds={seeds}"] if seeds else ())]
    with Screen() as screen:
        study = run_transfer(read(run, asked), out, jobs=jobs, watch=screen)
    for sentence in study.advice.says:
        typer.echo(sentence)
    typer.echo(str(out / "transfer.html"))


@app.command(hidden=True)
def trial(run: RunFile, table: TableFolder, out: Out, *, test: bool = False) -> None:
    """Train one model of a comparison from a table; with --test leave its predictions of the test rows."""
    from umbel.data.table import Table
    from umbel.run.settings import read
    from umbel.study.trial import run_trial

    run_trial(read(run), Table.open(table), out, test=test)


@app.command(hidden=True)
def trees(table: TableFolder, out: Out, *, rate: Annotated[list[float], typer.Option()], seed: int = 1, means: bool = False) -> None:
    """Grow one set of boosted trees of a comparison from a table."""
    from umbel.data.table import Table
    from umbel.study.trial import run_trees

    run_trees(Table.open(table), out, rates=tuple(rate), means=means, seed=seed)


@app.command()
def evaluate(
    bundle: BundleFolder,
    log: Log,
    *,
    join: Joins = None,
    slices: Annotated[list[str] | None, typer.Option("--slice", metavar="NAME", help="a field or raw column to judge by; repeat")] = None,
    out: Annotated[Path | None, typer.Option("-o", help="JSON to leave, in the shape of a run's report.json")] = None,
) -> None:
    """Judge a bundle on a raw log that carries labels, in the run's slices and those named with --slice."""
    from umbel.run.screen import headline
    from umbel.run.use import judge_log

    headline(judge_log(bundle, log, joins=join or (), slices=slices or (), out=out))


@app.command()
def score(
    bundle: BundleFolder, log: Log, out: Annotated[Path, typer.Option("-o", help="Parquet or CSV to leave")], *, join: Joins = None
) -> None:
    """Score raw rows: one calibrated prediction a task. Labels are not read."""
    from umbel.run.use import score_log

    rows = score_log(bundle, log, out, joins=join or ())
    typer.echo(f"{out}: {rows:,} rows scored")


@app.command()
def explain(
    bundle_and_log: Annotated[tuple[Path, str], typer.Argument(metavar="BUNDLE LOG", help="as for `umbel score`")],
    *,
    row: Annotated[int | None, typer.Option(min=1, help="explain this row alone, by its number from 1")] = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="a task to explain; repeat; all if none is named")] = None,
    rows: Annotated[int, typer.Option(min=1, help="rows of the log to explain, the same ones each time")] = 2000,
    join: Joins = None,
    out: Annotated[Path | None, typer.Option("-o", help="folder to leave: explain.json, and explain.html unless of one row")] = None,
) -> None:
    """Say what moves each task's predictions, over rows of a log or in one row. Labels are not read."""
    from umbel.study.explain.show import show_log, show_row

    bundle, log = bundle_and_log
    if row is None:
        show_log(bundle, log, joins=join or (), tasks=task or (), rows=rows, out=out)
    else:
        show_row(bundle, log, row, joins=join or (), tasks=task or (), out=out)


@app.command()
def bench(folder: Annotated[Path, typer.Argument()] = Path("benchmarks"), *, full: Annotated[bool, typer.Option("--full")] = False) -> None:
    """Run a checkout's benchmarks, in short or at full length: one table of ratios, kept in results/bench.json or bench-full.json."""
    import subprocess

    if not (folder / "__main__.py").exists():
        raise UserError(f"{folder}: no benchmarks here", mend="run `umbel bench` in a checkout of umbel")
    words = [sys.executable, "-m", folder.resolve().name, *(["--full"] if full else [])]
    raise typer.Exit(subprocess.run(words, cwd=folder.resolve().parent, check=False).returncode)


def main(arguments: list[str] | None = None) -> None:
    """Run one verb; exit 0 when done, 1 for a failure of ours, 2 for the user's input, 130 when interrupted."""
    given = sys.argv[1:] if arguments is None else arguments
    words = [word for word in given if word != "--debug"]
    sys.exit(_run(words or ["--help"], debug="--debug" in given))


def _run(arguments: list[str], *, debug: bool) -> int:
    try:
        _check_started(arguments[0])
        code = int(app(arguments, standalone_mode=False) or 0)
    except UserError as error:
        return _say(str(error), code=2, debug=debug)
    except UsageErrors as error:
        return _say(_wrong_verb(arguments[0]) or getattr(error, "format_message", error.__str__)(), code=2, debug=debug)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = EXTRAS.get(package)
        if extra is None:
            return _ours(error, debug=debug)
        return _say(f"{package} is not installed; pip install 'umbel[{extra}]'", code=2, debug=debug)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED  # some versions of typer raise, others return it
    except Exception as error:  # the last line of defence: ours to mend, so say how to report it
        return _ours(error, debug=debug)
    if code == INTERRUPTED:
        kept = "goes on from the last checkpoint" if arguments[0] in RESUMED else "starts anew: nothing was left half done"
        return _say(f"interrupted; the same command {kept}", code=code, debug=debug)
    return code


def _check_started(verb: str) -> None:
    """:raises UserError: where `torchrun` started several of what works alone: each would do the same in the same folder."""
    if "TORCHELASTIC_RUN_ID" in os.environ and verb not in TOGETHER:
        several = ", and with --jobs for several runs at a time" if verb in ("compare", "transfer", "tune") else ""
        raise UserError(f"{verb}: torchrun is for `umbel train` alone", mend=f"start `umbel {verb}` without it{several}")


def _wrong_verb(word: str) -> str | None:
    """That there is no such verb, with the nearest of those that help lists; None where there is one."""
    verbs = typer.main.get_group(app).commands
    if word.startswith("-") or word in verbs:
        return None
    return f"no verb {word!r}; {nearest(word, [name for name, one in verbs.items() if not one.hidden])}"


def _ours(error: Exception, *, debug: bool) -> int:
    return _say(f"{type(error).__name__}: {error} (a failure of umbel; run again with --debug for the traceback)", code=1, debug=debug)


def _say(message: str, *, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    typer.echo(f"umbel: {message}".replace("\n", " "), err=True)
    return code
