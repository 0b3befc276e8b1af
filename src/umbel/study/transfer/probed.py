"""What the probes of one shared training ask for (which tasks to group, which fields to part) and the entrants that check it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from umbel.run.section import OptionSection
from umbel.schema import Schema
from umbel.study.entrants import Entrant, control
from umbel.study.transfer.partitions import Partition, named, ranked, worth
from umbel.study.transfer.witness import Witnessed

PROBED = "shared_bottom"  # whose one expert all tasks teach: there is no gate by which to avoid each other
APART, TOGETHER = "alone", "mmoe"  # the partitions that a study trains anyway: every task alone, all in one group
PULLED = 0.5  # of the batches: a table that two tasks pull apart as often as not is no table for both
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Grouping:
    """A way to part the tasks, what it promises (see `partitions.worth`), and the entrant that would train it."""

    groups: tuple[tuple[str, ...], ...]
    worth: float
    entrant: str


@dataclass(frozen=True, slots=True)
class Probed:
    """The help matrix over late epochs (row helps column, percent), the groupings by their promise, and how often tasks pull a field apart.

    `pulled` is, per field with a table, the share of batches in which the gradients of two tasks point apart there, over pairs
    and late epochs; `own` are the fields where it is half of them or more: those that tasks would want tables of their own of.
    `nats` are the tasks whose help is no share of their loss but of a nat a row (`gradients.Affinity`).
    """

    tasks: tuple[str, ...]
    helps: tuple[tuple[float, ...], ...]
    groupings: tuple[Grouping, ...]
    pulled: Mapping[str, float]
    own: tuple[str, ...]
    nats: tuple[str, ...] = ()


def probed(schema: Schema, seen: Witnessed) -> Probed:
    """From a training in which all tasks shared one view."""
    tasks = tuple(task.name for task in schema.tasks)
    helps = seen.affinity(tasks)
    groupings = tuple(Grouping(named(one, tasks), worth(one, helps), entrant_name(one, tasks)) for one in ranked(helps)[:SHOWN])
    tables = {field.name: seen.conflict(f"table {field.table}") for field in schema.fields if field.coded}
    pulled = {name: share for name, share in tables.items() if share is not None}
    own = tuple(name for name, share in pulled.items() if share >= PULLED)
    nats = tuple(task.name for task in schema.tasks if task.kind.form.density)
    return Probed(tasks, tuple(tuple(map(float, row)) for row in helps), groupings, pulled, own, nats)


def entrant_name(partition: Partition, tasks: Sequence[str]) -> str:
    """`{click, like} {watch}`, or the recipe that is that partition anyway."""
    if len(partition) == len(tasks):
        return APART
    if len(partition) == 1:
        return TOGETHER
    return " ".join(f"{{{', '.join(group)}}}" for group in named(partition, tasks))


def checks(found: Probed, schema: Schema, *, trained: int, controls: bool) -> tuple[Entrant, ...]:
    """The groupings that promise most, the fields to part, and their width controls.

    The first grouping is always among those that are trained, if any is: so what the probes ask for is put to the test.
    """
    groupings = [one for one in found.groupings[:trained] if one.entrant not in (APART, TOGETHER)]
    plain = [Entrant(one.entrant, "grouped", options=OptionSection(groups=one.groups)) for one in groupings]
    if 0 < len(found.own) < len(schema.fields):
        plain.append(Entrant(fields_name(found.own), "stem_fields", options=OptionSection(own=found.own)))
    return (*plain, *(_widths(groupings) if controls else ()))


def fields_name(own: Sequence[str]) -> str:
    """The entrant whose tasks have own tables of these fields alone."""
    return f"stem_fields {', '.join(own)}"


def _widths(groupings: Sequence[Grouping]) -> Iterator[Entrant]:
    yield from (control(TOGETHER, views) for views in sorted({len(one.groups) for one in groupings}))
