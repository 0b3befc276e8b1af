"""Which rung of the ladder answers from how many rows, on scores made by hand, and the ladder of a learner that was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from tests import rated

from umbel.coldstart import rungs
from umbel.coldstart.answers import answers
from umbel.coldstart.ccml import Ccml
from umbel.coldstart.gradient import Anil, Maml, Melu, MetaSgd, Unadapted
from umbel.coldstart.method import Method, Prepared
from umbel.coldstart.newcomers import DropoutNet, MeanEmbedding, MetaWarmUp
from umbel.coldstart.rungs import STRENGTHS, climb, known_from, serving
from umbel.coldstart.tanp import Tanp
from umbel.data.episodes import Episodes, Protocol, episodes
from umbel.data.table import Table
from umbel.learn.adapt import Steps
from umbel.learn.episode import Adapter, Learner, Untouched
from umbel.learn.ladder import Ladder, Rung
from umbel.learn.ridge import Leaning
from umbel.learn.scope import EMBEDDING
from umbel.recipes import esmm
from umbel.schema import Schema, Task

SIZES = (1, 3, 5)
Scored = Mapping[str, Mapping[int, float]]


def told(**scores: list[float]) -> Scored:
    return {name: dict(zip(SIZES, one, strict=True)) for name, one in scores.items()}


@pytest.mark.parametrize(
    ("head", "start"),
    [
        ([2.0, 2.0, 2.0], 1),
        ([0.0, 2.0, 2.0], 3),
        ([0.0, 0.0, 2.0], 5),
        ([2.0, 2.0, 0.0], None),
        ([2.0, 0.0, 2.0], 5),
        ([1.0, 1.0, 1.0], None),
        ([1.0, 2.0, 2.0], 3),
        ([float("-inf")] * 3, None),
    ],
)
def test_a_rung_answers_from_where_it_is_better_and_stays_so(head: list[float], start: int | None) -> None:
    scores = told(content=[1.0, 1.0, 1.0], head=head)
    assert rungs._from(scores, Rung.HEAD, (Rung.CONTENT,)) == start


@pytest.mark.parametrize(
    ("steps", "start"),
    [([4.0, 4.0, 4.0], 1), ([2.5, 2.5, 4.0], 5), ([2.5, 2.5, 2.5], None), ([4.0, 2.5, 4.0], 5)],
)
def test_it_has_to_beat_every_rung_below(steps: list[float], start: int | None) -> None:
    scores = told(content=[1.0, 3.0, 1.0], head=[3.0, 1.0, 3.0], steps=steps)
    assert rungs._from(scores, Rung.STEPS, (Rung.CONTENT, Rung.HEAD)) == start


def test_a_rung_that_was_not_tried_is_not_there() -> None:
    scores = told(content=[1.0, 1.0, 1.0], steps=[2.0, 2.0, 2.0])
    assert rungs._from(scores, Rung.HEAD, (Rung.CONTENT,)) is None
    assert rungs._from(scores, Rung.STEPS, (Rung.CONTENT, Rung.HEAD)) == 1, "what is not there is not in its way"


def test_sizes_may_come_in_any_order() -> None:
    scores = {"content": {5: 1.0, 1: 1.0, 3: 1.0}, "head": {3: 2.0, 5: 2.0, 1: 0.0}}
    assert rungs._from(scores, Rung.HEAD, (Rung.CONTENT,)) == 3


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"), rated.log(users=40))


def prepared(table: Table, method: Method) -> Prepared:
    torch.manual_seed(1)
    found = method.prepare(rated.setup(table))
    found.learner.eval()
    return found


def curve(table: Table) -> dict[int, Episodes]:
    return {shots: episodes(table, "valid", Protocol(shots, None, skip=5, history=(7, 100))) for shots in SIZES}


def constructed(monkeypatch: pytest.MonkeyPatch, scores: Mapping[type[Adapter], list[float]], *, best: float = 3.0) -> None:
    """Every adapter has these scores by size; a ridge those of its own less its distance from the best strength."""
    def of(learner: Learner, adapter: Adapter, own: Mapping[int, Episodes], *, read: object) -> dict[int, float]:
        down = abs(adapter.strength - best) / 1e4 if isinstance(adapter, Leaning) else 0.0
        return {size: score - down for size, score in zip(own, scores[type(adapter)], strict=True)}

    monkeypatch.setattr(rungs, "_scores", of)


def test_the_ladder_is_the_one_that_scores_say(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    constructed(monkeypatch, {Untouched: [1.0, 1.0, 1.0], Leaning: [0.5, 2.0, 2.0], Steps: [0.0, 1.5, 3.0]}, best=30.0)
    made = prepared(table, Melu(steps=2, rate=0.125))
    found = climb(made.learner, curve(table), made.read)
    ladder = found.ladder
    assert (ladder.head, ladder.steps_from, ladder.known) == (3, 5, None)
    assert (ladder.strength, ladder.scope, ladder.steps, ladder.user) == (30.0, "decision", 2, "user")
    assert set(ladder.rates) == {name for name, _ in made.learner.model.named_parameters() if name.startswith(("layers.", "head."))}
    assert all(float(one) == 0.125 for one in ladder.rates.values())
    assert [ladder.rung(rows) for rows in (0, 1, 2, 3, 4, 5, 50)] == [Rung.CONTENT] * 3 + [Rung.HEAD] * 2 + [Rung.STEPS] * 2
    assert found.scores[Rung.CONTENT] == dict(zip(SIZES, [1.0, 1.0, 1.0], strict=True))


def test_what_is_never_better_is_not_on_it(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    constructed(monkeypatch, {Untouched: [1.0, 1.0, 1.0], Leaning: [1.0, 1.0, 1.0], Steps: [0.0, 0.0, 0.0]})
    made = prepared(table, Melu())
    ladder = climb(made.learner, curve(table), made.read).ladder
    assert (ladder.head, ladder.steps_from) == (None, None)
    assert ladder.rung(100) is Rung.CONTENT


@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_strength_is_the_best_over_all_sizes(table: Table, monkeypatch: pytest.MonkeyPatch, strength: float) -> None:
    constructed(monkeypatch, {Untouched: [1.0, 1.0, 1.0], Leaning: [2.0, 2.0, 2.0], Steps: [0.0, 0.0, 0.0]}, best=strength)
    made = prepared(table, Melu())
    assert climb(made.learner, curve(table), made.read).ladder.strength == strength


@pytest.mark.parametrize(("method", "scope"), [(Melu(), "decision"), (Anil(), "last"), (MetaSgd(), "decision")])
def test_steps_are_those_the_learner_was_trained_for(table: Table, method: Method, scope: str) -> None:
    made = prepared(table, method)
    found = climb(made.learner, curve(table), made.read)
    assert found.ladder.scope == scope
    assert isinstance(made.learner.adapter, Steps)
    assert found.ladder.steps == made.learner.adapter.inner.steps
    for name, one in made.learner.adapter.rates().items():
        assert torch.equal(found.ladder.rates[name], one.detach())
        assert not found.ladder.rates[name].requires_grad


@pytest.mark.parametrize("method", [Unadapted(), Maml()])
def test_a_learner_without_steps_on_layers_has_no_such_rung(table: Table, method: Method) -> None:
    """Steps on the embedding table would be as large as the table: no state to keep of a user."""
    made = prepared(table, method)
    found = climb(made.learner, curve(table), made.read)
    assert set(found.scores) == {Rung.CONTENT, Rung.HEAD}
    assert found.ladder.steps_from is None
    assert found.ladder.rates == {}


@pytest.mark.parametrize(("method", "apart"), [
    (Unadapted(), False), (MeanEmbedding(), False), (DropoutNet(), False), (Melu(), False), (MetaSgd(), False), (Ccml(graph=False), False),
    (Melu(centred=True), True), (Unadapted(centred=True), True), (Maml(), True), (Tanp(), True), (MetaWarmUp(), True),
    (Ccml(graph_items=("genres",)), True),
])
def test_what_is_no_rung_is_told(table: Table, method: Method, *, apart: bool) -> None:
    """What a method makes of rows and no bundle does: an offset, a generated embedding, a modulation, a graph, rows of the table."""
    made = prepared(table, method)
    assert climb(made.learner.eval(), curve(table), made.served).apart is apart


def test_a_head_without_closed_form_has_no_such_rung(table: Table, tmp_path_factory: pytest.TempPathFactory) -> None:
    schema = Schema(rated.FIELDS, (Task("click"), Task("later", given="click")))
    frame = rated.log(users=40).with_columns(later=(pl.col("click") * (pl.col("year") > 1996)).cast(pl.Int64))
    other = rated.table(tmp_path_factory.mktemp("funnel"), frame, schema)
    setup = replace(rated.setup(other), build=lambda schema: esmm(schema, rated.sizes(other, tower=(4,))))
    made = Melu().prepare(setup)
    found = climb(made.learner.eval(), curve(other), made.read)
    assert set(found.scores) == {Rung.CONTENT, Rung.STEPS}
    assert found.ladder.head is None


def test_scores_are_of_validation_by_size(table: Table) -> None:
    """The content rung does not read the support, so it scores the same at every size; the others do."""
    made = prepared(table, Melu(rate=0.125))
    found = climb(made.learner, curve(table), made.read)
    assert len({round(score, 6) for score in found.scores[Rung.CONTENT].values()}) == 1
    assert len({round(score, 6) for score in found.scores[Rung.HEAD].values()}) == 3
    assert all(list(one) == list(SIZES) for one in found.scores.values())


def test_what_serves_is_the_rungs_adapter(table: Table) -> None:
    made = prepared(table, Melu(rate=0.125))
    ladder = Ladder(head=2, steps_from=4, strength=7.0)
    kinds = [serving(made.learner, ladder, shots).adapter for shots in (0, 2, 4)]
    assert [type(one) for one in kinds] == [Untouched, Leaning, Steps]
    assert isinstance(kinds[1], Leaning)
    assert kinds[1].strength == 7.0
    assert kinds[2] is made.learner.adapter
    assert all(serving(made.learner, ladder, shots).model is made.learner.model for shots in (0, 2, 4))


def test_what_serves_answers_as_the_ladder_of_a_bundle(table: Table) -> None:
    """The curve of the report and `Ladder.adapt` agree, rung by rung, for every user."""
    made = prepared(table, Melu(steps=2, rate=0.125))
    assert isinstance(made.learner.adapter, Steps)
    rates = {name: one.detach() for name, one in made.learner.adapter.rates().items()}
    ladder = Ladder(head=1, steps_from=5, user="user", strength=3.0, steps=2, rates=rates)
    from umbel.coldstart.prior import ItemMeans
    from umbel.data.batch import Batch
    from umbel.nn.offset import Offsets

    means = ItemMeans.of(table)
    model = made.learner.model
    codes = table.encoder.vocabularies["item"].size
    for shots, own in ({0: episodes(table, "test", Protocol(0, None, skip=5, history=(7, 100)))} | curve_of_test(table)).items():
        told = answers(serving(made.learner, ladder, shots), own, made.read)
        model.offsets = Offsets("item", (codes, 2))
        model.offsets.values.copy_(torch.from_numpy(means(np.arange(codes))))
        for user in range(len(own)):
            rows: Batch = table.batch(own.support[user])
            state = ladder.adapt(model, rows)
            there = told.seen[user].any(1)
            asked = table.batch(own.query[user][there]).fields
            assert state.rung is ladder.rung(shots)
            found = ladder.answer(model, asked, state).detach().numpy()
            assert found == pytest.approx(told.logits[user][there], abs=2e-4)
        model.offsets = None


def curve_of_test(table: Table) -> dict[int, Episodes]:
    return {shots: episodes(table, "test", Protocol(shots, None, skip=5, history=(7, 100))) for shots in (1, 5)}


def test_no_validation_user_with_a_figure_is_no_reason_to_climb(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which nobody can be judged count as the worst there is: no rung is better than another."""
    made = prepared(table, Melu())
    monkeypatch.setattr(rungs, "scores", lambda told: {"rating": None, "click": None})
    found = climb(made.learner, curve(table), made.read)
    assert all(score == float("-inf") for one in found.scores.values() for score in one.values())
    assert (found.ladder.head, found.ladder.steps_from) == (None, None)


