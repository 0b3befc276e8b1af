"""The section of a run file that says how a study of transfer parts its users, and how many groupings of tasks it trains."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from umbel.run.section import Section


class TransferSection(Section):
    """`[transfer]`: see `umbel.study.transfer.comparable` for the first four.

    `of` whom the positives are counted, `by` count or rate, with activity centred on the task's own mean (`global`) or not at
    all; a task leads where its relative activity is more than `lead` times the other's. `trained` is how many groupings of
    tasks, of those that the probes rank highest, are trained and judged.
    """

    of: Literal["user", "item"] = "user"
    by: Literal["count", "rate"] = "count"
    center: Literal["global", "none"] = "global"
    lead: float = Field(2.0, gt=1)
    trained: int = Field(3, ge=0)
