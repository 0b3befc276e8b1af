"""The routes of `/v1` and of whoever looks after the service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from pathlib import Path

from umbel.errors import UserError, nearest
from umbel.feedback import duration
from umbel.fusion import parse
from umbel.serve.http.answers import (
    Alive,
    BundlesAnswer,
    ErasedAnswer,
    EraseRequest,
    EventAnswer,
    EventsAnswer,
    LabelShown,
    Nothing,
    Ready,
    SentEvents,
    SentPolicy,
)
from umbel.serve.http.call import Call, Lane, Reply, Route
from umbel.serve.http.catalogue import catalogues
from umbel.serve.http.keys import Scope
from umbel.serve.http.problem import ProblemError
from umbel.serve.records import Result, Value
from umbel.serve.requests import (
    LabelRequest,
    PredictAnswer,
    PredictRequest,
    RankAnswer,
    RankRequest,
    check_ids,
    decode,
    decode_list,
    decode_object,
)
from umbel.serve.served import Served
from umbel.serve.service import Service
from umbel.serve.store.engine import UnavailableError
from umbel.serve.wanted import State

LABELS = ("stable", "canary", "shadow")


async def rank(call: Call) -> Reply:
    """Rank the items of a request."""
    return Reply(await call.service.rank(decode(call.body, RankRequest), call.arrived))


async def predict(call: Call) -> Reply:
    """Predict whole rows."""
    return Reply(call.service.predict(decode(call.body, PredictRequest)))


async def record(call: Call) -> Reply:
    """Keep events; 207 where any was rejected."""
    outcomes = await call.service.record(decode_list(call.body))
    results = EventsAnswer([EventAnswer(one.event, one.result, one.reason) for one in outcomes])
    status = HTTPStatus.MULTI_STATUS if any(one.result is Result.REJECTED for one in outcomes) else HTTPStatus.OK
    return Reply(results, status)


async def alive(call: Call) -> Reply:
    """That the process lives."""
    return Reply(Alive(True))


async def ready(call: Call) -> Reply:
    """Whether it is to be asked: not while it starts or ends."""
    service = call.service
    told = Ready(service.ready, service.bundles.stable.served.name, service.bundles.stable.policy.name)
    return Reply(told, HTTPStatus.OK if service.ready else HTTPStatus.SERVICE_UNAVAILABLE)


async def metrics(call: Call) -> Reply:
    """The figures for Prometheus."""
    return Reply(call.service.metrics.text(), kind="text/plain; version=0.0.4; charset=utf-8")


async def show_bundles(call: Call) -> Reply:
    """Which bundles answer, and what came before."""
    state = call.service.bundles.state
    labels: dict[str, LabelShown] = {
        label: LabelShown(ranker.served.name, str(ranker.served.folder), ranker.policy.name, ranker.overridden)
        for label, ranker in call.service.bundles.labels.items()
    }
    return Reply(BundlesAnswer(labels=labels, previous=state.previous, share=state.share, number=state.number))


async def label(call: Call) -> Reply:
    """Serve a bundle under a label; the stable one's predecessor is kept for a rollback."""
    asked, name, service = decode(call.body, LabelRequest), _label(call), call.service
    folder, session = str(_folder(service, asked.folder)), duration(asked.session, where="session")
    changes: dict[str, Callable[[State], State]] = {
        # A bundle that was replaced in its own folder is nothing to go back to.
        "stable": lambda state: state if folder == state.stable else replace(state, stable=folder, previous=state.stable),
        "canary": lambda state: replace(state, canary=folder, share=asked.share, guard=asked.guard, session=session),
        "shadow": lambda state: replace(state, shadow=folder),
    }
    detail: dict[str, Value] = {"folder": folder, "share": asked.share}
    if asked.guard is not None:
        detail["guard"] = [f"{task}={keep:g}" for task, keep in asked.guard.items()]
    before = await asyncio.to_thread(service.bundles.latest)

    def to(state: State) -> State:
        if state.number != before.number:  # whoever went back while this was loading does not get it after all
            raise UserError("the bundles were changed meanwhile", mend="look again, then decide")
        return changes[name](state)

    return await _change(call, to, action=f"serve as {name}", detail=detail, folder=folder)


async def promote(call: Call) -> Reply:
    """Make the canary the stable bundle."""
    decode(call.body, Nothing)

    def to(state: State) -> State:
        if state.canary is None:
            raise ProblemError(HTTPStatus.CONFLICT, "there is no canary", mend="POST /v1/bundles/canary first")
        return replace(state, stable=state.canary, previous=state.stable, canary=None, share=0.0)

    return await _change(call, to, action="promote", detail={})


async def rollback(call: Call) -> Reply:
    """Go back to the stable bundle before this one, without a canary."""
    decode(call.body, Nothing)

    def to(state: State) -> State:
        if state.previous is None:
            raise ProblemError(HTTPStatus.CONFLICT, "there is no bundle to go back to", mend="POST /v1/bundles/stable")
        return replace(state, stable=state.previous, previous=state.stable, canary=None, share=0.0)

    return await _change(call, to, action="rollback", detail={})


async def drop(call: Call) -> Reply:
    """Serve no canary, or no shadow, any more."""
    name = _label(call)
    if name == "stable":
        raise ProblemError(HTTPStatus.CONFLICT, "something has to answer", mend="serve another bundle as stable instead")
    without = partial(replace, canary=None, share=0.0) if name == "canary" else partial(replace, shadow=None)
    return await _change(call, without, action=f"drop {name}", detail={})


