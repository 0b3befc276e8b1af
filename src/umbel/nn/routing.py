"""Which expert may teach which reader: an architecture as three small tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum


class Route(IntEnum):
    """What a reader has of an expert: nothing, its output with the gradient stopped, or its output and the right to teach it."""

    HIDDEN = 0
    STOPPED = 1
    OPEN = 2


MARKS = {Route.HIDDEN: " ", Route.STOPPED: "○", Route.OPEN: "●"}


@dataclass(frozen=True, slots=True)
class Routing:
    """One layer of a mixture: the input each expert reads, what each reader hears, and the inputs each gate sums.

    Readers are the tasks in order, then the commons (what all share). In the first layer the inputs are views, in
    later ones the readers of the layer below. `gates` has a row a reader, or one row that all readers share.

    :raises ValueError: if rows differ in length, a reader hears nobody, or readers that share a gate hear differently.
    """

    views: tuple[int, ...]
    table: tuple[tuple[Route, ...], ...]
    gates: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.views) for row in self.table):
            raise ValueError(f"`views` has {len(self.views)} experts. Received: rows of {[len(row) for row in self.table]}")
        if len(self.gates) not in (1, len(self.table)):
            raise ValueError(f"`gates` has one row, or one a reader ({len(self.table)}). Received: {len(self.gates)}")
        if len(self.gates) == 1 and len({tuple(map(bool, row)) for row in self.table}) > 1:
            raise ValueError("readers that share a gate hear the same experts")
        if any(row and max(row) is not Route.OPEN and any(row) and len(self.heard(reader)) == 1 for reader, row in enumerate(self.table)):
            raise ValueError("a reader that hears one expert has no gate and must teach it")

    @property
    def gate(self) -> tuple[int, ...]:
        """The gate of each reader."""
        return tuple(range(len(self.table))) if len(self.gates) > 1 else (0,) * len(self.table)

    def heard(self, reader: int) -> tuple[int, ...]:
        """The experts a reader hears, taught or not."""
        return tuple(expert for expert, route in enumerate(self.table[reader]) if route is not Route.HIDDEN)

    @property
    def inputs(self) -> tuple[int, ...]:
        """The inputs that an expert or a working gate reads (a gate over one expert decides nothing and does not exist)."""
        sums = [total for reader, gate in enumerate(self.gate) if len(self.heard(reader)) > 1 for total in self.gates[gate]]
        return tuple(sorted({*self.views, *sums}))

    def keep(self, readers: Sequence[int]) -> Routing:
        """The routing without the readers that nobody asks for."""
        gates = self.gates if len(self.gates) == 1 else tuple(self.gates[reader] for reader in readers)
        return replace(self, table=tuple(self.table[reader] for reader in readers), gates=gates)

    def renumber(self, inputs: Sequence[int]) -> Routing:
        """The routing over `inputs` alone, numbered by their place there."""
        place = {one: number for number, one in enumerate(inputs)}
        gates = tuple(tuple(place[one] for one in row if one in place) for row in self.gates)
        return replace(self, views=tuple(place[view] for view in self.views), gates=gates)

    def text(self, readers: Sequence[str]) -> str:
        """The routing as a table for people: ● open, ○ stopped, blank hidden, and the inputs each gate sums."""
        width = max(len(name) for name in (*readers, "reads"))
        lines = ["  ".join(["reads".ljust(width), *(str(view).rjust(2) for view in self.views)])]
        for reader, name in enumerate(readers):
            marks = "  ".join(MARKS[route].rjust(2) for route in self.table[reader])
            gate = "+".join(map(str, self.gates[self.gate[reader]])) if len(self.heard(reader)) > 1 else "none"
            lines.append(f"{name.ljust(width)}  {marks}  gate {gate}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a paradigm gives: the view each expert reads, and each reader's own views (the commons' last)."""

    views: tuple[int, ...]
    homes: tuple[tuple[int, ...], ...]


Paradigm = Callable[[tuple[int, ...], int], Outlook]  # owner of each expert (a task, or `tasks` for the commons), tasks


def one_view(owners: tuple[int, ...], tasks: int) -> Outlook:
    """One view of every field, read by all."""
    return Outlook((0,) * len(owners), ((0,),) * (tasks + 1))


def own_views(owners: tuple[int, ...], tasks: int) -> Outlook:
    """One view a task and none for all: experts of the commons are dealt round the tasks' views."""
    dealt = [number % tasks for number in range(len(owners))]
    views = [owner if owner < tasks else dealt[sum(other == tasks for other in owners[:place])] for place, owner in enumerate(owners)]
    return Outlook(tuple(views), (*((task,) for task in range(tasks)), ()))


