"""What JSON Schema cannot say of a request, for schemathesis: bodies that are right by the schema are made right by this, too.

Whole numbers are written without a fraction; no candidate comes twice; knots rise, with an increment between any two; tensors hold as many
values as their shapes say, of what the model reads. A body that is meant to be wrong stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import schemathesis

Body = dict[str, Any]


def whole(body: Body) -> Body:
    """5 for 5.0, which JSON Schema takes for one."""
    return {key: int(value) if key in ("n", "seed", "top") and value is not None else value for key, value in body.items()}


def distinct(body: Body) -> Body:
    """Of candidates that are one, the last."""
    named = {one["item_id"] if isinstance(one, dict) else one: one for one in body["items"]}
    return {**whole(body), "items": list(named.values())}


def risen(body: Body) -> Body:
    """Knots in order, each increment in its turn."""
    tasks = {}
    for name, own in body["tasks"].items():
        tasks[name] = own
        if "knots" in own:
            pieces, given = len(own["knots"]) - 1, own["increments"]
            tasks[name] = {**own, "knots": sorted(own["knots"]), "increments": [given[at % len(given)] for at in range(pieces)]}
    return {**body, "tasks": tasks}


def previewed(body: Body) -> Body:
    """A policy that may be, of whose tasks one is swept."""
    policy = risen(body["policy"])
    return {**whole(body), "policy": policy, "sweep": next(iter(policy["tasks"]), None)}


def filled(body: Body) -> Body:
    """A column of items, as long as the first tensor said, but not empty."""
    rows = 1 + int(body["inputs"][0]["shape"][0]) % 5
    tensor = {"name": "item", "shape": [rows], "datatype": "BYTES", "data": [str(number) for number in range(rows)]}
    return {**{key: value for key, value in body.items() if key != "outputs"}, "inputs": [tensor]}


INFER = "/v2/models/{model}"
FITS: Mapping[str, Callable[[Body], Body]] = {
    "/v1/rank": distinct, "/v1/recommend": whole, "/v1/fusion": risen, "/v1/fusion:preview": previewed,
    f"{INFER}/infer": filled, f"{INFER}/versions/{{version}}/infer": filled,
}  # fmt: skip


@schemathesis.hook  # type: ignore[untyped-decorator,unused-ignore]
def before_call(context: Any, case: Any, kwargs: Any) -> None:  # noqa: ANN401
    """Right bodies of these routes, made right altogether."""
    fit = FITS.get(case.operation.path)
    if fit is not None and isinstance(case.body, dict) and case.meta is not None and case.meta.generation.mode.is_positive:
        case.body = fit(case.body)
