"""The ladder: closed forms against plain algebra, small states, shared weights untouched, whoever adapts at once."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import rated
from torch import Tensor

from umbel.coldstart.source import Reader
from umbel.data.batch import Batch
from umbel.data.episodes import Protocol, episodes
from umbel.data.shots import parted
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.learn.episode import Learner, Untouched
from umbel.learn.ladder import Ladder, Rung, UserState
from umbel.learn.ridge import Leaning, closed, leaning, ridge
from umbel.nn.heads import MakeIndependent
from umbel.nn.offset import Offsets
from umbel.nn.recommender import Parts, Recommender
from umbel.recipes import esmm, shared_bottom
from umbel.schema import Schema, Task


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="module")
def batch(table: Table) -> Batch:
    reader: Reader = rated.setup(table).reader
    return reader.batch(episodes(table, "train", Protocol(support=None, query=3, history=(7, 100))))


@pytest.fixture
def model(table: Table) -> Recommender:
    return rated.model(table).eval()


def rows(batch: Batch, user: int) -> Batch:
    """One user's support as plain rows, the user unknown."""
    support, _ = parted(batch.fields)
    there = support.weight[user] > 0
    fields = {name: column[user][there] for name, column in support.fields.items()}
    return Batch(fields, support.labels[user][there], support.seen[user][there], torch.arange(int(there.sum())))


def hidden(model: Recommender, own: Batch) -> Tensor:
    """What the last layer reads, and ones."""
    new = {**own.fields, "user": torch.zeros_like(own.fields["user"])}
    voices = model.heard(model.interact(model.views(model.rows(new), new)))
    return torch.cat([voices[0], torch.ones(len(voices[0]), 1)], 1).detach().double()


@pytest.mark.parametrize("strength", [0.1, 5.0])
def test_the_head_of_a_rating_is_ridge_regression_of_the_residuals(model: Recommender, batch: Batch, strength: float) -> None:
    """Written out: `(F'F + s I)^-1 F'(y - z)`."""
    own = rows(batch, 2)
    new = {**own.fields, "user": torch.zeros_like(own.fields["user"])}
    state = Ladder(user="user", strength=strength).adapt(model, own)
    f, residual = hidden(model, own), (own.labels[:, 0] - model(new)[:, 0]).double()
    expected = torch.linalg.solve(f.T @ f + strength * torch.eye(f.shape[1]), f.T @ residual)
    assert state.lean is not None
    torch.testing.assert_close(state.lean[0].double(), expected, rtol=1e-4, atol=1e-5)


def test_the_head_of_an_event_is_one_newton_step(model: Recommender, batch: Batch) -> None:
    """`(F' H F + s I)^-1 F'(y - p)`, with `H = p (1 - p)`."""
    own = rows(batch, 1)
    new = {**own.fields, "user": torch.zeros_like(own.fields["user"])}
    state = Ladder(user="user", strength=2.0).adapt(model, own)
    f, p = hidden(model, own), model(new)[:, 1].sigmoid().double()
    expected = torch.linalg.solve(f.T @ ((p * (1 - p))[:, None] * f) + 2 * torch.eye(f.shape[1]), f.T @ (own.labels[:, 1] - p))
    assert state.lean is not None
    torch.testing.assert_close(state.lean[1].double(), expected, rtol=1e-4, atol=1e-5)


def test_few_rows_and_many_give_one_solution(model: Recommender, batch: Batch) -> None:
    """The two systems, over rows and over weights, are equal: repeating rows until there are more than weights, at as many times the
    strength, changes nothing."""
    support, _ = parted(batch.fields)
    seen = model.views(model.rows(flat := {name: one.flatten(0, 1) for name, one in support.fields.items()}), flat)
    seen = seen.view(*support.labels.shape[:2], *seen.shape[1:])[:, :3]
    labels, known = support.labels[:, :3], support.seen[:, :3]
    weight, prior = torch.full(labels.shape[:2], 1 / 3), torch.zeros(*labels.shape[:2], 2)
    few = ridge(model, seen, (labels, known), weight=weight, prior=prior, strength=0.5)
    times = 5
    many = ridge(
        model, seen.repeat(1, times, 1, 1, 1), (labels.repeat(1, times, 1), known.repeat(1, times, 1)),
        weight=weight.repeat(1, times) / times, prior=prior.repeat(1, times, 1), strength=0.5 * times,
    )
    torch.testing.assert_close(few, many, rtol=1e-4, atol=1e-5)


