"""What cold-start methods said of test users: kept, read again, and judged beside each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests import rated

from umbel.coldstart.answers import Answers, Asked
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.evaluate.intervals import Interval, Sampled
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import Verdict
from umbel.run.settings import Settings, parse
from umbel.study.asked import by_scenario, load_asked, save_asked, units
from umbel.study.entrants import candidates
from umbel.study.new_users import Shown
from umbel.study.trial import ANSWERS, Lost, Trial
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


NOBODY = Undefined("of 12 users in the test part none has 30 to 100 rows")
AGES = ["a" if user % 4 else "b" for user in USERS]


def asked(*, error: float = 0.0, scenarios: dict[str, Answers | Undefined] | None = None, curve: dict[int, float] | None = None) -> Asked:
    """All that a method is asked: its errors by the size of the support, and twice the error for users of age b."""
    new = told(error=error)
    new.logits[[age == "b" for age in AGES], :, 0] += error
    grown = {shots: told(error=one) for shots, one in (curve or {}).items()}
    return Asked({"user_cold": told(error=error)} if scenarios is None else scenarios, grown, new, {"age": AGES})


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
        save_asked(at / ANSWERS, asked(error=error, curve={0: 1.0, 5: error}))
        Trial(-error, 10, 1.0, 2.0, 3).save(at)
    return Line(name, folders, {"recipe": name})


def same(one: Answers | Undefined, other: Answers | Undefined) -> bool:
    if isinstance(one, Undefined) or isinstance(other, Undefined):
        return one == other
    return all(np.array_equal(getattr(one, part), getattr(other, part)) for part in ("users", "logits", "labels", "seen"))


@pytest.mark.parametrize("said", [
    Asked({"warm": told(seed=1), "item_cold": NOBODY, "both_cold": told(seed=2, users=USERS[:7])}, {0: told(seed=3), 20: told(seed=4)},
          told(seed=5), {"activity": AGES, "genre/of": ["x", *AGES[1:]]}),
    Asked({"warm": NOBODY}, {1: NOBODY}, NOBODY, {}),
    Asked({}, {}, told(users=USERS[:2]), {"age": [None, float("nan")]}),
])  # fmt: skip
def test_answers_come_back_as_they_were(tmp_path: Path, said: Asked) -> None:
    save_asked(tmp_path / "said.npz", said)
    back = load_asked(tmp_path / "said.npz", rated.SCHEMA)
    assert list(back.scenarios) == list(said.scenarios)
    assert list(back.curve) == list(said.curve)
    assert all(same(back.scenarios[name], one) for name, one in said.scenarios.items())
    assert all(same(back.curve[shots], one) for shots, one in said.curve.items())
    assert same(back.new, said.new)
    assert back.groups == {name: ["unknown" if not isinstance(one, str) else one for one in labels] for name, labels in said.groups.items()}


def test_each_task_in_each_scenario_stands_for_itself() -> None:
    said = asked(scenarios={"warm": told(error=0.25), "item_cold": NOBODY, "both_cold": told(error=0.5)})
    found = by_scenario(said, relevant=4.0, resamples=50)
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


def test_margins_are_of_the_best_constant_s_error(table: Table, tmp_path: Path) -> None:
    """Of ratings the mean over users of what their median is off by, in a scenario and at every size; of events 1."""
    lines = (run(tmp_path, "bias", error=0.5), run(tmp_path, "melu", error=0.2))
    found = judge_methods(table, lines, settings(margin=0.01), lost={})
    ratings, _, seen = told().of("rating")
    each = [np.mean([np.abs(own[rows] - constant).mean() for own, rows in zip(ratings, seen, strict=True)]) for constant in range(1, 6)]
    margins = {one.task: one.margin for one in (*found.paired, *found.by_size)}
    assert margins == pytest.approx({
        "rating, user cold": 0.01 * min(each), "click, user cold": 0.01, **{f"rating, {shots} known": 0.01 * min(each) for shots in (0, 5)},
        **{f"click, {shots} known": 0.01 for shots in (0, 5)},
    })  # fmt: skip
    assert min(each) > 1.05, "and not 1 by chance"


def test_units_of_what_was_not_said_are_none() -> None:
    said = asked(scenarios={"warm": NOBODY, "user_cold": told()}, curve={0: 1.0})
    assert set(units(said)) == {"rating, user cold", "click, user cold", "rating, 0 known", "click, 0 known"}


def test_a_lost_seed_takes_no_part(table: Table, tmp_path: Path) -> None:
    line = run(tmp_path, "melu", error=0.2, seeds=3)
    (line.folders[1] / ANSWERS).unlink()
    Lost("no finite number").save(line.folders[1])
    found = judge_methods(table, (line, run(tmp_path, "bias", error=0.5, seeds=3)), settings(), lost={"melu 1": "no finite number"})
    mae = found.recipes[0].seeds["rating, user cold"]["mae"]
    assert [None if one is None else round(one, 6) for one in mae] == [0.2, None, 0.2]
    assert found.lost == {"melu 1": "no finite number"}
    new = found.recipes[0].new
    assert new is not None
    grown = new.curve[5]
    assert isinstance(grown, Shown)
    assert [None if one is None else round(one, 6) for one in grown.tasks["rating"]["mae"].values] == [0.2, None, 0.2]


def test_methods_are_shown_with_supports_of_every_size(table: Table, tmp_path: Path) -> None:
    lines = (run(tmp_path, "bias", error=0.5), run(tmp_path, "melu", error=0.2))
    found = judge_methods(table, lines, settings(), lost={})
    for one, error in zip(found.recipes, (0.5, 0.2), strict=True):
        assert one.new is not None
        for shots, expected in ((0, 1.0), (5, error)):
            size = one.new.curve[shots]
            assert isinstance(size, Shown)
            mean = size.first("rating")
            assert isinstance(mean, Interval)
            assert mean.value == pytest.approx(expected)
            assert (size.users, size.rows) == (40, 39 * 6 + 1)
    gaps = {(one.task, one.recipe): one for one in found.by_size if one.against == "bias" and one.metric == "mae"}
    assert {key: round(one.paired.mean.value, 5) for key, one in gaps.items()} == {
        ("rating, 0 known", "melu"): 0.0, ("rating, 5 known", "melu"): -0.3}
    assert [one.verdict for one in gaps.values()] == [Verdict.EQUAL, Verdict.LOWER]


def test_the_worst_users_of_every_method_are_found(table: Table, tmp_path: Path) -> None:
    lines = (run(tmp_path, "bias", error=0.5), run(tmp_path, "melu", error=-0.2))
    found = judge_methods(table, lines, settings(), lost={})
    for one, error in zip(found.recipes, (0.5, 0.2), strict=True):
        assert one.new is not None
        age = one.new.groups["rating"].by["age"]
        assert one.new.groups["rating"].metric == "mae"
        assert one.new.groups["click"].metric == "auc"
        assert set(one.new.groups["rating"].by) == {"spread of labels", "age"}
        assert [(group.name, group.users) for group in age.groups] == [("a", 30), ("b", 10)]
        assert isinstance(age.groups[1].figure, Undefined), "ten users are too few"
        assert age.worst == age.groups[0]
        figure = age.groups[0].figure
        assert isinstance(figure, Interval)
        assert figure.value == pytest.approx(error)


def test_where_nobody_is_new_a_method_says_why(table: Table, tmp_path: Path) -> None:
    line = run(tmp_path, "melu", error=0.2, seeds=1)
    save_asked(line.folders[0] / ANSWERS, Asked({"warm": told()}, {0: NOBODY, 5: NOBODY}, NOBODY, {}))
    (one,) = judge_methods(table, (line,), settings(), lost={}).recipes
    assert one.new is not None
    assert one.new.curve == {0: NOBODY, 5: NOBODY}
    assert one.new.groups == {}
    assert one.new.to_json()["curve"] == {shots: {"users": 0, "rows": 0, "tasks": None, "reason": NOBODY.reason} for shots in ("0", "5")}


def test_a_metric_without_users_has_its_reason() -> None:
    one = told(users=USERS[:3])
    blind = Answers(one.schema, one.users, one.logits, one.labels, np.zeros_like(one.seen))
    found = by_scenario(asked(scenarios={"warm": blind}), relevant=4.0, resamples=10)
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
