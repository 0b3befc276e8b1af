"""What is served and to whom by hand: a ranker under a stopped clock, states and their changes, memories that follow a store."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from tests.logs import SPLIT, source
from tests.small import PATIENCE, RULES, Slow
from tests.values.test_bundle import EVERY, RICH, made

from umbel.data.ingest import ingest
from umbel.errors import UserError
from umbel.feedback import Feedback, duration
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import Linear
from umbel.serve import ranker as module
from umbel.serve import service as service_module
from umbel.serve.bundles import Bundles, Ordering, active
from umbel.serve.http.limits import Limits
from umbel.serve.known import OVERLAP, Memory
from umbel.serve.order import Order
from umbel.serve.ranker import Asked, Policy, Ranker
from umbel.serve.reader import Reader
from umbel.serve.records import Known, Result, Rung, Value
from umbel.serve.requests import PredictRequest, RankRequest
from umbel.serve.served import Served, load
from umbel.serve.service import Service, Serving
from umbel.serve.shares import hashed
from umbel.serve.store.engine import UnavailableError
from umbel.serve.store.facts import put
from umbel.serve.store.session import now
from umbel.serve.store.store import Store
from umbel.serve.wanted import FACT, State, saved
from umbel.serve.why import policy_of

CLICK = Fusion((Term("click", Linear(1.0)),), "clicks")
WITHOUT = partial(replace, canary=None, share=0.0)
BOTH = Fusion((Term("click", Linear(1.0)), Term("spent", Linear(2.0), -1)), "both")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles whose policy is that of clicks: two names of one content, another's, none's, one that lets clocks differ, one with rules."""
    root = tmp_path_factory.mktemp("state")
    table = ingest(source(root, RICH), EVERY, SPLIT, folder=root / "table")
    plain = made(table)
    replace(plain, fusion=CLICK).save(root / "a", golden=table.golden())
    shutil.copytree(root / "a", root / "b")
    replace(plain, fusion=BOTH).save(root / "c", golden=table.golden())
    plain.save(root / "bare", golden=table.golden())
    replace(plain, fusion=CLICK, feedback=Feedback(rules=(), skew=duration("1h"))).save(root / "hour", golden=table.golden())
    replace(plain, fusion=CLICK, feedback=RULES).save(root / "ruled", golden=table.golden())
    return {name: root / name for name in ("a", "b", "c", "bare", "hour", "ruled", "none")}


@pytest.fixture(scope="module")
def served(folders: Mapping[str, Path]) -> Served:
    return load(folders["a"])


