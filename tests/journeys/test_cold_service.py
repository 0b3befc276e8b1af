"""A new user of a service: answered as anybody, then by what the events say, the same after a restart, and forgotten when erased."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests import rated_runs
from tests.journeys.conftest import say
from tests.server import Here, here
from umbel.bundle import Bundle
from umbel.data.raw import encoded
from umbel.run.monitor import monitor
from umbel.serve.served import load
from umbel.serve.states import again
from umbel.serve.store.store import Store

RULE = """{ window = "30m", value = "last", positive_when = "kind = 'rate'" }"""
RATED = f"""rating = {{ kind = "regression", range = [1, 5], feedback = {RULE} }}"""
CLICKED = """click = { feedback = { window = "20m", positive_when = "kind = 'click'" } }"""
RULES = {'rating = { kind = "regression" }': RATED, "click = { }": CLICKED}
AGE = {"age": "a1"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained one, told to solve the last layer in closed form from one row on and to take gradient steps from six."""
    folder = tmp_path_factory.mktemp("cold")
    file = rated_runs.write(folder, changes=RULES)
    assert say("train", file, "-o", folder / "runs" / "a", "--set", "fit.epochs=4").code == 0
    place = folder / "runs" / "a" / "bundle"
    made = Bundle.load(place)
    assert made.ladder is not None
    assert made.ladder.rates
    told = replace(made, ladder=replace(made.ladder, head=1, steps_from=6, known=None))
    told.save(folder / "runs" / "b" / "bundle", golden=pl.read_parquet(place / "golden.parquet"))
    return folder / "runs" / "b" / "bundle"


@pytest.fixture(scope="module")
def items() -> pl.DataFrame:
    return rated_runs.frame().unique("item", keep="first").select("item", "genres", "year").sort("item")


class Client:
    """Requests of users to a service, its items known to it."""

    def __init__(self, server: Here, items: pl.DataFrame) -> None:
        self.server, self.ids = server, items["item"].to_list()

    def know(self, items: pl.DataFrame) -> None:
        for row in items.iter_rows(named=True):
            fields = {"genres": row["genres"], "year": row["year"]}
            assert self.server.client.put(f"/v1/items/{row['item']}", json={"fields": fields}).status_code == 200

    def rank(self, user: str, **more: object) -> dict[str, Any]:
        answer = self.server.client.post("/v1/rank", json={"user_id": user, "user": AGE, "items": self.ids, **more})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def rate(self, user: str, ratings: dict[str, float]) -> None:
        now = int(time.time() * 1000)
        sent = [
            {"event_id": f"{user}{item}{rating}", "type": "rate", "item_id": item, "user_id": user, "occurred_at": now, "value": rating}
            for item, rating in ratings.items()
        ]
        assert {one["result"] for one in self.server.client.post("/v1/events", json=sent).json()["results"]} == {"accepted"}

    def had(self) -> dict[str, int]:
        """How states of users were had so far."""
        lines = [one for one in self.server.client.get("/metrics").text.splitlines() if one.startswith("umbel_user_states_total{")]
        return {one.split('"')[1]: int(float(one.rsplit(" ", 1)[1])) for one in lines}


@pytest.fixture
def client(bundle: Path, items: pl.DataFrame, tmp_path: Path) -> Iterator[Client]:
    with here(bundle, tmp_path) as server:
        made = Client(server, items)
        made.know(items)
        yield made


def predicted(answer: dict[str, Any], of: Sequence[str], task: str = "rating") -> np.ndarray:
    by_item = {one["item_id"]: one["predictions"][task] for one in answer["items"]}
    return np.array([by_item[item] for item in of])


def test_a_new_user_moves_by_events_and_another_does_not(client: Client, bundle: Path, items: pl.DataFrame) -> None:
    """Predictions move towards what was rated; the second answer is from what was kept; online is what the bundle says of these rows."""
    before, other = client.rank("9001"), client.rank("9002")
    assert (before["adapted"], before["known"]) == ("content", 0)
    loved, hated = client.ids[:4], client.ids[4:8]
    client.rate("9001", {**dict.fromkeys(loved, 5.0), **dict.fromkeys(hated, 1.0)})
    first, second = client.rank("9001"), client.rank("9001")
    assert (first["adapted"], first["known"]) == ("steps", 8)
    error = [np.abs(predicted(one, [*loved, *hated]) - np.repeat([5.0, 1.0], 4)).mean() for one in (before, first)]
    assert error[1] < error[0] - 0.05
    assert second["items"] == first["items"]
    assert client.had() == {"none": 2, "made": 1, "kept": 1}
    assert client.rank("9002")["items"] == other["items"]

    made = Bundle.load(bundle)
    typed = {"user": pl.Int64, "age": pl.String}
    whole = items.with_columns(user=pl.lit(9001), age=pl.lit("a1")).cast(typed)  # type: ignore[arg-type]
    support = whole.filter(pl.col("item").is_in([*loved, *hated]))
    support = support.with_columns(rating=pl.when(pl.col("item").is_in(loved)).then(5.0).otherwise(1.0))
    expected = made.predict(encoded(whole, made.encoder), made.adapt(support))
    columns = [predicted(first, whole["item"].to_list(), task) for task in made.columns]
    np.testing.assert_allclose(np.stack(columns, 1), expected, atol=1e-6, rtol=0)


