"""What of a model becomes a user's own: everything, the decision layers, the last layer, or the user's embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from umbel.errors import UserError, nearest
from umbel.nn.recommender import Recommender


@dataclass(frozen=True, slots=True)
class Scope:
    """The dense parameters under `prefixes` (their `last` layer alone, on request), and with `table` the embedding rows touched.

    `own` narrows the rows to those of the user field, which for a new user is its unknown row: a user's own embedding.
    """

    prefixes: tuple[str, ...]
    last: bool = False
    table: bool = False
    own: bool = False

    def chosen(self, model: Recommender) -> dict[str, Tensor]:
        """The dense parameters that it means, by name."""
        dense: dict[str, Tensor] = {name: one for name, one in model.named_parameters() if name != "table"}
        found = {name: one for name, one in dense.items() if name.startswith(self.prefixes)}
        return _topmost(found) if self.last else found


def _topmost(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of every stack of layers (`weights.0`, `weights.1`, ...) the last; a parameter of no stack stays."""
    tops: dict[str, int] = {}
    for name in named:
        stack, _, level = name.rpartition(".")
        tops[stack] = max(tops.get(stack, 0), int(level)) if level.isdigit() else 0
    return {name: one for name, one in named.items() if not _below(name, tops)}


def _below(name: str, tops: Mapping[str, int]) -> bool:
    stack, _, level = name.rpartition(".")
    return level.isdigit() and int(level) < tops[stack]


ALL = Scope(("",), table=True)
DECISION = Scope(("layers.", "head."))
LAST = Scope(("head.",), last=True)
EMBEDDING = Scope(("-",), table=True, own=True)
SCOPES = {"all": ALL, "decision": DECISION, "last": LAST, "embedding": EMBEDDING}


def scope(name: str) -> Scope:
    """The scope of that name; :raises UserError: for one that does not exist."""
    if name not in SCOPES:
        raise UserError(f"episodes.scope: no {name!r}", mend=nearest(name, SCOPES))
    return SCOPES[name]
