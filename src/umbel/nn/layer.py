"""What stands between the views and the head: layers that say who hears what, and whom they learn from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from umbel.nn.heads import Taught
from umbel.nn.reach import Tasks


@dataclass(frozen=True, slots=True)
class Lessons:
    """Whom one layer learns from: its parameters in groups, each with the tasks that teach it, and the tasks that teach each input."""

    groups: Mapping[str, Taught]
    inputs: tuple[Tasks, ...]


class Layer(nn.Module, ABC):
    """One level of a recommender: what its readers hear, from the views or from the readers of the level below.

    Readers are the tasks in order, then whoever else the next level reads. Readers that hear the same may be one *voice*:
    `voice[reader]` is its number among the outputs, each of `width` numbers.
    """

    voice: tuple[int, ...]
    width: int

    @abstractmethod
    def forward(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> tuple[Float[Tensor, "rows hidden"], ...]:
        """What each voice says."""

    @abstractmethod
    def lessons(self, readers: Sequence[Tasks]) -> Lessons:
        """Who teaches what here, given the tasks that teach each reader: a level's part of the boolean product over the stack."""


class Penalised(ABC):
    """A layer that is to be kept small: what it costs beside the tasks' losses."""

    @abstractmethod
    def penalties(self) -> Float[Tensor, "readers"]:
        """What each reader's part of the layer costs: paid by the tasks that teach the reader."""


MakeLayer = Callable[[int], Layer]  # from the width of its inputs
