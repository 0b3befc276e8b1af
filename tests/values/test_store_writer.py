"""The thread that writes: groups, failures that stay with their own, and no job lost at the end."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from types import SimpleNamespace

import pytest

from umbel.serve.store import UnavailableError, writer
from umbel.serve.store.writer import Writer

Made = Writer[int, int]


class Slow:
    """A writer's work that waits for leave, and remembers its groups."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.leave = threading.Event()
        self.began = threading.Event()

    def __call__(self, jobs: Sequence[int]) -> list[int]:
        self.began.set()
        assert self.leave.wait(10)
        self.groups.append(list(jobs))
        if any(job < 0 for job in jobs):
            raise ZeroDivisionError(f"{min(jobs)}")
        return [job * job for job in jobs]


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def made(slow: Slow) -> Iterator[Made]:
    one: Made = Writer(slow, where="here", window=0)
    yield one
    slow.leave.set()
    one.close()


def during(slow: Slow, made: Made, jobs: Sequence[int]) -> list[Future[int]]:
    """The futures of jobs that come while the first of them is being done."""
    first = made.add(jobs[0])
    assert slow.began.wait(10)
    rest = [made.add(job) for job in jobs[1:]]
    assert not first.done()
    slow.leave.set()
    wait([first, *rest])
    return [first, *rest]


def test_what_comes_during_a_commit_is_one_group(slow: Slow, made: Made) -> None:
    futures = during(slow, made, [2, 3, 4, 5])
    assert [one.result() for one in futures] == [4, 9, 16, 25]
    assert slow.groups == [[2], [3, 4, 5]]


def test_a_group_has_a_size(slow: Slow, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "GROUP", 3)
    during(slow, made, [1, 2, 3, 4, 5, 6, 7, 8])
    assert slow.groups == [[1], [2, 3, 4], [5, 6, 7], [8]]


def test_a_failure_stays_with_its_job(slow: Slow, made: Made) -> None:
    futures = during(slow, made, [1, 2, -3, 4])
    assert [str(one.exception()) if one.exception() else one.result() for one in futures] == [1, 4, "-3", 16]
    assert slow.groups == [[1], [2, -3, 4], [2], [-3], [4]]


def test_the_thread_outlives_failures(slow: Slow, made: Made) -> None:
    slow.leave.set()
    for _ in range(3):
        assert isinstance(made.add(-1).exception(), ZeroDivisionError)
    assert made.add(3).result() == 9


def test_what_cannot_be_done_now_is_not_tried_one_by_one() -> None:
    groups: list[int] = []

    def gone(jobs: Sequence[int]) -> list[int]:
        groups.append(len(jobs))
        raise UnavailableError("here: gone", mend="wait")

    one: Made = Writer(gone, where="here", window=0.002)
    futures = [one.add(job) for job in range(5)]
    wait(futures)
    one.close()
    assert {str(future.exception()) for future in futures} == {"here: gone; wait"}
    assert sum(groups) == 5


def test_a_cancelled_job_is_not_done(slow: Slow, made: Made) -> None:
    made.add(1)
    assert slow.began.wait(10)
    second, third = made.add(2), made.add(3)
    assert second.cancel()
    slow.leave.set()
    assert third.result() == 9
    assert slow.groups == [[1], [3]]


def test_too_many_that_wait_are_refused(slow: Slow, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "WAITING", 2)
    futures = [made.add(1)]
    assert slow.began.wait(10)
    futures += [made.add(2), made.add(3)]
    with pytest.raises(UnavailableError, match="here: 2 writes are waiting; try again later"):
        made.add(4)
    slow.leave.set()
    assert [one.result() for one in futures] == [1, 4, 9]


def weighed(slow: Slow) -> Made:
    """A writer to whom a job holds as many bytes as it says."""
    return Writer(slow, where="here", window=0, size=lambda job: job)


