"""Episode batches by hand: what is flattened, what weighs how much, and what comes apart again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests import rated
from torch import Tensor

from umbel.data.episodes import PADDING, episodes
from umbel.data.shots import KNOWN, LABELS, PRIOR, QUERY_PRIOR, SEEN, SUPPORT, WEIGHT, Shots, divided, episode_batch, even, gather, parted
from umbel.data.table import Table
from umbel.nn.losses import Denominator, task_losses
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

SCHEMA = Schema((Field("item", FieldKind.ID), Field("tags", FieldKind.BAG, length=2)), (Task("rating", REGRESSION), Task("click")))


def shots(users: int, rows: int, *, seen: Tensor | None = None, start: float = 0.0) -> Shots:
    """Rows with running numbers, so that every place is told from every other."""
    item = torch.arange(users * rows).view(users, rows)
    tags = torch.stack([item, item + 100], 2)
    labels = torch.stack([item.float() + start, (item % 2).float()], 2)
    there = torch.ones(users, rows, 2, dtype=torch.bool) if seen is None else seen
    return Shots({"item": item, "tags": tags}, labels, there, even(there), torch.full((users, rows, 2), 0.5))


def test_query_rows_are_flattened_user_by_user() -> None:
    batch = episode_batch(shots(2, 3), shots(2, 4))
    assert batch.fields["item"].tolist() == list(range(8))
    assert batch.fields["tags"].tolist() == [[one, one + 100] for one in range(8)]
    assert batch.labels[:, 0].tolist() == list(range(8))
    assert batch.fields[QUERY_PRIOR].shape == (8, 2)
    assert batch.index.tolist() == list(range(8))


def test_support_rows_are_fields_of_users() -> None:
    batch = episode_batch(shots(2, 3), shots(2, 4))
    assert batch.fields[f"{SUPPORT}item"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert batch.fields[f"{SUPPORT}tags"].shape == (2, 3, 2)
    assert {LABELS, SEEN, WEIGHT, PRIOR} <= set(batch.fields)


def test_the_rows_keep_their_numbers() -> None:
    assert episode_batch(shots(1, 1), shots(1, 2), torch.tensor([7, 9])).index.tolist() == [7, 9]


def test_known_users_are_marked_only_where_someone_asks() -> None:
    assert KNOWN not in episode_batch(shots(2, 1), shots(2, 1)).fields
    batch = episode_batch(shots(2, 1), shots(2, 1), known=torch.tensor([True, False]))
    assert batch.fields[KNOWN].tolist() == [True, False]


def test_what_was_put_together_comes_apart() -> None:
    support, query = shots(2, 3, start=10.0), shots(2, 4)
    back, plain = parted(episode_batch(support, query, known=torch.tensor([True, False])).fields)
    assert set(plain) == {"item", "tags"}
    assert plain["tags"].tolist() == query.fields["tags"].flatten(0, 1).tolist()
    for one, other in zip(back[1:], support[1:], strict=True):
        assert torch.equal(one, other)
    assert all(torch.equal(back.fields[name], support.fields[name]) for name in support.fields)


def test_the_first_dimension_as_several() -> None:
    assert divided(torch.arange(12).view(6, 2), (2, 3)).shape == (2, 3, 2)
    assert divided(torch.arange(6), (3, 2))[2].tolist() == [4, 5]


def test_rows_of_a_user_count_alike() -> None:
    seen = torch.tensor([[[True, True], [True, False], [False, False]], [[False, False]] * 3])
    assert even(seen).tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]


def losses(seen: Tensor) -> tuple[Tensor, Tensor]:
    """The batch's losses, and the means over users of each one's mean square, of those who saw any."""
    query = shots(len(seen), seen.shape[1], seen=seen)
    batch = episode_batch(shots(len(seen), 1), query)
    logits = torch.linspace(-1, 1, len(batch.labels) * 2).view(-1, 2)
    found = task_losses(logits, batch, SCHEMA, denominator=Denominator.SEEN)
    square = (logits - batch.labels).square()[:, 0].view(seen.shape[:2])
    own = [square[user][seen[user, :, 0]].mean() for user in range(len(seen)) if seen[user, :, 0].any()]
    return found, torch.stack(own).mean()


@pytest.mark.parametrize("pattern", [
    [[1, 1, 1, 1], [1, 1, 1, 1]],
    [[1, 1, 1, 1], [1, 0, 0, 0]],
    [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]],
])
def test_a_loss_is_the_mean_over_users_of_their_own_means(pattern: list[list[int]]) -> None:
    """Whatever padding stands beside them, and whoever saw no label."""
    seen = torch.tensor(pattern, dtype=torch.bool)[..., None].expand(-1, -1, 2)
    found, expected = losses(seen)
    assert float(found[0]) == pytest.approx(float(expected), rel=1e-5)


def test_each_task_has_means_of_its_own() -> None:
    """A click unseen leaves the rating's weights as they were."""
    seen = torch.ones(2, 3, 2, dtype=torch.bool)
    seen[0, 1:, 1] = False
    assert float(losses(seen)[0][0]) == pytest.approx(float(losses(torch.ones(2, 3, 2, dtype=torch.bool))[0][0]))
    batch = episode_batch(shots(2, 1), shots(2, 3, seen=seen))
    assert batch.weight is not None
    assert batch.weight[:, 0].tolist() == [1.0] * 6
    assert batch.weight[:, 1].tolist() == pytest.approx([2.0] * 3 + [2 / 3] * 3)


def test_nobody_saw_anything() -> None:
    found, _ = losses(torch.tensor([[[True, False]], [[True, False]]]))
    assert found.isfinite().all()
    assert float(found[1]) == 0.0


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


def test_gathered_rows_are_the_tables(table: Table) -> None:
    own = episodes(table, "train", rated.SHORT)
    fields, labels, seen = gather(table, own.support)
    plain = table.batch(own.support.ravel())
    assert labels.tolist() == plain.labels.view(labels.shape).tolist()
    assert seen.all()
    for name, column in plain.fields.items():
        assert torch.equal(fields[name].flatten(0, 1), column)


def test_no_rows_at_all_have_a_shape(table: Table) -> None:
    fields, labels, seen = gather(table, np.empty((3, 0), np.int64))
    assert labels.shape == (3, 0, 2)
    assert seen.shape == (3, 0, 2)
    assert fields["genres"].shape == (3, 0, 3)


def test_a_user_of_padding_alone_is_unseen(table: Table) -> None:
    _, _, seen = gather(table, np.full((2, 3), PADDING))
    assert not seen.any()
    assert even(seen).sum() == 0


def test_a_row_that_stands_twice_counts_twice(table: Table) -> None:
    """In what a user learns, and as query."""
    own = episodes(table, "train", rated.SHORT)
    doubled = replace(own, support=np.concatenate([own.support, own.support[:, :1]], 1))
    _, _, seen = gather(table, doubled.support)
    weight = even(seen)
    assert weight[0].tolist() == pytest.approx([0.2] * 5)
