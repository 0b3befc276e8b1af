"""The application that uvicorn runs: routes behind their gates, opened when the service has started, closed when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from types import FrameType

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from umbel.serve.http.gate import Desk, Gate
from umbel.serve.http.inference import v2
from umbel.serve.http.keys import Keys
from umbel.serve.http.looks import looks
from umbel.serve.http.openapi import openapi
from umbel.serve.http.problem import ProblemError
from umbel.serve.http.recommend import recommending
from umbel.serve.http.routes import v1
from umbel.serve.http.web import web
from umbel.serve.monitor.watch import Watch
from umbel.serve.service import Service, Serving
from umbel.serve.store.engine import UnavailableError
from umbel.serve.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a worker opens: the store, what it serves, who may ask, and seconds for which it still answers after it is told to end."""

    store: str
    serving: Serving
    keys: Keys | None = None
    grace: float = 0.0


def make(opening: Opening) -> FastAPI:
    """The application of one worker; :raises UserError: when it starts, if the bundle or the store cannot be opened."""
    desk = Desk(opening.keys, opening.serving.limits)
    routes = [*v1(), *recommending(), *v2(), *looks()]
    # No pages that would load scripts from elsewhere; and a path that is none is said to be, rather than sent to another.
    app = FastAPI(lifespan=partial(_life, opening, desk), docs_url=None, redoc_url=None, redirect_slashes=False)
    for route in [*routes, *web()]:
        app.add_route(route.path, Gate(route, desk), methods=[route.method], include_in_schema=False)  # type: ignore[arg-type]
    app.openapi = partial(openapi, routes)  # type: ignore[method-assign]
    app.add_exception_handler(HTTPException, _not_found)
    return app


@asynccontextmanager
async def _life(opening: Opening, desk: Desk, app: FastAPI) -> AsyncIterator[None]:
    with Store(opening.store) as store:  # closing it writes what was asked for
        service = await asyncio.to_thread(Service, store, opening.serving)
        desk.service = service
        watch = Watch(service, every=opening.serving.watch)
        wanted = [service.follow(), desk.watch(), *([watch.run()] if opening.serving.watch else ())]
        running = [asyncio.create_task(one) for one in wanted]
        _drain_first(service, opening.grace)
        try:
            yield
        finally:
            service.ready = False
            for one in running:
                one.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            with contextlib.suppress(UnavailableError):
                await asyncio.to_thread(watch.end)
            desk.service = None


def _drain_first(service: Service, grace: float) -> None:
    """When told to end, be not ready at once, and end after `grace` seconds; told again, at once."""
    ends = signal.getsignal(signal.SIGTERM)
    if not callable(ends):
        return  # not the process's main thread, or no server around
    loop = asyncio.get_running_loop()
    wanted: Callable[[int, FrameType | None], object] = ends

    def drain(number: int, frame: FrameType | None) -> None:
        wait = grace if service.ready else 0.0
        service.ready = False
        loop.call_soon_threadsafe(loop.call_later, wait, wanted, number, frame)

    with contextlib.suppress(ValueError):  # signals are the main thread's
        signal.signal(signal.SIGTERM, drain)


def _methods(request: Request) -> Iterator[str]:
    """The methods that any route of a path answers; a route of its own for each is all that the router looks at."""
    for route in request.app.router.routes:
        if route.matches(request.scope)[0] is Match.PARTIAL:
            yield from route.methods


async def _not_found(request: Request, error: Exception) -> Response:
    """What no route answers, in the form of all problems."""
    assert isinstance(error, HTTPException)
    found = ProblemError(HTTPStatus(error.status_code), f"{request.method} {request.url.path}"[:200], mend="see /openapi.json")
    headers = {name.lower(): value for name, value in (error.headers or {}).items()} | {"content-type": "application/problem+json"}
    if found.status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["allow"] = ", ".join(sorted(_methods(request)))
    return Response(found.body(), found.status, headers=headers)
