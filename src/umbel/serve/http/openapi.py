"""The service in OpenAPI, made of its routes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version

import msgspec

from umbel.serve.http.answers import PARTS, Json
from umbel.serve.http.call import Route
from umbel.serve.http.keys import Scope
from umbel.serve.requests import KnownOne, SentEvent

REF = "#/components/schemas/Problem"
STRICT = "Bodies are strict JSON: no NaN, no key that is not described, whole numbers without a fraction (5, not 5.0)."
ANY: Json = {"type": "string", "minLength": 1}
PROBLEM = {
    "type": "object", "required": ["type", "title", "status", "detail"],
    "properties": {"type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"}},
}  # fmt: skip
FAILURES = {
    "400": "no strict JSON", "401": "no valid key", "403": "not allowed", "404": "not known", "408": "the body did not come",
    "409": "not possible now", "413": "too large", "415": "no application/json", "422": "a wrong value", "429": "too often",
    "500": "a failure of the service", "503": "not now",
}  # fmt: skip


def openapi(routes: Sequence[Route]) -> Json:
    """The document that `/openapi.json` gives."""
    shapes = [SentEvent, KnownOne, *(shape for route in routes for shape in (route.reads, route.gives) if shape is not None)]
    schemas, components = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    by_shape = {id(shape): schema for shape, schema in zip(shapes, schemas, strict=True)}
    paths: dict[str, Json] = {}
    for route in routes:
        path = route.path.replace(":path}", "}")
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, path, by_shape)
    return {
        "openapi": "3.1.0",
        "info": {"title": "umbel", "version": version("umbel"), "description": STRICT},
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": PROBLEM},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, path: str, schemas: dict[int, Json]) -> Json:
    named = re.findall(r"{(\w+)}", path)
    made: Json = {
        "summary": route.says,
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()} {path}").strip("_"),
        "parameters": [{"name": name, "in": "path", "required": True, "schema": PARTS.get(name, ANY)} for name in named]
        + _asked(route),
        "responses": _responses(route, schemas),
    }
    if route.scope is not None:
        made |= {"security": [{"key": []}], "description": f"Needs a key of scope {Scope(route.scope).value}, where keys are asked for."}
    if route.reads is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": schemas[id(route.reads)]}}}
    return made


def _asked(route: Route) -> list[Json]:
    """The parts of its query."""
    if route.asks is None:
        return []
    _, components = msgspec.json.schema_components([route.asks])
    (shape,) = components.values()
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in shape["properties"].items()]


def _responses(route: Route, schemas: dict[int, Json]) -> Json:
    schema = schemas[id(route.gives)] if route.gives is not None else {"type": "string"} if route.kind.startswith("text/") else {}
    problem = {"application/problem+json": {"schema": {"$ref": REF}}}
    failed = {"application/json": {"schema": {"type": "object"}}} if route.error else problem
    found: Json = {status: {"description": says, "content": failed} for status, says in FAILURES.items()}
    done = {"description": "done", "content": {route.kind: {"schema": schema}}}
    return {**found, "200": done, **({"207": done} if route.partly else {}), **_empty(route)}


def _empty(route: Route) -> Json:
    return {"204": {"description": "done"}} if route.method == "DELETE" else {}
