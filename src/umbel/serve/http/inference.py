"""The Open Inference Protocol (version 2) beside `/v1`: raw columns as tensors in, predictions as tensors out."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version
from itertools import chain
from math import prod
from typing import Annotated, Any, Literal

import msgspec
import polars as pl
from msgspec import Meta, Struct

from umbel.errors import UserError, nearest
from umbel.serve.http.call import Call, Reply, Route
from umbel.serve.http.keys import Scope
from umbel.serve.http.problem import ProblemError, problem
from umbel.serve.records import Value
from umbel.serve.requests import decode
from umbel.serve.series import column_types
from umbel.serve.served import Served

PLATFORM = "umbel"
MODEL = "/v2/models/{model}"
VERSION = f"{MODEL}/versions/{{version}}"
TYPES: dict[str, tuple[type, ...]] = {  # what a tensor's data may be
    "BOOL": (bool,), "BYTES": (str,), "FP64": (int, float), "FP32": (int, float), "INT64": (int,), "INT32": (int,),
    "INT16": (int,), "INT8": (int,), "UINT64": (int,), "UINT32": (int,), "UINT16": (int,), "UINT8": (int,),
}  # fmt: skip
VALUE = {"type": ["string", "number", "boolean"]}


class Tensor(Struct, frozen=True, kw_only=True):
    """A tensor of a request: one column of raw values, `shape` [rows] or [rows, 1]; of several values a row, [rows, values]."""

    name: Annotated[str, Meta(max_length=200)]
    shape: Annotated[list[Annotated[int, Meta(ge=0)]], Meta(min_length=1, max_length=2)]
    datatype: Annotated[str, Meta(extra_json_schema={"enum": list(TYPES)})]
    data: Annotated[list[Any], Meta(extra_json_schema={"items": {"anyOf": [VALUE, {"type": "array", "items": VALUE}]}})]
    parameters: dict[str, Any] = {}


class Wanted(Struct, frozen=True, kw_only=True):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(Struct, frozen=True, kw_only=True):
    """`POST /v2/models/{model}/infer`."""

    inputs: Annotated[list[Tensor], Meta(min_length=1, max_length=500)]
    id: str | None = None
    outputs: list[Wanted] | None = None
    parameters: dict[str, Any] = {}


class Output(Struct, frozen=True, kw_only=True):
    """A tensor of an answer: one prediction of each row."""

    name: str
    shape: list[int]
    data: list[float]
    datatype: Literal["FP64"] = "FP64"


class InferAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Predictions, a tensor each."""

    model_name: str
    model_version: str
    outputs: list[Output]
    id: str | None = None


async def server(call: Call) -> Reply:
    """What this is."""
    return Reply({"name": PLATFORM, "version": version("umbel"), "extensions": []})


async def live(call: Call) -> Reply:
    """That the process lives."""
    return Reply({"live": True})


async def ready(call: Call) -> Reply:
    """Whether it is to be asked."""
    service = call.service
    return Reply({"live": True, "ready": service.ready}, HTTPStatus.OK if service.ready else HTTPStatus.SERVICE_UNAVAILABLE)


async def model_ready(call: Call) -> Reply:
    """That a model answers."""
    _served(call)
    return Reply({"name": call.path["model"], "ready": True})


async def model(call: Call) -> Reply:
    """What a model reads and gives."""
    served = _served(call)
    types = column_types(served.bundle.source)
    inputs = [{"name": name, "datatype": _datatype(types, name), "shape": [-1]} for name in sorted(served.reader.columns)]
    outputs = [{"name": name, "datatype": "FP64", "shape": [-1]} for name in served.bundle.columns]
    told = {"name": call.path["model"], "versions": [served.name], "platform": PLATFORM, "inputs": inputs, "outputs": outputs}
    return Reply(told)


