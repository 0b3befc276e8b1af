"""What cold-start methods said of test users: kept, read again, and judged beside each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests import rated

from umbel.coldstart.answers import Answers
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.evaluate.intervals import Sampled
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import Verdict
from umbel.run.settings import Settings, parse
from umbel.study.asked import drawn, load_answers, save_answers
from umbel.study.entrants import candidates
from umbel.study.trial import Lost, Trial
from umbel.study.verdict import Line, judge_methods

USERS = np.arange(40)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


def told(*, error: float = 0.0, seed: int = 0, users: np.ndarray = USERS) -> Answers:
    """Ratings of 1 to 5 predicted with a constant error, events by a logit that ranks them; the last user has one query row."""
    rng = np.random.default_rng(seed)
    ratings = rng.integers(1, 6, (len(users), 6)).astype(np.float32)
    events = (ratings > 3).astype(np.float32)
    seen = np.ones((len(users), 6, 2), bool)
    seen[-1, 1:] = False
    logits = np.stack([ratings + error, ratings - 3.5], 2).astype(np.float32)
    return Answers(rated.SCHEMA, users.astype(np.int64), logits, np.stack([ratings, events], 2), seen)


def settings(**compare: object) -> Settings:
    fields = {"user": {"kind": "id"}, "item": {"kind": "id"}}
    return parse(
        {
            "data": {"log": "log.parquet", "user": "user", "item": "item"}, "fields": fields, "tasks": {"rating": {"kind": "regression"}},
            "split": {"by": "column", "column": "part"}, "model": {"recipe": "shared_bottom"}, "episodes": {}, "compare": compare,
            "evaluate": {"resamples": 100},
        },
        where="test",
    )


def run(folder: Path, name: str, *, error: float, seeds: int = 2) -> Line:
    """A finished method."""
    folders = tuple(folder / name / str(seed) for seed in range(seeds))
    for at in folders:
        at.mkdir(parents=True)
        save_answers(at / "predictions.npz", {"user_cold": told(error=error)})
        Trial(-error, 10, 1.0, 2.0, 3).save(at)
    return Line(name, folders, {"recipe": name})


def test_answers_come_back_as_they_were(tmp_path: Path) -> None:
    said = {"warm": told(seed=1), "both_cold": told(seed=2, users=USERS[:7])}
    save_answers(tmp_path / "said.npz", said)
    back = load_answers(tmp_path / "said.npz", rated.SCHEMA)
    assert list(back) == ["warm", "both_cold"]
    for name, one in said.items():
        for part in ("users", "logits", "labels", "seen"):
            assert np.array_equal(getattr(back[name], part), getattr(one, part))


def test_each_task_in_each_scenario_stands_for_itself(table: Table, tmp_path: Path) -> None:
    save_answers(tmp_path / "said.npz", {"warm": told(error=0.25), "both_cold": told(error=0.5)})
    found = drawn(table, tmp_path / "said.npz", relevant=4.0, resamples=50)
    assert list(found) == ["rating, warm", "click, warm", "rating, both cold", "click, both cold"]
    warm, cold = found["rating, warm"]["mae"], found["rating, both cold"]["mae"]
    assert isinstance(warm, Sampled)
    assert isinstance(cold, Sampled)
    assert [warm.value, cold.value] == pytest.approx([0.25, 0.5])
    auc = found["click, warm"]["auc"]
    assert isinstance(auc, Sampled)
    assert auc.value == 1.0
    assert auc.users < len(USERS), "a user with one query row has no AUC"


def test_a_better_method_is_lower_by_its_error_and_the_same_is_equal(table: Table, tmp_path: Path) -> None:
    lines = (run(tmp_path, "bias", error=0.5), run(tmp_path, "melu", error=0.2), run(tmp_path, "anil", error=0.5))
    found = judge_methods(table, lines, settings(), lost={})
    verdicts = {(one.recipe, one.task): one.verdict for one in found.paired if one.against == "bias" and one.task == "rating, user cold"}
    assert verdicts == {("melu", "rating, user cold"): Verdict.LOWER, ("anil", "rating, user cold"): Verdict.EQUAL}
    assert {one.metric for one in found.paired if one.task == "rating, user cold"} == {"mae"}
    assert [one.name for one in found.recipes] == ["bias", "melu", "anil"]


def test_whom_methods_are_judged_by_is_named(table: Table, tmp_path: Path) -> None:
    lines = (run(tmp_path, "bias", error=0.5), run(tmp_path, "melu", error=0.2))
    found = judge_methods(table, lines, settings(against=["melu"]), lost={})
    assert {one.against for one in found.paired} == {"melu"}


def test_a_lost_seed_takes_no_part(table: Table, tmp_path: Path) -> None:
    line = run(tmp_path, "melu", error=0.2, seeds=3)
    (line.folders[1] / "predictions.npz").unlink()
    Lost("no finite number").save(line.folders[1])
    found = judge_methods(table, (line, run(tmp_path, "bias", error=0.5, seeds=3)), settings(), lost={"melu 1": "no finite number"})
    mae = found.recipes[0].seeds["rating, user cold"]["mae"]
    assert [None if one is None else round(one, 6) for one in mae] == [0.2, None, 0.2]
    assert found.lost == {"melu 1": "no finite number"}


def test_a_metric_without_users_has_its_reason(table: Table, tmp_path: Path) -> None:
    one = told(users=USERS[:3])
    blind = Answers(one.schema, one.users, one.logits, one.labels, np.zeros_like(one.seen))
    save_answers(tmp_path / "said.npz", {"warm": blind})
    found = drawn(table, tmp_path / "said.npz", relevant=4.0, resamples=10)
    assert isinstance(found["rating, warm"]["mae"], Undefined)


def test_methods_of_one_name_are_alternatives(tmp_path: Path) -> None:
    asked = settings(methods=["bias", "melu", {"name": "melu", "rate": 0.1}, "anil"], rates=[0.001, 0.01])
    found = candidates(asked)
    assert [(one.name, len(one.grid(asked))) for one in found] == [("bias", 2), ("melu", 4), ("anil", 2)]
    places = [one.place(each) for one in found for each in one.grid(asked)]
    assert len(set(places)) == len(places), "every setting has a folder of its own"
    assert places[4] == "melu/rate=0.1 rate=0.001 dim=8 seed=1"


def test_all_methods_take_part_where_none_is_named() -> None:
    from umbel.coldstart.methods import METHODS

    assert [one.name for one in candidates(settings())] == list(METHODS)


@pytest.mark.parametrize(
    ("method", "said"),
    [("mellu", "no 'mellu'"), ({"name": "melu", "stepps": 2}, "no parameter 'stepps'"), ({"rate": 1.0}, "'name' is missing")],
)
def test_a_method_that_is_none_is_refused(method: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        candidates(settings(methods=[method]))
