"""Support rows of others beside a user's own, by hand: whose they are, what they weigh, and how their query counts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from umbel.data.batch import Batch
from umbel.data.shots import LABELS, PRIOR, SEEN, SUPPORT, WEIGHT, Shots, even
from umbel.data.together import MEMBER, Beside, asked, together


def shots(there: list[list[int]], *, first: int = 0, tasks: int = 1) -> Shots:
    """Rows numbered from `first`; 0 in `there` is padding."""
    marks = torch.tensor(there, dtype=torch.bool)
    number = torch.arange(first, first + marks.numel()).view(marks.shape)
    seen = marks[..., None].expand(*marks.shape, tasks)
    labels = torch.where(seen, number[..., None].float(), 0.0)
    return Shots({"item": number, "tags": torch.stack([number, -number], 2)}, labels, seen, even(seen), torch.zeros_like(labels))


OWN = shots([[1, 1, 0], [1, 1, 1]])
OTHERS = shots([[1, 0], [1, 1], [1, 1], [1, 0]], first=100)  # two of the first user's, then two of the second's
SHARE = torch.tensor([[0.5, 0.25], [1.0, 0.0]])


def test_rows_stand_in_one_line_and_say_whose_they_are() -> None:
    found = together(OWN, OTHERS, SHARE, normalise=True)
    assert found.fields["item"].tolist() == [[0, 1, 2, 100, 101, 102, 103], [3, 4, 5, 104, 105, 106, 107]]
    assert found.fields["tags"].shape == (2, 7, 2)
    assert found.fields[MEMBER].tolist() == [[0, 0, -1, 1, -1, 2, 2], [0, 0, 0, 1, 1, 2, -1]]
    assert found.labels[0, :, 0].tolist() == [0.0, 1.0, 0.0, 100.0, 0.0, 102.0, 103.0]


def test_weights_are_shares_of_means() -> None:
    plain = together(OWN, OTHERS, SHARE, normalise=False).weight
    assert plain.tolist() == [[0.5, 0.5, 0.0, 0.5, 0.0, 0.125, 0.125], pytest.approx([1 / 3] * 3 + [0.5, 0.5, 0.0, 0.0])]
    whole = together(OWN, OTHERS, SHARE, normalise=True).weight
    torch.testing.assert_close(whole, plain / torch.tensor([[1.75], [2.0]]))
    torch.testing.assert_close(whole.sum(1), torch.ones(2))


def test_a_user_without_rows_leaves_its_share_empty() -> None:
    own = shots([[0, 0], [1, 1]])
    found = together(own, OTHERS, SHARE, normalise=True).weight
    assert float(found[0].sum()) == pytest.approx(0.75 / 1.75)


def test_several_tasks_and_priors_come_along() -> None:
    own, others = shots([[1, 1]], tasks=2), shots([[1], [1]], first=9, tasks=2)
    others = others._replace(prior=torch.full_like(others.prior, 3.0))
    found = together(own, others, torch.tensor([[0.1, 0.1]]), normalise=True)
    assert found.labels.shape == (1, 4, 2)
    assert found.prior[0, :, 0].tolist() == [0.0, 0.0, 3.0, 3.0]
    assert found.seen.all()


def index(rows: int) -> Tensor:
    return torch.arange(rows)


def test_a_batch_says_whose_rows_it_has() -> None:
    query = shots([[1, 1], [1, 0]], first=50)
    batch = asked(OWN, query, index=index(4))
    assert batch.fields[MEMBER].tolist() == [0, 0, 0, -1]
    assert batch.fields[f"{SUPPORT}{MEMBER}"].tolist() == [[0, 0, -1], [0, 0, 0]]
    for name, column in ((LABELS, OWN.labels), (SEEN, OWN.seen), (WEIGHT, OWN.weight), (PRIOR, OWN.prior)):
        assert torch.equal(batch.fields[name], column)
    helped = asked(together(OWN, OTHERS, SHARE, normalise=True), query, index=index(4))
    assert helped.fields[f"{SUPPORT}{MEMBER}"].shape == (2, 7)
    assert torch.equal(helped.labels, batch.labels)


def mean_by_set(batch: Batch, users: int, loss: Tensor, sizes: list[list[list[int]]]) -> float:
    """The mean over users of `sum over sets of share * mean loss of the set`, sets as lists of columns."""
    rows = loss.view(users, -1)
    total = 0.0
    for user in range(users):
        for share, columns in zip(SHARES_ASKED[user], sizes[user], strict=True):
            total += share * float(rows[user, columns].mean()) if columns else 0.0
    return total / users


SHARES_ASKED = [[1.0, 0.2, 0.1], [1.0, 0.3, 0.0]]


def test_the_query_of_others_counts_by_their_shares() -> None:
    """Means of each set, whatever number of rows it has: as the loss of the loop weighs rows, and divides by those seen."""
    query = shots([[1, 1, 0], [1, 1, 1]], first=50)
    others = shots([[1, 0], [1, 1], [1, 1], [1, 0]], first=200)
    share = torch.tensor([one[1:] for one in SHARES_ASKED])
    batch = asked(OWN, query, Beside(others, share), index=index(14))
    assert batch.labels.shape == (14, 1)
    assert batch.fields[MEMBER].tolist() == [0, 0, -1, 1, -1, 2, 2, 0, 0, 0, 1, 1, -1, -1]
    loss = torch.rand(14, generator=torch.Generator().manual_seed(0))
    assert batch.weight is not None
    found = float((loss * batch.weight[:, 0] * batch.seen[:, 0]).sum() / batch.seen.sum())
    sets = [[[0, 1], [3], [5, 6]], [[0, 1, 2], [3, 4], []]]
    assert found == pytest.approx(mean_by_set(batch, 2, loss, sets), rel=1e-5)


def test_a_label_that_a_user_did_not_give_leaves_its_mean_alone() -> None:
    """Of two tasks one is unseen in a row: each task has its own count."""
    query = shots([[1, 1], [1, 1]], first=50, tasks=2)
    seen = query.seen.clone()
    seen[0, 1, 1] = False
    batch = asked(OWN._replace(labels=OWN.labels.expand(2, 3, 2), seen=OWN.seen.expand(2, 3, 2), prior=torch.zeros(2, 3, 2)),
                  query._replace(seen=seen), Beside(shots([[1], [1]], first=9, tasks=2), torch.tensor([[0.5], [0.5]])), index=index(6))
    assert batch.weight is not None
    weighed = (batch.weight * batch.seen).view(2, 3, 2)
    torch.testing.assert_close(weighed[..., 0].sum(1) / batch.seen[:, 0].sum(), torch.tensor([0.75, 0.75]))
    torch.testing.assert_close(weighed[..., 1].sum(1) / batch.seen[:, 1].sum(), torch.tensor([0.75, 0.75]))


def test_known_users_are_marked() -> None:
    batch = asked(OWN, shots([[1], [1]]), index=index(2), known=torch.tensor([True, False]))
    assert batch.fields[":known"].tolist() == [True, False]
