"""The verb that chooses how predictions are fused: arguments in, one call; nothing heavy is imported before it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

SET = (
    "another setting; repeat. trials, seed, method (cma, tpe), policy (a file to start at), family (in equal shares), join (KEY=TABLE); "
    "of labels: metric (top, ndcg, auc), top (how many), by (the column whose values are ordered inside)"
)
BOUND = "the worst figure that another task may have, or so many % of the start's (99% if none is named); repeat"
REPLAY = (
    "learn from what a service drew instead: BUNDLE is the one that drew, LOG what `umbel collect` left, CHOICES that of its --choices; "
    "the policy is left only if it is surely better than the one that drew, else the exit code is 3"
)
NOT_PROMOTED = 3


@app.command()
def fuse(
    bundle_and_log: Annotated[tuple[Path, str], typer.Argument(metavar="BUNDLE LOG", help="of days that the model was not trained on")],
    *,
    out: Annotated[Path, typer.Option("-o", help="the policy's JSON; its page and report stand beside it")],
    primary: Annotated[str | None, typer.Option(help="the task to do best in; the first of the policy if none is named")] = None,
    bound: Annotated[list[str] | None, typer.Option(metavar="TASK=FIGURE", help=BOUND)] = None,
    replay: Annotated[Path | None, typer.Option(metavar="CHOICES", help=REPLAY)] = None,
    change: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET)] = None,
) -> None:
    """Tune how a bundle's predictions are fused: one task as good as can be, the others no worse than they may be."""
    from umbel.chosen import told
    from umbel.fuse import show
    from umbel.fuse.asked import Asked

    bundle, log = bundle_and_log
    asked = told(Asked, change or (), {"primary": primary, "bounds": tuple(bound or ())})
    if replay is None:
        show.fuse(bundle, log, out=out, asked=asked)
    elif not show.fuse_replayed(bundle, log, out=out, choices=replay, asked=asked):
        raise typer.Exit(NOT_PROMOTED)
