"""Trials on a Ray cluster: each a process on some node, whose words an actor beside it carries to the search and back."""

from __future__ import annotations

import os
import platform
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any, TypeAlias, final

from umbel.cores import cores, threads
from umbel.errors import UserError
from umbel.run.settings import Settings
from umbel.study.tune.runner import End, Failed, Heard, Interrupted, Processes

Actor: TypeAlias = Any   # Ray's handle of an `Errand`
LOCAL = "local"          # the address of a cluster of this machine alone, which is started for one search
TRIES = 3                # times that a trial is begun whose node is lost
LOOKS = 0.5              # seconds between two looks at whether a trial that waits for a node is still wanted
PATIENCE = 10.0          # seconds for which trials may end by themselves
STORE = 1 << 27          # bytes of Ray's own memory: next to nothing is passed


@dataclass(frozen=True, slots=True)
class Refused:
    """What is no fault of the point, as a full disk: a `UserError` on its way to the search."""

    what: str
    mend: str


@final
class Errand:
    """One trial, on the node: its process, and the words between that and the search. Its calls run at a time."""

    def __init__(self, table: Path, threads: int) -> None:
        self._processes = Processes(table, threads)
        self._told: SimpleQueue[tuple[int, float] | None] = SimpleQueue()
        self._answers: SimpleQueue[bool] = SimpleQueue()
        self._ended = Event()

    def ready(self) -> Refused | None:
        """That there is a node, or why it is of no use."""
        table = self._processes.table
        if table.is_dir():
            return None
        return Refused(f"{table}: {platform.node()} does not see it", "name a folder with -o that all nodes share")

    def run(self, settings: Settings, folder: Path) -> End | Interrupted | Refused:
        """The trial to its end, whose epochs `told` gives."""
        # Ray starts its processes with the signal blocked, and they would pass that on: then nothing interrupts a trial.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        try:
            return self._processes(settings, folder, self._heard)
        except Interrupted as end:
            return end
        except UserError as error:
            return Refused(error.what, error.mend)
        finally:
            self._ended.set()
            self._told.put(None)

    def told(self) -> tuple[int, float] | None:
        """The next epoch and its score, once it is over; None after the last."""
        return self._told.get()

    def answer(self, going: bool) -> None:
        """Whether it goes on after the epoch that was told last."""
        self._answers.put(going)

    def halt(self) -> None:
        """Interrupt the process, and wait for its end."""
        self._processes.halt()
        self._ended.wait()

    def _heard(self, epoch: int, score: float) -> bool:
        self._told.put((epoch, score))
        return self._answers.get()


@final
@dataclass(frozen=True, slots=True)
class Cluster:
    """A `Runner` on the cluster that is joined: a trial has so many threads, and with `fit.device = "cuda"` a GPU, of one node.

    One whose node is lost goes on from its checkpoint on another. Its folder and the table have to be seen by all nodes.
    """

    table: Path
    threads: int
    running: dict[Path, Actor] = field(default_factory=dict, hash=False)
    over: Event = field(default_factory=Event, hash=False)

    def __call__(self, settings: Settings, folder: Path, heard: Heard) -> End:
        """Train; :raises Interrupted: when it is to be done again, or UserError: for what is no fault of the point."""
        from ray.exceptions import RayError

        why = ""
        for _ in range(TRIES):
            actor = self._actor(settings)
            try:
                self._begin(actor)
                return self._run(actor, settings, folder.absolute(), heard=heard)
            except RayError as error:
                if self.over.is_set():
                    raise Interrupted from None
                why = _said(error)
            finally:
                self._end(actor, folder.absolute())
        return Failed(f"its node was lost {TRIES} times: {why}")

    def halt(self) -> None:
        """Interrupt every running trial, and give up those that wait for a node."""
        import ray

        self.over.set()
        asked = [actor.halt.remote() for actor in tuple(self.running.values())]
        if asked:
            ray.wait(asked, num_returns=len(asked), timeout=PATIENCE)
        for folder, actor in tuple(self.running.items()):
            self._end(actor, folder)

    def _actor(self, settings: Settings) -> Actor:
        import ray

        gpus = 1 if settings.fit.device.startswith("cuda") else None
        if gpus and not ray.cluster_resources().get("GPU"):
            raise UserError("fit.device = 'cuda': no node of the Ray cluster has a GPU", mend="join one that has, or set fit.device=cpu")
        asked = ray.remote(Errand).options(num_cpus=self.threads, num_gpus=gpus, max_concurrency=4)
        made: Actor = asked.remote(self.table, self.threads)
        return made

    def _begin(self, actor: Actor) -> None:
        """Wait for a node; :raises Interrupted: if the trial is no longer wanted, or UserError: if the node cannot be used."""
        import ray

        ready = actor.ready.remote()
        while not ray.wait([ready], timeout=LOOKS)[0]:
            if self.over.is_set():
                raise Interrupted
        found: Refused | None = ray.get(ready)
        if found is not None:
            raise UserError(found.what, mend=found.mend)

    def _run(self, actor: Actor, settings: Settings, folder: Path, *, heard: Heard) -> End:
        import ray

        self.running[folder] = actor
        ended = actor.run.remote(settings, folder)
        while (told := ray.get(actor.told.remote())) is not None:
            actor.answer.remote(heard(*told))
        found: End | Interrupted | Refused = ray.get(ended)
        if isinstance(found, Interrupted):
            raise found
        if isinstance(found, Refused):
            raise UserError(found.what, mend=found.mend)
        return found

    def _end(self, actor: Actor, folder: Path) -> None:
        import ray

        self.running.pop(folder, None)
        ray.kill(actor)


@contextmanager
def joined(address: str, table: Path, *, jobs: int) -> Iterator[Cluster]:
    """The cluster at an address of Ray's (`auto`: the one that runs here), left after the block; `local`: one of this machine alone.

    Each of so many trials at a time has an even share of its cores, as far as one node has them.

    :raises UserError: if it cannot be joined; ModuleNotFoundError: if Ray is not installed.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told that it was used
    own = {"num_cpus": cores(), "include_dashboard": False, "object_store_memory": STORE} if address == LOCAL else {}
    before = signal.getsignal(signal.SIGTERM)
    try:
        _reach(address)
        ray.init(address, logging_level="ERROR", log_to_driver=False, **own)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        mend = f"start one (`ray start --head`) and name its address, or give --ray {LOCAL}"
        raise UserError(f"--ray {address}: cannot be joined ({_said(error)})", mend=mend) from None
    signal.signal(signal.SIGTERM, before)  # Ray's own handler ends in a dump of its threads
    try:
        nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        yield Cluster(table.absolute(), min(max(nodes), threads(jobs, among=sum(nodes))))
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """See that somebody listens, where Ray would look for minutes; :raises OSError: if nobody does."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE):
            pass


def _said(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)
