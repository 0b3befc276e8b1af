"""Who looks on while a run goes: what a run tells, and the one who listens to nothing."""

from __future__ import annotations

from typing import Protocol, final

from umbel.learn.fit import Epoch


class Watch(Protocol):
    """A listener; a run calls it and never waits for it."""

    def ingested(self, rows: int, total: int | None) -> None:
        """So many raw rows are encoded, of so many if that is known."""
        ...

    def stepped(self, epoch: int, step: int, steps: int, rows: int) -> None:
        """A training step of so many rows is about to be taken."""
        ...

    def finished(self, epoch: Epoch) -> None:
        """An epoch is over and judged."""
        ...

    def stage(self, name: str) -> None:
        """What the run does now, in a few words."""
        ...


@final
class Silence:
    """Hears everything and says nothing."""

    def ingested(self, rows: int, total: int | None) -> None:
        """Nothing."""

    def stepped(self, epoch: int, step: int, steps: int, rows: int) -> None:
        """Nothing."""

    def finished(self, epoch: Epoch) -> None:
        """Nothing."""

    def stage(self, name: str) -> None:
        """Nothing."""
