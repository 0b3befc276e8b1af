"""Who looks on while a run goes: what a run tells, and the one who listens to nothing."""

from __future__ import annotations

from typing import Protocol, final, runtime_checkable

from umbel.learn.fit import Epoch


@runtime_checkable
class Watch(Protocol):
    """A listener; a run calls it and never waits for it."""

    def ingested(self, rows: int) -> None:
        """So many raw rows are done."""
        ...

    def stepped(self, epoch: int, *, done: int, rows: int) -> None:
        """Of an epoch's rows so many are done; the next step is about to be taken."""
        ...

    def learned(self, losses: tuple[float, ...]) -> None:
        """Each task's mean loss so far in the epoch; told now and then."""
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

    def ingested(self, rows: int) -> None:
        """Nothing."""

    def stepped(self, epoch: int, *, done: int, rows: int) -> None:
        """Nothing."""

    def learned(self, losses: tuple[float, ...]) -> None:
        """Nothing."""

    def finished(self, epoch: Epoch) -> None:
        """Nothing."""

    def stage(self, name: str) -> None:
        """Nothing."""
