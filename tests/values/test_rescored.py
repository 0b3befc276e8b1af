"""Requests scored again and the latest ones held against training, which are drawn, what agrees, what drifts, what quality is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.testing import assert_allclose
from tests import coldserve, logs
from tests.told import event
from tests.values.test_bundle import made

from umbel.errors import UserError
from umbel.evaluate.figures import Figures
from umbel.evaluate.intervals import Interval
from umbel.feedback import Amount, Feedback, Rule
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import Linear
from umbel.learn.ladder import Ladder
from umbel.run.monitor import quality
from umbel.run.profile import profile
from umbel.schema import Schema
from umbel.serve.monitor.recent import LATEST, drifts, qualities
from umbel.serve.monitor.rescored import TOLERANCE, Again, Rescored, apart
from umbel.serve.ranker import Policy, Ranker
from umbel.serve.reader import logged_rows
from umbel.serve.records import Decision, Rung, Shown, Value, request_id
from umbel.serve.served import Served, load
from umbel.serve.states import States
from umbel.serve.store.labels import START, among_latest
from umbel.serve.store.sampled import SAMPLED, latest, sampled
from umbel.serve.store.store import Store

RULES = Feedback(rules=(Rule(task="click", window=10, positive_when="kind = 'click'"),
                        Rule(task="buy", window=10, positive_when="kind = 'buy'")), lateness=0)  # fmt: skip
POLICY = Policy(fusion=Fusion((Term("click", Linear(1.0)),)))
DRAWN, LEFT = "0" * 29 + "028", "0" * 29 + SAMPLED
Fields = Mapping[str, Value]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("rescored")
    table = logs.table(folder, logs.ROWS, logs.SCHEMA)
    plain = made(table)
    spread = profile(table, plain.columns, np.full((300, len(plain.columns)), 0.5), model=plain.model)
    replace(plain, profile=spread, feedback=RULES).save(folder / "bundle", golden=table.golden())
    return load(folder / "bundle")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "umbel.db") as opened:
        yield opened


def decided(served: Served, request: str, shared: Fields, own: Sequence[Fields], *, time: int = 5, by: float = 0.0) -> Decision:
    """What the service would log, its predictions off by so much."""
    predictions = (served.reader.predict(shared, own) + by).tolist()
    shown = tuple(
        Shown(item=str(fields["item"]), fields=fields, predictions=tuple(row)) for fields, row in zip(own, predictions, strict=True)
    )
    return Decision(request=request, user=str(shared.get("user")), time=time, bundle=served.name, fusion="f", rung=Rung.FULL, shown=shown,
                    outputs=served.bundle.columns, fields=shared)  # fmt: skip


ME: Fields = {"user": "1", "age": 20.0, "watched": ["a", "b"]}
ITEMS: tuple[Fields, ...] = ({"item": "a"}, {"item": "b"}, {"item": "never"})


def test_what_was_logged_is_what_logs_give(served: Served) -> None:
    assert apart(served, decided(served, DRAWN, ME, ITEMS)) <= 1e-6
    assert apart(served, decided(served, DRAWN, {}, ITEMS)) <= 1e-6, "nothing is known of the user"
    assert apart(served, decided(served, DRAWN, {"user": None, "age": None, "other": "x"}, ITEMS)) <= 1e-6


def test_a_field_that_is_scaled_otherwise_is_told(served: Served) -> None:
    one = decided(served, DRAWN, ME, ITEMS)
    assert apart(served, replace(one, fields={**ME, "age": 2_000.0})) > 100 * TOLERANCE
    assert apart(served, decided(served, DRAWN, ME, ITEMS, by=3e-5)) == pytest.approx(3e-5, rel=0.1)


def test_what_cannot_be_scored_again_is_infinitely_far(served: Served) -> None:
    one = decided(served, DRAWN, ME, ITEMS)
    assert apart(served, replace(one, fields={**ME, "age": "old"})) == float("inf")
    short = tuple(replace(each, predictions=each.predictions[:1]) for each in one.shown)
    assert apart(served, replace(one, outputs=one.outputs[:1], shown=short)) == float("inf")
    assert apart(served, replace(one, shown=())) == 0.0


def test_predictions_above_one_are_held_relatively(served: Served) -> None:
    """An amount of a thousand may differ by a hundredth."""
    one = decided(served, DRAWN, ME, ITEMS[:1])
    again = one.shown[0].predictions
    assert served.bundle.columns[2] == "spent"
    many = tuple(value + (0.5 if at == 2 else 0.0) for at, value in enumerate(again))
    found = apart(served, replace(one, shown=(replace(one.shown[0], predictions=many),)))
    assert found == pytest.approx(0.5 / max(1.0, abs(many[2])), rel=1e-3)


def test_a_column_in_any_item_is_the_items_own() -> None:
    shown = (Shown(item="a", fields={"item": "a", "age": 3.0}), Shown(item="b", fields={"item": "b"}))
    one = Decision(request="r", user="u", time=1, bundle="b", fusion="f", rung=Rung.FULL, shown=shown, fields={"user": "u", "age": 9.0})
    assert logged_rows(one, one.shown) == [{"user": "u", "item": "a", "age": 3.0}, {"user": "u", "item": "b"}]


def test_one_in_a_hundred_is_drawn_the_same_ones_each_time(store: Store, served: Served) -> None:
    ids, made_one = [request_id(1_000 + number) for number in range(2_000)], decided(served, DRAWN, ME, ITEMS[:1])
    for number, one in enumerate(ids):
        store.log(replace(made_one, request=one, time=1_000 + number))
    store.record([event()]).result()
    wanted = [one for one in ids if one[-3:] < SAMPLED]
    found = [one.request for page in sampled(store.session, [served.name], after=START, until=10_000) for one in page]
    assert found == wanted
    assert 5 <= len(found) <= 40
    assert not list(sampled(store.session, ["another"], after=START, until=10_000))
    early = [one.request for page in sampled(store.session, [served.name], after=START, until=2_000) for one in page]
    assert early == [one for one in wanted if int(one[:12], 16) <= 2_000]


def test_requests_are_read_once_and_counted(store: Store, served: Served) -> None:
    store.log(decided(served, DRAWN, ME, ITEMS)).result()
    store.log(decided(served, LEFT, ME, ITEMS, by=1.0)).result()
    store.log(replace(decided(served, "1" + DRAWN[1:], ME, ITEMS, time=6, by=0.25), rung=Rung.CACHED)).result()
    one, at_hand = Rescored(START), {served.name: served}
    assert list(one.findings()) == []
    assert one.read(store.session, at_hand, 100) == [Again.AGREES]
    assert one.read(store.session, at_hand, 100) == []
    store.log(decided(served, "2" + DRAWN[1:], ME, ITEMS, time=7, by=0.25)).result()
    assert one.read(store.session, at_hand, 6) == [], "not yet"
    assert one.read(store.session, at_hand, 100) == [Again.DIFFERS]
    assert one.cursor == (7, "2" + DRAWN[1:])
    (finding,) = one.findings()
    assert finding.alarm
    assert finding.value == 0.5
    assert finding.says == "skew: 1 of 2 requests are scored otherwise from what was logged, by up to 0.25"


def adapted(store: Store, served: Served, request: str, items: Sequence[str], *, time: int) -> Decision:
    """What the service logs of an answer to user 77 by what it knows of them, kept."""
    states, user = States(store.session, count=lambda how: None, failed=print), "77"
    personal, _ = states.of(served, user, (time, request))
    shared: Fields = {"user": user, "age": "a1"}
    own = [coldserve.ITEMS[one] for one in items]
    predictions = served.reader.predict(shared, own, personal.state)
    shown = tuple(
        Shown(item=one, fields=fields, predictions=tuple(row)) for one, fields, row in zip(items, own, predictions.tolist(), strict=True)
    )
    one = Decision(request=request, user=user, time=time, bundle=served.name, fusion="f", rung=Rung.FULL, shown=shown,
                   outputs=served.bundle.columns, fields=shared, adapted=personal.adapted)  # fmt: skip
    store.log(one).result()
    return one


@pytest.mark.parametrize("ladder", [coldserve.HEAD, replace(coldserve.HEAD, head=9)])
def test_what_was_adapted_is_adapted_again_by_what_was_known_then(ladder: Ladder, store: Store, tmp_path: Path) -> None:
    cold, ids = coldserve.served(tmp_path, ladder), coldserve.IDS
    coldserve.show(store, "77", ids[:4], time=1_000)
    first = adapted(store, cold, DRAWN, ids[4:8], time=1_500)  # nothing is known yet
    coldserve.tell(store, "77", {"i0": 5.0, "i1": 1.0}, time=2_000)
    second = adapted(store, cold, "1" + DRAWN[1:], ids[4:8], time=3_000)
    coldserve.tell(store, "77", {"i2": 2.0}, time=4_000)
    assert (first.adapted, second.adapted) != (None, None)
    assert [one.adapted.rows for one in (first, second) if one.adapted is not None] == [0, 2]
    off = replace(second, shown=tuple(replace(one, predictions=tuple(each + 0.1 for each in one.predictions)) for one in second.shown))
    store.log(replace(off, request="2" + DRAWN[1:])).result()
    one, at_hand = Rescored(START), {cold.name: cold}
    assert one.read(store.session, at_hand, 9_000) == [Again.AGREES, Again.AGREES, Again.DIFFERS]
    assert (apart(cold, second) > 10 * TOLERANCE) == (ladder.head == 1), "the shared model says otherwise, if it was not asked itself"


def test_adapted_answers_whose_labels_are_gone_are_counted_as_such(store: Store, tmp_path: Path) -> None:
    cold, ids = coldserve.served(tmp_path), coldserve.IDS
    coldserve.show(store, "77", ids[:4], time=1_000)
    coldserve.tell(store, "77", {"i0": 5.0, "i1": 1.0}, time=2_000)
    adapted(store, cold, DRAWN, ids[4:8], time=3_000)
    store.forget(1_500)  # what was shown first, by retention
    one = Rescored(START)
    assert one.read(store.session, {cold.name: cold}, 9_000) == [Again.CHANGED]
    (finding,) = one.findings()
    assert not finding.alarm
    assert "1 adapted to their user are left out" in finding.says
    adapted(store, cold, "1" + DRAWN[1:], ids[4:8], time=5_000)
    assert one.read(store.session, {cold.name: cold}, 9_000) == [Again.AGREES]
    (finding,) = one.findings()
    assert finding.says.startswith("skew: 0 of 1 requests are scored otherwise")
    assert finding.says.endswith("as they were")


def test_the_latest_of_a_bundle_come_latest_first(store: Store, served: Served) -> None:
    for number in range(4):
        store.log(decided(served, f"r{number}", ME, ITEMS, time=10 + number)).result()
    store.log(replace(decided(served, "other", ME, ITEMS, time=99), bundle="another")).result()
    found = latest(store.session, served.name, 3)
    assert [one.request for one in found] == ["r3", "r2", "r1"]
    assert [one.item for one in found[0].shown] == ["a", "b", "never"]
    assert_allclose([one.predictions for one in found[0].shown], served.reader.predict(ME, ITEMS), atol=0)
    assert among_latest(store.session, 13, 2) == (11, "r1")
    assert among_latest(store.session, 12, 2) == (10, "r0")
    assert among_latest(store.session, 13, 9) == START


def test_the_latest_requests_are_held_against_training(store: Store, served: Served) -> None:
    assert drifts(store.session, served) == ()
    made_one = decided(served, DRAWN, ME, ITEMS[:2])
    for number in range(300):
        shared: Fields = {"user": str(1 + number % 3), "age": 1_000.0 + number, "watched": ["a"]}
        store.log(replace(made_one, request=f"{number:032x}", fields=shared, time=10 + number))
    store.record([event()]).result()
    found = {one.what: one for one in drifts(store.session, served)}
    assert found["item"].unknown == found["age"].unknown == 0.0
    assert found["watched"].unknown == 0.0
    assert found["user"].unknown == pytest.approx(0.0)
    assert {one.unknown for one in found.values() if one.what.startswith(("prediction", "gate"))} == {None}
    assert set(found) >= {"user", "item", "age", "watched", "prediction click", "prediction buy_marginal", "gate click"}
    assert "shift 1.000" in found["age"].says or found["age"].alarm
    assert served.bundle.profile is not None
    assert not drifts(store.session, replace(served, bundle=replace(served.bundle, profile=None)))


def test_quality_is_of_settled_labels_by_label_of_the_service(store: Store, served: Served) -> None:
    stable, canary = Ranker(served, POLICY), Ranker(served, POLICY, arm="canary")
    sent = []
    for number in range(40):
        shared: Fields = {"user": f"u{number % 12}", "age": 20.0, "watched": ["a"]}
        made_one = decided(served, f"r{number:02}", shared, ITEMS[:2], time=10 + number)
        store.log(replace(made_one, arm="canary" if number % 4 == 0 else "stable"))
        if number % 3 == 0:
            sent.append(event(f"e{number}", "a", time=11 + number, user=None, request=f"r{number:02}"))
    store.record([*sent, event("tick", "none", time=45)], received=10_000).result()
    found = {(one.task, one.label): one for one in qualities(store.session, {"stable": stable, "canary": canary}, 45)}
    assert set(found) == {(task, label) for task in ("click", "buy") for label in ("stable", "canary")}
    own = found["click", "stable"].figures
    closed = [number for number in range(40) if 10 + number + 10 <= 45 and number % 4]
    assert own.rows == 2 * len(closed)
    assert own.positives == sum(number % 3 == 0 for number in closed)
    assert found["buy", "canary"].figures.positives == 0
    told = found["click", "stable"].to_json()
    assert (told["task"], told["label"], told["rows"]) == ("click", "stable", own.rows)
    assert set(told) >= {"auc", "ne", "calibration_ratio", "positives"}


def test_the_marginal_is_judged_where_a_task_is_given_another(store: Store, served: Served) -> None:
    """Every shown item counts, whether it was clicked or not, by the chance of both."""
    one = decided(served, "r", ME, ITEMS[:2], time=10)
    store.log(one).result()
    came = [event("e", "a", time=11, user="1"), replace(event("b", "a", time=12, user="1"), kind="buy"), event("tick", "x", time=99)]
    store.record(came, received=200).result()
    found = {each.task: each.figures for each in qualities(store.session, {"stable": Ranker(served, POLICY)}, 99)}
    place = served.bundle.columns.index("buy_marginal")
    chances = [each.predictions[place] for each in one.shown]
    assert found["buy"].metrics["calibration_ratio"].value == pytest.approx(sum(chances))  # type: ignore[union-attr]


SPENT = Rule(task="spent", window=10, positive_when="kind = 'pay'", value=Amount.SUM)


def paid(served: Served, store: Store, *, given: str | None) -> Served:
    """Twelve users see two items each; every third pays for the first, and every other one clicked it."""
    tasks = tuple(replace(task, given=given) if task.name == "spent" else task for task in served.bundle.schema.tasks)
    told = replace(RULES, rules=(*RULES.rules, SPENT))
    bundle = replace(served.bundle, encoder=served.bundle.encoder.as_of(Schema(served.bundle.schema.fields, tasks)), feedback=told)
    sent = [event("tick", "none", time=99)]
    for number in range(12):
        store.log(decided(served, f"r{number:02}", {"user": f"u{number}", "age": 20.0}, ITEMS[:2], time=10 + number))
        kinds = ["pay"] * (number % 3 == 0) + ["click"] * (number % 2 == 0)
        sent += [replace(event(f"{kind}{number}", "a", time=12 + number, user=None, request=f"r{number:02}"), kind=kind, value=2.0 + number)
                 for kind in kinds]  # fmt: skip
    store.record(sent, received=10_000).result()
    return replace(served, bundle=bundle)


@pytest.mark.parametrize("given", [None, "click"])
def test_a_number_is_judged_by_its_own_figures_where_its_events_came(store: Store, served: Served, given: str | None) -> None:
    ours = paid(served, store, given=given)
    found = {one.task: one.figures for one in qualities(store.session, {"stable": Ranker(ours, POLICY)}, 99)}
    assert set(found) == {"click", "buy", "spent"}
    place = served.bundle.columns.index("spent")
    rows = [(number, item) for number in range(12) for item in range(2) if given is None or (number % 2 == 0 and item == 0)]
    labels = [2.0 + number if number % 3 == 0 and item == 0 else 0.0 for number, item in rows]
    answers = [served.reader.predict({"user": f"u{number}", "age": 20.0}, ITEMS[:2])[item, place] for number, item in rows]
    own = found["spent"]
    assert (own.rows, own.positives) == (len(rows), None)
    expected = float(np.sqrt(np.mean(np.subtract(labels, answers) ** 2)))
    assert own.metrics["rmse"].value == pytest.approx(expected, abs=1e-5)  # type: ignore[union-attr]


def test_a_number_given_an_event_without_a_rule_is_not_judged(store: Store, served: Served) -> None:
    ours = paid(served, store, given="click")
    bare = replace(ours, bundle=replace(ours.bundle, feedback=replace(RULES, rules=(SPENT,))))
    assert list(qualities(store.session, {"stable": Ranker(bare, POLICY)}, 99)) == []


def test_few_rows_of_a_number_are_no_alarm_and_many_are_held_against_training(store: Store, served: Served) -> None:
    stable = Ranker(paid(served, store, given=None), POLICY)
    (own,) = [one.figures for one in qualities(store.session, {"stable": stable}, 99) if one.task == "spent"]
    (few,) = quality("spent", own, own)
    assert few.says == "spent: 24 rows are too few to judge"
    assert not few.alarm
    worse = Figures(rows=40, users=9, positives=None, metrics={"rmse": Interval(9.0, 8.0, 10.0)})
    (found,) = quality("spent", worse, replace(worse, metrics={"rmse": Interval(2.0, 1.0, 3.0)}))
    assert (found.what, found.alarm) == ("spent rmse", True)


def test_without_rules_there_is_no_quality(store: Store, served: Served) -> None:
    bare = replace(served, bundle=replace(served.bundle, feedback=None))
    assert list(qualities(store.session, {"stable": Ranker(bare, POLICY)}, 99)) == []
    assert LATEST > 0


def test_a_frame_for_logs_has_every_column_that_is_read(served: Served) -> None:
    frame = served.reader.frame([{"user": "1", "more": 1}, {"age": 2.5}])
    assert set(frame.columns) == {"user", "item", "age", "watched"}
    assert frame["age"].to_list() == [None, 2.5]
    with pytest.raises(UserError, match="age: 'old' is no number"):
        served.reader.frame([{"age": "old"}])


def test_a_tampered_store_is_noticed(store: Store, served: Served) -> None:
    """Somebody changes what was logged: the next reading says so."""
    from umbel.serve.store.tables import decisions

    store.log(decided(served, DRAWN, ME, ITEMS)).result()
    with store.session.writing() as connection:
        connection.execute(sa.update(decisions).values(fields='{"user":"2","age":50,"watched":["b"]}'))
    assert Rescored(START).read(store.session, {served.name: served}, 100) == [Again.DIFFERS]
