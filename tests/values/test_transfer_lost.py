"""A study of sharing when trainings diverge: what was lost is left out and said, and without separate models there is no answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from umbel.data.table import Table
from umbel.errors import DivergedError, UserError
from umbel.learn.fit import Epoch
from umbel.run.settings import Settings, parse
from umbel.study.transfer import transfer
from umbel.study.trial import Trial
from umbel.study.verdict import Comparison, Standing


class Listener:
    """A watch that keeps the stages."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def ingested(self, rows: int) -> None:
        raise AssertionError(rows)

    def learned(self, losses: tuple[float, ...]) -> None:
        raise AssertionError(losses)

    def stepped(self, epoch: int, *, done: int, rows: int) -> None:
        raise AssertionError(epoch)

    def finished(self, epoch: Epoch) -> None:
        raise AssertionError(epoch)

    def stage(self, name: str) -> None:
        self.stages.append(name)


def settings() -> Settings:
    tree: dict[str, object] = {
        "data": {"log": "log.parquet"}, "fields": {"user": {"kind": "id"}}, "tasks": {"click": {}, "like": {}},
        "split": {"by": "user", "valid": 0.1, "test": 0.1}, "model": {"recipe": "ple"},
    }  # fmt: skip
    return parse(tree, where="here")


def standing(name: str) -> Standing:
    return Standing(name, {}, {}, {}, Trial(0.7, 1, 1.0, 1.0, 1), {})


def test_without_separate_models_there_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Comparison({}, (standing("mmoe"), standing("stem")), (), lost={"alone rate=1 dim=8 seed=1": "training: ran away"})
    monkeypatch.setattr(transfer, "run_compare", lambda *_, **__: found)
    monkeypatch.setattr(Table, "open", lambda folder: None)
    with pytest.raises(UserError) as caught:
        transfer.run_transfer(settings(), tmp_path / "study", jobs=1, watch=Listener())
    assert str(caught.value) == "transfer: every run of the separate models diverged; lower fit.rate"
    assert not (tmp_path / "study" / "transfer.json").exists()


def test_an_observed_training_that_diverges_is_said_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverges(*_: object, **__: object) -> None:
        raise DivergedError("training: the loss ran away", mend="lower the learning rate")

    watch = Listener()
    monkeypatch.setattr(transfer, "witness", diverges)
    monkeypatch.setattr(Table, "open", lambda folder: None)
    assert transfer._witness(settings(), "mmoe", tmp_path, groups={}, watch=watch) is None
    assert watch.stages == ["mmoe, observed", "mmoe: lost: training: the loss ran away; lower the learning rate"]


def test_an_observed_training_that_the_user_can_mend_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise UserError("checkpoint: damaged", mend="delete it")

    monkeypatch.setattr(transfer, "witness", refused)
    monkeypatch.setattr(Table, "open", lambda folder: None)
    with pytest.raises(UserError, match="damaged"):
        transfer._witness(settings(), "mmoe", tmp_path, groups={}, watch=Listener())