@pytest.fixture
def by_hand(served: Served, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Predictions are what items say they are; how many candidates each call had."""
    columns, calls = served.bundle.columns, list[int]()

    def predict(self: Reader, shared: Mapping[str, Value], items: Sequence[Mapping[str, Value]], state: object) -> np.ndarray:
        calls.append(len(items))
        if any(item.get("fails") for item in items):
            raise RuntimeError("the model fails")
        return np.array([[float(str(item.get(name, 0.0))) for name in columns] for item in items])

    monkeypatch.setattr(Reader, "predict", predict)
    return calls


def asked(*clicks: float, spent: Sequence[float] = (), user: str | None = "u", deadline: float = 10.0, count: int = 99) -> Asked:
    own: list[dict[str, Value]] = [{"click": click, "kind": "k"} for click in clicks]
    for one, value in zip(own if spent else (), spent, strict=True):
        one["spent"] = value
    return Asked(
        request="r", user=user, time=5, shared={}, items=tuple(f"i{at}" for at in range(len(clicks))), own=tuple(own), deadline=deadline,
        count=count, seed=1,
    )  # fmt: skip


def ranker(served: Served, fusion: Fusion = CLICK, *, order: Order | None = None, diversity: str | None = None, now: float = 0.0) -> Ranker:
    return Ranker(served, Policy(fusion=fusion, order=order or Order(), diversity=diversity), clock=lambda: now)


def items(ranked: module.Ranked) -> list[str]:
    return ranked.columns()[0]


# The ranker


@pytest.mark.parametrize(("clicks", "spent", "count", "order", "fused"), [
    ((0.1, 0.9, 0.5), (), 99, ["i1", "i2", "i0"], [0.9, 0.5, 0.1]),
    ((0.1, 0.9, 0.5), (), 2, ["i1", "i2"], [0.9, 0.5]),
    ((0.5, 0.5, 0.5), (), 99, ["i0", "i1", "i2"], [0.5, 0.5, 0.5]),
    ((0.5, 0.6, 0.7), (0.0, 0.3, 0.05), 99, ["i2", "i0", "i1"], [0.6, 0.5, 0.0]),
    ((0.0,), (1.0,), 1, ["i0"], [-2.0]),
])  # fmt: skip
def test_the_greatest_fused_score_stands_first(
    served: Served, by_hand: list[int], clicks: tuple[float, ...], spent: tuple[float, ...], count: int, order: list[str],
    fused: list[float]
) -> None:  # fmt: skip
    ranked = ranker(served, BOTH).rank(asked(*clicks, spent=spent, count=count))
    assert items(ranked) == order
    assert ranked.columns()[1] == pytest.approx(fused)
    assert ranked.columns()[2] == [1.0] * len(order)
    assert ranked.contributions.sum(1) == pytest.approx(fused)
    assert [tuple(one.fields) for one in ranked.decision.shown] == [("click", "kind", "spent") if spent else ("click", "kind")] * len(order)
    assert by_hand == [len(clicks)]


@pytest.mark.parametrize(("now", "deadline", "rung"), [(0.0, 0.1, Rung.FULL), (5.0, 5.0, Rung.POPULAR), (5.0, 4.9, Rung.POPULAR)])
def test_time_is_up_at_the_deadline(served: Served, by_hand: list[int], now: float, deadline: float, rung: Rung) -> None:
    ranked = ranker(served, now=now).rank(asked(0.1, 0.2, deadline=deadline))
    assert ranked.rung is rung
    assert len(by_hand) == (rung is Rung.FULL)
    assert (ranked.outputs == served.bundle.columns) == (rung is Rung.FULL)


def test_popularity_has_no_score_chance_or_prediction(served: Served, by_hand: list[int]) -> None:
    ranked = ranker(served, BOTH, now=99.0).rank(asked(0.1, 0.9))
    assert ranked.columns() == (["i0", "i1"], [None, None], [None, None], [[], []])
    assert ranked.contributions.shape == (0, 2)
    kept = ranked.decision
    assert (kept.outputs, kept.candidates, kept.temperature, kept.policy, kept.rung) == ((), None, None, {}, Rung.POPULAR)
    assert by_hand == []


@pytest.mark.parametrize(("size", "sent", "calls"), [(2, 5, [2, 2, 1]), (5, 5, [5]), (6, 5, [5]), (1, 2, [1, 1])])
def test_candidates_come_in_pieces(
    served: Served, by_hand: list[int], monkeypatch: pytest.MonkeyPatch, size: int, sent: int, calls: list[int]
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "CHUNK", size)
    ranked = ranker(served).rank(asked(*(at / 10 for at in range(sent))))
    assert items(ranked) == [f"i{at}" for at in reversed(range(sent))]
    assert by_hand == calls


def test_a_model_that_fails_in_the_second_piece_leaves_the_first(
    served: Served, by_hand: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "CHUNK", 2)
    told: list[Exception] = []
    one = asked(0.1, 0.2, 0.9)
    one = replace(one, own=(*one.own[:2], {"fails": True}))
    ranked = Ranker(served, Policy(fusion=CLICK), clock=lambda: 0.0, failed=told.append).rank(one)
    assert (ranked.rung, items(ranked), [str(error) for error in told]) == (Rung.FEWER, ["i1", "i0"], ["the model fails"])
    assert ranked.decision.candidates is None, "what was not scored cannot be chosen from again"
    assert ranked.columns()[2] == [None, None]


def test_an_earlier_answer_is_cut_and_its_chances_are_not_shown(served: Served, by_hand: list[int]) -> None:
    moment = [0.0]
    one = Ranker(served, Policy(fusion=CLICK), clock=lambda: moment[0])
    assert one.rank(asked(0.1, 0.9, 0.5)).rung is Rung.FULL
    moment[0] = 11.0
    again = one.rank(asked(0.1, 0.9, 0.5, count=2))
    assert (again.rung, items(again), again.columns()[1], again.columns()[2]) == (Rung.CACHED, ["i1", "i2"], [0.9, 0.5], [None, None])
    assert again.decision.temperature is None
    for other in (asked(0.1, 0.9, 0.5, user="v"), asked(0.1, 0.9, 0.5, user=None), asked(0.1, 0.9)):
        assert one.rank(other).rung is Rung.POPULAR


def test_nobody_s_answer_is_not_kept(served: Served, by_hand: list[int]) -> None:
    moment = [0.0]
    one = Ranker(served, Policy(fusion=CLICK), clock=lambda: moment[0])
    one.rank(asked(0.1, 0.9, user=None))
    moment[0] = 11.0
    assert one.rank(asked(0.1, 0.9, user=None)).rung is Rung.POPULAR


@pytest.mark.parametrize(("penalty", "diversity", "order", "policy"), [
    (0.0, "kind", ["i0", "i1", "i2"], {}), (0.3, None, ["i0", "i1", "i2"], {"penalty": 0.3, "diversity": None}),
    (0.3, "kind", ["i0", "i2", "i1"], {"penalty": 0.3, "diversity": "kind"}),
    (0.15, "kind", ["i0", "i1", "i2"], {"penalty": 0.15, "diversity": "kind"}),
    (0.3, "colour", ["i0", "i1", "i2"], {"penalty": 0.3, "diversity": "colour"}),
])  # fmt: skip
def test_kinds_are_spread_by_the_column_named(
    served: Served, by_hand: list[int], penalty: float, diversity: str | None, order: list[str], policy: dict[str, object]
) -> None:  # fmt: skip
    one = asked(0.9, 0.8, 0.6)
    one = replace(one, own=(*one.own[:2], {"click": 0.6, "kind": ["k"]}))  # a list is a kind of its own
    ranked = ranker(served, order=Order(penalty=penalty), diversity=diversity).rank(one)
    assert items(ranked) == order
    assert ranked.decision.policy == policy


def test_a_ranker_names_itself_and_refuses_nothing_to_rank(served: Served) -> None:
    one = Ranker(served, Policy(fusion=CLICK), arm="canary")
    assert (one.fusion, one.policy.name) == (f"clicks@{CLICK.version}",) * 2
    with pytest.raises(UserError, match="items: none; send at least one to rank"):
        one.rank(asked())
    assert Ranker(served, Policy(fusion=CLICK), clock=lambda: 99.0, arm="canary").rank(asked(0.5)).decision.arm == "canary"


# States


def keep(store: Store, state: State) -> None:
    """What another worker would leave."""
    put(store.session, FACT, asdict(state))


def test_a_state_is_kept_whole(tmp_path: Path) -> None:
    state = State(stable="s", previous="p", canary="c", share=0.25, shadow="h", fusion={"format": 1, "tasks": {"é": [1, None]}}, number=7)
    with Store(tmp_path / "umbel.db") as store:
        assert saved(store) is None
        keep(store, state)
        assert saved(store) == state
        keep(store, State(stable="t"))
        assert saved(store) == State(stable="t")


@pytest.mark.parametrize(("whom", "salt", "place"), [("u1", "a", 0.2543), ("u1", "b", 0.4779), ("", "", 0.4368)])
def test_where_somebody_falls_is_the_same_everywhere(whom: str, salt: str, place: float) -> None:
    assert hashed(whom, salt) == place
    assert 0 <= hashed("\udcff", salt) < 1


def opened(store: Store, state: State, told: list[Exception] | None = None) -> Bundles:
    return Bundles(store, state, Ordering(order=Order(0.5, 0.25), diversity="place"), failed=([] if told is None else told).append)


def test_the_first_state_is_kept_and_a_later_worker_follows_the_store(folders: Mapping[str, Path], tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store:
        one = opened(store, State(stable=str(folders["a"])))
        assert saved(store) == one.state == State(stable=str(folders["a"]))
        other = opened(store, State(stable=str(folders["none"])))
        assert other.state == one.state, "what the store has stands before what a worker is told"
        policy = one.stable.policy
        assert (policy.order, policy.diversity, policy.fusion, one.stable.arm) == (Order(0.5, 0.25), "place", CLICK, "stable")


def test_a_change_counts_is_noted_and_followed(folders: Mapping[str, Path], tmp_path: Path) -> None:
    told: list[Exception] = []
    with Store(tmp_path / "umbel.db") as store:
        one, other = (opened(store, State(stable=str(folders["a"])), told) for _ in range(2))
        one.change(partial(replace, canary=str(folders["c"]), share=1.0), actor="ops", action="try", detail={"x": 1})
        assert one.state.number == 1
        assert set(one.labels) == {"stable", "canary"}
        assert one.labels["canary"].arm == "canary"
        assert set(other.labels) == {"stable"}
        other.refresh()
        assert (set(other.labels), other.state, told) == ({"stable", "canary"}, one.state, [])
        assert [note[1:3] for note in store.notes()] == [("ops", "try")]
        before = other.stable
        other.refresh()
        assert other.stable is before, "nothing changed, so nothing is made anew"


@pytest.mark.parametrize(("change", "said"), [
    ({"canary": "none"}, "not a bundle"), ({"shadow": "bare"}, "the bundle has no fusion policy; give one"),
    ({"stable": "none"}, "not a bundle"),
    ({"previous": "none"}, "not a bundle"),
])  # fmt: skip
def test_what_cannot_be_served_leaves_all_as_it_was(
    folders: Mapping[str, Path], tmp_path: Path, change: dict[str, str], said: str
) -> None:  # fmt: skip
    told: list[Exception] = []
    with Store(tmp_path / "umbel.db") as store:
        one = opened(store, State(stable=str(folders["a"])), told)
        new = replace(one.state, **{label: str(folders[name]) for label, name in change.items()})  # type: ignore[arg-type]
        stable = one.stable
        with pytest.raises(UserError, match=said):
            one.change(lambda _: new, actor="x", action="y", detail={})
        assert (one.stable, one.state, saved(store), list(store.notes())) == (stable, State(stable=str(folders["a"])), one.state, [])
        keep(store, replace(new, number=4))
        one.refresh()
        assert [said in str(error) for error in told] == [True]
        assert (one.stable, one.state.number, one.wanted.number) == (stable, 0, 4)
        one.refresh()
        assert len(told) == 1, "it is told once, not at every look"
        one.change(partial(replace, **{label: str(folders["b"]) for label in change}), actor="x", action="y", detail={})
        assert (one.state, one.state.number) == (saved(store), 5), "what could not be followed can be changed"


def test_of_two_workers_that_change_the_same_the_second_changes_what_the_first_left(folders: Mapping[str, Path], tmp_path: Path) -> None:
    """A canary that the one dropped does not come back with what the other changes, and both serve the same in the end."""
    with Store(tmp_path / "umbel.db") as store:
        first = State(stable=str(folders["a"]), canary=str(folders["c"]), share=0.5)
        one, other = (opened(store, first) for _ in range(2))
        one.change(WITHOUT, actor="guard", action="drop canary", detail={})
        assert set(other.labels) == {"stable", "canary"}, "it has not looked since"
        other.change(partial(replace, fusion=BOTH.to_json()), actor="ops", action="activate fusion", detail={})
        one.refresh()
        assert one.state == other.state == saved(store) == replace(one.state, canary=None, fusion=BOTH.to_json(), number=2)
        assert [set(each.labels) for each in (one, other)] == [{"stable"}] * 2
        assert {each.stable.policy.fusion for each in (one, other)} == {BOTH}
        assert [note[2] for note in store.notes()] == ["activate fusion", "drop canary"]


def test_a_change_between_a_look_and_its_swap_is_looked_at_again(folders: Mapping[str, Path], tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store:
        first = State(stable=str(folders["a"]), canary=str(folders["c"]), share=0.5)
        one, other = (opened(store, first) for _ in range(2))
        seen = list[int]()

        def to(state: State) -> State:
            if not seen:
                one.change(WITHOUT, actor="guard", action="drop canary", detail={})
            seen.append(state.number)
            return replace(state, fusion=BOTH.to_json())

        other.change(to, actor="ops", action="activate fusion", detail={})
        assert seen == [0, 1]
        assert (other.state, set(other.labels)) == (saved(store), {"stable"})
        assert [note[2] for note in store.notes()] == ["activate fusion", "drop canary"], "each is told once"


@pytest.mark.parametrize("fails", ["note_in", "check_rules"])
def test_a_change_that_cannot_be_noted_is_not_made(
    folders: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Nor one whose rules of labels cannot be kept: the state, the audit and the rules are of one transaction."""
    def gone(*_: object, **__: object) -> None:
        raise UnavailableError("the store: the disk is full", mend="free some space")

    with Store(tmp_path / "umbel.db") as store:
        one = opened(store, State(stable=str(folders["a"])))
        before, serving = saved(store), one.stable
        change = partial(one.change, partial(replace, stable=str(folders["ruled"])), actor="x", action="y", detail={"z": 1})
        with monkeypatch.context() as patched:
            patched.setattr(f"umbel.serve.store.facts.{fails}", gone)
            with pytest.raises(UnavailableError):
                change()
        assert (saved(store), one.state, one.stable, store.notes()) == (before, before, serving, [])
        with pytest.raises(UserError, match="has no rules of labels"):
            _ = store.feedback
        change()
        assert (saved(store), store.feedback) == (one.state, RULES)
        moved = {"z": 1, "from": str(folders["a"]), "to": str(folders["ruled"])}
        assert [note[1:] for note in store.notes()] == [("x", "y", moved)]


def test_what_another_worker_serves_is_loaded_before_it_is_followed(
    folders: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change itself loads nothing then; what cannot be loaded ahead is told when it is followed, once."""
    told, loaded = list[Exception](), list[str]()

    def counted(folder: Path) -> Served:
        loaded.append(folder.name)
        return load(folder)

    monkeypatch.setattr("umbel.serve.bundles.load", counted)
    with Store(tmp_path / "umbel.db") as store:
        one, other = (opened(store, State(stable=str(folders["a"])), told) for _ in range(2))
        assert other.ahead() == []
        one.change(partial(replace, canary=str(folders["c"]), share=0.5), actor="x", action="y", detail={})
        loaded.clear()
        ready = other.ahead()
        assert ([str(each.folder) for each in ready], loaded, set(other.labels)) == ([str(folders["c"])], ["c"], {"stable"})
        other.refresh(ready)
        assert (loaded, set(other.labels), other.state) == (["c"], {"stable", "canary"}, one.state)
        assert other.labels["canary"].served is ready[0]
        keep(store, replace(one.state, shadow=str(folders["none"]), number=5))
        assert (other.ahead(), told) == ([], [])
        other.refresh()
        assert ["not a bundle" in str(error) for error in told] == [True]
        assert other.ahead() == [], "it is not tried at every look"


@pytest.mark.parametrize(("label", "name", "said"), [
    ("previous", "none", "not a bundle"), ("canary", "none", "not a bundle"), ("canary", "bare", "no fusion policy"),
    ("shadow", "none", "not a bundle"),
])  # fmt: skip
def test_a_start_leaves_out_what_cannot_be_served_any_more(
    folders: Mapping[str, Path], tmp_path: Path, label: str, name: str, said: str
) -> None:
    """Whether the service starts anew, or one of its workers."""
    told: list[Exception] = []
    whole = State(stable=str(folders["a"]), previous=str(folders["b"]), canary=str(folders["c"]), share=0.5, shadow=str(folders["b"]))
    gone = replace(whole, number=3, since=5, **{label: str(folders[name])})  # type: ignore[arg-type]
    with Store(tmp_path / "umbel.db") as store:
        keep(store, gone)
        one = opened(store, gone, told)
        left = replace(gone, number=4, since=one.state.since, share=0.0 if label == "canary" else 0.5, **{label: None})  # type: ignore[arg-type]
        assert one.state == saved(store) == left
        assert (one.state.since == 5) == (label != "canary"), "what is compared has changed only where it was the canary"
        assert [said in str(error) for error in told] == [True]
        assert [note[1:3] for note in store.notes()] == [("umbel serve", f"drop {label}")]
        assert store.notes()[0][3]["folder"] == str(folders[name])
        other = opened(store, gone, told)
        assert (other.state, len(told)) == (left, 1), "it is left out once"
        assert len({*other.labels, *one.labels}) == (2 if label in ("canary", "shadow") else 3)


def test_a_start_needs_the_stable_bundle(folders: Mapping[str, Path], tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store:
        for name, said in (("none", "not a bundle"), ("bare", "no fusion policy")):
            with pytest.raises(UserError, match=said):
                opened(store, State(stable=str(folders[name]), previous=str(folders["none"])))
        assert (saved(store), store.notes()) == (None, []), "what does not start leaves no trace"


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_canary_answers_its_share(folders: Mapping[str, Path], tmp_path: Path, share: float) -> None:
    with Store(tmp_path / "umbel.db") as store:
        one = opened(store, State(stable=str(folders["a"]), canary=str(folders["c"]), share=share))
        users = [f"u{number}" for number in range(300)]
        arms = [one.answering(user).arm for user in users]
        salt = one.labels["canary"].served.name
        assert arms == ["canary" if hashed(user, salt) < share else "stable" for user in users]
        assert {0.0: arms.count("canary") == 0, 0.3: 60 < arms.count("canary") < 120, 1.0: arms.count("canary") == 300}[share]


def test_a_state_s_fusion_stands_before_the_bundle_s(folders: Mapping[str, Path]) -> None:
    bare, own = load(folders["bare"]), load(folders["a"])
    assert active(own, State(stable="")) == CLICK
    assert active(own, State(stable="", fusion=BOTH.to_json())) == active(bare, State(stable="", fusion=BOTH.to_json())) == BOTH
    with pytest.raises(UserError, match="give one: --fusion FILE, or PUT /v1/fusion"):
        active(bare, State(stable=""))


def test_what_decides_can_be_explained_later(folders: Mapping[str, Path], tmp_path: Path) -> None:
    """The policy of a start, of a change, and those that bundles carry, once neither is in service any more."""
    named = {policy: f"{policy.name}@{policy.version}" for policy in (CLICK, BOTH)}
    with Store(tmp_path / "start.db") as store:
        one = opened(store, State(stable=str(folders["bare"]), fusion=BOTH.to_json()))
        assert [policy_of(store.session, name, []) for name in named.values()] == [None, BOTH]
        one.change(partial(replace, fusion=CLICK.to_json()), actor="x", action="y", detail={})
        assert [policy_of(store.session, name, []) for name in named.values()] == [CLICK, BOTH]
    with Store(tmp_path / "own.db") as store:
        one = opened(store, State(stable=str(folders["a"])))
        assert [policy_of(store.session, name, []) for name in named.values()] == [CLICK, None]
        one.change(partial(replace, canary=str(folders["c"]), share=0.5), actor="x", action="y", detail={})
        assert [policy_of(store.session, name, []) for name in named.values()] == [CLICK, BOTH]


# Memories


def test_what_is_remembered_is_a_copy_and_missing_keeps_its_order(tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store:
        store.items.put([Known(id="a", fields={"x": 1}, time=1), Known(id="b", fields={}, time=1)])
        memory = Memory(store.items, now=0)
        assert memory.at_hand(["c", "a", "b"]) == ({}, ["c", "a", "b"])
        memory.fetch(["a", "b", "c"])["a"]["x"] = 2
        assert memory.at_hand(["b", "c", "d", "a"]) == ({"a": {"x": 1}, "b": {}}, ["d"])
        assert memory.fetch([]) == {}


@pytest.mark.parametrize(("late", "seen"), [(OVERLAP - 1, True), (OVERLAP + 1, False)])
def test_a_clock_that_lags_is_followed_so_far(tmp_path: Path, late: int, seen: bool) -> None:
    """What another process wrote by a clock that is behind is read, unless it is behind by more than the overlap."""
    with Store(tmp_path / "umbel.db") as store:
        store.items.put([Known(id="a", fields={"x": 1}, time=1)])
        memory = Memory(store.items, now=1_000_000)
        memory.fetch(["a"])
        memory.refresh(1_000_000)
        store.items.put([Known(id="a", fields={"x": 2}, time=1_000_000 - late)])
        memory.refresh(1_000_001)
        assert memory.at_hand(["a"])[0] == {"a": {"x": 2 if seen else 1}}


def test_a_refresh_remembers_only_what_was_asked_for(tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store:
        memory = Memory(store.users, now=0)
        store.users.put([Known(id="a", fields={"x": 1}, time=5)])
        memory.refresh(6)
        assert memory.at_hand(["a"]) == ({}, ["a"])


# The service


def serving(folder: Path, **limits: int) -> Serving:
    return Serving(first=State(stable=str(folder)), ordering=Ordering(order=Order()), budget=60.0, limits=Limits(**limits))


def figure(service: Service, line: str) -> bool:
    return line in service.metrics.text().decode()


def test_a_service_counts_and_keeps_what_it_answers(folders: Mapping[str, Path], tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store:
        service = Service(store, serving(folders["a"]))
        answer = asyncio.run(service.rank(RankRequest(items=["1", "2", "3"], user_id="7", n=2, explain=True), monotonic()))
        assert ([one.position for one in answer.items], answer.logged, answer.rung) == ([0, 1], True, Rung.FULL)
        assert [one.contributions for one in answer.items] == [{"click": one.score} for one in answer.items]
        decision = store.decision(answer.request_id)
        assert decision is not None
        assert (decision.user, [one.item for one in decision.shown]) == ("7", [one.item_id for one in answer.items])
        assert figure(service, "umbel_candidates_total 3.0")
        assert figure(service, 'umbel_rungs_total{label="stable",rung="full"} 1.0')
        assert figure(service, f'umbel_bundle{{bundle="{answer.bundle}",label="stable"}} 1.0')


def test_an_answer_that_need_not_be_kept_is_not(folders: Mapping[str, Path], tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store:
        service = Service(store, replace(serving(folders["a"]), logged=False))
        answer = asyncio.run(service.rank(RankRequest(items=["1"]), monotonic()))
        assert answer.logged is False
        assert store.decision(answer.request_id) is None
        assert answer.items[0].contributions is None


def test_a_store_that_does_not_answer_fails_no_answer(
    folders: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    def lost(*_: object, **__: object) -> None:
        raise UnavailableError("gone", mend="wait")

    with Store(tmp_path / "umbel.db") as store:
        service = Service(store, serving(folders["a"]))
        monkeypatch.setattr(Memory, "fetch", lost)
        monkeypatch.setattr(Store, "log", lost)
        with caplog.at_level(logging.WARNING, "umbel.serve"):
            answer = asyncio.run(service.rank(RankRequest(items=["1", "2"], user_id="7"), monotonic()))
        assert (answer.rung, answer.logged, len(answer.items)) == (Rung.FULL, False, 2)
        assert figure(service, 'umbel_failures_total{part="store"} 3.0')  # of the user, of the items, and of the decision
        assert "UnavailableError: gone; wait" in caplog.text


def test_a_shadow_that_fails_is_counted_and_told_to_nobody(
    folders: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    rank = Ranker.rank

    def fails(self: Ranker, one: Asked) -> module.Ranked:
        if self.arm == "shadow":
            raise ValueError("the shadow falls")
        return rank(self, one)

    async def go(service: Service) -> None:
        answer = await service.rank(RankRequest(items=["1"]), monotonic())
        assert answer.rung is Rung.FULL
        await asyncio.sleep(0)

    monkeypatch.setattr(Ranker, "rank", fails)
    with Store(tmp_path / "umbel.db") as store, caplog.at_level(logging.WARNING, "umbel.serve"):
        first = State(stable=str(folders["a"]), shadow=str(folders["c"]))
        service = Service(store, replace(serving(folders["a"]), first=first))
        asyncio.run(go(service))
        assert figure(service, 'umbel_failures_total{part="service"} 1.0')
        assert "ValueError: the shadow falls" in caplog.text
        service.bundles.change(lambda _: State(stable=str(folders["c"])), actor="x", action="y", detail={})
        service.changed()
        assert figure(service, f'umbel_bundle{{bundle="{load(folders["a"]).name}",label="stable"}} 0.0')
        assert figure(service, f'umbel_bundle{{bundle="{load(folders["c"]).name}",label="shadow"}} 0.0')
        assert figure(service, f'umbel_bundle{{bundle="{load(folders["c"]).name}",label="stable"}} 1.0')


@pytest.mark.parametrize(("count", "said"), [(0, "events: 0; send 1 to 2"), (3, "events: 3; send 1 to 2"), (2, None), (1, None)])
def test_a_batch_of_events_has_a_size(folders: Mapping[str, Path], tmp_path: Path, count: int, said: str | None) -> None:
    sent = [{"event_id": f"e{at}", "type": "click", "item_id": "1", "occurred_at": now(), "user_id": "u"} for at in range(count)]
    with Store(tmp_path / "umbel.db") as store:
        service = Service(store, serving(folders["a"], events=2))
        if said is None:
            found = asyncio.run(service.record([*sent[:1], *([7] if count == 2 else [])]))
            assert [one.result for one in found] == [Result.ACCEPTED, Result.REJECTED][:count]
            assert figure(service, 'umbel_events_total{result="accepted"} 1.0')
            assert figure(service, 'umbel_events_total{result="rejected"} 1.0') == (count == 2)
        else:
            with pytest.raises(UserError, match=said):
                asyncio.run(service.record(sent))


@pytest.mark.parametrize(("name", "ahead", "result"), [
    ("a", "4m", Result.ACCEPTED), ("a", "6m", Result.REJECTED), ("hour", "59m", Result.ACCEPTED), ("hour", "61m", Result.REJECTED),
])  # fmt: skip
def test_clocks_may_be_ahead_by_what_the_run_file_says(
    folders: Mapping[str, Path], tmp_path: Path, name: str, ahead: str, result: Result
) -> None:
    sent = {"event_id": "e", "type": "click", "item_id": "1", "occurred_at": now() + duration(ahead), "user_id": "u"}
    with Store(tmp_path / "umbel.db") as store:
        (found,) = asyncio.run(Service(store, serving(folders[name])).record([sent]))
        assert found.result is result
        if result is Result.ACCEPTED:  # the bundle of the hour has no rules of labels, and says so
            assert found.reason == {"a": None, "hour": "no task reads events of type 'click'; known: none"}[name]
        else:
            assert found.reason is not None
            assert "occurred_at" in found.reason


def test_rows_to_predict_are_as_many_as_may_be(folders: Mapping[str, Path], tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store:
        service = Service(store, serving(folders["a"], rows=2))
        assert len(service.predict(PredictRequest(rows=[{}, {"hue": 1}])).predictions) == 2
        assert service.predict(PredictRequest(rows=[{}, {"hue": 1}])).ignored == ["hue"]
        with pytest.raises(UserError, match="rows: 3; send at most 2"):
            service.predict(PredictRequest(rows=[{}] * 3))


def test_other_workers_are_followed_and_failures_are_tried_again(
    folders: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(service_module, "REFRESH", 0.001)

    async def until(service: Service, number: int) -> None:
        following = asyncio.create_task(service.follow())
        while service.bundles.state.number != number:
            await asyncio.sleep(0.001)
        following.cancel()

    refresh, calls = Bundles.refresh, list[list[str]]()

    def once_broken(self: Bundles, ready: Sequence[Served]) -> None:
        calls.append([one.folder.name for one in ready])
        if len(calls) == 1:
            raise UnavailableError("gone", mend="wait")
        refresh(self, ready)

    monkeypatch.setattr(Bundles, "refresh", once_broken)
    with Store(tmp_path / "umbel.db") as store:
        service = Service(store, serving(folders["a"]))
        keep(store, State(stable=str(folders["c"]), number=3))
        asyncio.run(asyncio.wait_for(until(service, 3), 30))
        assert calls[:2] == [["c"], ["c"]], "it is loaded by then"
        assert figure(service, 'umbel_failures_total{part="store"} 1.0')
        assert service.bundles.stable.policy.fusion == BOTH


def test_whoever_changes_waits_for_no_bundle_that_another_worker_named(
    folders: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was rolled back by the time that it was loaded here, and never answers."""
    monkeypatch.setattr(service_module, "REFRESH", 0.001)
    slow = Slow(folders["c"])

    async def go(service: Service) -> None:
        following = asyncio.create_task(service.follow())
        assert await asyncio.to_thread(slow.begun.wait, PATIENCE)
        async with asyncio.timeout(PATIENCE), service.changing:
            assert not slow.ends.is_set()
            change = partial(service.bundles.change, WITHOUT, actor="ops", action="drop canary", detail={})
            await asyncio.to_thread(change)
        slow.ends.set()
        await asyncio.sleep(0.05)
        following.cancel()

    with Store(tmp_path / "umbel.db") as store:
        service = Service(store, serving(folders["a"]))
        monkeypatch.setattr("umbel.serve.bundles.load", slow.load)
        keep(store, State(stable=str(folders["a"]), canary=str(folders["c"]), share=1.0, number=3))
        asyncio.run(go(service))
        assert (set(service.bundles.labels), service.bundles.state) == ({"stable"}, saved(store))
        assert service.bundles.state.number == 4
