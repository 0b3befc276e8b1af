"""How cores are shared among processes."""

from __future__ import annotations

import os

import pytest

from umbel import cores


@pytest.mark.parametrize(
    ("there", "jobs", "allowed", "each"),
    [(8, 1, None, 8), (8, 3, None, 2), (2, 5, None, 1), (8, 2, "1", 1), (8, 2, "6", 4), (8, 2, "", 4), (8, 2, "0", 4), (8, 2, "2,1", 4)],
)
def test_an_even_share_and_no_more_than_is_allowed(
    there: int, jobs: int, allowed: str | None, each: int, *, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "cores", lambda: there)
    if allowed is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    assert cores.threads(jobs) == each


def test_cores_are_those_of_this_process() -> None:
    """Where it is held to one of several, there is one."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("processes are not held to cores here")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores.cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert cores.cores() == len(before)