def test_a_users_embedding_is_no_rung(table: Table) -> None:
    from umbel.learn.adapt import Inner
    from umbel.learn.rates import fixed

    made = prepared(table, Melu())
    model = made.learner.model
    learner = Learner(model, Steps(model, Inner(EMBEDDING, steps=1), rates=fixed(0.1)), user="user").eval()
    assert Rung.STEPS not in climb(learner, curve(table), made.read).scores


def by_number(monkeypatch: pytest.MonkeyPatch, better: Mapping[int, bool]) -> None:
    """The id's score beats the ladder's, or not, by the fewest training rows among the users asked about."""
    monkeypatch.setattr(rungs, "FEWEST", 2)

    def score(learner: Learner, own: Episodes, read: object) -> float:
        by_ladder = isinstance(learner.adapter, Leaning)
        return 0.5 if by_ladder else float(better[int(own.user.min())])

    monkeypatch.setattr(rungs, "_score", score)


@pytest.mark.parametrize(
    ("better", "start"),
    [
        ({10: True, 20: True, 50: True, 100: True}, 10),
        ({10: False, 20: False, 50: True, 100: True}, 50),
        ({10: True, 20: False, 50: True, 100: True}, 50),
        ({10: True, 20: True, 50: True, 100: False}, None),
        ({10: False, 20: False, 50: False, 100: False}, None),
    ],
)
def test_the_id_answers_from_where_it_is_better_and_stays_so(
    table: Table, monkeypatch: pytest.MonkeyPatch, better: dict[int, bool], start: int | None
) -> None:
    """Two users each of 10, 20, 50 and 100 training rows, and one of 300, who alone says nothing."""
    by_number(monkeypatch, better)
    trained = np.array([10, 10, 20, 20, 50, 50, 100, 100, 300])
    own = Episodes(trained, np.zeros((9, 4), np.int64), np.zeros((9, 1), np.int64))
    made = prepared(table, Melu())
    assert known_from(made.learner, Ladder(head=1), own, read=made.read, trained=trained) == start


