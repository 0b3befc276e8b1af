"""Every route over HTTP, asked well and badly: its status, its form, and the one line that says what is wrong."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.journeys.conftest import Job
from tests.server import here, problem
from umbel.serve.http.inference import v2
from umbel.serve.http.looks import looks
from umbel.serve.http.recommend import recommending
from umbel.serve.http.routes import v1

NAMES = ["click", "like", "buy", "buy_marginal"]
READ = ["device", "item", "region", "user"]
V2 = "/v2/models/stable"
INFER = f"{V2}/infer"
Json = dict[str, object]


@pytest.fixture(scope="module")
def client(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server of the job's bundle; tests leave its bundles and fusion as they found them."""
    with here(job.run / "bundle", tmp_path_factory.mktemp("routes")) as server:
        yield server.client


@pytest.fixture(scope="module")
def name(client: httpx.Client) -> str:
    """The name of the bundle."""
    return str(client.get("/readyz").json()["bundle"])


def failed(answer: httpx.Response, status: int) -> str:
    """The one sentence of a failure of the protocol, once its form is checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    return str(answer.json()["error"])


def tensor(name: str = "item", *, shape: list[int] | None = None, kind: str = "BYTES", data: object = ("1",)) -> Json:
    return {"name": name, "shape": [1] if shape is None else shape, "datatype": kind, "data": data}


# The Open Inference Protocol


def test_the_server_says_what_it_is(client: httpx.Client) -> None:
    told = client.get("/v2").json()
    assert set(told) == {"name", "version", "extensions"}
    assert (told["name"], told["extensions"]) == ("umbel", [])
    assert told["version"] == client.get("/openapi.json").json()["info"]["version"]


def test_health_says_live_and_ready(client: httpx.Client) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}


@pytest.mark.parametrize("versioned", [False, True])
def test_a_model_says_what_it_reads_and_gives(client: httpx.Client, name: str, versioned: bool) -> None:
    told = client.get(f"{V2}/versions/{name}" if versioned else V2).json()
    assert (told["name"], told["versions"], told["platform"]) == ("stable", [name], "umbel")
    assert [one["name"] for one in told["inputs"]] == READ
    assert {one["name"]: one["datatype"] for one in told["inputs"]} == {"device": "BYTES", "item": "INT64", "region": "INT64",
    "user": "INT64"}
    assert told["outputs"] == [{"name": one, "datatype": "FP64", "shape": [-1]} for one in NAMES]
    assert {tuple(one["shape"]) for one in told["inputs"]} == {(-1,)}


@pytest.mark.parametrize("versioned", [False, True])
def test_a_model_is_ready(client: httpx.Client, name: str, versioned: bool) -> None:
    assert client.get(f"{V2}/versions/{name}/ready" if versioned else f"{V2}/ready").json() == {"name": "stable", "ready": True}


@pytest.mark.parametrize("end", ["", "/ready", "/infer"])
@pytest.mark.parametrize(("path", "said"), [
    ("/v2/models/stabel", "no model 'stabel'; did you mean 'stable'?"),
    ("/v2/models/canary", "no model 'canary'; known: stable"),
    ("/v2/models/STABLE", "no model 'STABLE'; known: stable"),
    ("/v2/models/stable/versions/7", "model 'stable' has no version '7'; known: {name}"),
    ("/v2/models/canary/versions/{name}", "no model 'canary'; known: stable"),
])  # fmt: skip
def test_an_unknown_model_is_named(client: httpx.Client, name: str, path: str, said: str, end: str) -> None:
    path = path.format(name=name) + end
    answer = client.post(path, json={"inputs": [tensor()]}) if end == "/infer" else client.get(path)
    assert failed(answer, 404) == said.format(name=name)


def rows_of(answer: httpx.Response) -> dict[str, list[float]]:
    assert answer.status_code == 200, answer.text
    return {one["name"]: one["data"] for one in answer.json()["outputs"]}


def test_a_prediction_is_that_of_v1(client: httpx.Client, name: str) -> None:
    rows = [{"user": 3, "item": 4, "region": 1, "device": "phone"}, {"user": 8, "item": 9, "region": 2, "device": "tv"}]
    plain = client.post("/v1/predict", json={"rows": rows}).json()
    kinds = {"user": "INT64", "item": "INT64", "region": "INT32", "device": "BYTES"}
    inputs = [tensor(one, shape=[2], kind=kind, data=[row[one] for row in rows]) for one, kind in kinds.items()]
    for path in (INFER, f"{V2}/versions/{name}/infer"):
        found = client.post(path, json={"inputs": inputs}).json()
        assert (found["model_name"], found["model_version"]) == ("stable", name)
        assert "id" not in found
        assert [one["name"] for one in found["outputs"]] == plain["columns"] == NAMES
        assert [one["shape"] for one in found["outputs"]] == [[2]] * 4
        assert [list(row) for row in zip(*(one["data"] for one in found["outputs"]), strict=True)] == plain["predictions"]


def test_an_id_comes_back_and_outputs_are_those_asked_for(client: httpx.Client) -> None:
    found = client.post(INFER, json={"id": "é 1", "inputs": [tensor()], "outputs": [{"name": "buy"}, {"name": "click"}]}).json()
    assert found["id"] == "é 1"
    assert [one["name"] for one in found["outputs"]] == ["buy", "click"]
    both = rows_of(client.post(INFER, json={"inputs": [tensor()]}))
    assert {one["name"]: one["data"] for one in found["outputs"]} == {one: both[one] for one in ("buy", "click")}
    assert both["buy"] != both["click"]
    assert client.post(INFER, json={"inputs": [tensor()], "outputs": []}).json()["outputs"] == []


@pytest.mark.parametrize(("shape", "data"), [([2], ["1", "2"]), ([2, 1], ["1", "2"]), ([2, 1], [["1"], ["2"]])])
def test_a_column_may_be_flat_or_nested(client: httpx.Client, shape: list[int], data: object) -> None:
    flat = rows_of(client.post(INFER, json={"inputs": [tensor(shape=[2], data=["1", "2"])]}))
    assert rows_of(client.post(INFER, json={"inputs": [tensor(shape=shape, data=data)]})) == flat
    assert flat["click"][0] != flat["click"][1]


@pytest.mark.parametrize(("kind", "data", "column"), [
    ("INT64", 3, "item"), ("INT32", 3, "item"), ("INT16", 3, "item"), ("INT8", 3, "item"), ("UINT64", 3, "item"), ("UINT32", 3, "item"),
    ("UINT16", 3, "item"), ("UINT8", 3, "item"), ("BYTES", "3", "item"), ("BYTES", "phone", "device"), ("FP64", 1, "region"),
    ("FP64", 1.0, "region"), ("FP32", 1.0, "region"),
])  # fmt: skip
def test_every_datatype_is_read(client: httpx.Client, kind: str, data: object, column: str) -> None:
    found = rows_of(client.post(INFER, json={"inputs": [tensor(column, kind=kind, data=[data])]}))
    plain = client.post("/v1/predict", json={"rows": [{column: data}]}).json()["predictions"][0]
    assert [found[one][0] for one in NAMES] == plain


@pytest.mark.parametrize(("kind", "wrong"), [
    ("INT64", 1.5), ("INT64", True), ("INT64", "1"), ("INT64", None), ("INT8", 1.0), ("UINT8", "1"), ("FP64", "1"), ("FP32", False),
    ("BOOL", 1), ("BOOL", "true"), ("BYTES", 1), ("BYTES", None), ("BYTES", {"a": 1}), ("UINT64", True), ("INT16", 0.5),
])  # fmt: skip
def test_data_of_another_type_is_named(client: httpx.Client, kind: str, wrong: object) -> None:
    answer = client.post(INFER, json={"inputs": [tensor("region", kind=kind, data=[wrong])]})
    assert failed(answer, 422) == f"region: data that is not {kind}; send values of the type said"


ROWS = "every input has {} rows"


@pytest.mark.parametrize(("inputs", "said"), [
    ([tensor(shape=[0], data=[])], "inputs: 0 rows; send 1 to 1,000"),
    ([tensor(shape=[1001], data=["1"] * 1001)], "inputs: 1,001 rows; send 1 to 1,000"),
    ([tensor(shape=[2])], f"item: shape [2] with 1 values; {ROWS.format(2)}"),
    ([tensor(shape=[1], data=["1", "2"])], f"item: shape [1] with 2 values; {ROWS.format(1)}"),
    ([tensor(shape=[1, 2])], f"item: shape [1, 2] with 1 values; {ROWS.format(1)}"),
    ([tensor(), tensor("user", shape=[2], data=["1", "2"])], f"user: shape [2] with 2 values; {ROWS.format(1)}"),
    ([tensor(), tensor()], "inputs: 'item' comes twice; send each once"),
    ([tensor("itme")], "inputs: the model reads no 'itme'; did you mean 'item'?"),
    ([tensor("click")], "inputs: the model reads no 'click'; known: device, item, region, user"),
    ([tensor(kind="STRING")], "item: no datatype 'STRING'"),
    ([tensor(kind="INT46")], "item: no datatype 'INT46'; did you mean 'INT64'?"),
    ([tensor(kind="bytes")], "item: no datatype 'bytes'"),
    ([tensor("region", data=["x"])], "region: 'x' is no number; it was Int64 when the model was trained"),
    ([tensor("device", kind="INT64", data=[1])], "device: 1 is no text; it was String when the model was trained"),
    ([tensor(shape=[2, 2], data=[["1"], ["2", "3", "4"]])], "item: shape [2, 2] with rows of another length; send data flat"),
    ([tensor("region", kind="INT64", shape=[1, 0], data=[])], "region: "),
    ([tensor(shape=[2], data=[["1", "2"]])], "item: shape [2] with rows of another length; send data flat"),
])  # fmt: skip
def test_a_tensor_that_does_not_fit_is_named(client: httpx.Client, inputs: list[Json], said: str) -> None:
    assert failed(client.post(INFER, json={"inputs": inputs}), 422).startswith(said)


@pytest.mark.parametrize(("body", "said"), [
    ({}, "inputs"), ({"inputs": []}, "length >= 1"), ({"inputs": {}}, "Expected `array`"), ([], "Expected `object`"),
    ({"inputs": [{"name": "item"}]}, "shape"), ({"inputs": [tensor(shape=[])]}, "length >= 1"),
    ({"inputs": [tensor(shape=[1, 1, 1])]}, "<= 2"),
    ({"inputs": [tensor(shape=[-1])]}, ">= 0"), ({"inputs": [tensor("x" * 201)]}, "length <= 200"),
    ({"inputs": [tensor()] * 501}, "<= 500"),
    ({"inputs": [tensor(data="1")]}, "data"), ({"inputs": [tensor()], "id": 5}, "$.id"),
    ({"inputs": [tensor()], "outputs": ["a"]}, "$.outputs"),
    ({"inputs": [tensor()], "outputs": [{}]}, "name"), ({"inputs": [tensor()], "parameters": 1}, "$.parameters"),
    ({"inputs": [tensor()], "outputs": [{"name": "clik"}]}, "outputs: no 'clik'; did you mean 'click'?"),
    ({"inputs": [tensor()], "outputs": [{"name": "click"}, {"name": "zzz"}]}, "outputs: no 'zzz'; known: buy, buy_marginal, click, like"),
])  # fmt: skip
def test_a_request_that_is_none_is_named(client: httpx.Client, body: object, said: str) -> None:
    assert said in failed(client.post(INFER, json=body), 422)


def test_failures_of_form_have_the_protocol_s_shape_too(client: httpx.Client) -> None:
    kind = {"content-type": "application/json"}
    assert "send strict JSON" in failed(client.post(INFER, content=b"{", headers=kind), 400)
    assert "application/json" in failed(client.post(INFER, content=b"{}", headers={"content-type": "text/plain"}), 415)
    assert "too large" in failed(client.post(INFER, content=b" " * (2 << 20), headers=kind), 413)
    assert "only this machine" in failed(client.get("/v2", headers={"host": "evil.example"}), 403)
    assert client.get("/v2/health/live", headers={"host": "evil.example"}).status_code == 200


# What `/v1` refuses


@pytest.mark.parametrize(("body", "said"), [
    ({"rows": []}, "length >= 1"), ({}, "rows"), ({"rows": [1]}, "Expected `object`"), ({"rows": [{}], "row": 1}, "row"),
    ({"rows": [{}] * 1001}, "rows: 1,001; send at most 1,000"), ({"rows": [{"device": 1}]}, "device: 1 is no text"),
    ({"rows": [{"region": "x"}]}, "region: 'x' is no number"), ({"rows": [{"region": True}, {"region": "x"}]}, "region"),
    ({"rows": [{"device": {"a": 1}}]}, "got `object`"), ({"rows": [{"x" * 201: 1}]}, "length <= 200"),
    ({"rows": [{"device": "x" * 10_001}]}, "length <= 10000"), ({"rows": [{str(at): 1 for at in range(501)}]}, "length <= 500"),
])  # fmt: skip
def test_rows_that_cannot_be_predicted_are_named(client: httpx.Client, body: Json, said: str) -> None:
    assert said in problem(client.post("/v1/predict", json=body), 422)


def test_rows_are_predicted_in_their_order(client: httpx.Client, name: str) -> None:
    found = client.post("/v1/predict", json={"rows": [{"item": 1, "hue": 2}, {"item": 2}, {"item": 1, "age": 1}]}).json()
    assert (found["bundle"], found["columns"], found["ignored"]) == (name, NAMES, ["age", "hue"])
    assert found["predictions"][0] == found["predictions"][2] != found["predictions"][1]
    assert all(0 < value < 1 for row in found["predictions"] for value in row)


@pytest.mark.parametrize(("body", "status", "said"), [
    ([], 422, "events: 0; send 1 to 1,000"), ([{}] * 1001, 422, "events: 1,001; send 1 to 1,000"), ({}, 422, "Expected `array`"),
    ("event", 422, "Expected `array`"), (None, 422, "Expected `array`"),
])  # fmt: skip
def test_events_that_are_none_are_named(client: httpx.Client, body: object, status: int, said: str) -> None:
    assert said in problem(client.post("/v1/events", content=json.dumps(body), headers={"content-type": "application/json"}), status)


EVENT: Json = {"event_id": "r1", "type": "click", "item_id": "1", "occurred_at": 1_700_000_000_000, "user_id": "1"}


@pytest.mark.parametrize(("change", "said"), [
    ({"event_id": None}, "event_id is missing"), ({"type": None}, "type is missing"), ({"item_id": ""}, "item_id is empty"),
    ({"occurred_at": "now"}, "occurred_at is no whole number of milliseconds"), ({"occurred_at": True}, "occurred_at is no whole number"),
    ({"occurred_at": -1}, "occurred_at is before the year 2000; send milliseconds"),
    ({"occurred_at": 1_700_000_000}, "occurred_at 1700000000 looks like seconds; send milliseconds since 1970 (UTC), such as 170000000000"),
    ({"occurred_at": 300_000_000_000_000}, "occurred_at is not between 1970 and 9999"),
    ({"user_id": None}, "neither user_id nor request_id"),
    ({"user_id": "x" * 257}, "user_id is longer than 256 characters"), ({"value": "3"}, "value is no number"),
    ({"item_id": 5}, "item_id is no text"),
    ({"itemid": "5"}, "unknown key 'itemid'; did you mean 'item_id'?"), ({"occurred_at": 200_000_000_000_000}, "in the future"),
])  # fmt: skip
def test_a_wrong_event_is_rejected_and_its_neighbour_kept(client: httpx.Client, change: Json, said: str) -> None:
    good = {**EVENT, "event_id": f"beside {said}"}
    answer = client.post("/v1/events", json=[{**EVENT, **change}, good])
    assert answer.status_code == 207
    wrong, kept = answer.json()["results"]
    assert wrong["result"] == "rejected"
    assert said in wrong["reason"]
    assert kept == {"event_id": f"beside {said}", "result": "accepted", "reason": None}


@pytest.mark.parametrize("kind", ["users", "items"])
def test_what_is_known_is_written_read_and_forgotten(client: httpx.Client, kind: str) -> None:
    path = f"/v1/{kind}/a/b%20é"
    assert problem(client.get(path), 404) == "not known; PUT it first"
    assert problem(client.delete(path), 404) == "not known; nothing is left of it"
    fields = {"a": 1, "b": [1.5, 2], "c": None, "d": "é", "e": True}
    unread = "the model reads no 'a' (nor 4 more); known: device, item, region, user"
    assert client.put(path, json={"fields": fields}).json() == {"id": "a/b é", "fields": fields, "reason": unread}
    assert client.get(path).json() == {"id": "a/b é", "fields": fields}
    assert client.put(path, json={"fields": {}}).json()["fields"] == {}
    assert client.get(path).json()["fields"] == {}, "all fields are written, instead of those before"
    other = "items" if kind == "users" else "users"
    problem(client.get(f"/v1/{other}/a/b%20é"), 404)
    gone = client.delete(path)
    assert (gone.status_code, gone.content) == (204, b"")
    problem(client.get(path), 404)


@pytest.mark.parametrize("kind", ["users", "items"])
@pytest.mark.parametrize(("method", "end", "body", "said"), [
    ("PUT", "x" * 257, {"fields": {}}, "id is longer than 256 characters; give another"), ("GET", "", None, "id is empty; give another"),
    ("GET", "é" * 257, None, "id is longer than 256 characters"),
    ("DELETE", "x" * 257, None, "id is longer than 256 characters"), ("GET", "a%00b", None, "id has a zero byte"),
    ("PUT", "a", {}, "fields"),
    ("PUT", "a", {"fields": {"a": {}}}, "got `object`"), ("PUT", "a", {"fields": {}, "time": 1}, "time"),
    ("PUT", "a", [], "Expected `object`"),
])  # fmt: skip
def test_an_id_or_fields_that_cannot_be_are_named(client: httpx.Client, kind: str, method: str, end: str, body: object, said: str) -> None:
    assert said in problem(client.request(method, f"/v1/{kind}/{end}", json=body), 422)


def test_bundles_are_shown(client: httpx.Client, job: Job, name: str) -> None:
    told = client.get("/v1/bundles").json()
    assert set(told) == {"labels", "previous", "share", "number"}
    assert set(told["labels"]) == {"stable"}
    assert told["labels"]["stable"] == {
        "bundle": name, "folder": str((job.run / "bundle").resolve()), "fusion": client.get("/readyz").json()["fusion"], "own": None,
    }  # fmt: skip
    assert (told["previous"], told["share"]) == (None, 0.0)


@pytest.mark.parametrize(("method", "path", "body", "status", "said"), [
    ("POST", "/v1/bundles:promote", {}, 409, "there is no canary; POST /v1/bundles/canary first"),
    ("POST", "/v1/bundles:rollback", {}, 409, "there is no bundle to go back to; POST /v1/bundles/stable"),
    ("DELETE", "/v1/bundles/stable", None, 409, "something has to answer; serve another bundle as stable instead"),
    ("DELETE", "/v1/bundles/shadows", None, 404, "no label 'shadows'; did you mean 'shadow'?"),
    ("POST", "/v1/bundles/blue", {"folder": "x"}, 404, "no label 'blue'; did you mean 'stable'?"),
    ("POST", "/v1/bundles/canary", {}, 422, "folder"), ("POST", "/v1/bundles/canary", {"folder": "x", "share": 0}, 422, "$.share"),
    ("POST", "/v1/bundles/canary", {"folder": "x", "share": 1.1}, 422, "$.share"),
    ("POST", "/v1/bundles/canary", {"folder": 1}, 422, "$.folder"),
    ("POST", "/v1/bundles/canary", {"folder": "x", "shares": 1}, 422, "shares"),
    ("POST", "/v1/bundles/canary", {"folder": "nothing"}, 409, "not a bundle"),
    ("POST", "/v1/bundles/canary", {"folder": "x" * 300}, 404, "folder: no folder can have this name; name another"),
    ("POST", "/v1/bundles/canary", {"folder": "a\0b"}, 422, "folder: has a zero byte"),
    ("POST", "/v1/bundles:promote", [], 422, "Expected `object`"), ("POST", "/v1/bundles:rollback", {"to": "x"}, 422, "to"),
    ("POST", "/v1/bundles/shadow", {"folder": "../.."}, 403, "folder: not under the root of bundles; name it relative to the folder that"),
    ("POST", "/v1/bundles/stable", {"folder": "/etc"}, 403, "folder: not under the root of bundles"),
    ("PUT", "/v1/fusion", {}, 422, "fusion"), ("PUT", "/v1/fusion", [], 422, "Expected `object`"),
    ("PUT", "/v1/fusion", {"format": 1, "family": "linaer", "tasks": {"click": {}}}, 422, "did you mean 'linear'?"),
    ("PUT", "/v1/fusion", {"format": 1, "family": "linear", "tasks": {"clik": {}}}, 409, "no prediction 'clik'; did you mean 'click'?"),
])  # fmt: skip
def test_a_change_that_cannot_be_changes_nothing(
    client: httpx.Client, method: str, path: str, body: object, status: int, said: str
) -> None:  # fmt: skip
    before, fusion = client.get("/v1/bundles").json(), client.get("/v1/fusion").json()
    assert said in problem(client.request(method, path, json=body), status)
    assert client.get("/v1/bundles").json() == before
    assert client.get("/v1/fusion").json() == fusion


def test_labels_are_dropped_and_come_again(client: httpx.Client, job: Job, name: str) -> None:
    number = client.get("/v1/bundles").json()["number"]
    folder = f"{job.run.name}/bundle"
    told = client.post("/v1/bundles/canary", json={"folder": folder}).json()
    assert (told["share"], told["number"], told["labels"]["canary"]["bundle"]) == (0.05, number + 1, name)
    told = client.post("/v1/bundles/shadow", json={"folder": folder, "share": 0.5}).json()
    assert (told["share"], told["number"], set(told["labels"])) == (0.05, number + 2, {"stable", "canary", "shadow"})
    assert client.get("/v2/models/shadow/ready").json() == {"name": "shadow", "ready": True}
    told = client.delete("/v1/bundles/canary").json()
    assert (told["share"], told["number"], set(told["labels"])) == (0.0, number + 3, {"stable", "shadow"})
    assert set(client.delete("/v1/bundles/shadow").json()["labels"]) == {"stable"}
    assert client.get("/v2/models/shadow/ready").status_code == 404


def test_a_fusion_is_put_in_force_shown_and_taken_away(client: httpx.Client) -> None:
    own = client.get("/v1/fusion").json()
    policy = {"format": 1, "name": "clicks", "family": "linear", "tasks": {"click": {"direction": 1, "weight": 2.0, "scale": 1.0}}}
    told = client.put("/v1/fusion", json=policy).json()
    assert told["labels"]["stable"]["fusion"].startswith("clicks@")
    assert client.get("/v1/fusion").json() == policy
    answer = client.post("/v1/rank", json={"items": ["1", "2", "3"], "explain": True}).json()
    assert answer["fusion"] == told["labels"]["stable"]["fusion"] == client.get("/readyz").json()["fusion"]
    for one in answer["items"]:
        assert one["score"] == pytest.approx(2 * one["predictions"]["click"])
        assert one["contributions"] == {"click": one["score"]}
    client.delete("/v1/fusion").raise_for_status()
    assert client.get("/v1/fusion").json() == own != policy


# The description


def test_every_route_is_described_and_nothing_else(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    described = {(method.upper(), path) for path, operations in paths.items() for method in operations}
    assert described == {(route.method, route.path.replace(":path}", "}")) for route in [*v1(), *recommending(), *v2(), *looks()]}
    names = [operation["operationId"] for operations in paths.values() for operation in operations.values()]
    assert len(set(names)) == len(names)


def test_the_description_says_keys_bodies_and_failures(client: httpx.Client) -> None:
    told = client.get("/openapi.json").json()
    assert told["openapi"] == "3.1.0"
    rank, events = (told["paths"][path]["post"] for path in ("/v1/rank", "/v1/events"))
    assert rank["requestBody"]["content"] == {"application/json": {"schema": {"$ref": "#/components/schemas/RankRequest"}}}
    assert rank["responses"]["200"]["content"] == {"application/json": {"schema": {"$ref": "#/components/schemas/RankAnswer"}}}
    assert rank["responses"]["422"]["content"] == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert (rank["operationId"], rank["security"]) == ("post_v1_rank", [{"key": []}])
    assert "scope read" in rank["description"]
    assert "scope write" in events["description"]
    assert ("207" in events["responses"], "207" in rank["responses"]) == (True, False)
    assert "security" not in told["paths"]["/healthz"]["get"]
    promote = told["paths"]["/v1/bundles:promote"]["post"]
    assert promote["requestBody"]["content"] == {"application/json": {"schema": {"$ref": "#/components/schemas/Nothing"}}}
    user = told["paths"]["/v1/users/{id}"]
    assert [one["name"] for one in user["get"]["parameters"]] == ["id"]
    assert ("204" in user["delete"]["responses"], "204" in user["get"]["responses"]) == (True, False)
    version = told["paths"]["/v2/models/{model}/versions/{version}/infer"]["post"]
    assert [one["name"] for one in version["parameters"]] == ["model", "version"]
    assert set(version["responses"]["422"]["content"]) == {"application/json"}
    assert set(told["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == {"text/plain"}


@pytest.mark.parametrize(("shape", "method", "path", "body"), [
    ("RankAnswer", "POST", "/v1/rank", {"items": ["1", "2"], "explain": True}), ("PredictAnswer", "POST", "/v1/predict", {"rows": [{}]}),
    ("InferAnswer", "POST", INFER, {"inputs": [tensor()], "id": "1"}), ("Problem", "GET", "/v1/users/nobody", None),
    ("Problem", "POST", "/v1/rank", {}),
])  # fmt: skip
def test_answers_are_as_described(client: httpx.Client, shape: str, method: str, path: str, body: object) -> None:
    schema = client.get("/openapi.json").json()["components"]["schemas"][shape]
    answer = client.request(method, path, json=body).json()
    assert set(schema["required"]) <= set(answer) <= set(schema["properties"])
    types = {"string": str, "integer": int, "array": list, "boolean": bool}
    told = {key: types[of["type"]] for key, of in schema["properties"].items() if of.get("type") in types}
    assert len(told) >= 3
    assert all(isinstance(answer[key], wanted) for key, wanted in told.items() if key in answer)


@pytest.mark.parametrize(("method", "path", "status"), [
    ("POST", "/", 405), ("GET", "/docs", 404), ("GET", "/redoc", 404), ("GET", "/v1/rank", 405),
    ("DELETE", "/v1/events", 405), ("POST", "/healthz", 405), ("PUT", "/v1/bundles", 405), ("POST", "/v2", 405), ("GET", INFER, 405),
    ("GET", "/v2/models", 404), ("PATCH", "/v1/fusion", 405),
])  # fmt: skip
def test_what_no_route_answers_is_a_problem(client: httpx.Client, method: str, path: str, status: int) -> None:
    said = problem(client.request(method, path), status)
    assert said == f"{method} {path}; see /openapi.json"


def test_a_store_keeps_what_was_served(job: Job, tmp_path: Path) -> None:
    """A new worker of a store serves what was put in force before it, whatever it is told to begin with."""
    policy = {"format": 1, "name": "kept", "family": "linear", "tasks": {"like": {}}}
    with here(job.run / "bundle", tmp_path) as server:
        assert server.client.put("/v1/fusion", json=policy).status_code == 200
    with here(job.run / "bundle", tmp_path) as server:
        assert server.client.get("/readyz").json()["fusion"].startswith("kept@")
        assert server.client.get("/v1/bundles").json()["number"] == 1


# Through a proxy


@pytest.mark.parametrize(("version", "more", "status"), [
    ("1.1", "", 200), ("1.0", "", 403), ("1.1", "X-Forwarded-For: 127.0.0.1\r\n", 403), ("1.1", "Via: 1.0 proxy\r\n", 403),
])  # fmt: skip
def test_without_keys_a_proxy_that_says_a_name_of_this_machine_is_answered_nothing(
    client: httpx.Client, version: str, more: str, status: int
) -> None:
    """Byte by byte what nginx sends that is told nothing but where to pass requests on to, and what it may be told to add."""
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0)) as proxy:
        proxy.sendall(f"GET /v1/bundles HTTP/{version}\r\nHost: 127.0.0.1:8080\r\nConnection: close\r\n{more}\r\n".encode())
        answered = b"".join(iter(lambda: proxy.recv(65_536), b""))
    assert answered.startswith(f"HTTP/1.1 {status} ".encode())
    assert (b"no proxy is answered; serve with --keys FILE" in answered) == (status == 403)