def test_users_together_are_users_alone(model: Recommender, batch: Batch) -> None:
    together = Learner(model, Leaning(1.0), user="user")(batch.fields)
    users = len(parted(batch.fields)[0].labels)
    ladder = Ladder(user="user", strength=1.0)
    _, query = parted(batch.fields)
    model.offsets = Offsets("item", (20, 2))
    for user in range(users):
        asked = {name: column.view(users, -1, *column.shape[1:])[user] for name, column in query.items()}
        prior = batch.fields[":prior"].view(users, -1, 2)[user]
        support, _ = parted(batch.fields)
        there = support.weight[user] > 0
        new = _new(rows(batch, user))
        seen, happened = model.views(model.rows(new), new)[None], (support.labels[user][there][None], support.seen[user][there][None])
        weight, known = support.weight[user][there][None], support.prior[user][there][None]
        lean = ridge(model, seen, happened, weight=weight, prior=known, strength=ladder.strength)
        asked["user"] = torch.zeros_like(asked["user"])
        alone = leaning(model, model.views(model.rows(asked), asked)[None], lean)[0] + prior
        torch.testing.assert_close(together.view(users, -1, 2)[user], alone, rtol=1e-4, atol=1e-5)


def _new(own: Batch) -> dict[str, Tensor]:
    return {**own.fields, "user": torch.zeros_like(own.fields["user"])}


def test_an_unbounded_strength_is_the_shared_model(model: Recommender, batch: Batch) -> None:
    shared = Learner(model, Untouched(), user="user")(batch.fields)
    torch.testing.assert_close(Learner(model, Leaning(1e12), user="user")(batch.fields), shared)
    assert not torch.allclose(Learner(model, Leaning(0.1), user="user")(batch.fields), shared)


def test_a_label_that_was_not_seen_changes_nothing(model: Recommender, batch: Batch) -> None:
    own = rows(batch, 0)
    seen = own.seen.clone()
    seen[0, 0] = False
    labels = own.labels.clone()
    labels[0, 0] = float("nan")
    states = [Ladder(user="user").adapt(model, Batch(own.fields, one, seen, own.index)) for one in (own.labels, labels)]
    assert states[0].lean is not None
    assert states[1].lean is not None
    assert torch.equal(states[0].lean, states[1].lean)


@pytest.mark.parametrize(
    ("ladder", "rung"),
    [
        (Ladder(head=1), [Rung.CONTENT, Rung.HEAD, Rung.HEAD, Rung.HEAD]),
        (Ladder(head=3, steps_from=10), [Rung.CONTENT, Rung.CONTENT, Rung.HEAD, Rung.STEPS]),
        (Ladder(head=None), [Rung.CONTENT] * 4),
        (Ladder(head=0), [Rung.CONTENT, Rung.HEAD, Rung.HEAD, Rung.HEAD]),
    ],
)
def test_rungs_by_rows(ladder: Ladder, rung: list[Rung]) -> None:
    assert [ladder.rung(count) for count in (0, 1, 5, 10)] == rung


def test_a_user_who_was_trained_on_is_read_by_id() -> None:
    ladder = Ladder(known=50)
    assert [ladder.rung(5, trained=count) for count in (0, 49, 50)] == [Rung.HEAD, Rung.HEAD, Rung.ID]
    assert Ladder(known=None).rung(5, trained=10**6) is Rung.HEAD


def test_no_rows_are_the_shared_model_bit_for_bit(model: Recommender, batch: Batch) -> None:
    model.offsets = Offsets("item", (20, 2))
    model.offsets.values.normal_()
    own = rows(batch, 0)
    nothing = Batch({name: one[:0] for name, one in own.fields.items()}, own.labels[:0], own.seen[:0], own.index[:0])
    ladder = Ladder(user="user", steps_from=0, steps=2, rates={})
    state = Ladder(user="user").adapt(model, nothing)
    assert state == UserState(Rung.CONTENT, 0)
    assert torch.equal(Ladder(user="user").answer(model, own.fields, state), model(own.fields))
    assert (ladder.rung(0), ladder.rung(1)) == (Rung.CONTENT, Rung.STEPS), "there is nothing to step by without rows"
    assert torch.equal(ladder.answer(model, own.fields, ladder.adapt(model, nothing)), model(own.fields))


def test_a_state_is_small_and_comes_back(model: Recommender, batch: Batch) -> None:
    ladder = Ladder(user="user")
    state = ladder.adapt(model, rows(batch, 3))
    content = state.to_bytes()
    assert len(content) == 12 + 4 * 2 * 6
    back = UserState.from_bytes(content)
    assert (back.rung, back.rows) == (state.rung, state.rows)
    asked = rows(batch, 4).fields
    assert torch.equal(ladder.answer(model, asked, back), ladder.answer(model, asked, state))
    assert UserState.from_bytes(UserState(Rung.CONTENT, 0).to_bytes()) == UserState(Rung.CONTENT, 0)


def test_three_tasks_of_width_64_are_under_a_kilobyte() -> None:
    sizes = {tasks: len(UserState(Rung.HEAD, 10, torch.zeros(tasks, 65)).to_bytes()) for tasks in (3, 4, 20)}
    assert sizes == {3: 792, 4: 1052, 20: 5212}, "what docs/new-users.md says: with more than three tasks of 64 no longer within 1 kB"


