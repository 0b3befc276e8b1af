"""One thread that writes: what many requests add within a moment becomes one transaction, and each is answered after its commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import islice
from threading import Condition, Thread
from typing import Generic, TypeVar, final

from umbel.serve.store.engine import UnavailableError

Job = TypeVar("Job")
Answer = TypeVar("Answer")

WINDOW = 0.001    # seconds that the first job of a group waits for others
GROUP = 1_000     # jobs of a group
WAITING = 20_000  # jobs that may wait
ROOM = 128 << 20  # bytes of what waits or is being written


@final
class Writer(Generic[Job, Answer]):
    """Jobs in, futures out; `write` does several in one transaction and returns when it is durable. `size` is the bytes that a job holds.

    Where a group fails, its jobs are done one by one, so that one that cannot be done fails alone. A job whose future is cancelled
    before its turn is let go of at once.
    """

    def __init__(
        self, write: Callable[[Sequence[Job]], Sequence[Answer]], *, where: str, window: float = WINDOW,
        size: Callable[[Job], int] | None = None,
    ) -> None:  # fmt: skip
        self._write, self._where, self._window, self._size = write, where, window, size
        self._waiting: dict[Future[Answer], Job] = {}
        self._held = 0
        self._door, self._closed = Condition(), False  # nothing comes in after the last one
        self._began: float | None = None
        self._thread = Thread(target=self._run, name="umbel-store", daemon=True)
        self._thread.start()

    def add(self, job: Job) -> Future[Answer]:
        """Ask for a job; :raises UnavailableError: if too many wait already, or hold too much, or the writer is closed."""
        size = 0 if self._size is None else self._size(job)
        future: Future[Answer] = Future()
        with self._door:
            if self._closed:
                raise UnavailableError(f"{self._where}: the store is closed", mend="open it again")
            if len(self._waiting) >= WAITING or (self._held and self._held + size > ROOM):
                raise UnavailableError(f"{self._where}: {len(self._waiting):,} writes are waiting", mend="try again later")
            self._waiting[future] = job
            self._held += size
            self._door.notify()
        future.add_done_callback(partial(self._let_go, size))
        return future

    @property
    def busy(self) -> float:
        """The seconds that what is being written has taken so far; 0 where nothing is."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def close(self) -> None:
        """Do what was asked for, then end."""
        with self._door:
            self._closed = True
            self._door.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._comes():
            self._do(self._group())

    def _comes(self) -> bool:
        """Wait for a job, then a moment for more; False at the end."""
        with self._door:
            self._door.wait_for(lambda: self._waiting or self._closed)
        if self._window:
            time.sleep(self._window)
        return bool(self._waiting) or not self._closed

    def _group(self) -> list[tuple[Job, Future[Answer]]]:
        with self._door:
            return [(self._waiting.pop(future), future) for future in list(islice(self._waiting, GROUP))]

    def _let_go(self, size: int, future: Future[Answer]) -> None:
        with self._door:
            given_up = future in self._waiting
            if given_up:
                del self._waiting[future]
            self._held -= size
        if given_up:
            future.set_running_or_notify_cancel()  # whoever waits for several learns of it

    def _do(self, group: Sequence[tuple[Job, Future[Answer]]]) -> None:
        wanted = [(job, future) for job, future in group if future.set_running_or_notify_cancel()]
        if not wanted:
            return
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
