"""The verbs that write a bundle in another form: arguments in, one call, a few lines out; nothing heavy is imported before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

BundleFolder = Annotated[Path, typer.Argument(help="a bundle folder")]


@app.command()
def export(bundle: BundleFolder, out: Annotated[Path, typer.Option("-o", help="ONNX file to leave")]) -> None:
    """Write a bundle's model as ONNX: encoded fields in, calibrated predictions out. Golden rows must score as they do in the bundle."""
    from umbel.run.export import export as write

    made = write(bundle, out)
    named = f"{', '.join(made.inputs)} -> {', '.join(made.outputs)}"
    typer.echo(f"{out}: {named}; {_size(made.size)}, golden rows within {made.worst:.1g}")


@app.command()
def shrink(
    bundle: BundleFolder,
    out: Annotated[Path, typer.Option("-o", help="bundle folder to leave")],
    *,
    tables: Annotated[str, typer.Option(help="float16, or int8 (a byte a number, and two floats a row)")] = "int8",
    log: Annotated[str | None, typer.Option(help="judge both bundles on these raw rows, which carry labels")] = None,
    join: Annotated[list[str] | None, typer.Option("--join", metavar="KEY=TABLE", help="as for `umbel evaluate`; repeat")] = None,
) -> None:
    """Write a bundle with its embedding tables in fewer bytes, and say how far golden rows moved and what a log's figures lost."""
    from umbel.run.screen import show
    from umbel.run.shrink import figures
    from umbel.run.shrink import shrink as write

    made = write(bundle, out, tables, log=log, joins=join or ())
    typer.echo(f"{out}: tables {_size(made.before)} -> {_size(made.after)}, golden rows within {made.moved:.1g}")
    if made.judged:
        show(figures(made))


def _size(count: int) -> str:
    """Bytes, in the unit that leaves a number to read."""
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"