def test_too_few_users_say_nothing(table: Table) -> None:
    made, own = prepared(table, Melu()), episodes(table, "train", rated.SHORT)
    assert len(own) < rungs.FEWEST
    assert known_from(made.learner, Ladder(), own, read=made.read, trained=np.full(len(own), 50)) is None


def test_the_id_answers_where_it_scores_higher(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users read by id against the same users unknown; where all rows of users are one, neither is better."""
    monkeypatch.setattr(rungs, "FEWEST", 5)
    made, own = prepared(table, Unadapted()), episodes(table, "train", rated.SHORT)
    model = made.learner.model
    trained = np.full(len(own), 60)
    never = Ladder(head=None, user="user")
    by_id = rungs._score(Learner(model, Untouched(), user="user"), own, lambda some: rungs._by_id(made.read, some))
    unknown = rungs._score(Learner(model, Untouched(), user="user"), own, made.read)
    assert by_id != unknown
    assert (known_from(made.learner, never, own, read=made.read, trained=trained) == 10) == (by_id > unknown)
    rows = model.places.span("user")
    with torch.no_grad():
        model.table[rows.start : rows.stop] = model.table[rows.start].clone()
    assert known_from(made.learner, never, own, read=made.read, trained=trained) is None, "nothing is better than itself"
