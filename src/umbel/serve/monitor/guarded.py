"""Which tasks a canary is guarded by: those that events say yes or no to, as the stable bundle's run file has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from umbel.errors import UserError, nearest
from umbel.feedback import Feedback, Rule
from umbel.kinds import BINARY
from umbel.serve.ranker import Ranker


@dataclass(frozen=True, slots=True)
class Guarded:
    """A task by its rule, the share of the stable bundle's figure that the canary must keep, and whether users want the event."""

    rule: Rule
    keep: float = 1.0
    wanted: bool = True


def guarded(stable: Ranker, asked: Mapping[str, float] | None) -> tuple[Guarded, ...]:
    """The tasks asked for with the share to keep, or all that can be judged; a task that the fusion ranks down is not wanted.

    :raises UserError: for one that cannot be judged, with the nearest that can.
    """
    bundle = stable.served.bundle
    binary = {task.name for task in bundle.schema.judged if task.kind == BINARY}
    feedback = Feedback(rules=()) if bundle.feedback is None else bundle.feedback
    rules = {rule.task: rule for rule in feedback.rules if rule.task in binary}
    down = {term.task.removesuffix("_marginal") for term in stable.policy.fusion.terms if term.direction < 0}
    for name in asked or ():
        if name not in rules:
            raise UserError(f"guard: no task {name!r} that events say yes or no to", mend=nearest(name, rules))
    keeps = dict.fromkeys(rules, 1.0) if asked is None else asked
    return tuple(Guarded(rules[name], keep, name not in down) for name, keep in keeps.items())