def own_and_shared(owners: tuple[int, ...], tasks: int) -> Outlook:
    """One view a task and one for all: an expert reads its owner's."""
    return Outlook(owners, tuple((owner,) for owner in range(tasks + 1)))


def view_per_expert(owners: tuple[int, ...], tasks: int) -> Outlook:
    """One view an expert; a reader's own views are those of the experts it owns."""
    homes = tuple(tuple(place for place, owner in enumerate(owners) if owner == reader) for reader in range(tasks + 1))
    return Outlook(tuple(range(len(owners))), homes)


PARADIGMS: dict[str, Paradigm] = {"shared": one_view, "own": own_views, "own+shared": own_and_shared, "each": view_per_expert}

Build = Callable[[Paradigm], Routing]


def alone(tasks: int, specific: int, paradigm: Paradigm) -> Routing:
    """Separate models: a task hears its own experts."""
    owners = _owners(tasks, specific, 0)
    rows = [tuple(Route.OPEN if owner == task else Route.HIDDEN for owner in owners) for task in range(tasks)]
    return _routing(owners, (*rows, (Route.HIDDEN,) * len(owners)), paradigm(owners, tasks))


def shared_bottom(tasks: int, paradigm: Paradigm) -> Routing:
    """One expert that all tasks hear and teach."""
    return mmoe(tasks, 1, paradigm)


def mmoe(tasks: int, experts: int, paradigm: Paradigm) -> Routing:
    """Multi-gate mixture of experts: every task hears and teaches every expert through a gate of its own."""
    owners = _owners(tasks, 0, experts)
    return _routing(owners, ((Route.OPEN,) * experts,) * (tasks + 1), paradigm(owners, tasks))


def omoe(tasks: int, experts: int, paradigm: Paradigm) -> Routing:
    """One-gate mixture of experts: as `mmoe`, with one gate for all."""
    routing = mmoe(tasks, experts, paradigm)
    return replace(routing, gates=(routing.gates[-1],))


def ple(tasks: int, experts: tuple[int, int], paradigm: Paradigm, *, legacy: bool = False) -> Routing:
    """Progressive layered extraction: a task hears its own experts and the shared ones; the commons hears all.

    `experts` counts own ones a task and shared ones. `legacy` hides the tasks' experts from the commons,
    as the code published with STEM has it.
    """
    owners = _owners(tasks, *experts)
    rows = [tuple(Route.OPEN if owner in (task, tasks) else Route.HIDDEN for owner in owners) for task in range(tasks)]
    commons = tuple(Route.HIDDEN if legacy and owner < tasks else Route.OPEN for owner in owners)
    return _routing(owners, (*rows, commons), paradigm(owners, tasks))


def stem(tasks: int, experts: tuple[int, int], paradigm: Paradigm, *, taught: bool = False, legacy: bool = False) -> Routing:
    """STEM-Net: a task hears every expert, and teaches its own and the shared ones.

    A gate sums its task's view and the commons' (neither is stopped). The commons hears the tasks' experts stopped,
    so that two layers do not leak one task's gradient into another's experts; `legacy` opens them, as published.
    `taught` opens everything: the ablation in which tasks teach each other's experts.
    """
    owners = _owners(tasks, *experts)
    # One expert in all belongs to the one task: there is nobody to keep it from, and no gate over it to learn instead.
    other = Route.OPEN if taught or len(owners) == 1 else Route.STOPPED
    rows = [tuple(Route.OPEN if owner in (task, tasks) else other for owner in owners) for task in range(tasks)]
    commons = tuple(Route.OPEN if owner == tasks or legacy else other for owner in owners)
    outlook = paradigm(owners, tasks)
    homes = tuple(tuple(sorted({*home, *outlook.homes[-1]})) for home in outlook.homes)
    return _routing(owners, (*rows, commons), replace(outlook, homes=homes))


def stem_al(tasks: int, experts: tuple[int, int], paradigm: Paradigm, *, helps: tuple[int, ...]) -> Routing:
    """STEM-Net with auxiliary tasks `helps`: others hear their experts stopped, and they hear nobody's but their own."""
    made = stem(tasks, experts, paradigm)
    apart = alone(tasks, experts[0], paradigm)
    hidden = (Route.HIDDEN,) * experts[1]
    table = tuple((*apart.table[reader], *hidden) if reader in helps else row for reader, row in enumerate(made.table))
    homes = paradigm(_owners(tasks, *experts), tasks).homes
    gates = tuple(homes[reader] or gate if reader in helps else gate for reader, gate in enumerate(made.gates))
    return replace(made, table=table, gates=gates)


