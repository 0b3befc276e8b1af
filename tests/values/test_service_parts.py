"""The small parts of the service by hand: keys, rates, what is remembered of the store, settings, and who falls to a canary."""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from umbel.errors import UserError
from umbel.serve import known as known_module
from umbel.serve.http import limits as limits_module
from umbel.serve.http.keys import PREFIX, Scope, add_key, read_keys
from umbel.serve.http.limits import Rates
from umbel.serve.http.problem import ProblemError, problem
from umbel.serve.http.server import configured
from umbel.serve.http.told import Told, check, tell
from umbel.serve.known import Memory
from umbel.serve.records import Known
from umbel.serve.requests import Candidate, MalformedError, RankRequest, candidates, check_ids, decode, decode_list, decode_object
from umbel.serve.shares import hashed
from umbel.serve.store.catalogue import Catalogue
from umbel.serve.store.engine import UnavailableError
from umbel.serve.store.store import Store


def test_a_key_is_kept_as_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = add_key(path, "app", ["read", "write"])
    assert key.startswith(PREFIX)
    assert len(key) > 40
    assert key not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = read_keys(path).find(key)
    assert found is not None
    assert (found.name, found.scopes) == ("app", frozenset({Scope.READ, Scope.WRITE}))


def test_no_other_text_is_a_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = add_key(path, "app", ["read"])
    keys = read_keys(path)
    digest = json.loads(path.read_text())["keys"][0]["sha256"]
    for wrong in ("", key[:-1], f"{key}x", key.upper(), digest, "é", "\udcff"):
        assert keys.find(wrong) is None