def test_what_holds_too_much_is_refused_until_there_is_room(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "ROOM", 100)
    made = weighed(slow)
    first = made.add(60)
    assert slow.began.wait(10)
    second = made.add(40)
    with pytest.raises(UnavailableError, match="here: 1 writes are waiting; try again later"):
        made.add(1)
    assert second.cancel(), "given up, it holds nothing"
    third = made.add(39)
    with pytest.raises(UnavailableError):
        made.add(2)
    slow.leave.set()
    wait([first, third])
    assert slow.groups == [[60], [39]]
    assert made.add(100).result() == 10_000, "what is done holds nothing"
    made.close()


def test_one_that_holds_more_than_there_is_room_is_done_where_nothing_else_waits(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "ROOM", 100)
    slow.leave.set()
    made = weighed(slow)
    assert made.add(1_000).result() == 1_000_000
    assert made.add(0).result() == 0
    made.close()


def test_failures_and_ends_give_their_room_back(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "ROOM", 100)
    made: Made = Writer(slow, where="here", window=0, size=abs)
    slow.leave.set()
    for _ in range(5):
        assert isinstance(made.add(-90).exception(), ZeroDivisionError)
    assert made.add(90).result() == 8_100
    made.close()


class Large:
    """A job that can be watched going."""


def gone(watched: Sequence[weakref.ref[Large]]) -> bool:
    gc.collect()
    return all(one() is None for one in watched)


def test_a_job_that_is_given_up_is_let_go_of_at_once_and_any_other_when_it_is_done() -> None:
    began, leave = threading.Event(), threading.Event()

    def work(jobs: Sequence[Large]) -> Sequence[None]:
        began.set()
        assert leave.wait(10)
        return [None] * len(jobs)

    made: Writer[Large, None] = Writer(work, where="here", window=0)
    jobs = [Large() for _ in range(20)]
    watched = [weakref.ref(one) for one in jobs]
    futures = [made.add(jobs[0])]
    assert began.wait(10)
    futures += [made.add(one) for one in jobs[1:]]
    jobs.clear()
    assert all(one.cancel() for one in futures[1:11])
    assert gone(watched[1:11])
    assert not any(one() is None for one in [watched[0], *watched[11:]])
    leave.set()
    assert not wait(futures, timeout=10).not_done
    ends = time.monotonic() + 10
    while not gone(watched):
        assert time.monotonic() < ends, "the thread waits for more, and holds what it has done"
        time.sleep(0.01)
    made.close()


def test_a_group_that_is_given_up_whole_while_more_are_waited_for_is_not_written(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, given_up = threading.Event(), threading.Event()
    futures: list[Future[int]] = []

    def sleep(seconds: float) -> None:
        assert asked.wait(10)
        assert all(one.cancel() for one in futures)
        given_up.set()

    monkeypatch.setattr(writer, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    slow.leave.set()
    made: Made = Writer(slow, where="here", window=1)
    futures += [made.add(2), made.add(3)]
    asked.set()
    assert given_up.wait(10)
    time.sleep(0.05)
    made.close()
    assert slow.groups == []


@pytest.mark.parametrize("window", [0.0, 0.002])
def test_the_end_waits_for_what_was_asked(window: float) -> None:
    done: list[int] = []

    def work(jobs: Sequence[int]) -> list[int]:
        done.extend(jobs)
        return list(jobs)

    one: Made = Writer(work, where="here", window=window)
    futures = [one.add(job) for job in range(100)]
    one.close()
    assert done == list(range(100))
    assert all(future.done() for future in futures)
    with pytest.raises(UnavailableError, match="closed"):
        one.add(1)


def test_nothing_is_lost_between_adding_and_closing() -> None:
    """Whoever adds while another closes has a result or a refusal, never silence."""
    for _ in range(5):
        one: Made = Writer(lambda jobs: list(jobs), where="here", window=0)
        kept: list[Future[int]] = []

        def add(target: Callable[[int], Future[int]] = one.add, found: list[Future[int]] = kept) -> None:
            try:
                while True:
                    found.append(target(1))
            except UnavailableError:
                pass

        threads = [threading.Thread(target=add) for _ in range(3)]
        for thread in threads:
            thread.start()
        one.close()
        for thread in threads:
            thread.join()
        assert not wait(kept, timeout=10).not_done
