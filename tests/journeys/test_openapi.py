"""The service is what its /openapi.json says: asked by requests that schemathesis draws from it, thousands of them in the long run."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.journeys.conftest import Job
from tests.server import Here, here
from umbel.fusion.shapes import SHAPES
from umbel.serve.http.answers import FAMILIES
from umbel.serve.http.keys import add_key
from umbel.serve.http.limits import Limits

ROOT = Path(__file__).parents[2]
LONG = "UMBEL_LONG"  # how many examples of each route the long run draws
SHORT = ["--max-examples", "4", "--max-time", "20"]


@pytest.fixture(scope="module")
def asked(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Here, Path]]:
    """A server that takes keys, and the settings that tell schemathesis one."""
    folder = tmp_path_factory.mktemp("openapi")
    key = add_key(folder / "keys.json", "all", ["read", "write", "admin"])
    settings = folder / "schemathesis.toml"
    settings.write_text(f'[auth.openapi.key]\nbearer = "{key}"\n')
    with here(job.run / "bundle", folder, keys=folder / "keys.json", key=key) as server:
        yield server, settings


def test_every_request_is_answered_as_it_is_described(asked: tuple[Here, Path]) -> None:
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("schemathesis is not installed (pip install -e '.[dev]')")
    server, settings = asked
    amount = ["--max-examples", os.environ[LONG]] if LONG in os.environ else SHORT
    words = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "run", f"{server.url}/openapi.json"]
    words += ["--checks", "all", "--seed", "1", "--no-color", "--continue-on-failure", "--generation-database", "none"]
    words += ["--suppress-health-check", "too_slow", *amount]  # a busy machine is no failure
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.unsaid", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(words, cwd=settings.parent, env=environment, capture_output=True, text=True)
    print(done.stdout[done.stdout.find("SUMMARY") :])
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.findall(r"(\d+) generated", done.stdout)[0]) >= 20


@pytest.fixture(scope="module")
def described(asked: tuple[Here, Path]) -> dict[str, Any]:
    found: dict[str, Any] = asked[0].client.get("/openapi.json").json()
    return found


def shape(described: dict[str, Any], path: str, method: str = "post") -> dict[str, Any]:
    found: dict[str, Any] = described["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
    while "$ref" in found:
        found = described["components"]["schemas"][found["$ref"].rpartition("/")[2]]
    return found


def test_bounds_are_those_of_the_limits(described: dict[str, Any]) -> None:
    limits = Limits()
    items, rows = (shape(described, f"/v1/{path}")["properties"][name] for path, name in (("rank", "items"), ("predict", "rows")))
    events, *known = shape(described, "/v1/events"), *(shape(described, f"/v1/{kind}", "put") for kind in ("users", "items"))
    assert [(one["minItems"], one["maxItems"]) for one in (items, rows, events, *known)] == [
        (1, limits.items), (1, limits.rows), (1, limits.events), (1, limits.known), (1, limits.known),
    ]  # fmt: skip
    assert items["uniqueItems"] is True


def test_fusion_policies_are_described_by_their_own_fields(described: dict[str, Any]) -> None:
    assert {name: set(parameters) for name, parameters in FAMILIES.items()} == {
        name: {one.name for one in fields(kind)} for name, kind in SHAPES.items()  # type: ignore[arg-type]
    }
    families = shape(described, "/v1/fusion", "put")["oneOf"]
    assert [one["properties"]["family"]["const"] for one in families] == list(SHAPES)


def test_parts_of_paths_are_described(described: dict[str, Any]) -> None:
    parameters = {
        one["name"]: one["schema"] for path in described["paths"].values() for operation in path.values() for one in operation["parameters"]
    }
    assert parameters["label"] == parameters["model"] == {"enum": ["stable", "canary", "shadow"]}
    assert parameters["id"]["maxLength"] == 256


def test_what_may_be_done_in_part_says_so(described: dict[str, Any]) -> None:
    partly = {(path, method) for path, all_of in described["paths"].items() for method, one in all_of.items() if "207" in one["responses"]}
    assert partly == {("/v1/events", "post"), ("/v1/users", "put"), ("/v1/items", "put")}


@pytest.mark.parametrize(("method", "path", "allowed"), [
    ("PATCH", "/v1/items/7", "DELETE, GET, HEAD, PUT"), ("OPTIONS", "/v1/fusion", "DELETE, GET, HEAD, PUT"), ("GET", "/v1/rank", "POST"),
    ("GET", "/v1/bundles/stable", "DELETE, POST"), ("POST", "/healthz", "GET, HEAD"), ("GET", "/v1/items", "PUT"),
])  # fmt: skip
def test_a_method_that_a_path_has_not_is_told_those_that_it_has(asked: tuple[Here, Path], method: str, path: str, allowed: str) -> None:
    answer: httpx.Response = asked[0].client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
