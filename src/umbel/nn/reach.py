"""Whom a task's gradient reaches: the boolean product of a stack of routings, from the head down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from umbel.nn.routing import Route, Routing

Tasks = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reach:
    """One layer: the tasks that teach each expert, each gate (none where a gate decides nothing) and each input."""

    experts: tuple[Tasks, ...]
    gates: tuple[Tasks, ...]
    inputs: tuple[Tasks, ...]


def reach(routings: tuple[Routing, ...], hears: tuple[tuple[int, ...], ...]) -> tuple[Reach, ...]:
    """Per layer, from the bottom, who is taught by which tasks.

    `hears[task]` are the readers of the top layer that the head has the task's loss teach. An expert is taught through
    OPEN routes only. A gate is taught by every reader that listens through it, stopped experts included, since shares
    multiply what is heard; and it teaches the inputs it sums.
    """
    readers = [_sorted(task for task, own in enumerate(hears) if reader in own) for reader in range(len(routings[-1].table))]
    levels: list[Reach] = []
    for routing in reversed(routings):
        levels.append(_level(routing, readers))
        readers = list(levels[-1].inputs)
    return tuple(reversed(levels))


def _level(routing: Routing, readers: list[Tasks]) -> Reach:
    pupils = range(len(routing.views))
    experts = [_union(readers[reader] for reader, row in enumerate(routing.table) if row[expert] is Route.OPEN) for expert in pupils]
    working = [(reader, gate) for reader, gate in enumerate(routing.gate) if len(routing.heard(reader)) > 1]
    gates = [_union(readers[reader] for reader, own in working if own == gate) for gate in range(len(routing.gates))]
    inputs = [_union([*(experts[expert] for expert, view in enumerate(routing.views) if view == one),
                      *(gates[gate] for gate, total in enumerate(routing.gates) if one in total)]) for one in routing.inputs]
    return Reach(tuple(experts), tuple(gates), tuple(inputs))


def _union(groups: Iterable[Tasks]) -> Tasks:
    return _sorted(task for group in groups for task in group)


def _sorted(tasks: Iterable[int]) -> Tasks:
    return tuple(sorted(set(tasks)))
