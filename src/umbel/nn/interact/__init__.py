"""The interactions by name; `[model] interact` chooses among them, `[model.interact_sizes]` says how large they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from umbel.nn.interact.autoint import AutoInt
from umbel.nn.interact.concatenate import Concatenate
from umbel.nn.interact.dcn import DCN
from umbel.nn.interact.fm import FM
from umbel.nn.interact.interact import Interact, InteractSizes, MakeInteract, Shape
from umbel.nn.interact.lent import Lent
from umbel.nn.interact.masknet import MaskNet

__all__ = ["INTERACTS", "READS", "Concatenate", "Interact", "InteractSizes", "Lent", "MakeInteract", "Shape"]

INTERACTS: Mapping[str, Callable[[InteractSizes], MakeInteract]] = {
    "concatenate": lambda _: Concatenate,
    "fm": lambda _: FM,
    "dcn": lambda sizes: partial(DCN, layers=sizes.layers, rank=sizes.rank),
    "masknet": lambda sizes: partial(MaskNet, layers=sizes.layers, hidden=sizes.hidden),
    "autoint": lambda sizes: partial(AutoInt, layers=sizes.layers, heads=sizes.heads),
}
# The sizes that each has a use for.
READS: Mapping[str, frozenset[str]] = {
    "concatenate": frozenset(),
    "fm": frozenset(),
    "dcn": frozenset({"layers", "rank"}),
    "masknet": frozenset({"layers", "hidden"}),
    "autoint": frozenset({"layers", "heads"}),
}
