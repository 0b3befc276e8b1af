"""Episodes for any protocol and any users: cuts, padding, nesting, drawing, and weights that make users count alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.data.batch import Batch
from umbel.data.episodes import PADDING, Drawer, Episodes, Protocol
from umbel.data.shots import Shots, episode_batch, even, parted
from umbel.errors import UserError

EXAMPLES = settings(max_examples=40, deadline=None)

SIZES = st.integers(0, 30)


@st.composite
def protocols(draw: st.DrawFn) -> Protocol:
    support, query = draw(st.none() | SIZES), draw(st.none() | st.integers(1, 30))
    if support is None and query is None:
        query = 10
    least = query if query is not None else max(support or 0, 0) + 1
    few = draw(st.integers(least, 60))
    return Protocol(support, query, history=(few, draw(st.integers(few, 120))))


@EXAMPLES
@given(protocols(), st.integers(0, 60))
def test_a_cut_leaves_a_query_and_takes_no_row_twice(protocol: Protocol, more: int) -> None:
    rows = protocol.history[0] + more
    end, begin = protocol.cut(rows)
    assert 0 <= end <= begin < rows
    if protocol.query is not None:
        assert rows - begin == protocol.query
    if protocol.support is not None:
        assert end <= protocol.support
    else:
        assert end == begin


@EXAMPLES
@given(st.integers(1, 20), st.integers(0, 20), st.integers(0, 80))
def test_with_a_skip_every_smaller_support_has_the_same_query(most: int, shots: int, more: int) -> None:
    shots = min(shots, most)
    rows = most + 1 + more
    small, large = (Protocol(one, None, skip=most, history=(most + 1, 200)).cut(rows) for one in (shots, most))
    assert small[1] == large[1] == most
    assert (small[0], large[0]) == (shots, most)


@EXAMPLES
@given(st.none() | st.integers(-3, 5), st.none() | st.integers(-3, 5), st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_a_protocol_is_refused_or_can_cut_every_history_that_it_allows(
    support: int | None, query: int | None, history: tuple[int, int]
) -> None:
    try:
        protocol = Protocol(support, query, history=history)
    except UserError:
        return  # refused; what is said is a matter of the values
    for rows in range(history[0], history[1] + 1):
        end, begin = protocol.cut(rows)
        assert 0 <= end <= begin < rows


LENGTHS = st.lists(st.integers(0, 50), min_size=1, max_size=60).map(np.array)


@EXAMPLES
@given(LENGTHS, st.integers(1, 9), st.integers(0, 5), st.integers(0, 5))
def test_a_drawer_gives_every_user_once_in_batches_of_its_size(lengths: np.ndarray, size: int, seed: int, epoch: int) -> None:
    batches = list(Drawer(lengths, size, seed)(epoch))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert [len(one) for one in batches].count(size) >= len(lengths) // size
    assert all(1 <= len(one) <= size for one in batches)


@EXAMPLES
@given(LENGTHS, st.integers(1, 9), st.integers(0, 3))
def test_a_drawer_that_is_started_later_gives_the_rest(lengths: np.ndarray, size: int, start: int) -> None:
    drawer = Drawer(lengths, size, 7)
    whole = [one.tolist() for one in drawer(1)]
    assert [one.tolist() for one in drawer(1, start)] == whole[start:]


@st.composite
def padded(draw: st.DrawFn) -> Episodes:
    """Episodes with rows of their own, padded to a common length."""
    count = draw(st.integers(1, 6))
    rows = iter(range(10_000))
    sides = []
    for least in (0, 1):
        lengths = [draw(st.integers(least, 5)) for _ in range(count)]
        width = max(lengths)
        sides.append(np.array([[next(rows) for _ in range(n)] + [PADDING] * (width - n) for n in lengths], np.int64).reshape(count, width))
    return Episodes(np.arange(count, dtype=np.int64), sides[0], sides[1])


@EXAMPLES
@given(padded(), st.data())
def test_some_episodes_keep_their_rows_and_lose_only_padding(own: Episodes, data: st.DataObject) -> None:
    places = np.array(data.draw(st.lists(st.integers(0, len(own) - 1), min_size=1, max_size=5)))
    some = own.of(places)
    assert some.user.tolist() == own.user[places].tolist()
    for before, now in ((own.support, some.support), (own.query, some.query)):
        kept = [[row for row in line if row != PADDING] for line in now.tolist()]
        assert kept == [[row for row in line if row != PADDING] for line in before[places].tolist()]
        assert now.shape[1] == max(len(line) for line in kept)
    assert some.lengths.tolist() == own.lengths[places].tolist()
    assert some.sizes.tolist() == own.sizes[places].tolist()


SEEN = st.integers(1, 5).flatmap(
    lambda users: st.integers(1, 6).flatmap(
        lambda shots: st.lists(st.booleans(), min_size=users * shots * 2, max_size=users * shots * 2).map(
            lambda flags: torch.tensor(flags).view(users, shots, 2)
        )
    )
)


@EXAMPLES
@given(SEEN)
def test_rows_of_a_user_count_alike_and_add_up_to_one(seen: torch.Tensor) -> None:
    weight = even(seen)
    there = seen.any(dim=2)
    assert ((weight > 0) == there).all()
    for user in range(len(seen)):
        own = weight[user][there[user]]
        assert len(set(own.tolist())) <= 1
        assert float(own.sum()) == pytest.approx(1.0 if len(own) else 0.0)


def shots(seen: torch.Tensor) -> Shots:
    users, length, tasks = seen.shape
    fields = {"item": torch.arange(users * length).view(users, length)}
    return Shots(fields, torch.ones(seen.shape), seen, even(seen), torch.zeros(users, length, tasks))


@EXAMPLES
@given(SEEN, SEEN)
def test_an_episode_batch_comes_apart_again(support: torch.Tensor, query: torch.Tensor) -> None:
    users = min(len(support), len(query))
    left, right = shots(support[:users]), shots(query[:users])
    batch = episode_batch(left, right)
    back, fields = parted(batch.fields)
    assert torch.equal(back.labels, left.labels)
    assert torch.equal(back.seen, left.seen)
    assert torch.equal(back.weight, left.weight)
    assert torch.equal(back.fields["item"], left.fields["item"])
    assert fields["item"].tolist() == right.fields["item"].flatten().tolist()
    assert batch.seen.tolist() == right.seen.flatten(0, 1).tolist()


@EXAMPLES
@given(SEEN)
def test_row_weights_make_the_mean_over_rows_one_over_users(seen: torch.Tensor) -> None:
    """Whatever each row pays: the weighted mean over seen rows is the mean over users of their means."""
    batch: Batch = episode_batch(shots(seen), shots(seen))
    generator = torch.Generator().manual_seed(0)
    paid = torch.rand(batch.seen.shape, generator=generator)
    assert batch.weight is not None
    for task in range(2):
        rows = batch.seen[:, task]
        if not rows.any():
            continue
        weighted = float((batch.weight[rows, task] * paid[rows, task]).sum() / rows.sum())
        own = paid[:, task].view(len(seen), -1)
        means = [float(own[user][seen[user, :, task]].mean()) for user in range(len(seen)) if seen[user, :, task].any()]
        assert weighted == pytest.approx(float(np.mean(means)), rel=1e-4)
