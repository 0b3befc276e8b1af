"""Memory of the machine, and bytes as people say them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from umbel import machine


@pytest.mark.parametrize(("count", "said"), [
    (0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (2_560, "2.6 kB"), (999_949, "999.9 kB"), (2_500_000, "2.5 MB"),
    (64 * 10**9, "64.0 GB"), (10**12, "1.0 TB"), (10**15, "1.0 PB"), (98 * 10**14, "9.8 PB"), (10**19, "10,000.0 PB"),
])  # fmt: skip
def test_bytes_are_said_in_the_unit_that_they_fill(count: int, said: str) -> None:
    assert machine.said(count) == said


UNLIMITED = 9223372036854771712  # as version 1 says it
GROUPS = {
    "none": ("", {}, []),
    "version 2": ("0::/jobs/mine", {"jobs/mine/memory.max": "5000"}, [5000]),
    "version 2, none set": ("0::/jobs/mine", {"memory.max": "max", "jobs/memory.max": "max", "jobs/mine/memory.max": "max"}, []),
    "those above count": ("0::/jobs/mine", {"jobs/memory.max": "3000", "jobs/mine/memory.max": "5000"}, [3000, 5000]),
    "the top, seen from within": ("0::/", {"memory.max": "7000"}, [7000]),
    "told of a place that is not seen": ("0::/jobs/mine", {"memory.max": "7000"}, [7000]),
    "told of a place outside": ("0::/../other", {"memory.max": "7000"}, [7000]),
    "version 1": ("4:memory:/docker/abc", {"memory/docker/abc/memory.limit_in_bytes": "6000"}, [6000]),
    "version 1, not seen": ("4:memory:/docker/abc", {"memory/memory.limit_in_bytes": "6000"}, [6000]),
    "version 1, none set": ("4:memory:/", {"memory/memory.limit_in_bytes": str(UNLIMITED)}, [UNLIMITED]),
    "both": (
        "9:name=systemd:/a:b\n4:cpu,memory:/one\n3:cpuset:/two\n0::/three",
        {"memory/one/memory.limit_in_bytes": "8000", "three/memory.max": "9000", "memory/two/memory.limit_in_bytes": "1"}, [8000, 9000],
    ),
    "other groups": ("3:cpuset:/two\n1:cpu:/", {"two/memory.max": "1", "memory.max": "2", "memory/memory.limit_in_bytes": "3"}, []),
}  # fmt: skip


@pytest.fixture(params=GROUPS)
def groups(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, list[int]]:
    """What a process is told of its control groups, where they lie, and the limits that they have."""
    told, files, found = GROUPS[request.param]
    own = tmp_path / "cgroup"
    own.write_text(told + "\n" if told else "")
    for name, content in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(content + "\n")
    return own, tmp_path / "groups", found


def test_limits_are_those_of_a_process_s_groups_and_of_those_above(groups: tuple[Path, Path, list[int]]) -> None:
    own, top, found = groups
    assert sorted(set(machine.limits(own, top))) == sorted(found)


def test_memory_is_the_least_of_the_machine_s_and_the_limits(groups: tuple[Path, Path, list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    own, top, found = groups
    monkeypatch.setattr(machine, "OWN", own)
    monkeypatch.setattr(machine, "GROUPS", top)
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert machine.memory() == min([whole, *found])


def test_a_machine_without_control_groups_has_its_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert machine.limits(tmp_path / "nothing", tmp_path) == []
    assert machine.limits(tmp_path, tmp_path) == []
    monkeypatch.setattr(machine, "OWN", tmp_path / "nothing")
    assert machine.memory() > 2**28
