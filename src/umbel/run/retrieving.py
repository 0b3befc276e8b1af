"""`[retrieval]` of a run file: what brings candidates out of the whole catalogue is trained beside the model."""

from __future__ import annotations

from pydantic import Field

from umbel.run.section import Section, Width


class RetrievalSection(Section):
    """`[retrieval]`: two towers, item-to-item neighbours and popularity, of the training rows in which an event of `task` happened.

    `task` is one binary task, or several. `item` are the fields of the item's tower, `user` those of the other; what is not told is
    found in the log (`umbel.retrieve.sides`). `dim` is the width of a field, `hidden` those of a tower's layers, `width` a vector's;
    `temperature` divides products of vectors. Towers stop early by recall@100 on validation. An item keeps `neighbours` others, their
    likeness shrunk by `shrink`.
    """

    task: str | tuple[str, ...]
    item: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    dim: int = Field(16, ge=1)
    hidden: tuple[Width, ...] = (64,)
    width: int = Field(32, ge=1)
    temperature: float = Field(0.1, gt=0)
    epochs: int = Field(20, ge=1)
    patience: int = Field(3, ge=1)
    batch: int = Field(1024, ge=2)
    rate: float = Field(1e-3, gt=0)
    l2: float = Field(1e-6, ge=0)
    neighbours: int = Field(100, ge=1)
    shrink: float = Field(10.0, ge=0)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, however many were told."""
        return (self.task,) if isinstance(self.task, str) else self.task