def test_without_a_row_it_is_the_shared_model_bit_for_bit_and_so_it_is_unasked(client: Client) -> None:
    client.rate("9001", {client.ids[0]: 5.0})  # of what nobody showed
    nobody = client.rank("9001", personalization="off", context=AGE)
    assert (nobody["adapted"], nobody["known"]) == (None, None)
    assert client.had() == {}
    assert client.rank("9001")["items"] == nobody["items"]
    client.rate("9001", {client.ids[1]: 5.0})
    assert client.rank("9001")["known"] == 1
    again_off = client.rank("9001", personalization="off", context=AGE)
    assert again_off["items"] == nobody["items"]
    assert again_off["adapted"] is None


def test_a_restart_answers_the_same_and_each_answer_can_be_had_again_from_the_log(
    bundle: Path, items: pl.DataFrame, tmp_path: Path
) -> None:
    with here(bundle, tmp_path) as server:
        client = Client(server, items)
        client.know(items)
        client.rank("9001")
        client.rate("9001", {client.ids[0]: 5.0, client.ids[1]: 1.0, client.ids[2]: 4.0})
        first = client.rank("9001")
    with here(bundle, tmp_path) as server:
        client = Client(server, items)
        second = client.rank("9001")
        assert client.had() == {"made": 1}
        assert second["items"] == first["items"]
        client.rate("9001", dict.fromkeys(client.ids[3:7], 5.0))
        third = client.rank("9001")
    assert [(one["adapted"], one["known"]) for one in (first, second, third)] == [("head", 3), ("head", 3), ("steps", 7)]
    served = load(bundle)
    with Store(tmp_path / "umbel.db") as store:
        for answer in (first, second, third):
            decision = store.decision(answer["request_id"])
            assert decision is not None
            assert decision.adapted is not None
            assert (decision.adapted.rung, decision.adapted.rows) == (answer["adapted"], answer["known"])
            state = again(store.session, served, decision.adapted, user="9001")
            found = served.reader.predict(decision.fields, [one.fields for one in decision.shown], state)
            np.testing.assert_allclose(found, np.array([one.predictions for one in decision.shown]), atol=1e-6, rtol=0)


def test_a_rating_outside_its_scale_is_rejected_and_changes_nothing(client: Client) -> None:
    client.rank("9001")
    client.rate("9001", {client.ids[0]: 5.0})
    before = client.rank("9001")
    told = {"type": "rate", "item_id": client.ids[1], "user_id": "9001", "occurred_at": int(time.time() * 1000)}
    sent = [{**told, "event_id": "loud", "value": 7}, {**told, "event_id": "mute"}, {**told, "event_id": "good", "value": 1}]
    answer = client.server.client.post("/v1/events", json=sent[:2])
    assert answer.status_code == 207
    reasons = [one["reason"] for one in answer.json()["results"]]
    assert reasons == ["value 7 is outside the range: rating is 1 to 5", "value is missing: rating is 1 to 5"]
    assert client.rank("9001")["items"] == before["items"]
    assert client.server.client.post("/v1/events", json=sent).json()["results"][2]["result"] == "accepted"
    assert client.rank("9001")["known"] == 2


def test_an_erased_user_is_anybody_again(client: Client, tmp_path: Path) -> None:
    before = client.rank("9001")
    client.rate("9001", {client.ids[0]: 5.0, client.ids[1]: 1.0})
    assert client.rank("9001")["known"] == 2
    with closing(Store(tmp_path / "umbel.db")) as store:
        store.erase("9001")
    after = client.rank("9001")
    assert (after["adapted"], after["known"]) == ("content", 0)
    assert after["items"] == before["items"]


def test_an_item_that_says_whose_it_is_is_answered_by_the_shared_model(client: Client) -> None:
    client.rank("9001")
    client.rate("9001", {client.ids[0]: 5.0})
    answer = client.rank("9001", items=[{"item_id": one, "fields": {"user": 7}} for one in client.ids[:3]])
    assert answer["adapted"] is None


def test_adapted_answers_are_collected_as_such_and_not_taken_for_skew(client: Client, bundle: Path, tmp_path: Path) -> None:
    for user in ("9001", "9002"):
        client.rank(user)
    client.rate("9001", {client.ids[0]: 5.0, client.ids[1]: 1.0})
    client.rank("9001")
    rules = tmp_path / "rules.toml"  # windows that are over by now
    text = (bundle.parents[2] / "run.toml").read_text()
    rules.write_text(text.replace('"30m"', '"1ms"').replace('"20m"', '"1ms"') + '\n[feedback]\nlateness = "0s"\n')
    time.sleep(0.01)
    later = [{"event_id": "z", "type": "other", "item_id": "x", "user_id": "z", "occurred_at": int(time.time() * 1000)}]
    assert client.server.client.post("/v1/events", json=later).status_code == 200
    said = say("collect", tmp_path / "umbel.db", "-o", tmp_path / "log.parquet", "--rules", rules)
    assert said.code == 0, said.err
    log = pl.read_parquet(tmp_path / "log.parquet")
    assert set(log["adapted"].unique()) == {"content", "head"}
    assert set(log.filter(pl.col("adapted") == "head")["adapted_rows"]) == {2}
    found = monitor(bundle, str(tmp_path / "log.parquet"))
    skew = next(one for one in found.findings if one.what == "skew")
    assert not skew.alarm
    assert f"{len(client.ids)} that were adapted to their user are left out" in skew.says
    assert json.dumps(found.to_json())