def test_a_name_has_one_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    one, other = add_key(path, "app", ["read"]), add_key(path, "ops", ["admin"])
    new = add_key(path, "app", ["write"])
    keys = read_keys(path)
    assert keys.find(one) is None
    assert {key.name for given in (other, new) if (key := keys.find(given)) is not None} == {"ops", "app"}
    assert len(keys.keys) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no file of keys"), ("[]", "no file of keys"), ('{"keys": []}', "has no keys"),
        ('{"keys": [{"name": "a"}]}', "no file of keys"),
        ('{"keys": [{"name": "a", "sha256": "00", "scopes": ["read"]}]}', "no file of keys"),
        (json.dumps({"keys": [{"name": "a", "sha256": "0" * 64, "scopes": ["fly"]}]}), "no file of keys"),
    ],
)  # fmt: skip
def test_a_broken_file_of_keys_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(UserError, match=said) as caught:
        read_keys(path)
    assert "umbel key FILE NAME" in str(caught.value)
    with pytest.raises(UserError, match="no such file"):
        read_keys(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("name", "scopes", "said"), [("a", ["raed"], "did you mean 'read'"), ("a", [], "needs a name"), ("", ["read"], "needs a name")],
)
def test_a_key_needs_a_name_and_known_scopes(tmp_path: Path, name: str, scopes: Sequence[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        add_key(tmp_path / "keys.json", name, scopes)
    assert not (tmp_path / "keys.json").exists()


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    rates = Rates(2.0, 3.0, clock=clock)
    assert [rates.wait("a") for _ in range(3)] == [0.0] * 3
    assert rates.wait("a") == pytest.approx(0.5)
    assert rates.wait("b") == 0.0
    clock.now += 0.25
    assert rates.wait("a") == pytest.approx(0.25)
    clock.now += 0.25
    assert rates.wait("a") == 0.0
    assert rates.wait("a") > 0
    clock.now += 1000
    assert [rates.wait("a") for _ in range(3)] == [0.0] * 3
    assert rates.wait("a") > 0


def test_only_so_many_clients_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "CLIENTS", 2)
    rates = Rates(1.0, 1.0, clock=Clock())
    assert [rates.wait(client) for client in "abc"] == [0.0] * 3
    assert rates.wait("c") > 0
    assert rates.wait("a") == 0.0  # forgotten, as if it had not asked


def test_what_the_store_knows_is_read_once(tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store:
        store.items.put([Known(id="a", fields={"price": 3}, time=5)])
        memory = Memory(store.items, now=1_000_000)
        assert memory.at_hand(["a", "b"]) == ({}, ["a", "b"])
        assert memory.fetch(["a", "b"]) == {"a": {"price": 3}}
        assert memory.at_hand(["a", "b"]) == ({"a": {"price": 3}}, [])
        store.items.put([Known(id="a", fields={"price": 4}, time=1_000_001)])  # as another process would
        assert memory.at_hand(["a"]) == ({"a": {"price": 3}}, [])
        memory.refresh(1_000_002)
        assert memory.at_hand(["a"]) == ({"a": {"price": 4}}, [])
        store.items.delete("a", time=1_000_003)
        memory.refresh(1_000_004)
        assert memory.at_hand(["a"]) == ({}, [])


def test_who_is_told_of_changes_and_fails_is_told_again(tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store:
        memory, heard = Memory(store.items, now=1_000_000), []

        def tell(written: list[Known], deleted: list[str]) -> None:
            heard.append(([one.id for one in written], deleted))
            if len(heard) == 1:
                raise ValueError("not now")

        store.items.put([Known(id="a", time=1_000_001)])
        with pytest.raises(ValueError, match="not now"):
            memory.refresh(1_020_000, tell=tell)
        store.items.put([Known(id="b", time=1_020_001)])
        store.items.delete("b", time=1_020_002)
        memory.refresh(1_040_000, tell=tell)
        memory.refresh(1_060_000, tell=tell)
        assert heard == [(["a"], []), (["a"], ["b"]), ([], [])]


def test_copies_of_users_are_all_forgotten_when_one_is_deleted(tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store:
        store.users.put([Known(id="u", fields={"age": 3}, time=5), Known(id="v", time=5)])
        memory = Memory(store.users, now=1_000_000)
        memory.fetch(["u", "v"])
        store.users.delete("u", time=1_000_001)  # as another process would
        assert memory.at_hand(["u"]) == ({"u": {"age": 3}}, [])
        memory.refresh(1_000_002)
        assert memory.at_hand(["u", "v"]) == ({}, ["u", "v"]), "one was deleted, and nothing says which"
        assert memory.fetch(["u", "v"]) == {"v": {}}
        memory.refresh(1_000_003)
        assert memory.at_hand(["u", "v"]) == ({"v": {}}, []), "nothing was deleted since"


def test_what_is_deleted_while_it_is_read_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the reading of a row and its remembering, another process deletes it and this one's other thread learns that."""
    with Store(tmp_path / "umbel.db") as store:
        store.users.put([Known(id="u", fields={"age": 3}, time=5), Known(id="v", time=5)])
        memory = Memory(store.users, now=1_000_000)
        get = Catalogue.get

        def slow(self: Catalogue, ids: Sequence[str]) -> dict[str, Known]:
            found = get(self, ids)
            store.users.delete("u", time=1_000_001)
            memory.refresh(1_000_001)
            return found

        monkeypatch.setattr(Catalogue, "get", slow)
        assert memory.fetch(["u", "v"]) == {"u": {"age": 3}, "v": {}}, "it was so when it was read"
        assert memory.at_hand(["u", "v"]) == ({}, ["u", "v"])


def test_an_unknown_id_that_is_written_becomes_known(tmp_path: Path) -> None:
    with Store(tmp_path / "umbel.db") as store:
        memory = Memory(store.users, now=1_000_000)
        assert memory.fetch(["u"]) == {}
        memory.put([Known(id="u", fields={"age": 3}, time=1_000_001)])
        assert memory.at_hand(["u"]) == ({}, ["u"])
        assert memory.fetch(["u"]) == {"u": {"age": 3}}
        assert memory.delete("u", time=1_000_002)
        assert not memory.delete("u", time=1_000_003)
        assert memory.fetch(["u"]) == {}
        store.users.put([Known(id="v", fields={}, time=1_000_004)])
        memory.refresh(1_000_005)
        assert memory.at_hand(["v"]) == ({}, ["v"])
        assert memory.fetch(["v"]) == {"v": {}}
        assert memory.at_hand(["v"]) == ({"v": {}}, [])


def test_only_so_many_ids_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_module, "ROOM", 2)
    with Store(tmp_path / "umbel.db") as store:
        memory = Memory(store.items, now=0)
        memory.fetch(["a", "b", "c"])
        assert memory.at_hand(["a", "b", "c"]) == ({}, ["a"])


def test_users_are_spread_evenly_and_stay() -> None:
    places = np.array([hashed(f"u{number}", "salt") for number in range(4000)])
    assert ((places >= 0) & (places < 1)).all()
    assert np.abs(np.histogram(places, 4, (0, 1))[0] - 1000).max() < 150
    assert [hashed(f"u{number}", "salt") for number in range(10)] == places[:10].tolist()
    other = np.array([hashed(f"u{number}", "pepper") for number in range(4000)])
    assert abs(np.corrcoef(places, other)[0, 1]) < 0.1


def test_settings_are_read_by_type() -> None:
    told = tell("b", ["port=0", "host=localhost", "temperature=0.5", "logged=false", "rate=10", "store=5", "grace=2"])
    assert told == Told(bundle="b", port=0, host="localhost", temperature=0.5, logged=False, rate=10.0, store="5", grace=2.0)
    for wrong, said in (("worker=1", "did you mean 'workers'"), ("port", "not KEY=VALUE"), ("port=x", "port"), ("logged=1", "logged")):
        with pytest.raises(UserError, match=said):
            tell("b", [wrong])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_needs_no_keys(host: str) -> None:
    check(Told(bundle="b", host=host))


@pytest.mark.parametrize(("given", "said"), [
    ("port=70000", "port=70000; give 1 to 65535, or 0"), ("port=-1", "port=-1; give"),
    ("rate=0", "rate=0.0; give the requests a second of a client, above 0"), ("rate=-1", "rate=-1.0; give"),
    ("burst=0.5", "burst=0.5; give the requests that a client may save up, 1 or more"), ("at_once=0", "at_once=0; give"),
    ("at_once=-4", "at_once=-4; give"), ("late=0", "late=0; give"), ("late=-1", "late=-1; give"), ("grace=-5", "grace=-5; give"),
    ("watch=-1", "watch=-1; give"), ("budget=0", "budget=0; give"),
])  # fmt: skip
def test_a_number_that_would_break_everything_is_refused(given: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        check(tell("b", [given]))


def test_the_least_of_every_number_is_served_with() -> None:
    check(tell("b", ["port=0", "rate=0.001", "burst=1", "at_once=1", "late=0.1", "grace=0", "watch=0", "budget=0.001"]))
    check(tell("b", ["port=65535"]))


def test_workers_share_a_clients_rate_and_burst_out() -> None:
    limits = Told(bundle="b", workers=4, rate=10.0, burst=40.0).opening().serving.limits
    assert (limits.rate, limits.burst) == (2.5, 10.0)
    plain = Told(bundle="b").opening().serving.limits
    assert (plain.rate, plain.burst) == (None, 100.0)


def test_no_client_says_itself_which_address_it_has() -> None:
    """By a header it would have a rate of its own at every request."""
    config = configured(Told(bundle="b", workers=3), FastAPI())
    config.load()
    assert not isinstance(config.loaded_app, ProxyHeadersMiddleware)
    assert (config.workers, config.factory, configured(Told(bundle="b"), "a:b").factory) == (3, False, True)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_others_need_keys(host: str) -> None:
    with pytest.raises(UserError, match="there are no keys"):
        check(Told(bundle="b", host=host))
    check(Told(bundle="b", host=host, keys="keys.json"))


def test_failures_become_problems() -> None:
    assert problem(UserError("a", mend="b")).status == 422
    assert problem(MalformedError("a", mend="b")).status == 400
    gone = problem(UnavailableError("/secret/umbel.db: full", mend="x"))
    assert (gone.status, gone.headers["retry-after"]) == (503, "1")
    ours = problem(KeyError("/secret"))
    assert ours.status == 500
    for hidden in (gone, ours):
        assert b"secret" not in hidden.body()
    own = ProblemError(problem(ValueError()).status, "x", mend="y")
    assert problem(own) is own
    assert json.loads(own.body())["title"] == "Internal Server Error"


def test_requests_are_decoded_or_named() -> None:
    asked = decode(b'{"items": ["a", {"item_id": "b", "fields": {"x": [1, 2.5], "y": null}}]}', RankRequest)
    ids, own = candidates(asked, 2)
    assert ids == ["a", "b"]
    assert own == [{}, {"x": [1, 2.5], "y": None}]
    assert asked.items[1] == Candidate(item_id="b", fields={"x": [1, 2.5], "y": None})
    with pytest.raises(UserError, match="items: 2; send at most 1"):
        candidates(asked, 1)
    assert decode_list(b'[1, {"a": []}]') == [1, {"a": []}]
    assert decode_object(b'{"a": 1}') == {"a": 1}
    for wrong in (b"{}", b"1", b"null"):
        with pytest.raises(UserError):
            decode_list(wrong)
    for wrong in (b"[]", b'"a"'):
        with pytest.raises(UserError):
            decode_object(wrong)
    check_ids("id", ["a", "é", "a b", "x" * 256])
    for bad in ("a\0é", "\udcff"):
        with pytest.raises(UserError, match="id: an id"):
            check_ids("id", [bad])
