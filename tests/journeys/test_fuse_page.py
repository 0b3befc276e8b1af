"""The page of `umbel fuse`: whole, escaped, self-contained, and saying what the report says; and what a killed search leaves."""

from __future__ import annotations

import errno
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Job, say
from tests.journeys.test_page import Tag, row, section, tree
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import Linear

HOSTILE = '<script>alert("1")</script>'
Report = dict[str, Any]


@pytest.fixture(scope="module")
def left(job: Job, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tag, Report, str]:
    """The page as a tree, the report, and the page's text."""
    folder = tmp_path_factory.mktemp("page")
    start = Fusion((Term("click", Linear(1.0, 0.3)), Term("like", Linear(1.0, 0.2), -1), Term("buy_marginal", Linear(1.0, 0.1))), HOSTILE)
    start.save(folder / "start.json")
    out = folder / "policy.json"
    words = ("--primary", "buy", "--bound", "like=110%", "--set", "trials=30", "--set", f"policy={folder / 'start.json'}")
    said = say("fuse", job.run / "bundle", job.log, "-o", out, *words)
    assert said.code == 0, said.err
    text = out.with_suffix(".html").read_text()
    return tree(text.removeprefix("<!doctype html>")), json.loads(out.with_suffix(".report.json").read_text()), text


def test_it_loads_nothing_and_runs_nothing(left: tuple[Tag, Report, str]) -> None:
    root, _, text = left
    assert not root.all("script")
    assert not root.all("link")
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", text)
    assert HOSTILE not in text
    assert len(root.all("h1")) == 1
    assert root.all("title")[0].text() == "Fusion for buy"


def test_it_says_the_verdict_and_what_it_was_made_from(left: tuple[Tag, Report, str]) -> None:
    root, report, _ = left
    head = root.all("header")[0].text()
    assert report["verdict"] in head
    assert report["figure"] in head
    for name, fact in report["facts"].items():
        assert name in head
        assert fact in head


def test_the_test_has_every_policy_and_every_limit(left: tuple[Tag, Report, str]) -> None:
    root, report, _ = left
    table = section(root, "Test")
    for one in report["test"]:
        cells = [cell.text() for cell in row(table, one["name"]).all("td")]
        for cell, task in zip(cells, ("click", "like", "buy"), strict=True):
            assert f"{one['tasks'][task]['value']:.4f}" in cell
            assert f"{one['tasks'][task]['low']:.4f}" in cell
            if one["gains"]:
                assert f"{one['gains'][task]['value']:+.4f}".replace("-", "−") in cell
    limits = [cell.text() for cell in row(table, "limit").all("td")]
    assert limits[2] == "primary"
    assert [f"{report['tasks'][task]['limit']:.4f}" for task in ("click", "like")] == limits[:2]


def test_the_front_is_drawn_once_for_each_other_task(left: tuple[Tag, Report, str]) -> None:
    root, report, _ = left
    front = section(root, "The front")
    pictures = front.all("svg")
    assert [one.attributes["aria-label"] for one in pictures] == ["buy against click", "buy against like"]
    judged = [one for one in report["tried"] if one["values"] is not None]
    for picture in pictures:
        assert len(picture.all("circle")) == len(judged)
        notes = [one.text() for one in picture.all("title")]
        assert sum("(chosen)" in note for note in notes) == 1
        assert len(picture.all("polyline")) == 1  # the limit
    assert len(front.all("tr")) == 1 + len(report["front"])


def test_the_front_names_what_each_policy_says(left: tuple[Tag, Report, str]) -> None:
    root, report, _ = left
    number = report["chosen"]
    name = report["tried"][number]["note"] or f"policy {number}"
    if number in report["front"]:
        line = row(section(root, "The front"), name).text()
        for task, own in report["policy"]["tasks"].items():
            assert f"weight {own['weight']:.4g}" in line, task
    policy = section(root, "The chosen policy (linear)").text()
    if "like" in report["policy"]["tasks"]:
        assert "unwanted, weight" in policy


def test_a_full_disk_leaves_nothing_half(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("umbel.durable.settle", full)
    said = say("fuse", job.run / "bundle", job.log, "-o", tmp_path / "policy.json", "--set", "trials=5")
    assert said.code == 2
    assert "policy.json: the disk is full; free some space; nothing was overwritten" in said.line
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_is_one_line(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("umbel.fuse.show.tune", interrupted)
    said = say("fuse", job.run / "bundle", job.log, "-o", tmp_path / "policy.json")
    assert said.code == 130
    assert said.line == "umbel: interrupted; the same command starts anew: nothing was left half done"


def test_a_killed_search_leaves_what_was_there(job: Job, tmp_path: Path) -> None:
    """Killed while it searches: the old policy stands whole, and the same command then ends."""
    out = tmp_path / "policy.json"
    out.write_text("the old one")
    words = [sys.executable, "-m", "umbel", "fuse", str(job.run / "bundle"), str(job.log), "-o", str(out), "--set", "method=tpe"]
    process = subprocess.Popen([*words, "--set", "trials=100000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(4)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["policy.json"]
    assert out.read_text() == "the old one"
    said = say("fuse", job.run / "bundle", job.log, "-o", out, "--set", "method=tpe", "--set", "trials=5")
    assert said.code == 0, said.err
    assert json.loads(out.read_text())["format"] == 1
