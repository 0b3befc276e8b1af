"""The thread that writes: groups, failures that stay with their own, and no job lost at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait

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
