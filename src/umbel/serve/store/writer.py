"""One thread that writes: what many requests add within a moment becomes one transaction, and each is answered after its commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Generic, TypeVar, final

from umbel.serve.store.engine import UnavailableError

Job = TypeVar("Job")
Answer = TypeVar("Answer")

WINDOW = 0.001   # seconds that the first job of a group waits for others
GROUP = 1_000    # jobs of a group
WAITING = 20_000  # jobs that may wait


@final
class Writer(Generic[Job, Answer]):
    """Jobs in, futures out; `write` does several in one transaction and returns when it is durable.

    Where a group fails, its jobs are done one by one, so that one that cannot be done fails alone.
    """

    def __init__(self, write: Callable[[Sequence[Job]], Sequence[Answer]], *, where: str, window: float = WINDOW) -> None:
        self._write, self._where, self._window = write, where, window
        self._queue: SimpleQueue[tuple[Job, Future[Answer]] | None] = SimpleQueue()
        self._door, self._closed = Lock(), False  # nothing comes in after the last one
        self._began: float | None = None
        self._thread = Thread(target=self._run, name="umbel-store", daemon=True)
        self._thread.start()

    def add(self, job: Job) -> Future[Answer]:
        """Ask for a job; :raises UnavailableError: if too many wait already, or the writer is closed."""
        if self._queue.qsize() >= WAITING:
            raise UnavailableError(f"{self._where}: {WAITING:,} writes are waiting", mend="try again later")
        future: Future[Answer] = Future()
        with self._door:
            if self._closed:
                raise UnavailableError(f"{self._where}: the store is closed", mend="open it again")
            self._queue.put((job, future))
        return future

    @property
    def busy(self) -> float:
        """The seconds that what is being written has taken so far; 0 where nothing is."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def close(self) -> None:
        """Do what was asked for, then end."""
        with self._door:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            group = [first, *self._more()]
            ends = None in group
            self._do([one for one in group if one is not None])
            if ends:
                break

    def _more(self) -> list[tuple[Job, Future[Answer]] | None]:
        if self._window:
            time.sleep(self._window)
        found: list[tuple[Job, Future[Answer]] | None] = []
        while len(found) < GROUP - 1 and None not in found[-1:]:
            try:
                found.append(self._queue.get_nowait())
            except Empty:
                break
        return found

    def _do(self, group: Sequence[tuple[Job, Future[Answer]]]) -> None:
        wanted = [(job, future) for job, future in group if future.set_running_or_notify_cancel()]
        try:
            answers = self._written([job for job, _ in wanted])
        except UnavailableError as error:
            for _, future in wanted:
                future.set_exception(error)
        except Exception as error:  # not one job's failure may end the thread
            if len(wanted) == 1:
                wanted[0][1].set_exception(error)
            else:
                for one in wanted:
                    self._alone(one)
        else:
            for (_, future), answer in zip(wanted, answers, strict=True):
                future.set_result(answer)

    def _alone(self, one: tuple[Job, Future[Answer]]) -> None:
        job, future = one
        try:
            future.set_result(self._written([job])[0])
        except Exception as error:
            future.set_exception(error)

    def _written(self, jobs: Sequence[Job]) -> Sequence[Answer]:
        self._began = time.monotonic()
        try:
            return self._write(jobs)
        finally:
            self._began = None
