"""What a run prints: a line an epoch, the bar's numbers, the table at the end."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from rich.progress import Task

from umbel.data.aside import Aside
from umbel.evaluate.figures import Figures
from umbel.evaluate.intervals import Interval
from umbel.evaluate.judge import TaskReport
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.slices import Worst
from umbel.learn.fit import Epoch
from umbel.learn.state import Progress, State
from umbel.run.report import Report
from umbel.run.screen import RowsPerSecond, Screen, cell, headline
from umbel.run.watch import Silence, Watch

EMPTY = State(Progress(), {}, {}, {}, {}, {}, {"cpu": torch.zeros(1)})


def epoch(number: int, score: float | None, best: float | None) -> Epoch:
    told = {"losses": (0.51234, 0.1), "rows": 30_000, "seconds": 2.0, "state": EMPTY, "stop": False}
    return Epoch(number, 3, finished=True, score=score, best=best, kept=1, **told)  # type: ignore[arg-type]


def told(*epochs: Epoch) -> str:
    screen = Screen()
    screen.console = Console(file=io.StringIO(), width=120)
    for one in epochs:
        screen.finished(one)
    assert isinstance(screen.console.file, io.StringIO)
    return screen.console.file.getvalue()


def test_an_epoch_is_a_line_with_losses_score_and_speed() -> None:
    first, second = told(epoch(1, 0.7, 0.7), epoch(2, 0.69, 0.7)).splitlines()
    assert first == "epoch   1  loss 0.5123 0.1000  valid 0.7000 best  15.0 k rows/s"
    assert second == "epoch   2  loss 0.5123 0.1000  valid 0.6900  15.0 k rows/s"


def test_what_compiling_took_stands_behind_the_speed_that_does_not_count_it() -> None:
    first, second = told(replace(epoch(1, 0.7, 0.7), compiling=131.7), epoch(2, 0.69, 0.7)).splitlines()
    assert first.endswith("  15.0 k rows/s, after 132 s of compiling")
    assert second.endswith("  15.0 k rows/s")


def test_the_bar_knows_the_epoch_its_rows_and_its_own_losses() -> None:
    """From the first epoch on, and none of the epoch before."""
    with Screen() as screen:
        screen.stepped(1, done=100, rows=1000)
        task = screen.bar.tasks[0]
        assert (task.completed, task.total, task.visible) == (100, 1000, True)
        assert task.description.strip() == "epoch 1"
        screen.learned((0.61234, 0.2))
        screen.stepped(1, done=200, rows=1000)
        assert task.description == "epoch 1  loss 0.6123 0.2000"
        screen.finished(epoch(1, 0.7, 0.7))
        screen.stepped(2, done=0, rows=1000)
        assert task.description.strip() == "epoch 2"
        assert task.completed == 0
        screen.ingested(70)
        assert task.description == "ingest"


@pytest.mark.parametrize(("speed", "text"), [(None, ""), (12.0, "12 rows/s"), (3_400.0, "3.4 k rows/s"), (2.1e6, "2.1 M rows/s")])
def test_rows_per_second(speed: float | None, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Task, "speed", property(lambda _: speed))
    with Screen() as screen:
        assert RowsPerSecond().render(screen.bar.tasks[0]).plain == text


def test_a_cell_shows_half_the_interval_or_the_reason() -> None:
    assert cell(Interval(0.7, 0.69, 0.72)) == "0.7000 ±0.0150"
    assert cell(Interval(0.7, None, None, "3 users are too few")) == "0.7000"
    assert cell(Undefined("one class")) == "none: one class"


def test_the_table_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    metrics: dict[str, Interval | Undefined] = {"auc": Interval(0.7, 0.69, 0.71), "pr_auc": Interval(0.1, 0.1, 0.1)}
    metrics["gauc"] = Undefined("no user has both")
    figures = Figures(900, 30, 12, metrics)
    worst = Worst("tab", "3", "auc", Interval(0.6, 0.55, 0.65))
    task = TaskReport("buy", "binary", "click", figures, figures, {}, worst)
    aside = Aside(1, 2000, {"click": 0, "buy": 3})
    headline(Report("stem", 1, {"train": 5000, "test": 900}, (task,), 10, 1.0, 1.0, 1, aside=aside))
    out = capsys.readouterr().out
    assert "stem, 5,000 train, 900 test rows" in out
    assert "buy (marginal)" in out
    assert "0.7000 ±0.0100" in out
    assert "none: no user has both" in out.replace("\n", " ")
    assert "pr_auc" not in out
    assert "worst slice of buy: tab = 3, auc 0.6000 ±0.0500" in out
    assert out.splitlines()[-3:] == aside.lines() == [
        "1 row is in no part of the split, and left out",
        "2,000 rows are without a user: in intervals each is a user of its own, and GAUC leaves them out",
        "3 rows hold 'buy' though not what it is given: there it is unseen",
    ]


def test_nothing_odd_is_nothing_told() -> None:
    assert Aside(0, 0, {"click": 0}, {"stars": 4.1}).lines() == []


def test_a_field_of_which_nothing_is_known_is_told() -> None:
    assert Aside(unknown={"shown_at": 2, "note": 1}).lines() == [
        "no value of field 'shown_at' is in 2 rows of training, its min_count: every row of it is unknown",
        "no value of field 'note' is in 1 row of training, its min_count: every row of it is unknown",
    ]


def test_a_task_without_a_label_is_told() -> None:
    aside = Aside(unlabelled=("stars",))
    assert aside.lines() == ["no row has a label that 'stars' learns from: it goes on as it was, and is not judged"]
    assert Aside.from_json(aside.to_json()) == aside
    assert Aside.from_json({"dropped": 0}) == Aside(), "written before there could be one"


def test_labels_that_outweigh_events_are_told_with_the_mend() -> None:
    assert Aside(spreads={"spent": 812.4, "stars": 10.0, "watch_ms": 45_000.0}).lines() == [
        "labels of 'spent' spread by about 812, and its loss outweighs that of events: divide them by 1,000 in its sql, "
        "or choose a kind made for amounts",
        "labels of 'watch_ms' spread by about 45,000, and its loss outweighs that of events: divide them by 100,000 in its sql, "
        "or choose a kind made for amounts",
    ]


def test_silence_hears_everything() -> None:
    quiet: Watch = Silence()
    assert isinstance(quiet, Watch)
    quiet.ingested(1)
    quiet.stepped(1, done=1, rows=2)
    quiet.learned((0.5,))
    quiet.finished(epoch(1, None, None))
    quiet.stage("x")
