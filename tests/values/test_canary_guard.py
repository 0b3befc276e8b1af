"""The guard of a canary by hand, on a store: what counts as a user's figure, which tests there are, what fails one, and who may look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from tests.told import RULES, decision, event

from umbel.feedback import Attribution, Feedback, Rule
from umbel.run.drifting import Finding
from umbel.serve.monitor.gauges import Gauges
from umbel.serve.monitor.guard import LEVEL, SETTLES, Guard
from umbel.serve.monitor.guarded import Guarded
from umbel.serve.records import Rung
from umbel.serve.shares import chance
from umbel.serve.store.facts import lease
from umbel.serve.store.labels import START
from umbel.serve.store.store import Store
from umbel.serve.store.visits import answered
from umbel.serve.wanted import State

STATE = State(stable="s", canary="c", share=0.5, since=1_000_000, session=0)
CLICK = Guarded(RULES.rules[0])
BEGIN = STATE.since + SETTLES
END = BEGIN + 1_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "umbel.db") as opened:
        yield opened


def filled(store: Store, users: Sequence[tuple[bool, bool]], *, start: int = BEGIN, rung: Rung = Rung.FULL) -> None:
    """A decision for each user (of the canary? clicked?), two items shown, and at last an event that moves the clock on."""
    sent = [event("last", "none", time=END)]
    for number, (canary, clicked) in enumerate(users):
        made = decision(f"r{number:05}", "i1", "i2", time=start + number, user=f"u{number}")
        store.log(replace(made, arm="canary" if canary else "stable", rung=rung if canary else Rung.FULL))
        if clicked:
            sent.append(event(f"e{number}", time=start + number + 1, user=None, request=f"r{number:05}"))
    store.record(sent, received=END).result()


def looked(store: Store, *, state: State = STATE, tasks: Sequence[Guarded] = (CLICK,)) -> dict[str, Finding]:
    found = Guard(state, tasks, RULES).look(store.session, END)
    return {one.what.removeprefix("guard "): one for one in found}


def alternating(count: int, *, canary: float, stable: float, seed: int = 0) -> list[tuple[bool, bool]]:
    """Users of both arms in turn, who click at these rates."""
    rng = np.random.default_rng(seed)
    return [(bool(at % 2), bool(rng.random() < (canary if at % 2 else stable))) for at in range(count)]


def test_every_guarded_task_the_rungs_and_the_ratio_are_tested(store: Store) -> None:
    filled(store, alternating(8, canary=0.5, stable=0.5))
    assert list(looked(store)) == ["click", "degraded", "sample ratio"]
    assert list(looked(store, tasks=())) == ["degraded", "sample ratio"]


def test_a_user_s_figure_is_the_share_of_shown_items_with_the_event(store: Store) -> None:
    filled(store, [(True, True), (False, False), (True, False), (False, True)])
    assert "guard click: canary 0.2500 of 2 users, stable 0.2500 of 2 users; evidence" in looked(store)["click"].says
    assert "2 of 4 users, where 50.00% are to be" in looked(store)["sample ratio"].says


def test_a_canary_that_nobody_clicks_fails(store: Store) -> None:
    filled(store, alternating(150, canary=0.0, stable=0.9))
    found = looked(store)
    assert {name for name, one in found.items() if one.alarm} == {"click"}
    assert (found["click"].value or 0) >= 1
    assert f"dropped at {3 / LEVEL:.0f}" in found["click"].says


def test_the_better_canary_stays(store: Store) -> None:
    filled(store, alternating(150, canary=0.9, stable=0.0))
    assert not any(one.alarm for one in looked(store).values())


def test_of_what_nobody_wants_more_is_worse(store: Store) -> None:
    filled(store, alternating(150, canary=0.9, stable=0.0))
    found = looked(store, tasks=[replace(CLICK, wanted=False)])
    assert found["click"].alarm
    assert not found["degraded"].alarm


def test_a_loss_that_is_allowed_is_none(store: Store) -> None:
    filled(store, alternating(400, canary=0.5, stable=0.9))
    assert looked(store)["click"].alarm
    spared = looked(store, tasks=[replace(CLICK, keep=0.5)])["click"]
    assert not spared.alarm
    assert "of which 0.5 is to be kept" in spared.says


def test_a_canary_that_answers_too_late_fails(store: Store) -> None:
    filled(store, alternating(150, canary=0.5, stable=0.5), rung=Rung.POPULAR)
    assert {name for name, one in looked(store).items() if one.alarm} == {"degraded"}


def test_a_canary_whose_users_are_missing_fails(store: Store) -> None:
    filled(store, [(at % 10 == 0, at % 3 == 0) for at in range(200)])
    assert {name for name, one in looked(store).items() if one.alarm} == {"sample ratio"}
    assert not looked(store, state=replace(STATE, share=0.1))["sample ratio"].alarm


def test_what_was_answered_before_every_worker_knew_is_left_out(store: Store) -> None:
    filled(store, alternating(150, canary=0.0, stable=0.9), start=BEGIN - 10_000)
    assert "no users yet" in looked(store)["click"].says
    assert not any(one.alarm for one in looked(store).values())


def test_labels_count_once_their_window_has_closed(store: Store) -> None:
    filled(store, [(True, True), (False, True)], start=END - 10)
    says = looked(store)["click"].says
    assert says.startswith("guard click: canary 0.5000 of 1 users, stable no users yet"), "the second closes at END + 1"


def test_who_is_not_known_is_nobody_s_user(store: Store) -> None:
    made = decision("r1", "i1", time=BEGIN, user=None)
    store.log(replace(made, arm="canary")).result()
    filled(store, [(True, True)], start=BEGIN + 1)
    assert "1 of 1 users" in looked(store)["sample ratio"].says
    assert "of 1 users" in looked(store)["click"].says


def test_nobody_to_compare_with_is_said(store: Store) -> None:
    (found,) = looked(store, state=replace(STATE, share=1.0)).values()
    assert not found.alarm
    assert "leaves nobody to compare with" in found.says


def test_looking_often_is_looking_once(store: Store) -> None:
    """What is read in pieces, look by look, comes to what another worker finds who begins anew."""
    users, guard = alternating(30, canary=0.2, stable=0.7), Guard(STATE, [CLICK], RULES)
    for number, (canary, clicked) in enumerate(users):
        time = BEGIN + 10 * number
        made = decision(f"r{number:05}", "i1", time=time, user=f"u{number % 20}")
        store.log(replace(made, arm="canary" if canary else "stable"))
        store.record([event(f"e{number}", "i1" if clicked else "none", time=time + 1, request=f"r{number:05}")], received=END).result()
        guard.look(store.session, time + SETTLES)
    again = Guard(STATE, [CLICK], RULES)
    last = BEGIN + 10 * len(users) + SETTLES
    assert guard.look(store.session, last) == again.look(store.session, last)
    assert "of 20 users" in guard.look(store.session, last)[-1].says


def test_events_of_another_rule_are_none_of_this(store: Store) -> None:
    rules = Feedback(rules=(replace(RULES.rules[0], attribution=Attribution.REQUEST),
                            Rule(task="like", window=10, positive_when="kind = 'like'")), lateness=0)  # fmt: skip
    filled(store, [(True, True), (False, True)])
    found = Guard(STATE, [Guarded(rule) for rule in rules.rules], rules).look(store.session, END)
    assert [one.what for one in found] == ["guard click", "guard like", "guard degraded", "guard sample ratio"]
    assert "0.5000 of 1 users, stable 0.5000" in found[0].says
    assert "0.0000 of 1 users, stable 0.0000" in found[1].says
    assert f"dropped at {4 / LEVEL:.0f}" in found[0].says


def test_answers_come_in_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umbel.serve.store.visits.PAGE", 2)
    for number in (3, 1, 2):
        store.log(decision(f"r{number}", "i", time=100 * number)).result()
    pages = list(answered(store.session, START, 250))
    assert [[one.request for one in page] for page in pages] == [["r1", "r2"]]
    assert [one.request for page in answered(store.session, (100, "r1"), 1_000) for one in page] == ["r2", "r3"]
    assert [one.request for page in answered(store.session, (300, "r3"), 1_000) for one in page] == []


@pytest.mark.parametrize(("share", "exact"), [(0.05, 0.05), (0.3, 0.3), (1.0, 1.0), (0.0, 0.0), (0.00001, 0.0001), (0.12345, 0.1235)])
def test_the_chance_of_a_share_is_that_of_its_places(share: float, exact: float) -> None:
    assert chance(share) == exact


def test_one_holds_a_lease_until_it_ends(store: Store) -> None:
    from umbel.serve.store.session import now

    session, later = store.session, now() + 100_000
    assert lease(session, "watch", holder="a", until=later)
    assert not lease(session, "watch", holder="b", until=later)
    assert lease(session, "watch", holder="a", until=later + 1), "its holder may hold it longer"
    assert lease(session, "other", holder="b", until=later), "another name is another lease"
    assert lease(session, "watch", holder="a", until=0)
    assert lease(session, "watch", holder="b", until=later)
    assert not lease(session, "watch", holder="a", until=later)


def test_a_canary_that_is_gone_is_no_alarm_any_more() -> None:
    registry = CollectorRegistry()
    gauges = Gauges(registry)
    gauges.canary([Finding("guard click", True, "", 1.25)])
    assert b'umbel_alarm{what="guard click"} 1.0' in generate_latest(registry)
    assert b'umbel_canary_evidence{what="guard click"} 1.25' in generate_latest(registry)
    gauges.canary([])
    assert b'umbel_alarm{what="guard click"} 0.0' in generate_latest(registry)
    assert b'umbel_canary_evidence{what="guard click"} 0.0' in generate_latest(registry)
