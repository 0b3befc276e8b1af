"""The interactions by name; `[model] interact` chooses among them, `[model.interact_sizes]` says how large they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from umbel.nn.interact.concatenate import Concatenate
from umbel.nn.interact.dcn import DCN
from umbel.nn.interact.fm import FM
from umbel.nn.interact.interact import Interact, InteractSizes, MakeInteract, Shape

__all__ = ["INTERACTS", "Concatenate", "Interact", "InteractSizes", "MakeInteract", "Shape"]


def _dcn(sizes: InteractSizes) -> MakeInteract:
    return partial(DCN, layers=sizes.layers, rank=sizes.rank)


INTERACTS: Mapping[str, Callable[[InteractSizes], MakeInteract]] = {
    "concatenate": lambda _: Concatenate,
    "fm": lambda _: FM,
    "dcn": _dcn,
}
