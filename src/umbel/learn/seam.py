"""What training asks of a model: its table apart, and scores from any table its places fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from umbel.nn.losses import Denominator, Labelled
from umbel.schema import Schema


@runtime_checkable
class Model(Protocol):
    """A recommender as `learn` sees it: `umbel.nn.Recommender`, or any module with this seam.

    `rows` is the pure look-up: the whole `table` and, per row and slot, the place in it (-1 = padding).
    `score` reads any table that the places fit, and gives logits; calling the model is `score` after `rows`.
    """

    training: bool

    @property
    def schema(self) -> Schema:
        """What it reads and answers."""
        ...

    @property
    def table(self) -> nn.Parameter:
        """Every embedding row, outside the dense part."""
        ...

    def rows(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The table and the places that a batch reads."""
        ...

    def score(self, rows: Mapping[str, Tensor], fields: Mapping[str, Tensor]) -> Float[Tensor, "rows outputs"]:
        """Logits."""
        ...

    def losses(
        self, logits: Float[Tensor, "rows outputs"], batch: Labelled, *, denominator: Denominator,
    ) -> Float[Tensor, "tasks"]:
        """What training descends: a loss a task, task and row weights in it."""
        ...

    def paid(self, batch: Labelled) -> Bool[Tensor, "rows tasks"]:
        """The rows over which each task's loss is a mean, where `Denominator.SEEN` divides it."""
        ...

    def __call__(self, fields: Mapping[str, Tensor]) -> Float[Tensor, "rows outputs"]:
        """Logits: `score` after `rows`."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter by name, the table as `table`."""
        ...

    def dense_parameters(self) -> list[nn.Parameter]:
        """Every parameter but the table."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Every weight and buffer by name; live, not copied."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> object:
        """Copy weights into place."""
        ...

    def to(self, device: torch.device) -> nn.Module:
        """The same module, moved in place."""
        ...

    def train(self, mode: bool = True) -> nn.Module:
        """Training mode on or off."""
        ...