async def show_fusion(call: Call) -> Reply:
    """The policy that ranks."""
    return Reply(call.service.bundles.stable.policy.fusion.to_json())


async def activate(call: Call) -> Reply:
    """Rank by another policy from now on."""
    policy = parse(decode_object(call.body), where="fusion")
    detail: dict[str, Value] = {"fusion": f"{policy.name}@{policy.version}"}
    return await _change(call, partial(replace, fusion=policy.to_json()), action="activate fusion", detail=detail)


async def deactivate(call: Call) -> Reply:
    """Rank by the policies that the bundles carry."""
    return await _change(call, partial(replace, fusion=None), action="deactivate fusion", detail={})


async def erase(call: Call) -> Reply:
    """Erase a user: attributes, decisions, events."""
    whom = decode(call.body, EraseRequest).user_id
    check_ids("user_id", [whom])
    gone = await asyncio.to_thread(call.service.store.erase, whom, actor=call.actor)
    return Reply(ErasedAnswer(gone.decisions, gone.events, gone.busy))


def v1() -> list[Route]:
    """Every route but those of the Open Inference Protocol."""
    return [
        Route(method="POST", path="/v1/rank", answer=rank, says="Rank items for a user", reads=RankRequest, gives=RankAnswer),
        Route(method="POST", path="/v1/predict", answer=predict, says="Predict rows", reads=PredictRequest, gives=PredictAnswer),
        Route(
            method="POST", path="/v1/events", answer=record, says="Tell what happened", scope=Scope.WRITE, reads=SentEvents,
            gives=EventsAnswer, partly=True, lane=Lane.STORE,
        ),
        Route(method="GET", path="/healthz", answer=alive, says="Does the process live", scope=None, gives=Alive),
        Route(method="GET", path="/readyz", answer=ready, says="May it be asked", scope=None, gives=Ready),
        Route(method="GET", path="/metrics", answer=metrics, says="Figures for Prometheus", kind="text/plain", lane=Lane.UPKEEP),
        Route(method="GET", path="/v1/bundles", answer=show_bundles, says="Which bundles answer", gives=BundlesAnswer, lane=Lane.UPKEEP),
        Route(method="GET", path="/v1/fusion", answer=show_fusion, says="The policy that ranks", gives=SentPolicy),
        Route(
            method="POST", path="/v1/erasures", answer=erase, says="Erase all of a user", scope=Scope.ADMIN, reads=EraseRequest,
            gives=ErasedAnswer, lane=Lane.UPKEEP,
        ),
        *catalogues(),
        *_changes(),
    ]  # fmt: skip


def _changes() -> Iterator[Route]:
    """What changes which bundle and fusion answer; each says afterwards which do."""
    for method, path, answer, says, reads in (
        ("POST", "/v1/bundles:promote", promote, "Make the canary stable", Nothing),
        ("POST", "/v1/bundles:rollback", rollback, "Go back to the bundle before", Nothing),
        ("POST", "/v1/bundles/{label}", label, "Serve a bundle", LabelRequest),
        ("DELETE", "/v1/bundles/{label}", drop, "Drop a label", None),
        ("PUT", "/v1/fusion", activate, "Rank by a policy", SentPolicy),
        ("DELETE", "/v1/fusion", deactivate, "Rank by the bundles' policies", None),
    ):  # fmt: skip
        yield Route(
            method=method, path=path, answer=answer, says=says, scope=Scope.ADMIN, reads=reads, gives=BundlesAnswer, lane=Lane.UPKEEP,
        )  # fmt: skip


async def _change(
    call: Call, to: Callable[[State], State], *, action: str, detail: dict[str, Value], folder: str | None = None,
) -> Reply:
    """Change the state, of which `folder` is new: it is loaded first, while others change and answer."""
    service = call.service
    try:
        ready = [] if folder is None else [await _loaded(service, folder)]
        async with service.changing:
            change = partial(service.bundles.change, actor=call.actor, action=action, detail=detail, ready=ready)
            await asyncio.to_thread(change, to)
    except (ProblemError, UnavailableError):  # the one says what it is; of the other nobody knows whether it was done
        raise
    except UserError as error:
        await asyncio.to_thread(service.store.note, call.actor, f"refused: {action}", {**detail, "why": str(error)})
        raise ProblemError(HTTPStatus.CONFLICT, error.what, mend=error.mend) from error
    finally:
        service.changed()
    return await show_bundles(call)


async def _loaded(service: Service, folder: str) -> Served:
    async with service.loading:  # one at a time: each takes memory
        return await asyncio.to_thread(service.bundles.load, folder)


def _label(call: Call) -> str:
    name = call.path["label"]
    if name not in LABELS:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"no label {name!r}", mend=nearest(name, LABELS))
    return name


def _folder(service: Service, folder: str) -> Path:
    """The folder of a bundle, which lies under the root; :raises UserError: if it does not, or cannot be one."""
    if "\0" in folder:
        raise UserError("folder: has a zero byte", mend="name a folder")
    root = service.serving.root.resolve()
    try:
        found = (root / folder).resolve()
        found.is_dir()
    except OSError:
        raise ProblemError(HTTPStatus.NOT_FOUND, "folder: no folder can have this name", mend="name another") from None
    if not found.is_relative_to(root):
        mend = "name it relative to the folder that --set root names"
        raise ProblemError(HTTPStatus.FORBIDDEN, "folder: not under the root of bundles", mend=mend)
    return found
