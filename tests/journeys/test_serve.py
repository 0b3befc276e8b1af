"""From a trained bundle to answers over HTTP: what is served is what was scored, kept, named, and refused as it should be."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from tests.journeys.conftest import Job, say
from tests.server import Server, problem, serving
from umbel.bundle import Bundle
from umbel.fusion import Fusion, read
from umbel.serve.records import Rung
from umbel.serve.store.store import Store

TASKS = ("click", "like", "buy_marginal")
COLUMNS = ("click", "like", "buy", "buy_marginal")


@dataclass(frozen=True)
class Running:
    """A server, the folder of its store, and the rows that `umbel score` gave for the log."""

    server: Server
    folder: Path
    bundle: Path
    scored: pl.DataFrame


@pytest.fixture(scope="module")
def running(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("serve")
    bundle = job.run / "bundle"
    assert say("score", bundle, job.log, "-o", folder / "scored.parquet").code == 0
    raw = pl.read_parquet(job.log)
    scored = raw.hstack(pl.read_parquet(folder / "scored.parquet").select(COLUMNS).rename({name: f"scored {name}" for name in COLUMNS}))
    with serving(bundle, folder, "--set", "temperature=0.3", "--set", "budget=20000") as server:
        yield Running(server, folder, bundle, scored)


def post(running: Running, body: object, path: str = "/v1/rank") -> dict[str, object]:
    answer = running.server.client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


def shown(answer: Mapping[str, object]) -> list[dict[str, object]]:
    items = answer["items"]
    assert isinstance(items, list)
    return items


def of_one_context(running: Running) -> pl.DataFrame:
    """Rows of one user, device and region, each of another item."""
    groups = running.scored.unique(["user", "device", "region", "item"], maintain_order=True).group_by("user", "device", "region")
    return max((frame for _, frame in groups), key=lambda frame: frame.height)


def asked(rows: pl.DataFrame, **more: object) -> dict[str, object]:
    first = rows.row(0, named=True)
    context = {"device": first["device"], "region": first["region"]}
    return {"user_id": str(first["user"]), "context": context, "items": [str(item) for item in rows["item"]], **more}


def test_ranked_predictions_are_those_of_the_log(running: Running) -> None:
    rows = of_one_context(running)
    assert rows.height >= 5
    answer = post(running, asked(rows))
    by_item = {str(row["item"]): row for row in rows.iter_rows(named=True)}
    assert {one["item_id"] for one in shown(answer)} == set(by_item)
    for one in shown(answer):
        row, predictions = by_item[str(one["item_id"])], one["predictions"]
        assert isinstance(predictions, dict)
        assert_allclose([predictions[name] for name in COLUMNS], [row[f"scored {name}"] for name in COLUMNS], atol=1e-6, rtol=0)


def test_rows_predicted_are_those_of_the_log(running: Running) -> None:
    rows = running.scored.head(300)
    expected = rows.select(f"scored {name}" for name in COLUMNS).to_numpy()
    plain = rows.select("user", "item", "device", "region").to_dicts()
    answer = post(running, {"rows": plain}, "/v1/predict")
    assert answer["columns"] == list(COLUMNS)
    assert_allclose(np.array(answer["predictions"]), expected, atol=1e-6, rtol=0)


def test_the_inference_protocol_gives_the_same(running: Running) -> None:
    rows = running.scored.head(50)
    about = running.server.client.get("/v2/models/stable").json()
    inputs = [{**one, "shape": [50], "data": rows[one["name"]].to_list()} for one in about["inputs"]]
    assert {one["name"] for one in inputs} == {"user", "item", "device", "region"}
    answer = post(running, {"id": "42", "inputs": inputs, "outputs": [{"name": "like"}]}, "/v2/models/stable/infer")
    outputs = answer["outputs"]
    assert isinstance(outputs, list)
    assert (answer["id"], answer["model_name"], len(outputs)) == ("42", "stable", 1)
    assert_allclose(outputs[0]["data"], rows["scored like"].to_numpy(), atol=1e-6, rtol=0)
    assert about["versions"] == [answer["model_version"]]
    assert [one["name"] for one in about["outputs"]] == list(COLUMNS)
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/stable/ready", f"/v2/models/stable/versions/{about['versions'][0]}"):
        assert running.server.client.get(path).status_code == 200
    for path in ("/v2/models/nobody", "/v2/models/stable/versions/7/ready"):
        missing = running.server.client.get(path)
        assert missing.status_code == 404
        assert set(missing.json()) == {"error"}


def test_scores_are_fused_by_the_bundles_policy_and_add_up(running: Running) -> None:
    policy = read(running.bundle / "fusion.json")
    answer = post(running, asked(of_one_context(running), explain=True))
    assert answer["fusion"] == f"default@{policy.version}"
    for one in shown(answer):
        predictions, contributions = one["predictions"], one["contributions"]
        assert isinstance(predictions, dict)
        assert isinstance(contributions, dict)
        assert list(contributions) == list(TASKS)
        row = np.array([[predictions[name] for name in TASKS]])
        assert one["score"] == pytest.approx(policy.score(row)[0], rel=1e-9)
        assert sum(contributions.values()) == pytest.approx(one["score"], abs=1e-9)


def test_a_decision_is_kept_as_it_was_answered(running: Running) -> None:
    body = asked(of_one_context(running), n=4)
    answer = post(running, body)
    assert answer["logged"] is True
    with Store(running.folder / "umbel.db") as store:
        decision = store.decision(str(answer["request_id"]))
    assert decision is not None
    named = (decision.user, decision.bundle, decision.fusion, decision.rung)
    assert named == (body["user_id"], answer["bundle"], answer["fusion"], Rung.FULL)
    assert decision.temperature == 0.3
    assert [one.item for one in decision.shown] == [one["item_id"] for one in shown(answer)]
    assert [one.propensity for one in decision.shown] == [one["propensity"] for one in shown(answer)]
    assert decision.candidates is not None
    assert list(decision.candidates.items) == body["items"]
    logits = dict(zip(decision.candidates.items, decision.candidates.fused.astype(float) / 0.3, strict=True))
    chances = []
    for one in decision.shown:
        top = max(logits.values())
        chances.append(np.exp(logits[one.item] - top) / sum(np.exp(logit - top) for logit in logits.values()))
        del logits[one.item]
    assert_allclose(prod(float(one.propensity or 0) for one in decision.shown), prod(chances), rtol=1e-3)
    context = body["context"]
    assert isinstance(context, dict)
    assert {name: decision.fields[name] for name in context} == context


def test_the_answer_can_be_had_again_from_the_bundle_it_names(running: Running) -> None:
    body = asked(of_one_context(running), seed=11)
    one, again = post(running, body), post(running, body)
    assert one["request_id"] != again["request_id"]
    assert [item["item_id"] for item in shown(one)] == [item["item_id"] for item in shown(again)]
    assert not any("propensity" in item for item in shown(one)), "an order that the client chose was not drawn"
    manifest = json.loads((running.bundle / "manifest.json").read_text())
    assert one["bundle"] == manifest["checksum"][:12]
    bundle = Bundle.load(running.bundle)
    assert isinstance(bundle.fusion, Fusion)


def test_what_the_store_knows_of_items_and_users_is_read(running: Running) -> None:
    client = running.server.client
    rows = of_one_context(running)
    body = asked(rows, seed=1)
    told = post(running, body)
    bare = {key: value for key, value in body.items() if key != "context"}
    without = post(running, bare)
    context = body["context"]
    assert isinstance(context, dict)
    assert client.put(f"/v1/users/{body['user_id']}", json={"fields": {"device": context["device"]}}).status_code == 200
    for item in rows["item"]:
        assert client.put(f"/v1/items/{item}", json={"fields": {"region": context["region"]}}).status_code == 200
    known = post(running, bare)

    def chances(answer: Mapping[str, object]) -> dict[str, list[float]]:
        return {str(one["item_id"]): list(one["predictions"].values()) for one in shown(answer)}  # type: ignore[attr-defined]

    assert chances(known) != chances(without)
    for item, row in chances(told).items():
        assert_allclose(chances(known)[item], row, atol=1e-6, rtol=0)
    assert client.get(f"/v1/users/{body['user_id']}").json()["fields"] == {"device": context["device"]}
    for path in (f"/v1/users/{body['user_id']}", *(f"/v1/items/{item}" for item in rows["item"])):
        assert client.delete(path).status_code == 204
        assert problem(client.get(path), 404).startswith("not known")
        problem(client.delete(path), 404)
    for item, row in chances(post(running, bare)).items():
        assert_allclose(chances(without)[item], row, atol=1e-6, rtol=0)


def test_without_personalization_two_users_are_answered_alike(running: Running) -> None:
    rows = of_one_context(running)
    one, other = (post(running, {**asked(rows, seed=5, personalization="off"), "user_id": user}) for user in ("1", "2"))
    assert shown(one) == shown(other)
    assert shown(one) != shown(post(running, {**asked(rows, seed=5), "user_id": "1"}))
    with Store(running.folder / "umbel.db") as store:
        decision = store.decision(str(one["request_id"]))
    assert decision is not None
    assert decision.user is None
    assert "user" not in {key for key, value in decision.fields.items() if value is not None}


def test_unknown_ids_and_no_user_are_answered(running: Running) -> None:
    for body in ({"items": ["nobody-knows", "0"]}, {"user_id": "new", "items": ["x"]}, {"user_id": None, "items": ["é", "a b", "0"]}):
        answer = post(running, body)
        assert answer["rung"] == "full"
        assert all(np.isfinite(float(str(one["score"]))) for one in shown(answer))


def test_fields_that_the_model_does_not_read_are_named(running: Running) -> None:
    answer = post(running, {"items": ["1", {"item_id": "2", "fields": {"colour": "red"}}], "context": {"weather": "wet", "device": None}})
    assert answer["ignored"] == ["colour", "weather"]


def test_events_are_kept_once(running: Running) -> None:
    client = running.server.client
    answer = post(running, asked(of_one_context(running)))
    event = {
        "event_id": "e-1", "type": "click", "item_id": shown(answer)[0]["item_id"], "occurred_at": 1_700_000_000_000, "user_id": "1",
        "request_id": answer["request_id"],
    }  # fmt: skip
    bad = {**event, "event_id": "e-2", "occurred_at": "now"}
    first = client.post("/v1/events", json=[event, bad, 7])
    assert first.status_code == 207
    assert [one["result"] for one in first.json()["results"]] == ["accepted", "rejected", "rejected"]
    assert "occurred_at" in first.json()["results"][1]["reason"]
    again = client.post("/v1/events", json=[event, event])
    assert again.status_code == 200
    assert [one["result"] for one in again.json()["results"]] == ["duplicate", "duplicate"]


def test_who_watches_is_told(running: Running) -> None:
    client = running.server.client
    assert client.get("/healthz").json() == {"alive": True}
    ready = client.get("/readyz").json()
    assert ready["ready"] is True
    post(running, asked(of_one_context(running)))
    text = client.get("/metrics").text
    assert f'umbel_bundle{{bundle="{ready["bundle"]}",label="stable"}} 1.0' in text
    assert 'umbel_rungs_total{label="stable",rung="full"}' in text
    assert 'umbel_requests_total{route="/v1/rank",status="200"}' in text
    described = client.get("/openapi.json").json()
    assert {"/v1/rank", "/v1/events", "/v1/users/{id}", "/v2/models/{model}/infer", "/readyz"} <= set(described["paths"])
    assert "RankRequest" in described["components"]["schemas"]


BAD: Sequence[tuple[str, object, int, str]] = (
    ("not json", b"{", 400, "strict JSON"),
    ("NaN", b'{"items": ["1"], "context": {"device": NaN}}', 400, "malformed"),
    ("not utf-8", b'{"items": ["\xff"]}', 400, "UTF-8"),
    ("nothing", b"", 400, "truncated"),
    ("deep", b'{"items": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", 422, "Expected"),
    ("a list", [], 422, "Expected `object`"),
    ("no items key", {}, 422, "items"),
    ("no candidates", {"items": []}, 422, "items: none"),
    ("an unknown key", {"items": ["1"], "usr": "x"}, 422, "usr"),
    ("a number for an id", {"items": [1]}, 422, "Expected `str | object`"),
    ("an empty id", {"items": [""]}, 422, "length >= 1"),
    ("a long id", {"items": ["x" * 257]}, 422, "length <= 256"),
    ("a long id of letters of several bytes", {"items": ["é" * 257]}, 422, "length <= 256"),
    ("a zero byte", {"items": ["a\0b"]}, 422, "zero byte"),
    ("a zero byte in a user", {"items": ["1"], "user_id": "a\0b"}, 422, "user_id: an id has a zero byte"),
    ("duplicates", {"items": ["1", "2", {"item_id": "1"}]}, 422, "items: '1' comes twice"),
    ("too many", {"items": [str(number) for number in range(1001)]}, 422, "items: 1,001; send at most 1,000"),
    ("n of 0", {"items": ["1"], "n": 0}, 422, "n"),
    ("an object for a value", {"items": ["1"], "context": {"device": {"a": 1}}}, 422, "got `object`"),
    ("a number of another kind", {"items": ["1"], "user_id": 5}, 422, "user_id"),
    ("an unknown mode", {"items": ["1"], "personalization": "maybe"}, 422, "maybe"),
    ("a value of another type", {"items": ["1"], "context": {"device": [1, 2]}}, 422, "device"),
)


@pytest.mark.parametrize(("body", "status", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_requests_are_answered_in_one_line(running: Running, body: object, status: int, said: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = running.server.client.post("/v1/rank", content=content, headers={"content-type": "application/json"})
    assert said in problem(answer, status)
    post(running, {"items": ["1"]})


def test_a_million_candidates_are_refused_before_they_are_read(running: Running) -> None:
    body = json.dumps({"items": [str(number) for number in range(1_000_000)]}).encode()
    answer = running.server.client.post("/v1/rank", content=body, headers={"content-type": "application/json"})
    assert "too large" in problem(answer, 413)

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(body), 65_536):
            yield body[at:at + 65_536]

    answer = running.server.client.post("/v1/rank", content=pieces(), headers={"content-type": "application/json"})
    assert "too large" in problem(answer, 413)
    post(running, {"items": ["1"]})


def test_what_is_no_json_by_type_is_refused(running: Running) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = running.server.client.post("/v1/rank", content=b'{"items": ["1"]}', headers={"content-type": kind})
        assert "application/json" in problem(answer, 415)


def test_without_keys_only_this_machine_is_answered(running: Running) -> None:
    answer = running.server.client.post("/v1/rank", json={"items": ["1"]}, headers={"host": "evil.example"})
    assert "only this machine" in problem(answer, 403)


def test_other_paths_and_methods_are_problems_too(running: Running) -> None:
    client = running.server.client
    problem(client.get("/v1/nothing"), 404)
    problem(client.get("/v1/rank"), 405)
    problem(client.put("/v1/items/" + "x" * 300, json={"fields": {}}), 422)
    problem(client.post("/v1/bundles/stabel", json={"folder": "x"}), 404)
    problem(client.post("/v1/events", json=[]), 422)
    problem(client.post("/v1/events", json={"event_id": "x"}), 422)
    problem(client.post("/v1/predict", json={"rows": []}), 422)
    problem(client.post("/v1/predict", json={"rows": [{}] * 1001}), 422)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"inputs": []}, "length >= 1"),
        ({"inputs": [{"name": "item", "shape": [2], "datatype": "BYTES", "data": ["a"]}]}, "shape [2] with 1 values"),
        ({"inputs": [{"name": "item", "shape": [1], "datatype": "TEXT", "data": ["a"]}]}, "no datatype 'TEXT'"),
        ({"inputs": [{"name": "item", "shape": [1], "datatype": "INT64", "data": ["a"]}]}, "not INT64"),
        ({"inputs": [{"name": "itme", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}, "did you mean 'item'?"),
        ({"inputs": [{"name": "item", "shape": [1], "datatype": "BYTES", "data": ["a"]}], "outputs": [{"name": "clik"}]}, "no 'clik'"),
        ({"inputs": [{"name": "item", "shape": [0], "datatype": "BYTES", "data": []}]}, "0 rows"),
    ],
)
def test_tensors_that_do_not_fit_are_named(running: Running, change: dict[str, object], said: str) -> None:
    answer = running.server.client.post("/v2/models/stable/infer", json=change)
    assert answer.status_code == 422
    assert said in answer.json()["error"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--workers", "1000"), "--workers 1000: each worker is a process with a core of its own"),
        (("--set", "host=0.0.0.0"), "host=0.0.0.0: others reach it, and there are no keys"),
        (("--set", "temprature=1"), "has no parameter 'temprature'; did you mean 'temperature'?"),
        (("--set", "temperature=hot"), "--set.temperature = 'hot'"),
        (("--set", "temperature=-1"), "temperature = -1; give 0"),
        (("--set", "budget=0"), "budget=0; give the milliseconds"),
        (("--set", "fusion=nothing.json"), "nothing.json: no such fusion policy"),
        (("--keys", "nothing.json"), "nothing.json: no such file of keys"),
        (("--store", "mysql://x/y"), "no such store"),
    ],
)
def test_a_server_that_cannot_be_is_refused(running: Running, tmp_path: Path, words: Sequence[str], said: str) -> None:
    store = () if "--store" in words else ("--store", tmp_path / "umbel.db")
    told = say("serve", running.bundle, *store, *words)
    assert told.code == 2
    assert said in told.line


def test_a_second_server_of_a_store_is_refused(running: Running) -> None:
    told = say("serve", running.bundle, "--store", running.folder / "umbel.db")
    assert told.code == 2
    assert "another server" in told.line


def test_a_port_that_is_taken_is_said(running: Running, tmp_path: Path) -> None:
    port = running.server.url.rpartition(":")[2]
    told = say("serve", running.bundle, "--store", tmp_path / "umbel.db", "--port", port)
    assert told.code == 2
    assert f"127.0.0.1:{port}: cannot be served from (Address already in use); stop what listens there" in told.line
    assert not (tmp_path / "umbel.db").exists(), "no store is left behind"


def test_a_server_says_where_it_is_and_to_whom_it_answers(running: Running) -> None:
    line = (running.folder / "errors.txt").read_text().splitlines()[0]
    where = f"{running.server.url}: serves {running.bundle}, its store is {running.folder / 'umbel.db'}"
    assert line.replace(f"{running.bundle.resolve()}", f"{running.bundle}") == f"{where}; only this machine is answered, for want of keys"


def test_what_is_no_bundle_is_refused(running: Running, tmp_path: Path) -> None:
    told = say("serve", tmp_path, "--store", tmp_path / "umbel.db")
    assert told.code == 2
    assert "not a bundle" in told.line
