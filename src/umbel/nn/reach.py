"""Whom a task's gradient reaches in one routing: a factor of the boolean product over the stack, from the head down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from umbel.nn.routing import Route, Routing

Tasks = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reach:
    """One layer: the tasks that teach each expert, each gate (none where a gate decides nothing) and each input."""

    experts: tuple[Tasks, ...]
    gates: tuple[Tasks, ...]
    inputs: tuple[Tasks, ...]


def reach(routing: Routing, readers: Sequence[Tasks]) -> Reach:
    """Who is taught by which tasks, given the tasks that teach each reader.

    An expert is taught through OPEN routes only. A gate is taught by every reader that listens through it, stopped
    experts included, since shares multiply what is heard; and it teaches the inputs it sums.
    """
    pupils = range(len(routing.views))
    experts = [union(readers[reader] for reader, row in enumerate(routing.table) if row[expert] is Route.OPEN) for expert in pupils]
    working = [(reader, gate) for reader, gate in enumerate(routing.gate) if len(routing.heard(reader)) > 1]
    gates = [union(readers[reader] for reader, own in working if own == gate) for gate in range(len(routing.gates))]
    inputs = [union([*(experts[expert] for expert, view in enumerate(routing.views) if view == one),
                     *(gates[gate] for gate, total in enumerate(routing.gates) if one in total)]) for one in routing.inputs]
    return Reach(tuple(experts), tuple(gates), tuple(inputs))


def union(groups: Iterable[Tasks]) -> Tasks:
    """The tasks of all groups, each once and in order."""
    return tuple(sorted({task for group in groups for task in group}))
