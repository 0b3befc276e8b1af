"""Batches over packed columns, field by field against loops: what each takes, which labels are seen, what order changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from umbel.data.assemble import Assembler
from umbel.data.batch import Batch
from umbel.data.thin import thin
from umbel.data.vocab import layout
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Statistic, Task

quick = settings(deadline=None, max_examples=40)
NAN = float("nan")
FIELDS = (
    Field("user", FieldKind.ID),
    Field("age", FieldKind.NUMBER),
    Field("seen", FieldKind.SEQUENCE, like="user", length=3),
    Field("face", FieldKind.VECTOR, width=2),
    Field("place", FieldKind.CATEGORY),
    Field("tags", FieldKind.BAG, length=1),
    Field("past", FieldKind.STATISTIC, statistic=Statistic(("user",), ("click", "buy"))),
)
# A chain of three, a fork of it, a task by itself and a regression behind the chain.
TASKS = (
    Task("pay", given="buy"), Task("click"), Task("like"), Task("buy", given="click"), Task("share", given="click"),
    Task("spent", REGRESSION, given="pay"),
)  # fmt: skip
ABOVE = {"pay": ["click", "buy"], "click": [], "like": [], "buy": ["click"], "share": ["click"], "spent": ["click", "buy", "pay"]}
EVENT = st.sampled_from([0.0, 1.0, NAN])


def packed(rows: int, fields: Sequence[Field]) -> tuple[Tensor, Tensor]:
    """Every number of both packs another one."""
    schema = Schema(tuple(fields), TASKS)
    widths = [sum(part.stop - part.start for part in layout(schema, coded=coded).values()) for coded in (True, False)]
    codes = torch.arange(rows * widths[0], dtype=torch.int32).view(rows, widths[0])
    numbers = -torch.arange(rows * widths[1], dtype=torch.float32).view(rows, widths[1]) - 0.5
    return codes, numbers


def made(fields: Sequence[Field], labels: Tensor) -> tuple[Batch, Tensor, Tensor]:
    codes, numbers = packed(len(labels), fields)
    group, index = torch.arange(len(labels)) + 100, torch.arange(len(labels)) + 7
    return Assembler(Schema(tuple(fields), TASKS)).batch(codes, numbers, labels=labels, group=group, index=index), codes, numbers


@quick
@given(fields=st.permutations(FIELDS), rows=st.integers(0, 5), some=st.integers(1, 7))
def test_a_field_is_its_columns_in_any_order_of_fields(fields: list[Field], rows: int, some: int) -> None:
    own = [field for field in fields if field.name == "user" or field in fields[:some]]
    batch, codes, numbers = made(own, torch.zeros(rows, len(TASKS)))
    assert list(batch.fields) == [field.name for field in own]
    for coded, pack in ((True, codes), (False, numbers)):
        at = 0
        for field in own:
            if field.coded != coded:
                continue
            flat = field.kind in (FieldKind.ID, FieldKind.CATEGORY, FieldKind.NUMBER)
            piece = pack[:, at] if flat else pack[:, at : at + field.size]
            assert torch.equal(batch.fields[field.name], piece), field.name
            at += field.size
        assert at == pack.shape[1]


def test_fields_are_views_of_the_packs() -> None:
    """Nothing is copied for a batch but what the labels need."""
    batch, codes, numbers = made(FIELDS, torch.zeros(3, len(TASKS)))
    for field in FIELDS:
        pack = codes if field.coded else numbers
        assert batch.fields[field.name].untyped_storage().data_ptr() == pack.untyped_storage().data_ptr(), field.name


@quick
@given(rows=st.lists(st.lists(EVENT, min_size=len(TASKS), max_size=len(TASKS)), min_size=1, max_size=8))
def test_a_label_is_seen_where_all_that_it_is_given_happened(rows: list[list[float]]) -> None:
    labels = torch.tensor(rows)
    batch, _, _ = made(FIELDS, labels)
    place = {task.name: at for at, task in enumerate(TASKS)}
    for row, own in enumerate(rows):
        for task in TASKS:
            held = all(own[place[name]] == 1 for name in ABOVE[task.name])
            expected = own[place[task.name]] == own[place[task.name]] and held
            assert bool(batch.seen[row, place[task.name]]) is expected
            assert float(batch.labels[row, place[task.name]]) == (own[place[task.name]] if expected else 0.0)
    assert torch.equal(labels, torch.tensor(rows)) or bool(labels.isnan().any()), "the table's own labels stay as they are"
    assert batch.group is not None
    assert batch.group.tolist() == [100 + row for row in range(len(rows))]
    assert batch.index.tolist() == [7 + row for row in range(len(rows))]


@quick
@given(order=st.permutations(range(len(TASKS))), rows=st.lists(st.lists(EVENT, min_size=6, max_size=6), min_size=1, max_size=6))
def test_the_order_of_tasks_moves_columns_and_nothing_else(order: list[int], rows: list[list[float]]) -> None:
    labels = torch.tensor(rows)
    plain = Assembler(Schema(FIELDS, TASKS)).seen(labels)
    moved = Assembler(Schema(FIELDS, tuple(TASKS[at] for at in order))).seen(labels[:, order])
    assert torch.equal(moved, plain[:, order])


# fewer rows without the event


def drawn(labels: list[list[float]], seen: list[list[bool]]) -> Batch:
    rows = len(labels)
    fields = {"user": torch.arange(rows), "face": torch.arange(2 * rows).view(rows, 2)}
    weight, group = torch.arange(2.0 * rows).view(rows, 2), torch.arange(rows) + 50
    return Batch(fields, torch.tensor(labels), torch.tensor(seen), torch.arange(rows) + 9, weight=weight, group=group)


TWO = st.lists(st.tuples(st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=2), st.lists(st.booleans(), min_size=2, max_size=2)),
               min_size=1, max_size=12)  # fmt: skip


@quick
@given(
    rows=TWO, shares=st.tuples(st.sampled_from([0.1, 0.5, 1.0]), st.sampled_from([0.3, 1.0])), seed=st.lists(st.integers(0, 99), max_size=3)
)
def test_what_stays_is_whole_rows_of_the_batch(rows: list[Any], shares: tuple[float, float], seed: list[int]) -> None:
    """Every part of a row stays or goes with it; events stay, and labels of a task that keeps all."""
    whole = drawn([row for row, _ in rows], [row for _, row in rows])
    found = thin(whole, shares, seed=seed)
    place = (found.index - 9).tolist()
    assert place == sorted(set(place))
    for name, column in found.fields.items():
        assert torch.equal(column, whole.fields[name][place]), name
    for part in ("labels", "weight", "group"):
        assert torch.equal(getattr(found, part), getattr(whole, part)[place]), part
    must = whole.seen & ((whole.labels != 0) | (torch.tensor(shares) == 1.0))
    assert bool((found.seen <= whole.seen[place]).all())
    assert bool((found.seen >= must[place]).all())
    gone = [row for row in range(len(rows)) if row not in place]
    assert not bool(must[gone].any())
    if gone:
        assert bool(found.seen.any(dim=1).all()), "a row of which nothing is seen leaves with the others"
    again = thin(whole, shares, seed=seed)
    assert torch.equal(again.index, found.index)
    assert torch.equal(again.seen, found.seen)


@pytest.mark.parametrize("shares", [(0.5, 1.0), (1.0, 0.5)])
def test_each_task_is_thinned_by_its_own_share(shares: tuple[float, float]) -> None:
    rows = 4000
    whole = drawn([[0.0, 0.0]] * rows, [[True, True]] * rows)
    found = thin(whole, shares, seed=[1])
    kept = [int(found.seen[:, task].sum()) for task in range(2)]
    for share, count in zip(shares, kept, strict=True):
        assert abs(count - share * rows) <= 5 * (rows * share * (1 - share)) ** 0.5
