"""How what the readers heard becomes logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.nn.bank import Fan, Part
from umbel.schema import Schema


class Independent(nn.Module):
    """A tower a task, which knows nothing of the others: `logits_t = MLP_t(h_t)`, ReLU on hidden layers.

    A head declares `hears[task]`, the readers whose output a task's loss teaches, and `groups()`, its parameters with
    the tasks that teach them; a head whose towers speak to each other declares more of both.
    `voice[reader]` is where a reader's output stands among the inputs.
    """

    def __init__(self, schema: Schema, voice: tuple[int, ...], widths: tuple[int, ...], *, dropout: float = 0.0) -> None:
        super().__init__()
        self.names = tuple(task.name for task in schema.tasks)
        self.hears = tuple((task,) for task in range(len(self.names)))
        self.towers = Fan(voice[:len(self.names)], widths, tuple(task.kind.outputs for task in schema.tasks), dropout=dropout)

    def forward(self, voices: Sequence[Float[Tensor, "rows hidden"]]) -> Float[Tensor, "rows outputs"]:
        """Logits, in the order of the schema's outputs."""
        return torch.cat(self.towers(voices), 1)

    def groups(self) -> dict[str, tuple[tuple[Part, ...], tuple[int, ...]]]:
        """Per tower its parameters and the tasks that teach it."""
        return {f"tower {name}": (tuple(part.under("towers") for part in self.towers.parts(task)), (task,)) for task, name in enumerate(self.names)}
