"""From a command line to answering processes: one a core, one thread of torch each, one socket for all."""

from __future__ import annotations

import json
import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from socket import AF_INET, AF_INET6, SO_REUSEADDR, SOL_SOCKET, socket
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING

from fastapi import FastAPI

from umbel.errors import UserError
from umbel.fusion import UnfitError
from umbel.serve.bundles import started
from umbel.serve.http.app import Opening, make
from umbel.serve.http.metrics import SHARED
from umbel.serve.http.told import Told, check
from umbel.serve.store.engine import place, sole
from umbel.serve.store.store import Store
from umbel.serve.wanted import State, saved

if TYPE_CHECKING:
    from uvicorn import Config

LOG = logging.getLogger("umbel.serve")
TOLD = "UMBEL_SERVE"  # the variable in which worker processes find what they are told
PATIENCE = 30  # seconds without a sign of life after which a worker is replaced: on a busy machine one takes 5 to import torch


def run(told: Told, *, say: Callable[[str], object]) -> None:
    """Serve until told to end: then be not ready, finish what is being answered, write what was asked for, and return.

    `say` is told where, once that is sure.

    :raises UserError: for a setting that cannot be, before anything listens.
    """
    check(told)
    opening = told.opening()
    with ExitStack() as held:
        held.enter_context(sole(told.store))
        with _bound(told):  # tried before there is a store to leave behind
            pass
        serves = begin(told, opening)
        listening = held.enter_context(_bound(told))
        host = f"[{told.host}]" if ":" in told.host else told.host
        whom = "only this machine is answered, for want of keys" if told.keys is None else "keys are asked for"
        say(f"http://{host}:{listening.getsockname()[1]}: serves {serves}, its store is {place(told.store).where}; {whom}")
        held.enter_context(_told(told))
        if told.workers > 1:
            os.environ[SHARED] = held.enter_context(tempfile.TemporaryDirectory(prefix="umbel-metrics-"))
        _listen(told, opening, listening)


def begin(told: Told, opening: Opening) -> str:
    """Bring the store to what is to be served, and see that it can be; the folder of the bundle that is.

    What was put into service since the last start stays so after a restart, unless `reset`; otherwise it is the bundle that is told now.
    So does the fusion that was put in force, or taken back, unless another one is told now.
    A bundle to go back to, a canary or a shadow that cannot be served any more is left out, with a warning.

    :raises UserError: if the bundle cannot be served.
    """
    first = opening.serving.first
    with Store(told.store) as store:
        before = saved(store)
        kept = _wanted(told, first, before).fusion != first.fusion
        try:
            found = started(store, partial(_wanted, told, first), opening.serving.ordering, failed=LOG.warning)
        except UnfitError as error:
            if not kept:
                raise
            what, mend = f"{error.what}, put in force since the last start", "--set reset=true ranks by what is named here"
            raise UserError(what, mend=mend) from None
        stable, ranker = found.state.stable, found.serving.stable
        if ranker.served.bundle.feedback is not None:
            store.declare(ranker.served.bundle.feedback, ranker.served.logged)
        if found.state != before:
            store.note("umbel serve", "start", {"folder": stable})
        if stable != first.stable:
            told_otherwise = "serves %s, which was put into service since the last start; --set reset=true serves %s"
            LOG.warning(told_otherwise, stable, first.stable)
        if kept:
            told_otherwise = "ranks by %s, which was put in force since the last start; --set reset=true ranks by %s"
            LOG.warning(told_otherwise, ranker.fusion, "the bundle's own" if first.fusion is None else "the one of the file")
    return stable


def _wanted(told: Told, first: State, before: State | None) -> State:
    """What a start wants, where the store has the state `before`."""
    given = replace(first, named=first.stable, given=first.fusion)
    if before is None:
        return given
    fusion = first.fusion if told.reset or first.fusion != before.given else before.fusion
    stays = not told.reset and Path(before.stable).is_dir() and before.stable != before.named
    if stays or before.stable == first.stable:
        return replace(before, fusion=fusion, named=given.named, given=given.given)
    return replace(given, fusion=fusion, previous=before.previous if told.reset else before.stable)


def worker() -> FastAPI:
    """The application of a worker process, told by its environment, which ends with the process that started it."""
    import torch

    if (parent := parent_process()) is not None:
        Thread(target=_end_after, args=(parent,), name="umbel-parent", daemon=True).start()
    torch.set_num_threads(1)
    return make(Told(**json.loads(os.environ[TOLD])).opening())


@contextmanager
def _bound(told: Told) -> Iterator[socket]:
    """The socket of all workers; :raises UserError: where nobody can listen."""
    with socket(AF_INET6 if ":" in told.host else AF_INET) as made:
        made.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        try:
            made.bind((told.host, told.port))
        except OSError as error:
            what = f"{told.host}:{told.port}: cannot be served from ({error.strerror})"
            raise UserError(what, mend="stop what listens there, or give another --port or --set host=") from None
        made.set_inheritable(True)
        yield made


def configured(told: Told, app: FastAPI | str) -> Config:
    """How uvicorn serves an application, or the one that a name makes in each worker."""
    from uvicorn import Config

    return Config(
        app, factory=isinstance(app, str), workers=told.workers, log_level="warning", access_log=False,
        server_header=False, date_header=False, timeout_keep_alive=30, timeout_graceful_shutdown=30, lifespan="on",
        timeout_worker_healthcheck=PATIENCE, proxy_headers=False,  # which address a client has is not its own to say
    )  # fmt: skip


def _listen(told: Told, opening: Opening, listening: socket) -> None:
    import torch
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    # uvicorn raises the signal again once all is closed: an end that was asked for is no failure.
    signal.signal(signal.SIGTERM, _ended)
    torch.set_num_threads(1)
    config = configured(told, "umbel.serve.http.server:worker" if told.workers > 1 else make(opening))
    if told.workers > 1:
        several = Multiprocess(config, sockets=[listening])
        several.run()
        failed = any(one.exitcode == uvicorn.config.STARTUP_FAILURE for one in several.processes)
    else:
        server = uvicorn.Server(config)
        with suppress(SystemExit):  # the code that uvicorn ends with where nothing started
            server.run(sockets=[listening])
        failed = not server.started
    if failed:
        raise UserError(f"{told.bundle}: cannot be served", mend="see the lines above")


def _end_after(parent: BaseProcess) -> None:
    """Killed, it could tell nobody; its workers would keep the port, and the store whose lock is gone with it."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _ended(number: int, frame: FrameType | None) -> None:
    """Nothing more is to do."""


@contextmanager
def _told(told: Told) -> Iterator[None]:
    os.environ[TOLD] = json.dumps(asdict(told))
    try:
        yield
    finally:
        del os.environ[TOLD]
