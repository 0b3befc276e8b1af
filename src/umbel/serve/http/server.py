"""From a command line to answering processes: one a core, one thread of torch each, one socket for all."""

from __future__ import annotations

import json
import logging
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from types import FrameType

from fastapi import FastAPI

from umbel.errors import UserError
from umbel.serve.bundles import keep, saved
from umbel.serve.http.app import Opening, make
from umbel.serve.http.metrics import SHARED
from umbel.serve.http.told import Told, check
from umbel.serve.served import load
from umbel.serve.store.engine import sole
from umbel.serve.store.store import Store

TOLD = "UMBEL_SERVE"  # the variable in which worker processes find what they are told
PATIENCE = 30  # seconds without a sign of life after which a worker is replaced: on a busy machine one takes 5 to import torch


def run(told: Told) -> None:
    """Serve until told to end: then be not ready, finish what is being answered, write what was asked for, and return.

    :raises UserError: for a setting that cannot be, before anything listens.
    """
    check(told)
    opening = told.opening()
    with ExitStack() as held:
        held.enter_context(sole(told.store))
        begin(told, opening)
        held.enter_context(_told(told))
        if told.workers > 1:
            os.environ[SHARED] = held.enter_context(tempfile.TemporaryDirectory(prefix="umbel-metrics-"))
        _listen(told, opening)


def begin(told: Told, opening: Opening) -> None:
    """Bring the store to what is to be served, and see that it can be.

    What was put into service later stays so after a restart, unless `reset`.

    :raises UserError: if the bundle cannot be served.
    """
    with Store(told.store) as store:
        before = saved(store)
        first = opening.serving.first
        stays = before is not None and not told.reset and Path(before.stable).is_dir()
        if before is not None and stays:
            new = before if first.fusion is None else replace(before, fusion=first.fusion, number=before.number + 1)
        else:
            new = first if before is None else replace(first, previous=before.previous, number=before.number + 1)
        served = load(Path(new.stable))
        if served.bundle.feedback is not None:
            store.declare(served.bundle.feedback)
        if new != before:
            keep(store, new)
            store.note("umbel serve", "start", {"folder": new.stable})
        if new.stable != first.stable:
            logging.getLogger("umbel.serve").warning("serves %s, promoted before (--reset serves %s)", new.stable, first.stable)


def worker() -> FastAPI:
    """The application of a worker process, told by its environment, which ends with the process that started it."""
    import torch

    if (parent := parent_process()) is not None:
        Thread(target=_end_after, args=(parent,), name="umbel-parent", daemon=True).start()
    torch.set_num_threads(1)
    return make(Told(**json.loads(os.environ[TOLD])).opening())


def _listen(told: Told, opening: Opening) -> None:
    import torch
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    # uvicorn raises the signal again once all is closed: an end that was asked for is no failure.
    signal.signal(signal.SIGTERM, _ended)
    torch.set_num_threads(1)
    config = uvicorn.Config(
        "umbel.serve.http.server:worker" if told.workers > 1 else make(opening),
        factory=told.workers > 1, host=told.host, port=told.port, workers=told.workers, log_level="warning", access_log=False,
        server_header=False, date_header=False, timeout_keep_alive=30, timeout_graceful_shutdown=30, lifespan="on",
        timeout_worker_healthcheck=PATIENCE,
    )  # fmt: skip
    if told.workers > 1:
        socket = config.bind_socket()
        Multiprocess(config, sockets=[socket]).run()
        return
    server = uvicorn.Server(config)
    server.run()
    if not server.started:
        raise UserError(f"{told.host}:{told.port}: cannot be served from", mend="see the line above; is the port taken?")


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