def adatt(tasks: int, experts: tuple[int, int], paradigm: Paradigm) -> Routing:
    """Task-to-task fusion: every task and the commons hears and teaches every expert, own and shared, through a gate of its own."""
    owners = _owners(tasks, *experts)
    return _routing(owners, ((Route.OPEN,) * len(owners),) * (tasks + 1), paradigm(owners, tasks))


def home(groups: tuple[int, ...], experts: tuple[int, int]) -> Routing:
    """HoME's upper level: a task hears its own experts, its group's and the shared ones.

    `groups[task]` is its group. Inputs are the groups' readers, then the commons'; experts are the tasks', the groups' (both as
    many as `experts` has own ones, and reading the group's), then the shared. A gate sums its group's input and the commons'.
    """
    (own, shared), number = experts, max(groups) + 1
    owners = [*((task, groups[task]) for task in range(len(groups)) for _ in range(own)),
              *((len(groups) + group, group) for group in range(number) for _ in range(own)), *((-1, number),) * shared]
    heard = [{task, len(groups) + group, -1} for task, group in enumerate(groups)]
    table = tuple(tuple(Route.OPEN if owner in own_ones else Route.HIDDEN for owner, _ in owners) for own_ones in heard)
    gates = tuple((group, number) if shared else (group,) for group in groups)
    return Routing(tuple(view for _, view in owners), table, gates)


def narrowed(routing: Routing) -> Routing:
    """The routing whose readers hear only the experts of what their gates read."""
    read = [routing.gates[gate] for gate in routing.gate]
    table = [tuple(route if view in own else Route.HIDDEN for view, route in zip(routing.views, row, strict=True))
             for own, row in zip(read, routing.table, strict=True)]
    return replace(routing, table=tuple(table))


def stack(build: Build, paradigm: Paradigm, *, layers: int, tasks: int, commons: bool = False) -> tuple[Routing, ...]:
    """`layers` routings, the first over views in `paradigm`, later ones over the readers below; nothing unread is kept.

    A reader exists only where something reads it: at the top the tasks (and the commons if `commons`, which costs
    parameters that never learn), below it whatever the next layer's experts and gates read.
    """
    found: list[Routing] = []
    readers = tuple(range(tasks + commons))
    for level in reversed(range(layers)):
        routing = build(own_and_shared if level else paradigm).keep(readers)
        readers = routing.inputs
        found.append(routing.renumber(readers))
    return tuple(reversed(found))


def beside(parts: Sequence[Routing]) -> Routing:
    """Several routings as one: readers, experts and inputs one after the other, none of which meets another routing's.

    Example
    -------
    >>> print(beside([shared_bottom(2, one_view).keep((0, 1)), shared_bottom(1, one_view).keep((0,))]).text("abc"))
    reads   0   1
    a       ●      gate none
    b       ●      gate none
    c           ●  gate none
    """
    views: tuple[int, ...] = ()
    gates: tuple[tuple[int, ...], ...] = ()
    table: list[tuple[Route, ...]] = []
    width, start = sum(len(part.views) for part in parts), 0
    for part in parts:
        left = (Route.HIDDEN,) * len(views)
        table += [(*left, *row, *(Route.HIDDEN,) * (width - len(left) - len(row))) for row in part.table]
        views += tuple(start + view for view in part.views)
        gates += tuple(tuple(start + total for total in part.gates[gate]) for gate in part.gate)
        start += len(part.inputs)
    return Routing(views, tuple(table), gates)


def _owners(tasks: int, specific: int, shared: int) -> tuple[int, ...]:
    return (*(task for task in range(tasks) for _ in range(specific)), *(tasks,) * shared)


def _routing(owners: tuple[int, ...], table: tuple[tuple[Route, ...], ...], outlook: Outlook) -> Routing:
    """A reader without a view of its own has its gate sum the views of the experts it hears."""
    homes = [home or tuple(sorted({view for view, route in zip(outlook.views, row, strict=True) if route is not Route.HIDDEN}))
             for home, row in zip(outlook.homes, table, strict=True)]
    return Routing(outlook.views, table, tuple(homes))