@pytest.mark.parametrize("content", [b"", b"umb1", b"something else entirely", UserState(Rung.HEAD, 2, torch.ones(1, 3)).to_bytes()[:-1]])
def test_what_is_no_state_is_refused(content: bytes) -> None:
    with pytest.raises(UserError, match="user state"):
        UserState.from_bytes(content)


def test_steps_are_those_of_the_learner(table: Table, batch: Batch, model: Recommender) -> None:
    """The ladder's gradient rung answers what training adapted: the same steps, rates and scope."""
    from umbel.learn.adapt import Inner, Steps
    from umbel.learn.rates import fixed
    from umbel.learn.scope import DECISION

    learner = Learner(model, Steps(model, Inner(DECISION, steps=2), rates=fixed(0.125)), user="user")
    assert isinstance(learner.adapter, Steps)
    rates = {name: one.detach() for name, one in learner.adapter.rates().items()}
    ladder = Ladder(head=None, steps_from=1, steps=2, rates=rates, user="user")
    blank = {name: torch.zeros_like(batch.fields[name]) for name in (":prior", "support/:prior")}
    told = learner({**batch.fields, **blank}).view(len(parted(batch.fields)[0].labels), -1, 2)
    _, query = parted(batch.fields)
    asked = {name: column.view(len(told), -1, *column.shape[1:])[1] for name, column in query.items()}
    state = ladder.adapt(model, rows(batch, 1))
    assert state.rung is Rung.STEPS
    torch.testing.assert_close(ladder.answer(model, asked, state), told[1], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="not small"):
        state.to_bytes()


def test_64_threads_adapting_at_once_leave_the_weights_as_they_were(model: Recommender, batch: Batch) -> None:
    rates = {name: torch.tensor(0.1) for name, _ in model.named_parameters() if name.startswith(("layers.", "head."))}
    ladders = [Ladder(user="user"), Ladder(head=None, steps_from=1, steps=1, rates=rates, user="user")]
    before = digest(model)
    users = len(parted(batch.fields)[0].labels)
    asked = rows(batch, 0).fields
    alone = [[ladder.answer(model, asked, ladder.adapt(model, rows(batch, user))) for user in range(users)] for ladder in ladders]

    def one(number: int) -> bool:
        ladder, user = number % 2, number % users
        state = ladders[ladder].adapt(model, rows(batch, user))
        return torch.equal(ladders[ladder].answer(model, asked, state), alone[ladder][user])

    with ThreadPoolExecutor(64) as pool:
        assert all(pool.map(one, range(256)))
    assert digest(model) == before


def digest(model: Recommender) -> str:
    return hashlib.sha256(b"".join(one.numpy().tobytes() for one in model.state_dict().values())).hexdigest()


def test_a_ladder_is_written_and_read(tmp_path: Path) -> None:
    ladder = Ladder(2, 10, 40, "user", strength=3.0, scope="last", steps=2, rates={"head.weights.0": torch.tensor([0.1, 0.2])})
    ladder.save(tmp_path)
    back = Ladder.load(tmp_path)
    assert back is not None
    assert (back.head, back.steps_from, back.known, back.user, back.strength, back.scope, back.steps) == (2, 10, 40, "user", 3.0, "last", 2)
    assert torch.equal(back.rates["head.weights.0"], ladder.rates["head.weights.0"])
    assert Ladder.load(tmp_path / "none") is None


def test_a_head_whose_towers_speak_to_each_other_has_no_closed_form(table: Table) -> None:
    schema = Schema(table.schema.fields, (Task("click"), Task("buy", given="click")))
    model = esmm(schema, rated.sizes(table, tower=(4,)))
    assert not closed(model)
    with pytest.raises(UserError, match="no last layer in closed form"):
        leaning(model, torch.zeros(1, 1, 1, 5, 3), torch.zeros(1, 2, 5))
    assert closed(shared_bottom(schema, rated.sizes(table), parts=Parts(head=MakeIndependent())))


def test_ridge_is_the_minimum(model: Recommender, batch: Batch) -> None:
    """No step from it lowers the regularised squared error."""
    own = rows(batch, 5)
    state = Ladder(user="user", strength=1.5).adapt(model, own)
    f, residual = hidden(model, own), (own.labels[:, 0] - model(_new(own))[:, 0]).detach().double()
    assert state.lean is not None
    best = state.lean[0].double()

    def cost(lean: Tensor) -> float:
        return float((residual - f @ lean).square().sum() + 1.5 * lean.square().sum())

    rng = np.random.default_rng(0)
    assert all(cost(best) <= cost(best + torch.from_numpy(rng.normal(size=len(best)) * 0.01)) for _ in range(100))