async def infer(call: Call) -> Reply:
    """Predictions of rows."""
    served, asked = _served(call), decode(call.body, InferRequest)
    rows = _rows(asked.inputs, most=call.service.serving.limits.rows)
    for name in (one.name for one in asked.inputs):
        if name not in served.reader.columns:
            raise UserError(f"inputs: the model reads no {name!r}", mend=nearest(name, served.reader.columns))
    names = list(served.bundle.columns) if asked.outputs is None else [one.name for one in asked.outputs]
    for name in names:
        if name not in served.bundle.columns:
            raise UserError(f"outputs: no {name!r}", mend=nearest(name, served.bundle.columns))
    found = served.reader.predict({}, rows)
    outputs = [Output(name=name, shape=[len(rows)], data=found[:, served.bundle.columns.index(name)].tolist()) for name in names]
    return Reply(InferAnswer(model_name=call.path["model"], model_version=served.name, outputs=outputs, id=asked.id))


def v2() -> list[Route]:
    """Every route of the protocol; its models are the labels (`stable`, `canary`, `shadow`), its versions the bundles' names."""
    routes = [
        Route(method="GET", path="/v2", answer=server, says="The server", error=_error),
        Route(method="GET", path="/v2/health/live", answer=live, says="Does the process live", scope=None, error=_error),
        Route(method="GET", path="/v2/health/ready", answer=ready, says="May it be asked", scope=None, error=_error),
    ]
    for path in (MODEL, VERSION):
        routes += [
            Route(method="GET", path=path, answer=model, says="A model", error=_error),
            Route(method="GET", path=f"{path}/ready", answer=model_ready, says="Is a model ready", error=_error),
            Route(
                method="POST", path=f"{path}/infer", answer=infer, says="Predict by a model", scope=Scope.READ, reads=InferRequest,
                gives=InferAnswer, error=_error,
            ),
        ]  # fmt: skip
    return routes


def _datatype(types: pl.DataFrame, name: str) -> str:
    """What a raw column is to be sent as."""
    kind = types.schema.get(name, pl.String())
    if kind.is_integer():
        return "INT64"
    return "FP64" if kind.is_numeric() else "BOOL" if kind == pl.Boolean else "BYTES"


def _served(call: Call) -> Served:
    """The bundle that a path names."""
    name, wanted = call.path["model"], call.path.get("version")
    labels = call.service.bundles.labels
    found = next((ranker.served for known, ranker in labels.items() if known == name), None)
    if found is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"no model {name!r}", mend=nearest(name, labels))
    if wanted is not None and wanted != found.name:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"model {name!r} has no version {wanted!r}", mend=nearest(wanted, [found.name]))
    return found


def _rows(inputs: Sequence[Tensor], *, most: int) -> list[dict[str, Value]]:
    """Tensors as raw rows; :raises UserError: for data of another type or number than said, or different numbers of rows."""
    count = inputs[0].shape[0]
    if not 1 <= count <= most:
        raise UserError(f"inputs: {count:,} rows", mend=f"send 1 to {most:,}")
    columns: dict[str, list[Value]] = {}
    for one in inputs:
        if one.datatype not in TYPES:
            raise UserError(f"{one.name}: no datatype {one.datatype!r}", mend=nearest(one.datatype, TYPES))
        if one.name in columns:
            raise UserError(f"inputs: {one.name!r} comes twice", mend="send each once")
        width = one.shape[1] if len(one.shape) > 1 else 1
        nested = all(isinstance(row, list) for row in one.data)
        values = list(chain.from_iterable(one.data)) if nested else one.data
        if one.shape[0] != count or len(values) != prod(one.shape):
            raise UserError(f"{one.name}: shape {one.shape} with {len(values)} values", mend=f"every input has {count} rows")
        if nested and any(len(row) != width for row in one.data):
            raise UserError(f"{one.name}: shape {one.shape} with rows of another length", mend="send data flat, or a list a row")
        if not all(type(value) in TYPES[one.datatype] for value in values):
            raise UserError(f"{one.name}: data that is not {one.datatype}", mend="send values of the type said")
        columns[one.name] = values if width == 1 else [values[row * width:(row + 1) * width] for row in range(count)]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _error(error: Exception) -> Reply:
    """The protocol's own form of a failure."""
    found = problem(error)
    return Reply(msgspec.json.encode({"error": str(found)}), found.status, headers=found.headers)
